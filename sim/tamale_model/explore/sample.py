"""Models of a shape with random weights: for runs whose time matters and whose text does not."""

import numpy as np
from tamale.codes import limit

from tamale_model.model import LINEARS, Graph, Layer, Linear, Model
from tamale_model.readers.graphs import shapes

__all__ = ["make"]


def make(
    name, *, hidden, layers, heads, kv_heads, head_size, feed_forward, vocabulary, context=2048,
    activation="silu", sub_norms=False, planes=1, group_size=0, seed=1,
):  # fmt: skip
    """Return a `Model`; the same arguments give the same model.

    Parameters
    ----------
    name : str
    hidden, layers, heads, kv_heads, head_size, feed_forward, vocabulary, context : int
        Sizes of the graph.
    activation : str
        See `Graph`.
    sub_norms : bool
        Whether there are BitNet's norms in front of ``o`` and ``down``.
    planes : int
        Trits of a weight.
    group_size : int
        Weights along K that share a scale; 0: one scale for a matrix.
    seed : int
    """
    rng = np.random.default_rng(seed)
    graph = Graph(
        name=name, hidden=hidden, layers=layers, heads=heads, kv_heads=kv_heads,
        head_size=head_size, feed_forward=feed_forward, vocabulary=vocabulary, context=context,
        rope_theta=10000.0, norm_epsilon=1e-5, activation=activation,
    )  # fmt: skip
    top = limit(planes)

    def linear(rows, k):
        values = rng.integers(-top, top + 1, (rows, k), dtype=np.int8)
        scales = None
        if group_size:
            scales = rng.lognormal(0, 0.3, (rows, -(-k // group_size))).astype(np.float32)
        # Inputs of deviation 1 give outputs of about deviation 1.
        deviation = np.sqrt(k * top * (top + 1) / 3)
        return Linear(values, planes, float(1 / deviation), scales, group_size)

    def norm(n):
        return rng.lognormal(0, 0.3, n).astype(np.float32)

    stack = [
        Layer(
            **{matrix: linear(*shapes(graph)[matrix]) for matrix in LINEARS},
            input_norm=norm(hidden),
            attention_norm=norm(graph.query_size) if sub_norms else None,
            post_norm=norm(hidden),
            feed_forward_norm=norm(feed_forward) if sub_norms else None,
        )
        for _ in range(layers)
    ]
    embedding = rng.normal(0, 0.7, (vocabulary, hidden)).astype(np.float32)
    # Logits spread over a few nats; random signs keep the head from repeating the last token.
    final = rng.choice([-1, 1], hidden) * norm(hidden) * 3 / (0.7 * np.sqrt(hidden))
    return Model(graph, embedding, embedding, stack, final.astype(np.float32))
