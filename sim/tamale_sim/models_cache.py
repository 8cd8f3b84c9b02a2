"""From what a person names on the command line to a memory image: packed once, kept by content."""

import hashlib
import os
from importlib import resources
from pathlib import Path

from tamale.image import MAGIC, ImageError
from tamale_model import imagefile, readers
from tamale_model.readers import CheckpointError

from .runner import build_root

__all__ = ["demonstration", "is_image", "open_image", "source"]


def demonstration():
    """Return the folder of the demonstration model."""
    return Path(str(resources.files("tamale_model") / "data" / "demo"))


def is_image(path):
    """Whether a file starts like a memory image."""
    try:
        with open(path, "rb") as file:
            return int.from_bytes(file.read(4), "little") == MAGIC
    except OSError:
        return False


def source(path):
    """Return what a path means: a folder, that of a .safetensors file, or a GGUF file.

    Raises
    ------
    CheckpointError
        For a path that is neither.
    """
    path = Path(path)
    if path.is_dir():
        return path
    if path.suffix == ".safetensors" and path.is_file():
        return path.parent
    if path.suffix == ".gguf" and path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    raise CheckpointError(
        f"{path}: neither a Tamale image nor a .safetensors file nor a .gguf file; pass a Hugging "
        "Face folder with config.json and model.safetensors, a GGUF file, or an image that "
        "`tamale pack` wrote"
    )


def _digest(config, path, context):
    digest = hashlib.sha256(repr((config.to_toml(), context)).encode())
    # Another packer makes another image.
    for package in ("tamale", "tamale_model"):
        for file in sorted(Path(str(resources.files(package))).rglob("*.py")):
            digest.update(file.read_bytes())
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix in (".safetensors", ".json", ".gguf"):
            status = file.stat()
            digest.update(repr((file.name, status.st_size, status.st_mtime_ns)).encode())
    digest.update(str(path.resolve()).encode())
    return digest.hexdigest()[:16]


def open_image(path, config, context=None, progress=None):
    """Return (`Image`, its path) of a checkpoint or an image.

    Parameters
    ----------
    path : path or None
        None is the demonstration model.
    config : Config
    context : int, optional
        Positions of a sequence.
    progress : callable, optional
        Called with lines of text.

    Raises
    ------
    CheckpointError, ImageError, ValueError
        If the model cannot be read, or does not suit the configuration.
    """
    if path is not None and is_image(path):
        image = imagefile.load(path)
        if context not in (None, image.fields["context"]):
            raise ImageError(
                f"{path} was packed for a context of {image.fields['context']}, not {context}; "
                "give the checkpoint instead of the image"
            )
        return image, Path(path)
    path = source(path or demonstration())
    name = path.stem if path.is_file() else path.name
    file = build_root() / "images" / f"{name}.{_digest(config, path, context)}.img"
    if not file.exists():
        if progress:
            progress(f"packing {name} for configuration {config.name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        imagefile.build(config, readers.read(path), file, context)
        os.utime(file)
    return imagefile.load(file), file
