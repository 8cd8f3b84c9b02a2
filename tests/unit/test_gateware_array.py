"""The array's walk over a command, where it needs no reference: see tests/cocotb/test_array.py."""

from amaranth.sim import Simulator
from tamale.config import Config
from tamale.gateware.interfaces import IssueLayout
from tamale.isa import Op, encode
from tamale_fpga.engine import Engine


def test_more_groups_than_k_steps_in_a_row():
    """Groups of 64 weights where a K step has 160: each takes a step, mostly empty."""
    config = Config(
        bus_width=256, tile_rows=1, vectors=1, vu_width=1, max_k=2560, scratchpad_elements=1024,
        max_context=64, max_planes=1, key_planes=1, value_planes=1, head_planes=1,
    )  # fmt: skip
    groups, tiles = config.max_k // 64, 2
    assert groups > config.max_k // config.tile_k
    engine = Engine(config)
    word = encode(Op.MATVEC, tiles=tiles, groups=groups, steps=1, planes=1, vectors=1)
    taken = 0

    async def bench(ctx):
        nonlocal taken
        ctx.set(engine.unit.issue.payload, IssueLayout.const({"command": word, "slots": 1}))
        ctx.set(engine.unit.issue.valid, 1)
        await ctx.tick()
        ctx.set(engine.unit.issue.valid, 0)
        ctx.set(engine.i.valid, 1)
        for _ in range(4000):
            if ctx.get(engine.unit.done_valid):
                return
            taken += ctx.get(engine.i.ready)
            await ctx.tick()
        raise AssertionError("no end")

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert taken == groups * tiles
