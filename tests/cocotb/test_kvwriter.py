"""KV writer: codes, tiles, buses and widths; faults; deliberate bugs are seen."""

import inspect
import json
import sys
from pathlib import Path

import pytest
from tamale.config import Config
from tamale.gateware import kvpack, kvwriter
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))

EVERYTHING = ["accumulate", "scales", "bounds", "errors", "clear_in_work", "speed"]
#: bus_width, code, tile_rows, vu_width, simulator, sizes, tests
VARIANTS = [
    (32, "t5", 4, 4, "verilator", (64, 8, 24, 12), EVERYTHING),
    (32, "t5", 4, 4, "icarus", (8, 20, 128), EVERYTHING),
    (32, "t4", 4, 4, "icarus", (16, 60), ["accumulate", "speed"]),
    (32, "t5", 1, 4, "icarus", (9, 64, 31), ["accumulate", "scales", "bounds"]),
    (32, "t4", 2, 8, "icarus", (10, 128), ["accumulate"]),
    (32, "t5", 2, 1, "icarus", (8, 26), ["accumulate"]),
    (64, "t5", 8, 4, "icarus", (16, 128, 40), EVERYTHING),
    (64, "t4", 8, 2, "icarus", (16, 24), ["accumulate"]),
    (64, "t5", 1, 4, "icarus", (8, 45), ["accumulate", "clear_in_work"]),
    (64, "t4", 2, 4, "icarus", (18, 96), ["accumulate", "speed"]),
    (64, "t5", 4, 32, "icarus", (12, 100), ["accumulate"]),
    (32, "t4", 4, 32, "icarus", (12, 100), ["accumulate", "errors"]),
    (128, "t5", 16, 1, "icarus", (16, 48), ["accumulate", "scales"]),
]


def simulate(variant, component=kvwriter.KVWriter):
    bus_width, code, tile_rows, vu_width, simulator, sizes, tests = variant
    values = {
        "bus_width": bus_width, "code": code, "tile_rows": tile_rows, "vu_width": vu_width,
        "scratchpad_elements": 8192,
    }  # fmt: skip
    simulation = runner.build(component(Config(**values)), "kv_writer", simulator=simulator)
    simulation.run(
        "cocotb_kvwriter",
        testcase=tests,
        seed=5,
        env={"TAMALE_TEST": json.dumps({**values, "sizes": sizes})},
    )


@pytest.mark.gates("kv-writer")
@pytest.mark.parametrize(
    "variant", VARIANTS, ids=[f"bus{v[0]}-{v[1]}-rows{v[2]}-vu{v[3]}-{v[4]}" for v in VARIANTS]
)
def test_kv_writer(variant):
    simulate(variant)


@pytest.mark.parametrize(
    "old,new,test",
    [
        # A strobe of the neighbour's row.
        ("(strobe_row == row).replicate(columns)", "(strobe_row == (row ^ 1)).replicate(columns)",
         "accumulate"),
        # Scales of the wrong row.
        ("(strobe_row == row).replicate(2)", "(strobe_row == (row ^ 1)).replicate(2)",
         "accumulate"),
        # Elements past the end are not masked.
        ("Mux(lane < tag_2.count, trit, 0)", "trit", "accumulate"),
        # The old block's digits survive into a new block.
        ("fresh.eq(self.digit == 0)", "fresh.eq(0)", "accumulate"),
        # A digit goes to its neighbour.
        ("Mux(digit == n, new_trit, kept_trit)", "Mux(digit == (n ^ 1), new_trit, kept_trit)",
         "accumulate"),
        # The last command's check counts for this one.
        ("                        checked.eq(0),\n", "", "accumulate"),
        # The scale rounds down.
        ("(scalar.mantissa + 8) >> 4", "scalar.mantissa >> 4", "scales"),
        # The range's end is not compared.
        ("last.eq(address[beat_shift:] + beats - 1)", "last.eq(address[beat_shift:])", "bounds"),
        # A burst starts before its last beat is there.
        ("fifo.level > splitter.o.payload.length", "fifo.level != 0", "speed"),
        # The bus is left in the middle of a burst.
        ('with m.If(bus.ongoing("GATHER")):', "with m.If(1):", "clear_in_work"),
    ],
)  # fmt: skip
def test_bug_is_seen(old, new, test):
    space = {}
    for module in (kvpack, kvwriter):
        source = inspect.getsource(module)
        found = source.count(old)
        assert found <= 1
        names = {"__name__": "broken"}
        exec(compile(source.replace(old, new), module.__name__, "exec"), names)
        space |= {"seen": found or space.get("seen"), module.__name__: names}
    assert space["seen"], f"{old!r} is not in the sources"
    broken = space[kvwriter.__name__]
    broken["KVPacker"] = space[kvpack.__name__]["KVPacker"]
    # With one row a beat takes the most elements, and packing is slower than the bus.
    rows = 1 if test == "speed" else 4
    with pytest.raises(AssertionError, match=r"1 of 1 tests failed"):
        simulate((32, "t5", rows, 4, "icarus", (22, 8), [test]), broken["KVWriter"])
