"""How one matrix is quantised: levels, groups, scales and rounding, each with its baseline."""

import dataclasses

import numpy as np
from tamale.codes import PLANES_MAX, QUAD, limit

from tamale_model.model import Linear
from tamale_model.quantise import gptq, scales, sparse
from tamale_model.quantise.scales import Levels

__all__ = ["GROUP_SIZES", "Inputs", "Method", "quantise_matrix"]

#: Weights along K that may share a scale; 0 is the whole row.
GROUP_SIZES = (0, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Method:
    """Settings of a quantisation.

    Parameters
    ----------
    levels : Levels
    planes : int
        Trits that hold the levels.
    group_size : int
        One of `GROUP_SIZES`.
    aware : bool
        Error-aware rounding; otherwise each weight goes to its nearest level.
    searched : bool
        Scales of least error; otherwise the largest weight of a group becomes the highest level.
    refits : int
        Times that scales are refitted and columns visited again after the rounding.
    correction : float
        0 to 1: how far the weights are moved, before they are rounded, towards those that give the
        float model's outputs for the inputs that the quantised layers in front really deliver.
    damping : float
        Part of the mean of the Hessian's diagonal that is added to it.
    int8 : bool
        Inputs are rounded to int8 during calibration, as on the device.
    sparse : bool
        One trit, and of every four weights along K exactly one is zero.
    """

    levels: Levels
    planes: int
    group_size: int = 128
    aware: bool = True
    searched: bool = True
    refits: int = 2
    correction: float = 1.0
    damping: float = 0.1
    int8: bool = True
    sparse: bool = False

    def __post_init__(self):
        if self.sparse and self.planes != 1:
            raise ValueError(f"3:4 sparse weights have one trit, not {self.planes}")
        if self.group_size not in GROUP_SIZES:
            raise ValueError(
                f"groups of {self.group_size!r} weights are not known to the device; "
                "use 64, 128, 256 or row"
            )
        if max(self.levels.high, -self.levels.low) > limit(self.planes):
            raise ValueError(f"{self.levels} do not fit {self.planes} trits; use more")

    @classmethod
    def of_trits(cls, trits, group_size=128, **changes):
        """Return the method for all values of ``trits`` balanced-ternary digits."""
        if trits not in range(1, PLANES_MAX + 1):
            raise ValueError(f"a weight has 1 to {PLANES_MAX} trits, not {trits!r}")
        return cls(Levels.of_trits(trits), trits, group_size, **changes)

    @classmethod
    def of_sparse(cls, group_size=128, **changes):
        """Return the method for one trit of which every fourth is zero."""
        return cls(Levels.of_trits(1), 1, group_size, sparse=True, **changes)

    @classmethod
    def int4(cls, group_size=128, **changes):
        """Return the baseline of 16 levels, -8 to 7, carried in three trits."""
        return cls(Levels(-8, 7), 3, group_size, **changes)

    def plain(self):
        """Return the baseline of the same levels: nearest level, largest weight at the top."""
        return dataclasses.replace(self, aware=False, searched=False, refits=0, correction=0.0)

    @property
    def calibrated(self):
        """Whether the inputs of a matrix matter."""
        return self.aware or self.searched or self.correction > 0


class Inputs:
    """What is known of the vectors that a matrix multiplies.

    Parameters
    ----------
    hessian : float64 array [k, k]
        Mean of x^T x over the calibration text.
    method : Method
    cross : float64 array [k, k], optional
        Mean of f^T x, f being the float model's vectors at the same places.
    """

    def __init__(self, hessian, method, cross=None):
        self.measured = hessian
        self.hessian = gptq.damped(hessian, method.damping)
        order = gptq.column_order(self.hessian)
        self.upper = gptq.factor(self.hessian[np.ix_(order, order)]) if method.aware else None
        self.correction = None
        if cross is not None:
            # W (cross + ridge) (hessian + ridge)^-1 gives least squares, pulled towards W.
            change = np.linalg.solve(self.hessian, (cross - hessian).T).T
            self.correction = (method.correction * change).astype(np.float32)


def quantise_matrix(linear, method, inputs=None):
    """Return (`Linear`, error) of a `FloatLinear`.

    Parameters
    ----------
    linear : FloatLinear
        Or, where the method is sparse, a `Linear`.
    method : Method
    inputs : Inputs, optional
        Needed where the method is calibrated.

    Returns
    -------
    Linear
    error : float
        Squared error of the output over its square, on the calibration text; NaN without inputs.
    """
    weights = original = linear.dequantised()
    if not np.isfinite(weights).all():
        raise ValueError("a matrix has values that are not finite; the checkpoint is damaged")
    size, levels = method.group_size, method.levels
    if method.calibrated and inputs is None:
        raise ValueError("this method needs the inputs of the matrix; calibrate with a text")
    if inputs is not None and inputs.correction is not None:
        weights = weights + weights @ inputs.correction
    if method.sparse:
        return _sparse_matrix(linear, weights, original, method, inputs)
    if method.searched:
        found = scales.search(weights, levels, size, np.diagonal(inputs.hessian))
    else:
        found = scales.absmax(weights, levels, size)
    scale, relative = scales.representable(found)
    wide = np.float32(scale) * relative
    if method.aware:
        values = gptq.solve(weights, wide, levels, size, inputs.hessian, upper=inputs.upper)
    else:
        values = gptq.nearest(weights, wide, levels, size)
    for _ in range(method.refits):
        found = scales.refit(weights, values, wide, inputs.hessian, size)
        scale, relative = scales.representable(found)
        wide = np.float32(scale) * relative
        values = gptq.descend(weights, values, wide, levels, size, inputs.hessian)
    return _result(linear, values, scale, relative, original, method, inputs)


def _sparse_matrix(linear, weights, original, method, inputs):
    """The same for 3:4 sparse weights, whose rounding is of four at a time."""
    size, k = method.group_size, weights.shape[1]
    if k % QUAD or (size and k % size):
        raise ValueError(
            f"rows of {k} weights are no whole groups of {size or QUAD}; 3:4 sparse codes need "
            f"that{', so share scales by rows' if size else ''}"
        )
    importance = np.ones(k) if inputs is None else np.diagonal(inputs.hessian)
    values = sparse.nearest(weights)
    found = sparse.mean_scales(weights, values, size, importance)
    scale, relative = scales.representable(found)
    wide = np.float32(scale) * relative
    if method.aware:
        values = sparse.solve(weights, wide, size, inputs.hessian)
    for _ in range(method.refits):
        found = scales.refit(weights, values, wide, inputs.hessian, size)
        scale, relative = scales.representable(found)
        wide = np.float32(scale) * relative
        values = sparse.descend(weights, values, wide, size, inputs.hessian)
    return _result(linear, values, scale, relative, original, method, inputs)


def _result(linear, values, scale, relative, original, method, inputs):
    size = method.group_size
    result = Linear(values, method.planes, scale, relative, size, linear.bias, linear.norm)
    if inputs is None:
        return result, float("nan")
    error = gptq.output_error(original - result.dequantised(), inputs.measured)
    return result, error / (gptq.output_error(original, inputs.measured) or 1.0)
