"""What quantisation costs: a quantised model against the float model, on text that neither met."""

import dataclasses

import numpy as np

from tamale_model.quantise import graph
from tamale_model.quantise.calibrate import quantise_layers
from tamale_model.quantise.method import Method

__all__ = ["Loss", "Judge", "baselines", "compare", "sparse_baselines"]

# Positions whose logits are computed together.
_TOGETHER = 128


@dataclasses.dataclass
class Loss:
    """Distance of a model from the float model.

    Parameters
    ----------
    tokens : int
        Positions compared.
    xent, float_xent : float
        Mean cross entropy of the next token, nats, of the model and of the float model.
    kl : float
        Mean Kullback-Leibler divergence of the model's distribution from the float model's, nats.
    argmax : float
        Part of the positions whose likeliest token is the same.
    """

    tokens: int
    xent: float
    float_xent: float
    kl: float
    argmax: float

    @property
    def perplexity(self):
        """exp of the cross entropy."""
        return float(np.exp(self.xent))

    def as_dict(self):
        """Return the figures, perplexities included, for JSON."""
        return dataclasses.asdict(self) | {
            "perplexity": self.perplexity,
            "float_perplexity": float(np.exp(self.float_xent)),
        }


def _log_softmax(logits):
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True, dtype=np.float64))
    return logits


class Judge:
    """The float model's answers to a text, and what others lose against them.

    Parameters
    ----------
    model : Model
    tokens : int array [sequences, length]
        Held-out text.
    """

    def __init__(self, model, tokens):
        self.model, self.tokens = model, np.asarray(tokens)
        if self.tokens.ndim != 2 or self.tokens.shape[1] < 2:
            raise ValueError("held-out text needs sequences of 2 tokens or more; pass more text")
        self._rotary = graph.Rotary(model.graph, self.tokens.shape[1])
        self._expected = self._final(model.layers, (False,))[0]

    def _final(self, layers, int8s):
        """What the head reads, for each kind of activation; ``layers`` are walked once."""
        start = graph.embed(self.model, self.tokens)
        ways = [start] * len(int8s)
        for layer in layers:
            ways = [
                graph.walk(self.model.graph, layer, x, self._rotary, int8)
                for x, int8 in zip(ways, int8s, strict=True)
            ]
        return [graph.final(self.model, x) for x in ways]

    def losses(self, layers, int8s=(False, True)):
        """Return a `Loss` for each kind of activation.

        Parameters
        ----------
        layers : iterable of Layer
            Quantised ones; a generator is walked once and no layer kept.
        int8s : sequence of bool
            False: float activations, so that weights alone are judged; True: int8, as on the
            device.
        """
        return [self._loss(x) for x in self._final(layers, int8s)]

    def _loss(self, found):
        head = np.asarray(self.model.head[:]).astype(np.float32).T
        totals, count, following = np.zeros(4), 0, 0
        for tokens, expected, actual in zip(self.tokens, self._expected, found, strict=True):
            for first in range(0, len(tokens), _TOGETHER):
                part = slice(first, first + _TOGETHER)
                reference = _log_softmax(expected[part] @ head)
                other = _log_softmax(actual[part] @ head)
                next_tokens = tokens[first + 1 : first + 1 + _TOGETHER]
                rows = np.arange(len(next_tokens))
                totals += (
                    -other[rows, next_tokens].sum(dtype=np.float64),
                    -reference[rows, next_tokens].sum(dtype=np.float64),
                    (np.exp(reference) * (reference - other)).sum(dtype=np.float64),
                    (reference.argmax(axis=1) == other.argmax(axis=1)).sum(),
                )
                count, following = count + len(reference), following + len(next_tokens)
        xent, float_xent, kl, argmax = totals / (following, following, count, count)
        return Loss(count, float(xent), float(float_xent), float(kl), float(argmax))


def baselines(trits, group_size, **changes):
    """Return {label: Method}: every number of trits, aware and plain, and INT4 likewise."""
    methods = {}
    for n in trits:
        method = Method.of_trits(n, group_size, **changes)
        unit = "1 trit" if n == 1 else f"{n} trits"
        methods[f"{unit}, to nearest, absmax"] = method.plain()
        methods[unit] = method
    int4 = Method.int4(group_size, **changes)
    methods["INT4, to nearest, absmax"] = int4.plain()
    # The published method: scales of least error, GPTQ, nothing after it.
    methods["INT4, GPTQ"] = dataclasses.replace(int4, refits=0, correction=0.0)
    return methods


def sparse_baselines(group_size, **changes):
    """Return {label: Method}: 3:4 sparse trits, aware and plain."""
    method = Method.of_sparse(group_size, **changes)
    return {"3:4 sparse, three largest, mean": method.plain(), "3:4 sparse": method}


def compare(model, tokens, held_out, methods, *, progress=None):
    """Yield (label, method, [weights alone, with int8 activations]) for every method.

    Parameters
    ----------
    model : Model
    tokens, held_out : int array [sequences, length]
    methods : dict of str to Method
    progress : callable, optional
        Called as progress(label, layer number, name).
    """
    judge = Judge(model, held_out)
    for label, method in methods.items():

        def note(number, name, label=label):
            if progress:
                progress(label, number, name)

        steps = quantise_layers(model, tokens, method, progress=note)
        yield label, method, judge.losses(step.layer for step in steps)
