"""Float reference of the BitNet graph: the arithmetic of transformers, in NumPy, on a `Model`.

Source: transformers ``integrations/bitnet.py`` (quantisation of activations) and
``models/bitnet/modeling_bitnet.py`` (graph). Linear layers are exact: int8 codes, integer
accumulators, one multiplication by the scales. Norms, rotary embedding, softmax, embedding and head
are float32, the key-value cache is unquantised. It shares no code with the device's arithmetic.
"""

import numpy as np

from tamale_model import sampling
from tamale_model.integer import Scalar
from tamale_model.session import Step

__all__ = ["LINEARS", "FloatSession", "Reference", "accumulate", "quantise_activation"]

#: Linear layers of a decoder layer, in the order in which the graph evaluates them.
LINEARS = ("q", "k", "v", "o", "gate", "up", "down")

# Float copies of the weight integers are kept up to this many elements.
_CACHED_WEIGHTS = 64 << 20

# Sampling works on integers: logits in units of 2**-16, which is the scalar below.
_LOGIT_BITS = 16
_LOGIT_UNIT = Scalar(1 << 15, -15 - _LOGIT_BITS)


def quantise_activation(x):
    """Return (codes, factor): the int8 codes of each row and the factor that made them.

    Parameters
    ----------
    x : float32 array [..., k]

    Returns
    -------
    codes : float32 array [..., k]
        Integers -128 to 127.
    factor : float32 array [..., 1]
        127 / absmax as torch evaluates a number over a tensor: the reciprocal, rounded, times 127.
    """
    x = np.asarray(x, dtype=np.float32)
    peak = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-5))
    factor = np.float32(1) / peak * np.float32(127)
    return np.clip(np.rint(x * factor), -128, 127), factor


def _group_matrices(linear):
    """Return float [groups, size, rows] of a `Linear`'s integers, the last group padded with zeros.

    Products with int8 codes are summed by BLAS, in a format that holds every partial sum exactly.
    """
    rows, k = linear.shape
    size = linear.group_size or k
    largest = int(np.abs(linear.values.astype(np.int16)).max(initial=0))
    dtype = np.float32 if 128 * largest * size < 1 << 24 else np.float64
    padded = np.zeros((rows, linear.groups * size), dtype=dtype)
    padded[:, :k] = linear.values
    return np.ascontiguousarray(padded.reshape(rows, linear.groups, size).transpose(1, 2, 0))


def accumulate(linear, codes, matrices=None):
    """Return the sums int64 [groups, n, rows] of codes [n, k] times a matrix, group by group."""
    if matrices is None:
        matrices = _group_matrices(linear)
    groups, size, _ = matrices.shape
    padded = np.zeros((len(codes), groups * size), dtype=matrices.dtype)
    padded[:, : codes.shape[1]] = codes
    sums = padded.reshape(-1, groups, size).transpose(1, 0, 2) @ matrices
    return sums.astype(np.int64)


class Reference:
    """The graph, evaluated in float32.

    Parameters
    ----------
    model : Model
    observe : callable, optional
        Called as observe(layer, name, codes, accumulators) for every linear layer: ``name`` is one
        of `LINEARS`, codes are int64 [n, k], accumulators int64 [groups, n, rows].
    """

    def __init__(self, model, observe=None):
        if model.graph.activation != "relu2":
            raise ValueError(
                f"activation {model.graph.activation!r} is not known; this takes 'relu2'"
            )
        self.model, self.graph, self.observe = model, model.graph, observe
        half = np.arange(0, self.graph.head_size, 2, dtype=np.float32) / np.float32(
            self.graph.head_size
        )
        self._frequency = np.float32(1) / np.float32(self.graph.rope_theta) ** half
        self._matrices = {}
        self._kept = 0

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
        last = first + len(tokens)
        if last > cache.shape[3]:
            raise ValueError(f"position {last - 1} is outside the context of {cache.shape[3]}")
        x = self.model.embedding[np.asarray(tokens)].astype(np.float32)
        angle = np.arange(first, last, dtype=np.float32)[:, None] * self._frequency
        rotary = np.cos(angle), np.sin(angle)
        for number, layer in enumerate(self.model.layers):
            x = x + self._attention(
                number, layer, self._norm(x, layer.input_norm), cache, first, rotary
            )
            x = x + self._feed_forward(number, layer, self._norm(x, layer.post_norm))
        return x

    def logits(self, x):
        """Return the float32 logits [n, vocabulary] of residuals [n, hidden]."""
        return self._norm(x, self.model.final_norm) @ self.model.head.T

    def linear(self, number, name, x):
        """Return one linear layer's float32 outputs [n, rows] for inputs [n, k]."""
        linear = getattr(self.model.layers[number], name)
        codes, factor = quantise_activation(x)
        matrices = self._matrices.get((number, name))
        if matrices is None:
            matrices = _group_matrices(linear)
            if self._kept + matrices.size <= _CACHED_WEIGHTS:
                self._kept += matrices.size
                self._matrices[number, name] = matrices
        sums = accumulate(linear, codes, matrices)
        if self.observe:
            self.observe(number, name, codes.astype(np.int64), sums)
        if linear.scales is None:
            total = sums[0].astype(np.float32)
        else:
            total = np.einsum("gnr,rg->nr", sums.astype(np.float32), linear.scales)
        return total * np.float32(linear.scale) / factor

    def _norm(self, x, gain):
        if gain is None:
            return x
        variance = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float32)
        return gain * (
            x * (np.float32(1) / np.sqrt(variance + np.float32(self.graph.norm_epsilon)))
        )

    def _rotate(self, x, rotary):
        """Rotary embedding of halves; x is [n, heads, size]."""
        cosine, sine = (factor[:, None] for factor in rotary)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cosine - b * sine, b * cosine + a * sine], axis=-1)

    def _attention(self, number, layer, x, cache, first, rotary):
        g, n = self.graph, len(x)
        q = self.linear(number, "q", x).reshape(n, g.heads, g.head_size)
        k = self.linear(number, "k", x).reshape(n, g.kv_heads, g.head_size)
        v = self.linear(number, "v", x).reshape(n, g.kv_heads, g.head_size)
        q, k = self._rotate(q, rotary), self._rotate(k, rotary)
        stored = cache[number, :, :, : first + n]
        stored[0, :, first:], stored[1, :, first:] = k.transpose(1, 0, 2), v.transpose(1, 0, 2)
        # kv_heads, group, n, size
        q = q.reshape(n, g.kv_heads, g.heads // g.kv_heads, g.head_size).transpose(1, 2, 0, 3)
        scores = q @ stored[0][:, None].swapaxes(2, 3) * np.float32(g.head_size**-0.5)
        future = np.arange(first + n) > np.arange(first, first + n)[:, None]
        scores = np.where(future, np.float32(-np.inf), scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = (weights @ stored[1][:, None]).transpose(2, 0, 1, 3).reshape(n, g.query_size)
        return self.linear(number, "o", self._norm(out, layer.attention_norm))

    def _feed_forward(self, number, layer, x):
        gate = np.maximum(self.linear(number, "gate", x), 0)
        product = gate * gate * self.linear(number, "up", x)
        return self.linear(number, "down", self._norm(product, layer.feed_forward_norm))


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
    """

    def __init__(
        self, model, sequences=1, *, temperature=0.0, top_k=0, seed=0, all_logits=False,
        context=None, chunk=64, candidates=32, stop_tokens=None, observe=None,
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
        self.reference = Reference(model, observe)
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
            for s in active:
                x = reference.forward([last[s]], caches[s], position[s])
                logits = reference.logits(x)
                last[s] = self._sample(s, logits[0])
                position[s] += 1
                made[s] += 1
                yield Step(s, last[s], logits)
