"""Quantises a model layer by layer; quantised layers feed the next.

The calibration text goes through the layers twice where the method corrects for errors in front:
as the quantised layers deliver it, and as the float model does. One layer is in memory at a time,
with the residuals of the text (tokens x hidden x 4 bytes for each way), what lies between the
matrices (tokens x feed_forward x 4 bytes, thrice) and few Hessians (k x k x 8 bytes).
"""

import dataclasses

import numpy as np

from tamale_model.model import LINEARS, FloatLinear
from tamale_model.quantise import graph
from tamale_model.quantise.method import Inputs, quantise_matrix

__all__ = ["Step", "check_float", "quantise_layers"]

# Vectors that are added to a Hessian by one product in float32.
_TOGETHER = 2048


@dataclasses.dataclass
class Step:
    """A quantised layer.

    Parameters
    ----------
    number : int
    layer : Layer
    errors : dict of str to float
        Relative squared output error of each matrix that was quantised.
    """

    number: int
    layer: object
    errors: dict


def check_float(name, layer):
    """Raise ValueError unless all matrices of a layer of the model ``name`` are float."""
    for role in LINEARS:
        if not isinstance(getattr(layer, role), FloatLinear):
            raise ValueError(
                f"{name}: the matrix {role!r} is quantised already; `tamale pack` takes such a "
                "checkpoint as it is"
            )


def _check(name, layer, method):
    # Trits that are there already may lose a quarter of them.
    if not method.sparse:
        check_float(name, layer)


def _mean_products(a, b):
    """Mean of a^T b over vectors [n, k], added in float64."""
    total = np.zeros((a.shape[1], b.shape[1]))
    for first in range(0, len(a), _TOGETHER):
        part = slice(first, first + _TOGETHER)
        total += a[part].T @ b[part]
    return total / len(a)


class _Stage:
    """Statistics of the vectors that some matrices share, made when they are asked for."""

    def __init__(self, model_graph, method, x, float_x):
        self.graph, self.method, self.x, self.float_x = model_graph, method, x, float_x
        self.kept = {}

    def inputs(self, linear):
        # Matrices with norms of their own see vectors of their own.
        key = None if linear.norm is None else id(linear.norm)
        if key not in self.kept:
            x = self._flat(self.x, linear, self.method.int8)
            hessian, cross = _mean_products(x, x), None
            if self.float_x is not None:
                cross = _mean_products(self._flat(self.float_x, linear, False), x)
            self.kept[key] = Inputs(hessian, self.method, cross)
        return self.kept[key]

    def _flat(self, x, linear, int8):
        return graph.seen(self.graph, linear, x.reshape(-1, x.shape[-1]), int8)


def quantise_layers(model, tokens, method, *, ready=None, progress=None):
    """Yield a `Step` for every layer, in order.

    Parameters
    ----------
    model : Model
        Of `FloatLinear` matrices; where the method is sparse, of any.
    tokens : int array [sequences, length]
        Calibration text.
    method : Method
    ready : callable, optional
        Called with the number of a layer; returns that layer quantised, if it was made before.
    progress : callable, optional
        Called as progress(layer number, name of the matrix) before each matrix.

    Raises
    ------
    ValueError
        If a matrix is quantised already, or activations are not finite.
    """
    g = model.graph
    _check(g.name, model.layers[0], method)
    if not method.calibrated:
        yield from _without_text(model, method, ready, progress)
        return
    x = graph.embed(model, tokens)
    float_x = x if method.correction else None
    rotary = graph.Rotary(g, x.shape[1])
    for number, layer in enumerate(model.layers):
        done = ready(number) if ready else None
        if done is not None:
            x = graph.walk(g, done, x, rotary, method.int8)
            if float_x is not None:
                float_x = graph.walk(g, layer, float_x, rotary)
            yield Step(number, done, {})
            continue
        step, x, float_x = _layer(g, number, layer, x, float_x, rotary, method, progress)
        yield step


def _without_text(model, method, ready, progress):
    for number, layer in enumerate(model.layers):
        done = ready(number) if ready else None
        if done is None:
            _check(model.graph.name, layer, method)
            done = dataclasses.replace(layer)
            for name in LINEARS:
                if progress:
                    progress(number, name)
                linear, _ = quantise_matrix(getattr(layer, name), method)
                setattr(done, name, linear)
        yield Step(number, done, {})


def _layer(g, number, layer, x, float_x, rotary, method, progress):
    _check(g.name, layer, method)
    fresh, errors = dataclasses.replace(layer), {}
    walks = [graph.stages(g, layer, x, rotary)]
    if float_x is not None:
        walks.append(graph.stages(g, layer, float_x, rotary))
    answers = [None] * len(walks)
    while True:
        seen, ended = [], []
        for walk, answer in zip(walks, answers, strict=True):
            try:
                names, inputs = walk.send(answer)
                seen.append(inputs)
            except StopIteration as end:
                ended.append(end.value)
        if ended:
            return Step(number, fresh, errors), ended[0], ended[1] if len(ended) > 1 else None
        stage = _Stage(g, method, seen[0], seen[1] if len(seen) > 1 else None)
        for name in names:
            linear = getattr(layer, name)
            if progress:
                progress(number, name)
            try:
                linear, errors[name] = quantise_matrix(linear, method, stage.inputs(linear))
            except ValueError as error:
                raise ValueError(f"{g.name}, layer {number}, {name}: {error}") from error
            setattr(fresh, name, linear)
        answers = [graph.outputs(g, fresh, names, seen[0], method.int8)]
        if len(walks) > 1:
            answers.append(graph.outputs(g, layer, names, seen[1]))
