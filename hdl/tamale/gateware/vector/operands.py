"""Operand a on its way to the multipliers."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware.vector.layout import ControlLayout, Timing, log2_width

__all__ = ["Operands"]


class Operands(wiring.Component):
    """Prepares operand a: rectifies it, takes its distance from the peak or zero, or transforms it.

    A pipeline without stalls. ``prepared`` follows ``word`` by ``Timing.multiply`` - 1 cycles.

    Parameters
    ----------
    config : Config

    Members
    -------
    control : In(ControlLayout)
    peak : In(signed(32))
    word : In(data.ArrayLayout(signed(32), vu_width))
        From the scratchpad, in cycle 1.
    transform : In(max(1, log2 vu_width))
        Bit j, in cycle ``Timing.prepare`` + j: the transform's level of stride 2**j is wanted.
    prepared : Out(data.ArrayLayout(signed(32), vu_width))
        In cycle ``Timing.multiply``.
    negative : Out(vu_width)
        Signs of the elements, in cycle ``Timing.prepare``.
    clip : Out(data.ArrayLayout(vu_width, max(1, log2 vu_width)))
        Entry j, in cycle ``Timing.prepare`` + j: elements that this level clipped.
    """

    def __init__(self, config):
        self._width = config.vu_width
        self._levels = log2_width(config)
        timing = Timing(config)
        self._stages = timing.multiply - timing.prepare
        word = data.ArrayLayout(signed(32), self._width)
        super().__init__(
            {
                "control": In(ControlLayout),
                "peak": In(signed(32)),
                "word": In(word),
                "transform": In(max(1, self._levels)),
                "prepared": Out(word),
                "negative": Out(self._width),
                "clip": Out(data.ArrayLayout(self._width, max(1, self._levels))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        base = Signal(signed(32))
        m.d.comb += base.eq(Mux(self.control.sigmoid, 0, self.peak))
        distance = [Signal(signed(33), name=f"distance{i}") for i in range(self._width)]
        before = [Signal(signed(32), name=f"raw_{i}") for i in range(self._width)]
        m.d.sync += [signal.eq(self.word[i]) for i, signal in enumerate(before)]
        m.d.comb += self.negative.eq(Cat(signal[-1] for signal in before))
        for stage in range(self._stages):
            after = [Signal(signed(32), name=f"stage{stage}_{i}") for i in range(self._width)]
            for i in range(self._width):
                value = before[i]
                if stage == 0:
                    m.d.sync += distance[i].eq(base - before[i])
                    value = Mux(self.control.relu & value[-1], 0, value)
                if stage == 1:
                    # max(0, min(distance, 2**31 - 1)). Of what is above the peak, distance 0; of
                    # what is above zero, the value itself is the distance.
                    sign, carry = distance[i][32], distance[i][31]
                    above = Mux(self.control.sigmoid, value, 0)
                    near = Mux(sign, above, Mux(carry, 2**31 - 1, distance[i][:32].as_signed()))
                    value = Mux(self.control.exp, near, value)
                if stage < self._levels:
                    value = self._butterfly(m, before, value, stage, i)
                m.d.sync += after[i].eq(value)
            before = after
        m.d.comb += [self.prepared[i].eq(signal) for i, signal in enumerate(before)]
        return m

    def _butterfly(self, m, word, value, level, i):
        """Return the sum or difference of the pair that element i belongs to, or ``value``."""
        stride = 1 << level
        first, second = word[i & ~stride], word[i | stride]
        total = Signal(signed(33), name=f"total{level}_{i}")
        clip = Signal(name=f"clip{level}_{i}")
        m.d.comb += [
            total.eq(first - second if i & stride else first + second),
            clip.eq(total[32] ^ total[31]),
            self.clip[level][i].eq(clip & self.transform[level]),
        ]
        clipped = Mux(clip, Mux(total[32], -(2**31), 2**31 - 1), total[:32].as_signed())
        return Mux(self.transform[level], clipped, value)
