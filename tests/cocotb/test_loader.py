"""Loader: every format, bus and width; deliberate bugs are seen."""

import inspect
import json
import sys
from pathlib import Path

import pytest
from tamale.config import Config
from tamale.gateware import loader
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))


def simulate(bus_width, vu_width, simulator, component=loader.Loader):
    values = {"bus_width": bus_width, "vu_width": vu_width}
    simulation = runner.build(component(Config(**values)), "loader", simulator=simulator)
    simulation.run("cocotb_loader", seed=11, env={"TAMALE_TEST": json.dumps(values)})


@pytest.mark.gates("loader")
@pytest.mark.parametrize(
    "bus_width,vu_width,simulator",
    [
        (32, 4, "verilator"),
        (32, 4, "icarus"),
        (32, 1, "icarus"),
        (64, 16, "icarus"),
        (64, 8, "icarus"),
        (512, 4, "icarus"),
        (512, 32, "icarus"),
    ],
)
def test_loader(bus_width, vu_width, simulator):
    simulate(bus_width, vu_width, simulator)


@pytest.mark.parametrize(
    "old,new",
    [
        (".as_signed())", ")"),
        ("finish.eq(one)", "finish.eq(last_step)"),
        ("(place == n).replicate(size)", "(place != n).replicate(size)"),
        ("(step == words - 1) | one", "(step == words - 1)"),
    ],
)
def test_bug_is_seen(old, new):
    source = inspect.getsource(loader)
    assert source.count(old) == 1
    space = {"__name__": "broken"}
    exec(compile(source.replace(old, new), "loader", "exec"), space)
    with pytest.raises(AssertionError, match=r"tests failed"):
        simulate(64, 4, "icarus", space["Loader"])
