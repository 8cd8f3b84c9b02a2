"""MATVEC against a reference written from the text of ``tamale.isa``."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tamale.config import Config
from tamale.gateware.array import few_tiles
from tamale.gateware.interfaces import SCRATCH_LATENCY, CandidateLayout, IssueLayout
from tamale.isa import Op, Source, encode
from tamale_model.integer import sat32, scale_to_fixed, scaled_accumulator

CONFIG = Config(**json.loads(os.environ["ARRAY_CONFIG"]))
DECODE = np.array(CONFIG.trit_code.decode)
SPARSE = np.array(CONFIG.sparse.decode) if CONFIG.sparse else None


def group_beats(fields):
    """Beats of a group's trits."""
    if fields.get("sparse"):
        return CONFIG.gearing.beats(fields["steps"])
    return fields["planes"] * fields["steps"]


def scale_beats(fields, number):
    """Beats of scales behind a group."""
    if not fields["scaled"]:
        return 0
    count, room = -(-2 * CONFIG.tile_rows // CONFIG.beat_bytes), CONFIG.bus_width // 16
    if fields["aux"]:
        return 2 * count
    return 0 if number % max(1, room // CONFIG.tile_rows) else count


def sparse_steps(fields, beats):
    """Trits [steps, rows, tile_k] of a group in the sparse code."""
    gearing, steps = CONFIG.gearing, fields["steps"]
    taken = [int(next(beats)) for _ in range(gearing.beats(steps))]
    size, mask = gearing.symbol_bits, (1 << gearing.symbol_bits) - 1
    symbols = [word >> n * size & mask for word in taken for n in range(gearing.beat)]
    result = []
    for step in range(steps):
        sources = gearing.sources(steps)[step * gearing.step :][: gearing.step]
        word = sum(symbols[source] << n * size for n, source in enumerate(sources))
        points = [word >> 5 * n & 31 for n in range(CONFIG.lanes // 4)]
        result.append(SPARSE[points].reshape(CONFIG.tile_rows, CONFIG.tile_k))
    return result


def matvec(fields, issue, beats, activations, scratch):
    """Perform MATVEC on ``scratch`` in place.

    Returns
    -------
    list of (vector, row, value)
        What goes to the candidate lists.
    bool
        Whether anything was clipped to 32 bits. A value at a limit counts as clipped.
    """
    beats = iter(beats)
    rows, bus_bytes = CONFIG.tile_rows, CONFIG.beat_bytes
    by_slot = fields["vectors_slot"]
    vectors = issue["slots"] if by_slot else fields["vectors"]
    stride = issue["slot_stride"] if by_slot else fields["vector_stride"]
    tiles, blocks = fields["tiles"], 1
    if fields["source"] == Source.KEYS:
        tiles = -(-(issue["position"] + 1) // rows)
    if fields["source"] == Source.VALUES:
        blocks = -(-(issue["position"] + 1) // CONFIG.tile_k)
    logits, clipped = [], False

    def at_limit(values):
        return bool(np.isin(values, (-(2**31), 2**31 - 1)).any())

    left = []  # of a beat with the scales of several groups

    def scales():
        if not left:
            count = -(-2 * rows // bus_bytes)
            raw = b"".join(int(next(beats)).to_bytes(bus_bytes, "little") for _ in range(count))
            left.extend(np.frombuffer(raw, "<u2").astype(np.int64))
        result = np.array(left[:rows])
        del left[: len(left) if fields["aux"] else rows]
        if len(left) < rows:
            left.clear()
        return result

    for block in range(blocks):
        for tile in range(tiles):
            sums = np.zeros((rows, vectors), dtype=np.int64)
            for group in range(fields["groups"]):
                acc = np.zeros((rows, vectors), dtype=np.int64)
                few = sparse_steps(fields, beats) if fields.get("sparse") else None
                for _ in range(1 if few else fields["planes"]):
                    acc *= 3
                    for step in range(fields["steps"]):
                        if few:
                            trits = few[step]
                        else:
                            raw = int(next(beats)).to_bytes(bus_bytes, "little")
                            trits = DECODE[list(raw)].reshape(rows, CONFIG.tile_k)
                        place = fields["act"] + step
                        place += (block * fields["groups"] + group) * fields["steps"]
                        acc += trits @ activations[:vectors, place].T
                result, extra = sat32(acc), None
                if fields["scaled"]:
                    result = scaled_accumulator(acc, scales()[:, None])
                    clipped |= at_limit(result)
                    if fields["aux"]:
                        extra = scale_to_fixed(scales())
                if fields["to_candidates"] and group:
                    clipped |= at_limit(sat32(sums + result))
                sums = result if group == 0 else sat32(sums + result)
                first = fields["dst"] + tile * rows
                if fields["to_candidates"]:
                    continue
                for v in range(vectors):
                    here = slice(first + v * stride, first + v * stride + rows)
                    old = 0 if group == 0 and block == 0 else scratch[here]
                    scratch[here] = sat32(old + result[:, v])
                    clipped |= at_limit(scratch[here])
                if extra is not None:
                    clipped |= at_limit(extra)
                    scratch[first + vectors * stride : first + vectors * stride + rows] = extra
            if fields["to_candidates"]:
                logits += [
                    (v, tile * rows + r, int(sums[r, v]))
                    for v in range(vectors)
                    for r in range(rows)
                ]
    assert next(beats, None) is None
    return logits, clipped


def beats_of(fields, issue, rng, kind, codes):
    """Return random beats: ``kind`` 0, 1, -1 for equal trits, None for random bytes."""
    tiles, blocks = fields["tiles"], 1
    if fields["source"] == Source.KEYS:
        tiles = issue["position"] // CONFIG.tile_rows + 1
    if fields["source"] == Source.VALUES:
        blocks = issue["blocks"] + 1
    result = []
    for number in range(tiles * blocks * fields["groups"]):
        for _ in range(group_beats(fields)):
            if kind is None or fields.get("sparse"):
                raw = rng.integers(0, 256, CONFIG.beat_bytes, dtype=np.uint8).tobytes()
            else:
                code = CONFIG.trit_code
                raw = bytes([code.encode[(kind,) * code.trits_per_byte]]) * CONFIG.beat_bytes
            result.append(int.from_bytes(raw, "little"))
        for _ in range(scale_beats(fields, number)):
            raw = rng.choice(codes, CONFIG.beat_bytes // 2).astype("<u2").tobytes()
            result.append(int.from_bytes(raw, "little"))
    return result


class Bench:
    def __init__(self, dut, rng):
        self.dut, self.rng = dut, rng
        self.scratch = rng.integers(-(2**31), 2**31, CONFIG.scratchpad_elements)
        self.activations = np.zeros((CONFIG.vectors, CONFIG.act_steps, CONFIG.tile_k), np.int64)
        self.cycles = 0
        self.counts = {"beat": 0, "stall_input": 0, "stall_drain": 0}
        self.beat_cycles = []

    async def reset(self):
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        for name in ("unit__issue__valid", "i__valid", "candidates__ready", "write__en"):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        dut.rst.value = 0

    async def load(self, codes):
        """Write activation memory: [vectors, act_steps, tile_k]."""
        dut, width = self.dut, CONFIG.vu_width
        self.activations = codes
        for vector, flat in enumerate(codes.reshape(CONFIG.vectors, -1)):
            for first in range(0, len(flat), width):
                part = flat[first : first + width]
                dut.write__en.value = (1 << len(part)) - 1
                dut.write__vector.value = vector
                dut.write__step.value = first // CONFIG.tile_k
                dut.write__offset.value = first % CONFIG.tile_k
                dut.write__data.value = sum((int(c) & 255) << 8 * n for n, c in enumerate(part))
                await FallingEdge(dut.clk)
        dut.write__en.value = 0

    async def run(self, fields, issue, beats, stall=0.0, hold=0.0, late=()):
        """Run one command and compare; ``stall`` and ``hold`` are chances per cycle, ``late``
        the numbers of beats that come 60 cycles after the one before.

        Without beats, nothing must happen.
        """
        dut, rng, width = self.dut, self.rng, CONFIG.vu_width
        expected = self.scratch.copy()
        logits, clips = [], False
        if beats:
            logits, clips = matvec(fields, issue, beats, self.activations, expected)
        word = encode(Op.MATVEC, **fields)
        payload = IssueLayout.const({"command": word, **issue}).as_bits()
        dut.unit__issue__payload.value = payload
        dut.unit__issue__valid.value = 1
        assert int(dut.unit__issue__ready.value)
        assert not int(dut.scratch_write__en.value) and not int(dut.scratch_write__addr.value)
        assert not int(dut.scratch_write__data.value)
        await FallingEdge(dut.clk)
        dut.unit__issue__valid.value = 0
        dut.unit__issue__payload.value = random.getrandbits(200)
        given, got, pending, cycles, since = 0, [], None, 0, 0
        asked = [None] * (SCRATCH_LATENCY - 1)
        clipped = False
        self.beat_cycles = []
        while True:
            cycles += 1
            assert cycles < 100 * len(beats) + 5000, "no end"
            data = rng.integers(-(2**31), 2**31, width) if pending is None else pending
            dut.scratch_read__data.value = sum(
                (int(value) & 0xFFFFFFFF) << 32 * n for n, value in enumerate(data)
            )
            pending = asked.pop(0)
            asked.append(None)
            if int(dut.scratch_read__en.value):
                first = int(dut.scratch_read__addr.value) * width
                asked[-1] = self.scratch[first : first + width].copy()
            enable = int(dut.scratch_write__en.value)
            if enable:
                first = int(dut.scratch_write__addr.value) * width
                data = int(dut.scratch_write__data.value)
                for n in range(width):
                    if enable >> n & 1:
                        value = data >> 32 * n & 0xFFFFFFFF
                        self.scratch[first + n] = value - (value >> 31 << 32)
            take = rng.random() >= hold
            dut.candidates__ready.value = int(take)
            if take and int(dut.candidates__valid.value):
                item = CandidateLayout.from_bits(int(dut.candidates__payload.value))
                got.append((item.vector, item.row, item.value))
            since += 1
            valid = given < len(beats) and rng.random() >= stall
            valid = valid and (given not in late or since > 60)
            ready = int(dut.i__ready.value)
            dut.i__valid.value = int(valid)
            dut.i__payload.value = beats[given] if valid else random.getrandbits(32)
            if valid and ready:
                given, since = given + 1, 0
                self.beat_cycles.append(cycles)
            clipped |= bool(int(dut.saturated.value))
            self.counts["beat"] += valid and ready
            self.counts["stall_input"] += ready and not valid
            if int(dut.unit__done_valid.value):
                break
            await FallingEdge(dut.clk)
        dut.i__valid.value = 0
        what = f"{fields} {issue} stall {stall} hold {hold} seed {cocotb.RANDOM_SEED}"
        assert given == len(beats), what
        assert got == logits, what
        assert clipped == clips, what
        wrong = np.flatnonzero(self.scratch != expected)
        assert not len(wrong), (
            f"{what}: elements {wrong[:20].tolist()} are {self.scratch[wrong[:20]].tolist()}, "
            f"not {expected[wrong[:20]].tolist()}"
        )
        await FallingEdge(dut.clk)
        return cycles


def command(rng, **given):
    """Return random fields and issue of a MATVEC that fits the configuration; ``given`` wins."""
    rows, unit = CONFIG.tile_rows, max(CONFIG.vu_width, CONFIG.tile_rows)
    pick = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
    fields = {
        "act": pick(0, 3),
        "tiles": pick(1, 9),
        "groups": int(rng.choice([1, 1, 2, 3])),
        "planes": pick(1, CONFIG.max_planes),
        "steps": int(rng.choice([1, 1, 2, 3, 7])),
        "vectors": pick(1, CONFIG.vectors),
        "vectors_slot": pick(0, 1),
        "scaled": pick(0, 1),
        "aux": 0,
        "to_candidates": int(rng.random() < 0.3),
        "source": int(rng.choice([Source.LINEAR, Source.KEYS, Source.VALUES])),
        "head": pick(0, 255),
        "fence": pick(0, 1),
    }
    if fields["scaled"]:
        fields["aux"] = pick(0, 1)
    if CONFIG.sparse and rng.random() < 0.7:
        # Long groups too, so that what is kept comes round.
        fields |= {"sparse": 1, "steps": int(rng.choice([1, 2, 3, 4, 7, 8, 33, 70]))}
    fields.update(given)
    if fields.get("sparse"):
        fields["source"] = Source.LINEAR
        room = CONFIG.act_steps - fields["act"]
        fields["steps"] = min(fields["steps"], room)
        fields["groups"] = min(fields["groups"], room // max(1, fields["steps"]))
    if fields["source"] == Source.VALUES:
        fields["to_candidates"] = 0
    if fields["aux"]:
        fields["groups"] = 1
    if fields["to_candidates"] and not CONFIG.group_size:
        fields["groups"] = 1
    position = pick(0, CONFIG.max_context - 1)
    if fields["source"] == Source.KEYS:
        position %= 9 * rows
    room = (CONFIG.act_steps - fields["act"]) // (fields["steps"] * fields["groups"])
    position = min(position, min(room, 9) * CONFIG.tile_k - 1)
    issue = {
        "slots": pick(1, CONFIG.vectors),
        "position": position,
        "blocks": position // CONFIG.tile_k,
        "digit": position % CONFIG.tile_k,
        "slot": pick(0, CONFIG.vectors - 1),
    }
    tiles = position // rows + 1 if fields["source"] == Source.KEYS else fields["tiles"]
    stride = -(-tiles * rows // unit) * unit + unit * pick(0, 2)
    fields["vector_stride"] = issue["slot_stride"] = stride
    if fields["vectors_slot"]:
        fields["vector_stride"] = pick(0, 2**17 - 1)
    else:
        issue["slot_stride"] = pick(0, 2**17 - 1)
    free = CONFIG.scratchpad_elements - (CONFIG.vectors + 1) * stride
    fields["dst"] = unit * pick(0, free // unit)
    return fields, issue


def start(dut):
    random.seed(cocotb.RANDOM_SEED)
    cocotb.log.info("seed %s", cocotb.RANDOM_SEED)
    return Bench(dut, np.random.default_rng(cocotb.RANDOM_SEED))


def random_codes(rng):
    return rng.integers(-127, 128, (CONFIG.vectors, CONFIG.act_steps, CONFIG.tile_k))


@cocotb.test()
async def random_commands(dut):
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    await bench.load(random_codes(rng))
    every = np.arange(1 << 16)
    for n in range(int(os.environ.get("ARRAY_COMMANDS", "60"))):
        fields, issue = command(rng)
        # Most scales where results are neither zero nor saturated, some anywhere.
        usual = (rng.integers(6, 18, 500) << 11) + rng.integers(0, 2048, 500)
        codes = usual if n % 3 else every
        beats = beats_of(fields, issue, rng, None, codes)
        stall, hold = (float(rng.choice([0, 0, 0.2, 0.7])) for _ in range(2))
        await bench.run(fields, issue, beats, stall, hold)


@cocotb.test()
async def extremes(dut):
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    codes = np.array([0, 1, 0x7FF, 0x800, 12 << 11, 0xF800, 0xFFFF])
    full = CONFIG.max_k // CONFIG.tile_k
    for code in (127, -127, -128):
        await bench.load(np.full((CONFIG.vectors, CONFIG.act_steps, CONFIG.tile_k), code))
        for kind in (0, 1, -1):
            for scaled in (0, 1):
                fields, issue = command(
                    rng, act=0, steps=full, planes=CONFIG.max_planes, groups=1, tiles=2,
                    scaled=scaled, aux=scaled, to_candidates=0, source=Source.LINEAR,
                    vectors=CONFIG.vectors, vectors_slot=0, sparse=0,
                )  # fmt: skip
                await bench.run(fields, issue, beats_of(fields, issue, rng, kind, codes))
        # Sums over groups beyond int32.
        fields, issue = command(
            rng, act=0, steps=1, planes=CONFIG.max_planes, groups=4, tiles=3, scaled=1, aux=0,
            source=Source.LINEAR, sparse=0,
        )  # fmt: skip
        await bench.run(fields, issue, beats_of(fields, issue, rng, 1, np.array([0xFFFF, 0xE000])))
    # A count of zero takes no beat and never hangs.
    for name in ("steps", "planes", "groups", "tiles", "vectors"):
        fields, issue = command(rng, vectors_slot=0, source=Source.LINEAR, aux=0, scaled=0)
        fields[name] = 0
        if name == "planes":
            fields["sparse"] = 0
        await bench.run(fields, issue, [])


@cocotb.test()
async def rate(dut):
    """With beats always there, tiles follow each other without a gap."""
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    await bench.load(random_codes(rng))
    drain = CONFIG.vectors * max(1, CONFIG.tile_rows // CONFIG.vu_width)
    codes = np.arange(1 << 16)
    plain = dict(
        act=0, groups=1, scaled=0, aux=0, to_candidates=0, vectors=CONFIG.vectors, vectors_slot=0,
        source=Source.LINEAR, sparse=0,
    )  # fmt: skip

    async def measure(what, tiles, **changes):
        fields, issue = command(rng, **{**plain, "tiles": tiles, **changes})
        beats = beats_of(fields, issue, rng, None, codes)
        cycles = await bench.run(fields, issue, beats)
        taken = bench.beat_cycles
        blocks = issue["blocks"] + 1 if fields["source"] == Source.VALUES else 1
        per_tile = (taken[-1] - taken[0] + 1) / (tiles * blocks)
        cocotb.log.info(
            "RATE %s: %.2f cycles per tile; first beat in cycle %d, done %d after the last",
            what, per_tile, taken[0], cycles - taken[-1],
        )  # fmt: skip
        return per_tile

    row = CONFIG.max_k // CONFIG.tile_k
    assert await measure("whole row", 8, steps=row, planes=1) == max(row, drain)
    scaled = await measure("whole row, scaled", 8, steps=row, planes=1, scaled=1)
    assert scaled <= max(row + CONFIG.scale_beats, drain + 12)
    many = few_tiles(CONFIG)
    assert await measure("values", many, steps=1, planes=3, source=Source.VALUES) <= max(3, drain)
    few = await measure("values, few tiles", 2, steps=1, planes=3, source=Source.VALUES)
    assert few <= drain + 12
    if CONFIG.sparse:
        sparse = await measure("whole row, sparse", 8, steps=row, planes=1, sparse=1)
        assert row - 1 <= sparse <= max(row, drain)
    await measure("keys of 64, scaled", 8, steps=-(-64 // CONFIG.tile_k), planes=3, scaled=1, aux=1)
    await measure("head", 8, steps=row, planes=CONFIG.max_planes, scaled=1, to_candidates=1)
    await measure("head of one plane", 8, steps=row, planes=1, scaled=1, to_candidates=1)


@cocotb.test()
async def back_to_back(dut):
    """Short drains that follow each other as closely as they may, and come back to their words."""
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    await bench.load(random_codes(rng))
    for tiles in (1, 2, 3, 5, 7, 8, 9, 15, 16, 17):
        for vectors in {1, CONFIG.vectors}:
            fields, issue = command(
                rng, act=0, steps=1, planes=1 + tiles % 2, groups=1, tiles=tiles, scaled=0, aux=0,
                to_candidates=0, source=Source.VALUES, vectors=vectors, vectors_slot=0, sparse=0,
            )  # fmt: skip
            issue["blocks"] = min(5, CONFIG.act_steps - 1)
            issue["position"] = issue["blocks"] * CONFIG.tile_k
            await bench.run(fields, issue, beats_of(fields, issue, rng, None, np.array([0])))
            fields["source"] = Source.LINEAR
            fields["groups"] = 4
            await bench.run(fields, issue, beats_of(fields, issue, rng, None, np.array([0])))


@cocotb.test(skip=CONFIG.sparse is None)
async def sparse_lengths(dut):
    """Groups of every length: the last K step needs a beat, or comes when there are no more."""
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    await bench.load(random_codes(rng))
    for steps in range(1, CONFIG.gearing.beat + 2):
        fields, issue = command(
            rng, act=0, sparse=1, steps=steps, groups=1, tiles=2, scaled=0, aux=0, to_candidates=0,
            source=Source.LINEAR,
        )  # fmt: skip
        beats = beats_of(fields, issue, rng, None, np.array([0]))
        await bench.run(fields, issue, beats, stall=0.3 * (steps % 2))


@cocotb.test()
async def rounds_to_the_limit(dut):
    """Half a unit below 2**31: what rounds up must not overflow."""
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    codes = np.full((CONFIG.vectors, CONFIG.act_steps, CONFIG.tile_k), 127)
    steps, code = -(-74 // CONFIG.tile_k), CONFIG.trit_code
    for place in (73, steps * CONFIG.tile_k + 73):
        codes[:, place // CONFIG.tile_k, place % CONFIG.tile_k] = 1
    await bench.load(codes)
    # (127 * (72 * 121 + 60) + 85) * 3855 = 2**32 - 1, and the exponent halves it.
    weights = np.zeros((5, steps * CONFIG.tile_k), int)
    for places, digits in ((slice(72), (1,) * 5), (72, (1, -1, 1, -1, 0)), (73, (1, 0, 0, 1, 1))):
        weights[:, places] = np.array(digits).reshape((5, -1) if places == slice(72) else 5)
    scale = (22 << 11) + 3855 - 2048
    # One group alone, and one after its opposite: what went too far would come back one off.
    for signs, wanted in (((1,), 2**31 - 1), ((-1,), -(2**31) + 1), ((-1, 1), 0)):
        beats, scaled = [], {"scaled": 1, "aux": 0}
        for group, sign in enumerate(signs):
            for row in (sign * weights).reshape(-1, CONFIG.tile_columns, code.trits_per_byte):
                raw = bytes(code.encode[tuple(int(t) for t in trits)] for trits in row)
                beats.append(int.from_bytes(raw * CONFIG.tile_rows, "little"))
            raw = np.full(CONFIG.beat_bytes // 2, scale).astype("<u2").tobytes()
            beats += [int.from_bytes(raw, "little")] * scale_beats(scaled, group)
        fields, issue = command(
            rng, act=0, steps=steps, planes=5, tiles=1, scaled=1, aux=0, vectors_slot=0,
            vectors=CONFIG.vectors, to_candidates=0, source=Source.LINEAR, sparse=0,
        )  # fmt: skip
        fields["groups"] = len(signs)
        await bench.run(fields, issue, beats)
        first = bench.scratch[fields["dst"]]
        assert first == wanted, first


@cocotb.test()
async def late_scales(dut):
    """Scales long after the trits that they belong to, or the next trits long after them."""
    bench = start(dut)
    rng = bench.rng
    await bench.reset()
    await bench.load(random_codes(rng))
    for aux in (0, 1):
        for to_candidates in (0, 1):
            fields, issue = command(
                rng, act=0, steps=2, planes=2, groups=1, tiles=9, scaled=1, aux=aux,
                to_candidates=to_candidates, source=Source.LINEAR, sparse=0,
            )  # fmt: skip
            usual = (rng.integers(6, 18, 500) << 11) + rng.integers(0, 2048, 500)
            beats = beats_of(fields, issue, rng, None, usual)
            # The first beat of scales, the trits behind them, ...
            starts = [0]
            for number in range(9):
                starts.append(starts[-1] + 4 + scale_beats(fields, number))
            late = {4, starts[2], starts[3] + 4, starts[6] - 1}
            await bench.run(fields, issue, beats, late=late)
