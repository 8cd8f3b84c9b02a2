"""Reductions over the results of a command."""

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tamale.isa import Reduce

__all__ = ["Reducer"]

_WIDTH = 48


class Reducer(wiring.Component):
    """Gathers the largest magnitude, the sum or the maximum of words.

    A pipelined tree joins the elements of a word. Where the larger of two is wanted, the other one
    is set to zero before they are added; the maximum of signed values is that of unsigned ones with
    the sign bit inverted, whose neutral element is zero as well.

    Latency: a word counts in ``total`` 2 + 2 log2(vu_width) cycles after it came in. Throughput: a
    word per cycle.

    Parameters
    ----------
    config : Config

    Members
    -------
    mode : In(Reduce)
        Stays from ``clear`` on.
    clear : In(1)
        Forget what was gathered. Words that came in before must have left the tree.
    mask : In(vu_width)
        Elements of ``values`` that count.
    values : In(data.ArrayLayout(signed(32), vu_width))
    total : Out(48)
        ABSMAX: 0 to 2**31; SUM: modulo 2**48; MAX: the maximum plus 2**31, zero if nothing came in.
    """

    def __init__(self, config):
        self._width = config.vu_width
        super().__init__(
            {
                "mode": In(Reduce),
                "clear": In(1),
                "mask": In(self._width),
                "values": In(data.ArrayLayout(signed(32), self._width)),
                "total": Out(_WIDTH),
            }
        )

    def elaborate(self, platform):
        m = Module()
        adds = Signal()
        # One cycle late: there is no word yet, and the wires are long.
        m.d.sync += adds.eq(self.mode == Reduce.SUM)
        terms = [self._term(m, i) for i in range(self._width)]
        level = 0
        while len(terms) > 1:
            pairs = zip(terms[::2], terms[1::2], strict=True)
            terms = [self._join(m, adds, *pair, f"{level}_{i}") for i, pair in enumerate(pairs)]
            level += 1
        (term,) = terms

        kept = Signal(_WIDTH)
        with m.If(adds):
            m.d.sync += kept.eq(kept + term)
        with m.Elif(term.as_unsigned() > kept[: len(term)]):
            m.d.sync += kept.eq(term)
        with m.If(self.clear):
            m.d.sync += kept.eq(0)
        m.d.comb += self.total.eq(kept)
        return m

    def _term(self, m, i):
        """Return element i as what is compared or added: of 33 bits, signed in sums only."""
        term, value = Signal(signed(33), name=f"term{i}"), self.values[i]
        flip = Signal(name=f"flip{i}")
        m.d.comb += flip.eq((self.mode == Reduce.ABSMAX) & value[-1])
        magnitude = (value.as_unsigned() ^ flip.replicate(32)).as_signed() + flip
        m.d.sync += term.eq(magnitude)
        with m.If(self.mode == Reduce.MAX):
            m.d.sync += term[31:].eq(Cat(~value[-1], 0))
        with m.If(~self.mask[i]):
            m.d.sync += term.eq(0)
        return term

    def _join(self, m, adds, first, second, name):
        """Return the sum or the larger of two terms, two cycles later."""
        width = len(first)
        left, right = (
            Signal.like(first, name=f"left{name}"),
            Signal.like(first, name=f"right{name}"),
        )
        total = Signal(signed(width + 1), name=f"join{name}")
        less = Signal(name=f"less{name}")
        m.d.comb += less.eq(first.as_unsigned() < second.as_unsigned())
        m.d.sync += [left.eq(first), right.eq(second), total.eq(left + right)]
        with m.If(~adds):
            with m.If(less):
                m.d.sync += left.eq(0)
            with m.Else():
                m.d.sync += right.eq(0)
        return total
