"""Reader of Hugging Face folders: config.json and safetensors, of every form that is supported.

Sources: transformers ``integrations/bitnet.py``, ``models/{bitnet,llama,mistral,qwen2,qwen3}``,
``modeling_rope_utils.py``; the modeling files of 1bitLLM/bitnet_b1_58; mlx ``quantize``.
"""

import dataclasses
import re

import numpy as np

from tamale_model.model import LINEARS, Graph

from . import rope, sentencepiece, vocabulary
from .arrays import Rows, check_finite, to_float32
from .errors import CheckpointError, parse_json, positive
from .graphs import Skeleton, check_graph, shapes
from .matrices import FloatMatrix, MasterMatrix, MlxMatrix, PackedMatrix, TritMatrix
from .safetensors import open_folder

__all__ = ["read", "read_tokenizer"]

#: model_type: (activation by default, rope_theta by default), as transformers has them.
_TYPES = {
    "bitnet": ("relu2", 500000.0),
    "llama": ("silu", 10000.0),
    "mistral": ("silu", 10000.0),
    "qwen2": ("silu", 10000.0),
    "qwen3": ("silu", 10000.0),
}
_ACTIVATIONS = {"relu2": "relu2", "silu": "silu", "swish": "silu"}
#: Entries of config.json that change the graph; any value but these asks for another machine.
_NEUTRAL = {
    "attn_logit_softcapping": (None, 0),
    "final_logit_softcapping": (None, 0),
    "logits_soft_cap": (None, 0),
    "num_experts": (None, 0, 1),
    "num_local_experts": (None, 0, 1),
    "n_routed_experts": (None, 0),
    "partial_rotary_factor": (None, 1, 1.0),
    "logit_scale": (None, 1, 1.0),
    "embedding_multiplier": (None, 1, 1.0),
    "residual_multiplier": (None, 1, 1.0),
    "attention_multiplier": (None,),
    "logits_scaling": (None, 1, 1.0),
    "is_encoder_decoder": (None, False),
}
#: Tensors that old exports carry and no graph uses.
_USELESS = ("rotary_emb.inv_freq", "attn.masked_bias")
_LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


def _is_float(array):
    """Whether an array holds floats; bfloat16 is of a kind of its own."""
    return array.dtype.kind in "fV"


def _config(folder):
    path = folder / "config.json"
    try:
        config = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no config.json; pass the folder of a Hugging Face checkpoint"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); the file is damaged") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds no JSON object; the file is of another kind")
    return config


def _object(config, key):
    """A member that is an object, {} if it is missing or null."""
    value = config.get(key)
    if value is not None and not isinstance(value, dict):
        raise CheckpointError(
            f"config.json has a value of the wrong kind ({key} = {value!r}); the file is damaged"
        )
    return value or {}


def _rope(config, head_size, theta, context):
    """Return (frequencies or None, factor of cosines and sines)."""
    old, new = _object(config, "rope_scaling"), _object(config, "rope_parameters")
    scaling = {**new, **old}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return None, 1.0
    if kind not in ("linear", "llama3", "yarn"):
        raise CheckpointError(
            f"rope scaling {kind!r} is not supported; "
            "this reader takes 'default', 'linear', 'llama3' and 'yarn'"
        )
    original = float(
        scaling.get("original_max_position_embeddings")
        or config.get("original_max_position_embeddings")
        or context
    )
    factor = scaling.get("factor")
    factor = context / original if factor is None and kind == "yarn" else float(scaling["factor"])
    if not (factor > 0 and original > 0 and np.isfinite([factor, original]).all()):
        raise ValueError(f"rope scaling by {factor} of {original} positions")
    if kind == "linear":
        return rope.linear(theta, head_size, factor), 1.0
    if kind == "llama3":
        low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
        return rope.llama3(theta, head_size, factor, low, high, original), 1.0
    if scaling.get("mscale") or scaling.get("mscale_all_dim") or scaling.get("truncate") is False:
        raise CheckpointError(
            "rope scaling 'yarn' with mscale, mscale_all_dim or truncate is not supported; "
            "use a checkpoint without rope scaling"
        )
    attention = scaling.get("attention_factor")
    return rope.yarn(
        theta, head_size, factor, original,
        fast=float(scaling.get("beta_fast") or 32), slow=float(scaling.get("beta_slow") or 1),
        attention=None if attention is None else float(attention),
    )  # fmt: skip


def _check_config(config, context):
    """Refuse what the graph has and this project has not, by name."""
    for key, neutral in _NEUTRAL.items():
        if config.get(key) not in neutral:
            raise CheckpointError(
                f"{key} = {config[key]!r} is not supported; the device runs dense decoders of the "
                "bitnet, llama, qwen2 and qwen3 graphs without it"
            )
    window = config.get("sliding_window")
    used = config.get("use_sliding_window", config.get("model_type") == "mistral")
    if used and window is not None and int(window) < context:
        raise CheckpointError(
            f"a sliding window of {window} positions in a context of {context} is not supported; "
            f"set max_position_embeddings to {window} in config.json to run the model up to there"
        )
    quantisation = _object(config, "quantization_config")
    method = quantisation.get("quant_method", "bitnet")
    if method != "bitnet" and "bits" not in _object(config, "quantization"):
        raise CheckpointError(
            f"quant_method {method!r} is not supported; use the float checkpoint of the same model "
            "or its GGUF file"
        )


def _graph(config, name):
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise CheckpointError(
            f"model_type {kind!r} is not supported; this reader takes "
            + ", ".join(map(repr, _TYPES))
        )
    activation, theta = _TYPES[kind]
    given = config.get("hidden_act") or activation
    if not isinstance(given, str) or given not in _ACTIVATIONS:
        raise CheckpointError(
            f"hidden_act {given!r} is not supported; the device has 'relu2' and 'silu'"
        )
    eos = config.get("eos_token_id")
    eos = eos if isinstance(eos, list) else [] if eos is None else [eos]
    quantisation = _object(config, "quantization_config")
    try:
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        context = int(config["max_position_embeddings"])
        theta = config.get("rope_theta") or _object(config, "rope_parameters").get(
            "rope_theta", theta
        )
        bos = config.get("bos_token_id")
        graph = Graph(
            name=name,
            hidden=hidden,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            feed_forward=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            context=context,
            rope_theta=float(theta),
            norm_epsilon=float(config.get("rms_norm_eps", 1e-5 if kind == "bitnet" else 1e-6)),
            activation=_ACTIVATIONS[given],
            tied=bool(config.get("tie_word_embeddings", False)),
            bos=None if bos is None else int(bos),
            eos=tuple(int(token) for token in eos),
            linear_norm_epsilon=float(quantisation.get("rms_norm_eps") or 1e-6),
        )
        check_graph(graph, "config.json")
        _check_config(config, context)
        frequencies, attention = _rope(config, graph.head_size, graph.rope_theta, context)
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(
            f"config.json has no {error.args[0]!r}; copy the whole file of the checkpoint"
        ) from None
    except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
        raise CheckpointError(
            f"config.json has a value of the wrong kind ({error}); the file is damaged"
        ) from None
    if frequencies is not None:
        graph = dataclasses.replace(graph, rope_frequencies=tuple(map(float, frequencies)))
    return graph, attention


class _Folder:
    """The tensors of a folder as matrices and vectors of the graph."""

    def __init__(self, folder, config, tensors):
        self.config, self.tensors = config, tensors
        self.quantisation = _object(config, "quantization_config")
        self.kind = config.get("model_type")
        #: BitNet as 1bitLLM publishes it calls itself a llama.
        self.sub_norms = {
            "attention_norm": "self_attn.attn_sub_norm",
            "feed_forward_norm": "mlp.ffn_sub_norm",
        }
        if "model.layers.0.self_attn.inner_attn_ln.weight" in tensors:
            self.sub_norms = {
                "attention_norm": "self_attn.inner_attn_ln",
                "feed_forward_norm": "mlp.ffn_layernorm",
            }
            self.bitnet = True
        elif self.kind == "bitnet":
            self.bitnet = True
        else:
            self.sub_norms, self.bitnet = {}, False
        linear_class = self.quantisation.get("linear_class", "bitlinear")
        if linear_class not in ("bitlinear", "autobitlinear"):
            raise CheckpointError(
                f"linear_class {linear_class!r} is unknown; use bitlinear or autobitlinear"
            )
        self.multiply = linear_class == "autobitlinear"
        self.own_norms = bool(self.quantisation.get("use_rms_norm"))
        kept = self.quantisation.get("modules_to_not_convert") or []
        if not isinstance(kept, list):
            raise CheckpointError(
                f"modules_to_not_convert is {kept!r}, not a list; the file is damaged"
            )
        self.kept = kept
        #: Whether float weights are master weights, to be quantised as in training.
        self.master = self.bitnet or self.quantisation.get("quant_method") == "bitnet"

    def vector(self, name, size):
        tensor = self.tensors.get(name, (size,))
        if not _is_float(tensor):
            raise CheckpointError(f"tensor {name!r} is of type {tensor.dtype}, not of floats")
        return to_float32(name, tensor)

    def scale(self, name):
        """The scale of a BitLinear's trits, by what the file says of ``weight_scale``."""
        tensor = self.tensors.get(name + ".weight_scale").reshape(-1)
        if tensor.size != 1 or not _is_float(tensor):
            raise CheckpointError(
                f"{name}.weight_scale holds {tensor.size} values of type {tensor.dtype}, not one "
                "float; export the checkpoint with one scale for each matrix"
            )
        scale = positive(name + ".weight_scale", tensor.astype(np.float32)[0])
        return scale if self.multiply else 1 / scale

    def bias(self, name, rows):
        if name + ".bias" not in self.tensors:
            return None
        if self.kind == "bitnet" and not ("attn" in name and self.config.get("attention_bias")):
            raise CheckpointError(f"{name} has a bias, which the BitNet graph does not")
        return self.vector(name + ".bias", rows)

    def matrix(self, name, rows, k):
        """The form in which the file has a matrix."""
        weight = self.tensors.get(name + ".weight")
        common = {"bias": self.bias(name, rows)}
        if self.own_norms:
            common["norm"] = self.vector(name + ".rms_norm.weight", k)
        shape = (rows, k)
        if weight.dtype == np.uint8:
            if weight.shape != (rows // 4, k) or rows % 4:
                raise CheckpointError(
                    f"packed {name}.weight has shape {list(weight.shape)}, "
                    f"the config asks for [{rows}/4, {k}]"
                )
            return PackedMatrix(name, shape, weight, self.scale(name), **common)
        if weight.dtype == np.uint32:
            return self.mlx(name, shape, **common)
        self.tensors.get(name + ".weight", shape)
        if not _is_float(weight):
            raise CheckpointError(
                f"tensor '{name}.weight' is of type {weight.dtype}; weights are packed (uint8) or "
                "floats, so use another form of the same checkpoint"
            )
        if name + ".weight_scale" in self.tensors:
            return TritMatrix(name, shape, weight, self.scale(name), **common)
        if self.master and not any(isinstance(part, str) and part in name for part in self.kept):
            return MasterMatrix(name, shape, weight, **common)

        def read(index):
            return np.asarray(weight[index]).astype(np.float32)

        return FloatMatrix(name, shape, read, view=weight, stored=str(weight.dtype), **common)

    def mlx(self, name, shape, **common):
        """A matrix in MLX's affine codes."""
        bits = _object(self.config, "quantization").get("bits")
        if bits != 2:
            raise CheckpointError(
                f"{name} has MLX codes of {bits!r} bits; 2 bits can be ternary, so use the float16 "
                "checkpoint of the same model"
            )
        rows, k = shape
        packed = self.tensors.get(name + ".weight", (rows, k // 16))
        scales, biases = (self.tensors.get(name + part) for part in (".scales", ".biases"))
        valid = scales.ndim == 2 and scales.shape == biases.shape and scales.shape[0] == rows
        groups = scales.shape[1] if valid else 0
        if (
            not groups
            or k % groups
            or k // groups % 16
            or not _is_float(scales)
            or not _is_float(biases)
        ):
            raise CheckpointError(
                f"{name}: scales {list(scales.shape)} and biases {list(biases.shape)} do not suit "
                f"[{rows}, {k}] weights; the file is damaged"
            )
        return MlxMatrix(name, shape, packed, scales, biases, **common)

    def embedding(self, name, shape):
        """An embedding or head: mapped, or decoded row by row."""
        weight = self.tensors.get(name + ".weight")
        if weight.dtype == np.uint32:
            matrix = self.mlx(name, shape)
            return Rows(name, shape, matrix.rows)
        self.tensors.get(name + ".weight", shape)
        if not _is_float(weight):
            raise CheckpointError(
                f"tensor '{name}.weight' is of type {weight.dtype}, not of floats; "
                "use another form of the same checkpoint"
            )
        check_finite(name + ".weight", weight)
        return weight

    def norms(self, prefix, graph, attention):
        """{field of `Layer`: vector} of a layer."""
        result = {
            "input_norm": self.vector(prefix + "input_layernorm.weight", graph.hidden),
            "post_norm": self.vector(prefix + "post_attention_layernorm.weight", graph.hidden),
            "attention_norm": None,
            "feed_forward_norm": None,
        }
        sizes = {"attention_norm": graph.query_size, "feed_forward_norm": graph.feed_forward}
        for field, name in self.sub_norms.items():
            result[field] = self.vector(f"{prefix}{name}.weight", sizes[field])
        if self.kind == "qwen3":
            for field, name in (("query_norm", "q_norm"), ("key_norm", "k_norm")):
                key = f"{prefix}self_attn.{name}.weight"
                gain = self.vector(key, graph.head_size)
                result[field] = rope.scale_gain(key, gain, attention)
        elif attention != 1:
            raise CheckpointError(
                "rope scaling 'yarn' is not supported in a graph without query and key norms; "
                "use a checkpoint without rope scaling"
            )
        return result


def read(folder):
    """Return the `Skeleton` of a Hugging Face folder.

    ``linear_class: autobitlinear`` multiplies by ``weight_scale``, ``bitlinear`` divides by it;
    master weights (float) of BitNet are quantised as in training; float weights of other graphs
    become integers where their structure is ternary, and stay floats otherwise.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    CheckpointError
        For anything missing, truncated, of another shape or of another architecture.
    """
    config = _config(folder)
    graph, attention = _graph(config, folder.name)
    tensors = open_folder(folder)
    files = _Folder(folder, config, tensors)
    if any(re.match(r"model\.layers\.0\..*(experts|block_sparse_moe)", name) for name in tensors):
        raise CheckpointError("a mixture of experts is not supported; use a dense checkpoint")
    matrices, norms, sizes = [], [], shapes(graph)
    for i in range(graph.layers):
        prefix = f"model.layers.{i}."
        matrices.append(
            {name: files.matrix(prefix + _LINEARS[name], *sizes[name]) for name in LINEARS}
        )
        norms.append(files.norms(prefix, graph, attention))
    left = [name for name in tensors.left("model.layers.") if not name.endswith(_USELESS)]
    if left:
        raise CheckpointError(
            f"tensor {left[0]!r} is not part of a {graph.layers}-layer graph of model_type "
            f"{files.kind!r}; config.json and files are not of one checkpoint"
        )
    shape = (graph.vocabulary, graph.hidden)
    embedding = files.embedding("model.embed_tokens", shape)
    tokenizer, notes = read_tokenizer(folder)
    return Skeleton(
        graph=graph,
        matrices=matrices,
        norms=norms,
        embedding=embedding,
        head=embedding if graph.tied else files.embedding("lm_head", shape),
        final_norm=files.vector("model.norm.weight", graph.hidden),
        tokenizer=tokenizer,
        notes=notes,
    )


def read_tokenizer(folder):
    """Return (text of a tokenizer.json or None, notes why there is none).

    SentencePiece's tokenizer.model, with added_tokens.json, stands in for a missing file.
    """
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8"), []
        path = folder / "tokenizer.model"
        if not path.is_file():
            return None, []
        entries = sentencepiece.vocabulary(path.read_bytes())
        path = folder / "added_tokens.json"
        added = parse_json(path.read_bytes()) if path.is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy it again") from None
    except vocabulary.Inexpressible as error:
        return None, [f"no tokenizer: {error}; give prompts as token numbers"]
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); copy it again") from None
    try:
        return vocabulary.tokenizer_json(vocabulary.extend(entries, added)), []
    except vocabulary.Inexpressible as error:
        return None, [f"no tokenizer: {error}; give prompts as token numbers"]
