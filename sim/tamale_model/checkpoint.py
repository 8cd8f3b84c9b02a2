"""Reader of Hugging Face BitNet checkpoints: packed or master weights, one file or shards.

Sources: transformers ``integrations/bitnet.py`` and ``models/bitnet/modeling_bitnet.py`` (format
and graph); https://github.com/huggingface/safetensors (file format).
"""

import json
from pathlib import Path

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, which safetensors asks for
import numpy as np
from safetensors import SafetensorError, safe_open

from tamale_model.model import Graph, Layer, Linear, Model

__all__ = ["CheckpointError", "quantise_master", "read", "unpack"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the value and the mend."""


def unpack(packed):
    """Return int8 [4 * n, k] trits of a packed uint8 [n, k] weight.

    Row r lies in byte row r % n at bits 2 * (r // n); the field is the trit plus one.
    """
    fields = [(packed >> 2 * i & 3).astype(np.int8) - 1 for i in range(4)]
    values = np.concatenate(fields)
    if values.max(initial=0) > 1:
        raise CheckpointError("packed weight has a field of 3, which is no trit")
    return values


def quantise_master(weight):
    """Return (int8 trits, mean absolute weight) of a float matrix, as in BitNet training."""
    weight = np.asarray(weight, dtype=np.float32)
    mean = max(np.float32(np.abs(weight).mean(dtype=np.float64)), np.float32(1e-5))
    return np.clip(np.rint(weight * (np.float32(1) / mean)), -1, 1).astype(np.int8), float(mean)


class _Tensors:
    """Tensors of a folder by name, read one at a time from memory-mapped files."""

    def __init__(self, folder):
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            try:
                names = json.loads(index.read_text())["weight_map"].values()
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CheckpointError(
                    f"{index}: not a safetensors index ({error}); copy it again"
                ) from error
            files = sorted({folder / str(name) for name in names})
        else:
            files = sorted(folder.glob("*.safetensors"))
        if not files:
            raise CheckpointError(
                f"{folder}: no .safetensors file; pass a Hugging Face folder with config.json and "
                "model.safetensors"
            )
        self._where = {}
        for file in files:
            if not file.is_file():
                raise CheckpointError(
                    f"{file}: the index names this shard, but it is missing; copy it there"
                )
            try:
                handle = safe_open(file, "np")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{file}: not a complete safetensors file ({error}); copy it again"
                ) from error
            self._where |= dict.fromkeys(handle.keys(), (file, handle))

    def __contains__(self, name):
        return name in self._where

    def get(self, name, shape=None):
        if name not in self._where:
            raise CheckpointError(
                f"tensor {name!r} is missing; the checkpoint is of another kind or lacks a file"
            )
        file, handle = self._where[name]
        try:
            tensor = handle.get_tensor(name)
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file}: tensor {name!r} cannot be read ({error})") from error
        if shape is not None and tensor.shape != tuple(shape):
            raise CheckpointError(
                f"{file}: tensor {name!r} has shape {list(tensor.shape)}, "
                f"config.json asks for {list(shape)}; they are not of one checkpoint"
            )
        return tensor

    def floats(self, name, shape):
        """A float32 tensor whose values are all finite."""
        tensor = self.get(name, shape).astype(np.float32)
        if not np.isfinite(tensor).all():
            raise CheckpointError(
                f"tensor {name!r} has values that are not finite; the checkpoint is damaged"
            )
        return tensor

    def vector(self, name, size):
        return self.floats(name, (size,))

    def scale(self, name, multiply):
        """The scale of a BitLinear's trits, by what the file says of ``weight_scale``."""
        scale = float(self.get(name + ".weight_scale").astype(np.float32).reshape(-1)[0])
        if not np.isfinite(scale) or scale <= 0:
            raise CheckpointError(
                f"{name}.weight_scale is {scale}, it must be positive; the checkpoint is damaged"
            )
        return scale if multiply else 1 / scale

    def linear(self, name, rows, k, multiply):
        """A BitLinear; ``multiply`` says what ``weight_scale`` means."""
        weight = self.get(name + ".weight")
        if name + ".bias" in self:
            raise CheckpointError(f"{name} has a bias, which the BitNet graph does not")
        if weight.dtype == np.uint8:
            if weight.shape != (rows // 4, k) or rows % 4:
                raise CheckpointError(
                    f"packed {name}.weight has shape {list(weight.shape)}, "
                    f"the config asks for [{rows}/4, {k}]"
                )
            return Linear(unpack(weight), 1, self.scale(name, multiply))
        weight = self.floats(name + ".weight", (rows, k))
        if name + ".weight_scale" in self:
            # Trits that were unpacked, but not multiplied by their scale.
            if not np.isin(weight, (-1, 0, 1)).all():
                raise CheckpointError(
                    f"{name} has a weight_scale, but its weights are not -1, 0 and 1; "
                    "export it again, packed or as master weights without scale"
                )
            return Linear(weight.astype(np.int8), 1, self.scale(name, multiply))
        values, mean = quantise_master(weight)
        return Linear(values, 1, mean)


def _config(folder):
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: no config.json; pass the folder of a Hugging Face checkpoint"
        ) from None
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); the file is damaged") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: holds no JSON object; the file is of another kind")
    return config


def _graph(config, name):
    if config.get("model_type") != "bitnet":
        raise CheckpointError(
            f"model_type {config.get('model_type')!r} is not supported; this reader takes 'bitnet'"
        )
    if config.get("hidden_act", "relu2") != "relu2":
        raise CheckpointError(
            f"hidden_act {config['hidden_act']!r} is not supported; BitNet b1.58 2B-4T uses 'relu2'"
        )
    if config.get("rope_scaling"):
        raise CheckpointError(
            f"rope_scaling {config['rope_scaling']!r} is not supported; "
            "this reader takes checkpoints of plain rotary embedding"
        )
    rope = config.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise CheckpointError(
            f"rope_parameters {rope!r} is not supported; this reader takes rope_type 'default'"
        )
    eos = config.get("eos_token_id")
    try:
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        graph = Graph(
            name=name,
            hidden=hidden,
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or hidden // heads),
            feed_forward=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            # The default is that of transformers' BitNetConfig.
            rope_theta=float(config.get("rope_theta") or rope.get("rope_theta", 500000.0)),
            norm_epsilon=float(config.get("rms_norm_eps", 1e-5)),
            tied=bool(config.get("tie_word_embeddings", False)),
            bos=config.get("bos_token_id"),
            eos=tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
        )
    except KeyError as error:
        raise CheckpointError(
            f"config.json has no {error.args[0]!r}; copy the whole file of the checkpoint"
        ) from None
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"config.json has a value of the wrong kind ({error}); the file is damaged"
        ) from None
    for key in (
        "hidden", "layers", "heads", "kv_heads", "head_size", "feed_forward", "vocabulary",
        "context",
    ):  # fmt: skip
        if getattr(graph, key) < 1:
            raise CheckpointError(
                f"config.json gives {key} = {getattr(graph, key)}, it must be 1 or more; "
                "the file is damaged"
            )
    if graph.heads % graph.kv_heads:
        raise CheckpointError(
            f"{graph.heads} heads do not share {graph.kv_heads} KV heads evenly; "
            "num_attention_heads must be a multiple of num_key_value_heads"
        )
    return graph


def read(path):
    """Return the `Model` of a Hugging Face BitNet folder.

    ``linear_class: autobitlinear`` multiplies by ``weight_scale``, ``bitlinear`` divides by it;
    master weights (float) are quantised as in training.

    Raises
    ------
    CheckpointError
        For anything missing, truncated, of another shape or of another architecture.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: not a folder; pass the folder of a Hugging Face checkpoint"
        )
    config = _config(folder)
    graph = _graph(config, folder.name)
    quantisation = config.get("quantization_config") or {}
    linear_class = quantisation.get("linear_class", "bitlinear")
    if linear_class not in ("bitlinear", "autobitlinear"):
        raise CheckpointError(
            f"linear_class {linear_class!r} is unknown; use bitlinear or autobitlinear"
        )
    if quantisation.get("use_rms_norm"):
        raise CheckpointError(
            "use_rms_norm is not supported; this reader takes the graph of BitNet b1.58 2B-4T, "
            "whose linear layers have no norm of their own"
        )
    multiply = linear_class == "autobitlinear"
    tensors = _Tensors(folder)
    layers = []
    for i in range(graph.layers):
        prefix = f"model.layers.{i}."
        attention, feed_forward = prefix + "self_attn.", prefix + "mlp."
        layers.append(
            Layer(
                q=tensors.linear(attention + "q_proj", graph.query_size, graph.hidden, multiply),
                k=tensors.linear(attention + "k_proj", graph.kv_size, graph.hidden, multiply),
                v=tensors.linear(attention + "v_proj", graph.kv_size, graph.hidden, multiply),
                o=tensors.linear(attention + "o_proj", graph.hidden, graph.query_size, multiply),
                gate=tensors.linear(
                    feed_forward + "gate_proj", graph.feed_forward, graph.hidden, multiply
                ),
                up=tensors.linear(
                    feed_forward + "up_proj", graph.feed_forward, graph.hidden, multiply
                ),
                down=tensors.linear(
                    feed_forward + "down_proj", graph.hidden, graph.feed_forward, multiply
                ),
                input_norm=tensors.vector(prefix + "input_layernorm.weight", graph.hidden),
                attention_norm=tensors.vector(attention + "attn_sub_norm.weight", graph.query_size),
                post_norm=tensors.vector(prefix + "post_attention_layernorm.weight", graph.hidden),
                feed_forward_norm=tensors.vector(
                    feed_forward + "ffn_sub_norm.weight", graph.feed_forward
                ),
            )
        )
    shape = (graph.vocabulary, graph.hidden)
    embedding = tensors.floats("model.embed_tokens.weight", shape)
    head = embedding if graph.tied else tensors.floats("lm_head.weight", shape)
    tokenizer = folder / "tokenizer.json"
    return Model(
        graph=graph,
        embedding=embedding,
        head=head,
        layers=layers,
        final_norm=tensors.vector("model.norm.weight", graph.hidden),
        tokenizer=tokenizer.read_text(encoding="utf-8") if tokenizer.is_file() else None,
    )
