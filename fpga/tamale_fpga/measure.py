"""Area and clock of one block: synthesised, placed and routed in the harness, seed by seed."""

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path

from tamale_fpga import carry, ecp5, gowin, outputs
from tamale_fpga.blocks import BLOCKS
from tamale_fpga.harness import Harness, own_lut4

__all__ = ["FAMILIES", "measure"]

#: Flow, its sources, and its multipliers, by family of FPGAs.
FAMILIES = {
    "ecp5": (ecp5, (carry, ecp5, outputs), "MULT18X18D"),
    "gowin": (gowin, (gowin,), "MULT18X18"),
}


def measure(name, config, directory, *, seeds=1, mhz=160, area=False, family="ecp5", progress=None):
    """Return the figures of a block.

    What was measured before, with the same hardware and tools, is read from ``directory``: an
    interrupted measurement goes on where it was.

    Parameters
    ----------
    name : str
        A key of `BLOCKS`.
    config : Config
    directory : path-like
        Where the tools' files go.
    seeds : int
        Seeds to route; the clock is that of the slowest, the area that of the largest.
    mhz : float
        Clock that nextpnr aims at.
    area : bool
        Synthesise only.
    family : str
        A key of `FAMILIES`. For Gowin, the area is that of the netlist, for the harness shares
        its places.
    progress : callable, optional
        Called with a line before each step.

    Returns
    -------
    dict
        ``lut4``, ``ff``, ``ebr``, ``dsp``, ``cells``; routed blocks have ``mhz``, ``routed`` too,
        the engine ``lut4_per_mac`` and ``gmacs_per_klut4``, the decoder ``lut4_per_weight``.

    Raises
    ------
    ToolError
        If Yosys or nextpnr is missing or fails.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, not {seeds}")
    progress = progress or (lambda line: None)
    flow, sources, multiplier = FAMILIES[family]

    def synthesise(component, top, what):
        """Return what is known of the netlist of a component, and its folder."""
        text = flow.to_rtlil(component, top)
        digest = hashlib.sha256(repr([*map(importlib.metadata.version, flow.PACKAGES)]).encode())
        for source in sources:
            digest.update(Path(source.__file__).read_bytes())
        digest.update(text.encode())
        folder = Path(directory) / f"{top}.{digest.hexdigest()[:16]}"

        def make():
            progress(f"synthesising {what}")
            cells = flow.synthesise_rtlil(text, top, folder)
            netlist = folder / f"{top}.json"
            return {
                "cells": cells,
                "figures": flow.block_figures(netlist, cells),
                "multipliers": _cells_of(netlist, multiplier),
                "own": own_lut4(netlist) if flow is ecp5 else 0,
            }

        return _kept(folder / "synthesis.json", make), folder

    block, _ = synthesise(BLOCKS[name](config), "block", f"{name} for configuration {config.name}")
    cells = block["cells"]
    result = {
        "block": name,
        "configuration": config.name,
        **block["figures"],
        "cells": cells,
        "multipliers": block["multipliers"],
        "routed": [],
    }
    if not area and result["ff"]:
        harness, folder = synthesise(Harness(BLOCKS[name](config)), "top", "it in its harness")
        for seed in range(1, seeds + 1):

            def route(seed=seed):
                progress(f"placing and routing {name}, seed {seed} of {seeds}")
                routed = flow.route("top", folder, seed=seed, mhz=mhz)
                return {"seed": seed, "mhz": routed.mhz, "cells": routed.cells}

            entry = _kept(folder / f"seed{seed}.{mhz:g}.json", route)
            slots = result["lut4"]
            if flow is ecp5:
                # What nextpnr placed, the ends of carry chains and paths through cells included.
                slots = entry["cells"]["TRELLIS_COMB"] - harness["own"]
            result["routed"].append(entry | {"lut4": slots})
        result["mhz"] = min(entry["mhz"] for entry in result["routed"])
        result["lut4"] = max(entry["lut4"] for entry in result["routed"])
    if name in ("array", "engine"):
        macs = config.lanes * config.vectors
        result |= {"macs_per_cycle": macs, "lut4_per_mac": result["lut4"] / macs}
        if "mhz" in result:
            result["gmacs_per_klut4"] = result["mhz"] * macs / result["lut4"]
    if name == "decoder":
        result["lut4_per_weight"] = result["lut4"] / config.trit_code.trits_per_byte
    if name == "sparse-decoder":
        result["lut4_per_weight"] = result["lut4"] / config.tile_k
    return result


def _kept(path, make):
    """Return what ``make`` returns, or what it returned when it was called for this path before."""
    if not path.is_file():
        result = make()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(result))
        part.replace(path)
    return json.loads(path.read_text())


def _cells_of(path, kind):
    """Return the names of the cells of a kind, sorted."""
    modules = json.loads(Path(path).read_text())["modules"].values()
    return sorted(
        name for module in modules for name, cell in module["cells"].items() if cell["type"] == kind
    )
