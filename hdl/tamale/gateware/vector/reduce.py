"""Reductions over the results of a command."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware.vector.layout import log2_width
from tamale.isa import Reduce

__all__ = ["Reducer"]

_WIDTH = 48


class Reducer(wiring.Component):
    """Gathers the largest magnitude, the sum or the maximum per lane, then folds the lanes.

    A word counts two cycles after it came in. After the last one has, ``fold`` is raised for the
    levels log2(vu_width) - 1 down to 0, one every other cycle; ``total`` holds two cycles after the
    last until ``clear``.

    Parameters
    ----------
    config : Config

    Members
    -------
    mode : In(Reduce)
        Stays from ``clear`` on.
    clear : In(1)
        Forget everything.
    mask : In(vu_width)
        Elements of ``values`` that count.
    values : In(data.ArrayLayout(signed(32), vu_width))
    fold : In(max(1, log2 vu_width))
        Bit k: merge lanes 2**k to 2**(k+1) - 1 into the lower ones.
    total : Out(signed(48))
        ABSMAX: 0 to 2**31; SUM: modulo 2**48; MAX: -2**31 if nothing came in.
    """

    def __init__(self, config):
        self._width = config.vu_width
        self._levels = log2_width(config)
        super().__init__(
            {
                "mode": In(Reduce),
                "clear": In(1),
                "mask": In(self._width),
                "values": In(data.ArrayLayout(signed(32), self._width)),
                "fold": In(max(1, self._levels)),
                "total": Out(signed(_WIDTH)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        largest, neutral = Signal(), Signal(signed(33))
        m.d.comb += [
            largest.eq(self.mode == Reduce.MAX),
            neutral.eq(Mux(largest, -(2**31), 0)),
        ]
        kept = [Signal(signed(_WIDTH), name=f"kept{i}") for i in range(self._width)]
        for i in range(self._width):
            term, value = Signal(signed(_WIDTH), name=f"term{i}"), self.values[i]
            magnitude = Mux((self.mode == Reduce.ABSMAX) & value[-1], -value, value)
            m.d.sync += term.eq(Mux(self.mask[i], magnitude, neutral))
            # Folding takes the same way as a word, so that the accumulator has one short input.
            for level in range(self._levels):
                if i < 1 << level:
                    with m.If(self.fold[level]):
                        m.d.sync += term.eq(kept[i + (1 << level)])
            with m.If(self.clear):
                m.d.sync += kept[i].eq(neutral)
            with m.Elif(self.mode == Reduce.SUM):
                m.d.sync += kept[i].eq(kept[i] + term)
            with m.Elif(term > kept[i]):
                m.d.sync += kept[i].eq(term)
        m.d.comb += self.total.eq(kept[0])
        return m
