"""On-chip memory of the activation codes that the array multiplies."""

from amaranth.hdl import Array, Cat, Module, Signal, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tamale.gateware.interfaces import ActivationWrite

__all__ = ["ActivationMemory", "ActivationRead"]


def ActivationRead(config):
    """Read port of activation memory, as its user sees it; ``codes`` one cycle after ``step``."""
    row = data.ArrayLayout(signed(8), config.tile_k)
    return wiring.Signature(
        {
            "step": Out(range(config.act_steps)),
            "codes": In(data.ArrayLayout(row, config.vectors)),
        }
    )


class ActivationMemory(wiring.Component):
    """Activation codes of all vectors, a K step of every vector per cycle.

    A bank for every code of a K step takes writes of consecutive codes that start anywhere. Where
    ``vu_width`` exceeds ``tile_k``, steps are dealt out over a power of two of banks, so that no
    bank gets two codes in a cycle.

    Latency: ``read.codes`` one cycle after ``read.step``; a write is seen by reads whose step is
    put 3 cycles later or more. Throughput: one read and one write per cycle. Contents after reset
    are zero; writes at the end of the memory wrap around.

    Parameters
    ----------
    config : Config
        ``act_steps``, ``tile_k``, ``vectors`` and ``vu_width`` size it.

    Members
    -------
    write : In(ActivationWrite(config))
        Codes from the vector unit; vectors from ``config.vectors`` are ignored.
    read : In(ActivationRead(config))
        Codes for the array.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({"write": In(ActivationWrite(config)), "read": In(ActivationRead(config))})

    def elaborate(self, platform):
        m = Module()
        config, tile_k = self.config, self.config.tile_k
        interleave = 1
        while interleave * tile_k < config.vu_width:
            interleave *= 2
        low = exact_log2(interleave)
        banks, rows = interleave * tile_k, config.act_steps // interleave

        # One register after the port, one before the memories: the rotation has a cycle of its own.
        write = Signal(self.write.signature.members["data"].shape)
        enable, vector = Signal(config.vu_width), Signal(4)
        row = Signal(range(rows))
        start = Signal(banks)  # one-hot: the bank of element 0
        m.d.sync += [
            write.eq(self.write.data),
            enable.eq(self.write.en),
            vector.eq(self.write.vector),
            row.eq(self.write.step >> low),
        ]
        for bank in range(banks):
            here = self.write.offset == bank % tile_k
            if interleave > 1:
                here &= self.write.step[:low] == bank // tile_k
            m.d.sync += start[bank].eq(here)

        select = Signal(max(low, 1))
        if interleave > 1:
            m.d.sync += select.eq(self.read.step[:low])

        parts = [[[] for _ in range(tile_k)] for _ in range(config.vectors)]
        for bank in range(banks):
            # Element i lies in this bank if element 0 lies i banks before; before bank 0 comes the
            # last bank of the row above.
            code, hit, carry = 0, 0, 0
            for i in range(config.vu_width):
                match = start[(bank - i) % banks]
                code |= write[i].as_unsigned() & match.replicate(8)
                hit |= match & enable[i]
                if i > bank:
                    carry |= match
            bank_code, bank_row = Signal(8), Signal(range(rows))
            m.d.sync += [bank_code.eq(code), bank_row.eq(row + carry)]
            for v in range(config.vectors):
                bank_enable = Signal()
                m.d.sync += bank_enable.eq(hit & (vector == v))
                cells = memory.Memory(shape=8, depth=rows, init=[])
                m.submodules[f"vector{v}_bank{bank}"] = cells
                write_port, read_port = cells.write_port(), cells.read_port()
                m.d.comb += [
                    write_port.en.eq(bank_enable),
                    write_port.addr.eq(bank_row),
                    write_port.data.eq(bank_code),
                    read_port.addr.eq(self.read.step >> low),
                ]
                parts[v][bank % tile_k].append(read_port.data)
        for v in range(config.vectors):
            codes = [p[0] if interleave == 1 else Array(p)[select] for p in parts[v]]
            m.d.comb += self.read.codes[v].eq(Cat(codes))
        return m
