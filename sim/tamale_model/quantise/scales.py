"""Scales of rows and groups: searched, refitted by least squares, held by the device exactly.

A matrix W [rows, k] becomes integers Q with scales S [rows, groups], W[r, j] ~ Q[r, j] * S[r, group
of j]. The device has 16-bit scales relative to the largest one of the matrix
(`integer.encode_scale`), so a `Linear` made here has a scale of the matrix and relative scales of
12 significant bits, of which the largest is 1.
"""

import dataclasses

import numpy as np
from tamale.codes import limit

from tamale_model.integer import Scalar

__all__ = ["Levels", "absmax", "expand", "grouped", "refit", "representable", "search"]

# Significant bits of a 16-bit scale.
_SIGNIFICANT = 12

# Relative scales below 2**-_RANGE become zero: the device's reach some 2**-18 of the largest.
_RANGE = 15

# Steps of the search, as a part of the scale that reaches the largest weight. One trit wants about
# 0.4 of it, five trits nearly all.
_STEPS = np.geomspace(0.22, 1.05, 40)


@dataclasses.dataclass(frozen=True)
class Levels:
    """Integers that a weight may become: ``low`` to ``high``, zero among them."""

    low: int
    high: int

    @classmethod
    def of_trits(cls, trits):
        """All values of ``trits`` balanced-ternary digits."""
        return cls(-limit(trits), limit(trits))

    def round(self, values):
        """Return the nearest integers of the range, as float."""
        return np.clip(np.rint(values), self.low, self.high)


def grouped(array, group_size):
    """Return [..., k] as [..., groups, size], the last group padded with zeros."""
    k = array.shape[-1]
    size = group_size or k
    groups = -(-k // size)
    if groups * size == k:
        return array.reshape(*array.shape[:-1], groups, size)
    padded = np.zeros((*array.shape[:-1], groups * size), dtype=array.dtype)
    padded[..., :k] = array
    return padded.reshape(*array.shape[:-1], groups, size)


def expand(scales, group_size, k):
    """Return scales [rows, groups] repeated for every column, [rows, k]."""
    return np.repeat(scales, group_size or k, axis=1)[:, :k]


def absmax(weights, levels, group_size):
    """Return scales float32 [rows, groups] that make the largest weight of a group ``high``."""
    return np.abs(grouped(weights, group_size)).max(axis=-1) / np.float32(levels.high)


def search(weights, levels, group_size, importance=None):
    """Return the scales of least weighted squared error.

    Tries steps from a fifth of the absmax scale upwards, then alternates rounding and least squares
    from the best one.

    Parameters
    ----------
    weights : float32 array [rows, k]
    levels : Levels
    group_size : int
        0: the whole row.
    importance : array [k], optional
        Weight of the error of each column; all equal when left out.

    Returns
    -------
    float32 array [rows, groups]
        Zero for groups of zeros.
    """
    weights = np.asarray(weights, dtype=np.float32)
    if importance is None:
        importance = np.ones(weights.shape[1])
    importance = np.asarray(importance, dtype=np.float32)
    importance = grouped(importance / importance.mean(), group_size)
    blocks = grouped(weights, group_size)
    start = absmax(weights, levels, group_size)
    result = np.empty_like(start)
    rows = max(1, (1 << 18) // weights.shape[1])  # bounds the temporary arrays
    for first in range(0, len(blocks), rows):
        part = slice(first, first + rows)
        result[part] = _search(blocks[part], importance, start[part], levels)
    return result


def _search(blocks, importance, start, levels):
    best, least = np.zeros_like(start), np.full(start.shape, np.inf, dtype=np.float32)

    def attempt(scales):
        inverse = np.divide(1, scales, where=scales > 0, out=np.zeros_like(scales))
        values = levels.round(blocks * inverse[..., None])
        difference = values * scales[..., None] - blocks
        error = np.einsum("rgk,gk->rg", difference * difference, importance)
        better = error < least
        least[better], best[better] = error[better], scales[better]
        return values

    for step in _STEPS:
        attempt(start * np.float32(step))
    scales = best.copy()
    for _ in range(4):
        values = attempt(scales)
        heavy = values * importance
        square = np.einsum("rgk,rgk->rg", heavy, values)
        product = np.einsum("rgk,rgk->rg", heavy, blocks)
        scales = np.divide(product, square, where=square > 0, out=scales)
        scales = np.maximum(scales, 0)
    attempt(scales)
    return best


def refit(weights, values, scales, hessian, group_size):
    """Return scales of least squares of the output error, for integers that stay as they are.

    Minimises (w - q s) H (w - q s)^T over the groups of each row together.

    Parameters
    ----------
    weights : float32 array [rows, k]
    values : int8 array [rows, k]
    scales : float32 array [rows, groups]
        Kept where a group has no value but zero, or where least squares leaves the positive range.
    hessian : float array [k, k]
    group_size : int
    """
    rows, k = weights.shape
    size = group_size or k
    groups = scales.shape[1]
    q = values.astype(np.float32)
    hessian = np.asarray(hessian, dtype=np.float32)
    products = grouped((np.asarray(weights, np.float32) @ hessian) * q, group_size).sum(axis=-1)
    squares = np.empty((rows, groups, groups))
    for g in range(groups):
        columns = slice(g * size, min((g + 1) * size, k))
        squares[:, g] = grouped((q[:, columns] @ hessian[columns]) * q, group_size).sum(axis=-1)
    diagonal = np.einsum("rgg->rg", squares)
    empty = diagonal <= 0
    # A ridge, pulling towards the scales that we have, keeps nearly dependent groups in place.
    ridge = 1e-3 * diagonal + empty
    diagonal += ridge
    right = np.where(empty, 0, products) + ridge * scales
    fitted = np.linalg.solve(squares, right[..., None])[..., 0]
    good = (fitted > 0.5 * scales) & (fitted < 2 * scales)
    return np.where(good, fitted, scales).astype(np.float32)


def representable(scales):
    """Return (scale, relative): the nearest scales that the device holds exactly.

    Parameters
    ----------
    scales : array [rows, groups]
        Not negative.

    Returns
    -------
    scale : float
        Of the matrix, a number of 16 significant bits.
    relative : float32 array [rows, groups]
        0, or 2**-15 to 1 with 12 significant bits; the largest is 1.
    """
    scales = np.asarray(scales, dtype=np.float64)
    largest = float(scales.max(initial=0))
    if largest == 0:
        return 1.0, np.ones(scales.shape, dtype=np.float32)
    mantissa, exponent = np.frexp(scales / largest)
    relative = np.ldexp(np.rint(np.ldexp(mantissa, _SIGNIFICANT)), exponent - _SIGNIFICANT)
    relative[relative < 2.0**-_RANGE] = 0
    return float(Scalar.of(largest)), relative.astype(np.float32)
