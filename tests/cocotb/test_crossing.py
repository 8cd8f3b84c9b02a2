"""Clock domain crossings between unrelated clocks, and the shell with a CPU of its own clock."""

import pytest
from tamale.gateware import axi
from tamale.soc import wishbone
from tamale.soc.crossing import AxiCrossing, WishboneCrossing
from tamale_sim import runner

#: Periods in picoseconds: the CPU slower, hardly slower, faster, equal.
PERIODS = [(12500, 20000), (10000, 10026), (20000, 6666), (10000, 10000)]


@pytest.mark.gates("crossing")
@pytest.mark.parametrize("periods", PERIODS)
def test_axi(periods):
    crossing = AxiCrossing(axi.Signature(data_width=32), "cpu")
    simulation = runner.build(crossing, "axi_crossing")
    simulation.run(
        "cocotb_crossing", testcase="axi_random", env={"PERIODS": "{} {}".format(*periods)}
    )


@pytest.mark.gates("crossing")
@pytest.mark.parametrize("periods", PERIODS)
def test_wishbone(periods):
    crossing = WishboneCrossing(wishbone.target(4096), "cpu")
    simulation = runner.build(crossing, "wishbone_crossing")
    simulation.run(
        "cocotb_crossing", testcase="wishbone_random", env={"PERIODS": "{} {}".format(*periods)}
    )
