"""Hugging Face BitNet files: write a trained model, read one back.

Linear layers are packed (`packing.pack`) with their scale as float32 [1], `linear_class`
autobitlinear. The embedding, which is also the head, and the norms are float32: transformers keeps
the type of each stored tensor, and fails where the head's differs from that of the last norm.
"""

import json
import os

import numpy as np
import torch
from safetensors.numpy import load_file, save

from .model import BitNet, Frozen, Geometry
from .packing import pack, quantise, unpack
from .tokenizer import BOS, EOS

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
NORMS = {
    "input_layernorm": "input_layernorm",
    "post_attention_layernorm": "post_attention_layernorm",
    "attn_sub_norm": "self_attn.attn_sub_norm",
    "ffn_sub_norm": "mlp.ffn_sub_norm",
}
"""Names of the norms in `model.Layer` and in the files."""


def _linears():
    for name in ATTENTION:
        yield name, f"self_attn.{name}"
    for name in MLP:
        yield name, f"mlp.{name}"


def config(geometry):
    """Return the content of config.json."""
    return {
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "vocab_size": geometry.vocabulary,
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.ffn,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.heads,
        "num_key_value_heads": geometry.kv_heads,
        "hidden_act": "relu2",
        "max_position_embeddings": geometry.context,
        "rms_norm_eps": geometry.epsilon,
        "rope_theta": geometry.theta,
        "tie_word_embeddings": True,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "dtype": "float32",
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
        },
    }


def export(model, tokenizer, folder):
    """Write `model` (master weights) and `tokenizer` as a checkpoint folder."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {
        "model.embed_tokens.weight": state["embedding"],
        "model.norm.weight": state["norm"],
    }
    for index in range(model.geometry.layers):
        here, there = f"layers.{index}.", f"model.layers.{index}."
        for name, path in NORMS.items():
            tensors[f"{there}{path}.weight"] = state[here + name]
        for name, path in _linears():
            codes, scale = quantise(state[here + name])
            tensors[f"{there}{path}.weight"] = pack(codes)
            tensors[f"{there}{path}.weight_scale"] = np.array([scale], dtype=np.float32)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
    generation = {"bos_token_id": BOS, "eos_token_id": EOS}
    for name, content in (
        ("config.json", config(model.geometry)),
        ("generation_config.json", generation),
    ):
        with open(os.path.join(folder, name), "w") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
    tokenizer.save(os.path.join(folder, "tokenizer.json"))


def load(folder):
    """Return a `BitNet` for evaluation (float32, frozen ternary matrices) from `folder`."""
    with open(os.path.join(folder, "config.json")) as file:
        found = json.load(file)
    geometry = Geometry(
        hidden=found["hidden_size"],
        layers=found["num_hidden_layers"],
        heads=found["num_attention_heads"],
        kv_heads=found["num_key_value_heads"],
        head_size=found["hidden_size"] // found["num_attention_heads"],
        ffn=found["intermediate_size"],
        vocabulary=found["vocab_size"],
        context=found["max_position_embeddings"],
        theta=found["rope_theta"],
        epsilon=found["rms_norm_eps"],
    )
    if found != config(geometry):
        raise ValueError(f"{folder!r} was not written by this recipe: config.json differs")
    tensors = load_file(os.path.join(folder, "model.safetensors"))

    def tensor(name):
        return torch.from_numpy(tensors[name].astype(np.float32))

    model = BitNet(geometry).requires_grad_(False)
    model.embedding.copy_(tensor("model.embed_tokens.weight"))
    model.norm.copy_(tensor("model.norm.weight"))
    for index, layer in enumerate(model.layers):
        there = f"model.layers.{index}."
        for name, path in NORMS.items():
            getattr(layer, name).copy_(tensor(f"{there}{path}.weight"))
        for name, path in _linears():
            codes = unpack(tensors[f"{there}{path}.weight"]).astype(np.float32)
            delattr(layer, name)
            scale = tensor(f"{there}{path}.weight_scale")[0]
            setattr(layer, name, Frozen(torch.from_numpy(codes), scale))
    return model.eval()
