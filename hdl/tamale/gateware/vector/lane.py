"""Arithmetic of one element."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware.vector.exponential import Exponential
from tamale.gateware.vector.layout import ControlLayout, Data

__all__ = ["Lane"]

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1


def _beyond(bits, sign, reach):
    """Return whether one of the bits that ``reach`` marks is not the sign."""
    return ((bits ^ sign.replicate(len(bits))) & reach).any()


class Lane(wiring.Component):
    """One multiplier with what shifts, rounds, adds and clips around it; one element per cycle.

    Everything is a pipeline without stalls, an element enters and leaves in every cycle. Times are
    cycles of `Timing`; ``result`` belongs to the element whose ``a`` came in 10 cycles before, or
    16 before in EXP.

    Shifts by a variable distance go from coarse to fine and keep no more bits than what follows can
    reach; whether a bit of weight was left out is found beside them. Rounding, which is
    floor(v / 2**s + 1/2), adds the highest bit that was shifted out.

    Members
    -------
    control : In(ControlLayout)
        Stays during a command.
    a : In(signed(32))
        Operand in cycle ``multiply``.
    b : In(signed(32))
        Operand, from the scratchpad, one cycle after ``read_factor``.
    partial, minus : In(1)
        In cycle ``combine``: keep this product for the next, or take it from the one kept.
    addend : In(signed(32)), carry : In(1)
        In cycle ``add``. With ``carry``, which adds one more, the command does not shift.
    complement : In(1)
        In cycle ``complement``: mirror the result of EXP.
    result : Out(signed(32))
        In cycle ``result``, of EXP ``exponential``.
    clip_factor, clip_product, clip_sum : Out(1)
        A value was clipped in cycle ``factor``, ``product`` or ``sum``.
    """

    control: In(ControlLayout)
    a: In(signed(32))
    b: In(signed(32))
    partial: In(1)
    minus: In(1)
    addend: In(signed(32))
    carry: In(1)
    complement: In(1)
    result: Out(signed(32))
    clip_factor: Out(1)
    clip_product: Out(1)
    clip_sum: Out(1)

    def elaborate(self, platform):
        m = Module()
        total = self._multiply(m, self._factor(m))
        product, half = self._shift(m, total)
        total = self._add(m, product, half)
        m.submodules.exponential = exponential = Exponential()
        m.d.comb += [
            exponential.enable.eq(self.control.exp),
            exponential.sigmoid.eq(self.control.sigmoid),
            exponential.value.eq(total[:31]),
            exponential.complement.eq(self.complement),
        ]
        self._clip(m, total, exponential.result)
        return m

    def _factor(self, m):
        """Choose the factor; four registers from operand b's arrival."""
        control = self.control
        b, coarse, fine = Data(signed(32)), Data(26), Data(signed(19))
        sign, beyond = Data(2), Data(2)
        rounded, factor = Signal(signed(19)), Data(signed(18))
        clip = Signal()
        m.d.sync += [
            b.eq(self.b),
            # Twice b, of which the lowest bit of ``fine`` is what rounding looks at.
            coarse.eq((b << 1) >> Cat(C(0, 3), control.pre[3:])),
            fine.eq(coarse >> control.pre[:3]),
            sign.eq(Cat(b[-1], sign)),
            beyond.eq(Cat(_beyond(b[17:31], b[-1], control.pre_reach), beyond)),
        ]
        m.d.comb += [
            rounded.eq((fine + 1) >> 1),
            clip.eq(beyond[1] | (rounded[18] ^ rounded[17])),
            self.clip_factor.eq(clip & control.by_vector),
        ]
        m.d.sync += factor.eq(
            Mux(
                control.by_vector,
                Mux(clip, Mux(sign[1], -(2**17), 2**17 - 1), rounded),
                control.factor,
            )
        )
        return factor

    def _multiply(self, m, factor):
        """Multiply, and combine with the product before; three registers."""
        # In halves, each of which fits a multiplier of 18 x 18 bits.
        low, high = Data(signed(34)), Data(signed(34))
        product, kept, total = Data(signed(50)), Data(signed(50)), Data(signed(51))
        m.d.sync += [
            low.eq(Cat(self.a[:16], 0).as_signed() * factor),
            high.eq(self.a[16:].as_signed() * factor),
            product.eq(Cat(low[:16], high + low[16:].as_signed())),
            kept.eq(product),
        ]
        with m.If(~self.partial):
            m.d.sync += kept.eq(0)
        # One adder: the lowest bit of both terms makes the carry of the subtraction.
        term = Signal(signed(50))
        m.d.comb += term.eq(product ^ self.minus.replicate(50))
        m.d.sync += total.eq(
            (Cat(self.minus, kept).as_signed() + Cat(self.minus, term).as_signed()) >> 1
        )
        return total

    def _shift(self, m, total):
        """Shift right and clip to 32 bits; four registers. Returns the value and what rounds it."""
        shift = self.control.shift
        coarse, middle, fine = Data(48), Data(36), Data(33)
        sign, beyond = Data(3), Data(3)
        product, half = Data(signed(32)), Data()
        m.d.sync += [
            coarse.eq((total << 1) >> Cat(C(0, 4), shift[4:])),
            middle.eq(coarse >> Cat(C(0, 2), shift[2:4])),
            fine.eq(middle >> shift[:2]),
            sign.eq(Cat(total[-1], sign)),
            beyond.eq(Cat(_beyond(total[31:50], total[-1], self.control.reach), beyond)),
        ]
        # Rounding the largest value up would leave the range too.
        largest = fine[1:32].all() & ~fine[32]
        m.d.comb += self.clip_product.eq(~self.control.exp & (beyond[2] | (largest & fine[0])))
        m.d.sync += [
            half.eq(fine[0] & ~largest & ~beyond[2]),
            product.eq(Mux(beyond[2], Mux(sign[2], _INT32_MIN, _INT32_MAX), fine[1:].as_signed())),
        ]
        return product, half

    def _add(self, m, product, half):
        """Round and add; one register."""
        total, carry = Data(signed(33)), Signal()
        m.d.comb += carry.eq(half | self.carry)
        m.d.sync += total.eq(
            (Cat(carry, product).as_signed() + Cat(carry, self.addend).as_signed()) >> 1
        )
        return total

    def _clip(self, m, total, exponential):
        """Clip to 32 bits or to the limit; two registers."""
        limit = self.control.limit
        kept, clip, limited = Data(signed(32)), Data(), Data()
        low, high = total[:7], total[7:32]
        m.d.comb += self.clip_sum.eq(total[32] ^ total[31])
        m.d.sync += [
            kept.eq(total),
            clip.eq(self.clip_sum),
            # The limit is less than 128, so an upper bit that is not the sign is beyond it.
            limited.eq(
                self.control.limited
                & Mux(
                    total[-1],
                    ~high.all() | (low < self.control.floor),
                    high.any() | (low > limit),
                )
            ),
        ]
        # A clipped sum has the wrong sign.
        sign, constant = Signal(), Signal(signed(32))
        m.d.comb += [
            sign.eq(kept[-1] ^ clip),
            constant.eq(
                Mux(
                    limited,
                    Mux(sign, -Cat(limit, 0).as_signed(), limit),
                    Mux(sign, _INT32_MIN, _INT32_MAX),
                )
            ),
        ]
        m.d.sync += self.result.eq(Mux(limited | clip, constant, kept) | exponential)
        with m.If(self.control.exp):
            m.d.sync += self.result.eq(exponential)
