"""LiteDRAM's core and a model that checks every timing of DDR3, under an independent manager."""

import sys
from pathlib import Path

import pytest
from tamale.gateware.litedram import MT41K256M16, Ddr3Controller
from tamale_sim import ddr3, runner

sys.path.insert(0, str(Path(__file__).parent))

#: Two rows of each bank.
_SIZE = 32768


def simulate(tmp_path, chip=None, **arguments):
    controller = Ddr3Controller(MT41K256M16, 80_000_000)
    simulation = runner.build(
        ddr3.PreparedDdr3(controller, chip),
        "ddr3",
        extra_sources=ddr3.write_sources(controller, tmp_path),
        simulator="verilator",
    )
    return simulation.run("cocotb_memory", env={"SIZE": _SIZE, "OPERATIONS": 25}, **arguments)


def test_traffic(tmp_path):
    # LiteDRAM answers OKAY whatever it is asked for, so the tests of errors are left out.
    cases = ["linear", "random_traffic", "single_beats", "strobes", "late_write_data"]
    simulate(tmp_path, testcase=cases)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("T_RP", 6, 5), ("T_RCD", 8, 6), ("T_RAS", 40, 7), ("T_RRD", 12, 8), ("T_FAW", 64, 9),
        ("T_WR", 12, 11), ("T_WTR", 16, 11), ("T_RFC", 60, 13), ("T_REFI", 1000, 14),
        ("CWL", 6, 4), ("T_XPR", 2000, 2), ("LAST", 0, None),
    ],
)  # fmt: skip
def test_slower_chip_is_noticed(tmp_path, name, value, code):
    """A chip that needs longer than the controller gives it: the model sees which rule breaks."""
    with pytest.raises(AssertionError) as error:
        simulate(tmp_path, {name: value}, testcase="linear")
    if code is None:  # no rule: data of a lane whose window was missed
        assert "instead of" in str(error.value)
    else:
        assert f"DDR3 VIOLATION {code} at" in str(error.value)
