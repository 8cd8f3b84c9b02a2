"""Ternary structure: recognised in float matrices, and the coarsest scales that say the same.

A checkpoint may hold one scale for a matrix as a scale for each block, or as floats of which all
nonzero ones have one magnitude. The device pays for scales in its stream, so readers look for the
coarsest form that is exactly equal.
"""

import dataclasses
import math

import numpy as np

from tamale_model.model import Linear

__all__ = ["FLOAT", "GROUP", "ROW", "TENSOR", "Plan", "coarsest", "find", "linear", "merge"]

#: What a scale belongs to, from coarse to fine; FLOAT: no ternary structure.
TENSOR, ROW, GROUP, FLOAT = range(4)

#: Weights along K that share a scale, in files that are known; fractions of a row are tried too.
_GROUPS = (1024, 512, 256, 128, 64, 32)
#: Shards along K (Spectra's TriLM have one scale for each of up to 6).
_SHARDS = range(2, 9)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a matrix becomes integers.

    Parameters
    ----------
    level : int
        `TENSOR`, `ROW`, `GROUP` or `FLOAT`.
    group_size : int
        Weights along K of a group, for `GROUP`; 0 otherwise.
    planes : int
        Balanced-ternary digits.
    sparse : bool
        Of every four weights along K one is zero; whoever looked at the weights says so.
    """

    level: int
    group_size: int = 0
    planes: int = 1
    sparse: bool = False


def merge(plans):
    """Return one plan that suits all ternary ones of ``plans``; FLOAT if there is none."""
    ternary = [plan for plan in plans if plan.level != FLOAT]
    if not ternary:
        return Plan(FLOAT)
    level = max(plan.level for plan in ternary)
    sizes = [plan.group_size for plan in ternary if plan.level == GROUP]
    size = int(np.gcd.reduce(sizes)) if sizes else 0
    return Plan(level, size, max(plan.planes for plan in ternary))


def _agree(scales):
    """Largest of the last axis if all others there are equal to it or zero, else None."""
    top = scales.max(axis=-1, initial=0)
    return top if ((scales == 0) | (scales == top[..., None])).all() else None


def coarsest(scales, group_size, planes=1):
    """Return the coarsest `Plan` for scales float32 [rows, groups]; zeros agree with everything."""
    scales = np.abs(scales)
    rows = _agree(scales)
    if rows is not None:
        return Plan(ROW if _agree(rows) is None else TENSOR, 0, planes)
    while scales.shape[1] % 2 == 0:
        pairs = _agree(scales.reshape(len(scales), -1, 2))
        if pairs is None:
            break
        scales, group_size = pairs, 2 * group_size
    return Plan(GROUP, group_size, planes)


def linear(values, scales, group_size, plan, factor=1.0):
    """Return the `Linear` of values [rows, k] with scales [rows, groups], as ``plan`` says.

    Signs of scales move into the values; values whose scale is zero become zero.

    Parameters
    ----------
    values : int8 array [rows, k]
    scales : float32 array [rows, groups]
    group_size : int
        Weights that share a scale in ``scales``.
    plan : Plan
        Must be no coarser than the scales are.
    factor : float
        Scale of the whole matrix, beside those.
    """
    rows, k = values.shape
    sign = np.sign(scales).astype(np.int8)
    if not (sign == 1).all():
        values = values * np.repeat(sign, group_size, axis=1)[:, :k]
        scales = np.abs(scales)
    if plan.level == TENSOR:
        top = float(scales.max(initial=0)) * factor
        return Linear(values, plan.planes, top or 1.0)
    if plan.level == ROW:
        top = scales.max(axis=1, keepdims=True).astype(np.float32)
        return Linear(values, plan.planes, factor, top, 0)
    size = plan.group_size
    common = math.gcd(size, group_size)
    scales = np.repeat(scales, group_size // common, axis=1)
    scales = scales.reshape(rows, -1, size // common).max(axis=2)
    return Linear(values, plan.planes, factor, scales, size)


def _scales(weights, size):
    """Largest magnitudes [rows, groups] if all nonzero ones of a group are equal, else None."""
    return _agree(np.abs(weights).reshape(len(weights), -1, size))


def find(weights):
    """Return (`Plan`, float32 scales [rows, groups], group size) of a float32 matrix.

    The coarsest groups that explain the matrix exactly; `FLOAT` and no scales if there are none.
    """
    _, k = weights.shape
    sizes = {k} | {k // n for n in _SHARDS if k % n == 0} | {g for g in _GROUPS if k % g == 0}
    sizes = sorted((size for size in sizes if size >= 32 or size == k), reverse=True)
    # The finest groups refute most matrices that are not ternary, within their first rows.
    if _scales(weights[:8], min(sizes)) is None:
        return Plan(FLOAT), None, 0
    for size in sizes:
        if _scales(weights[:8], size) is None:
            continue
        scales = _scales(weights, size)
        if scales is not None:
            return (coarsest(scales, size) if size == k else Plan(GROUP, size)), scales, size
    return Plan(FLOAT), None, 0
