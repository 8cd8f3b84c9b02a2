"""`tamale generate`: Verilog and everything that describes its registers."""

import shutil
from pathlib import Path

from tamale import config as configuration
from tamale.generate import image_header, verilog, write_all
from tamale.soc.system import build_firmware, build_soc

from ..runner import to_verilog

__all__ = ["add", "run"]


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "generate",
        help="Verilog, C header, SVD, register map",
        description="Writes the Verilog of the accelerator alone (AXI4 to memory, Wishbone for control) or "
        "of the whole SoC, with the register map as C header, SVD and Markdown, the linker script, and the "
        "configuration as TOML. The same configuration always gives the same files.",
    )
    parser.add_argument("what", nargs="?", choices=("accelerator", "soc"), default="soc")
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
    folder.mkdir(parents=True, exist_ok=True)
    soc = build_soc(config)
    if args.what == "soc":
        firmware = build_firmware(soc, folder)
        (folder / "firmware.bin").write_bytes(firmware.image)
        (folder / "tamale_soc.v").write_text(
            verilog.header_comment(config) + to_verilog(soc, "tamale_soc")
        )
        for source in soc.verilog_sources():
            shutil.copy(source, folder)
    else:
        write_all(soc.system, folder)
        (folder / "tamale_image.h").write_text(image_header.generate())
        (folder / "tamale_accelerator.v").write_text(verilog.accelerator_verilog(config))
    (folder / f"{config.name}.toml").write_text(config.to_toml())
    for file in sorted(folder.iterdir()):
        print(f"{file}  {file.stat().st_size:,} bytes")
