"""The layers of a model that lies in a file: read when they are asked for."""

import dataclasses
from collections.abc import Sequence

from tamale_model.model import LINEARS

__all__ = ["Layers", "nbytes"]

#: Bytes of layers that stay in memory, so that small models are decoded once.
_KEPT_BYTES = 256 << 20


def nbytes(layer):
    """Bytes that the arrays of a layer take."""
    total = 0
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if field.name in LINEARS:
            parts = [getattr(value, part.name) for part in dataclasses.fields(value)]
        else:
            parts = [value]
        total += sum(getattr(part, "nbytes", 0) for part in parts)
    return total


class Layers(Sequence):
    """Layers that a function reads.

    Layers are kept while all of those kept are small together; beyond that, only the one read last
    is, so a walk needs the memory of two.

    Parameters
    ----------
    count : int
    load : callable
        Called with the number of a layer, returns it; raises CheckpointError.
    kept_bytes : int
        Bytes of layers that stay in memory.
    """

    def __init__(self, count, load, kept_bytes=_KEPT_BYTES):
        self._count, self._load, self._room = count, load, kept_bytes
        self._kept = {}
        self._last = None, None

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        number = index + self._count if index < 0 else index
        if not 0 <= number < self._count:
            raise IndexError(f"layer {index} of {self._count}")
        if number in self._kept:
            return self._kept[number]
        if self._last[0] == number:
            return self._last[1]
        self._last = None, None
        layer = self._load(number)
        size = nbytes(layer)
        if size <= self._room:
            self._room -= size
            self._kept[number] = layer
        else:
            self._last = number, layer
        return layer
