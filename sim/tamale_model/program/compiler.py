"""The whole program: prologue, layers, head."""

import dataclasses
import functools
import math

import numpy as np
from tamale import isa
from tamale.codes import limit
from tamale.isa import Op, Reduce, ScalarOp, Source

from tamale_model import packing
from tamale_model.model import ACTIVATIONS
from tamale_model.program.blocks import Blocks
from tamale_model.program.emitter import gain_bits
from tamale_model.program.layer import LayerCompiler, attention_precision
from tamale_model.program.layout import Layout
from tamale_model.program.survey import survey

__all__ = ["Compiled", "Compiler"]


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
    sparse : str
        Which matrices are packed in the configuration's sparse code: ``auto``, those that it can
        hold; ``all``; or ``none``.

    Raises
    ------
    ValueError
        If a size does not suit the configuration; the message says which value and what to change.
    """

    def __init__(self, config, model, context, *, sparse="auto"):
        self.config, self.model, self.graph, self.context = config, model, model.graph, context
        self._check_graph()
        self._require(
            sparse in ("auto", "all", "none"),
            f"sparse = {sparse!r} is unknown; use auto, all, none",
        )
        self._require(
            sparse != "all" or config.sparse is not None,
            f"configuration {config.name} has no sparse code; use one with sparse_code",
        )
        wanted = config.sparse is not None and sparse != "none"
        self.survey = survey(self.graph, model.layers, sparse=wanted)
        if sparse == "all":
            self._require(
                not self.survey.not_sparse,
                f"{next(iter(self.survey.not_sparse.values()), '')}; code {config.sparse_code} "
                "needs exactly one zero in every four weights: prune the float checkpoint with "
                "`tamale quantise --sparse`, or pack what is sparse only (--sparse auto)",
            )
        self._check_planes()
        self.layout = Layout(config, self.graph, self.survey, context)
        # Massive activations of deep models reach some 10,000 times the embedding, so 2**16 above
        # its largest element is room for them. The rest is fraction: 15 bits below the largest
        # element, where 12 were no worse in the fidelity of the demonstration models.
        pieces = packing.row_pieces(model.embedding)
        largest = max(float(np.abs(rows).max()) for _, rows in pieces) or 1.0
        self.residual_bits = 15 - math.ceil(math.log2(largest))

    def _require(self, valid, text):
        if not valid:
            raise ValueError(f"{self.graph.name}: {text}")

    def _check_graph(self):
        config, graph, require = self.config, self.graph, self._require
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
        require(
            graph.activation in ACTIVATIONS,
            f"activation {graph.activation!r} is not known; the device has "
            f"{' and '.join(ACTIVATIONS)}",
        )

    def _check_planes(self):
        config = self.config
        for name in ("key_planes", "value_planes", "head_planes"):
            self._require(getattr(config, name) <= config.max_planes, f"{name} is above max_planes")
        planes = self.survey.planes[1]
        self._require(
            planes <= config.max_planes,
            f"weights of {planes} planes need max_planes >= {planes}, it is {config.max_planes}",
        )

    def compile(self, stream=None):
        """Emit everything.

        Parameters
        ----------
        stream : callable, optional
            Called with each piece of the sweep as bytes, in order, and whether it belongs to the
            head. Without it no matrix is packed: only the program is wanted.

        Returns
        -------
        Compiled
        """
        blocks = Blocks(self.config, self.graph, self.survey, self.layout, self.residual_bits)
        bits = attention_precision(
            self.graph, self.survey, self.config.value_planes, blocks.head_block
        )
        if stream is not None:
            blocks.out = lambda data: stream(data, False)
        self._prologue(blocks, *bits)
        blocks.emit(Op.LOOP, level=0, count=self.graph.layers)
        start = len(blocks.commands)
        layers = LayerCompiler(blocks, *bits)
        for number, layer in enumerate(self.model.layers):
            body = blocks.commands[start:]
            del blocks.commands[start:]
            layers.compile(layer)
            if body and body != blocks.commands[start:]:
                # `survey` has made sure of it.
                raise AssertionError(f"the commands of layer {number} differ")
        blocks.emit(Op.NEXT, level=0)
        if stream is not None:
            blocks.out = lambda data: stream(data, True)
        self._head(blocks)
        program = blocks.commands
        if len(program) > self.config.program_commands:
            raise ValueError(
                f"{self.graph.name} needs {len(program)} commands, "
                f"the configuration has program_commands = {self.config.program_commands}"
            )
        return Compiled(
            program=tuple(program),
            scratch_elements=self.layout.scratch_elements,
            slot_stride=self.layout.slot_stride,
            act_steps=self.layout.act_steps,
            residual_bits=self.residual_bits,
        )

    def _prologue(self, blocks, attention_bits, value_bits):
        config, graph, layout, roles = self.config, self.graph, self.layout, self.survey.roles
        values = {
            "one": 1,
            "inverse_hidden": 1 / graph.hidden,
            "epsilon_residual": graph.norm_epsilon * 4.0**self.residual_bits,
            "code_limit": 127,
            "key_limit": limit(config.key_planes),
            "value_limit": limit(config.value_planes),
            "probability_limit": 16383,
            # Probabilities come as e * v >> 16 with e in 2**-15 (which cancels) and v in 2**-20.
            "head_output": 2.0 ** (attention_bits - value_bits - 4)
            / 16383
            / math.sqrt(blocks.head_block),
            "final_norm": 127 * 2.0 ** gain_bits(self.model.final_norm),
            "logit": self._head_packed.unit,
        }
        # What `o` and `down` read has BitNet's sub-norm, a norm of the matrix's own, or none.
        for name, norm, size, unit in (
            ("o", "attention_norm", graph.query_size, 4.0**attention_bits),
            ("down", "feed_forward_norm", graph.feed_forward, 1.0),
        ):
            short = norm.removesuffix("_norm")
            if norm in self.survey.norms or roles[name].norm:
                sub = norm in self.survey.norms
                epsilon = graph.norm_epsilon if sub else graph.linear_norm_epsilon
                values["inverse_query" if name == "o" else "inverse_feed_forward"] = 1 / size
                values[f"epsilon_{short}"] = epsilon * unit
        if self.survey.norms & {"query_norm", "key_norm"}:
            values |= {"inverse_head": 1 / graph.head_size, "epsilon_head": graph.norm_epsilon}
        blocks.load_scalars(values)
        row = -(-graph.hidden // config.beat_bytes)
        blocks.emit(Op.LOOP, level=1)
        blocks.emit(
            Op.LOAD, dst=layout.work, dst_slot=1, beats=row, format=isa.Format.INT8,
            source=Source.EMBEDDING,
        )  # fmt: skip
        blocks.emit(
            Op.SLOAD, rd=blocks.number("scratch"), count=1, source=Source.EMBEDDING, offset=row
        )
        blocks.vec(
            layout.work, graph.hidden, dst=layout.x, m="scratch", by_m=1,
            reduce=Reduce.ABSMAX, rd="residual_peak",
        )  # fmt: skip
        blocks.emit(
            Op.LOAD, dst=layout.rope, dst_slot=1, format=isa.Format.INT16, source=Source.ROPE,
            beats=-(-2 * graph.head_size // config.beat_bytes),
        )  # fmt: skip
        blocks.emit(Op.NEXT, level=1)

    @functools.cached_property
    def _head_packed(self):
        planes = self.config.head_planes
        largest = max(
            float(packing.row_scales(rows, planes).max())
            for _, rows in packing.row_pieces(self.model.head)
        )
        return packing.describe_shape(
            self.config, self.model.head.shape, planes, largest_scale=largest
        )

    def _head_pieces(self):
        packed = self._head_packed
        multiple = packing.rows_multiple(self.config)
        for _, rows in packing.row_pieces(self.model.head, multiple):
            values, scales = packing.quantise_rows(rows, packed.planes)
            yield packing.pack_rows(self.config, values, scales[:, None].astype(np.float64), packed)

    def _head(self, blocks):
        skip = len(blocks.commands)
        blocks.commands.append(0)
        gain = self.model.final_norm
        blocks.load_gain(self.layout.gain, gain, gain_bits(gain))
        blocks.emit(Op.LOOP, level=1)
        blocks.residual_norm(None, "final_norm", dst=self.layout.work)
        blocks.scalar(ScalarOp.MUL, "logit_unit", "sigma", "logit")
        blocks.emit(Op.NEXT, level=1)
        blocks.matvec(self._head_packed, self._head_pieces(), 0, to_candidates=1)
        blocks.commands[skip] = isa.encode(Op.SKIP_UNLESS_HEAD, target=len(blocks.commands))
        blocks.emit(Op.END)
