"""Blocks that `tamale synth` offers: each stands in its harness. Nothing is synthesised here."""

import re

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from tamale import config as configuration
from tamale_fpga import carry
from tamale_fpga.blocks import BLOCKS
from tamale_fpga.harness import Harness
from tamale_sim.runner import to_verilog

CONFIG = configuration.load("tiny").replace(memory_bytes=1 << 25)


@pytest.mark.parametrize("name", BLOCKS)
def test_converts(name):
    config = CONFIG
    if name in ("sparse-decoder", "gearbox"):
        with pytest.raises(ValueError, match="configuration tiny has no sparse code"):
            BLOCKS[name](config)
        config = config.replace(sparse_code="s34", tile_rows=1)
    block = BLOCKS[name](config)
    text = to_verilog(Harness(block), "top")
    top = re.search(r"^module top\((.*?)\);", text, re.MULTILINE | re.DOTALL).group(1)
    ports = {port.strip() for port in top.split(",")}
    # The decoder has no registers, but the harness has.
    assert ports == {"clk", "rst", "shift_in", "fold_out"}


class _Sum(wiring.Component):
    a: In(3)
    b: In(2)
    total: Out(4)
    flag: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [self.total.eq(self.a + self.b), self.flag.eq(self.a == self.b)]
        return m


def test_every_port_counts():
    """Each input bit reaches the block, each output bit the pin."""
    bits = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1]
    folded = []

    async def bench(ctx):
        for bit in bits:
            ctx.set(harness.shift_in, bit)
            folded.append(ctx.get(harness.fold_out))
            await ctx.tick()
        for _ in range(4):
            folded.append(ctx.get(harness.fold_out))
            await ctx.tick()

    harness = Harness(_Sum())
    simulator = Simulator(harness)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

    expected, shift = [], 0
    for bit in bits:
        shift = (shift << 1 | bit) & 31
        a, b = shift & 7, shift >> 3
        expected.append((bin(a + b).count("1") + (a == b)) % 2)
    # A cycle into the shift register, one to the outputs' register, one for each level of the fold.
    latency = next(i for i in range(6) if folded[i + 1 :][: len(expected)] == expected)
    assert latency <= 4


def test_counters_are_hidden_from_the_mapper():
    cells = ("\\CCU2C \\step_sum_cell0", "\\CCU2C \\sum_cell0", "$dff \\x_sum_cell1")
    text = "".join(f"  cell {cell}\n" for cell in cells)
    hidden = text.replace("CCU2C \\step", "TAMALE_COUNTER \\step")
    assert carry.hide_counters(text) == (hidden, 1)
    pins = {"connections": {"CIN": [5]}, "port_directions": {"CIN": "input"}}
    cells = {"a": {"type": "TAMALE_COUNTER", **pins}, "b": {"type": "LUT4"}}
    design = {"modules": {"top": {"cells": cells}, "TAMALE_COUNTER": {"cells": {}}}}
    assert carry.show_counters(design) == 1
    assert cells["a"]["type"] == "CCU2C" and list(design["modules"]) == ["top"]
    assert cells["a"]["connections"] == {"CIN": [5], "COUT": ["x"]}
    assert cells["a"]["port_directions"] == {"CIN": "input", "COUT": "output"}
