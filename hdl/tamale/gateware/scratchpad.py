"""On-chip memory of int32 vectors."""

import functools
import operator

from amaranth.hdl import Cat, Module, Mux, Signal, signed
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
    read and one write port. A word is read `SCRATCH_LATENCY` cycles after ``en`` and holds until as
    many after the next ``en``. A write is seen by reads whose ``en`` comes in a later cycle; what a
    read of the same word in the same cycle returns is not defined.

    The memory is cut into banks of a block RAM's depth, which lie all over the chip. So there are
    registers on every leg of the way: where a port comes in, at each bank, behind the block RAMs
    (their own output registers, without which they are slow), and behind the choice among banks.
    Those of a bank's addresses change only when it is asked, and so they stay apart.

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
        banks = range(-(-words // _BANK))
        bank_bits = exact_log2(_BANK)
        lanes = range(self._config.vu_width)

        written = Signal.like(self.write.en)
        write_addr, write_data = Signal.like(self.write.addr), Signal.like(self.write.data)
        m.d.sync += [
            written.eq(self.write.en),
            write_addr.eq(self.write.addr),
            write_data.eq(self.write.data),
        ]
        writes, value = [], Signal.like(write_data, reset_less=True)
        m.d.sync += value.eq(write_data)
        for bank in banks:
            en = Signal.like(written, name=f"write{bank}_en")
            addr = Signal(bank_bits, name=f"write{bank}_addr", reset_less=True)
            here = write_addr[bank_bits:] == bank
            m.d.sync += en.eq(Mux(here, written, 0))
            with m.If(here & written.any()):
                m.d.sync += addr.eq(write_addr)
            writes.append((en, addr))

        for name, port in (("a", self.a), ("b", self.b)):
            en, addr = Signal(name=f"{name}_en"), Signal.like(port.addr, name=f"{name}_addr")
            m.d.sync += [en.eq(port.en), addr.eq(port.addr)]
            asked = Signal(len(banks), name=f"{name}_asked")
            m.d.sync += asked.eq(Cat(en & (addr[bank_bits:] == bank) for bank in banks))
            # Whose the last word is, beside the block RAM and beside its output register.
            latched, chosen = Signal.like(asked, name=f"{name}_latched"), Signal.like(asked)
            with m.If(asked.any()):
                m.d.sync += latched.eq(asked)
            m.d.sync += chosen.eq(latched)
            found = [[] for _ in lanes]
            for bank in banks:
                here = Signal(bank_bits, name=f"{name}{bank}_addr", reset_less=True)
                with m.If(en & (addr[bank_bits:] == bank)):
                    m.d.sync += here.eq(addr)
                # A memory per element: enables of a whole memory are what every synthesis tool
                # infers.
                for lane in lanes:
                    label = f"{name}{lane}_{bank}"
                    depth = min(_BANK, words - bank * _BANK)
                    memory = Memory(shape=signed(32), depth=depth, init=[], attrs=NO_COLLISIONS)
                    m.submodules[label] = memory
                    read, write = memory.read_port(domain="comb"), memory.write_port()
                    word = Signal(signed(32), name=f"{label}_word", reset_less=True)
                    output = Signal(signed(32), name=f"{label}_output", reset_less=True)
                    write_en, write_at = writes[bank]
                    m.d.comb += [
                        read.addr.eq(here),
                        write.en.eq(write_en[lane]),
                        write.addr.eq(write_at),
                        write.data.eq(value[lane]),
                    ]
                    with m.If(asked[bank]):
                        m.d.sync += word.eq(read.data)
                    m.d.sync += output.eq(word)
                    found[lane].append(output & chosen[bank].replicate(32).as_signed())
            for lane in lanes:
                element = Signal(signed(32), name=f"{name}{lane}_data", reset_less=True)
                m.d.sync += element.eq(functools.reduce(operator.or_, found[lane]))
                m.d.comb += port.data[lane].eq(element)
        return m
