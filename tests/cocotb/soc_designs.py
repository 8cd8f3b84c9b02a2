"""Small systems around the blocks of the SoC, for the cocotb tests."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware import axi
from tamale.soc import wishbone
from tamale.soc.axi_bridge import AxiBridge
from tamale.soc.axi_mux import AxiMux
from tamale.soc.ram import Ram
from tamale.soc.registers import Block, Field, Register, RegisterFile, Window


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


COPIER = Block("accelerator", "Copies beats; stands in for the accelerator.", [
    Register("control", "Starts a copy.", [
        Field("start", 1, "Write 1 to start.", access="pulse"),
    ]),
    Register("status", "State of the copy.", [
        Field("busy", 1, "High while a copy runs.", access="ro"),
        Field("done", 1, "A copy has ended; write 1 to clear.", access="w1c"),
    ]),
    Register("source", "Byte address in the memory."),
    Register("destination", "Byte address in the memory."),
    Register("beats", "How much to copy, in beats.", width=16),
    Window("scratchpad", "Memory of its own.", size=64),
])  # fmt: skip


class Copier(wiring.Component):
    """An accelerator that does as little as possible with all of its ports: it copies beats."""

    block = COPIER

    def __init__(self, data_width=32):
        super().__init__(
            {
                "bus": In(COPIER.bus_signature()),
                "axi": Out(axi.Signature(addr_width=32, data_width=data_width, id_width=2)),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = RegisterFile(COPIER)
        m.submodules.scratchpad = scratchpad = Ram(64)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        wiring.connect(m, registers.scratchpad, scratchpad.bus)
        port = self.axi
        beat_bytes = len(port.wstrb)
        index = Signal(16)
        size = beat_bytes.bit_length() - 1
        m.d.comb += [
            registers.status.busy.eq(index != 0),
            self.irq.eq(registers.status.done),
            port.arid.eq(1),
            port.awid.eq(2),
            port.arsize.eq(size),
            port.awsize.eq(size),
            port.arburst.eq(axi.Burst.INCR),
            port.awburst.eq(axi.Burst.INCR),
            port.araddr.eq(registers.source.value + (index - 1) * beat_bytes),
            port.awaddr.eq(registers.destination.value + (index - 1) * beat_bytes),
            port.wstrb.eq(-1),
            port.wlast.eq(1),
        ]
        with m.If(registers.control.start):
            m.d.sync += index.eq(registers.beats.value)
        with m.FSM():
            with m.State("IDLE"):
                with m.If(index != 0):
                    m.d.sync += port.arvalid.eq(1)
                    m.next = "READ"
            with m.State("READ"):
                with m.If(port.arready):
                    m.d.sync += port.arvalid.eq(0)
                m.d.comb += port.rready.eq(1)
                with m.If(port.rvalid):
                    m.d.sync += [
                        port.wdata.eq(port.rdata), port.awvalid.eq(1), port.wvalid.eq(1),
                    ]  # fmt: skip
                    m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(port.awready):
                    m.d.sync += port.awvalid.eq(0)
                with m.If(port.wready):
                    m.d.sync += port.wvalid.eq(0)
                m.d.comb += port.bready.eq(1)
                with m.If(port.bvalid):
                    m.d.sync += index.eq(index - 1)
                    m.d.comb += registers.status.done_set.eq(index == 1)
                    m.next = "IDLE"
        return m
