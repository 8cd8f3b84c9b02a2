"""On-chip memory of int32 vectors."""

from amaranth.hdl import Module, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In

from tamale.gateware.interfaces import ScratchRead, ScratchWrite

__all__ = ["Scratchpad"]


class Scratchpad(wiring.Component):
    """A memory with two read ports and one write port, ``vu_width`` elements a word.

    Two copies of the memory are written alike, one for each read port, because block RAM has one
    read and one write port. A word is read one cycle after ``en`` and holds until the next ``en``;
    a write is seen by reads that start in a later cycle, a read of the same word in the same cycle
    returns the word from before.

    Parameters
    ----------
    config : Config
        ``scratchpad_elements`` and ``vu_width`` give the size.

    Members
    -------
    a, b : In(ScratchRead(config))
        Read ports.
    write : In(ScratchWrite(config))
        Write port, one enable per element.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "a": In(ScratchRead(config)),
                "b": In(ScratchRead(config)),
                "write": In(ScratchWrite(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        words = self._config.scratchpad_elements // self._config.vu_width
        for name, port in (("a", self.a), ("b", self.b)):
            # A memory per element: enables of a whole memory are what every synthesis tool infers.
            for lane in range(self._config.vu_width):
                memory = Memory(shape=signed(32), depth=words, init=[])
                m.submodules[f"{name}{lane}"] = memory
                read, write = memory.read_port(), memory.write_port()
                m.d.comb += [
                    read.en.eq(port.en),
                    read.addr.eq(port.addr),
                    port.data[lane].eq(read.data),
                    write.en.eq(self.write.en[lane]),
                    write.addr.eq(self.write.addr),
                    write.data.eq(self.write.data[lane]),
                ]
        return m
