"""Writes small random Hugging Face BitNet checkpoints in every form that exists."""

import json

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

__all__ = ["CONFIG", "KINDS", "save_file", "tensors", "write"]

#: Sizes of the checkpoints; transformers needs heads * head_dim = hidden_size.
CONFIG = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "vocab_size": 90,
    "hidden_size": 64,
    "intermediate_size": 116,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "relu2",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 20000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": [1, 2],
}

#: What ``quantization_config`` says of each kind, and the type of the stored linear weights.
KINDS = {
    "autobitlinear": ({"linear_class": "autobitlinear", "quantization_mode": "offline"}, np.uint8),
    "bitlinear": ({"linear_class": "bitlinear", "quantization_mode": "offline"}, np.uint8),
    "master": ({"linear_class": "autobitlinear", "quantization_mode": "online"}, np.float32),
    "master-bf16": (
        {"linear_class": "autobitlinear", "quantization_mode": "online"},
        ml_dtypes.bfloat16,
    ),
}


def tensors(kind, seed, config=CONFIG):
    """Return {name: array} of a random checkpoint."""
    rng = np.random.default_rng(seed)
    _, dtype = KINDS[kind]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    size = hidden // config["num_attention_heads"]
    kv = size * config["num_key_value_heads"]
    other = np.float32 if dtype == np.uint8 else dtype
    result = {
        "model.embed_tokens.weight": rng.normal(0, 1, (config["vocab_size"], hidden)).astype(other),
        "model.norm.weight": rng.lognormal(0, 0.3, hidden).astype(other),
    }
    if not config["tie_word_embeddings"]:
        result["lm_head.weight"] = rng.normal(0, 0.3, (config["vocab_size"], hidden)).astype(other)
    for i in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{i}."
        for name, n in (
            ("input_layernorm", hidden),
            ("self_attn.attn_sub_norm", hidden),
            ("post_attention_layernorm", hidden),
            ("mlp.ffn_sub_norm", inner),
        ):
            result[f"{prefix}{name}.weight"] = rng.lognormal(0, 0.3, n).astype(other)
        for name, rows, k in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            weight = rng.normal(0, 1.2 / np.sqrt(k), (rows, k)).astype(np.float32)
            if dtype == np.uint8:
                mean = np.abs(weight).mean()
                trits = np.clip(np.rint(weight / mean), -1, 1).astype(np.int8)
                fields = (trits + 1).astype(np.uint8).reshape(4, rows // 4, k)
                packed = fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6
                result[f"{prefix}{name}.weight"] = packed
                scale = mean if kind == "autobitlinear" else 1 / mean
                result[f"{prefix}{name}.weight_scale"] = np.array([scale], dtype=np.float32)
            else:
                result[f"{prefix}{name}.weight"] = weight.astype(dtype)
    return result


def write(folder, kind, *, seed=1, shards=1, tied=False, changes=None, edit=None):
    """Write a checkpoint into ``folder`` and return it.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    kind : str
        A key of `KINDS`.
    shards : int
        Files; more than one come with an index.
    tied : bool
    changes : dict, optional
        Entries of config.json that differ from `CONFIG`; None removes one.
    edit : callable, optional
        Called with the tensors before they are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | {"tie_word_embeddings": tied} | (changes or {})
    config["quantization_config"] = (
        {"quant_method": "bitnet"} | KINDS[kind][0] | config.get("quantization_config", {})
    )
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    content = tensors(kind, seed, CONFIG | {"tie_word_embeddings": tied})
    if edit:
        edit(content)
    content = {name: np.ascontiguousarray(array) for name, array in content.items()}
    meta = {"format": "pt"}
    if shards == 1:
        save_file(content, folder / "model.safetensors", meta)
        return folder
    names, where = list(content), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: content[name] for name in names[i::shards]}
        save_file(part, folder / file, meta)
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where})
    )
    return folder
