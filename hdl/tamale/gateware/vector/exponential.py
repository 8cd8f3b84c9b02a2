"""The functions of EXP: a table with linear interpolation."""

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale import tables
from tamale.gateware.vector.layout import Data

__all__ = ["Exponential"]


class Exponential(wiring.Component):
    """Computes 2**-z or sigmoid(+-z) as `tamale_model.integer` does, one a cycle.

    ``result`` follows ``value`` by 7 cycles.

    Members
    -------
    enable : In(1)
        While zero, ``result`` is zero.
    sigmoid : In(1)
        Which function; stays.
    value : In(31)
        z in units of 2**-16, clamped here.
    complement : In(1)
        5 cycles after ``value``: return 2**15 minus the tabulated function.
    result : Out(16)
        Units of 2**-15.
    """

    enable: In(1)
    sigmoid: In(1)
    value: In(31)
    complement: In(1)
    result: Out(16)

    def elaborate(self, platform):
        m = Module()
        bits, sigmoid = tables.EXP2_FRACTION_BITS, self.sigmoid
        sigmoid_bits = bits + tables.SIGMOID_RANGE_BITS
        z = Data(bits + 5)
        m.d.sync += z.eq(self.value)
        with m.If((self.value[bits + 5 :] != 0) | (sigmoid & self.value[sigmoid_bits])):
            m.d.sync += z.eq(~0)

        # Both functions in one memory, and their fractions at the same place: exp2 has fewer bits,
        # and rounding does not see zeros below them.
        low = sigmoid_bits - tables.SIGMOID_BITS
        exp2_low = bits - tables.EXP2_BITS
        row, fraction = Signal(tables.SIGMOID_BITS + 1), Signal(low)
        m.d.comb += [
            row.eq(Mux(sigmoid, Cat(z[low:sigmoid_bits], 1), z[exp2_low:bits])),
            fraction.eq(Mux(sigmoid, z[:low], z[:exp2_low] << low - exp2_low)),
        ]
        pairs = list(zip(tables.EXP2_TABLE, tables.EXP2_DELTA, strict=True))
        pairs += [(0, 0)] * (2**tables.SIGMOID_BITS - len(pairs))
        pairs += zip(tables.SIGMOID_TABLE, tables.SIGMOID_DELTA, strict=True)
        m.submodules.table = memory = Memory(
            shape=28,
            depth=len(pairs),
            init=[value | delta << 17 for value, delta in pairs],
            # Logic would take more area than the block RAM is worth.
            attrs={"ram_style": "block"},
        )
        table = memory.read_port()
        m.d.comb += table.addr.eq(row)

        starts = [Data(17, name=f"start{i}") for i in range(2)]
        rests = [Data(low, name=f"rest{i}") for i in range(2)]
        places = [Data(5, name=f"places{i}") for i in range(4)]
        delta, fall = Data(11), Data(low + 11)
        power, shifted = Data(17), Data(17)
        m.d.sync += [
            rests[0].eq(fraction),
            places[0].eq(z[bits:]),
            # Block RAM is slow, its output goes no further than a register.
            starts[0].eq(table.data[:17]),
            delta.eq(table.data[17:]),
            rests[1].eq(rests[0]),
            places[1].eq(places[0]),
            fall.eq(delta * rests[1]),
            starts[1].eq(starts[0]),
            places[2].eq(places[1]),
            # start - round(fall / 2**low) with a single subtraction.
            power.eq((Cat(C(2 ** (low - 1) - 1, low), starts[1]) - fall) >> low),
            places[3].eq(places[2]),
            # 2**15 - round(p / 2) = round((2**16 - 1 - p) / 2): the other side of the sigmoid.
            shifted.eq((power >> places[3]) ^ self.complement.replicate(16)),
            self.result.eq((shifted + 1) >> 1),
        ]
        with m.If(sigmoid):
            m.d.sync += places[0].eq(0)
        with m.If(~self.enable):
            m.d.sync += self.result.eq(0)
        return m
