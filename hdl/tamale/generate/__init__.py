"""Writers of everything that is derived from a system's registers and memory map.

Each module has a function ``generate(system)`` that returns the text of a file. The text depends on
the `System` alone: no times, no paths, no names of machines. Nothing here knows the hardware.
"""

from pathlib import Path

from . import header, linker, markdown, svd

__all__ = ["FILES", "write_all"]

#: Generated files: name and generator.
FILES = {
    "tamale_soc.h": header.generate,
    "tamale_soc.ld": linker.generate,
    "tamale_soc.svd": svd.generate,
    "tamale_soc.md": markdown.generate,
}


def write_all(system, directory):
    """Write every file of ``FILES`` for ``system`` into ``directory``, which is made if missing.

    Returns
    -------
    list of Path
        The files.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, generate in FILES.items():
        path = directory / name
        path.write_text(generate(system))
        paths.append(path)
    return paths
