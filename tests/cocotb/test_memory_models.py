"""The SDRAM model reports every broken rule, and only those; the ideal memory is a memory."""

import json
import sys
from pathlib import Path

import pytest
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))

#: Every minimum is another one, so that no rule hides behind another.
PARAMETERS = {
    "ROW_BITS": 4,
    "COLUMN_BITS": 4,
    "ADDRESS_BITS": 11,
    "T_POWER_UP": 20,
    "T_RP": 2,
    "T_RCD": 3,
    "T_RAS": 5,
    "T_RAS_MAX": 60,
    "T_RC": 9,
    "T_RRD": 4,
    "T_RFC": 8,
    "T_WR": 3,
    "T_MRD": 2,
    "T_REFI": 20,
    "MAX_POSTPONED": 2,
    "T_WINDOW": 500,
}
ALL = {"a": 1 << 10}
MODE = {"a": 2 << 4 | 1}
OPEN = [[5, "ACT", {"a": 3}]]


def run(steps, violation, *, init=True, simulator="icarus"):
    simulation = runner.build(
        None,
        "sdr_sdram",
        extra_sources=[runner.MODELS / "sdr_sdram.v"],
        parameters=PARAMETERS,
        simulator=simulator,
    )
    env = {"SCRIPT": json.dumps(steps), "VIOLATION": violation, "INIT": int(init)}
    simulation.run("cocotb_sdr_sdram", env=env)


#: Rule, commands before, least clocks until the last command, the last command.
MINIMA = {
    "tRP": (3, [*OPEN, [9, "PRE", {}]], 2, ["ACT", {}]),
    "tRP-refresh": (3, [*OPEN, [9, "PRE", ALL]], 2, ["REF", {}]),
    "tRCD-read": (4, OPEN, 3, ["READ", {}]),
    "tRCD-write": (4, OPEN, 3, ["WRITE", {"data": 1}]),
    "tRAS": (5, OPEN, 5, ["PRE", {}]),
    "tRC": (6, [*OPEN, [5, "PRE", {}]], 4, ["ACT", {}]),
    "tRRD": (7, OPEN, 4, ["ACT", {"ba": 1}]),
    "tRFC": (8, [[5, "REF", {}]], 8, ["ACT", {}]),
    "tWR": (
        9,
        [*OPEN, [4, "WRITE", {"data": 1}], [1, "NOP", {"data": 2}]],
        3,
        ["PRE", {}],
    ),
    "tMRD": (10, [[5, "MRS", MODE]], 2, ["ACT", {}]),
}


@pytest.mark.parametrize("rule", MINIMA)
def test_minimum(rule):
    code, steps, least, (command, options) = MINIMA[rule]
    run([*steps, [least, command, options]], 0)
    run([*steps, [least - 1, command, options]], code)


READ = [*OPEN, [3, "READ", {}]]
BROKEN = {
    "command-before-power-up": (1, [[3, "PRE", ALL]], False),
    "activate-before-initialisation": (2, [[25, "PRE", ALL], [5, "ACT", {}]], False),
    "read-idle": (11, [[5, "READ", {"ba": 2}]], True),
    "write-idle": (11, [[5, "WRITE", {"data": 1}]], True),
    "refresh-active": (12, [*OPEN, [9, "REF", {}]], True),
    "mode-active": (13, [*OPEN, [9, "MRS", MODE]], True),
    "refresh-late": (14, [[90, "NOP", {}]], True),
    "contention": (15, [*READ, [2, "NOP", {"data": 1}]], True),
    "contention-turnaround": (15, [*READ, [4, "NOP", {"data": 1}]], True),
    "write-not-driven": (16, [*OPEN, [3, "WRITE", {}]], True),
    "auto-precharge": (17, [*OPEN, [3, "READ", {"a": 1 << 10}]], True),
    "latency": (18, [[5, "MRS", {"a": 3 << 4 | 1}]], True),
    "interleaved": (18, [[5, "MRS", {"a": 2 << 4 | 9}]], True),
    "row-open-too-long": (19, [*OPEN, [62, "PRE", {}]], True),
    "activate-active": (20, [*OPEN, [20, "ACT", {}]], True),
    "row-beyond": (21, [[5, "ACT", {"a": 16}]], True),
    "column-beyond": (21, [*OPEN, [3, "READ", {"a": 16}]], True),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_broken_rule(rule):
    code, steps, init = BROKEN[rule]
    run(steps, code, init=init)


@pytest.mark.parametrize("simulator", runner.SIMULATORS)
def test_data(simulator):
    """Words come after the CAS latency, masks hide bytes, the next READ cuts a burst off."""
    run(
        [
            *OPEN,
            [3, "WRITE", {"a": 4, "data": 0x1234}],
            [1, "NOP", {"data": 0x5678}],
            [1, "WRITE", {"a": 4, "data": 0xFFFF, "mask": 2}],
            [1, "NOP", {"data": 0xFFFF, "mask": 3}],
            [1, "WRITE", {"a": 6, "data": 0xABCD}],
            [1, "NOP", {"data": 0xEF01}],
            [1, "READ", {"a": 4}],
            [2, "NOP", {"expect": 0x12FF}],
            [1, "NOP", {"expect": 0x5678}],
            [1, "READ", {"a": 5}],
            [1, "READ", {"a": 6}],
            [1, "NOP", {"expect": 0x5678}],
            [1, "NOP", {"expect": 0xABCD}],
            [1, "NOP", {"expect": 0xEF01}],
            [3, "WRITE", {"a": 0, "data": 7}],
            [1, "NOP", {"data": 8}],
        ],
        0,
        simulator=simulator,
    )


MEMORY = {"SIZE": 8192, "ADDR_WIDTH": 16}


@pytest.mark.parametrize(
    ("simulator", "parameters"),
    [
        ("verilator", {}),
        ("verilator", {"DATA_WIDTH": 128, "BEATS_EVERY": 8, "ID_WIDTH": 3}),
        ("icarus", {"BEATS_EVERY": 2, "LATENCY": 2, "QUEUE": 2}),
    ],
)
def test_ideal_memory(simulator, parameters):
    simulation = runner.build(
        None,
        "axi_memory",
        extra_sources=[runner.MODELS / "axi_memory.v"],
        parameters={**MEMORY, **parameters},
        simulator=simulator,
    )
    simulation.run("cocotb_memory", env={"SIZE": MEMORY["SIZE"], "OPERATIONS": 15})


def test_ideal_memory_errors():
    simulation = runner.build(
        None,
        "axi_memory",
        extra_sources=[runner.MODELS / "axi_memory.v"],
        parameters={**MEMORY, "ERROR_FIRST": 0x400, "ERROR_LAST": 0x4FF},
        simulator="icarus",
    )
    simulation.run("cocotb_axi_memory")
