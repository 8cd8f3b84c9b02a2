"""Readers: from a checkpoint in any supported form to a `Model`.

`read` takes a Hugging Face folder (`huggingface`) or a GGUF file (`gguf`). Containers are parsed
by own code that checks every count against the size of its file (`safetensors`, `gguf_file`);
matrices stay in their file until a layer is asked for (`matrices`, `layers`); what is unpacked in
floats is recognised by its values (`structure`). Nothing here knows of a configuration, of the
device or of a program.
"""

from pathlib import Path

from . import gguf, huggingface
from .errors import CheckpointError
from .matrices import quantise_master, unpack

__all__ = [
    "CheckpointError", "open_skeleton", "quantise_master", "read", "read_tokenizer", "unpack",
]  # fmt: skip


def open_skeleton(path):
    """Return the `graphs.Skeleton` of a checkpoint: what `read` makes the model from."""
    path = Path(path)
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if files and not (path / "config.json").is_file():
            if len(files) > 1:
                raise CheckpointError(
                    f"{path}: holds {len(files)} GGUF files; pass the one that is meant"
                )
            return gguf.read(files[0])
        # What `tamale quantise` wrote; imported here because it is made of the modules beside us.
        from tamale_model.quantise import neutral

        return neutral.read(path) if neutral.is_neutral(path) else huggingface.read(path)
    if path.suffix == ".safetensors" and path.is_file():
        return open_skeleton(path.parent)
    if path.is_file():
        with open(path, "rb") as file:
            magic = file.read(4)
        if magic == b"GGUF" or path.suffix == ".gguf":
            return gguf.read(path)
        raise CheckpointError(
            f"{path}: starts with {magic!r}, so it is no GGUF file; pass a GGUF file, or a Hugging "
            "Face folder with config.json and model.safetensors"
        )
    raise CheckpointError(f"{path}: not a folder; pass the folder of a Hugging Face checkpoint")


def read_tokenizer(path):
    """Return the text of a checkpoint's tokenizer.json, or None, without looking at its weights."""
    path = Path(path)
    if path.is_file() and path.suffix != ".safetensors":
        return gguf.read_tokenizer(path)[0]
    return huggingface.read_tokenizer(path if path.is_dir() else path.parent)[0]


def read(path):
    """Return the `Model` of a Hugging Face folder, its .safetensors file, or a GGUF file.

    Layers are read when they are asked for; embeddings are views of the mapped file, or
    `arrays.Rows` where the file has them in a coded type.

    Raises
    ------
    CheckpointError
        For anything missing, truncated, of another shape or not supported. Values of matrices are
        checked when their layer is read.
    """
    return open_skeleton(path).model()
