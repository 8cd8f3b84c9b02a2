"""Matrices that lie in a file in some form: first asked for a plan, then read with the one chosen.

A plan per role (all q, all k, ...) makes the layers of a model alike, which the device's program
needs: the finest scales and the most planes of any layer are given to all of them.
"""

import dataclasses

import numpy as np

from tamale_model.model import FloatLinear, Linear

from . import blocks, structure
from .arrays import check_finite, to_float32
from .errors import CheckpointError

__all__ = [
    "BlockMatrix", "FloatMatrix", "I2sMatrix", "MasterMatrix", "MlxMatrix", "PackedMatrix",
    "TritMatrix", "quantise_master", "unpack",
]  # fmt: skip

#: Rows of a float matrix whose structure stands for all of them in a plan.
_SAMPLED_ROWS = 64


def unpack(packed):
    """Return int8 [4 * n, k] trits of a packed uint8 [n, k] weight.

    Row r lies in byte row r % n at bits 2 * (r // n); the field is the trit plus one.
    """
    _check_fields("packed weight", packed)
    fields = [(packed >> 2 * i & 3).astype(np.int8) - 1 for i in range(4)]
    return np.concatenate(fields)


def _check_fields(name, packed):
    for part in np.array_split(packed, max(1, packed.size >> 22)):
        if (part & part >> 1 & 0x55).any():
            raise CheckpointError(f"{name} has a field of 3, which is no trit")


def quantise_master(weight):
    """Return (int8 trits, mean absolute weight) of a float matrix, as in BitNet training."""
    weight = np.asarray(weight, dtype=np.float32)
    mean = max(np.float32(np.abs(weight).mean(dtype=np.float64)), np.float32(1e-5))
    return np.clip(np.rint(weight * (np.float32(1) / mean)), -1, 1).astype(np.int8), float(mean)


@dataclasses.dataclass
class Matrix:
    """What all forms share.

    Parameters
    ----------
    name : str
        Of the tensor, for messages.
    shape : tuple of int
        (rows, k).
    order : int array or None
        Rows of the file in the order of the model, where they differ.
    bias : float32 array or None
        In the order of the model.
    norm : float32 array or None
    factor : float
        Scale that lies beside the tensor, or 1.
    """

    name: str
    shape: tuple[int, int]
    order: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    bias: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    norm: np.ndarray | None = dataclasses.field(default=None, kw_only=True)
    factor: float = dataclasses.field(default=1.0, kw_only=True)

    @property
    def form(self):
        """What the file has, in a word or two."""
        return self._form

    def plan(self):
        """Return the coarsest `Plan` of this matrix."""
        return structure.Plan(structure.TENSOR)

    def read(self, plan):
        """Return the `Linear` or `FloatLinear`."""
        result = self._read(plan)
        if self.order is not None:
            for key in ("values", "scales", "weights"):
                array = getattr(result, key, None)
                if array is not None:
                    setattr(result, key, array[self.order])
        result.bias, result.norm = self.bias, self.norm
        return result

    def _with_one_scale(self, values, scale, plan):
        """A `Linear` of one scale, which ``plan`` may want for each row or group."""
        scale *= self.factor
        if plan.level in (structure.TENSOR, structure.FLOAT):
            return Linear(values, plan.planes, scale)
        groups = -(-self.shape[1] // plan.group_size) if plan.level == structure.GROUP else 1
        scales = np.ones((self.shape[0], groups), np.float32)
        return Linear(values, plan.planes, scale, scales, plan.group_size)


@dataclasses.dataclass
class PackedMatrix(Matrix):
    """Four trits a byte, as transformers packs BitNet."""

    packed: np.ndarray
    scale: float
    _form = "packed trits"

    def __post_init__(self):
        _check_fields(self.name, self.packed)

    def _read(self, plan):
        return self._with_one_scale(unpack(self.packed), self.scale, plan)


@dataclasses.dataclass
class TritMatrix(Matrix):
    """Floats that are -1, 0 and 1, with a scale beside them."""

    weights: np.ndarray
    scale: float
    _form = "unpacked trits"

    def _read(self, plan):
        weights = to_float32(self.name, self.weights)
        if not np.isin(weights, (-1, 0, 1)).all():
            raise CheckpointError(
                f"{self.name} has a weight_scale, but its weights are not -1, 0 and 1; "
                "export it again, packed or as master weights without scale"
            )
        return self._with_one_scale(weights.astype(np.int8), self.scale, plan)


@dataclasses.dataclass
class MasterMatrix(Matrix):
    """Master weights of BitNet training, which are quantised as there."""

    weights: np.ndarray
    _form = "master weights"

    def _read(self, plan):
        values, mean = quantise_master(to_float32(self.name, self.weights))
        return self._with_one_scale(values, mean, plan)


@dataclasses.dataclass
class FloatMatrix(Matrix):
    """Floats of which nothing is known: ternary if their structure says so.

    Parameters
    ----------
    rows : callable
        Returns float32 rows for a slice or an array of row numbers.
    exact : bool
        Whether the file's values can be ternary exactly; False: they are floats for certain.
    view : float array or None
        The same matrix mapped from the file, where it lies there as an array.
    stored : str
        Name of the file's type.
    """

    rows: object
    exact: bool = True
    view: np.ndarray | None = None
    stored: str = "floats"

    @property
    def form(self):
        """The type of the floats."""
        return self.stored

    def plan(self):
        """The structure of some rows, spread over the matrix."""
        if not self.exact:
            return structure.Plan(structure.FLOAT)
        chosen = np.unique(np.linspace(0, self.shape[0] - 1, _SAMPLED_ROWS).astype(np.int64))
        return structure.find(self.rows(chosen))[0]

    def _read(self, plan):
        weights = self.rows(slice(None))
        check_finite(self.name, weights)
        if plan.level != structure.FLOAT and self.exact:
            found, scales, size = structure.find(weights)
            if found.level != structure.FLOAT:
                signs = np.sign(weights).astype(np.int8)
                # A plan from samples that the whole matrix refutes gives way.
                merged = structure.merge([plan, found])
                return structure.linear(signs, scales, size, merged, self.factor)
        if self.factor != 1:
            return FloatLinear(weights * np.float32(self.factor))
        return FloatLinear(weights if self.view is None else self.view)


@dataclasses.dataclass
class BlockMatrix(Matrix):
    """Ternary blocks of a GGUF file.

    Parameters
    ----------
    raw : uint8 array [rows, bytes]
    coding : blocks.Coding
    """

    raw: np.ndarray
    coding: blocks.Coding

    @property
    def form(self):
        """Name of the block type."""
        return self.coding.name

    def _blocks(self):
        return self.raw.reshape(self.shape[0], -1, self.coding.bytes)

    def _scales(self):
        scales = self.coding.scales(self._blocks())
        check_finite(self.name, scales)
        return scales

    def plan(self):
        """Coarsest form of the blocks' scales."""
        # Rows by the thousand, so that the codes of a large matrix are not copied at once.
        parts = np.array_split(self._blocks(), max(1, self.raw.size >> 24))
        planes = 2 if any(self.coding.has_two(part) for part in parts) else 1
        return structure.coarsest(self._scales(), self.coding.weights, planes)

    def _read(self, plan):
        flat = np.ascontiguousarray(self.raw).reshape(-1, self.coding.bytes)
        values = self.coding.values(flat).reshape(self.shape)
        return structure.linear(values, self._scales(), self.coding.weights, plan, self.factor)


@dataclasses.dataclass
class I2sMatrix(Matrix):
    """bitnet.cpp's two-bit codes with one scale."""

    raw: np.ndarray
    _form = "I2_S"

    def __post_init__(self):
        scale = blocks.i2_s_scale(self.raw, self.shape[0] * self.shape[1] // 4)
        if not np.isfinite(scale) or scale <= 0:
            raise CheckpointError(
                f"{self.name}: its scale is {scale}, it must be positive; the file is damaged"
            )

    def _read(self, plan):
        try:
            values, scale = blocks.read_i2_s(self.raw, *self.shape)
        except ValueError as error:
            raise CheckpointError(f"{self.name} has {error}; the file is damaged") from None
        return self._with_one_scale(values, scale, plan)


def mlx_rows(packed, scales, index):
    """Return (int8 values [n, k], float32 scales [n, groups]) of rows of MLX's two-bit codes."""
    codes = np.ascontiguousarray(packed[index]).view(np.uint8)
    fields = codes[:, :, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3
    values = fields.reshape(len(codes), -1).astype(np.int8) - 1
    return values, np.asarray(scales[index], dtype=np.float32)


@dataclasses.dataclass
class MlxMatrix(Matrix):
    """Two-bit affine codes of MLX whose bias is minus its scale, which makes them ternary.

    Parameters
    ----------
    packed : uint32 array [rows, k / 16]
        Sixteen codes a word, the first in its lowest bits.
    scales, biases : float array [rows, groups]
    """

    packed: np.ndarray
    scales: np.ndarray
    biases: np.ndarray
    _form = "MLX, 2 bits"

    def __post_init__(self):
        scales = to_float32(self.name, self.scales)
        if not np.array_equal(to_float32(self.name, self.biases), -scales):
            raise CheckpointError(
                f"{self.name}: its biases are not minus its scales, so its weights are no trits; "
                "use the unpacked (float16) checkpoint of the same model"
            )

    @property
    def group_size(self):
        """Weights that share a scale."""
        return self.shape[1] // self.scales.shape[1]

    def plan(self):
        """Coarsest form of the groups' scales."""
        words = self.packed
        planes = 2 if (words & words >> 1 & 0x55555555).any() else 1
        return structure.coarsest(to_float32(self.name, self.scales), self.group_size, planes)

    def _read(self, plan):
        values, scales = mlx_rows(self.packed, self.scales, slice(None))
        return structure.linear(values, scales, self.group_size, plan, self.factor)

    def rows(self, index):
        """Return float32 rows."""
        values, scales = mlx_rows(self.packed, self.scales, index)
        return values * np.repeat(scales, self.group_size, axis=1)
