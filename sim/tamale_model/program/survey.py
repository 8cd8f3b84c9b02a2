"""What the layers of a model have in common: one program runs all of them."""

import dataclasses
import math

import numpy as np
from tamale.codes import QUAD

from tamale_model import packing
from tamale_model.model import LINEARS, FloatLinear, Linear

__all__ = ["Role", "Survey", "product_bound", "survey"]

#: Norms that a layer has or lacks, as all the others do.
_NORMS = ("attention_norm", "feed_forward_norm", "query_norm", "key_norm")


@dataclasses.dataclass(frozen=True)
class Role:
    """One matrix of every layer.

    Parameters
    ----------
    planes : int
        The most that any layer needs.
    group_size : int
        Divides that of every layer; 0: scales, if any, are of whole rows.
    scaled, bias, norm : bool
        Whether any layer's matrix has scales in the stream, a bias, a norm of its own.
    sparse : bool
        Whether every layer's matrix is packed in the sparse code.
    """

    planes: int
    group_size: int
    scaled: bool
    bias: bool
    norm: bool
    sparse: bool = False

    def fit(self, linear):
        """Return an equal `Linear` that has what the matrices of all layers have."""
        rows, k = linear.shape
        scales = linear.scales
        if self.scaled:
            if scales is None:
                scales = np.ones((rows, 1), dtype=np.float32)
            old, new = linear.group_size or k, self.group_size or k
            if old != new:
                starts = np.arange(0, k, new)
                scales = scales[:, starts // old]
        bias, norm = linear.bias, linear.norm
        if self.bias and bias is None:
            bias = np.zeros(rows, dtype=np.float32)
        return Linear(linear.values, self.planes, linear.scale, scales, self.group_size, bias, norm)


@dataclasses.dataclass(frozen=True)
class Survey:
    """Result of `survey`.

    Parameters
    ----------
    roles : dict of str to Role
        By the names of `LINEARS`.
    norms : frozenset of str
        Which of the optional norms the layers have.
    value_bound : float
        No element of a value is larger, in any layer.
    ternary_weights, scale_bytes : int
        Trits of all matrices as they are in the checkpoint, and bytes of their scales at the stated
        16 bits (32 bits for a matrix that has one scale).
    vector_bytes : int
        Bytes of norms and biases.
    sparse_weights : int
        Those of ``ternary_weights`` that are packed in the sparse code.
    not_sparse : dict of str to str
        Where a sparse code was asked for: by matrix that cannot have it, the first place that is
        in the way.
    """

    roles: dict
    norms: frozenset
    value_bound: float
    ternary_weights: int
    scale_bytes: int
    vector_bytes: int
    sparse_weights: int = 0
    not_sparse: dict = dataclasses.field(default_factory=dict)

    @property
    def planes(self):
        """(fewest, most) planes of a matrix."""
        planes = [role.planes for role in self.roles.values()]
        return min(planes), max(planes)


def product_bound(linear, gain):
    """Return what no |element| of a product with a normalised vector exceeds, the bias included.

    The vector is y = x g with |x|_2 <= sqrt(k), hence |W y| <= sqrt(k) |W g|_2 per row; its codes
    are off by at most half of max|y| / 127 each.
    """
    k = linear.shape[1]
    weights = linear.dequantised()
    rows = np.sqrt(np.einsum("rk,rk,k->r", weights, weights, np.square(gain, dtype=np.float64)))
    rounding = np.abs(weights).sum(axis=1) * float(np.abs(gain).max(initial=0)) / 254
    bound = math.sqrt(k) * float((rows + rounding).max(initial=0))
    if linear.bias is not None:
        bound += float(np.abs(linear.bias).max(initial=0))
    return bound


def survey(graph, layers, *, sparse=False):
    """Walk the layers once.

    Parameters
    ----------
    graph : Graph
    layers : sequence of Layer
    sparse : bool
        Find the matrices that can have a sparse code.

    Returns
    -------
    Survey

    Raises
    ------
    ValueError
        If a matrix is not quantised, or the layers are of different graphs.
    """
    sizes = {name: [] for name in LINEARS}
    planes = dict.fromkeys(LINEARS, 1)
    flags = {name: set() for name in LINEARS}
    weights = scale_bytes = vector_bytes = 0
    value_bound = 0.0
    norms = None
    counts = dict.fromkeys(LINEARS, 0)
    not_sparse = {}
    for number, layer in enumerate(layers):
        present = frozenset(name for name in _NORMS if getattr(layer, name) is not None)
        if norms not in (None, present):
            raise ValueError(
                f"{graph.name}: layer {number} has the norms {sorted(present)}, the layers before "
                f"it {sorted(norms)}; one program runs all layers, so they must have the same"
            )
        norms = present
        vectors = [getattr(layer, name) for name in (*present, "input_norm", "post_norm")]
        for name in LINEARS:
            linear = getattr(layer, name)
            if isinstance(linear, FloatLinear):
                raise ValueError(
                    f"{graph.name}: the matrix {name!r} of layer {number} is float, the device "
                    "takes trits; quantise the checkpoint first (`tamale quantise`)"
                )
            planes[name] = max(planes[name], linear.planes)
            weights += linear.shape[0] * linear.shape[1] * linear.planes
            counts[name] += linear.shape[0] * linear.shape[1]
            if sparse and name not in not_sparse:
                reason = f"{linear.planes} planes"
                if linear.planes == 1:
                    reason = packing.first_not_sparse(linear.values, linear.group_size)
                if reason:
                    not_sparse[name] = f"matrix {name!r} of layer {number}, {reason}"
            if linear.scales is not None:
                flags[name].add("scaled")
                sizes[name].append(linear.group_size)
                scale_bytes += 2 * linear.scales.size
            else:
                scale_bytes += 4
            for extra in ("bias", "norm"):
                if getattr(linear, extra) is not None:
                    flags[name].add(extra)
                    vectors.append(getattr(linear, extra))
                elif extra in flags[name] and extra == "norm":
                    raise ValueError(
                        f"{graph.name}: layer {number} has no norm before {name!r}, others have"
                    )
        vector_bytes += sum(2 * len(vector) for vector in vectors)
        gain = layer.input_norm if layer.v.norm is None else layer.v.norm
        value_bound = max(value_bound, product_bound(layer.v, gain))
    if sparse:
        for name, size in ((name, math.gcd(*sizes[name])) for name in LINEARS):
            # Each layer's groups may be right, and what divides them all too small.
            if name not in not_sparse and size % QUAD:
                not_sparse[name] = f"matrix {name!r}: groups of {size} weights suit all layers"
    roles = {
        name: Role(
            planes[name], math.gcd(*sizes[name]), "scaled" in flags[name],
            "bias" in flags[name], "norm" in flags[name], sparse and name not in not_sparse,
        )
        for name in LINEARS
    }  # fmt: skip
    return Survey(
        roles, norms or frozenset(), value_bound, weights, scale_bytes, vector_bytes,
        sum(counts[name] for name, role in roles.items() if role.sparse), not_sparse,
    )  # fmt: skip
