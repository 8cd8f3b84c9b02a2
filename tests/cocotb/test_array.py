"""The ternary array with its activation memory, on both simulators."""

import json
import sys
from pathlib import Path

import pytest
from tamale.config import Config
from tamale_fpga.engine import Engine
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))


CONFIGS = {
    "default": dict(max_k=260, max_context=128),
    "tiny": dict(vectors=1, vu_width=2),
    "wide_words": dict(code="t4", tile_rows=1, vectors=2, vu_width=8),
    "wide_bus": dict(bus_width=64, tile_rows=8, vectors=8, vu_width=4),
    "serial": dict(bus_width=64, code="t4", tile_rows=2, vu_width=1),
    "groups": dict(tile_rows=2, vectors=3, vu_width=8, group_size=64),
    "one_row": dict(tile_rows=1, vectors=5, group_size=64),
    "sparse": dict(sparse_code="s34", tile_rows=1, vectors=2, max_k=1300),
    "sparse_rows": dict(
        sparse_code="s34", code="t4", tile_rows=2, vectors=3, group_size=64, max_k=1300
    ),
    "sparse_wide": dict(sparse_code="s34", bus_width=128, tile_rows=2, vectors=2, max_k=2900),
    "many_rows": dict(bus_width=64, tile_rows=8, vectors=1, vu_width=8, group_size=64),
}


def simulate(name, simulator, commands):
    values = {"max_k": 130, "max_context": 64, "scratchpad_elements": 4096, **CONFIGS[name]}
    component = Engine(Config(**values))
    simulation = runner.build(component, f"array_{name}", simulator=simulator)
    env = {"ARRAY_CONFIG": json.dumps(values), "ARRAY_COMMANDS": commands}
    return simulation.run("cocotb_array", env=env)


@pytest.mark.gates("array")
@pytest.mark.parametrize("name", ["tiny", "groups", "one_row", "sparse_rows"])
def test_icarus(name):
    simulate(name, "icarus", 8)


@pytest.mark.gates("array")
@pytest.mark.parametrize("name", ["default", "groups", "wide_words", "sparse"])
def test_verilator(name):
    simulate(name, "verilator", 60)


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
def test_campaign(name):
    simulate(name, "verilator", 2000)
