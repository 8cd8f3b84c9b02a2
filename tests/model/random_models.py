"""Seeded random models and configurations: small, lively, of every shape that the device takes.

Weights are scaled so that every vector has elements of order one, the logits spread over a few nats
and attention is neither flat nor one-hot: a mistake in any operation then moves the logits.
"""

import numpy as np
from tamale.codes import limit
from tamale.config import Config
from tamale_model.model import LINEARS, Graph, Layer, Linear, Model

__all__ = [
    "GRAPHS",
    "random_config",
    "random_linear",
    "random_model",
    "random_shape",
    "random_tokens",
]


#: Arguments of `random_model` for the graphs that published checkpoints have.
GRAPHS = {
    "bitnet": {},
    "bitnet with SiLU": {"activation": "silu"},
    "llama": {"activation": "silu", "sub_norms": False, "tied": False},
    "llama, a norm before each matrix": {
        "activation": "silu", "sub_norms": False, "own_norms": True,
    },
    "qwen2": {"activation": "silu", "sub_norms": False, "biases": ("q", "k", "v")},
    "qwen3": {"activation": "silu", "sub_norms": False, "head_norms": True},
    "relu2 without norms": {"sub_norms": False},
    "norms on norms": {"own_norms": True},
    "every bias": {"biases": LINEARS, "activation": "silu"},
    "head norms on biases": {"biases": ("k", "q", "down"), "head_norms": True, "sub_norms": False},
    "scaled rotary embedding": {"rope_frequencies": True},
}  # fmt: skip


def random_linear(
    rng, rows, k, *, planes=1, group_size=0, row_scales=False, gain=1.0, bias=0.0, norm=False,
    sparse=False,
):  # fmt: skip
    """Return a `Linear` whose outputs have deviation ``gain`` for inputs of deviation 1.

    Parameters
    ----------
    rng : numpy.random.Generator
    rows, k : int
    planes : int
        Trits of a value: values are a rounded Gaussian, the largest magnitude occurs.
    group_size : int
        0: no scales along K; otherwise random scales (log-normal, deviation 0.4) per row and group.
    row_scales : bool
        Random scales per row where there are no groups.
    bias : float
        Deviation of the bias; 0: none.
    norm : bool
        Whether the matrix has a norm of its own.
    sparse : bool
        One plane, of every four weights along K exactly one is zero.
    """
    top = limit(planes)
    spread = 0.8 if planes == 1 else top / 2.5
    values = np.clip(np.rint(rng.normal(0, spread, (rows, k))), -top, top).astype(np.int8)
    values[rng.integers(rows), rng.integers(k)] = top
    values[rng.integers(rows), rng.integers(k)] = -top
    if sparse:
        values = rng.choice(np.array([-1, 1], dtype=np.int8), (rows, k))
        zeros = rng.integers(0, 4, (rows, -(-k // 4))) + 4 * np.arange(-(-k // 4))
        row, quad = np.nonzero(zeros < k)
        values[row, zeros[row, quad]] = 0
    deviation = float(np.sqrt(np.mean(values.astype(np.float64) ** 2) * k))
    scales = None
    if group_size or row_scales:
        groups = -(-k // group_size) if group_size else 1
        scales = rng.lognormal(0, 0.4, (rows, groups)).astype(np.float32)
        deviation *= float(np.sqrt(np.mean(scales.astype(np.float64) ** 2)))
    # A scale as a checkpoint holds it: a float32.
    scale = float(np.float32(gain / deviation))
    return Linear(
        values, planes, scale, scales, group_size,
        bias=rng.normal(0, bias, rows).astype(np.float32) if bias else None,
        norm=rng.lognormal(0, 0.3, k).astype(np.float32) if norm else None,
    )  # fmt: skip


def random_model(
    seed, *, hidden=48, layers=2, heads=4, kv_heads=2, head_size=16, feed_forward=80,
    vocabulary=100, context=64, planes=1, group_size=0, row_scales=False, tied=True,
    rope_theta=10000.0, tokenizer=None, activation="relu2", sub_norms=True, head_norms=False,
    own_norms=False, biases=(), rope_frequencies=False, sparse=(),
):  # fmt: skip
    """Return a `Model`; the same arguments give the same model.

    Parameters
    ----------
    seed : int
    hidden, layers, heads, kv_heads, head_size, feed_forward, vocabulary, context : int
        Sizes of the graph; ``heads * head_size`` may differ from ``hidden``.
    planes, group_size, row_scales
        Of all linear layers, see `random_linear`.
    tied : bool
        Whether embedding and head are one matrix.
    tokenizer : str, optional
        Text of a ``tokenizer.json``.
    activation : str
        See `Graph`.
    sub_norms, head_norms, own_norms : bool
        Whether there are BitNet's sub-norms, norms of heads, norms of every matrix.
    biases : iterable of str
        Matrices that have one.
    rope_frequencies : bool
        Random ones.
    sparse : iterable of str
        Matrices that are 3:4 sparse, in every layer.
    """
    rng = np.random.default_rng(seed)
    query, kv = heads * head_size, kv_heads * head_size

    def linear(name, rows, k, gain):
        return random_linear(
            rng, rows, k, planes=planes, group_size=group_size, row_scales=row_scales, gain=gain,
            bias=gain / 2 if name in biases else 0.0, norm=own_norms, sparse=name in sparse,
        )  # fmt: skip

    def norm(n):
        return rng.lognormal(0, 0.3, n).astype(np.float32)

    stack = [
        Layer(
            # Scores of deviation 2: softmax prefers a few positions.
            q=linear("q", query, hidden, 2.0),
            k=linear("k", kv, hidden, 1.0),
            v=linear("v", kv, hidden, 1.0),
            o=linear("o", hidden, query, 0.5),
            gate=linear("gate", feed_forward, hidden, 1.0),
            up=linear("up", feed_forward, hidden, 1.0),
            down=linear("down", hidden, feed_forward, 0.5),
            input_norm=norm(hidden),
            attention_norm=norm(query) if sub_norms else None,
            post_norm=norm(hidden),
            feed_forward_norm=norm(feed_forward) if sub_norms else None,
            query_norm=norm(head_size) if head_norms else None,
            key_norm=norm(head_size) if head_norms else None,
        )
        for _ in range(layers)
    ]
    embedding = rng.normal(0, 0.7, (vocabulary, hidden)).astype(np.float32)
    # A final gain of about 3 / (0.7 sqrt(hidden)) makes the logits spread over a few nats. Its
    # random signs keep a tied head from repeating the last token for ever.
    head = embedding if tied else rng.normal(0, 0.7, (vocabulary, hidden)).astype(np.float32)
    signs = rng.choice([-1, 1], hidden)
    final = (signs * norm(hidden) * 3 / (0.7 * np.sqrt(hidden))).astype(np.float32)
    graph = Graph(
        name=f"random-{seed}",
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        feed_forward=feed_forward,
        vocabulary=vocabulary,
        context=context,
        rope_theta=rope_theta,
        norm_epsilon=1e-5,
        tied=tied,
        activation=activation,
        rope_frequencies=tuple(rng.uniform(0, 1, head_size // 2)) if rope_frequencies else None,
    )
    return Model(graph, embedding, head, stack, final, tokenizer)


def random_shape(seed, *, head_multiple=8):
    """Return arguments of `random_model`: odd sizes, every ratio of query heads to KV heads.

    Parameters
    ----------
    seed : int
    head_multiple : int
        Head sizes are multiples of this; max(2 * vu_width, tile_rows) for a configuration.
    """
    rng = np.random.default_rng([seed, 1])
    sizes = [size for size in (8, 16, 24, 32, 40, 48, 64) if size % head_multiple == 0]
    kv_heads = int(rng.choice([1, 2, 3]))
    ratio = int(rng.choice([1, 2, 3, 4, 8] if kv_heads == 1 else [1, 2, 3]))
    planes = int(rng.choice([1, 1, 2, 3, 5]))
    group_size = int(rng.choice([0, 0, 64, 128, 256]))
    return {
        "hidden": int(rng.integers(5, 44)) * 4 + int(rng.integers(0, 4)),
        "layers": int(rng.integers(1, 4)),
        "heads": kv_heads * ratio,
        "kv_heads": kv_heads,
        "head_size": int(rng.choice(sizes)),
        "feed_forward": int(rng.integers(9, 90)) * 3,
        "vocabulary": int(rng.integers(20, 140)),
        "planes": planes,
        "group_size": group_size,
        "row_scales": bool(rng.integers(2)) and not group_size,
        "tied": bool(rng.integers(2)),
    }


def random_config(seed, **changes):
    """Return a small `Config` of random shape; ``changes`` are kept as given."""
    rng = np.random.default_rng([seed, 2])
    bus_width = int(rng.choice([32, 64, 128]))
    values = {
        "name": f"random-{seed}",
        "bus_width": bus_width,
        "code": str(rng.choice(["t5", "t4"])),
        "tile_rows": int(rng.choice([rows for rows in (1, 2, 4, 8) if bus_width // 8 % rows == 0])),
        "vectors": int(rng.choice([1, 2, 3, 4, 8])),
        "vu_width": int(rng.choice([1, 2, 4])),
        "key_planes": int(rng.choice([2, 3, 5])),
        "value_planes": int(rng.choice([2, 3, 5])),
        "max_k": 1024,
        "max_context": 64,
        "memory_bytes": 8 << 20,
    }
    return Config(**(values | changes))


def random_tokens(seed, vocabulary, count):
    """Return a list of token numbers in which some repeat, as words of a text do."""
    rng = np.random.default_rng([seed, 3])
    common = rng.integers(0, vocabulary, 6)
    tokens = np.where(
        rng.random(count) < 0.4, rng.choice(common, count), rng.integers(0, vocabulary, count)
    )
    return [int(token) for token in tokens]
