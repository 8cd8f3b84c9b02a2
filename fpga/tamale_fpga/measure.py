"""Area and clock of one block: synthesised, placed and routed in the harness, seed by seed."""

from pathlib import Path

from tamale_fpga import ecp5
from tamale_fpga.blocks import BLOCKS
from tamale_fpga.harness import Harness

__all__ = ["measure"]


def measure(name, config, directory, *, seeds=1, mhz=160, area=False, progress=None):
    """Return the figures of a block.

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
    directory = Path(directory)
    progress = progress or (lambda line: None)
    progress(f"synthesising {name} for configuration {config.name}")
    cells = ecp5.synthesise(BLOCKS[name](config), "block", directory)
    result = {
        "block": name,
        "configuration": config.name,
        "lut4": ecp5.lut4_slots(cells),
        "ff": cells.get("TRELLIS_FF", 0),
        "ebr": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
        "dsp": cells.get("MULT18X18D", 0),
        "cells": cells,
        "routed": [],
    }
    if not area and result["ff"]:
        harness = Harness(BLOCKS[name](config))
        progress("synthesising it in its harness")
        own = harness.lut4
        ecp5.synthesise(harness, "top", directory)
        for seed in range(1, seeds + 1):
            progress(f"placing and routing, seed {seed} of {seeds}")
            routed = ecp5.route("top", directory, seed=seed, mhz=mhz)
            slots = routed.cells["TRELLIS_COMB"] - own
            result["routed"].append(
                {"seed": seed, "mhz": routed.mhz, "lut4": slots, "cells": routed.cells}
            )
        result["mhz"] = min(entry["mhz"] for entry in result["routed"])
        # What nextpnr placed, the ends of carry chains and paths through cells included.
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
