"""Arrays that stay in their file: checks of their values and rows that are decoded when asked."""

import ml_dtypes
import numpy as np

from .errors import CheckpointError

__all__ = ["Rows", "check_finite", "map_file", "to_float32"]

#: Elements that a check or a conversion looks at together.
_CHUNK = 1 << 22
#: (unsigned type, bits of the exponent) by float type: all of them set mean infinity or NaN.
_EXPONENTS = {
    np.dtype(np.float16): (np.uint16, 0x7C00),
    np.dtype(ml_dtypes.bfloat16): (np.uint16, 0x7F80),
    np.dtype(np.float32): (np.uint32, 0x7F800000),
}


def map_file(path):
    """Return the bytes of a file as a read-only uint8 array that the system pages in on demand.

    Raises
    ------
    OSError
    """
    with open(path, "rb") as file:
        if not file.seek(0, 2):
            return np.zeros(0, dtype=np.uint8)
    return np.memmap(path, dtype=np.uint8, mode="r")


def check_finite(name, array):
    """Raise CheckpointError unless all values of a float array are finite; in chunks."""
    flat = array.reshape(-1)
    exponent = _EXPONENTS.get(flat.dtype)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        if exponent:
            kind, mask = exponent
            bad = (part.view(kind) & kind(mask)) == mask
        else:
            bad = ~np.isfinite(part)
        if bad.any():
            raise CheckpointError(
                f"tensor {name!r} has values that are not finite; the checkpoint is damaged"
            )


def to_float32(name, array):
    """Return a float array in float32; CheckpointError for a value that is not finite there."""
    if array.dtype.itemsize > 4:
        with np.errstate(over="ignore"):
            array = np.asarray(array, dtype=np.float32)
    check_finite(name, array)
    return np.array(array, dtype=np.float32)


class Rows:
    """A matrix of a coded type: rows become float32 when they are asked for.

    Has the part of an array's interface that consumers of embeddings use: ``shape``, ``dtype``,
    ``len``, indexing by row, slice or array of rows, conversion of the whole by ``np.asarray``.

    Parameters
    ----------
    name : str
        Of the tensor, for messages.
    shape : tuple of int
        (rows, columns).
    read : callable
        Returns the float32 [n, columns] of a slice or an int array [n] of row numbers.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, name, shape, read):
        self._name, self.shape, self._read = name, tuple(shape), read

    @property
    def size(self):
        """Elements."""
        return self.shape[0] * self.shape[1]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        if isinstance(index, tuple):
            return self[index[0]][(Ellipsis, *index[1:])] if index else self[:]
        if index is Ellipsis:
            index = slice(None)
        if not isinstance(index, slice):
            index = np.asarray(index)
            if index.dtype == bool:
                index = np.flatnonzero(index)
            if ((index < -len(self)) | (index >= len(self))).any():
                raise IndexError(f"row {index} of {len(self)}")
            values = self._read(index.reshape(-1) % len(self))
            values = values.reshape(*index.shape, self.shape[1])
        else:
            values = self._read(index)
        check_finite(self._name, values)
        return values

    def __array__(self, dtype=None, copy=None):
        return self[:] if dtype is None else self[:].astype(dtype)

    def astype(self, dtype):
        """Return the whole as an array of ``dtype``."""
        return self.__array__(dtype)

    @property
    def T(self):  # noqa: N802  the name that arrays have
        """The whole, transposed."""
        return self[:].T

    def check(self):
        """Decode everything once; CheckpointError for a value that is not finite."""
        rows = max(1, _CHUNK // max(1, self.shape[1]))
        for start in range(0, len(self), rows):
            self[start : start + rows]
