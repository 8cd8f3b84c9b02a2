"""The firmware sets DDR3 up as the standard asks, and finds the middle of the widest window."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from tamale.gateware import litedram
from tamale.generate import header
from tamale.soc.ddr3_control import Ddr3Control
from tamale.soc.soc import Soc
from tamale.soc.system import firmware_folder

# The system is there for its description only.
pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

_HOOKS = """
#include <stdint.h>
uint32_t host_read(uintptr_t address);
void host_write(uintptr_t address, uint32_t value);
#define TAMALE_READ32(address) host_read(address)
#define TAMALE_WRITE32(address, value) host_write(address, value)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddr3")
    part = litedram.MT41K256M16
    modes = litedram.mode_registers(part, 80_000_000)
    soc = Soc(
        clock_hz=80_000_000, cpu_clock_hz=50_000_000, dram_bytes=part.size,
        memory_control=Ddr3Control(part),
        constants={f"DDR3_MODE{n}": value for n, value in enumerate(modes)},
    )  # fmt: skip
    (folder / "tamale_soc.h").write_text(header.generate(soc.system))
    (folder / "hooks.h").write_text(_HOOKS)
    sources = [Path(__file__).with_name("ddr3.c"), firmware_folder() / "ddr3.c"]
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-fno-sanitize=undefined", "-Wall"]
    command += ["-include", str(folder / "hooks.h"), f"-I{folder}", f"-I{firmware_folder()}"]
    subprocess.run([*command, *map(str, sources), "-o", str(folder / "ddr3")], check=True)

    def run(lanes, ready=1, seen=3):
        masks = [hex(mask) for lane in lanes for mask in lane]
        result = subprocess.run(
            [folder / "ddr3", str(ready), str(seen), *masks], capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout
        records = [line.split(" ") for line in result.stdout.splitlines()]
        return [(kind, [tuple(f.split("=")) for f in fields]) for kind, *fields in records]

    return run


def middle(masks):
    """Return (length, slip, delay): the first among the longest runs of ones, and its middle."""
    best = (0, 0, 0)
    for slip, mask in enumerate(masks):
        for first in range(8):
            length = 0
            while first + length < 8 and mask >> (first + length) & 1:
                length += 1
            if length > best[0]:
                best = (length, slip, first + length // 2)
    return best


def check(records, lanes):
    wanted = [middle(masks) for masks in lanes]
    *trained, (kind, end) = records
    assert kind == "end" and end[:2] == [("works", "1"), ("software", "0")]
    assert [(n, int(v)) for n, v in end[2:]] == [
        pair for _, slip, delay in wanted for pair in (("slip", slip), ("delay", delay))
    ]
    for lane, ((name, fields), (length, slip, delay)) in enumerate(
        zip(trained, wanted, strict=True)
    ):
        assert name == "trained"
        assert {n: int(v) for n, v in fields} == {
            "lane": lane, "slip": slip, "delay": delay, "width": length
        }  # fmt: skip


@pytest.mark.parametrize("width", range(1, 9))
def test_windows(program, width):
    """Of every width, wherever they lie; the lanes have different ones."""
    for first in range(9 - width):
        mask = (1 << width) - 1 << first
        lanes = [[0, mask, 0, 0], [0, 0, 0, 0xFF ^ mask | 1 << first]]
        check(program(lanes), lanes)


def test_random_windows(program):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(40):
        lanes = [[chance.randrange(256) for _ in range(4)] for _ in range(2)]
        if all(any(masks) for masks in lanes):
            check(program(lanes), lanes)


def test_slow_start(program):
    lanes = [[0, 0x3C, 0, 0], [0x18, 0, 0, 0]]
    check(program(lanes, ready=900), lanes)


@pytest.mark.parametrize("lane", [0, 1])
def test_no_window(program, lane):
    """An error that names the lane, and the memory is left to software for another attempt."""
    lanes = [[0x3C, 0, 0, 0], [0x3C, 0, 0, 0]]
    lanes[lane] = [0] * 4
    *_, error, (kind, end) = program(lanes)
    assert error == ("error", [("what", "memory_training"), ("lane", str(lane)), ("seen", "1")])
    assert kind == "end" and end[:2] == [("works", "0"), ("software", "1")]


def test_no_burst_is_seen(program):
    """Right data without a strobe are luck."""
    *_, error, end = program([[0xFF] * 4, [0xFF] * 4], seen=1)
    assert error == ("error", [("what", "memory_training"), ("lane", "1"), ("seen", "0")])


def test_phy_does_not_settle(program):
    (error, end) = program([[0xFF] * 4] * 2, ready=100_000)
    assert error == ("error", [("what", "memory_clock")])
    assert ("works", "0") in end[1]
