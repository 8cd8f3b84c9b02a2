"""On-chip memory of int32 vectors."""

import functools
import operator

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from tamale.gateware.interfaces import NO_COLLISIONS, ScratchRead, ScratchWrite

__all__ = ["Scratchpad"]

#: Words of a bank: the depth of ECP5's block RAM with the 18 bits of which an element takes two.
_BANK = 1024


class Scratchpad(wiring.Component):
    """A memory with two read ports and one write port, ``vu_width`` elements a word.

    Two copies of the memory are written alike, one for each read port, because block RAM has one
    read and one write port. A word is read three cycles after ``en`` and holds until three cycles
    after the next ``en``. A write is seen by reads whose ``en`` comes in a later cycle; what a read
    of the same word in the same cycle returns is not defined.

    The memory is cut into banks of a block RAM's depth, so that the choice among them comes behind
    the block RAMs' output registers: without these they are slow, and they lie far apart. Addresses
    and what is written have a register on the way there, too.

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
        banks = -(-words // _BANK)
        bank_bits = exact_log2(_BANK)
        write_en, write_addr = Signal.like(self.write.en), Signal.like(self.write.addr)
        write_data = Signal.like(self.write.data)
        m.d.sync += [
            write_en.eq(self.write.en),
            write_addr.eq(self.write.addr),
            write_data.eq(self.write.data),
        ]
        for name, port in (("a", self.a), ("b", self.b)):
            en, addr = Signal(name=f"en_{name}"), Signal.like(port.addr, name=f"addr_{name}")
            m.d.sync += [en.eq(port.en), addr.eq(port.addr)]
            # One bit for each bank, beside the word and beside the output register.
            asked, chosen = Signal(banks, name=f"asked_{name}"), Signal(banks, name=f"from_{name}")
            here = Cat(addr[bank_bits:] == bank for bank in range(banks))
            with m.If(en):
                m.d.sync += asked.eq(here)
            m.d.sync += chosen.eq(asked)
            # A memory per element: enables of a whole memory are what every synthesis tool infers.
            for lane in range(self._config.vu_width):
                found = []
                for bank in range(banks):
                    depth = min(_BANK, words - bank * _BANK)
                    memory = Memory(shape=signed(32), depth=depth, init=[], attrs=NO_COLLISIONS)
                    m.submodules[f"{name}{lane}_{bank}"] = memory
                    read, write = memory.read_port(domain="comb"), memory.write_port()
                    written = write_addr[bank_bits:] == bank
                    word = Signal(signed(32), name=f"{name}{lane}_{bank}_word", reset_less=True)
                    output = Signal(signed(32), name=f"{name}{lane}_{bank}_output", reset_less=True)
                    with m.If(en & here[bank]):
                        m.d.sync += word.eq(read.data)
                    m.d.comb += [
                        read.addr.eq(addr),
                        write.en.eq(write_en[lane] & written),
                        write.addr.eq(write_addr),
                        write.data.eq(write_data[lane]),
                    ]
                    m.d.sync += output.eq(word)
                    found.append(output & chosen[bank].replicate(32).as_signed())
                m.d.comb += port.data[lane].eq(functools.reduce(operator.or_, found))
        return m
