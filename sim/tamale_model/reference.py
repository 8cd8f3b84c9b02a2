"""Float reference of every graph: the arithmetic of transformers or llama.cpp on a `Model`.

Sources: transformers ``models/bitnet/modeling_bitnet.py``, ``models/llama``, ``models/qwen2`` and
``models/qwen3`` (graphs), ``integrations/bitnet.py`` (quantisation of activations); llama.cpp
``src/models/{bitnet,llama,qwen2,qwen3}.cpp`` and ``ggml/src/ggml-cpu/ops.cpp``. Linear layers are
evaluated by `linears`; norms, rotary embedding, softmax, embedding and head are float32, the
key-value cache is unquantised. It shares no code with the device's arithmetic.
"""

import numpy as np

from tamale_model import sampling
from tamale_model.integer import Scalar
from tamale_model.linears import (
    ARITHMETICS,
    accumulate,
    prepare,
    quantise_activation,
    rms_norm,
)
from tamale_model.model import ACTIVATIONS, LINEARS
from tamale_model.session import Step

__all__ = [
    "ARITHMETICS",
    "LINEARS",
    "FloatSession",
    "Reference",
    "accumulate",
    "quantise_activation",
]

# Layers are kept, ready to be evaluated, up to this many elements of their matrices.
_KEPT_ELEMENTS = 64 << 20

# Rows of a head of another type that are converted to float32 at a time.
_HEAD_ROWS = 8192

# Sampling works on integers: logits in units of 2**-16, which is the scalar below.
_LOGIT_BITS = 16
_LOGIT_UNIT = Scalar(1 << 15, -15 - _LOGIT_BITS)


class _Layer:
    """Norms and linear layers of one layer, ready to be evaluated."""

    def __init__(self, layer, graph, arithmetic):
        self.norms = {
            name: getattr(layer, name)
            for name in (
                "input_norm", "attention_norm", "post_norm", "feed_forward_norm", "query_norm",
                "key_norm",
            )
        }  # fmt: skip
        self.products = {
            name: prepare(getattr(layer, name), arithmetic, graph.linear_norm_epsilon)
            for name in LINEARS
        }
        self.elements = sum(product.elements for product in self.products.values())


class Reference:
    """The graph, evaluated in float32.

    Parameters
    ----------
    model : Model
    observe : callable, optional
        Called as observe(layer, name, codes, accumulators) for every linear layer whose inputs are
        quantised: ``name`` is one of `LINEARS`, codes are int64 [n, k], accumulators int64
        [groups, n, rows], where groups are those of the weights' scales in the arithmetic ``hf``
        and blocks of activations in ``ggml`` and ``ggml-q8_0``.
    arithmetic : str
        One of `ARITHMETICS`: how linear layers are evaluated, see `linears`.
    """

    def __init__(self, model, observe=None, arithmetic="hf"):
        if model.graph.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {model.graph.activation!r} is not known; "
                f"this takes {' and '.join(ACTIVATIONS)}"
            )
        if arithmetic not in ARITHMETICS:
            raise ValueError(f"arithmetic {arithmetic!r} is unknown; use {', '.join(ARITHMETICS)}")
        self.model, self.graph, self.observe = model, model.graph, observe
        self.arithmetic = arithmetic
        self._llama_cpp = arithmetic.startswith("ggml")
        self._kept, self._elements = {}, 0

    def cache(self, positions=None):
        """Return an empty cache of one sequence: float32 [layers, 2, kv_heads, positions, size]."""
        g = self.graph
        shape = (g.layers, 2, g.kv_heads, positions or g.context, g.head_size)
        return np.zeros(shape, dtype=np.float32)

    def forward(self, tokens, cache, first=0):
        """Append tokens to a sequence.

        Parameters
        ----------
        tokens : sequence of int
        cache : float32 array
            From `cache`; holds the positions before ``first``, receives those of ``tokens``.
        first : int
            Position of the first token.

        Returns
        -------
        float32 array [len(tokens), hidden]
            The residual after the last layer; see `logits`.
        """
        return self.forward_all([(tokens, cache, first)])[0]

    def forward_all(self, parts, progress=None):
        """Append tokens to several sequences in one walk over the layers.

        Parameters
        ----------
        parts : list of (tokens, cache, first)
            As `forward` takes them.
        progress : callable, optional
            Called as progress(done, layers) after every layer.

        Returns
        -------
        list of float32 array [len(tokens), hidden]
            The residuals of each sequence.
        """
        rows, positions, first_row = [], [], 0
        for tokens, cache, first in parts:
            last = first + len(tokens)
            if last > cache.shape[3]:
                raise ValueError(f"position {last - 1} is outside the context of {cache.shape[3]}")
            for token in tokens:
                if not 0 <= token < self.graph.vocabulary:
                    raise ValueError(
                        f"token {token} is outside the vocabulary of {self.graph.vocabulary}"
                    )
            rows.append(slice(first_row, first_row + len(tokens)))
            positions.append(np.arange(first, last, dtype=np.float32))
            first_row += len(tokens)
        embedding = self.model.embedding
        # A slice for each token: the rows may be mapped from a file of another type.
        x = np.concatenate([embedding[t : t + 1] for tokens, _, _ in parts for t in tokens])
        x = x.astype(np.float32)
        rotary = self._rotary(np.concatenate(positions))
        where = [(part, cache, first) for part, (_, cache, first) in zip(rows, parts, strict=True)]
        for number in range(self.graph.layers):
            layer = self._layer(number)
            norms = layer.norms
            x = x + self._attention(
                number, layer, self._norm(x, norms["input_norm"]), where, rotary
            )
            x = x + self._feed_forward(number, layer, self._norm(x, norms["post_norm"]))
            del layer  # before the next one is made: of large models there is room for one
            if progress:
                progress(number + 1, self.graph.layers)
        return [x[part] for part in rows]

    def logits(self, x):
        """Return the float32 logits [n, vocabulary] of residuals [n, hidden]."""
        x, head = self._norm(x, self.model.final_norm), self.model.head
        if isinstance(head, np.ndarray) and head.dtype == np.float32:
            return x @ head.T
        result = np.empty((len(x), self.graph.vocabulary), dtype=np.float32)
        for first in range(0, self.graph.vocabulary, _HEAD_ROWS):
            part = head[first : first + _HEAD_ROWS].astype(np.float32)
            result[:, first : first + _HEAD_ROWS] = x @ part.T
        return result

    def linear(self, number, name, x):
        """Return one linear layer's float32 outputs [n, rows] for inputs [n, k]."""
        return self._linear(self._layer(number), number, name, x)

    def _layer(self, number):
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        layer = _Layer(self.model.layers[number], self.graph, self.arithmetic)
        if self._elements + layer.elements <= _KEPT_ELEMENTS:
            self._kept[number] = layer
            self._elements += layer.elements
        return layer

    def _linear(self, layer, number, name, x):
        observe = None
        if self.observe:

            def observe(codes, sums):
                self.observe(number, name, codes, sums)

        return layer.products[name](x, observe)

    def _norm(self, x, gain):
        if gain is None:
            return x
        # llama.cpp adds squares in float64.
        mean = np.float64 if self._llama_cpp else np.float32
        return rms_norm(x, gain, self.graph.norm_epsilon, mean)

    def _rotary(self, positions):
        """Cosines and sines, float32 [n, head_size / 2], of float32 positions [n]."""
        g, half = self.graph, self.graph.head_size // 2
        if self._llama_cpp and g.rope_frequencies is None:
            # llama.cpp multiplies the angle on from one rotation to the next.
            step = np.float32(g.rope_theta) ** np.float32(-2 / g.head_size)
            angle = np.repeat(positions[:, None], half, axis=1)
            angle[:, 1:] = step
            angle = np.multiply.accumulate(angle, axis=1, dtype=np.float32)
        elif g.rope_frequencies is None:
            exponent = np.arange(0, g.head_size, 2, dtype=np.float32) / np.float32(g.head_size)
            angle = positions[:, None] * (np.float32(1) / np.float32(g.rope_theta) ** exponent)
        else:
            angle = positions[:, None] * g.frequencies.astype(np.float32)
        return np.cos(angle), np.sin(angle)

    def _rotate(self, x, rotary):
        """Rotary embedding of halves; x is [n, heads, size]."""
        cosine, sine = (factor[:, None] for factor in rotary)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)

    def _attention(self, number, layer, x, where, rotary):
        g, n = self.graph, len(x)
        q = self._linear(layer, number, "q", x).reshape(n, g.heads, g.head_size)
        k = self._linear(layer, number, "k", x).reshape(n, g.kv_heads, g.head_size)
        v = self._linear(layer, number, "v", x).reshape(n, g.kv_heads, g.head_size)
        q = self._rotate(self._norm(q, layer.norms["query_norm"]), rotary)
        k = self._rotate(self._norm(k, layer.norms["key_norm"]), rotary)
        out = np.concatenate(
            [
                self._attend(q[rows], k[rows], v[rows], cache[number], first)
                for rows, cache, first in where
            ]
        )
        return self._linear(layer, number, "o", self._norm(out, layer.norms["attention_norm"]))

    def _attend(self, q, k, v, cache, first):
        """Append k and v [n, kv_heads, size] to one layer's cache; return [n, query_size]."""
        g, n = self.graph, len(q)
        stored = cache[:, :, : first + n]
        stored[0, :, first:], stored[1, :, first:] = k.transpose(1, 0, 2), v.transpose(1, 0, 2)
        # kv_heads, group, n, size
        q = q.reshape(n, g.kv_heads, g.heads // g.kv_heads, g.head_size).transpose(1, 2, 0, 3)
        scores = q @ stored[0][:, None].swapaxes(2, 3) * np.float32(g.head_size**-0.5)
        future = np.arange(first + n) > np.arange(first, first + n)[:, None]
        scores = np.where(future, np.float32(-np.inf), scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ stored[1][:, None]).transpose(2, 0, 1, 3).reshape(n, g.query_size)

    def _feed_forward(self, number, layer, x):
        gate = self._linear(layer, number, "gate", x)
        if self.graph.activation == "relu2":
            gate = np.maximum(gate, 0)
            gate = gate * gate
        else:
            with np.errstate(over="ignore"):  # exp of a very negative gate: the result is -0
                gate = gate / (np.float32(1) + np.exp(-gate))
        product = gate * self._linear(layer, number, "up", x)
        return self._linear(
            layer, number, "down", self._norm(product, layer.norms["feed_forward_norm"])
        )


class FloatSession:
    """Generates text with the float reference; the interface of `session.GoldenSession`.

    Parameters
    ----------
    model : Model
    sequences : int
        Sequences that `generate` takes at most.
    temperature, top_k, seed
        See `sampling.Sampler`; sequence i uses seed + i * 0x9E3779B9.
    all_logits : bool
        Compute the logits of prompt positions too.
    context : int, optional
        Positions of a sequence; the model's when left out.
    chunk : int
        Prompt tokens that are evaluated together.
    candidates : int
        Logits that the sampler sees.
    stop_tokens : iterable of int, optional
        Tokens that end a text; the model's when left out.
    observe : callable, optional
        See `Reference`.
    arithmetic : str
        See `Reference`.
    """

    def __init__(
        self, model, sequences=1, *, temperature=0.0, top_k=0, seed=0, all_logits=False,
        context=None, chunk=64, candidates=32, stop_tokens=None, observe=None, arithmetic="hf",
    ):  # fmt: skip
        if sequences < 1:
            raise ValueError(f"{sequences} parallel sequences; use 1 or more")
        if chunk < 1:
            raise ValueError(f"{chunk} prompt tokens at a time; use 1 or more")
        self.context = context or model.graph.context
        if not 1 <= self.context <= model.graph.context:
            raise ValueError(
                f"{model.graph.name} was made for a context of {model.graph.context}, not {context}"
            )
        self.reference = Reference(model, observe, arithmetic)
        self.sequences, self.all_logits, self.chunk = sequences, all_logits, chunk
        self.candidates = candidates
        self.stop = set(model.graph.eos if stop_tokens is None else stop_tokens)
        self.samplers = [
            sampling.Sampler(temperature, top_k, seed + i * 0x9E3779B9) for i in range(sequences)
        ]

    def _sample(self, sequence, logits):
        fixed = np.rint(np.ldexp(logits.astype(np.float64), _LOGIT_BITS)).astype(np.int64)
        best = sampling.candidates(fixed, self.candidates)
        return self.samplers[sequence].pick(best, _LOGIT_UNIT)

    def _check(self, prompts):
        if len(prompts) > self.sequences:
            raise ValueError(f"{len(prompts)} prompts for {self.sequences} parallel sequences")
        vocabulary = self.reference.graph.vocabulary
        for prompt in prompts:
            if not 1 <= len(prompt) <= self.context:
                raise ValueError(
                    f"a prompt has 1 to {self.context} tokens in this context, not {len(prompt)}"
                )
            for token in prompt:
                if not 0 <= token < vocabulary:
                    raise ValueError(f"token {token} is outside the vocabulary of {vocabulary}")

    def generate(self, prompts, tokens):
        """Yield a `Step` for each chunk of a prompt and each new token.

        Parameters
        ----------
        prompts : list of list of int
            One per sequence, at least one token each.
        tokens : int
            Most new tokens of a sequence; a stop token or a full context ends it earlier.
        """
        self._check(prompts)
        reference = self.reference
        caches = [reference.cache(min(self.context, len(p) + tokens)) for p in prompts]
        last, position = [], []
        for sequence, prompt in enumerate(prompts):
            token = None
            for first in range(0, len(prompt), self.chunk):
                part = prompt[first : first + self.chunk]
                x = reference.forward(part, caches[sequence], first)
                final = first + len(part) == len(prompt)
                logits = reference.logits(x) if final or self.all_logits else None
                if final:
                    token = self._sample(sequence, logits[-1])
                yield Step(sequence, token, logits)
            last.append(token)
            position.append(len(prompt))
        made = [1] * len(prompts)
        while True:
            active = [
                s
                for s in range(len(prompts))
                if made[s] < tokens and last[s] not in self.stop and position[s] < self.context
            ]
            if not active:
                return
            residuals = reference.forward_all([([last[s]], caches[s], position[s]) for s in active])
            for s, x in zip(active, residuals, strict=True):
                logits = reference.logits(x)
                last[s] = self._sample(s, logits[0])
                position[s] += 1
                made[s] += 1
                yield Step(s, last[s], logits)
