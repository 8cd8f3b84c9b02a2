"""Container: metadata and tensor table of a GGUF file, every count checked against its size.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. An own parser: the ``gguf``
package's refuses types that it does not know, and allocates by counts that it does not check.
"""

import dataclasses
import struct

import numpy as np

from . import blocks
from .arrays import map_file
from .errors import CheckpointError

__all__ = ["GgufFile", "TensorInfo"]

#: struct format by number of a metadata type; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_LONGEST_NAME = 65535


@dataclasses.dataclass(frozen=True)
class TensorInfo:
    """An entry of the tensor table.

    Parameters
    ----------
    name : str
    shape : tuple of int
        Slowest dimension first, as NumPy has it: (rows, columns).
    kind : int
        Number of the type.
    begin, room : int
        First byte in the file, and bytes up to the next tensor.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    begin: int
    room: int

    @property
    def elements(self):
        """Elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


class _Cursor:
    """Reads a mapped file from front to back and never beyond its end."""

    def __init__(self, path, data):
        self.path, self.data, self.view, self.at = path, data, memoryview(data), 0

    def fail(self, reason):
        return CheckpointError(f"{self.path}: not a complete GGUF file ({reason}); copy it again")

    def take(self, count, what):
        if count > len(self.data) - self.at:
            raise self.fail(f"{what} of {count} bytes at {self.at} of {len(self.data)}")
        self.at += count
        return self.view[self.at - count : self.at]

    def number(self, form, what):
        size = struct.calcsize("<" + form)
        return struct.unpack("<" + form, self.take(size, what))[0]

    def string(self, what):
        return bytes(self.take(self.number("Q", what), what))

    def text(self, what):
        try:
            return self.string(what).decode()
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8") from None

    def value(self, kind, what):
        if kind in _SCALARS:
            return self.number(_SCALARS[kind], what)
        if kind == _STRING:
            return self.string(what).decode(errors="surrogateescape")
        if kind != _ARRAY:
            raise self.fail(f"{what} has the unknown type {kind}")
        inner, count = self.number("I", what), self.number("Q", what)
        if inner in _SCALARS:
            form = np.dtype("<" + _SCALARS[inner] if inner != 7 else "?")
            raw = self.take(count * form.itemsize, what)
            return np.frombuffer(raw, dtype=form)
        if inner != _STRING:
            raise self.fail(f"{what} is an array of type {inner}")
        if count > (len(self.data) - self.at) // 8:
            raise self.fail(f"{what} has {count} strings")
        return [self.string(what).decode(errors="surrogateescape") for _ in range(count)]


class GgufFile:
    """A GGUF file, mapped.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    metadata : dict
        Numbers, strings, lists of strings and arrays of numbers by key.
    tensors : dict of str to TensorInfo

    Raises
    ------
    CheckpointError
        For a file that is truncated, damaged or of another format.
    """

    def __init__(self, path):
        self.path = path
        try:
            self._data = map_file(path)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from None
        cursor = _Cursor(path, self._data)
        magic = bytes(cursor.take(4, "the magic"))
        if magic != b"GGUF":
            raise CheckpointError(f"{path}: starts with {magic!r}, so it is no GGUF file")
        version = cursor.number("I", "the version")
        if version & 0xFFFF == 0 and version:
            raise CheckpointError(
                f"{path}: GGUF of big-endian machines is not supported; "
                "convert it to little-endian (gguf-convert-endian)"
            )
        if version not in (2, 3):
            raise CheckpointError(
                f"{path}: GGUF version {version} is not supported; "
                "this reader takes 2 and 3, so convert the model again"
            )
        tensors, pairs = (cursor.number("Q", "a count") for _ in range(2))
        # An entry has at least 13 and 24 bytes.
        if pairs > len(self._data) // 13 or tensors > len(self._data) // 24:
            raise cursor.fail(f"counts of {tensors} tensors and {pairs} entries")
        self.metadata = {}
        for _ in range(pairs):
            key = cursor.text("a key")
            if key in self.metadata:
                raise cursor.fail(f"key {key!r} occurs twice")
            kind = cursor.number("I", f"the type of {key!r}")
            self.metadata[key] = cursor.value(kind, repr(key))
        self.tensors = self._table(cursor, tensors)

    def _table(self, cursor, count):
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise cursor.fail(f"general.alignment is {alignment!r}, no power of two")
        entries = {}
        for _ in range(count):
            name = cursor.text("a tensor's name")
            if name in entries:
                raise cursor.fail(f"tensor {name!r} occurs twice")
            dimensions = cursor.number("I", repr(name))
            if not 1 <= dimensions <= 4:
                raise cursor.fail(f"tensor {name!r} has {dimensions} dimensions")
            shape = tuple(cursor.number("Q", repr(name)) for _ in range(dimensions))[::-1]
            entries[name] = shape, cursor.number("I", repr(name)), cursor.number("Q", repr(name))
        base = -(-cursor.at // alignment) * alignment
        end = max(len(self._data) - base, 0)
        starts = sorted({offset for _, _, offset in entries.values()})
        following = dict(zip(starts, [*starts[1:], end], strict=False))
        tensors = {}
        for name, (shape, kind, offset) in entries.items():
            if offset > end or offset % alignment:
                raise cursor.fail(f"tensor {name!r} lies at {offset} of {end} bytes")
            if min(shape) < 1:
                raise cursor.fail(f"tensor {name!r} has shape {list(shape)}")
            room = max(following[offset] - offset, 0)
            tensors[name] = TensorInfo(name, shape, kind, base + offset, room)
        self.alignment = alignment
        return tensors

    def bytes_of(self, info, size):
        """Return the first ``size`` bytes of a tensor, a view of the mapped file."""
        if size > len(self._data) - info.begin:
            raise CheckpointError(
                f"{self.path}: not a complete GGUF file (tensor {info.name!r} of {size} bytes "
                f"at {info.begin} of {len(self._data)}); copy it again"
            )
        return self._data[info.begin : info.begin + size]

    def rows_of(self, info, weights, size):
        """Return a tensor as uint8 [rows, bytes] for blocks of ``weights`` in ``size`` bytes."""
        columns = info.shape[-1]
        if columns % weights:
            raise CheckpointError(
                f"tensor {info.name!r}: rows of {columns} do not divide into blocks of {weights}; "
                "the file is damaged"
            )
        rows = info.elements // columns
        width = columns // weights * size
        return self.bytes_of(info, rows * width).reshape(rows, width)

    def coding_of(self, kind):
        """Return the `blocks.Coding` of a ternary type in this file.

        Where files disagree on the size of a type's blocks, the distances between tensors decide.
        """
        candidates = blocks.TERNARY[kind]
        for coding in candidates:
            for info in self.tensors.values():
                if info.kind != kind:
                    continue
                size = info.elements // coding.weights * coding.bytes
                if info.shape[-1] % coding.weights:
                    break
                # The last tensor of a file need not be padded.
                if info.room not in (size, -(-size // self.alignment) * self.alignment):
                    break
            else:
                return coding
        return candidates[0]
