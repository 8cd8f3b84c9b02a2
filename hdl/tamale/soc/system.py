"""A whole system from a configuration: accelerator, CPU system, firmware, generated files."""

import importlib.util
from pathlib import Path

from tamale import generate
from tamale.gateware import litedram
from tamale.gateware.accelerator import Accelerator
from tamale.gateware.sdram import PARTS, SdramController
from tamale.generate import image_header, linker, machine_header
from tamale.soc import toolchain
from tamale.soc.core_soc import CoreSoc
from tamale.soc.ddr3_control import Ddr3Control
from tamale.soc.soc import Soc
from tamale.soc.ternary import TernaryEngine

__all__ = [
    "LOAD_RAM_BYTES", "PAD_DELAY", "STORAGE_RAM_BYTES", "TEXT_RAM_BYTES",
    "build_firmware", "build_memory", "build_soc", "firmware_folder",
]  # fmt: skip

#: On-chip memory from which on the firmware takes images over the serial port.
LOAD_RAM_BYTES = 20480

#: On-chip memory from which on the firmware takes text apart; with less, prompts come as tokens.
TEXT_RAM_BYTES = 28672

#: On-chip memory from which on the firmware boots from flash and card, and tests the memory.
STORAGE_RAM_BYTES = 36864

#: Cycles that registers in the pads of an SDRAM add to a read: one on the way out, one on the way
#: in.
PAD_DELAY = 2

#: Sources of the firmware, in `firmware_folder`.
_SOURCES = (
    "start.S", "hal.c", "console.c", "ddr3.c", "driver.c", "image.c", "loader.c", "spi.c",
    "flash.c", "card.c", "file.c", "memtest.c", "sample.c", "tokenizer.c", "main.c",
)  # fmt: skip

#: Sources of the firmware that performs the commands itself.
_CORE_SOURCES = (
    "start.S", "hal.c", "console.c", "core_driver.c", "machine.c", "integer.c", "image.c",
    "sample.c", "tokenizer.c", "main.c",
)  # fmt: skip

#: What it has besides where the image is in a memory that it can write.
_CORE_LOADER_SOURCES = ("loader.c", "memtest.c")


def firmware_folder():
    """Return the folder of the firmware's sources: beside the package when installed from a wheel,
    else at the top of the repository."""
    package = Path(importlib.util.find_spec("tamale").origin).parent
    for folder in (package / "firmware", package.parents[1] / "firmware"):
        if (folder / "main.c").is_file():
            return folder
    raise FileNotFoundError("the firmware's sources are missing; install tamale again")


def build_soc(config):
    """Return the `Soc` or `CoreSoc` of a configuration, without firmware."""
    accelerator, engine, headers = None, None, {}
    if config.engine == "core":
        engine = TernaryEngine(config.act_steps * config.tile_columns, config.accumulator_width)
        headers["tamale_machine.h"] = machine_header.generate(config)
    else:
        accelerator = Accelerator(config)
    if config.memory == "flash":
        return CoreSoc(
            clock_hz=config.clock_hz,
            cpu=config.cpu,
            uart_baud=config.uart_baud,
            engine=engine,
            name=config.name,
            headers=headers,
            constants={
                "NAME": config.name,
                "TEXT_RAM_BYTES": TEXT_RAM_BYTES,
                "STORAGE": 0,
                "FLASH_IMAGE_OFFSET": config.flash_image_offset,
            },
        )
    control, modes = None, {}
    if config.memory == "ddr3":
        part = litedram.PARTS[config.ddr3_part]
        control = Ddr3Control(part)
        values = litedram.mode_registers(part, config.clock_hz)
        modes = {f"DDR3_MODE{number}": value for number, value in enumerate(values)}
    return Soc(
        clock_hz=config.clock_hz,
        cpu_clock_hz=config.cpu_clock_hz or None,
        ram_bytes=config.cpu_ram_bytes,
        dram_bytes=config.memory_bytes,
        cpu=config.cpu,
        uart_baud=config.uart_baud,
        accelerator=accelerator,
        engine=engine,
        storage=config.storage,
        memory_control=control,
        name=config.name,
        constants={
            "NAME": config.name,
            "CANDIDATES_MAX": config.candidates,
            "LOAD_RAM_BYTES": LOAD_RAM_BYTES,
            "TEXT_RAM_BYTES": TEXT_RAM_BYTES,
            "STORAGE_RAM_BYTES": STORAGE_RAM_BYTES,
            "STORAGE": int(config.storage and config.cpu_ram_bytes >= STORAGE_RAM_BYTES),
            "FLASH_IMAGE_OFFSET": config.flash_image_offset,
            **modes,
        },
        headers=headers,
    )


def build_memory(config, soc, *, power_up_us=200):
    """Return the memory controller of a system.

    That is a `SdramController`, for a chip behind registers in the pads, or a `Ddr3Controller`.

    Parameters
    ----------
    config : Config
        With ``memory`` other than ``"ideal"``.
    soc : Soc
        What it is for.
    power_up_us : int
        Wait before the first command to an SDRAM in microseconds; simulations shorten it.
    """
    port = soc.axi.signature
    if config.memory == "ddr3":
        return litedram.Ddr3Controller(
            litedram.PARTS[config.ddr3_part],
            config.clock_hz,
            addr_width=port.addr_width,
            id_width=port.id_width,
        )
    return SdramController(
        PARTS[config.sdram_part],
        config.clock_hz,
        data_width=port.data_width,
        addr_width=port.addr_width,
        id_width=port.id_width,
        read_delay=PAD_DELAY,
        power_up_us=power_up_us,
    )


def build_firmware(soc, directory):
    """Write the generated files, compile the firmware and place it into the SoC's memory.

    Parameters
    ----------
    soc : Soc or CoreSoc
    directory : path
        Where header, linker script, SVD, register documents and ``firmware.elf`` go.

    Returns
    -------
    toolchain.Firmware
    """
    directory = Path(directory)
    generate.write_all(soc.system, directory)
    (directory / "tamale_image.h").write_text(image_header.generate())
    folder = firmware_folder()
    flash = isinstance(soc, CoreSoc)

    def compiled(sources, name, script, *options):
        return toolchain.build_firmware(
            [folder / source for source in sources],
            directory / f"{name}.elf",
            toolchain=soc.toolchain,
            linker_script=directory / script,
            include=[directory, folder],
            options=options,
        )

    for name, text in soc.headers.items():
        (directory / name).write_text(text)
    if flash:
        # Its stack lies in the RAM.
        (directory / "boot.ld").write_text(linker.generate(soc.system, program="boot", stack=0))
        soc.load_boot(compiled(["boot.c"], "boot", "boot.ld").image)
    sources = _SOURCES
    if soc.engine is not None:
        sources = _CORE_SOURCES + (() if flash else _CORE_LOADER_SOURCES)
    firmware = compiled(sources, "firmware", "tamale_soc.ld")
    soc.load_firmware(firmware.image)
    return firmware
