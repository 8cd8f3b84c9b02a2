"""Sparse code: the order of K steps in beats, the gearbox and the decoder of a row."""

import itertools
import random
from pathlib import Path

import pytest
from amaranth.sim import Simulator
from tamale.codes import PAIRS, SPARSE_CODES
from tamale.config import Config
from tamale.gateware import sparse
from tamale.gateware.activation import pair_places
from tamale.gateware.sparse import Gearbox, RowDecoder
from tamale.gateware.trits import SparseDecoder
from tamale.gearing import Gearing

#: Beat and step in bits: five trits a byte, four, and wider.
SIZES = [(32, 25), (32, 20), (128, 100), (64, 40)]


def simulate(dut, bench, *, clocked=False):
    simulator = Simulator(dut)
    if clocked:
        simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("beat_bits", "step_bits"), SIZES)
def test_gearing(beat_bits, step_bits):
    gearing = Gearing(beat_bits, step_bits)
    for steps in (*range(1, 70), 346):
        sources = gearing.sources(steps)
        assert len(sources) == len(set(sources)) == steps * gearing.step
        assert gearing.beats(steps) == -(-steps * step_bits // beat_bits)
        # No beat is there that nobody asks for, and none is missing.
        assert max(sources) // gearing.beat == gearing.beats(steps) - 1
        # A symbol is taken from the beat that is there, or was the last before it.
        for step in range(steps):
            used = {n // gearing.beat for n in sources[step * gearing.step :][: gearing.step]}
            assert max(used) - min(used) <= 1
        if steps > 1:
            assert sources[: (steps - 1) * gearing.step] == gearing.sources(steps - 1)
    full = gearing.beat
    assert sorted(gearing.sources(full)) == list(range(full * gearing.step))


@pytest.mark.parametrize(("beat_bits", "step_bits"), [(32, 32), (32, 40), (32, 0)])
def test_no_gearing(beat_bits, step_bits):
    with pytest.raises(ValueError, match=f"a step of {step_bits} bits must be shorter than a beat"):
        Gearing(beat_bits, step_bits)


@pytest.mark.gates("sparse")
@pytest.mark.parametrize(("beat_bits", "step_bits"), SIZES[:3])
def test_gearbox(beat_bits, step_bits):
    check_gearbox(Gearbox, Gearing(beat_bits, step_bits), random.getrandbits(32))


def check_gearbox(gearbox, gearing, seed):
    print("seed", seed)
    rng, size = random.Random(seed), gearing.symbol_bits
    beat_bits, step_bits = gearing.beat * size, gearing.step * size
    dut = gearbox(gearing)

    async def bench(ctx):
        for steps in (1, 2, 3, 5, 40, 4, 33, 1, 67):
            beats = [rng.getrandbits(beat_bits) for _ in range(gearing.beats(steps))]
            symbols = [
                beat >> n * size & (1 << size) - 1 for beat in beats for n in range(gearing.beat)
            ]
            taken = 0
            for step in range(steps):
                ctx.set(dut.take, 0)
                for _ in range(rng.choice((0, 0, 1, 3))):
                    ctx.set(dut.beat, rng.getrandbits(beat_bits))
                    await ctx.tick()
                full = ctx.get(dut.full)
                ctx.set(dut.beat, rng.getrandbits(beat_bits) if full else beats[taken])
                sources = gearing.sources(steps)[step * gearing.step :][: gearing.step]
                wanted = sum(symbols[source] << n * size for n, source in enumerate(sources))
                assert ctx.get(dut.step) & (1 << step_bits) - 1 == wanted, (steps, step)
                ctx.set(dut.take, 1)
                ctx.set(dut.last, step == steps - 1)
                taken += not full
                await ctx.tick()
            ctx.set(dut.take, 0)
            assert taken == len(beats)
            # Another code's beats pass through as they are.
            ctx.set(dut.beat, beats[0])
            assert ctx.get(dut.step) == beats[0] and not ctx.get(dut.full)

    simulate(dut, bench, clocked=True)


def take(pair):
    """Return the trits that a `PairLayout` value stands for."""
    return PAIRS[pair.choice + 4 * pair.negative] if pair.nonzero else (0, 0)


def test_decoder():
    code = SPARSE_CODES["s34"]
    dut = SparseDecoder(code)

    async def bench(ctx):
        for point, trits in enumerate(code.decode):
            ctx.set(dut.point, point)
            for n, pair in enumerate(ctx.get(dut.pairs)):
                assert take(pair) == trits[n : n + 2], (point, n)
            nonzero, negative = ctx.get(dut.nonzero), ctx.get(dut.negative)
            for n, trit in enumerate(trits):
                assert nonzero >> n & 1 == (trit != 0)
                assert trit == 0 or negative >> n & 1 == (trit < 0)

    simulate(dut, bench)


@pytest.mark.gates("sparse")
@pytest.mark.parametrize("changes", [{}, {"code": "t4"}, {"bus_width": 64, "tile_rows": 2}])
def test_row_decoder(changes):
    """Every code point beside every other."""
    check_row_decoder(RowDecoder, Config(**({"tile_rows": 1, "sparse_code": "s34"} | changes)))


def check_row_decoder(decoder, config):
    code, count, rng = config.sparse, config.tile_k // 4, random.Random(1)
    dut = decoder(config)

    async def bench(ctx):
        for first in range(count - 1):
            for pair in itertools.product(range(32), repeat=2):
                points = [rng.randrange(32) for _ in range(count)]
                points[first : first + 2] = pair
                trits = sum((code.decode[point] for point in points), ())
                ctx.set(dut.points, sum(point << 5 * n for n, point in enumerate(points)))
                for (a, b), found in zip(pair_places(config), ctx.get(dut.pairs), strict=True):
                    assert take(found) == (trits[a], 0 if b is None else trits[b])

    simulate(dut, bench)


#: Deliberate bugs: (text, what it becomes).
BUGS = [
    ("n % surplus", "(n + 1) % surplus"),
    ("held.eq(0)", "held.eq(held)"),
    ("Mux(held[n], beat[n], after)", "after"),
    ("Mux(held[n], kept[n], beat[n])", "beat[n]"),
    ("Mux(self.full, kept[n + step], after)", "after"),
    ("with m.If(self.take):", "with m.If(self.take | self.full):"),
    ("held[step - 1]", "held[step]"),
    ("second % QUAD:", "first is not None:"),
    ("quad.nonzero[place % QUAD]", "1"),
    ("word_select(n, code.bits)", "word_select(0, code.bits)"),
]


@pytest.mark.parametrize("bug", BUGS, ids=[bug[1][:30] for bug in BUGS])
def test_deliberate_bugs_are_seen(bug):
    source = Path(sparse.__file__).read_text()
    assert bug[0] in source, "the bug does not fit the source any more"
    changed = {"__name__": sparse.__name__}
    exec(compile(source.replace(*bug), sparse.__file__, "exec"), changed)
    with pytest.raises((AssertionError, IndexError)):
        check_gearbox(changed["Gearbox"], Gearing(32, 25), 1)
        check_row_decoder(changed["RowDecoder"], Config(tile_rows=1, sparse_code="s34"))


def test_wrong_code():
    message = r"^code must be a SparseCode such as SPARSE_CODES\['s34'\], not 's34'$"
    with pytest.raises(TypeError, match=message):
        SparseDecoder("s34")
