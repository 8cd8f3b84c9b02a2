"""Synthetic checkpoints of real geometries: random weights, the files that a real model has.

A Hugging Face BitNet folder, packed, one shard per layer, written without ever holding more than
one of them, so that packers can be tried at full size without a download.

Source of the geometry: config.json of microsoft/bitnet-b1.58-2B-4T, as in transformers'
``models/bitnet``.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

__all__ = ["GEOMETRIES", "write"]

#: config.json of published models, apart from what is the same in all.
GEOMETRIES = {
    "2b-4t": {
        "hidden_size": 2560,
        "num_hidden_layers": 30,
        "num_attention_heads": 20,
        "num_key_value_heads": 5,
        "intermediate_size": 6912,
        "vocab_size": 128256,
        "max_position_embeddings": 4096,
        "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
}

#: Bytes of four two-bit fields, none of which is 3.
_PACKED = np.array(
    [
        sum(field << 2 * i for i, field in enumerate(fields))
        for fields in itertools.product(range(3), repeat=4)
    ],
    dtype=np.uint8,
)


def write(folder, geometry, *, seed=0, progress=None, **changes):
    """Write a checkpoint.

    Parameters
    ----------
    folder : path-like
        Is made; its files are replaced.
    geometry : str
        A key of `GEOMETRIES`.
    seed : int
    progress : callable, optional
        Called with the number of shards written and their total.
    **changes
        Values of config.json that shall differ, such as ``num_hidden_layers=1``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = GEOMETRIES[geometry] | changes
    hidden, ff = config["hidden_size"], config["intermediate_size"]
    head = hidden // config["num_attention_heads"]
    kv = head * config["num_key_value_heads"]
    layers, vocabulary = config["num_hidden_layers"], config["vocab_size"]
    rng = np.random.default_rng(seed)
    where = {}

    def save(number, tensors):
        name = f"model-{number + 1:05d}-of-{layers + 1:05d}.safetensors"
        save_file(tensors, folder / name)
        where.update(dict.fromkeys(tensors, name))
        if progress:
            progress(number + 1, layers + 1)

    def norm(n):
        return rng.lognormal(0, 0.3, n).astype(ml_dtypes.bfloat16)

    def matrix(name, rows, k):
        # Two thirds of the trits are not zero: inputs of deviation 1 give outputs of deviation 1.
        weight = _PACKED[rng.integers(0, 81, (rows // 4, k), dtype=np.uint8)]
        scale = np.array([(k * 2 / 3) ** -0.5], dtype=ml_dtypes.bfloat16)
        return {f"{name}.weight": weight, f"{name}.weight_scale": scale}

    for i in range(layers):
        prefix = f"model.layers.{i}."
        attention, feed_forward = prefix + "self_attn.", prefix + "mlp."
        tensors = {
            prefix + "input_layernorm.weight": norm(hidden),
            prefix + "post_attention_layernorm.weight": norm(hidden),
            attention + "attn_sub_norm.weight": norm(hidden),
            feed_forward + "ffn_sub_norm.weight": norm(ff),
        }
        for name, rows, k in (
            (attention + "q_proj", hidden, hidden), (attention + "k_proj", kv, hidden),
            (attention + "v_proj", kv, hidden), (attention + "o_proj", hidden, hidden),
            (feed_forward + "gate_proj", ff, hidden), (feed_forward + "up_proj", ff, hidden),
            (feed_forward + "down_proj", hidden, ff),
        ):  # fmt: skip
            tensors |= matrix(name, rows, k)
        save(i, tensors)
    embedding = np.empty((vocabulary, hidden), dtype=ml_dtypes.bfloat16)
    for first in range(0, vocabulary, 4096):
        part = embedding[first : first + 4096]
        part[:] = rng.normal(0, 0.7, part.shape).astype(np.float32)
    # The logits shall spread over a few nats.
    final = norm(hidden) * ml_dtypes.bfloat16(3 / (0.7 * hidden**0.5))
    save(layers, {"model.embed_tokens.weight": embedding, "model.norm.weight": final})

    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": where}, indent=1)
    )
    quantisation = {
        "quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline",
    }  # fmt: skip
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["BitNetForCausalLM"], "model_type": "bitnet",
                "hidden_act": "relu2", "quantization_config": quantisation, **config,
            },
            indent=1,
        )
    )  # fmt: skip


def main(arguments=None):
    """Write a checkpoint from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tamale_model.synthetic", description=__doc__.split("\n")[0]
    )
    parser.add_argument("geometry", choices=sorted(GEOMETRIES))
    parser.add_argument("folder")
    parser.add_argument("--layers", type=int, help="decoder layers (default: those of the model)")
    parser.add_argument("--vocabulary", type=int, help="rows of embedding and head")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    changes = {"num_hidden_layers": options.layers, "vocab_size": options.vocabulary}

    def progress(done, total):
        if sys.stderr.isatty():
            print(f"\r{done} of {total} shards", end="\n" * (done == total), file=sys.stderr)

    write(
        options.folder, options.geometry, seed=options.seed, progress=progress,
        **{key: value for key, value in changes.items() if value is not None},
    )  # fmt: skip


if __name__ == "__main__":
    main()
