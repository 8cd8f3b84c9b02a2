"""Vector unit with scratchpad and scalars against the golden machine."""

import json
import sys
from pathlib import Path

import pytest
from tamale.config import Config
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))

from vector_bench import VectorBench  # noqa: E402

SMALL = dict(scratchpad_elements=1024, max_context=256, max_k=256, vectors=2)


def simulate(simulator, commands=150, **changes):
    changes = SMALL | changes
    config = Config(**changes)
    design = VectorBench(config)
    if not runner.on_netlists():
        # Spelled so that the runner does not make `always_comb` of it for Icarus, which in version
        # 11 evaluates the sequencer for ever then; the test wakes the units instead.
        design = runner.to_verilog(design, "vector_bench").replace("always @*", "always @(*)")
    simulation = runner.build(design, "vector_bench", simulator=simulator)
    env = {"CONFIG": json.dumps(changes), "COMMANDS": commands}
    simulation.run("cocotb_vector", env=env)


@pytest.mark.gates("vector")
@pytest.mark.parametrize("simulator", runner.SIMULATORS)
def test_vector(simulator):
    simulate(simulator, commands=400 if simulator == "verilator" else 40)


@pytest.mark.gates("vector")
@pytest.mark.parametrize(
    "vu_width, tile",
    [
        (1, dict(code="t4", tile_rows=4)),  # tile_k 4
        (2, dict(tile_rows=2)),  # tile_k 10
        (8, dict(code="t4", tile_rows=4)),  # several K steps in a word
        (16, dict(tile_rows=4)),  # deeper pipeline
    ],
    ids=["1-4", "2-10", "8-4", "16-5"],
)
def test_width(vu_width, tile):
    simulate("verilator", vu_width=vu_width, **tile)
