"""The SDRAM controller against a model that checks every timing, under an independent manager."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tamale.gateware.sdram import IS42S16160G_7, TINY, SdramController
from tamale_sim import runner
from tamale_sim.memory import SOURCES, SimulatedSdram, chip_parameters

sys.path.insert(0, str(Path(__file__).parent))

# A constructor that raises, as some tests want, leaves a component that nobody elaborates.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


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


def tiny(clock_hz=100_000_000, data_bits=16, **options):
    options = {"addr_width": 16, "power_up_us": 1, **options}
    return SdramController(replace(TINY, data_bits=data_bits), clock_hz, **options)


@pytest.mark.gates("sdram")
@pytest.mark.parametrize("simulator", runner.SIMULATORS)
def test_traffic(simulator):
    simulate(tiny(), simulator, env={"OPERATIONS": 40 if simulator == "verilator" else 15})


@pytest.mark.gates("sdram")
@pytest.mark.parametrize(
    "options",
    [
        {"data_width": 16},
        {"data_width": 64, "id_width": 4},
        {"data_width": 128, "cas_latency": 3},
        {"data_bits": 32},
        {"data_bits": 32, "data_width": 128},
        {"clock_hz": 133_000_000, "postpone": 1},
        {"clock_hz": 50_000_000, "read_fifo": 4, "write_fifo": 4, "queue": 2},
        {"clock_hz": 140_000_000, "data_width": 16, "postpone": 4},
    ],
    ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()),
)
def test_configurations(options):
    simulate(tiny(**options), "verilator", env={"OPERATIONS": 25})


@pytest.mark.gates("sdram")
@pytest.mark.parametrize(
    ("name", "code"), [("T_RCD", 4), ("T_RP", 3), ("T_RRD", 7), ("T_WR", 9), ("T_RFC", 8)]
)
def test_slower_chip_is_noticed(name, code):
    """The controller uses every clock that it may: a chip that wants one more complains."""
    # Commands to rows have three clocks between them anyway; here that is not enough.
    part = replace(TINY, t_rrd=50) if name == "T_RRD" else TINY
    controller = SdramController(part, 100_000_000, addr_width=16, power_up_us=1)
    slower = {name: chip_parameters(controller)[name] + 1}
    with pytest.raises(AssertionError, match=rf"SDRAM VIOLATION {code} at"):
        simulate(controller, "icarus", chip=slower, testcase="single_beats")


def test_cycles():
    controller = SdramController(IS42S16160G_7, 100_000_000)
    assert controller.cas_latency == 2
    assert controller.timing == {
        "t_rp": 2,
        "t_rcd": 2,
        "t_rfc": 6,
        "t_ras": 4,
        "t_rc": 6,
        "t_wr": 2,
        "t_rrd": 2,
        "t_mrd": 2,
    }
    # 64 ms / (8192 rows + 8 postponed) at 10 ns.
    assert controller.refresh_interval == 780
    assert IS42S16160G_7.size == 32 << 20
    assert IS42S16160G_7.page == 1024


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"clock_hz": 200_000_000},
            r"tiny cannot be clocked at 200000000 Hz; its limit is 142857142 Hz: lower",
        ),
        ({"clock_hz": 1e8}, r"clock_hz must be an integer of at least 1000000 Hz, not 1000"),
        (
            {"clock_hz": 133_000_000, "cas_latency": 2},
            r"cas_latency of tiny at 133000000 Hz must be one of \[3\], not 2",
        ),
        (
            {"data_width": 256},
            r"data_width with the 16-bit tiny must be one of \[16, 32, 64, 128\], not 256",
        ),
        ({"postpone": 9}, r"postpone must be an integer from 1 to 8, not 9"),
        ({"read_fifo": 2}, r"read_fifo must be an integer from 4 to 4096, not 2"),
        ({"power_up_us": 0}, r"power_up_us must be more than 0 and at most 10000 us, not 0"),
    ],
)
def test_refused_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"banks": 3}, r"banks of tiny must be 2 or 4, not 3"),
        ({"row_bits": 15}, r"row_bits of tiny must be an integer from 2 to 14, not 15"),
        ({"t_rp": 0}, r"t_rp of tiny must be more than 0 and at most 1000 ns, not 0"),
        ({"t_refi": 64}, r"t_refi of tiny is 64 ns, which leaves no time"),
        ({"t_ck": ()}, r"t_ck of tiny must be pairs of a CAS latency of 2 or 3 and a period"),
    ],
)
def test_refused_parts(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
