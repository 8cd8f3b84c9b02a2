"""Reader of GGUF files: metadata to graph, tensor names to matrices.

Sources: llama.cpp ``src/llama-arch.cpp`` (names), ``src/models/{bitnet,llama,qwen2,qwen3}.cpp``
(graphs), ``conversion/llama.py`` (order of rows); bitnet.cpp ``3rdparty/llama.cpp``
(``build_bitnet_158``).
"""

import dataclasses

import numpy as np

from tamale_model.model import LINEARS, Graph

from . import blocks, rope, vocabulary
from .arrays import Rows, check_finite, to_float32
from .errors import CheckpointError, positive
from .gguf_file import GgufFile
from .graphs import Skeleton, check_graph, shapes
from .matrices import BlockMatrix, FloatMatrix, I2sMatrix

__all__ = ["read", "read_tokenizer"]

#: architecture: (activation, sub-norms, norms of heads, rows of q and k interleaved).
#: llama.cpp's bitnet graph computes SiLU; bitnet.cpp's of b1.58 files squared ReLU.
_ARCHITECTURES = {
    "bitnet": ("silu", True, False, False),
    "bitnet-b1.58": ("relu2", True, False, False),
    "bitnet-25": ("relu2", True, False, False),
    "llama": ("silu", False, False, True),
    "qwen2": ("silu", False, False, False),
    "qwen3": ("silu", False, True, False),
}
_LINEARS = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
#: Tensors that files carry for other engines: scales that I2_S has in its tail, rotary factors.
_USELESS = ("_scale", ".scale", "attn_rot_embd.weight", "rope_freqs.weight")
#: Keys that change the graph, with the values that do not.
_NEUTRAL = {
    "expert_count": (0,),
    "attn_logit_softcapping": (0.0,),
    "final_logit_softcapping": (0.0,),
    "router_logit_softcapping": (0.0,),
    "logit_scale": (0.0, 1.0),
    "residual_scale": (0.0, 1.0),
    "embedding_scale": (0.0, 1.0),
    "attention.scale": (0.0,),
    "attention.output_scale": (0.0, 1.0),
    "attention.clamp_kqv": (0.0,),
    "attention.max_alibi_bias": (0.0,),
    "attention.causal": (True,),
    "full_attention_interval": (0, 1),
    "ssm.state_size": (0,),
}


class _Metadata:
    """The entries of an architecture, by kind."""

    def __init__(self, file):
        self.path, self.entries = file.path, file.metadata
        self.architecture = self.text("general.architecture")
        if self.architecture not in _ARCHITECTURES:
            raise CheckpointError(
                f"{file.path}: architecture {self.architecture!r} is not supported; "
                "this reader takes " + ", ".join(map(repr, _ARCHITECTURES))
            )

    def _fail(self, key, value):
        return CheckpointError(
            f"{self.path}: {key} is {str(value)[:60]!r}, of the wrong kind; the file is damaged"
        )

    def text(self, key, default=None):
        value = self.entries.get(key, default)
        if not isinstance(value, str):
            if value is None:
                raise CheckpointError(f"{self.path}: no {key}; the file holds no model")
            raise self._fail(key, value)
        return value

    def get(self, key, kinds, default=None, *, required=False):
        """A number of the architecture; ``kinds`` are Python's types."""
        full = f"{self.architecture}.{key}"
        value = self.entries.get(full)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            # Some files say a size once for each layer.
            value = value[0].item()
        if value is None:
            if required:
                raise CheckpointError(
                    f"{self.path}: no {full}; the file holds a vocabulary only, or is damaged"
                )
            return default
        if isinstance(value, bool) and bool not in kinds or not isinstance(value, kinds):
            raise self._fail(full, value)
        return value

    def count(self, key, default=None, *, required=False):
        return self.get(key, (int,), default, required=required)

    def real(self, key, default=None, *, required=False):
        value = self.get(key, (int, float), default, required=required)
        if value is not None and not np.isfinite(value):
            raise self._fail(f"{self.architecture}.{key}", value)
        return value

    def check(self, context):
        """Refuse what the graph has and this project has not, by name."""
        for key, neutral in _NEUTRAL.items():
            value = self.get(key, (int, float, bool))
            if value is not None and value not in neutral:
                raise CheckpointError(
                    f"{self.path}: {self.architecture}.{key} = {value} is not supported; the "
                    "device runs dense decoders of the bitnet, llama, qwen2 and qwen3 graphs "
                    "without it"
                )
        window = self.count("attention.sliding_window")
        if window and window < context:
            raise CheckpointError(
                f"{self.path}: a sliding window of {window} positions in a context of {context} is "
                "not supported; use a model with full attention"
            )
        for key in self.entries:
            if "hadamard" in key.lower() or ".rotat" in key.lower():
                raise CheckpointError(
                    f"{self.path}: {key} says that the weights are rotated, which is not "
                    "supported; use the file of the same model without rotation"
                )


class _File:
    """The tensors of a file as matrices and vectors of the graph."""

    def __init__(self, file):
        self.file = file
        self.codings = {}
        self.asked = set()

    def __contains__(self, name):
        return name in self.file.tensors

    def info(self, name, shape=None):
        info = self.file.tensors.get(name)
        self.asked.add(name)
        if info is None:
            raise CheckpointError(
                f"tensor {name!r} is missing; the file is of another kind, or one of several "
                "(merge them with gguf-split --merge)"
            )
        if shape is not None and info.shape != tuple(shape):
            raise CheckpointError(
                f"{self.file.path}: tensor {name!r} has shape {list(info.shape)}, "
                f"its metadata asks for {list(shape)}; the file is damaged"
            )
        return info

    def rows(self, info):
        """Return (function from rows to float32, whether they can be exactly ternary, view)."""
        kind, columns = info.kind, info.shape[-1]
        if kind in blocks.PLAIN:
            dtype = blocks.PLAIN[kind]
            view = self.file.rows_of(info, 1, dtype.itemsize).view(dtype)
            return lambda index: np.asarray(view[index]).astype(np.float32), True, view
        if kind in blocks.TERNARY:
            form = self.coding(kind)
            weights, size = form.weights, form.bytes
        elif kind in blocks.FLOAT_BLOCKS:
            form = kind
            weights, size = blocks.FLOAT_BLOCKS[kind]
        elif kind == blocks.I2_S:
            return self._i2_s_rows(info), True, None
        else:
            raise self.refusal(info)
        raw = self.file.rows_of(info, weights, size)
        return lambda index: blocks.dequantise(form, raw[index], columns), False, None

    def _i2_s_rows(self, info):
        rows, columns = info.shape
        raw = self._i2_s(info)

        def read(index):
            try:
                values, scale = blocks.read_i2_s(raw, rows, columns)
            except ValueError as error:
                raise CheckpointError(f"{info.name} has {error}; the file is damaged") from None
            if not np.isfinite(scale):
                raise CheckpointError(f"{info.name}: its scale is {scale}; the file is damaged")
            return values[index].astype(np.float32) * np.float32(scale)

        return read

    def _i2_s(self, info):
        if info.shape[-1] % 128:
            raise CheckpointError(
                f"tensor {info.name!r}: rows of {info.shape[-1]} do not divide into I2_S blocks of "
                "128; the file is damaged"
            )
        return self.file.bytes_of(info, info.elements // 4 + blocks.I2_S_TAIL)

    def coding(self, kind):
        if kind not in self.codings:
            self.codings[kind] = self.file.coding_of(kind)
        return self.codings[kind]

    def refusal(self, info):
        """The error for a tensor whose type is not taken."""
        what = blocks.type_name(info.kind)
        mend = blocks.REFUSED.get(info.kind, ("", "use the TQ2_0, I2_S, Q8_0 or F16 file of the "
                                              "same model"))[1]  # fmt: skip
        return CheckpointError(
            f"{self.file.path}: tensor {info.name!r} is of type {what}, which is not supported: "
            f"{mend}"
        )

    def vector(self, name, size):
        info = self.info(name, (size,))
        if info.kind not in blocks.PLAIN:
            raise CheckpointError(
                f"{self.file.path}: tensor {name!r} is a vector of type "
                f"{blocks.type_name(info.kind)}, not of floats; the file is damaged"
            )
        dtype = blocks.PLAIN[info.kind]
        return to_float32(name, self.file.bytes_of(info, size * dtype.itemsize).view(dtype))

    def matrix(self, name, shape, heads):
        """The form in which the file has a matrix; ``heads`` are those whose halves it mixes."""
        info = self.info(name + ".weight", shape)
        order = _half_split(heads, shape[0] // heads) if heads else None
        common = {"order": order}
        if name + ".bias" in self:
            bias = self.vector(name + ".bias", shape[0])
            common["bias"] = bias if order is None else bias[order]
        for scale in (name + ".scale", name + ".weight_scale"):
            if scale in self and info.kind != blocks.I2_S:
                common["factor"] = positive(scale, self.vector(scale, 1)[0])
        if info.kind in blocks.TERNARY:
            coding = self.coding(info.kind)
            raw = self.file.rows_of(info, coding.weights, coding.bytes)
            check_finite(info.name, coding.scales(raw.reshape(shape[0], -1, coding.bytes)))
            return BlockMatrix(info.name, shape, raw, coding, **common)
        if info.kind == blocks.I2_S:
            return I2sMatrix(info.name, shape, self._i2_s(info), **common)
        rows, exact, view = self.rows(info)
        if order is not None:
            view = None
        return FloatMatrix(
            info.name,
            shape,
            rows,
            exact=exact,
            view=view,
            stored=blocks.type_name(info.kind),
            **common,
        )

    def embedding(self, name, shape):
        """An embedding or head: mapped, or decoded row by row."""
        info = self.info(name, shape)
        rows, _, view = self.rows(info)
        if view is not None:
            check_finite(name, view)
            return view
        if info.kind == blocks.I2_S:
            return rows(slice(None))
        result = Rows(name, shape, rows)
        result.check()
        return result


def _half_split(heads, size):
    """File row of each model row, where the file has the halves of a head interleaved."""
    rows = np.arange(heads * size).reshape(heads, size // 2, 2)
    return rows.transpose(0, 2, 1).reshape(-1)


def _frequencies(meta, file, graph):
    """Return (frequencies or None, factor of cosines and sines)."""
    theta, size = graph.rope_theta, graph.head_size
    stretch = None
    # Only llama's graph looks at them; some bitnet files carry other numbers under the name.
    if meta.architecture == "llama" and "rope_freqs.weight" in file:
        stretch = file.vector("rope_freqs.weight", size // 2).astype(np.float64)
        if not (stretch > 0).all():
            raise CheckpointError("rope_freqs.weight has values of 0 or less; the file is damaged")
    kind = meta.text(f"{meta.architecture}.rope.scaling.type", "linear")
    factor = meta.real("rope.scaling.factor") or meta.real("rope.scale_linear") or 1.0
    if factor <= 0:
        raise CheckpointError(f"{meta.path}: rope.scaling.factor is {factor}; the file is damaged")
    if kind in ("none", "linear"):
        factor = factor if kind == "linear" else 1.0
        if stretch is None and factor == 1:
            return None, 1.0
        return rope.linear(theta, size, factor) / (1.0 if stretch is None else stretch), 1.0
    if kind != "yarn" or stretch is not None or meta.real("rope.scaling.yarn_log_multiplier", 0):
        raise CheckpointError(
            f"{meta.path}: rope scaling {kind!r} is not supported; "
            "this reader takes 'none', 'linear', 'yarn' and the factors of rope_freqs.weight"
        )
    original = meta.count("rope.scaling.original_context_length", graph.context)
    if original < 1 or theta <= 1:
        raise CheckpointError(f"{meta.path}: rope scaling over {original} positions; damaged file")
    frequencies, attention = rope.yarn(
        theta, size, factor, original,
        fast=meta.real("rope.scaling.yarn_beta_fast", 32.0),
        slow=meta.real("rope.scaling.yarn_beta_slow", 1.0),
    )  # fmt: skip
    attention *= meta.real("rope.scaling.attn_factor", 1.0)
    if not 0 < attention < np.inf:
        raise CheckpointError(f"{meta.path}: rope.scaling.attn_factor makes {attention}; damaged")
    return frequencies, attention


def _graph(meta, file, name):
    activation, _, _, _ = _ARCHITECTURES[meta.architecture]
    hidden = meta.count("embedding_length", required=True)
    heads = meta.count("attention.head_count", required=True)
    embedding = file.info("token_embd.weight")
    tokens = {}
    for key in ("bos", "eos", "eot", "eom"):
        value = meta.entries.get(f"tokenizer.ggml.{key}_token_id")
        if value is not None and type(value) is not int:
            raise CheckpointError(f"{meta.path}: tokenizer.ggml.{key}_token_id is {value!r}")
        # Some converters write -1 for none.
        if value is not None and 0 <= value < 0xFFFFFFFF:
            tokens[key] = value
    bos = tokens.pop("bos", None)
    if meta.entries.get("tokenizer.ggml.add_bos_token") is False:
        bos = None
    context = meta.count("context_length", required=True)
    if heads < 1 or hidden < 1:
        raise CheckpointError(f"{meta.path}: {heads} heads of {hidden}; the file is damaged")
    graph = Graph(
        name=name,
        hidden=hidden,
        layers=meta.count("block_count", required=True),
        heads=heads,
        kv_heads=meta.count("attention.head_count_kv", heads),
        head_size=meta.count("attention.key_length", hidden // heads),
        feed_forward=meta.count("feed_forward_length", required=True),
        vocabulary=embedding.shape[0],
        context=context,
        rope_theta=float(meta.real("rope.freq_base", 10000.0)),
        norm_epsilon=float(meta.real("attention.layer_norm_rms_epsilon", required=True)),
        activation=activation,
        tied="output.weight" not in file,
        bos=bos,
        eos=tuple(dict.fromkeys(tokens.values())),
    )
    check_graph(graph, meta.path)
    meta.check(context)
    for key, value in (
        ("attention.value_length", graph.head_size),
        ("rope.dimension_count", graph.head_size),
    ):
        given = meta.count(key, value)
        if given != value:
            raise CheckpointError(
                f"{meta.path}: {meta.architecture}.{key} is {given} where a head has {value} "
                "elements, which is not supported; use a model whose heads are rotated whole"
            )
    frequencies, attention = _frequencies(meta, file, graph)
    if frequencies is not None:
        graph = dataclasses.replace(graph, rope_frequencies=tuple(map(float, frequencies)))
    return graph, attention


def _tokenizer(container):
    try:
        return vocabulary.tokenizer_json(container.metadata), []
    except vocabulary.Inexpressible as error:
        return None, [f"no tokenizer: {error}; give prompts as token numbers"]


def read_tokenizer(path):
    """Return (text of a tokenizer.json or None, notes why there is none)."""
    return _tokenizer(GgufFile(path))


def read(path):
    """Return the `Skeleton` of a GGUF file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    CheckpointError
        For anything missing, truncated, of another shape, type or architecture.
    """
    container = GgufFile(path)
    meta, file = _Metadata(container), _File(container)
    graph, attention = _graph(meta, file, path.stem)
    _, sub_norms, head_norms, interleaved = _ARCHITECTURES[meta.architecture]
    if attention != 1 and not head_norms:
        raise CheckpointError(
            f"{path}: rope scaling 'yarn' is not supported in a graph without query and key norms; "
            "use a file without rope scaling"
        )
    heads = {"q": graph.heads, "k": graph.kv_heads} if interleaved else {}
    sizes = shapes(graph)
    matrices, norms = [], []
    for i in range(graph.layers):
        prefix = f"blk.{i}."
        if prefix + "ffn_gate_inp.weight" in file or prefix + "ffn_up_exps.weight" in file:
            raise CheckpointError(
                f"{path}: a mixture of experts is not supported; use a dense model"
            )
        if prefix + "attn_qkv.weight" in file:
            raise CheckpointError(
                f"{path}: fused attn_qkv tensors are not supported; convert the model again with "
                "separate attn_q, attn_k and attn_v"
            )
        matrices.append(
            {
                name: file.matrix(prefix + _LINEARS[name], sizes[name], heads.get(name))
                for name in LINEARS
            }
        )
        norms.append(
            {
                "input_norm": file.vector(prefix + "attn_norm.weight", graph.hidden),
                "post_norm": file.vector(prefix + "ffn_norm.weight", graph.hidden),
                "attention_norm": None,
                "feed_forward_norm": None,
            }
        )
        if sub_norms:
            norms[-1] |= {
                "attention_norm": file.vector(prefix + "attn_sub_norm.weight", graph.query_size),
                "feed_forward_norm": file.vector(
                    prefix + "ffn_sub_norm.weight", graph.feed_forward
                ),
            }
        if head_norms:
            for field, name in (("query_norm", "attn_q_norm"), ("key_norm", "attn_k_norm")):
                key = f"{prefix}{name}.weight"
                gain = file.vector(key, graph.head_size)
                norms[-1][field] = rope.scale_gain(key, gain, attention)
    left = sorted(
        name
        for name in container.tensors
        if name.startswith("blk.") and name not in file.asked and not name.endswith(_USELESS)
    )
    if left:
        raise CheckpointError(
            f"{path}: tensor {left[0]!r} is not part of a {graph.layers}-layer graph of "
            f"architecture {meta.architecture!r}, so the file is of another kind"
        )
    tokens = container.metadata.get("tokenizer.ggml.tokens")
    if isinstance(tokens, list) and len(tokens) > graph.vocabulary:
        raise CheckpointError(
            f"{path}: {len(tokens)} tokens for an embedding of {graph.vocabulary} rows; "
            "the file is damaged"
        )
    tokenizer, notes = _tokenizer(container)
    shape = (graph.vocabulary, graph.hidden)
    embedding = file.embedding("token_embd.weight", shape)
    return Skeleton(
        graph=graph,
        matrices=matrices,
        norms=norms,
        embedding=embedding,
        head=embedding if graph.tied else file.embedding("output.weight", shape),
        final_norm=file.vector("output_norm.weight", graph.hidden),
        tokenizer=tokenizer,
        notes=notes,
    )
