"""The blocks that the area model of chips is fitted to, synthesised one by one, resumably."""

import hashlib
import json
import os
import tomllib
from importlib import resources
from pathlib import Path

from tamale.config import Config

from tamale_fpga import ecp5, liberty
from tamale_fpga.blocks import BLOCKS
from tamale_fpga.tools import ToolError

__all__ = ["points", "run"]


def points():
    """Return the list of (block, fields of its configuration) in ``synthesis.toml``."""
    text = (resources.files("tamale_model.explore") / "data" / "synthesis.toml").read_text()
    return [(block, entry) for block, entries in tomllib.loads(text).items() for entry in entries]


#: Widest bus for which a point is synthesised for ECP5 too: wider ones do not fit its parts.
_ECP5_BUS = 128


def run(arguments):
    """Synthesise one point for a chip, for ECP5, or for both, or find it from before.

    Parameters
    ----------
    arguments : tuple
        (block, fields of its configuration, folder for builds, text of the Liberty library or None
        for no chip, whether ECP5 too): by value, for a worker may be another machine.

    Returns
    -------
    dict
        ``block``, ``changes``, what `liberty.measure` returns if there is a library, and ``ecp5``:
        ``lut4``, ``ff``, ``ebr``, ``dsp``, or None where the block is too wide for it or its
        synthesis fails.
    """
    block, changes, root, library, for_ecp5 = arguments
    config = Config(**changes)
    folder = Path(root) / "liberty"
    folder.mkdir(parents=True, exist_ok=True)

    def chip():
        return liberty.measure(_component(block, config), folder / f"chip.{os.getpid()}", library)

    def fpga():
        if block == "cpu" or config.bus_width > _ECP5_BUS:
            return None
        try:
            folder_ecp5 = folder / f"ecp5.{os.getpid()}"
            cells = ecp5.synthesise(BLOCKS[block](config), "block", folder_ecp5)
        except ToolError:
            # Yosys' ABC ends without a word on some blocks; the model of area does without them.
            return None
        return {
            "lut4": ecp5.lut4_slots(cells),
            "ff": cells.get("TRELLIS_FF", 0),
            "ebr": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
            "dsp": cells.get("MULT18X18D", 0),
        }

    result = {"block": block, "changes": changes}
    if library is not None:
        result |= _cached(folder, (block, config, library), chip)
    return result | {"ecp5": _cached(folder, (block, config, "ecp5"), fpga) if for_ecp5 else None}


def _cached(folder, key, make):
    """Return what ``make`` gives, kept by its key and the sources of the hardware."""
    digest = hashlib.sha256(repr(key).encode())
    for file in sorted(Path(str(resources.files("tamale"))).rglob("*.py")):
        digest.update(file.read_bytes())
    cache = folder / f"{key[0]}.{digest.hexdigest()[:16]}.json"
    if not cache.is_file():
        text = json.dumps(make())
        part = cache.with_suffix(f".{os.getpid()}.part")
        part.write_text(text)
        part.replace(cache)
    return json.loads(cache.read_text())


def _component(block, config):
    if block != "cpu":
        return BLOCKS[block](config)
    import pythondata_cpu_vexriscv

    return Path(pythondata_cpu_vexriscv.data_location) / "VexRiscv.v"
