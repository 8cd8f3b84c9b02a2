"""The decoder in float32, one layer at a time over many sequences, open at every matrix.

`tamale_model.reference` evaluates a whole model along a sequence; calibration goes the other way:
a layer over the whole text, so that a model never has more than one layer in memory, and whoever
walks sees the inputs of a matrix before it is applied.
"""

import numpy as np

from tamale_model.linears import quantise_activation, rms_norm

__all__ = ["STAGES", "Rotary", "embed", "final", "outputs", "seen", "stages", "walk"]

#: Matrices of a layer that read the same vectors, in the order of evaluation.
STAGES = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))


class Rotary:
    """Rotary factors of the first ``length`` positions of a graph."""

    def __init__(self, graph, length):
        angle = np.arange(length)[:, None] * graph.frequencies
        self.cosine = np.cos(angle).astype(np.float32)
        self.sine = np.sin(angle).astype(np.float32)

    def __call__(self, x):
        """Return [length, heads, size] turned by halves."""
        cosine, sine = self.cosine[: len(x), None], self.sine[: len(x), None]
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)


def embed(model, tokens):
    """Return the residuals float32 [sequences, length, hidden] in front of the first layer."""
    tokens = np.asarray(tokens)
    rows = np.asarray(model.embedding[tokens.reshape(-1)]).astype(np.float32)
    return rows.reshape(*tokens.shape, -1)


def final(model, x):
    """Return what the head reads for residuals behind the last layer."""
    return rms_norm(x, model.final_norm, model.graph.norm_epsilon)


def _norm(x, gain, epsilon):
    return x if gain is None else rms_norm(x, gain, epsilon)


def seen(graph, linear, x, int8=False):
    """Return what a matrix multiplies: ``x`` after the norm of its own and the rounding to int8."""
    x = _norm(x, linear.norm, graph.linear_norm_epsilon)
    if int8:
        codes, factor = quantise_activation(x)
        x = codes / factor
    return x


def outputs(graph, layer, names, x, int8=False):
    """Return the outputs [..., rows] of matrices that share inputs [..., k].

    Parameters
    ----------
    int8 : bool
        Round the inputs as the device does, to int8 of the absmax of each token.
    """
    result = []
    for name in names:
        linear = getattr(layer, name)
        y = seen(graph, linear, x, int8) @ linear.dequantised().T
        result.append(y if linear.bias is None else y + linear.bias)
    return result


def _attention(graph, rotary, layer, q, k, v):
    """Causal attention of one sequence: [n, ...] to [n, query_size]."""
    n, size = len(q), graph.head_size
    q, k = q.reshape(n, graph.heads, size), k.reshape(n, graph.kv_heads, size)
    q = rotary(_norm(q, layer.query_norm, graph.norm_epsilon))
    k = rotary(_norm(k, layer.key_norm, graph.norm_epsilon))
    q = q.reshape(n, graph.kv_heads, -1, size).transpose(1, 2, 0, 3)
    k = k.transpose(1, 0, 2)[:, None]
    v = v.reshape(n, graph.kv_heads, size).transpose(1, 0, 2)[:, None]
    scores = q @ k.swapaxes(2, 3) * np.float32(size**-0.5)
    scores += np.triu(np.full((n, n), -np.inf, dtype=np.float32), 1)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return (scores @ v).transpose(2, 0, 1, 3).reshape(n, graph.query_size)


def _activate(graph, gate):
    if graph.activation == "relu2":
        return np.square(np.maximum(gate, 0))
    with np.errstate(over="ignore"):  # exp of a large number is infinite, its reciprocal zero
        return gate / (1 + np.exp(-gate))


def stages(graph, layer, x, rotary):
    """Walk a layer: a generator that yields (names, inputs) and is sent the list of outputs.

    Parameters
    ----------
    graph : Graph
    layer : Layer
        Only its norms are used here.
    x : float32 array [sequences, length, hidden]
        Residuals in front of the layer.
    rotary : Rotary

    Yields
    ------
    names : tuple of str
        One of `STAGES`.
    inputs : float32 array [sequences, length, k]

    Returns
    -------
    float32 array [sequences, length, hidden]
        Residuals behind the layer.
    """
    epsilon = graph.norm_epsilon
    q, k, v = yield STAGES[0], _norm(x, layer.input_norm, epsilon)
    mixed = np.stack([_attention(graph, rotary, layer, *one) for one in zip(q, k, v, strict=True)])
    del q, k, v
    (y,) = yield STAGES[1], _norm(mixed, layer.attention_norm, epsilon)
    x = x + y
    gate, up = yield STAGES[2], _norm(x, layer.post_norm, epsilon)
    product = _activate(graph, gate) * up
    del gate, up
    (y,) = yield STAGES[3], _norm(product, layer.feed_forward_norm, epsilon)
    return x + y


def walk(graph, layer, x, rotary, int8=False):
    """Return the residuals behind a layer; see `outputs` for ``int8``."""
    # Some sequences at a time bound the memory of what lies between the matrices.
    together = max(1, (1 << 24) // (x.shape[1] * graph.feed_forward))
    result = np.empty_like(x)
    for first in range(0, len(x), together):
        steps = stages(graph, layer, x[first : first + together], rotary)
        answer = None
        while True:
            try:
                names, inputs = steps.send(answer)
            except StopIteration as end:
                result[first : first + together] = end.value
                break
            answer = outputs(graph, layer, names, inputs, int8)
    return result
