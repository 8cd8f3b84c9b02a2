"""The runner builds and runs on both simulators, shares builds, and reports failures."""

import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))


class Counter(wiring.Component):
    en: In(1)
    count: Out(8)

    def elaborate(self, platform):
        m = Module()
        with m.If(self.en):
            m.d.sync += self.count.eq(self.count + 1)
        return m


@pytest.mark.parametrize("simulator", runner.SIMULATORS)
def test_counter(simulator):
    simulation = runner.build(Counter(), "counter", simulator=simulator)
    directory = simulation.run("cocotb_runner", seed=1)
    assert (directory / "results.xml").exists()
    stamp = (simulation.directory / "done").stat().st_mtime_ns
    assert runner.build(Counter(), "counter", simulator=simulator) == simulation
    assert (simulation.directory / "done").stat().st_mtime_ns == stamp


def test_failure_is_reported():
    simulation = runner.build(Counter(), "counter", simulator="icarus")
    with pytest.raises(AssertionError, match=r"1 of 1 tests failed in cocotb_runner on icarus"):
        simulation.run("cocotb_runner", env={"WRONG_BY": 1})


def test_missing_module_is_reported():
    simulation = runner.build(Counter(), "counter", simulator="icarus")
    with pytest.raises(AssertionError, match=r"no test finished"):
        simulation.run("cocotb_no_such_module")


def test_waves(monkeypatch):
    monkeypatch.setenv("WAVES", "1")
    simulation = runner.build(Counter(), "counter", simulator="icarus")
    directory = simulation.run("cocotb_runner")
    assert list(directory.glob("*.fst"))


def test_unknown_simulator():
    with pytest.raises(
        ValueError, match=r"^simulator must be one of verilator, icarus, not 'spice'$"
    ):
        runner.build(None, "counter", simulator="spice")


def test_build_error_is_reported():
    with pytest.raises(RuntimeError, match=r"icarus cannot build broken"):
        runner.build("module broken(; endmodule", "broken", simulator="icarus")
