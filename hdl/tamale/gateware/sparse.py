"""Between the beats of a sparse code and the array: K steps out of beats, pairs out of K steps."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tamale.codes import QUAD
from tamale.gateware.activation import pair_places
from tamale.gateware.trits import PairLayout, SparseDecoder, join_trits

__all__ = ["Gearbox", "RowDecoder"]


class Gearbox(wiring.Component):
    """Make K steps of beats that are longer, in the order of `tamale.gearing`, without a shifter.

    A step is there in the cycle of the beat that completes it; a step per cycle. Where nothing is
    kept, ``step`` is the beat, all of it: other codes pass through.

    Parameters
    ----------
    gearing : Gearing
        Sizes of beat and step.

    Members
    -------
    beat : In(bits of a beat)
        The beat of the stream; any while ``full``.
    full : Out(1)
        The next step is there without a beat.
    step : Out(bits of a beat)
        The next step in its low bits.
    take : In(1)
        The step is taken, and with it the beat unless ``full``.
    last : In(1)
        With ``take``: the group ends, what is kept is forgotten.
    """

    def __init__(self, gearing):
        self.gearing = gearing
        bits = gearing.beat * gearing.symbol_bits
        super().__init__(
            {"beat": In(bits), "full": Out(1), "step": Out(bits), "take": In(1), "last": In(1)}
        )

    def elaborate(self, platform):
        m = Module()
        size, step, surplus = self.gearing.symbol_bits, self.gearing.step, self.gearing.surplus
        beat = [self.beat.word_select(n, size) for n in range(self.gearing.beat)]
        # A bit for each lane that keeps a symbol: those from 0 on.
        held = Signal(self.gearing.lanes)
        kept = [Signal(size, name=f"kept{n}", reset_less=True) for n in range(self.gearing.lanes)]
        m.d.comb += [
            self.full.eq(held[step - 1]),
            self.step.eq(
                Cat(
                    Mux(held[n], kept[n], beat[n]) if n < step else beat[n]
                    for n in range(self.gearing.beat)
                )
            ),
        ]
        with m.If(self.take):
            for n, symbol in enumerate(kept):
                after = beat[step + n % surplus]
                if n < step:
                    after = Mux(held[n], beat[n], after)
                if n + step < len(kept):
                    after = Mux(self.full, kept[n + step], after)
                m.d.sync += symbol.eq(after)
            m.d.sync += held.eq(
                Mux(self.full, held[step:], Cat(Const(-1, surplus), held)[: len(held)])
            )
            with m.If(self.last):
                m.d.sync += held.eq(0)
        return m


class RowDecoder(wiring.Component):
    """Decode a row's K step of the sparse code into the pairs that the array looks up.

    Combinational. Pairs are those of the code of bytes, for activation memory holds their sums. A
    pair within a code point comes out of it at once; where the pairs of a byte lie across two code
    points, their trits are joined.

    Parameters
    ----------
    config : Config
        With a sparse code.

    Members
    -------
    points : In(5 * tile_k / 4)
        The code points, the first along K lowest.
    pairs : Out(ArrayLayout(PairLayout, number of pairs))
        In the order of `pair_places`.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "points": In(config.tile_k // QUAD * config.sparse.bits),
                "pairs": Out(data.ArrayLayout(PairLayout, len(pair_places(config)))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        code, quads = self.config.sparse, []
        for n in range(self.config.tile_k // QUAD):
            m.submodules[f"decoder{n}"] = decoder = SparseDecoder(code)
            m.d.comb += decoder.point.eq(self.points.word_select(n, code.bits))
            quads.append(decoder)

        def trit(place):
            if place is None:
                return Const(0, 1), Const(0, 1)
            quad = quads[place // QUAD]
            return quad.nonzero[place % QUAD], quad.negative[place % QUAD]

        for n, (first, second) in enumerate(pair_places(self.config)):
            if second == first + 1 and second % QUAD:
                pair = quads[first // QUAD].pairs[first % QUAD]
            else:
                bits = zip(trit(first), trit(second), strict=True)
                pair = join_trits(*(Cat(both) for both in bits))
            m.d.comb += self.pairs[n].eq(pair)
        return m
