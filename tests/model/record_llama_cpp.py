"""Records what llama.cpp computes: ``python tests/model/record_llama_cpp.py``.

Needs llama-cpp-python (``pip install 'tamale[llama]'`` builds it, some minutes). Writes
``data/llama_cpp.npz`` and ``data/ggml_blocks.npz``, see ``data/README.md``.
"""

import tempfile
from pathlib import Path

import llama_cpp
import llama_cpp_models as models
import llama_cpp_runner
import numpy as np
from tamale_model import fidelity

DATA = Path(__file__).parent / "data"

#: Tokens that each model reads; they are drawn from itself.
TOKENS = 24

#: The matrices whose inputs and outputs are recorded, and for how many tokens.
WATCHED, PRODUCTS = ("q", "down"), 1


def evaluations():
    """Logits of every file, inputs and outputs of some matrices of the last layer."""
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for spec in models.SPECS:
            path = models.write(spec, Path(folder) / f"{spec.name}.gguf")
            watch = {f"blk.{spec.layers - 1}.{models.NAMES[name]}.weight": name for name in WATCHED}
            model = models.build(spec)
            (tokens,) = fidelity.draw_text(model, TOKENS)
            logits, seen = llama_cpp_runner.evaluate(path, tokens, watch)
            result[f"{spec.name}/checksum"] = np.uint32(models.checksum(model))
            result[f"{spec.name}/tokens"] = np.array(tokens, dtype=np.int16)
            result[f"{spec.name}/logits"] = logits
            for weight, name in watch.items():
                x, y = seen[weight]
                result[f"{spec.name}/{name}/inputs"] = x[:PRODUCTS]
                result[f"{spec.name}/{name}/outputs"] = y[:PRODUCTS]
    return result


def vectors():
    """Floats, and what ggml makes of them and of random bytes."""
    library, result = llama_cpp_runner.Library(), {}
    rng = np.random.RandomState(11)
    # The data of llama.cpp's own tests/test-quantize-fns.cpp.
    angles = np.arange(2048, dtype=np.float32)
    floats = {
        "cosines": (np.float32(2) * np.cos(angles) + 0.1).astype(np.float32).reshape(4, 512),
        "normal": rng.normal(0, 1, (4, 512)).astype(np.float32),
        # Exact halves of the largest magnitude, which round away from zero.
        "ties": (rng.randint(-4, 5, (4, 512)) / 4).astype(np.float32),
        # Codes whose fraction is one half, which round to even.
        "halves": (rng.randint(-254, 255, (4, 512)) / 2).astype(np.float32),
        # Quantised before: every weight is a digit times its scale.
        "trits": (rng.randint(-1, 2, (4, 512)) * np.float32(0.09375)).astype(np.float32),
    }
    floats["halves"][:, ::32] = 127
    floats["normal"][0] = 0
    floats["normal"][1, :256] = 0
    floats["normal"][2] *= np.float32(1e-7)  # subnormal scales
    for name, weights in floats.items():
        result[f"{name}/floats"] = weights
        for kind in models.TYPES:
            data = library.quantise(kind, weights)
            result[f"{name}/{kind}/bytes"] = data
            result[f"{name}/{kind}/values"] = library.dequantise(kind, data, weights.shape[1])
        for kind, function in (("Q8_K", library.quantise_q8_k), ("Q8_0", library.quantise_q8_0)):
            codes, scales = zip(*map(function, weights), strict=True)
            result[f"{name}/{kind}/codes"] = np.stack(codes)
            result[f"{name}/{kind}/scales"] = np.stack(scales)
    for kind, (_, group) in models.TYPES.items():
        size = result[f"trits/{kind}/bytes"].shape[1] // (512 // group)
        data = rng.randint(0, 256, (4 * 512 // group, size)).astype(np.uint8)
        place = 0 if kind == "Q2_0" else size - 2
        scales = rng.uniform(-2, 2, len(data)).astype("<f2")
        data[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
        result[f"bytes/{kind}/bytes"] = data = data.reshape(4, -1)
        result[f"bytes/{kind}/values"] = library.dequantise(kind, data, 512)
    return result


def main():
    DATA.mkdir(exist_ok=True)
    version = {"version": np.array(f"llama-cpp-python {llama_cpp.__version__}")}
    for name, content in (("llama_cpp", evaluations()), ("ggml_blocks", vectors())):
        path = DATA / f"{name}.npz"
        np.savez_compressed(path, **content, **version)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
