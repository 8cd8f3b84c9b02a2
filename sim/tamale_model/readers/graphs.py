"""What every reader checks of a graph, and the assembly of a model from tensors in a file."""

import dataclasses
import math

from tamale_model.model import LINEARS, Layer, Model

from . import structure
from .errors import CheckpointError
from .layers import Layers

__all__ = ["Skeleton", "check_graph", "shapes"]

#: No size of a model that exists is larger, by far; tables are made by these sizes.
_LARGEST = {"head_size": 1 << 14, "heads": 1 << 14, "kv_heads": 1 << 14, "layers": 1 << 14}
_LARGEST_OTHER = 1 << 31

#: Groups of matrices that read the same activations: their scales must divide K alike.
_TOGETHER = (("q", "k", "v"), ("o",), ("gate", "up"), ("down",))


def check_graph(graph, source):
    """Raise CheckpointError unless sizes and constants are possible; ``source`` names the file."""
    for key in (
        "hidden", "layers", "heads", "kv_heads", "head_size", "feed_forward", "vocabulary",
        "context",
    ):  # fmt: skip
        value = getattr(graph, key)
        if value < 1:
            raise CheckpointError(
                f"{source} gives {key} = {value}, it must be 1 or more; the file is damaged"
            )
        if value > _LARGEST.get(key, _LARGEST_OTHER):
            raise CheckpointError(
                f"{source} gives {key} = {value}, which no model has; the file is damaged"
            )
    if graph.heads % graph.kv_heads:
        raise CheckpointError(
            f"{graph.heads} heads do not share {graph.kv_heads} KV heads evenly; "
            "num_attention_heads must be a multiple of num_key_value_heads"
        )
    if graph.head_size % 2:
        raise CheckpointError(
            f"{source} gives a head size of {graph.head_size}; the rotary embedding needs an even "
            "one, so the file is damaged"
        )
    for key in ("rope_theta", "norm_epsilon", "linear_norm_epsilon"):
        value = getattr(graph, key)
        # An epsilon may be zero, a base of frequencies may not.
        if not math.isfinite(value) or value < 0 or (key == "rope_theta" and value == 0):
            raise CheckpointError(f"{source} gives {key} = {value}; the file is damaged")
    for token in (*graph.eos, *(() if graph.bos is None else (graph.bos,))):
        if not 0 <= token < _LARGEST_OTHER:
            raise CheckpointError(f"{source} names token {token}; the file is damaged")


def shapes(graph):
    """{name of a matrix: (rows, k)}."""
    return {
        "q": (graph.query_size, graph.hidden),
        "k": (graph.kv_size, graph.hidden),
        "v": (graph.kv_size, graph.hidden),
        "o": (graph.hidden, graph.query_size),
        "gate": (graph.feed_forward, graph.hidden),
        "up": (graph.feed_forward, graph.hidden),
        "down": (graph.hidden, graph.feed_forward),
    }


@dataclasses.dataclass
class Skeleton:
    """A model whose matrices still lie in their file.

    Parameters
    ----------
    graph : Graph
    matrices : list of dict of str to Matrix
        By layer and name.
    norms : list of dict of str to array
        By layer, names of `Layer`'s fields.
    embedding, head : array
    final_norm : float32 array
    tokenizer : str or None
    notes : list of str
        What the model lacks that its file has.
    """

    graph: object
    matrices: list
    norms: list
    embedding: object
    head: object
    final_norm: object
    tokenizer: str | None = None
    notes: list = dataclasses.field(default_factory=list)

    def plans(self):
        """Return {name of a matrix: Plan}: one for all layers, groups alike where they must be."""
        plans = {
            name: structure.merge([matrices[name].plan() for matrices in self.matrices])
            for name in LINEARS
        }
        for names in _TOGETHER:
            ternary = [n for n in names if plans[n].level != structure.FLOAT]
            if any(plans[n].level == structure.GROUP for n in ternary):
                merged = structure.merge([plans[n] for n in ternary])
                for n in ternary:
                    plans[n] = dataclasses.replace(plans[n], level=merged.level,
                                                   group_size=merged.group_size)  # fmt: skip
        return plans

    def model(self):
        """Return the `Model`, whose layers are read when they are asked for."""
        plans = self.plans()

        def load(number):
            matrices = self.matrices[number]
            linears = {name: matrices[name].read(plans[name]) for name in LINEARS}
            return Layer(**linears, **self.norms[number])

        return Model(
            graph=self.graph,
            embedding=self.embedding,
            head=self.head,
            layers=Layers(self.graph.layers, load),
            final_norm=self.final_norm,
            tokenizer=self.tokenizer,
        )
