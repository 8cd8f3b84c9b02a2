"""The SDRAM controller against a model that checks every timing, under an independent manager."""

import sys
from pathlib import Path

import pytest
from tamale.gateware.sdram import TINY, SdramController
from tamale_sim import runner
from tamale_sim.memory import SOURCES, SimulatedSdram

sys.path.insert(0, str(Path(__file__).parent))


def simulate(controller, simulator, *, chip=None, env=None, **arguments):
    simulation = runner.build(
        SimulatedSdram(controller, chip),
        "sdram",
        extra_sources=SOURCES[:1],
        simulator=simulator,
    )
    return simulation.run(
        "cocotb_memory", env={"SIZE": controller.part.size, **(env or {})}, **arguments
    )


def tiny(clock_hz=100_000_000, **options):
    options = {"addr_width": 16, "power_up_us": 1, **options}
    return SdramController(TINY, clock_hz, **options)


@pytest.mark.parametrize("simulator", runner.SIMULATORS)
def test_traffic(simulator):
    simulate(tiny(), simulator, env={"OPERATIONS": 40 if simulator == "verilator" else 15})


@pytest.mark.parametrize(
    "options",
    [
        {"data_width": 16},
        {"data_width": 64, "id_width": 4},
        {"data_width": 128, "cas_latency": 3},
        {"clock_hz": 133_000_000, "postpone": 1},
        {"clock_hz": 50_000_000, "read_fifo": 4, "write_fifo": 4, "queue": 2},
        {"clock_hz": 143_000_000, "data_width": 16, "postpone": 4},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()),
)
def test_configurations(options):
    simulate(tiny(**options), "verilator", env={"OPERATIONS": 25})
