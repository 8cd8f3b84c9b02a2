"""Attention and feed-forward of one layer."""

import dataclasses
import math

from tamale import isa
from tamale.codes import limit
from tamale.isa import Bound, Destination, Function, Kind, Op, Reduce, ScalarOp, Source

from tamale_model import packing
from tamale_model.model import LINEARS, Linear
from tamale_model.program.emitter import HEADS, ROPE_BITS, gain_bits
from tamale_model.program.layout import one_input
from tamale_model.program.survey import product_bound

__all__ = ["LayerCompiler", "attention_precision"]


@dataclasses.dataclass
class _Product:
    """A matrix of the layer, and its result in the scratchpad.

    Parameters
    ----------
    linear : Linear
        As all layers have it.
    packed : PackedLinear
    unit : float
        Real value of a unit of the result over the scalar ``sigma``.
    sigma : str
        Scalar of the slot, or "one".
    bits : int
        Magnitudes stay below 2**bits.
    raw : float
        ``unit`` before a bias was added.
    raw_sigma : str
        ``sigma`` before a bias was added.
    """

    linear: Linear
    packed: packing.PackedLinear
    unit: float
    sigma: str
    bits: int
    raw: float
    raw_sigma: str


def attention_precision(graph, survey, value_planes, head_block):
    """Return (fraction bits of attention outputs, bits that scales of values are raised by).

    Outputs are convex combinations of values; the transform and its inverse can add the root of
    the block, the rounding of the codes less than one bit. Scales of values are then at most
    2**(29 - bits) / limit; raising brings that below 2**11, the largest that fits 32 bits in units
    of 2**-20, so that small ones keep their digits.
    """
    worst = survey.value_bound * math.sqrt(head_block)
    bits = 29 - math.ceil(math.log2(worst)) if worst else 0
    return bits, bits - 18 + int(math.log2(limit(value_planes)))


class LayerCompiler:
    """Emits the commands and the stream of a layer.

    Parameters
    ----------
    blocks : Blocks
    attention_bits, value_bits : int
        See `attention_precision`.
    """

    def __init__(self, blocks, attention_bits, value_bits):
        self.blocks, self.graph, self.config = blocks, blocks.graph, blocks.config
        self.layout, self.roles = blocks.layout, blocks.survey.roles
        self.attention_bits, self.value_bits = attention_bits, value_bits
        #: Matrices that read codes of the residual and start with a quantisation of their own.
        self.starts = {"k": True, "gate": True}
        self.starts["v"] = not one_input(self.config, self.roles, "k", "v")
        self.starts["q"] = self.starts["v"] or not one_input(self.config, self.roles, "k", "v", "q")
        self.starts["up"] = not one_input(self.config, self.roles, "gate", "up")

    def compile(self, layer):
        """Emit a layer.

        Parameters
        ----------
        layer : Layer
        """
        self.products = {
            name: self._product(name, self.roles[name].fit(getattr(layer, name)), layer)
            for name in LINEARS
        }
        self.blocks.load_scalars(self._scalars(layer))
        self._attention(layer)
        self._feed_forward(layer)

    def _product(self, name, linear, layer):
        # Rotation and transform of heads need room above the sums.
        bound = 2**24 - 1 if name in "qkv" else 2**31 - 1
        sparse = self.roles[name].sparse
        packed = packing.describe(self.config, linear, bound=bound, sparse=sparse)
        first = (name == "k" and self.starts["v"]) or (name == "gate" and self.starts["up"])
        sigma = raw_sigma = "sigma_first" if first else "sigma"
        unit, bits = packed.unit, packed.bound.bit_length()
        if linear.bias is not None and name not in ("o", "down"):
            gain = {"gate": layer.post_norm, "up": layer.post_norm}.get(name, layer.input_norm)
            if linear.norm is not None:
                gain = linear.norm
            worst = product_bound(linear, gain)
            bits = 30 - (self.blocks.log2_block + 1 if name in "qkv" else 0)
            unit = 2.0 ** (math.ceil(math.log2(worst or 1.0)) - bits)
            sigma = "one"
        return _Product(linear, packed, unit, sigma, bits, packed.unit, raw_sigma)

    @property
    def _extra(self):
        """Further fraction bits of rotated and transformed sums: as many as 32 bits allow."""
        return {
            name: max(0, min(8, 30 - self.products[name].bits - self.blocks.log2_block))
            for name in ("q", "k")
        }

    def _own_bits(self):
        """Fraction bits of the gains of the matrices' own norms."""
        gains = [p.linear.norm for p in self.products.values() if p.linear.norm is not None]
        return min((gain_bits(gain) for gain in gains), default=0)

    def _scalars(self, layer):
        """Scalars of the layer by name; the same names for all layers."""
        config, graph, products = self.config, self.graph, self.products
        block, residual = math.sqrt(self.blocks.head_block), 2.0**self.blocks.residual_bits
        # A query's or key's unit over its sigma, as the transform takes it.
        units = {name: products[name].unit * 2.0 ** -self._extra[name] for name in ("q", "k")}
        for name, gain in (("q", layer.query_norm), ("k", layer.key_norm)):
            if gain is not None:
                units[name] = 2.0 ** -gain_bits(gain)
        values = {
            "input_norm": 127 * 2.0 ** gain_bits(layer.input_norm),
            "key": units["k"] / limit(config.key_planes) / block,
            "value": products["v"].unit
            / limit(config.value_planes) / block * 2.0**self.value_bits,
            # Scores are in units of 2**-8; exp2 takes units of 2**-16.
            "query": units["q"] * 2.0**8 / 127 / block
            * math.log2(math.e) / math.sqrt(graph.head_size),
            "output": products["o"].unit * residual,
            "post_norm": 127 * 2.0 ** gain_bits(layer.post_norm),
            "gate": products["gate"].unit,
            "up": products["up"].unit,
            "down": products["down"].unit * residual,
        }  # fmt: skip
        own = self._own_bits()
        for name, gain, plain in (
            ("attention_norm", self._inner_gains(layer.attention_norm, "o")[0],
             2.0**-self.attention_bits / 127),
            ("feed_forward_norm", self._inner_gains(layer.feed_forward_norm, "down")[0], 1 / 127),
        ):  # fmt: skip
            values[name] = plain if gain is None else 127 * 2.0 ** gain_bits(gain)
        if layer.key_norm is not None:
            values["key_unit"] = products["k"].unit
        if layer.query_norm is not None:
            values["query_unit"] = products["q"].unit
        for name, product in products.items():
            if product.sigma == "one":
                values[f"{name}_bias"] = product.raw / product.unit
        if any(role.norm for role in self.roles.values()):
            values["own_norm"] = 127 * 2.0**own
            epsilon = graph.linear_norm_epsilon
            for name, gain in (
                ("own_input", layer.input_norm), ("own_post", layer.post_norm),
                ("own_attention", layer.attention_norm),
                ("own_feed_forward", layer.feed_forward_norm),
            ):  # fmt: skip
                if gain is not None:
                    values[name] = epsilon * 4.0 ** gain_bits(gain)
        return values

    def _inner_gains(self, sub_norm, name):
        """(gain, second gain) of what ``o`` or ``down`` reads; None where there is no norm."""
        own = self.products[name].linear.norm
        return (sub_norm, own) if sub_norm is not None else (own, None)

    # Matrices ---------------------------------------------------------------------------------

    def _matvec(self, name, dst):
        product = self.products[name]
        self.blocks.matvec(
            product.packed, packing.pack(self.config, product.linear, product.packed), dst
        )
        if product.sigma == "one":
            bits = -round(math.log2(product.unit))
            self.blocks.load_bias(self.layout.bias, product.linear.bias, bits)
            self.blocks.add_bias(dst, product.linear.shape[0], f"{name}_bias", product.raw_sigma)

    def _load_own_gain(self, name):
        gain = self.products[name].linear.norm
        if gain is not None:
            self.blocks.load_gain(self.layout.own_gain, gain, self._own_bits())

    def _read_residual(self, name, unit, own_epsilon, before=None):
        """Codes of the residual for a matrix and those that follow it.

        ``before`` emits what every slot does first.
        """
        self._load_own_gain(name)
        self.blocks.emit(Op.LOOP, level=1)
        if before:
            before()
        self.blocks.residual_norm(
            name, unit, dst=self.layout.normed, sigma=self.products[name].raw_sigma,
            own_epsilon=own_epsilon if self.roles[name].norm else None,
        )  # fmt: skip
        self.blocks.emit(Op.NEXT, level=1)

    def _load_inner(self, sub_norm, name):
        """Gains of what ``o`` or ``down`` reads."""
        first, second = self._inner_gains(sub_norm, name)
        if first is not None:
            self.blocks.load_gain(self.layout.gain, first, gain_bits(first))
        if second is not None:
            self.blocks.load_gain(self.layout.own_gain, second, self._own_bits())

    def _load_residual_bias(self, name):
        bias = self.products[name].linear.bias
        if bias is not None:
            self.blocks.load_bias(self.layout.bias, bias, self.blocks.residual_bits)
        return bias is not None

    # Attention --------------------------------------------------------------------------------

    def _attention(self, layer):
        graph, blocks, layout = self.graph, self.blocks, self.layout
        blocks.load_gain(layout.gain, layer.input_norm, gain_bits(layer.input_norm))
        # Keys and values first: their cache is written while the queries' weights stream.
        for name, dst in (("k", layout.k), ("v", layout.v)):
            if self.starts[name]:
                self._read_residual(name, "input_norm", "own_input")
            self._matvec(name, dst)
        if layer.key_norm is not None:
            blocks.load_gain(layout.head_gain, layer.key_norm, gain_bits(layer.key_norm))
        blocks.emit(Op.LOOP, level=1)
        if layer.key_norm is None:
            blocks.rotate(layout.k, graph.kv_size, ROPE_BITS - self._extra["k"])
        else:
            blocks.head_epsilon(self.products["k"].sigma, "key_unit")
        for head in range(graph.kv_heads):
            self._cache(head, layer.key_norm is not None)
        blocks.emit(Op.NEXT, level=1)
        if self.starts["q"]:
            self._read_residual("q", "input_norm", "own_input")
        self._matvec("q", layout.q)
        if layer.query_norm is not None:
            blocks.load_gain(layout.head_gain, layer.query_norm, gain_bits(layer.query_norm))
        self._load_inner(layer.attention_norm, "o")
        blocks.emit(Op.LOOP, level=1)
        if layer.query_norm is None:
            blocks.rotate(layout.q, graph.query_size, ROPE_BITS - self._extra["q"])
        else:
            blocks.head_epsilon(self.products["q"].sigma, "query_unit")
        group = graph.heads // graph.kv_heads
        for kv_head in range(graph.kv_heads):
            for first in range(0, group, self.config.vectors):
                count = min(self.config.vectors, group - first)
                self._attend(kv_head, kv_head * group + first, count, layer.query_norm is not None)
        blocks.hadamard(layout.attention, graph.query_size, rd="total")
        gain, second = self._inner_gains(layer.attention_norm, "o")
        if gain is not None:
            blocks.norm(
                layout.attention, graph.query_size, "o", peak="total", inverse="inverse_query",
                epsilon="epsilon_attention", unit="attention_norm", dst=layout.work,
                own_epsilon=None if second is None else "own_attention",
            )  # fmt: skip
        else:
            stride = blocks.stride("o", graph.query_size)
            blocks.quantise(layout.attention, graph.query_size, peak="total", stride=stride)
            blocks.scalar(ScalarOp.MUL, "sigma", "total", "attention_norm")
        blocks.emit(Op.NEXT, level=1)
        self._matvec("o", layout.work)
        blocks.load_gain(layout.gain, layer.post_norm, gain_bits(layer.post_norm))
        bias = self._load_residual_bias("o")
        self._read_residual(
            "gate", "post_norm", "own_post", lambda: blocks.residual_add("output", bias=bias)
        )

    def _cache(self, head, normed):
        """Transform, quantise and store the slot's key and value of one head."""
        config, blocks, size = self.config, self.blocks, self.graph.head_size
        key, value = self.layout.k + head * size, self.layout.v + head * size
        if normed:
            blocks.head_norm(key)
            blocks.rotate(key, size, ROPE_BITS)
        for a, top, planes, unit, scale, sigma in (
            (key, "key_limit", config.key_planes, "key", "key_scale",
             "head_sigma" if normed else self.products["k"].sigma),
            (value, "value_limit", config.value_planes, "value", "value_scale",
             self.products["v"].sigma),
        ):  # fmt: skip
            blocks.hadamard(a, size)
            blocks.scalar(ScalarOp.DIV, "ratio", top, "peak")
            blocks.vec(a, size, dst=a, m="ratio", by_m=1, planes=planes)
            blocks.scalar(ScalarOp.MUL, scale, "peak", sigma)
            blocks.scalar(ScalarOp.MUL, scale, scale, unit)
        beats = size // config.tile_rows * config.value_planes
        blocks.emit(
            Op.LOAD, dst=self.layout.block, beats=beats, format=isa.Format.INT32,
            source=Source.VALUE_BLOCK, head=head, fence=1,
        )  # fmt: skip
        common = {
            "a_slot": 1, "head": head, "size": size,
            "scale": blocks.number("key_scale"), "aux": blocks.number("value_scale"),
        }  # fmt: skip
        blocks.emit(Op.KVWRITE, kind=Kind.KEY, a=key, planes=config.key_planes, **common)
        blocks.emit(
            Op.KVWRITE, kind=Kind.VALUE, a=value, planes=config.value_planes, b=self.layout.block,
            **common,
        )  # fmt: skip

    def _attend(self, kv_head, head, count, normed):
        """Attention of ``count`` query heads from ``head`` on, which share a KV head."""
        config, blocks, layout = self.config, self.blocks, self.layout
        size = self.graph.head_size
        position = {"bound": Bound.POSITION}
        sigma = "head_sigma" if normed else self.products["q"].sigma
        for i in range(count):
            a = layout.q + (head + i) * size
            if normed:
                blocks.head_norm(a)
                blocks.rotate(a, size, ROPE_BITS)
            blocks.hadamard(a, size)
            blocks.quantise(a, size, vector=i, vector_slot=0, step=layout.act_query)
            blocks.scalar(ScalarOp.MUL, HEADS + i, "peak", sigma)
            blocks.scalar(ScalarOp.MUL, HEADS + i, HEADS + i, "query")
        blocks.emit(
            Op.MATVEC, dst=layout.scores, vector_stride=layout.score_stride, act=layout.act_query,
            groups=1, planes=config.key_planes, steps=-(-size // config.tile_k), vectors=count,
            scaled=1, aux=1, source=Source.KEYS, head=kv_head, fence=1,
        )  # fmt: skip
        scales = ("shared", layout.scores + count * layout.score_stride)
        together = max(1, config.vectors // 2)
        for first in range(0, count, together):
            members = range(first, min(first + together, count))
            for i in members:
                scores = ("shared", layout.scores + i * layout.score_stride)
                blocks.vec(scores, 0, m="one", by_m=1, reduce=Reduce.MAX, **position)
                blocks.emit(
                    Op.EXP, dst=scores[1], a=scores[1], m=HEADS + i, rd=blocks.number("total"),
                    **position,
                )  # fmt: skip
                blocks.vec(
                    scales, 0, b=scores, dst=scores, by_vector=1, shift=16,
                    reduce=Reduce.ABSMAX, rd="weight_peak", **position,
                )  # fmt: skip
                blocks.scalar(ScalarOp.DIV, "ratio", "probability_limit", "weight_peak")
                blocks.scalar(ScalarOp.DIV, HEADS + i, "weight_peak", "total")
                blocks.scalar(ScalarOp.MUL, HEADS + i, HEADS + i, "head_output")
                if config.vectors > 1:
                    for half, destination in enumerate((Destination.HIGH, Destination.LOW)):
                        self._probability(scores, destination, 2 * (i - first) + half)
            outputs, stride = layout.outputs, layout.output_stride
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
        self.blocks.vec(
            scores, 0, m="ratio", by_m=1, dst=("shared", self.layout.act_probability),
            destination=destination, vector=vector, bound=Bound.POSITION,
        )  # fmt: skip

    def _values(self, kv_head, dst, stride, vectors):
        config, size = self.config, self.graph.head_size
        self.blocks.emit(
            Op.MATVEC, dst=dst, vector_stride=stride, act=self.layout.act_probability,
            tiles=size // config.tile_rows, groups=1, planes=config.value_planes, steps=1,
            vectors=vectors, source=Source.VALUES, head=kv_head, fence=1,
        )  # fmt: skip

    def _head_output(self, a, i, head, bits, *, add):
        """Add a half of a head's output, 2**bits, to the slot's attention vector."""
        target = self.layout.attention + (head + i) * self.graph.head_size
        self.blocks.vec(
            ("shared", a), self.graph.head_size, m=HEADS + i, by_m=1, shift=-bits,
            b=target, dst=target, add=add,
        )  # fmt: skip

    # Feed-forward -----------------------------------------------------------------------------

    def _feed_forward(self, layer):
        n, blocks, layout = self.graph.feed_forward, self.blocks, self.layout
        self._matvec("gate", layout.gate)
        if self.starts["up"]:
            self._read_residual("up", "post_norm", "own_post")
        self._matvec("up", layout.up)
        self._load_inner(layer.feed_forward_norm, "down")
        blocks.emit(Op.LOOP, level=1)
        # `unit` becomes the real value of a unit of gate, in `scratch` that of up.
        blocks.scalar(ScalarOp.MUL, "unit", self.products["gate"].sigma, "gate")
        activate = self._relu2 if self.graph.activation == "relu2" else self._silu
        lost = activate(n)
        narrow = max(0, self.products["up"].bits - 17)
        blocks.scalar(ScalarOp.MUL, "scratch", self.products["up"].sigma, "up")
        blocks.scalar(ScalarOp.MUL, "unit", "unit", "scratch")
        blocks.scalar(ScalarOp.SCALE, "unit", "unit", imm=lost + narrow)
        blocks.scalar(ScalarOp.SHIFT, "unit", "unit", "peak", 2)
        blocks.vec(
            layout.gate, n, b=layout.up, dst=layout.gate, x="peak", by_vector=1, b_shift=narrow,
            shift=2, by_x=1, reduce=Reduce.ABSMAX, rd="total",
        )  # fmt: skip
        gain, second = self._inner_gains(layer.feed_forward_norm, "down")
        if gain is not None:
            blocks.scalar(ScalarOp.MUL, "unit", "unit", "unit")
            blocks.scalar(ScalarOp.DIV, "unit", "epsilon_feed_forward", "unit")
            blocks.norm(
                layout.gate, n, "down", peak="total", inverse="inverse_feed_forward",
                epsilon="unit", unit="feed_forward_norm", dst=layout.gate,
                own_epsilon=None if second is None else "own_feed_forward",
            )  # fmt: skip
        else:
            blocks.quantise(layout.gate, n, peak="total", stride=blocks.stride("down", n))
            blocks.scalar(ScalarOp.MUL, "sigma", "total", "unit")
            blocks.scalar(ScalarOp.MUL, "sigma", "sigma", "feed_forward_norm")
        blocks.emit(Op.NEXT, level=1)
        self._matvec("down", layout.work)
        bias = self._load_residual_bias("down")
        blocks.emit(Op.LOOP, level=1)
        blocks.residual_add("down", bias=bias)
        blocks.emit(Op.NEXT, level=1)

    def _relu2(self, n):
        """Gate becomes relu(gate)**2, `unit` its square; return the bits that were shifted out.

        Narrow operands lose only what the bounds demand.
        """
        blocks, gate, bits = self.blocks, self.layout.gate, self.products["gate"].bits
        narrow = max(0, bits - 17)
        square = max(0, 2 * bits - narrow - 31)
        blocks.vec(
            gate, n, b=gate, dst=gate, by_vector=1, relu=1, b_shift=narrow, shift=square,
            reduce=Reduce.ABSMAX, rd="peak",
        )  # fmt: skip
        blocks.scalar(ScalarOp.MUL, "unit", "unit", "unit")
        return narrow + square

    def _silu(self, n):
        """Gate becomes gate * sigmoid(gate); return the bits that were shifted out."""
        blocks, gate, bits = self.blocks, self.layout.gate, self.products["gate"].bits
        sigmoid = ("shared", self.layout.sigmoid)
        blocks.emit(
            Op.EXP, function=Function.SIGMOID, a=gate, a_slot=1, dst=sigmoid[1], n=n,
            m=blocks.number("unit"), shift=-16, rd=blocks.number("root"),
        )  # fmt: skip
        shift = max(0, bits + 15 - 31)
        blocks.vec(
            gate, n, b=sigmoid, dst=gate, by_vector=1, shift=shift, reduce=Reduce.ABSMAX, rd="peak"
        )
        return shift - 15
