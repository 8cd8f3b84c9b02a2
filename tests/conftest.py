"""Order of the tests: cheap folders first, then those whose single tests take longest. And the same
tests on netlists: ``--gates`` or ``--gates=BLOCK,BLOCK``."""

import json
import os
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest
from tamale_sim.cli.gates import BLOCKS

_ORDER = ("unit", "proofs", "model", "gates", "soc", "cli", "cocotb")

#: Nanoseconds of a cycle in the cocotb testbenches.
_CYCLE = 10


def pytest_addoption(parser):
    """Add ``--gates``."""
    parser.addoption(
        "--gates",
        nargs="?",
        const="all",
        help="run the tests of these blocks (comma-separated; default: all) on their netlists",
    )
    parser.addoption("--gates-report", help="file for the figures of --gates, JSON")


def pytest_configure(config):
    """Let `tamale_sim.runner` build netlists."""
    if config.getoption("--gates"):
        os.environ["TAMALE_GATES"] = "1"
    # Where tests run in other processes, the reports come together in the first.
    path = config.getoption("--gates-report")
    if path and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Report(Path(path)))


class _Report:
    """Sums up tests, cycles and seconds by block."""

    def __init__(self, path):
        self._path, self._blocks = path, {}

    def pytest_runtest_logreport(self, report):
        properties = report.user_properties
        if report.when != "call":
            if not report.failed:
                return
            properties = [*properties, ("block", "set-up")]
        names = [value for key, value in properties if key == "block"]
        for name in names:
            block = self._blocks.setdefault(
                name, {"tests": 0, "failed": [], "cycles": 0, "seconds": 0.0}
            )
            block["tests"] += report.when == "call"
            block["cycles"] += sum(value for key, value in properties if key == "cycles")
            block["seconds"] += report.duration
            if report.failed:
                block["failed"].append(report.nodeid)

    def pytest_sessionfinish(self):
        self._path.write_text(json.dumps(self._blocks))


def _blocks(item):
    return {name for mark in item.iter_markers("gates") for name in mark.args}


def pytest_collection_modifyitems(config, items):
    """Sort by folder; the order within a folder stays. Keep the blocks that ``--gates`` names."""
    root = Path(__file__).parent

    def rank(item):
        folder = item.path.relative_to(root).parts[0]
        return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)

    items.sort(key=rank)
    for item in items:
        if not _blocks(item) <= set(BLOCKS):
            raise pytest.UsageError(
                f"{item.nodeid}: gates must name blocks of tamale_sim.cli.gates"
            )
    wanted = config.getoption("--gates")
    if not wanted:
        return
    names = set(BLOCKS if wanted == "all" else wanted.split(","))
    config.hook.pytest_deselected(items=[item for item in items if not _blocks(item) & names])
    items[:] = [item for item in items if _blocks(item) & names]


@pytest.fixture(autouse=True)
def _on_netlists(request, monkeypatch):
    """With ``--gates``: Amaranth's simulator compares with the netlist; cycles are counted."""
    if not request.config.getoption("--gates"):
        return
    from tamale_sim import replay, runner

    def count(cycles):
        request.node.user_properties.append(("cycles", cycles))

    for name in sorted(_blocks(request.node)):
        request.node.user_properties.append(("block", name))

    def recorder(toplevel):
        observed = any(mark.kwargs.get("observed") for mark in request.node.iter_markers("gates"))
        return replay.Recorder(toplevel, count, observed)

    for module in (request.module, sys.modules.get("soc_bus")):
        if hasattr(module, "Simulator"):
            monkeypatch.setattr(module, "Simulator", recorder)
    run = runner.Simulation.run

    def counted(*args, **arguments):
        directory = run(*args, **arguments)
        results = xml.etree.ElementTree.parse(directory / "results.xml")
        times = [float(case.get("sim_time_ns", 0)) for case in results.iter("testcase")]
        count(round(sum(times) / _CYCLE))
        return directory

    monkeypatch.setattr(runner.Simulation, "run", counted)
