"""Container: the tensors of safetensors files, mapped, checked against the size of their file.

Source: https://github.com/huggingface/safetensors (README, format). An own parser, because views of
the mapped file are wanted where the package copies.
"""

import ml_dtypes
import numpy as np

from .arrays import map_file
from .errors import CheckpointError, parse_json

__all__ = ["Tensors", "open_file", "open_folder"]

_TYPES = {
    "BOOL": np.uint8,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}
#: Types that checkpoints hold and nothing here takes; their sizes are checked all the same.
_OTHER_BYTES = {"F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1}
#: The format's own limit.
_HEADER_BYTES = 100_000_000


def _damaged(path, reason):
    return CheckpointError(f"{path}: not a complete safetensors file ({reason}); copy it again")


def _entry(path, name, entry, room):
    """Return (type, shape, begin, end) of a tensor, checked."""
    try:
        kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _damaged(path, f"tensor {name!r} lacks dtype, shape or data_offsets") from None
    numbers = [begin, end] + (shape if isinstance(shape, list) else [None])
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise _damaged(path, f"tensor {name!r} has a shape or offsets that are no numbers")
    itemsize = (
        (np.dtype(_TYPES[kind]).itemsize if kind in _TYPES else _OTHER_BYTES.get(kind))
        if isinstance(kind, str)
        else None
    )
    if itemsize is None:
        raise CheckpointError(
            f"{path}: tensor {name!r} has the unknown type {kind!r}; export the checkpoint in "
            "float32, bfloat16 or packed"
        )
    size = itemsize
    for n in shape:
        size *= n
    if not begin <= end <= room or end - begin != size:
        raise _damaged(
            path, f"tensor {name!r} of {size} bytes lies at {begin} to {end} of {room} bytes"
        )
    return kind, tuple(shape), begin, end


def open_file(path):
    """Return {name: array} of a safetensors file; arrays are views of the mapped file.

    Raises
    ------
    CheckpointError
        For a file that is truncated, damaged or of another format.
    """
    try:
        data = map_file(path)
    except OSError as error:
        raise _damaged(path, error.strerror or error) from error
    if len(data) < 8:
        raise _damaged(path, f"it has {len(data)} bytes")
    length = int(data[:8].view("<u8")[0])
    if length > min(_HEADER_BYTES, len(data) - 8):
        raise _damaged(path, f"a header of {length} bytes in a file of {len(data)}")
    try:
        header = parse_json(bytes(data[8 : 8 + length]))
    except ValueError as error:
        raise _damaged(path, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is no JSON object")
    header.pop("__metadata__", None)
    body = data[8 + length :]
    tensors, last = {}, 0
    for name, entry in header.items():
        kind, shape, begin, end = _entry(path, name, entry, len(body))
        last = max(last, end)
        if kind in _TYPES:
            tensors[name] = body[begin:end].view(_TYPES[kind]).reshape(shape)
    if last != len(body):
        raise _damaged(path, f"its tensors end at {last} of {len(body)} bytes")
    return tensors


class Tensors:
    """Tensors by name, of one file or several.

    Parameters
    ----------
    source : Path
        The folder, for messages.
    arrays : dict of str to (Path, array)
    """

    def __init__(self, source, arrays):
        self.source, self._arrays, self._asked = source, arrays, set()

    def __contains__(self, name):
        return name in self._arrays

    def __iter__(self):
        return iter(self._arrays)

    def get(self, name, shape=None):
        """Return a tensor; CheckpointError if it is missing or of another shape."""
        self._asked.add(name)
        if name not in self._arrays:
            raise CheckpointError(
                f"tensor {name!r} is missing; the checkpoint is of another kind or lacks a file"
            )
        file, tensor = self._arrays[name]
        if shape is not None and tensor.shape != tuple(shape):
            raise CheckpointError(
                f"{file}: tensor {name!r} has shape {list(tensor.shape)}, "
                f"config.json asks for {list(shape)}; they are not of one checkpoint"
            )
        return tensor

    def left(self, prefix):
        """Names that begin with ``prefix`` and that nobody has asked for."""
        return sorted(n for n in self._arrays if n.startswith(prefix) and n not in self._asked)


def open_folder(folder):
    """Return the `Tensors` of a folder: the shards that an index names, or every file."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = parse_json(index.read_bytes())["weight_map"].values()
        except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise CheckpointError(
                f"{index}: not a safetensors index ({error}); copy it again"
            ) from error
        if not all(isinstance(name, str) and name == name.split("/")[-1] for name in names):
            raise CheckpointError(
                f"{index}: not a safetensors index (a shard is no file name); copy it again"
            )
        files = sorted({folder / name for name in names})
    else:
        files = sorted(folder.glob("*.safetensors"))
    if not files:
        other = sorted(file.name for file in folder.glob("*.bin")) + sorted(
            file.name for file in folder.glob("*.gguf")
        )
        raise CheckpointError(
            f"{folder}: no .safetensors file; pass a Hugging Face folder with config.json and "
            "model.safetensors" + (f" (there is {other[0]})" if other else "")
        )
    arrays = {}
    for file in files:
        try:
            there = file.is_file()
        except OSError:  # a name that no file system takes
            there = False
        if not there:
            raise CheckpointError(
                f"{file}: the index names this shard, but it is missing; copy it there"
            )
        for name, array in open_file(file).items():
            if name in arrays:
                raise CheckpointError(
                    f"{file}: tensor {name!r} is in {arrays[name][0].name} too; "
                    "files of two checkpoints are mixed"
                )
            arrays[name] = file, array
    return Tensors(folder, arrays)
