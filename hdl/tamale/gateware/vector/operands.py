"""Operand a on its way to the multipliers, operand b on its way to the adders."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware.vector.layout import ControlLayout, Data, log2_width

__all__ = ["Operands"]

_INT32_MAX = 2**31 - 1


class Operands(wiring.Component):
    """Prepares both operands of a word, element by element.

    Operand a is rectified, or replaced by its distance from the peak (EXP2) or from zero (SIGMOID).
    For the transform within a word, a and the addend become the first and the second element of the
    pair that an element belongs to. A pipeline without stalls: ``prepared`` follows ``word_a`` by 3
    cycles, ``addend`` and ``carry`` follow ``word_b`` by 2.

    Parameters
    ----------
    config : Config

    Members
    -------
    control : In(ControlLayout)
    peak : In(signed(32))
    word_a, word_b : In(data.ArrayLayout(signed(32), vu_width))
        From the scratchpad: each `SCRATCH_LATENCY` after its read.
    pairs_a : In(log2 vu_width)
        Bit j, in cycle ``Timing.prepare``: elements 2**j apart make pairs.
    add, subtract : In(1), pairs_b : In(log2 vu_width)
        In cycle ``Timing.product``; what to do with the addend.
    prepared : Out(data.ArrayLayout(signed(32), vu_width))
        In cycle ``Timing.multiply``.
    negative : Out(vu_width)
        Signs of operand a, in cycle ``Timing.prepare``.
    addend : Out(data.ArrayLayout(signed(32), vu_width)), carry : Out(vu_width)
        In cycle ``Timing.add``: ``addend + carry`` is b, -b or 0.
    """

    def __init__(self, config):
        self._width = config.vu_width
        self._levels = log2_width(config)
        word = data.ArrayLayout(signed(32), self._width)
        super().__init__(
            {
                "control": In(ControlLayout),
                "peak": In(signed(32)),
                "word_a": In(word),
                "word_b": In(word),
                "pairs_a": In(self._levels),
                "pairs_b": In(self._levels),
                "add": In(1),
                "subtract": In(1),
                "prepared": Out(word),
                "negative": Out(self._width),
                "addend": Out(word),
                "carry": Out(self._width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        base = Data(signed(32))
        a = [Data(signed(32), name=f"a{i}") for i in range(self._width)]
        b = [Data(signed(32), name=f"b{i}") for i in range(self._width)]
        # The peak is older than a command by far, so that the register costs no time.
        m.d.sync += base.eq(Mux(self.control.sigmoid, 0, self.peak))
        for i in range(self._width):
            m.d.sync += [a[i].eq(self.word_a[i]), b[i].eq(self.word_b[i])]
        m.d.comb += self.negative.eq(Cat(a[i][-1] for i in range(self._width)))
        for i in range(self._width):
            self._prepare(m, a, i, base)
            self._addend(m, b, i)
        return m

    def _pair(self, word, pairs, i, partner):
        """Return element i, or the given partner of its pair where a transform wants it."""
        value = word[i]
        for level in range(self._levels):
            other = partner(i, 1 << level)
            if other != i:
                value = Mux(pairs[level], word[other], value)
        return value

    def _prepare(self, m, word, i, base):
        value = Data(signed(32), name=f"value{i}")
        distance = Data(signed(33), name=f"distance{i}")
        m.d.sync += [
            value.eq(self._pair(word, self.pairs_a, i, lambda i, stride: i & ~stride)),
            distance.eq(base - word[i]),
        ]
        # One of four: value, distance, zero, largest. Of what is above the peak the distance is
        # zero, of what is above zero the value.
        exp, sign = self.control.exp, distance[32]
        near, constant = Signal(name=f"near{i}"), Signal(name=f"constant{i}")
        m.d.comb += [
            near.eq(exp & ~sign),
            constant.eq(
                Mux(
                    exp,
                    Mux(sign, ~self.control.sigmoid, distance[31]),
                    self.control.relu & value[-1],
                )
            ),
        ]
        chosen = Mux(near, distance[:31], value[:31])
        prepared = Data(signed(32), name=f"prepared{i}")
        m.d.sync += [
            prepared[:31].eq(Mux(constant, near.replicate(31), chosen)),
            prepared[31].eq(~near & ~constant & value[-1]),
        ]
        m.d.comb += self.prepared[i].eq(prepared)

    def _addend(self, m, word, i):
        minus = Signal(name=f"minus{i}")
        value = self._pair(word, self.pairs_b, i, lambda i, stride: i | stride)
        m.d.comb += minus.eq(
            self.subtract
            | Cat(self.pairs_b[level] for level in range(self._levels) if i >> level & 1).any()
        )
        addend = Data(signed(32), name=f"addend{i}")
        m.d.sync += [self.carry[i].eq(minus), addend.eq(value ^ minus.replicate(32))]
        with m.If(~self.add):
            m.d.sync += addend.eq(0)
        m.d.comb += self.addend[i].eq(addend)
