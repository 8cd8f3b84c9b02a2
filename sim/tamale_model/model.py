"""A ternary model in neutral form: what readers of checkpoints produce and packers consume."""

import dataclasses

import numpy as np

__all__ = ["Graph", "Layer", "Linear", "Model"]


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
    """

    values: np.ndarray
    planes: int
    scale: float = 1.0
    scales: np.ndarray | None = None
    group_size: int = 0

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
class Layer:
    """One decoder layer; norm gains are float32 vectors, None where the graph has no such norm."""

    q: Linear
    k: Linear
    v: Linear
    o: Linear
    gate: Linear
    up: Linear
    down: Linear
    input_norm: np.ndarray
    attention_norm: np.ndarray | None
    post_norm: np.ndarray
    feed_forward_norm: np.ndarray | None


@dataclasses.dataclass
class Graph:
    """Sizes and constants of a decoder.

    ``activation`` is the gate's nonlinearity: ``relu2``.
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

    ``embedding`` [vocabulary, hidden] and ``head`` (the same array where tied) are float32.
    ``tokenizer`` is the text of a Hugging Face ``tokenizer.json``, or None.
    """

    graph: Graph
    embedding: np.ndarray
    head: np.ndarray
    layers: list[Layer]
    final_norm: np.ndarray
    tokenizer: str | None = None
