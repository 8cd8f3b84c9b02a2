"""Mutated files: readers answer with a model or with the one error they have.

A campaign mutates files of every form: bytes, lengths, fields of headers, JSON. Whatever comes out
is read as far as a packer would: graph, layers, embedding. Anything but CheckpointError, more
memory than the file explains, or minutes of time is a failure. The short version runs with the
suite; the long one takes its seconds from TAMALE_FUZZ_SECONDS.
"""

import functools
import json
import os
import random
import shutil
import struct
import time
import tracemalloc

import numpy as np
import pytest
from gguf_files import Spec, gguf_entries, write_folder, write_raw
from tamale.image import HEADER_BYTES, ImageError
from tamale_model import imagefile, readers
from tamale_model.readers import CheckpointError

SHORT = 150
LONG_SECONDS = float(os.environ.get("TAMALE_FUZZ_SECONDS", "60"))
#: Bytes that reading a file of some 100 kB may take, and seconds of the processor.
PEAK, SECONDS = 64 << 20, 20

SMALL = {"layers": 1, "hidden": 128, "feed_forward": 128, "heads": 2, "kv_heads": 1,
         "vocabulary": 16}  # fmt: skip
#: (architecture, granularity, type of GGUF or form of a folder)
GGUF = [
    ("bitnet-b1.58", 0, "I2_S"), ("llama", 64, "Q2_0"), ("qwen3", 128, "Q2_0/128"),
    ("qwen2", 0, "Q1_0"), ("qwen3", 128, "PTQ1_0"), ("llama", 0, "F16"), ("llama", 0, "Q8_0"),
    ("qwen3", 0, "Q4_1"), ("bitnet", 256, "TQ2_0"), ("llama", 256, "TQ1_0"),
]  # fmt: skip
FOLDERS = [("bitnet-b1.58", 0, "packed"), ("llama", 0, "packed"), ("llama", 64, "float16"),
           ("qwen3", 128, "mlx"), ("qwen2", 0, "float32")]  # fmt: skip
VOCABULARY = {
    "gpt2": {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": list("abcdefghijklmn") + ["ab", "abc"],
        "tokenizer.ggml.token_type": [1] * 15 + [3],
        "tokenizer.ggml.merges": ["a b", "ab c"],
    },
    "llama": {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list("abcdefghijklmn") + ["ab", "abc"],
        "tokenizer.ggml.scores": [-float(i) for i in range(16)],
        "tokenizer.ggml.token_type": [1] * 16,
    },
}  # fmt: skip
NUMBERS = [0, 1, 2, 3, 7, 31, 32, 33, 127, 128, 255, 256, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1,
           2**63 - 1, 2**63, 2**64 - 1]  # fmt: skip
JUNK = [None, True, False, 0, -1, 1, 3, 1e308, -1e308, 0.5, 10**30, "", "a", "../x", "\0", [], {},
        [[]], {"a": 1}, [1, 2], "relu2", float("nan"), float("inf"), "9" * 50]  # fmt: skip


def spec_of(case):
    architecture, granularity, kind = case
    sizes = SMALL | (
        {"hidden": 256, "feed_forward": 256, "heads": 4} if kind.startswith("TQ") else {}
    )
    return Spec(1, architecture, granularity, **sizes)


@functools.cache
def entries(case, vocabulary):
    metadata, tensors = gguf_entries(spec_of(case), case[2])
    if case[0] == "qwen3":
        names = {
            "type": "yarn",
            "factor": 4.0,
            "original_context_length": 32,
            "yarn_beta_fast": 8.0,
        }
        metadata |= {f"qwen3.rope.scaling.{name}": value for name, value in names.items()}
    if case[0] == "llama":
        factors = np.linspace(1, 8, 32, dtype=np.float32)
        tensors["rope_freqs.weight"] = 0, (32,), factors.tobytes()
    return metadata | VOCABULARY[vocabulary], tensors


def walk(source):
    """Read as far as a packer would."""
    model = readers.read(source)
    for layer in model.layers:
        layer.q.dequantised()
        layer.down.dequantised()
    np.asarray(model.embedding[:3], dtype=np.float32)
    np.asarray(model.head[-1:], dtype=np.float32)
    assert np.isfinite(model.graph.frequencies).all()


def judge(read, source, error):
    """Read a mutated file; return "model" or "error", or fail."""
    tracemalloc.start()
    start = time.process_time()
    try:
        read(source)
        outcome = "model"
    except error as raised:
        assert str(raised) and "\n" not in str(raised)[:40]
        outcome = "error"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < PEAK, f"{peak} bytes"
    assert time.process_time() - start < SECONDS
    return outcome


def mutate_bytes(rng, data, head):
    """Flip, overwrite, cut, insert or repeat bytes; most often within the first ``head`` ones."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not data:
            break
        where = rng.randrange(min(len(data), head if rng.random() < 0.8 else len(data)))
        kind = rng.randrange(7)
        if kind == 0:
            data[where] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[where] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        elif kind == 2:
            form, bits = rng.choice([("<Q", 64), ("<I", 32), ("<H", 16)])
            field = struct.pack(form, rng.choice(NUMBERS) % (1 << bits))
            where -= where % rng.choice([1, 4, 8])
            data[where : where + len(field)] = field
        elif kind == 3:
            del data[where:]
        elif kind == 4:
            del data[where : where + rng.randrange(1, 40)]
        elif kind == 5:
            data[where:where] = rng.randbytes(rng.randrange(1, 40))
        else:
            other = rng.randrange(len(data))
            data[where : where + 16] = data[other : other + 16]
    return bytes(data)


def mutate_json(rng, value, depth=0):
    """Return a JSON value with one part of another kind, missing, doubled or added."""
    if isinstance(value, dict) and value and (depth == 0 or rng.random() < 0.7):
        value = dict(value)
        key = rng.choice(list(value))
        kind = rng.randrange(5)
        if kind == 0:
            del value[key]
        elif kind == 1:
            value[key + "x"] = value.pop(key)
        elif kind == 2:
            value[rng.choice(list(value))] = value[key]
        else:
            value[key] = mutate_json(rng, value[key], depth + 1)
        return value
    if isinstance(value, list) and value and rng.random() < 0.6:
        value = list(value)
        at = rng.randrange(len(value))
        if rng.random() < 0.3:
            del value[at]
        else:
            value[at] = mutate_json(rng, value[at], depth + 1)
        return value
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice([*NUMBERS, -value, value + 1, value - 1, value * 2, -(2**70)])
    return rng.choice(JUNK)


def gguf_case(rng, folder):
    """Write a mutated GGUF file: its bytes, or its fields before they are written."""
    case, vocabulary = rng.choice(GGUF), rng.choice(list(VOCABULARY))
    metadata, tensors = (dict(part) for part in entries(case, vocabulary))
    path = folder / "m.gguf"
    if rng.random() < 0.5:
        for _ in range(rng.choice([1, 1, 2])):
            if rng.random() < 0.6:
                key = rng.choice(list(metadata))
                value = rng.choice([v % 2**32 if isinstance(v, int) else v for v in NUMBERS]
                                   + [-1, 0.0, 1e30, "x", True, [1, 2, 3], ["a", "b"]])  # fmt: skip
                metadata[key] = value
                if rng.random() < 0.3:
                    del metadata[key]
            else:
                name = rng.choice(list(tensors))
                kind, shape, data = tensors[name]
                change = rng.randrange(4)
                if change == 0:
                    del tensors[name]
                elif change == 1:
                    kinds = [0, 1, 2, 8, 12, 30, 34, 35, 36, 38, 39, 41, 42, 142, 143, 999]
                    tensors[name] = rng.choice(kinds), shape, data
                elif change == 2:
                    at = rng.randrange(len(shape))
                    size = rng.choice([0, 1, 2, shape[at] - 1, shape[at] * 2, 2**31, 2**63])
                    tensors[name] = kind, (*shape[:at], size, *shape[at + 1 :]), data
                else:
                    tensors[name] = kind, shape, data[: rng.randrange(len(data) + 1)]
        write_raw(path, metadata, tensors, pad_last=rng.random() < 0.5)
    else:
        write_raw(path, metadata, tensors)
        path.write_bytes(mutate_bytes(rng, path.read_bytes(), 4000))
    return path


@functools.cache
def folder_of(case, base):
    scaling = {
        "mlx": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32,
                "beta_fast": 8.0, "attention_factor": 1.5},
        "float16": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64},
        "float32": {"type": "linear", "factor": 2.0},
    }  # fmt: skip
    changes = {"rope_scaling": scaling.get(case[2])}
    return write_folder(base / "-".join(map(str, case)), spec_of(case), case[2], changes=changes)


def folder_case(rng, base):
    """Write a mutated Hugging Face folder: config.json, the header, the index or bytes."""
    source = folder_of(rng.choice(FOLDERS), base)
    folder = base / "mutated"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    data = (source / "model.safetensors").read_bytes()
    config = json.loads((source / "config.json").read_text())
    kind = rng.randrange(5)
    if kind == 0:
        for _ in range(rng.choice([1, 2])):
            config = mutate_json(rng, config)
    elif kind == 1:
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        for _ in range(rng.choice([1, 2])):
            header = mutate_json(rng, header)
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + data[8 + size :]
    elif kind == 2:
        data = mutate_bytes(rng, data, 3000)
    elif kind == 3:
        index = {"metadata": {}, "weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}
        index = mutate_json(rng, index)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    text = json.dumps(config).encode()
    (folder / "config.json").write_bytes(mutate_bytes(rng, text, len(text)) if kind == 4 else text)
    (folder / "model.safetensors").write_bytes(data)
    return folder


def campaign(make, base, count=None, seconds=None, seed=None):
    """Judge mutations of ``make`` by number or time; return how often each outcome came."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    outcomes, number, until = {"model": 0, "error": 0}, 0, time.monotonic() + (seconds or 0)
    while number < (count or 0) or (seconds and time.monotonic() < until):
        rng = random.Random(seed * 2**32 + number)
        source = make(rng, base)
        try:
            with np.errstate(all="raise", under="ignore"):
                outcomes[judge(walk, source, CheckpointError)] += 1
        except BaseException:
            print(f"case {number} of seed {seed}: {source}")
            raise
        number += 1
    return outcomes


@pytest.mark.parametrize("make", [gguf_case, folder_case])
def test_campaign(tmp_path, make):
    outcomes = campaign(make, tmp_path, count=SHORT)
    assert outcomes["error"] > SHORT / 4 and outcomes["model"] > 5, outcomes


@pytest.mark.long
@pytest.mark.parametrize("make", [gguf_case, folder_case])
def test_long_campaign(tmp_path, make):
    outcomes = campaign(make, tmp_path, seconds=LONG_SECONDS)
    print(f"{make.__name__}: {outcomes}")
    assert outcomes["error"] > 100


def test_images(tmp_path):
    """Damaged memory images: ImageError, or a header that is whole."""
    from random_models import random_config, random_model

    config = random_config(3)
    path = tmp_path / "m.img"
    imagefile.build(config, random_model(3), path)
    data = path.read_bytes()
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)

    def read(source):
        image = imagefile.load(source)
        image.check(config)
        image.token_bytes(0)

    outcomes = {"model": 0, "error": 0}
    for _ in range(60):
        path.write_bytes(mutate_bytes(rng, data, HEADER_BYTES))
        outcomes[judge(read, path, ImageError)] += 1
    assert outcomes["error"] > 40, outcomes


def test_nested_json(tmp_path):
    """JSON of a depth that exhausts the parser's stack is refused like any other."""
    folder = write_folder(tmp_path / "m", spec_of(FOLDERS[0]), "packed")
    for text in ("[" * 100_000, '{"a":' * 100_000, '{"hidden_size": ' + "1" * 10_000 + "}"):
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="not JSON"):
            readers.read(folder)
    (folder / "config.json").write_text('{"model_type": "llama", "model_type": "bitnet"}')
    with pytest.raises(CheckpointError, match="'model_type' occurs twice"):
        readers.read(folder)


def test_doubled_names(tmp_path):
    """A tensor or a key that occurs twice is refused, in one file or in two."""
    metadata, tensors = entries(GGUF[0], "gpt2")
    path = write_raw(tmp_path / "m.gguf", metadata, tensors)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"blk.0.attn_k.weight", b"blk.0.attn_v.weight"))
    with pytest.raises(CheckpointError, match="tensor 'blk.0.attn_v.weight' occurs twice"):
        readers.read(path)
    path.write_bytes(data.replace(b"general.name", b"general.type"))
    readers.read(path)
    path.write_bytes(data.replace(b"bitnet-b1.58.attention.key_length",
                                  b"bitnet-b1.58.attention.head_count"))  # fmt: skip
    with pytest.raises(CheckpointError, match="head_count' occurs twice"):
        readers.read(path)
    folder = write_folder(tmp_path / "f", spec_of(FOLDERS[0]), "packed")
    shutil.copy(folder / "model.safetensors", folder / "copy.safetensors")
    with pytest.raises(CheckpointError, match="is in copy.safetensors too; files of two"):
        readers.read(folder)
