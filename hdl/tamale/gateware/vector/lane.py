"""Arithmetic of one element."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale import tables
from tamale.gateware.vector.layout import ControlLayout

__all__ = ["Lane"]

_INT32_MAX = 2**31 - 1


def _shift_twice(value, amount):
    """Return 2 * value >> amount, coarse and fine part apart, as a pair of functions of registers.

    The lowest bit of the result is the one that rounding looks at: floor(v / 2**s + 1/2) is
    (w + 1) >> 1 with w = 2v >> s.
    """
    return (value << 1) >> Cat(C(0, 3), amount[3:])


class Lane(wiring.Component):
    """One multiplier with what shifts, rounds, adds and clips around it; one element per cycle.

    Everything is a pipeline without stalls, an element enters and leaves in every cycle. Times are
    cycles of `Timing`, which see; ``result`` belongs to the element whose ``a`` came in 9 cycles
    before, ``exponential`` to the one 12 cycles before.

    Parameters
    ----------
    None

    Members
    -------
    control : In(ControlLayout)
        Stays during a command.
    a : In(signed(32))
        Operand in cycle ``multiply``.
    b : In(signed(32))
        Operand, from the scratchpad: one cycle after ``read_factor`` or ``read_addend``.
    minus, plus : In(1)
        In cycle ``combine``: take the product from the previous one, or add it.
    add, subtract : In(1)
        In cycle ``add``: add or subtract the operand b that was read last (subtract implies add).
    complement : In(1)
        Two cycles before ``exponential``: return 2**15 minus the table's function.
    result : Out(signed(32))
        In cycle ``result``.
    exponential : Out(16)
        In cycle ``exponential``.
    clip_factor, clip_product, clip_sum : Out(1)
        A value was clipped in cycle ``factor``, ``product`` or ``sum``.
    """

    control: In(ControlLayout)
    a: In(signed(32))
    b: In(signed(32))
    minus: In(1)
    plus: In(1)
    add: In(1)
    subtract: In(1)
    complement: In(1)
    result: Out(signed(32))
    exponential: Out(16)
    clip_factor: Out(1)
    clip_product: Out(1)
    clip_sum: Out(1)

    def elaborate(self, platform):
        m = Module()
        b = Signal(signed(32))
        m.d.sync += b.eq(self.b)
        factor = self._factor(m, b)
        total = self._multiply(m, factor)
        rounded = self._round(m, total)
        self._add(m, rounded, b)
        self._exponential(m, rounded)
        return m

    def _factor(self, m, b):
        """Choose the factor; four registers from operand b's arrival."""
        coarse, fine = Signal(signed(33)), Signal(signed(33))
        rounded, factor = Signal(signed(32)), Signal(signed(18))
        clip = Signal()
        m.d.sync += [
            coarse.eq(_shift_twice(b, self.control.pre)),
            fine.eq(coarse >> self.control.pre[:3]),
        ]
        m.d.comb += [
            rounded.eq((fine + 1) >> 1),
            clip.eq((rounded[17:] != 0) & ~rounded[17:].all()),
            self.clip_factor.eq(clip & self.control.by_vector),
        ]
        m.d.sync += factor.eq(
            Mux(
                self.control.by_vector,
                Mux(clip, Mux(rounded[-1], -(2**17), 2**17 - 1), rounded),
                self.control.factor,
            )
        )
        return factor

    def _multiply(self, m, factor):
        """Multiply, and combine with the product before; three registers."""
        # In halves, each of which fits a multiplier of 18 x 18 bits.
        low, high = Signal(signed(34)), Signal(signed(34))
        product, before, total = Signal(signed(50)), Signal(signed(50)), Signal(signed(51))
        m.d.sync += [
            low.eq(Cat(self.a[:16], 0).as_signed() * factor),
            high.eq(self.a[16:].as_signed() * factor),
            product.eq((high << 16) + low),
            before.eq(product),
        ]
        # One adder: the lowest bit of both terms makes the carry of the subtraction.
        term = Signal(signed(51))
        kept = Signal(signed(51))
        m.d.comb += [
            term.eq(Mux(self.minus, ~product, product)),
            kept.eq(Mux(self.minus | self.plus, before, 0)),
        ]
        m.d.sync += total.eq(
            (Cat(self.minus, term).as_signed() + Cat(self.minus, kept).as_signed()) >> 1
        )
        return total

    def _round(self, m, total):
        """Shift right with rounding; three registers."""
        coarse, fine = Signal(signed(52)), Signal(signed(52))
        rounded = Signal(signed(51))
        m.d.sync += [
            coarse.eq(_shift_twice(total, self.control.shift)),
            fine.eq(coarse >> self.control.shift[:3]),
            rounded.eq((fine + 1) >> 1),
        ]
        return rounded

    def _add(self, m, rounded, b):
        """Clip, add, clip; three registers."""
        product, total = Signal(signed(32)), Signal(signed(33))
        clip = Signal()
        m.d.comb += [
            clip.eq((rounded[31:] != 0) & ~rounded[31:].all()),
            self.clip_product.eq(clip & ~self.control.exp),
        ]
        m.d.sync += product.eq(Mux(clip, Mux(rounded[-1], -(2**31), _INT32_MAX), rounded))

        term = Signal(signed(32))
        m.d.comb += term.eq(Mux(self.subtract, ~b, Mux(self.add, b, 0)))
        m.d.sync += total.eq(
            (Cat(self.subtract, product).as_signed() + Cat(self.subtract, term).as_signed()) >> 1
        )

        clip_sum, above, below, negative = Signal(), Signal(), Signal(), Signal()
        limit = self.control.limit
        m.d.comb += [
            negative.eq(total[-1]),
            clip_sum.eq(total[32] ^ total[31]),
            self.clip_sum.eq(clip_sum),
            # limit < 128: values of which the upper bits are not all sign are beyond it.
            above.eq(~negative & ((total[7:] != 0) | (total[:7] > limit))),
            below.eq(negative & (~total[7:].all() | (total[:7] < 128 - limit))),
        ]
        with m.If(self.control.limited & (above | below)):
            m.d.sync += self.result.eq(Mux(negative, -Cat(limit, 0).as_signed(), limit))
        with m.Else():
            m.d.sync += self.result.eq(
                Mux(clip_sum, Mux(negative, -(2**31), _INT32_MAX), total[:32].as_signed())
            )

    def _exponential(self, m, rounded):
        """2**-rounded or sigmoid(+-rounded), see `tamale_model.integer`; six registers."""
        bits, sigmoid = tables.EXP2_FRACTION_BITS, self.control.sigmoid
        sigmoid_bits = bits + tables.SIGMOID_RANGE_BITS
        z = Signal(bits + 5)
        beyond = (rounded[bits + 5 :] != 0) | (sigmoid & rounded[sigmoid_bits])
        m.d.sync += z.eq(Mux(beyond, 2 ** (bits + 5) - 1, rounded))

        # Both functions in one memory, and their fractions at the same place: exp2 has fewer bits,
        # and rounding does not see zeros below them.
        low = sigmoid_bits - tables.SIGMOID_BITS
        exp2_low = bits - tables.EXP2_BITS
        first, rest_now = Signal(tables.SIGMOID_BITS + 1), Signal(low)
        m.d.comb += [
            first.eq(Mux(sigmoid, Cat(z[low:sigmoid_bits], 1), z[exp2_low:bits])),
            rest_now.eq(Mux(sigmoid, z[:low], z[:exp2_low] << low - exp2_low)),
        ]
        pairs = list(zip(tables.EXP2_TABLE, tables.EXP2_DELTA, strict=True))
        pairs += [(0, 0)] * (2**tables.SIGMOID_BITS - len(pairs))
        pairs += zip(tables.SIGMOID_TABLE, tables.SIGMOID_DELTA, strict=True)
        m.submodules.table = memory = Memory(
            shape=28, depth=len(pairs), init=[value | delta << 17 for value, delta in pairs]
        )
        table = memory.read_port()
        m.d.comb += table.addr.eq(first)
        value, delta = table.data[:17], table.data[17:]

        rest, fall, start = Signal(low), Signal(low + len(delta)), Signal(17)
        power, shifted = Signal(17), Signal(17)
        places = [Signal(5, name=f"places{i}") for i in range(3)]
        m.d.sync += [
            rest.eq(rest_now),
            places[0].eq(Mux(sigmoid, 0, z[bits:])),
            fall.eq(delta * rest),
            start.eq(value),
            places[1].eq(places[0]),
            # start - round(fall / 2**low) with a single subtraction.
            power.eq((Cat(C(2 ** (low - 1) - 1, low), start) - fall) >> low),
            places[2].eq(places[1]),
            # 2**15 - round(p / 2) = round((2**16 - 1 - p) / 2): the other side of the sigmoid.
            shifted.eq((power >> places[2]) ^ self.complement.replicate(16)),
            self.exponential.eq((shifted + 1) >> 1),
        ]
