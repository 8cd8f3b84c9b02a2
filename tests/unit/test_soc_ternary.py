"""The engine beside a core: sums of rows from software and from a flash, scaled numbers."""

import numpy as np
import pytest
from amaranth.sim import Simulator
from tamale.codes import CODES
from tamale.soc.ternary import BLOCK, Scaler, TernaryEngine
from tamale_model import integer

SEED = 11
CODE = CODES["t5"]
OFFSET = {register.name: register.offset // 4 for register in BLOCK.registers}
WORDS, WIDTH = 64, 25


async def access(ctx, bus, name, data=None, patience=4000):
    """Write a register, or read it, and wait."""
    ctx.set(bus.adr, OFFSET[name])
    ctx.set(bus.we, data is not None)
    ctx.set(bus.dat_w, (data or 0) & 0xFFFFFFFF)
    ctx.set(bus.sel, 15)
    ctx.set(bus.cyc, 1)
    ctx.set(bus.stb, 1)
    for _ in range(patience):
        await ctx.tick()
        if ctx.get(bus.ack):
            break
    else:
        raise AssertionError(f"{name} is not answered")
    value = ctx.get(bus.dat_r)
    ctx.set(bus.cyc, 0)
    ctx.set(bus.stb, 0)
    await ctx.tick()
    return value


def signed(value):
    return value - (1 << 32) if value >> 31 else value


def expected(rows, planes, size, codes, act):
    """Sums of rows of bytes [rows, planes * size]."""
    trits = np.array(CODE.decode)[rows].reshape(len(rows), planes, -1)
    weights = (trits * 3 ** np.arange(planes)[::-1, None]).sum(axis=1)
    return (weights @ codes[5 * act :][: 5 * size]).tolist()


async def prepare(ctx, bus, codes, *, planes, size, scaled=0):
    await access(ctx, bus, "codes", 0)
    for code in codes:
        await access(ctx, bus, "code", int(code))
    shape = size | planes << 11 | scaled << 14 | planes * size // 4 << 15
    await access(ctx, bus, "shape", shape)


def simulate(dut, bench, *others):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    for other in others:
        simulator.add_testbench(other, background=True)
    simulator.run()


@pytest.mark.parametrize(("planes", "size"), [(1, 4), (3, 4), (5, 52), (2, 8)])
def test_fed_rows(planes, size):
    rng = np.random.default_rng(SEED)
    dut = TernaryEngine(WORDS, WIDTH)
    codes = rng.integers(-127, 128, 5 * WORDS)
    rows = rng.integers(0, 256, (5, planes * size))

    async def bench(ctx):
        await prepare(ctx, dut.bus, codes, planes=planes, size=size)
        for act in (0, 7):
            await access(ctx, dut.bus, "rows", act)
            for row, wanted in zip(rows, expected(rows, planes, size, codes, act), strict=True):
                for word in row.astype("u1").view("<u4"):
                    await access(ctx, dut.bus, "feed", int(word))
                assert signed(await access(ctx, dut.bus, "sum")) == wanted

    simulate(dut, bench)


@pytest.mark.parametrize(
    ("planes", "size", "scaled"), [(1, 52, 0), (3, 4, 0), (5, 52, 1), (1, 4, 1), (1, 4, 0)]
)
def test_streamed_rows(planes, size, scaled):
    """Rows one behind the other, read at once or late; nothing is asked for too early."""
    rng = np.random.default_rng(SEED + 1)
    dut = TernaryEngine(WORDS, WIDTH)
    codes = rng.integers(-127, 128, 5 * WORDS)
    count, body = 11, planes * size
    rows = rng.integers(0, 256, (count, body)).astype("u1")
    scales = rng.integers(0, 1 << 32, count)
    stream, asked = b"", []
    for n, row in enumerate(rows):
        stream += row.tobytes()
        if scaled and n % 2 == 0:
            stream += int(scales[n]).to_bytes(4, "little")

    async def flash(ctx):
        """Bytes come some cycles after they were asked for, every other cycle."""
        while True:
            if ctx.get(dut.want):
                ctx.set(dut.issued, 1)
                await ctx.tick()
                ctx.set(dut.issued, 0)
                asked.append(0)
                await ctx.tick()
            else:
                await ctx.tick()

    async def deliver(ctx):
        at, waiting = 0, []
        while True:
            waiting.append(len(asked))
            ready = waiting[-4] if len(waiting) > 3 else 0
            if ready > at:
                ctx.set(dut.byte, stream[at])
                ctx.set(dut.valid, 1)
                at += 1
                await ctx.tick()
                waiting.append(len(asked))
                ctx.set(dut.valid, 0)
            await ctx.tick()

    async def bench(ctx):
        wanted = expected(rows, planes, size, codes, 3)
        await prepare(ctx, dut.bus, codes, planes=planes, size=size, scaled=scaled)
        await access(ctx, dut.bus, "stream", 0x1234)
        await access(ctx, dut.bus, "rows", 3 | count << 11)
        for n, total in enumerate(wanted):
            for _ in range(int(rng.choice([0, 0, 50, 300]))):
                await ctx.tick()
            assert signed(await access(ctx, dut.bus, "sum")) == total
            if scaled and n % 2 == 0:
                assert await access(ctx, dut.bus, "scales") == scales[n]
        for _ in range(100):
            await ctx.tick()
        assert len(asked) == len(stream)

    simulate(dut, bench, flash, deliver)


def test_scaler():
    rng = np.random.default_rng(SEED + 2)
    dut = Scaler()

    async def bench(ctx):
        for _ in range(600):
            value = int(rng.integers(-(2**31), 2**31) >> int(rng.integers(0, 31)))
            factor = int(rng.integers(-(2**17), 2**17) >> int(rng.integers(0, 17)))
            if rng.random() < 0.1:
                value, factor = (
                    int(rng.choice([-(2**31), 2**31 - 1])),
                    int(rng.choice([-(2**17), 2**17 - 1])),
                )
            shift = int(rng.integers(0, 64))
            ctx.set(dut.value, value)
            ctx.set(dut.factor, factor)
            ctx.set(dut.shift, shift)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            await ctx.tick()
            for _ in range(12):
                if ctx.get(dut.ready):
                    break
                await ctx.tick()
            wanted = int(integer.sat32(integer.round_shift(value * factor, shift)))
            assert ctx.get(dut.ready)
            assert ctx.get(dut.result) == wanted, (value, factor, shift)

    simulate(dut, bench)
