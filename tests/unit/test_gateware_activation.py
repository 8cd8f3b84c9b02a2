"""Activation memory against a flat array of codes: every sum of every pair, every vector."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from tamale.codes import PAIRS
from tamale.config import Config
from tamale.gateware.activation import ActivationMemory, ReadPlaces, pair_places

CASES = {
    "default": ({}, (False, 4)),
    "preset": ({"tile_rows": 1}, (True, 1)),
    "two_rows": ({"tile_rows": 2, "vectors": 6}, (False, 4)),
    "one_by_one": ({"vu_width": 1, "vectors": 3, "bus_width": 64}, (True, 1)),
    "even": ({"code": "t4", "tile_rows": 1}, (True, 1)),
    "even_fast": ({"code": "t4", "tile_rows": 1, "vu_width": 8}, (True, 2)),
}


# While something is written, nothing is read, and the outputs may be anything.
@pytest.mark.gates("activation", observed=True)
@pytest.mark.parametrize("name", CASES)
def test_activation_memory(name):
    changes, shape = CASES[name]
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = Config(max_k=16, max_context=16, **changes)
    dut = ActivationMemory(config)
    assert (dut.aligned, dut.interleave) == shape
    width, tile_k, places = config.vu_width, config.tile_k, pair_places(config)
    model = np.zeros((config.vectors, config.act_steps, tile_k), dtype=np.int64)

    async def write(ctx, vector, first, codes):
        """Write whole K steps as the vector unit does, with pauses."""
        flat, pause = codes.reshape(-1), rng.choice([0, 0, 0.3])
        for at in range(0, len(flat), width):
            part = flat[at : at + width]
            ctx.set(dut.write.en, (1 << len(part)) - 1)
            ctx.set(dut.write.vector, vector)
            ctx.set(dut.write.step, (first + at // tile_k) % config.act_steps)
            ctx.set(dut.write.offset, at % tile_k)
            ctx.set(dut.write.data, [int(c) for c in part] + [99] * (width - len(part)))
            await ctx.tick()
            while rng.random() < pause:
                ctx.set(dut.write.en, 0)
                await ctx.tick()
        ctx.set(dut.write.en, 0)
        await ctx.tick().repeat(4)

    async def check(ctx, steps):
        for step in steps:
            choices = rng.integers(0, 4, (config.tile_rows, len(places)))
            bits = ReadPlaces(config).step_bits
            ctx.set(dut.read.step, sum(int(step) << bits * n for n in range(len(places))))
            flat = enumerate(choices.reshape(-1))
            ctx.set(dut.read.choice, sum(int(choice) << 2 * n for n, choice in flat))
            await ctx.tick().repeat(3 + (config.vectors - 1) // 4)
            for v in range(config.vectors):
                for r in range(config.tile_rows):
                    for n, (a, b) in enumerate(places):
                        first, second = PAIRS[choices[r, n]]
                        wanted = first * model[v, step, a]
                        wanted += second * model[v, step, b] if b is not None else 0
                        got = ReadPlaces(config).sum(dut.read.sums, v, r, n)
                        assert ctx.get(got) == wanted, (v, r, n, step)

    async def bench(ctx):
        for _ in range(30):
            vector = int(rng.integers(0, config.vectors + 1))
            count = int(rng.integers(1, 6))
            first = int(rng.integers(0, config.act_steps))
            codes = rng.integers(-128, 128, (count, tile_k))
            await write(ctx, vector, first, codes)
            if vector < config.vectors:
                model[vector, (first + np.arange(count)) % config.act_steps] = codes
        await ctx.tick().repeat(3)
        await check(ctx, rng.integers(0, config.act_steps, 50))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_every_code_has_a_place():
    for changes in ({}, {"tile_rows": 1}, {"tile_rows": 2}, {"code": "t4"}):
        config = Config(**changes)
        places = [k for pair in pair_places(config) for k in pair if k is not None]
        assert sorted(places) == list(range(config.tile_k))
