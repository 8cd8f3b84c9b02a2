"""What a model will need, before anything is packed: bytes a token, memory, predicted speed.

Sizes follow from the graph and the plans of the matrices; no weight is read. The cycle model wants
a program, so one is compiled of a stand-in with the same shapes, one and two layers deep and with a
small vocabulary: time and bytes grow by the same amount with every further layer and row.
"""

import dataclasses

import numpy as np
from tamale.codes import QUAD

from tamale_model import cycles, packing
from tamale_model.machine import Job, Slot
from tamale_model.model import LINEARS, Layer, Linear, Model
from tamale_model.program import Compiler
from tamale_model.readers import structure
from tamale_model.readers.graphs import shapes

__all__ = ["Fit", "Traffic", "cache_bytes", "fit", "stand_in", "token_cycles", "traffic"]

#: Rows of the vocabulary of the stand-in; a whole number of every tile.
_ROWS = 512


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a token reads, as they lie in memory, by class; and bits of a ternary weight.

    Parameters
    ----------
    weights, scales, vectors : float
        Of all layers: trits with their padding; scales with theirs; norms and biases.
    head, cache : float
        The output head; keys and values of the positions so far.
    code_bits, padding_bits, scale_bits : float
        Per trit of the layers' matrices.
    """

    weights: float
    scales: float
    vectors: float
    head: float
    cache: float
    code_bits: float
    padding_bits: float
    scale_bits: float

    @property
    def total(self):
        """Bytes of a token."""
        return self.weights + self.scales + self.vectors + self.head + self.cache

    @property
    def bits(self):
        """Bits of memory per trit of the layers' matrices."""
        return self.code_bits + self.padding_bits + self.scale_bits


def stand_in(graph, plans, matrices, norms, layers, rows):
    """Return a `Model` of the same shapes: all weights alike, ``layers`` deep, ``rows`` tokens.

    Parameters
    ----------
    graph : Graph
    plans : dict of str to structure.Plan
        By matrix; none of them float.
    matrices : dict of str to Matrix
        Of one layer: which of them have biases and norms.
    norms : dict of str to array
        Of one layer.
    """

    def linear(name, shape):
        plan, (height, k) = plans[name], shape
        scales = None
        if plan.level != structure.TENSOR:
            size = plan.group_size or k
            scales = np.broadcast_to(np.float32(1), (height, -(-k // size)))
        row = np.ones(k, np.int8)
        if plan.sparse:
            row[QUAD - 1 :: QUAD] = 0
        return Linear(
            values=np.broadcast_to(row, shape),
            planes=plan.planes,
            scale=0.5 / k,
            scales=scales,
            group_size=plan.group_size,
            bias=None if matrices[name].bias is None else np.ones(height, np.float32),
            norm=None if matrices[name].norm is None else np.ones(k, np.float32),
        )

    gains = {n: None if gain is None else np.ones_like(gain) for n, gain in norms.items()}
    layer = Layer(**{name: linear(name, shape) for name, shape in shapes(graph).items()}, **gains)
    embedding = np.ones((rows, graph.hidden), np.float32)
    small = dataclasses.replace(graph, layers=layers, vocabulary=rows)
    return Model(small, embedding, embedding, [layer] * layers, np.ones(graph.hidden, np.float32))


def cache_bytes(config, graph, positions):
    """Bytes of keys and values that a token with ``positions`` in its context reads."""
    steps = -(-graph.head_size // config.tile_k)
    record = (config.key_planes * steps + 2 * config.scale_beats) * config.beat_bytes
    block = graph.head_size // config.tile_rows * config.value_planes * config.beat_bytes
    head = -(-positions // config.tile_rows) * record + -(-positions // config.tile_k) * block
    return graph.layers * graph.kv_heads * head


def traffic(config, skeleton, plans, positions):
    """Return the `Traffic` of a token on a configuration.

    Parameters
    ----------
    config : Config
    skeleton : graphs.Skeleton
    plans : dict of str to structure.Plan
        By matrix; none of them float.
    positions : int
        In the token's context.
    """
    graph = skeleton.graph
    first = skeleton.matrices[0]
    model = stand_in(graph, plans, first, skeleton.norms[0], 1, _ROWS)
    layer = model.layers[0]
    beats = scales = trits = scale_bits = code_bits = 0
    for name in LINEARS:
        linear = getattr(layer, name)
        sparse = config.sparse is not None and plans[name].sparse
        packed = packing.describe(config, linear, sparse=sparse)
        tiles = packed.tiles * packed.groups
        beats += tiles * packed.beats
        code = config.sparse if sparse else config.trit_code
        code_bits += linear.shape[0] * linear.shape[1] * packed.planes * code.bits_per_trit
        scales += config.scale_beats_of(tiles) if packed.scaled else 0
        scale_bits += 16 * linear.scales.size if packed.scaled else 32
        trits += linear.shape[0] * linear.shape[1] * packed.planes
    vectors = sum(2 * len(gain) for gain in skeleton.norms[0].values() if gain is not None)
    for matrix in first.values():
        vectors += 4 * matrix.shape[0] if matrix.bias is not None else 0
        vectors += 2 * matrix.shape[1] if matrix.norm is not None else 0
    rows = -(-graph.vocabulary // config.tile_rows)
    head = rows * config.head_planes * -(-graph.hidden // config.tile_k)
    head += config.scale_beats_of(rows)
    code = code_bits / trits
    moved = 8 * config.beat_bytes * (beats + scales) / trits
    return Traffic(
        weights=graph.layers * beats * config.beat_bytes,
        scales=graph.layers * scales * config.beat_bytes,
        vectors=graph.layers * vectors + 2 * graph.hidden,
        head=head * config.beat_bytes,
        cache=cache_bytes(config, graph, positions),
        code_bits=code,
        scale_bits=scale_bits / trits,
        padding_bits=moved - code - scale_bits / trits,
    )


@dataclasses.dataclass(frozen=True)
class Fit:
    """Whether a configuration runs a model, and how fast.

    Parameters
    ----------
    configuration, board : str
    context : int
        Positions of a sequence.
    memory, available : int
        Bytes of image and one cache, and of the memory.
    reason : str or None
        Why it does not run, with the mend.
    cycles : float or None
        Predicted cycles of a token, at the positions asked for.
    tokens_per_second : float or None
        From these.
    bound : float
        Tokens/s if the memory did nothing but deliver the bytes of a token at its peak.
    """

    configuration: str
    board: str
    context: int
    memory: int
    available: int
    reason: str | None
    cycles: float | None
    tokens_per_second: float | None
    bound: float

    @property
    def runs(self):
        """Whether it does."""
        return self.reason is None


def _memory(config, skeleton, sweep, context):
    """Bytes of image and cache: sweep, program, texts (about), embedding, rotary table, cache."""
    graph = skeleton.graph
    beats = -(-graph.hidden // config.beat_bytes) + 1
    return (
        round(sweep)
        + 16 * config.program_commands
        + (16 * graph.vocabulary if skeleton.tokenizer else 0)
        + graph.vocabulary * beats * config.beat_bytes
        + 2 * graph.head_size * context
        + cache_bytes(config, graph, -(-context // config.tile_k) * config.tile_k)
    )


def fit(config, skeleton, plans, positions):
    """Return the `Fit` of a model to a configuration; see `traffic`."""
    graph = skeleton.graph
    context = min(graph.context, config.max_context)
    positions = min(positions, context)
    need = traffic(config, skeleton, plans, positions)
    memory = _memory(config, skeleton, need.total - need.cache, context)
    per_beat = cycles.memory_of(config).cycles_per_beat
    peak = config.beat_bytes / per_beat * config.clock_hz
    predicted, reasons = None, []
    if memory > config.memory_bytes:
        reasons.append(
            f"image and cache need {memory:,} bytes, the memory has {config.memory_bytes:,}; use a "
            "smaller model, fewer trits or a board with more memory"
        )
    try:
        arguments = graph, plans, skeleton.matrices[0], skeleton.norms[0]
        Compiler(config, stand_in(*arguments, 1, _ROWS), context)
    except ValueError as error:
        reasons.append(str(error).removeprefix(f"{graph.name}: ").removeprefix(f"{graph.name} "))
    if not reasons:
        predicted = token_cycles(config, arguments, context, positions)
    return Fit(
        configuration=config.name,
        board=config.board,
        context=context,
        memory=memory,
        available=config.memory_bytes,
        reason=". ".join(reasons) or None,
        cycles=predicted,
        tokens_per_second=predicted and config.clock_hz / predicted,
        bound=peak / need.total,
    )


def token_cycles(config, arguments, context, positions, *, sequences=1, memory=None):
    """Return the predicted cycles of a token: the stand-ins', extrapolated over layers and rows.

    Parameters
    ----------
    config : Config
    arguments : tuple
        The first four of `stand_in`.
    context : int
        Positions of a sequence.
    positions : int
        In the token's context, itself included.
    sequences : int
        Sequences of which each gets a token in the same sweep, all of this length.
    memory : cycles.Memory, optional
        That of the configuration when left out.
    """
    graph = arguments[0]
    job = Job([Slot(0, positions - 1, 0)] * sequences)

    def run(layers, rows):
        compiler = Compiler(config, stand_in(*arguments, layers, rows), context)
        program = list(compiler.compile().program)
        return cycles.predict(config, program, job, memory).cycles

    base = run(1, _ROWS)
    layer, rows = run(2, _ROWS) - base, run(1, 2 * _ROWS) - base
    return base + (graph.layers - 1) * layer + (graph.vocabulary / _ROWS - 1) * rows
