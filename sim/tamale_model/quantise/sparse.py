"""Rounding to 3:4 sparse trits: of every four weights along K three become a sign, one zero.

The plain way keeps the three largest magnitudes of four. The one that knows its inputs goes like
`gptq`, with quads in place of columns: an error is made good by the quads that are still free, and
the descent that follows takes the best of a quad's 32 code points given all other quads.
"""

import numpy as np
from tamale.codes import QUAD, SPARSE_CODES

from tamale_model.quantise import gptq
from tamale_model.quantise import scales as scaling

__all__ = ["descend", "mean_scales", "nearest", "solve"]

#: The code points, in any order.
_PATTERNS = np.array(next(iter(SPARSE_CODES.values())).decode, dtype=np.float32)


def _signs(weights):
    """Signs of float weights; plus for zero, which must become something."""
    return np.where(weights < 0, -1, 1).astype(np.int8)


def nearest(weights):
    """Return int8 values: signs of the three largest magnitudes of four, zero for the smallest."""
    rows, k = weights.shape
    quads = np.abs(weights).reshape(rows, k // QUAD, QUAD)
    values = _signs(weights).reshape(quads.shape)
    np.put_along_axis(values, quads.argmin(axis=2)[..., None], 0, axis=2)
    return values.reshape(rows, k)


def mean_scales(weights, values, group_size, importance):
    """Return scales float32 [rows, groups] of least squares: means of the magnitudes kept.

    Parameters
    ----------
    weights : float32 array [rows, k]
    values : int8 array [rows, k]
    group_size : int
        0: the whole row.
    importance : array [k]
        Weight of the error of each column.
    """
    heavy = values * np.asarray(importance, dtype=np.float32)
    product = scaling.grouped(heavy * weights, group_size).sum(axis=-1)
    return np.maximum(product / scaling.grouped(heavy * values, group_size).sum(axis=-1), 0)


def _quad_order(hessian):
    """Columns in quads, those of the strongest inputs first."""
    power = np.diagonal(hessian).reshape(-1, QUAD).sum(axis=1)
    quads = np.argsort(-power, kind="stable")
    return (QUAD * quads[:, None] + np.arange(QUAD)).ravel()


def solve(weights, scales, group_size, hessian):
    """Return int8 values [rows, k] by error-aware rounding, see `gptq.solve`.

    The zero of a quad goes where it costs least more than a sign would.
    """
    k = weights.shape[1]
    order = _quad_order(hessian)
    upper = gptq.factor(hessian[np.ix_(order, order)]).astype(np.float32)
    rest = np.ascontiguousarray(weights.T[order], dtype=np.float32)
    group = order // (group_size or k)
    wide = np.ascontiguousarray(scales.T, dtype=np.float32)
    zero = None

    def choose(i):
        nonlocal zero
        if i % QUAD == 0:
            here, scale = slice(i, i + QUAD), wide[group[i]]
            more = (2 * np.abs(rest[here]) - scale) * scale
            zero = (more / np.square(np.diagonal(upper)[here, None])).argmin(axis=0)
        return np.where(zero == i % QUAD, 0, _signs(rest[i]))

    values = gptq.round_in_turn(rest, wide, group, upper, choose)
    result = np.empty(weights.shape, dtype=np.int8)
    result[:, order] = values.T
    return result


def descend(weights, values, scales, group_size, hessian, passes=1):
    """Return int8 values after passes over the quads; the output error never rises.

    Parameters
    ----------
    weights, scales, group_size, hessian
        As in `solve`.
    values : int8 array [rows, k]
        Where to begin.
    passes : int
        Times that every quad is visited.
    """
    k = weights.shape[1]
    order = _quad_order(hessian)
    matrix = hessian[np.ix_(order, order)].astype(np.float32)
    group = order // (group_size or k)
    wide = np.ascontiguousarray(scales.T, dtype=np.float32)
    level = np.ascontiguousarray(values.T[order], dtype=np.float32)
    made = level * wide[group]
    for _ in range(passes):
        gradient = matrix @ (np.ascontiguousarray(weights.T[order], dtype=np.float32) - made)
        for first in range(0, k, gptq.BLOCK):
            last = min(first + gptq.BLOCK, k)
            before = made[first:last].copy()
            for quad in range(first, last, QUAD):
                here = slice(quad, quad + QUAD)
                own, scale = matrix[here, here], wide[group[quad]]
                # Half of (s q - m)^T H (s q - m) - g (s q - m), without what all q share.
                square = np.einsum("pi,ij,pj->p", _PATTERNS, own, _PATTERNS)
                toward = own @ made[here] + gradient[here]
                cost = square[:, None] * (scale * scale / 2) - (_PATTERNS @ toward) * scale
                level[here] = _PATTERNS[cost.argmin(axis=0)].T
                fresh = level[here] * scale
                gradient[quad:last] -= matrix[quad:last, here] @ (fresh - made[here])
                made[here] = fresh
            gradient[last:] -= matrix[last:, first:last] @ (made[first:last] - before)
    result = np.empty(values.shape, dtype=np.int8)
    result[:, order] = level.T
    return result
