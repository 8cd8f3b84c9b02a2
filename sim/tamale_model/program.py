"""Compiles a model's graph to the accelerator's program, and says what the sweep holds, in order.

The order of the stream is the order of the commands: `Compiler` emits both side by side, so that
they cannot disagree. The arithmetic is that of docs/developer/arithmetic.md; every fixed-point
position is derived here from sizes and scales.

Scratchpad of a slot: residual, rotary factors, then a work area that keys, values, queries,
attention output and feed-forward vectors share. Scratchpad for all slots: norm gain, old value
block, scores with the value scales behind them, head outputs.
"""

import dataclasses
import functools
import math

import numpy as np
from tamale import isa
from tamale.codes import limit
from tamale.isa import Bound, Destination, Kind, Op, Reduce, ScalarOp, Source

from tamale_model import packing
from tamale_model.model import Linear

__all__ = ["Compiled", "Compiler", "LOGIT_SCALAR"]

# Scalars shared by all slots. The first ones are loaded once per job, the layer's once per layer.
_CONSTANTS = (
    "one",
    "inverse_hidden",
    "inverse_query",
    "inverse_feed_forward",
    "epsilon",
    "epsilon_residual",
    "epsilon_attention",
    "code_limit",
    "key_limit",
    "value_limit",
    "probability_limit",
    "head_output",
    "final_norm",
    "logit",
)
_PER_LAYER = (
    "input_norm",
    "key",
    "value",
    "query",
    "attention_norm",
    "output",
    "post_norm",
    "gate",
    "up",
    "feed_forward_norm",
    "down",
)
# Scalars of a slot.
_PRIVATE = (
    "residual_peak",
    "sigma",
    "peak",
    "ratio",
    "square",
    "root",
    "key_scale",
    "value_scale",
    "unit",
    "scratch",
    "weight_peak",
    "total",
    "logit_unit",
)
_NAMES = {name: i for i, name in enumerate(_CONSTANTS + _PER_LAYER)}
_NAMES |= {name: isa.SHARED_SCALARS + i for i, name in enumerate(_PRIVATE)}
#: First of the registers that hold one scalar per query head of a sweep over keys.
_HEADS = 48
#: Register of the slot that holds the real value of one logit unit after a job.
LOGIT_SCALAR = _NAMES["logit_unit"]
if len(_CONSTANTS + _PER_LAYER) > isa.SHARED_SCALARS or len(_PRIVATE) > _HEADS - isa.SHARED_SCALARS:
    raise AssertionError("scalar registers overlap")

#: Fraction bits of the rotary factors.
ROPE_BITS = 14


def _up(value, multiple):
    return -(-value // multiple) * multiple


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Program and layout of a model for a configuration.

    Parameters
    ----------
    program : tuple of int
        128-bit commands.
    scratch_elements, slot_stride, act_steps : int
        What the program needs.
    residual_bits : int
        Fraction bits of the residual.
    """

    program: tuple[int, ...]
    scratch_elements: int
    slot_stride: int
    act_steps: int
    residual_bits: int


class Compiler:
    """Emits commands and stream of a model.

    Parameters
    ----------
    config : Config
    model : Model
    context : int
        Positions of a sequence.

    Raises
    ------
    ValueError
        If a size does not suit the configuration; the message says which value and what to change.
    """

    def __init__(self, config, model, context):
        graph = model.graph
        self.config, self.model, self.graph, self.context = config, model, graph, context
        self.commands = []
        self._check()
        self.align = max(config.vu_width, config.tile_rows)
        self.head_block = graph.head_size & -graph.head_size
        # Massive activations of deep models reach some 10,000 times the embedding, so 2**16 above
        # its largest element is room for them. The rest is fraction: 15 bits below the largest
        # element, where 12 were no worse in the fidelity of the demonstration models.
        largest = float(np.abs(model.embedding).max()) or 1.0
        self.residual_bits = 15 - math.ceil(math.log2(largest))
        self._layout()

    def _check(self):
        config, graph = self.config, self.graph

        def require(valid, text):
            if not valid:
                raise ValueError(f"{graph.name}: {text}")

        width = max(2 * config.vu_width, config.tile_rows)
        require(
            graph.head_size % width == 0,
            f"head size {graph.head_size} must be a multiple of {width} (2 * vu_width, tile_rows); "
            "use a configuration with a narrower vector unit",
        )
        require(graph.head_size < 1024, f"head size {graph.head_size} is above 1023")
        longest = max(graph.hidden, graph.feed_forward, graph.query_size)
        require(
            longest <= config.max_k,
            f"rows of {longest} weights are longer than max_k = {config.max_k}",
        )
        require(
            1 <= self.context <= config.max_context,
            f"context {self.context} is outside 1 to max_context = {config.max_context}",
        )
        require(graph.heads % graph.kv_heads == 0, "query heads must share KV heads evenly")
        require(graph.activation == "relu2", f"activation {graph.activation!r} is not known")
        for name in ("key_planes", "value_planes", "head_planes"):
            require(getattr(config, name) <= config.max_planes, f"{name} is above max_planes")
        for layer in self.model.layers:
            for names in ("qkv", ("gate", "up")):
                strides = {name: self._group_stride(getattr(layer, name)) for name in names}
                require(
                    len(set(strides.values())) == 1,
                    f"{', '.join(strides)} read the same activations, but their groups of weights "
                    f"({', '.join(str(getattr(layer, name).group_size) for name in names)}) place "
                    "them differently; give them one group size",
                )
        planes = max(lin.planes for layer in self.model.layers for lin in _linears(layer))
        require(
            planes <= config.max_planes,
            f"weights of {planes} planes need max_planes >= {planes}, it is {config.max_planes}",
        )

    def _layout(self):
        """Place vectors in scratchpad and activation memory."""
        config, graph, align = self.config, self.graph, self.align
        hidden, query, kv = graph.hidden, graph.query_size, graph.kv_size
        at = 0
        self.x = at
        at += _up(hidden, align)
        self.rope = at
        at += _up(graph.head_size, max(align, config.beat_bytes // 2))
        self.work = at
        self.k = self.work
        self.v = self.k + _up(kv, align)
        self.q = self.v + _up(kv, align)
        self.attention = self.q + _up(query, align)
        self.gate = self.work
        self.up = self.gate + _up(graph.feed_forward, align)
        embedding_row = _up(hidden, max(align, config.beat_bytes))
        end = max(
            self.attention + _up(query, align),
            self.up + _up(graph.feed_forward, align),
            self.work + embedding_row,
        )
        self.slot_stride = _up(end, align)
        at = self.slot_stride * config.vectors
        self.gain = at
        longest = max(hidden, query, graph.feed_forward)
        at += _up(longest, max(align, config.beat_bytes // 2))
        self.block = at
        at += _up(
            graph.head_size // config.tile_rows * config.value_planes * (config.beat_bytes // 4),
            align,
        )
        self.scores = at
        self.score_stride = _up(self.context, align)
        at += (config.vectors + 1) * self.score_stride
        self.outputs = at
        at += config.vectors * _up(graph.head_size, align)
        self.scratch_elements = at
        if at > config.scratchpad_elements:
            raise ValueError(
                f"{graph.name} needs {at} scratchpad elements at context {self.context} with "
                f"{config.vectors} vectors, the configuration has {config.scratchpad_elements}; "
                "raise scratchpad_elements, or lower context or vectors"
            )
        steps = [-(-size // config.tile_k) for size in (longest, graph.head_size, self.context)]
        # Groups that do not fill their last K step make a row longer.
        for linear in (lin for layer in self.model.layers for lin in _linears(layer)):
            group = -(-(linear.group_size or linear.shape[1]) // config.tile_k)
            steps[0] = max(steps[0], linear.groups * group)
        self.act_query = steps[0]
        self.act_probability = steps[0] + steps[1]
        self.act_steps = sum(steps)
        if self.act_steps > config.act_steps:
            raise ValueError(
                f"{graph.name} needs {self.act_steps} K steps of activation memory, "
                f"the configuration has {config.act_steps}; raise max_k or max_context"
            )

    # Compiling --------------------------------------------------------------------------------

    def compile(self, stream):
        """Emit everything.

        Parameters
        ----------
        stream : callable
            Called with each piece of the sweep as bytes, in order, and whether it belongs to the
            head.

        Returns
        -------
        Compiled
        """
        self._out = lambda data: stream(data, False)
        self._prologue()
        self._emit(Op.LOOP, level=0, count=self.graph.layers)
        start = len(self.commands)
        for layer in self.model.layers:
            body = self.commands[start:]
            del self.commands[start:]
            self._layer(layer)
            if body and body != self.commands[start:]:
                raise ValueError(
                    f"{self.graph.name}: layers differ in planes or groups of weights; one "
                    "program runs all layers, so give them the same"
                )
        self._emit(Op.NEXT, level=0)
        self._out = lambda data: stream(data, True)
        self._head()
        if len(self.commands) > self.config.program_commands:
            raise ValueError(
                f"{self.graph.name} needs {len(self.commands)} commands, "
                f"the configuration has program_commands = {self.config.program_commands}"
            )
        return Compiled(
            program=tuple(self.commands),
            scratch_elements=self.scratch_elements,
            slot_stride=self.slot_stride,
            act_steps=self.act_steps,
            residual_bits=self.residual_bits,
        )

    def _emit(self, op, **fields):
        self.commands.append(isa.encode(op, **fields))

    def _scalar(self, operation, rd, a, b=0, imm=0):
        def number(name):
            return name if isinstance(name, int) else _NAMES[name]

        self._emit(Op.SCALAR, operation=operation, rd=number(rd), a=number(a), b=number(b), imm=imm)

    def _vec(self, a, n, *, dst=None, b=None, m=None, x=None, rd=None, **fields):
        """VEC with operands of the slot; ``dst`` and ``b`` may be ("shared", address) pairs."""
        names = {"m": m, "x": x, "rd": rd}
        fields |= {
            key: name if isinstance(name, int) else _NAMES[name]
            for key, name in names.items()
            if name is not None
        }
        for key, place in (("a", a), ("b", b), ("dst", dst)):
            if place is not None:
                shared = isinstance(place, tuple)
                fields[key] = place[1] if shared else place
                fields[key + "_slot"] = not shared
        fields.setdefault("destination", Destination.NONE if dst is None else Destination.SCRATCH)
        self._emit(Op.VEC, n=n, **fields)

    def _load_scalars(self, names, values):
        self._emit(Op.SLOAD, rd=_NAMES[names[0]], count=len(names), source=Source.LINEAR)
        self._out(packing.pack_scalars(self.config, [values[name] for name in names]))

    def _load_gain(self, gain):
        """Stream a norm's gain to the shared buffer; return its fraction bits."""
        peak = float(np.abs(gain).max()) or 1.0
        bits = 14 - math.ceil(math.log2(peak))
        data = packing.pack_beats(self.config, np.rint(np.ldexp(gain, bits)), "<i2")
        self._emit(
            Op.LOAD,
            dst=self.gain,
            beats=len(data) // self.config.beat_bytes,
            format=isa.Format.INT16,
            source=Source.LINEAR,
        )
        self._out(data)

    @staticmethod
    def _gain_unit(gain):
        peak = float(np.abs(gain).max()) or 1.0
        return 127 * 2.0 ** (14 - math.ceil(math.log2(peak)))

    def _matvec(self, linear, packed, dst, **fields):
        self._emit(
            Op.MATVEC,
            dst=dst,
            tiles=packed.tiles,
            groups=packed.groups,
            planes=packed.planes,
            steps=packed.steps,
            scaled=packed.scaled,
            vectors_slot=1,
            source=Source.LINEAR,
            **fields,
        )
        self._out(packing.pack(self.config, linear, packed))

    def _prologue(self):
        config, graph = self.config, self.graph
        block = math.sqrt(self.head_block)
        self.attention_bits = self._attention_bits()
        # Scales of values are at most 2**(29 - attention_bits) / limit; this many bits bring that
        # below 2**11, the largest that fits 32 bits in units of 2**-20, so that small ones keep
        # their digits.
        self.value_bits = self.attention_bits - 18 + int(math.log2(limit(config.value_planes)))
        head = self._head_linear
        values = {
            "one": 1,
            "inverse_hidden": 1 / graph.hidden,
            "inverse_query": 1 / graph.query_size,
            "inverse_feed_forward": 1 / graph.feed_forward,
            "epsilon": graph.norm_epsilon,
            "epsilon_residual": graph.norm_epsilon * 4.0**self.residual_bits,
            "epsilon_attention": graph.norm_epsilon * 4.0**self.attention_bits,
            "code_limit": 127,
            "key_limit": limit(config.key_planes),
            "value_limit": limit(config.value_planes),
            "probability_limit": 16383,
            # Probabilities come as e * v >> 16 with e in 2**-15 (which cancels) and v in 2**-20.
            "head_output": 2.0 ** (self.attention_bits - self.value_bits - 4) / 16383 / block,
            "final_norm": self._gain_unit(self.model.final_norm),
            "logit": head[1].unit,
        }
        self._load_scalars(_CONSTANTS, values)
        row = -(-graph.hidden // config.beat_bytes)
        self._emit(Op.LOOP, level=1)
        self._emit(
            Op.LOAD, dst=self.work, dst_slot=1, beats=row, format=isa.Format.INT8,
            source=Source.EMBEDDING,
        )  # fmt: skip
        self._emit(Op.SLOAD, rd=_NAMES["scratch"], count=1, source=Source.EMBEDDING, offset=row)
        self._vec(
            self.work, graph.hidden, dst=self.x, m="scratch", by_m=1,
            reduce=Reduce.ABSMAX, rd="residual_peak",
        )  # fmt: skip
        self._emit(
            Op.LOAD, dst=self.rope, dst_slot=1, format=isa.Format.INT16, source=Source.ROPE,
            beats=-(-2 * graph.head_size // config.beat_bytes),
        )  # fmt: skip
        self._emit(Op.NEXT, level=1)

    def _attention_bits(self):
        """Fraction bits of attention outputs, so that none can overflow 32 bits.

        A value element is a row of W_v times a normalised vector y with |y|_2 <= sqrt(hidden) *
        largest gain, hence |y|_1 <= hidden * largest gain. The inverse Hadamard transform adds the
        root of its block, the rounding of the codes less than one bit.
        """
        worst = 0.0
        for layer in self.model.layers:
            packed = packing.describe(self.config, layer.v)
            result = packed.bound / 127 * packed.unit  # per unit of activation
            gain = float(np.abs(layer.input_norm).max())
            worst = max(worst, result * gain)
        worst *= math.sqrt(self.head_block)
        return 29 - math.ceil(math.log2(worst)) if worst else 0

    def _group_stride(self, linear):
        """Elements between groups in activation memory if groups leave gaps, otherwise 0."""
        size = linear.group_size
        return size if linear.groups > 1 and size % self.config.tile_k else 0

    def _norm(self, a, n, *, peak, inverse, epsilon, unit, dst, linear):
        """RMSNorm with the gain in the shared buffer, then int8 codes to activation step 0.

        ``linear`` is a matrix that reads the codes: every group of it starts at a K step.
        ``peak`` holds the absmax of the vector. Root mean square and codes are independent of each
        other; sigma becomes the real value of a code: absmax(x g) / (rms(x) 127).
        """
        self._vec(
            a, n, b=a, x=peak, by_vector=1, b_shift=-1, b_by_x=1, shift=2, by_x=1,
            reduce=Reduce.SUM, rd="square",
        )  # fmt: skip
        self._vec(
            a, n, b=("shared", self.gain), dst=dst, x=peak, by_vector=1, by_x=1,
            reduce=Reduce.ABSMAX, rd="peak",
        )  # fmt: skip
        self._quantise(dst, n, group=self._group_stride(linear))
        self._scalar(ScalarOp.SHIFT, "square", "square", peak, 2)
        self._scalar(ScalarOp.SHIFT, "square", "square", peak, -1)
        self._scalar(ScalarOp.MUL, "square", "square", inverse)
        self._scalar(ScalarOp.ADD, "square", "square", epsilon)
        self._scalar(ScalarOp.SQRT, "root", "square")
        self._scalar(ScalarOp.MUL, "root", "root", unit)
        self._scalar(ScalarOp.SHIFT, "sigma", "peak", peak, 0)
        self._scalar(ScalarOp.DIV, "sigma", "sigma", "root")

    def _quantise(self, a, n, *, vector=0, vector_slot=1, step=0, group=0):
        """int8 codes of the vector at ``a`` whose absmax is in ``peak``.

        ``group``: elements after which the codes go on at the next K step; 0: never.
        """
        self._scalar(ScalarOp.DIV, "ratio", "code_limit", "peak")
        group = group or n
        for first in range(0, n, group):
            self._vec(
                a + first, min(group, n - first), m="ratio", by_m=1, dst=("shared", step),
                destination=Destination.ACTIVATION, vector=vector, vector_slot=vector_slot,
            )  # fmt: skip
            step += -(-group // self.config.tile_k)

    def _layer(self, layer):
        config, graph = self.config, self.graph
        packed = {
            name: packing.describe(config, getattr(layer, name), bound=2**24 - 1)
            for name in ("q", "k", "v")
        }
        packed |= {
            name: packing.describe(config, getattr(layer, name))
            for name in ("o", "gate", "up", "down")
        }
        # Rotated and transformed sums keep as many further fraction bits as 32 bits allow.
        growth = 1 + int(math.log2(self.head_block))
        extra = {
            name: max(0, min(8, 31 - packed[name].bound.bit_length() - growth))
            for name in ("q", "k")
        }
        block = math.sqrt(self.head_block)
        values = {
            "input_norm": self._gain_unit(layer.input_norm),
            "key": packed["k"].unit * 2.0 ** -extra["k"] / limit(config.key_planes) / block,
            "value": packed["v"].unit / limit(config.value_planes) / block * 2.0**self.value_bits,
            # Scores are in units of 2**-8; exp2 takes units of 2**-16.
            "query": packed["q"].unit * 2.0 ** (8 - extra["q"]) / 127 / block
            * math.log2(math.e) / math.sqrt(graph.head_size),
            "attention_norm": self._gain_unit(layer.attention_norm),
            "output": packed["o"].unit * 2.0**self.residual_bits,
            "post_norm": self._gain_unit(layer.post_norm),
            "gate": packed["gate"].unit,
            "up": packed["up"].unit,
            "feed_forward_norm": self._gain_unit(layer.feed_forward_norm),
            "down": packed["down"].unit * 2.0**self.residual_bits,
        }  # fmt: skip
        self._load_scalars(_PER_LAYER, values)
        self._attention(layer, packed, extra)
        self._feed_forward(layer, packed)

    def _residual_norm(self, unit, linear):
        self._norm(
            self.x, self.graph.hidden, peak="residual_peak", inverse="inverse_hidden",
            epsilon="epsilon_residual", unit=unit, dst=self.work, linear=linear,
        )  # fmt: skip

    def _attention(self, layer, packed, extra):
        graph = self.graph
        self._load_gain(layer.input_norm)
        self._emit(Op.LOOP, level=1)
        self._residual_norm("input_norm", layer.q)
        self._emit(Op.NEXT, level=1)
        # Keys and values first: their cache is written while the queries' weights stream.
        self._matvec(layer.k, packed["k"], self.k)
        self._matvec(layer.v, packed["v"], self.v)
        self._emit(Op.LOOP, level=1)
        self._rotate(self.k, graph.kv_size, extra["k"])
        for head in range(graph.kv_heads):
            self._cache(head)
        self._emit(Op.NEXT, level=1)
        self._matvec(layer.q, packed["q"], self.q)
        self._load_gain(layer.attention_norm)
        self._emit(Op.LOOP, level=1)
        self._rotate(self.q, graph.query_size, extra["q"])
        group = graph.heads // graph.kv_heads
        for kv_head in range(graph.kv_heads):
            for first in range(0, group, self.config.vectors):
                count = min(self.config.vectors, group - first)
                self._attend(kv_head, kv_head * group + first, count)
        self._emit(
            Op.HADAMARD, a=self.attention, a_slot=1, n=graph.query_size,
            log2_block=int(math.log2(self.head_block)), rd=_NAMES["total"],
        )  # fmt: skip
        self._norm(
            self.attention, graph.query_size, peak="total", inverse="inverse_query",
            epsilon="epsilon_attention", unit="attention_norm", dst=self.work, linear=layer.o,
        )  # fmt: skip
        self._emit(Op.NEXT, level=1)
        self._matvec(layer.o, packed["o"], self.work)
        self._load_gain(layer.post_norm)
        self._emit(Op.LOOP, level=1)
        self._residual_add("output")
        self._residual_norm("post_norm", layer.gate)
        self._emit(Op.NEXT, level=1)

    def _residual_add(self, unit):
        self._scalar(ScalarOp.MUL, "scratch", "sigma", unit)
        self._vec(
            self.work, self.graph.hidden, m="scratch", by_m=1, b=self.x, add=1, dst=self.x,
            reduce=Reduce.ABSMAX, rd="residual_peak",
        )  # fmt: skip

    def _rotate(self, a, n, extra):
        self._emit(
            Op.ROPE, a=a, a_slot=1, b=self.rope, b_slot=1, n=n, size=self.graph.head_size,
            shift=ROPE_BITS - extra,
        )  # fmt: skip

    def _hadamard(self, a):
        self._emit(
            Op.HADAMARD, a=a, a_slot=1, n=self.graph.head_size,
            log2_block=int(math.log2(self.head_block)), rd=_NAMES["peak"],
        )  # fmt: skip

    def _cache(self, head):
        """Transform, quantise and store the slot's key and value of one head."""
        config, size = self.config, self.graph.head_size
        for a, top, planes, unit, scale in (
            (self.k, "key_limit", config.key_planes, "key", "key_scale"),
            (self.v, "value_limit", config.value_planes, "value", "value_scale"),
        ):
            a += head * size
            self._hadamard(a)
            self._scalar(ScalarOp.DIV, "ratio", top, "peak")
            self._vec(a, size, dst=a, m="ratio", by_m=1, planes=planes)
            self._scalar(ScalarOp.MUL, scale, "peak", "sigma")
            self._scalar(ScalarOp.MUL, scale, scale, unit)
        beats = size // config.tile_rows * config.value_planes
        self._emit(
            Op.LOAD, dst=self.block, beats=beats, format=isa.Format.INT32,
            source=Source.VALUE_BLOCK, head=head, fence=1,
        )  # fmt: skip
        common = {
            "a_slot": 1, "head": head, "size": size,
            "scale": _NAMES["key_scale"], "aux": _NAMES["value_scale"],
        }  # fmt: skip
        self._emit(
            Op.KVWRITE, kind=Kind.KEY, a=self.k + head * size, planes=config.key_planes, **common
        )
        self._emit(
            Op.KVWRITE, kind=Kind.VALUE, a=self.v + head * size, planes=config.value_planes,
            b=self.block, **common,
        )  # fmt: skip

    def _attend(self, kv_head, head, count):
        """Attention of ``count`` query heads from ``head`` on, which share a KV head."""
        config, size = self.config, self.graph.head_size
        position = {"bound": Bound.POSITION}
        for i in range(count):
            a = self.q + (head + i) * size
            self._hadamard(a)
            self._quantise(a, size, vector=i, vector_slot=0, step=self.act_query)
            self._scalar(ScalarOp.MUL, _HEADS + i, "peak", "sigma")
            self._scalar(ScalarOp.MUL, _HEADS + i, _HEADS + i, "query")
        self._emit(
            Op.MATVEC, dst=self.scores, vector_stride=self.score_stride, act=self.act_query,
            groups=1, planes=config.key_planes, steps=-(-size // config.tile_k), vectors=count,
            scaled=1, aux=1, source=Source.KEYS, head=kv_head, fence=1,
        )  # fmt: skip
        scales = ("shared", self.scores + count * self.score_stride)
        together = max(1, config.vectors // 2)
        for first in range(0, count, together):
            members = range(first, min(first + together, count))
            for i in members:
                scores = ("shared", self.scores + i * self.score_stride)
                self._vec(scores, 0, m="one", by_m=1, reduce=Reduce.MAX, **position)
                self._emit(
                    Op.EXP, dst=scores[1], a=scores[1], m=_HEADS + i, rd=_NAMES["total"], **position
                )
                self._vec(
                    scales, 0, b=scores, dst=scores, by_vector=1, shift=16,
                    reduce=Reduce.ABSMAX, rd="weight_peak", **position,
                )  # fmt: skip
                self._scalar(ScalarOp.DIV, "ratio", "probability_limit", "weight_peak")
                self._scalar(ScalarOp.DIV, _HEADS + i, "weight_peak", "total")
                self._scalar(ScalarOp.MUL, _HEADS + i, _HEADS + i, "head_output")
                if config.vectors > 1:
                    for half, destination in enumerate((Destination.HIGH, Destination.LOW)):
                        self._probability(scores, destination, 2 * (i - first) + half)
            outputs = self.outputs
            stride = _up(size, self.align)
            if config.vectors > 1:
                self._values(kv_head, outputs, stride, 2 * len(members))
                for i in members:
                    high = outputs + 2 * (i - first) * stride
                    self._head_output(high, i, head, 7, add=False)
                    self._head_output(high + stride, i, head, 0, add=True)
            else:
                for destination, bits in ((Destination.HIGH, 7), (Destination.LOW, 0)):
                    self._probability(scores, destination, 0)
                    self._values(kv_head, outputs, stride, 1)
                    self._head_output(outputs, first, head, bits, add=not bits)

    def _probability(self, scores, destination, vector):
        self._vec(
            scores, 0, m="ratio", by_m=1, dst=("shared", self.act_probability),
            destination=destination, vector=vector, bound=Bound.POSITION,
        )  # fmt: skip

    def _values(self, kv_head, dst, stride, vectors):
        config, size = self.config, self.graph.head_size
        self._emit(
            Op.MATVEC, dst=dst, vector_stride=stride, act=self.act_probability,
            tiles=size // config.tile_rows, groups=1, planes=config.value_planes, steps=1,
            vectors=vectors, source=Source.VALUES, head=kv_head, fence=1,
        )  # fmt: skip

    def _head_output(self, a, i, head, bits, *, add):
        """Add a half of a head's output, 2**bits, to the slot's attention vector."""
        target = self.attention + (head + i) * self.graph.head_size
        self._vec(
            ("shared", a), self.graph.head_size, m=_HEADS + i, by_m=1, shift=-bits,
            b=target, dst=target, add=add,
        )  # fmt: skip

    def _feed_forward(self, layer, packed):
        n = self.graph.feed_forward
        self._matvec(layer.gate, packed["gate"], self.gate)
        self._matvec(layer.up, packed["up"], self.up)
        self._load_gain(layer.feed_forward_norm)
        self._emit(Op.LOOP, level=1)
        # relu(gate)**2 * up: narrow operands lose only what the bounds demand; the unit of the
        # product matters for the norm's epsilon alone.
        gate_bits, up_bits = (packed[name].bound.bit_length() for name in ("gate", "up"))
        narrow_gate, narrow_up = max(0, gate_bits - 17), max(0, up_bits - 17)
        square = max(0, 2 * gate_bits - narrow_gate - 31)
        self._vec(
            self.gate, n, b=self.gate, dst=self.gate, by_vector=1, relu=1, b_shift=narrow_gate,
            shift=square, reduce=Reduce.ABSMAX, rd="peak",
        )  # fmt: skip
        self._scalar(ScalarOp.MUL, "unit", "sigma", "gate")
        self._scalar(ScalarOp.MUL, "unit", "unit", "unit")
        self._scalar(ScalarOp.MUL, "scratch", "sigma", "up")
        self._scalar(ScalarOp.MUL, "unit", "unit", "scratch")
        self._scalar(ScalarOp.SCALE, "unit", "unit", imm=narrow_gate + square + narrow_up)
        self._scalar(ScalarOp.SHIFT, "unit", "unit", "peak", 2)
        self._vec(
            self.gate, n, b=self.up, dst=self.gate, x="peak", by_vector=1, b_shift=narrow_up,
            shift=2, by_x=1, reduce=Reduce.ABSMAX, rd="total",
        )  # fmt: skip
        self._scalar(ScalarOp.MUL, "unit", "unit", "unit")
        self._scalar(ScalarOp.DIV, "unit", "epsilon", "unit")
        self._norm(
            self.gate, n, peak="total", inverse="inverse_feed_forward", epsilon="unit",
            unit="feed_forward_norm", dst=self.gate, linear=layer.down,
        )  # fmt: skip
        self._emit(Op.NEXT, level=1)
        self._matvec(layer.down, packed["down"], self.work)
        self._emit(Op.LOOP, level=1)
        self._residual_add("down")
        self._emit(Op.NEXT, level=1)

    @functools.cached_property
    def _head_linear(self):
        values, scales = packing.quantise_rows(self.model.head, self.config.head_planes)
        linear = Linear(values, self.config.head_planes, 1.0, scales[:, None])
        return linear, packing.describe(self.config, linear)

    def _head(self):
        skip = len(self.commands)
        self.commands.append(0)
        self._load_gain(self.model.final_norm)
        self._emit(Op.LOOP, level=1)
        self._residual_norm("final_norm", self._head_linear[0])
        self._scalar(ScalarOp.MUL, "logit_unit", "sigma", "logit")
        self._emit(Op.NEXT, level=1)
        self._matvec(*self._head_linear, 0, to_candidates=1)
        self.commands[skip] = isa.encode(Op.SKIP_UNLESS_HEAD, target=len(self.commands))
        self._emit(Op.END)


def _linears(layer):
    return (layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down)
