"""What was measured, kept by everything that decides it, so that an hour can be interrupted."""

import hashlib
import json
import os
from importlib import resources
from pathlib import Path

from tamale.soc.system import firmware_folder

from ..runner import build_root

__all__ = ["figures", "path"]


def _hardware():
    """Return the files that decide what a simulated board does, and what is expected of it."""
    roots = [Path(str(resources.files(name))) for name in ("tamale", "tamale_model")]
    suffixes = (".py", ".c", ".h", ".S", ".v", ".cpp", ".toml")
    files = [file for root in (*roots, Path(firmware_folder())) for file in root.rglob("*")]
    return sorted(file for file in files if file.suffix in suffixes)


def path(kind, name, *deciding, sources=None):
    """Return where a measurement is kept: a path without a suffix, whose folder exists.

    Parameters
    ----------
    kind : str
    name : str
    deciding : sequence
        What decides the result: texts, bytes, configurations.
    sources : sequence of Path, optional
        Sources that decide it; by default those of hardware, golden model and firmware.
    """
    digest = hashlib.sha256()
    for file in _hardware() if sources is None else sources:
        digest.update(Path(file).read_bytes())
    for value in deciding:
        value = value.to_toml() if hasattr(value, "to_toml") else value
        digest.update(value if isinstance(value, bytes) else repr(value).encode())
    folder = build_root() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    # No suffix: a dot in the name would look like one.
    name = name.replace(".", "-")
    return folder / f"{kind}-{name}-{digest.hexdigest()[:16]}"


def figures(file, make):
    """Return the object that ``make`` returns, or that it returned for this file before."""
    file = Path(file).with_suffix(".json")
    if not file.is_file():
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(make()))
        part.replace(file)
    return json.loads(file.read_text())
