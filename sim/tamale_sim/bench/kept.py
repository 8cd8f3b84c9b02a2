"""What was measured, kept by everything that decides it, so that an hour can be interrupted."""

import hashlib
import json
import os
from importlib import resources
from pathlib import Path

from tamale.soc.system import firmware_folder

from ..runner import build_root

__all__ = ["figures", "path", "sources"]


def sources(*packages):
    """Return the SHA-256 of the Python sources of packages and of the firmware's, as text."""
    digest = hashlib.sha256()
    roots = [Path(str(resources.files(package))) for package in packages]
    for root in [*roots, Path(firmware_folder())]:
        for file in sorted(root.rglob("*")):
            if file.suffix in (".py", ".c", ".h", ".S", ".v", ".cpp", ".toml"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def path(kind, name, *deciding):
    """Return where a measurement is kept: a path without a suffix, whose folder exists.

    Parameters
    ----------
    kind : str
    name : str
    deciding : sequence
        What decides the result: texts, bytes, configurations. Hardware, golden model and firmware
        do so anyway.
    """
    digest = hashlib.sha256(sources("tamale", "tamale_model").encode())
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
