"""A ternary model in neutral form: what readers of checkpoints produce and packers consume."""

import dataclasses
from collections.abc import Sequence

import numpy as np

__all__ = ["ACTIVATIONS", "LINEARS", "FloatLinear", "Graph", "Layer", "Linear", "Model"]

#: Nonlinearities of the gate: max(x, 0)**2 and x * sigmoid(x).
ACTIVATIONS = ("relu2", "silu")

#: Matrices of a layer, in the order in which the graph evaluates them.
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclasses.dataclass
class Linear:
    """Integers with scales: W[row, k] = values[row, k] * scales[row, group of k] * scale.

    Parameters
    ----------
    values : int8 array [rows, k]
    planes : int
        Balanced-ternary digits that the values need.
    scale : float
        Scale of the whole matrix.
    scales : float32 array [rows, groups] or None
        Further scales of row and group; groups divide k evenly or the last one is short.
    group_size : int
        Weights along K of a group; 0: the whole row.
    bias : float32 array [rows] or None
        Added to the product.
    norm : float32 array [k] or None
        Gain of an RMSNorm of this matrix's own, before its input is quantised.
    """

    values: np.ndarray
    planes: int
    scale: float = 1.0
    scales: np.ndarray | None = None
    group_size: int = 0
    bias: np.ndarray | None = None
    norm: np.ndarray | None = None

    @property
    def shape(self):
        """(rows, k)."""
        return self.values.shape

    @property
    def groups(self):
        """Groups along K."""
        return -(-self.values.shape[1] // self.group_size) if self.group_size else 1

    def dequantised(self):
        """Return the float32 matrix [rows, k]."""
        weights = self.values.astype(np.float32) * np.float32(self.scale)
        if self.scales is not None:
            size = self.group_size or self.values.shape[1]
            weights *= np.repeat(self.scales, size, axis=1)[:, : weights.shape[1]]
        return weights


@dataclasses.dataclass
class FloatLinear:
    """A matrix that nobody has quantised yet; references evaluate it, packers refuse it.

    Parameters
    ----------
    weights : array [rows, k]
        Of any float type.
    bias, norm : float32 array or None
        As in `Linear`.
    """

    weights: np.ndarray
    bias: np.ndarray | None = None
    norm: np.ndarray | None = None

    @property
    def shape(self):
        """(rows, k)."""
        return self.weights.shape

    def dequantised(self):
        """Return the float32 matrix [rows, k]."""
        return np.asarray(self.weights, dtype=np.float32)


@dataclasses.dataclass
class Layer:
    """One decoder layer; norm gains are float32 vectors, None where the graph has no such norm.

    ``attention_norm`` and ``feed_forward_norm`` are BitNet's sub-norms, on what ``o`` and ``down``
    read; ``query_norm`` and ``key_norm`` [head_size] are of every head, before the rotary embedding
    (Qwen3). Rows of ``q`` and ``k`` are in the order of the half-split rotary embedding: element i
    of a head turns with element i + head_size / 2.
    """

    q: Linear | FloatLinear
    k: Linear | FloatLinear
    v: Linear | FloatLinear
    o: Linear | FloatLinear
    gate: Linear | FloatLinear
    up: Linear | FloatLinear
    down: Linear | FloatLinear
    input_norm: np.ndarray
    attention_norm: np.ndarray | None
    post_norm: np.ndarray
    feed_forward_norm: np.ndarray | None
    query_norm: np.ndarray | None = None
    key_norm: np.ndarray | None = None


@dataclasses.dataclass
class Graph:
    """Sizes and constants of a decoder.

    Parameters
    ----------
    activation : str
        The gate's nonlinearity, one of `ACTIVATIONS`.
    rope_frequencies : tuple of float or None
        Radians per position of the head_size / 2 rotations, where scaling makes them other than
        rope_theta ** (-2 i / head_size).
    linear_norm_epsilon : float
        Epsilon of the norms that belong to single matrices (`Linear.norm`).
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int
    context: int
    rope_theta: float
    norm_epsilon: float
    activation: str = "relu2"
    tied: bool = True
    bos: int | None = None
    eos: tuple[int, ...] = ()
    rope_frequencies: tuple[float, ...] | None = None
    linear_norm_epsilon: float = 1e-6

    @property
    def frequencies(self):
        """Radians per position of each rotation, float64 [head_size / 2]."""
        if self.rope_frequencies is not None:
            return np.array(self.rope_frequencies, dtype=np.float64)
        half = self.head_size // 2
        return self.rope_theta ** (-np.arange(half) / half)

    @property
    def query_size(self):
        """Elements of all query heads."""
        return self.heads * self.head_size

    @property
    def kv_size(self):
        """Elements of all key (or value) heads."""
        return self.kv_heads * self.head_size


@dataclasses.dataclass
class Model:
    """Graph and weights.

    Parameters
    ----------
    embedding, head : array [vocabulary, hidden]
        Of any float type, possibly mapped from a file: consumers take slices of rows and convert
        them to float32. The same object where tied.
    layers : sequence of Layer
        May load a layer when it is asked for: consumers walk it in order, few times, and keep none.
    tokenizer : str or None
        Text of a Hugging Face ``tokenizer.json``.
    """

    graph: Graph
    embedding: np.ndarray
    head: np.ndarray
    layers: Sequence[Layer]
    final_norm: np.ndarray
    tokenizer: str | None = None
