"""Programs of a small model, for tests that need only the commands."""

import numpy as np
from tamale_model import imagefile
from tamale_model.model import Graph, Layer, Linear, Model

__all__ = ["compiled"]


def compiled(config, folder, *, hidden=48, kv=32, feed_forward=80, vocabulary=60):
    """Return the commands of a two-layer model with weights of zero."""

    def linear(rows, k):
        return Linear(np.zeros((rows, k), np.int8), 1)

    layers = [
        Layer(
            q=linear(64, hidden), k=linear(kv, hidden), v=linear(kv, hidden), o=linear(hidden, 64),
            gate=linear(feed_forward, hidden), up=linear(feed_forward, hidden),
            down=linear(hidden, feed_forward), input_norm=np.ones(hidden),
            attention_norm=np.ones(64), post_norm=np.ones(hidden),
            feed_forward_norm=np.ones(feed_forward),
        )
        for _ in range(2)
    ]  # fmt: skip
    embedding = np.ones((vocabulary, hidden), np.float32)
    graph = Graph(
        name="zeros", hidden=hidden, layers=2, heads=4, kv_heads=2, head_size=16,
        feed_forward=feed_forward, vocabulary=vocabulary, context=64, rope_theta=1e4,
        norm_epsilon=1e-5,
    )  # fmt: skip
    path = folder / "zeros.img"
    imagefile.build(config, Model(graph, embedding, embedding, layers, np.ones(hidden)), path)
    return imagefile.load(path).program
