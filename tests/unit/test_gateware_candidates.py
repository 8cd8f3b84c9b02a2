"""Candidate lists against a sort: ties, worst case, short inputs, padding, clear."""

import random

import numpy as np
import pytest
from amaranth.sim import Simulator
from tamale.config import Config
from tamale.gateware.candidates import Candidates


def expected(items, vector, rows, size):
    kept = [(value, row) for v, row, value in items if v == vector and row < rows]
    return set(sorted(kept, key=lambda item: (-item[0], item[1]))[:size])


def run(config, jobs):
    """Feed jobs of (rows, items) to one device, cleared between them; compare all lists."""
    dut = Candidates(config)

    async def bench(ctx):
        for rows, items in jobs:
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            ctx.set(dut.rows, rows)
            for vector, row, value in items:
                ctx.set(dut.i.payload, {"vector": vector, "row": row, "value": value})
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)
            while not ctx.get(dut.idle):
                await ctx.tick()
            for vector in range(config.vectors):
                ctx.set(dut.vector, vector)
                found = []
                for index in range(ctx.get(dut.count)):
                    ctx.set(dut.index, index)
                    await ctx.tick()
                    found.append((ctx.get(dut.value), ctx.get(dut.row)))
                wanted = expected(items, vector, rows, config.candidates)
                assert len(found) == len(wanted)
                assert set(found) == wanted

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.gates("candidates")
@pytest.mark.parametrize("size, vectors", [(1, 1), (2, 2), (5, 4), (8, 1), (32, 3)])
def test_candidates(size, vectors):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    config = Config(candidates=size, vectors=vectors)
    low, high = -(2**31), 2**31 - 1
    n = 3 * size + 7

    def job(values, rows=2**20 - 1, step=1):
        return rows, [
            (vector, row * step, int(value))
            for row, value in enumerate(values)
            for vector in range(vectors)
        ]

    run(
        config,
        [
            job(range(-n // 2, n // 2)),  # ascending: every value replaces one
            job(range(n, 0, -1)),
            job([7] * n),
            job([low] * n),
            job([high, low] * n),
            job(rng.integers(-3, 3, n)),
            job(rng.integers(low, high, n, endpoint=True), rows=n - 5),
            job(rng.integers(-50, 50, n), step=999),
            job(rng.integers(-50, 50, max(1, size // 2))),
            job([], rows=10),
            job([1, 2, 3], rows=0),
            (n, [
                (int(rng.integers(vectors)), row, int(rng.integers(-4, 4)))
                for row in rng.permutation(n).tolist()
            ]),
        ],
    )  # fmt: skip
