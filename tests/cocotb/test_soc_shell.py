"""Programs on the whole shell: every CPU variant, DRAM with stalls, several beat widths."""

import sys
from pathlib import Path

import pytest
from tamale.generate import write_all
from tamale.soc.soc import Soc
from tamale.soc.toolchain import build_firmware
from tamale_sim import runner

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware"
BIT_CYCLES = 10
sys.path.insert(0, str(HERE))

from soc_designs import Copier  # noqa: E402


def shell(tmp_path, **parameters):
    """Build the test program for a system and the system with it."""
    parameters = {"clock_hz": BIT_CYCLES * 1_000_000, "ram_bytes": 16384, "dram_bytes": 1 << 16,
                  **parameters}  # fmt: skip
    soc = Soc(**parameters)
    write_all(soc.system, tmp_path)
    firmware = build_firmware(
        [FIRMWARE / "start.S", FIRMWARE / "hal.c", HERE / "soc_shell.c"],
        tmp_path / "soc_shell.elf",
        toolchain=soc.toolchain,
        linker_script=tmp_path / "tamale_soc.ld",
        include=[tmp_path, FIRMWARE],
        defines={"BEAT_BYTES": soc.axi.signature.data_width // 8},
    )
    soc.load_firmware(firmware.image)
    name = f"soc_{parameters.get('cpu', 'vexriscv').replace('-', '_')}"
    return runner.build(soc, name, extra_sources=soc.verilog_sources())


@pytest.mark.gates("cpu")
@pytest.mark.parametrize(
    ("cpu", "data_width", "stalls"),
    [
        ("vexriscv", 32, 0),
        ("vexriscv", 128, 0.4),
        ("vexriscv-lite", 64, 0.4),
        ("vexriscv-min", 32, 0.2),
        ("vexriscv-full", 32, 0.2),
    ],
)
def test_program(tmp_path, cpu, data_width, stalls):
    simulation = shell(tmp_path, cpu=cpu, data_width=data_width)
    simulation.run("cocotb_soc_shell", seed=1, env={"BIT_CYCLES": BIT_CYCLES, "STALLS": stalls})


@pytest.mark.gates("cpu")
@pytest.mark.parametrize("stalls", [0, 0.4])
def test_accelerator_slot(tmp_path, stalls):
    simulation = shell(tmp_path, accelerator=Copier(64))
    simulation.run("cocotb_soc_shell", seed=2, env={"BIT_CYCLES": BIT_CYCLES, "STALLS": stalls})
