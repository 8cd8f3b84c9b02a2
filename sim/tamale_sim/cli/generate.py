"""`tamale generate`: Verilog and everything that describes its registers."""

import tempfile
import warnings
from pathlib import Path

from amaranth.hdl import UnusedElaboratable
from tamale import config as configuration
from tamale import generate
from tamale.generate import commands, image_header, verilog
from tamale.soc.system import build_firmware, build_soc, firmware_folder

__all__ = ["add", "run"]

#: Reference tables that are the same for every configuration.
_DOCUMENTS = {
    "tamale_commands.md": commands.generate,
    "tamale_image.md": commands.generate_image,
}

#: Sources of the driver, for programs of systems that use the accelerator alone.
_DRIVER = ("driver.c", "driver.h", "integer.h", "sample.c", "sample.h")


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "generate",
        help="Verilog, C header, SVD, register map",
        description="Writes the Verilog of the accelerator alone (AXI4 to memory, Wishbone for "
        "control) or of the whole SoC, with the register map as C header, SVD and Markdown, the "
        "driver in C or the firmware, tables of commands and image header, and the configuration "
        "as TOML. The same configuration always gives the same files.",
    )
    parser.add_argument(
        "what", nargs="?", choices=("accelerator", "soc"), default="soc", help="default: soc"
    )
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("-o", "--output", default="rtl", help="folder (default: rtl)")
    parser.add_argument("--list", action="store_true", help="list the presets and stop")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
    if args.list:
        for name in configuration.preset_names():
            config = configuration.load(name)
            print(f"{name:12} {config.lanes} lanes x {config.vectors} vectors, {config.board}")
        return
    config = configuration.load(args.config)
    folder = Path(args.output)
    if args.what == "accelerator" and config.engine != "accelerator":
        raise ValueError(
            f"configuration {config.name} has engine = {config.engine!r}, no accelerator; generate "
            "its soc"
        )
    soc = build_soc(config)
    # Everything is made before anything is written: a mistake leaves the folder as it was.
    files = {f"{config.name}.toml": config.to_toml()}
    files |= {name: document() for name, document in _DOCUMENTS.items()}
    if args.what == "accelerator":
        # The system around the accelerator serves for its register map alone.
        warnings.simplefilter("ignore", UnusedElaboratable)
        files |= {name: make(soc.system) for name, make in generate.FILES.items()}
        del files["tamale_soc.ld"]
        files |= {name: (firmware_folder() / name).read_bytes() for name in _DRIVER}
        files["tamale_image.h"] = image_header.generate()
        files["tamale_accelerator.v"] = verilog.accelerator_verilog(config)
    else:
        with tempfile.TemporaryDirectory(prefix="tamale.") as build:
            files["firmware.bin"] = build_firmware(soc, build).image
            files |= {file.name: file.read_bytes() for file in Path(build).iterdir()}
        files["tamale_soc.v"] = verilog.soc_verilog(soc, config)
        files |= {Path(file).name: Path(file).read_bytes() for file in soc.verilog_sources()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in sorted(files.items()):
        file = folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        print(f"{file}  {file.stat().st_size:,} bytes")
