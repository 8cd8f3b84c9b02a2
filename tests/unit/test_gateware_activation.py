"""Activation memory against a flat array of codes, with writes that straddle steps."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from tamale.config import Config
from tamale.gateware.array import ActivationMemory


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vu_width": 8, "vectors": 2},
        {"vu_width": 32, "vectors": 1},
        {"vu_width": 1, "vectors": 3},
        {"code": "t4", "tile_rows": 1, "vu_width": 8},
        {"code": "t4", "vu_width": 16, "vectors": 1},
    ],
)
def test_activation_memory(changes):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = Config(max_k=64, max_context=16, **changes)
    dut = ActivationMemory(config)
    size = config.act_steps * config.tile_k
    model = np.zeros((config.vectors, size), dtype=np.int64)

    async def check(ctx, steps):
        for step in steps:
            ctx.set(dut.read.step, int(step))
            await ctx.tick()
            codes = ctx.get(dut.read.codes)
            for v in range(config.vectors):
                wanted = model[v, step * config.tile_k : (step + 1) * config.tile_k]
                assert [codes[v][k] for k in range(config.tile_k)] == wanted.tolist()

    async def bench(ctx):
        for _ in range(300):
            count = int(rng.integers(0, config.vu_width + 1))
            first = int(rng.integers(0, size - config.vu_width))
            vector = int(rng.integers(0, config.vectors))
            values = rng.integers(-128, 128, config.vu_width)
            ctx.set(dut.write.en, (1 << count) - 1)
            ctx.set(dut.write.vector, vector)
            ctx.set(dut.write.step, first // config.tile_k)
            ctx.set(dut.write.offset, first % config.tile_k)
            ctx.set(dut.write.data, values.tolist())
            model[vector, first : first + count] = values[:count]
            await ctx.tick()
        ctx.set(dut.write.en, 0)
        await ctx.tick().repeat(2)
        await check(ctx, range(config.act_steps))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
