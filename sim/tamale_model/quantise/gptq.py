"""Rounding of a matrix that knows its inputs: column by column, each error made good by the rest.

Source: Frantar et al., "GPTQ", arXiv:2210.17323 (Hessian of the layer's squared output error,
Cholesky factor of its inverse, lazy blocks, order of columns); the descent that follows it moves
one column at a time to its best level given all others, as in Behdin et al., "QuantEase",
arXiv:2309.01885. Plain NumPy arrays in, plain arrays out.
"""

import numpy as np

from tamale_model.quantise import scales as scaling

__all__ = [
    "BLOCK", "damped", "descend", "factor", "nearest", "output_error", "round_in_turn", "solve",
]  # fmt: skip

#: Columns that are rounded before their errors are passed on to all columns behind them; a multiple
#: of four, for codes of four trits.
BLOCK = 128


def damped(hessian, damping=0.01):
    """Return a positive definite copy: ``damping`` times the mean diagonal added to the diagonal.

    Inputs that were never anything but zero get a diagonal of the mean, so that their weights are
    rounded to nearest.

    Raises
    ------
    ValueError
        For a matrix with values that are not finite.
    """
    hessian = np.array(hessian, dtype=np.float64)
    if not np.isfinite(hessian).all():
        raise ValueError(
            "the calibration activations are not finite; the checkpoint is damaged or overflows"
        )
    diagonal = np.einsum("jj->j", hessian)
    mean = diagonal.mean() or 1.0
    diagonal[diagonal <= 0] = mean
    diagonal += damping * mean
    return hessian


def factor(hessian):
    """Return the upper triangular U with U^T U = inverse of ``hessian``, float64 [k, k]."""
    # With the order of rows and columns reversed, Cholesky gives H = M M^T, M upper triangular.
    lower = np.linalg.cholesky(hessian[::-1, ::-1])
    return np.triu(np.linalg.inv(lower[::-1, ::-1]))


def nearest(weights, scales, levels, group_size):
    """Return int8 values of weights rounded to the nearest level, each for itself."""
    inverse = np.divide(1, scales, where=scales > 0, out=np.zeros_like(scales))
    wide = scaling.expand(inverse, group_size, weights.shape[1])
    return levels.round(weights * wide).astype(np.int8)


def solve(weights, scales, levels, group_size, hessian, *, ordered=True, upper=None):
    """Return int8 values [rows, k] by error-aware rounding.

    Parameters
    ----------
    weights : float32 array [rows, k]
    scales : float32 array [rows, groups]
        Fixed beforehand ("static groups"), so that any order of columns keeps the groups.
    levels : Levels
    group_size : int
    hessian : float64 array [k, k]
        Of `damped`.
    ordered : bool
        Columns of the largest diagonal first.
    upper : float64 array [k, k], optional
        `factor` of the Hessian in that order, where several matrices share it.
    """
    k = weights.shape[1]
    order = column_order(hessian, ordered)
    if upper is None:
        upper = factor(hessian[np.ix_(order, order)])
    upper = upper.astype(np.float32)
    # A row per column, so that what the inner loop touches is contiguous.
    rest = np.ascontiguousarray(weights.T[order], dtype=np.float32)
    group = order // (group_size or k)
    wide = np.ascontiguousarray(scales.T, dtype=np.float32)
    inverse = np.divide(1, wide, where=wide > 0, out=np.zeros_like(wide))
    values = round_in_turn(
        rest, wide, group, upper, lambda i: levels.round(rest[i] * inverse[group[i]])
    )
    result = np.empty(weights.shape, dtype=np.int8)
    result[:, order] = values.T
    return result


def round_in_turn(rest, scales, group, upper, choose):
    """Return int8 values [k, rows], chosen column by column; each error goes to those that follow.

    Parameters
    ----------
    rest : float32 array [k, rows]
        Weights, a row for each column of the matrix, in the order of rounding; overwritten.
    scales : float32 array [groups, rows]
    group : int array [k]
        Of each column.
    upper : float32 array [k, k]
        `factor` of the Hessian in that order.
    choose : callable
        Returns the levels of column i; ``rest[i]`` has what the columns before have left to it,
        and so have those of the same block of `BLOCK` columns.
    """
    k = len(rest)
    values = np.empty(rest.shape, dtype=np.int8)
    for first in range(0, k, BLOCK):
        last = min(first + BLOCK, k)
        errors = np.empty((last - first, rest.shape[1]), dtype=np.float32)
        for i in range(first, last):
            level = choose(i)
            values[i] = level
            error = (rest[i] - level * scales[group[i]]) / upper[i, i]
            errors[i - first] = error
            rest[i + 1 : last] -= upper[i, i + 1 : last, None] * error
        rest[last:] -= upper[first:last, last:].T @ errors
    return values


def column_order(hessian, ordered=True):
    """Return the order in which `solve` takes the columns."""
    if not ordered:
        return np.arange(len(hessian))
    return np.argsort(-np.diagonal(hessian), kind="stable")


def descend(weights, values, scales, levels, group_size, hessian, passes=1):
    """Return int8 values after passes of coordinate descent; the output error never rises.

    Parameters
    ----------
    weights, scales, levels, group_size, hessian
        As in `solve`.
    values : int8 array [rows, k]
        Where to begin.
    passes : int
        Times that every column is visited, in the order of `column_order`.
    """
    k = weights.shape[1]
    order = column_order(hessian)
    matrix = hessian[np.ix_(order, order)].astype(np.float32)
    curvature = np.diagonal(matrix)
    group = order // (group_size or k)
    wide = np.ascontiguousarray(scales.T, dtype=np.float32)
    inverse = np.divide(1, wide, where=wide > 0, out=np.zeros_like(wide))
    level = np.ascontiguousarray(values.T[order], dtype=np.float32)
    made = level * wide[group]
    for _ in range(passes):
        # The gradient, afresh in each pass: float32 sums drift.
        gradient = matrix @ (np.ascontiguousarray(weights.T[order], dtype=np.float32) - made)
        for first in range(0, k, BLOCK):
            last = min(first + BLOCK, k)
            changes = np.empty((last - first, level.shape[1]), dtype=np.float32)
            for i in range(first, last):
                g = group[i]
                level[i] = levels.round((made[i] + gradient[i] / curvature[i]) * inverse[g])
                fresh = level[i] * wide[g]
                change = changes[i - first] = fresh - made[i]
                made[i] = fresh
                gradient[i:last] -= matrix[i:last, i, None] * change
            gradient[last:] -= matrix[last:, first:last] @ changes
            # Columns in front of the block are not visited again in this pass.
    result = np.empty(values.shape, dtype=np.int8)
    result[:, order] = level.T
    return result


def output_error(difference, hessian):
    """Return the mean over rows of d H d^T: the squared output error of weights off by d."""
    difference = np.asarray(difference, dtype=np.float32)
    return float(np.einsum("rk,rk->", difference @ hessian.astype(np.float32), difference)) / len(
        difference
    )
