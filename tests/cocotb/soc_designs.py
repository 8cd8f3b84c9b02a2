"""Small systems around the blocks of the SoC, for the cocotb tests."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware import axi
from tamale.soc import wishbone
from tamale.soc.axi_bridge import AxiBridge
from tamale.soc.axi_mux import AxiMux


class BridgedMemory(wiring.Component):
    """A Wishbone bus and one more manager in front of a memory."""

    def __init__(self, size, data_width):
        self._size = size
        self._bridge = AxiBridge(size, data_width)
        self._mux = AxiMux(
            [
                self._bridge.axi.signature,
                axi.Signature(addr_width=32, data_width=data_width, id_width=2),
            ],
            priorities=[0, 1],
        )
        super().__init__(
            {
                "bus": In(wishbone.target(size)),
                "other": In(self._mux.managers[1].signature.flip()),
                "memory": Out(self._mux.memory.signature),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.bridge = self._bridge
        m.submodules.mux = self._mux
        wiring.connect(m, wiring.flipped(self.bus), self._bridge.bus)
        wiring.connect(m, self._bridge.axi, self._mux.managers[0])
        wiring.connect(m, wiring.flipped(self.other), self._mux.managers[1])
        wiring.connect(m, self._mux.memory, wiring.flipped(self.memory))
        return m
