"""Folders with the geometry of BitNet b1.58 2B-4T whose weights are holes in a sparse file."""

import json
import struct

import numpy as np

__all__ = ["GEOMETRY", "write"]

#: config.json of microsoft/bitnet-b1.58-2B-4T, as far as it is read.
GEOMETRY = {
    "model_type": "bitnet", "hidden_size": 2560, "num_hidden_layers": 30, "vocab_size": 128256,
    "num_attention_heads": 20, "num_key_value_heads": 5, "intermediate_size": 6912,
    "hidden_act": "relu2", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "tie_word_embeddings": True,
}  # fmt: skip


def write(folder, form, layers=30, vocabulary=GEOMETRY["vocab_size"]):
    """Write ``layers`` layers, packed or master (bfloat16); return the bytes of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    config = GEOMETRY | {
        "num_hidden_layers": layers,
        "vocab_size": vocabulary,
        "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear",
                                "quantization_mode": "offline"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"model.embed_tokens.weight": ("BF16", (vocabulary, 2560)),
               "model.norm.weight": ("BF16", (2560,))}  # fmt: skip
    for i in range(layers):
        prefix = f"model.layers.{i}."
        for name, size in (
            ("input_layernorm", 2560), ("post_attention_layernorm", 2560),
            ("self_attn.attn_sub_norm", 2560), ("mlp.ffn_sub_norm", 6912),
        ):  # fmt: skip
            tensors[f"{prefix}{name}.weight"] = "BF16", (size,)
        for name, rows, k in (
            ("self_attn.q_proj", 2560, 2560), ("self_attn.k_proj", 640, 2560),
            ("self_attn.v_proj", 640, 2560), ("self_attn.o_proj", 2560, 2560),
            ("mlp.gate_proj", 6912, 2560), ("mlp.up_proj", 6912, 2560),
            ("mlp.down_proj", 2560, 6912),
        ):  # fmt: skip
            if form == "packed":
                tensors[f"{prefix}{name}.weight"] = "U8", (rows // 4, k)
                tensors[f"{prefix}{name}.weight_scale"] = "BF16", (1,)
            else:
                tensors[f"{prefix}{name}.weight"] = "BF16", (rows, k)
    header, at = {}, 0
    for name, (kind, shape) in tensors.items():
        size = int(np.prod(shape)) * (1 if kind == "U8" else 2)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, entry in header.items():
            if name.endswith("weight_scale"):
                file.seek(8 + len(text) + entry["data_offsets"][0])
                file.write(b"\x80\x3f")  # 1.0
        file.truncate(8 + len(text) + at)
    return 8 + len(text) + at
