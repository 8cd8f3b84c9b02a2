"""Writes GGUF files and Hugging Face folders of the same small random models.

An own writer, because types are wanted that the ``gguf`` package does not know, and files that it
would not write. Encoders are written from the text of the formats, element by element.
"""

import dataclasses
import json
import struct

import gguf
import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

__all__ = [
    "ENCODERS", "Spec", "encode", "folder_tensors", "gguf_entries", "interleave", "write_folder",
    "write_gguf", "write_raw",
]  # fmt: skip

ALIGNMENT = 32
NUMBERS = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "BF16": 30, "TQ1_0": 34, "TQ2_0": 35,
    "I2_S": 36, "TL1": 38, "TL2": 39, "Q1_0": 41, "Q2_0": 42, "Q2_0/128": 42, "PQ2_0": 142,
    "PTQ1_0": 143,
}  # fmt: skip


@dataclasses.dataclass
class Spec:
    """A random model of trits with scales.

    Parameters
    ----------
    seed : int
    architecture : str
        Of GGUF: bitnet, bitnet-b1.58, llama, qwen2 or qwen3.
    granularity : int
        Weights that share a scale; 0: the whole matrix; -1: a row.
    top : int
        Largest value, 1 or 2.
    biases_of : str
        Matrices that have one, of q, k, v and o, beside those of qwen2.
    """

    seed: int
    architecture: str = "llama"
    granularity: int = 0
    top: int = 1
    tied: bool = False
    hidden: int = 256
    feed_forward: int = 512
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    vocabulary: int = 96
    biases_of: str = ""

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.rng = rng
        query, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        sizes = {
            "q": (query, self.hidden), "k": (kv, self.hidden), "v": (kv, self.hidden),
            "o": (self.hidden, query), "gate": (self.feed_forward, self.hidden),
            "up": (self.feed_forward, self.hidden), "down": (self.hidden, self.feed_forward),
        }  # fmt: skip
        norms = {"input_norm": self.hidden, "post_norm": self.hidden}
        if self.bitnet:
            norms |= {"attention_norm": query, "feed_forward_norm": self.feed_forward}
        if self.architecture == "qwen3":
            norms |= {"query_norm": self.head_size, "key_norm": self.head_size}
        self.values, self.scales, self.norms, self.biases = [], [], [], []
        for _ in range(self.layers):
            values, scales, biases = {}, {}, {}
            for name, (rows, k) in sizes.items():
                values[name] = rng.integers(-1, self.top + 1, (rows, k)).astype(np.int8)
                size = self.granularity if self.granularity > 0 else k
                count = (1, 1) if self.granularity == 0 else (rows, k // size)
                # A fp16 scale of a normal size, as every form can hold it.
                scale = rng.uniform(0.01, 0.05, count).astype(np.float16).astype(np.float32)
                scales[name] = np.broadcast_to(scale, (rows, k // size)).copy()
                if name in self.biases_of or self.architecture == "qwen2" and name in "qkv":
                    biases[name] = rng.normal(0, 0.1, rows).astype(np.float32)
            self.values.append(values)
            self.scales.append(scales)
            self.biases.append(biases)
            self.norms.append(
                {name: rng.lognormal(0, 0.3, n).astype(np.float32) for name, n in norms.items()}
            )
        shape = (self.vocabulary, self.hidden)
        self.embedding = rng.normal(0, 1, shape).astype(np.float16)
        self.head = rng.normal(0, 0.3, shape).astype(np.float16)
        self.final_norm = rng.lognormal(0, 0.3, self.hidden).astype(np.float32)

    @property
    def bitnet(self):
        """Whether the graph is BitNet's."""
        return self.architecture.startswith("bitnet")

    def floats(self, layer, name):
        """A matrix as float32 [rows, k]."""
        values, scales = self.values[layer][name], self.scales[layer][name]
        return values * np.repeat(scales, values.shape[1] // scales.shape[1], axis=1)


# Encoders: (values int8 [rows, k], scale of each element float32 [rows, k]) to bytes. Each byte of
# a block is composed from the elements that the format's text names, for all blocks at once. ------


def _blocks(values, scales, size):
    """(element numbers to codes uint16 of all blocks, bytes of their fp16 scales)."""
    codes = (values.reshape(-1, size) + 1).astype(np.uint16)
    halves = scales.reshape(-1, size)[:, :1].astype(np.float16).view(np.uint8)
    return codes.T, halves


def _join(*parts):
    return np.concatenate([np.stack(p, axis=1) if isinstance(p, list) else p for p in parts],
                          axis=1).astype(np.uint8).tobytes()  # fmt: skip


def _digits(codes, elements, places):
    """A byte of base-3 digits, the first of the highest place, scaled to 256 and rounded up."""
    number = sum(codes[e] * 3 ** (places - 1 - i) for i, e in enumerate(elements))
    return -(-number.astype(np.int64) * 256 // 3**places)


def _pairs(codes, elements, shifts=(0, 2, 4, 6)):
    """A byte of two-bit codes."""
    return sum(codes[e] << s for e, s in zip(elements, shifts, strict=True))


def _tq1_0(values, scales):
    codes, halves = _blocks(values, scales, 256)
    return _join(
        [_digits(codes, [32 * n + m for n in range(5)], 5) for m in range(32)],
        [_digits(codes, [160 + 16 * n + m for n in range(5)], 5) for m in range(16)],
        [_digits(codes, [240 + 4 * n + j for n in range(4)], 5) for j in range(4)],
        halves,
    )


def _tq2_0(values, scales):
    codes, halves = _blocks(values, scales, 256)
    places = [(h, m) for h in range(2) for m in range(32)]
    return _join(
        [_pairs(codes, [128 * h + 32 * j + m for j in range(4)]) for h, m in places], halves
    )


def _q2_0(size):
    def encoder(values, scales):
        codes, halves = _blocks(values, scales, size)
        return _join(
            halves, [_pairs(codes, [4 * byte + j for j in range(4)]) for byte in range(size // 4)]
        )

    return encoder


def _q1_0(values, scales):
    codes, halves = _blocks(values, scales, 128)
    return _join(halves, [sum((codes[8 * b + j] > 1) << j for j in range(8)) for b in range(16)])


def _ptq1_0(values, scales):
    codes, halves = _blocks(values, scales, 128)
    return _join(
        [_digits(codes, [16 * n + m for n in range(5)], 5) for m in range(16)],
        [_digits(codes, [80 + 8 * n + m for n in range(5)], 5) for m in range(8)],
        [_digits(codes, [120 + 2 * n + m for n in range(4)], 5) for m in range(2)],
        halves,
    )


def _i2_s(values, scales):
    codes, _ = _blocks(values, scales, 128)
    body = _join([_pairs(codes, [32 * g + p for g in range(4)], (6, 4, 2, 0)) for p in range(32)])
    return body + struct.pack("<f", scales.flat[0]) + bytes(28)


#: Ternary types by name.
ENCODERS = {
    "TQ1_0": _tq1_0, "TQ2_0": _tq2_0, "I2_S": _i2_s, "Q1_0": _q1_0, "Q2_0": _q2_0(64),
    "Q2_0/128": _q2_0(128), "PQ2_0": _q2_0(128), "PTQ1_0": _ptq1_0,
}  # fmt: skip


def encode(kind, values, scales):
    """Return the bytes of a matrix of trits in a type; scales float32 [rows, groups]."""
    if kind in ENCODERS:
        each = np.repeat(scales, values.shape[1] // scales.shape[1], axis=1)
        return ENCODERS[kind](values, each)
    floats = values * np.repeat(scales, values.shape[1] // scales.shape[1], axis=1)
    return encode_floats(kind, floats)


def encode_floats(kind, floats):
    """Return the bytes of a float matrix in a type that the ``gguf`` package writes."""
    plain = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    if kind in plain:
        return np.asarray(floats).astype(plain[kind]).tobytes()
    number = gguf.GGMLQuantizationType[kind]
    return gguf.quants.quantize(np.asarray(floats, dtype=np.float32), number).tobytes()


def interleave(array, heads):
    """Rows of q or k as llama.cpp's converter leaves them for the llama graph."""
    rows = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
    return rows.swapaxes(1, 2).reshape(array.shape)


# GGUF ---------------------------------------------------------------------------------------------


def _value(value):
    """(type, bytes) of a metadata value."""
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value >= 0 else (5, struct.pack("<i", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    if isinstance(value, str):
        data = value.encode(errors="surrogateescape")
        return 8, struct.pack("<Q", len(data)) + data
    kind = _value(value[0])[0]
    return 9, struct.pack("<IQ", kind, len(value)) + b"".join(_value(v)[1] for v in value)


def write_raw(path, metadata, tensors, *, version=3, pad_last=True):
    """Write a GGUF file: {key: value}, {name: (type number, shape, bytes)}."""

    def string(text):
        return struct.pack("<Q", len(text.encode())) + text.encode()

    head = bytearray(b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)))
    for key, value in metadata.items():
        kind, data = _value(value)
        head += string(key) + struct.pack("<I", kind) + data
    body = bytearray()
    for name, (kind, shape, data) in tensors.items():
        body += bytes(-len(body) % ALIGNMENT)
        head += string(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", kind, len(body))
        body += data
    if pad_last:
        body += bytes(-len(body) % ALIGNMENT)
    head += bytes(-len(head) % ALIGNMENT)
    path.write_bytes(bytes(head + body))
    return path


_NAMES = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate",
    "up": "ffn_up", "down": "ffn_down", "input_norm": "attn_norm", "post_norm": "ffn_norm",
    "attention_norm": "attn_sub_norm", "feed_forward_norm": "ffn_sub_norm",
    "query_norm": "attn_q_norm", "key_norm": "attn_k_norm",
}  # fmt: skip


def gguf_entries(spec, kind, *, embedding="F16"):
    """Return (metadata, tensors) of a spec for `write_raw`."""
    a = spec.architecture
    metadata = {
        "general.architecture": a,
        "general.name": "random",
        f"{a}.context_length": 128,
        f"{a}.embedding_length": spec.hidden,
        f"{a}.block_count": spec.layers,
        f"{a}.feed_forward_length": spec.feed_forward,
        f"{a}.rope.dimension_count": spec.head_size,
        f"{a}.rope.freq_base": 20000.0,
        f"{a}.attention.head_count": spec.heads,
        f"{a}.attention.head_count_kv": spec.kv_heads,
        f"{a}.attention.key_length": spec.head_size,
        f"{a}.attention.value_length": spec.head_size,
        f"{a}.attention.layer_norm_rms_epsilon": 0.0009765625,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    shape = (spec.vocabulary, spec.hidden)
    tensors = {"token_embd.weight": (NUMBERS[embedding], shape,
                                     encode_floats(embedding, spec.embedding))}  # fmt: skip
    if not spec.tied:
        tensors["output.weight"] = (NUMBERS[embedding], shape, encode_floats(embedding, spec.head))
    tensors["output_norm.weight"] = 0, (spec.hidden,), spec.final_norm.tobytes()
    for i in range(spec.layers):
        for name, values in spec.values[i].items():
            scales, bias = spec.scales[i][name], spec.biases[i].get(name)
            if a == "llama" and name in "qk":
                heads = spec.heads if name == "q" else spec.kv_heads
                values, scales = interleave(values, heads), interleave(scales, heads)
                bias = None if bias is None else interleave(bias, heads)
            data = encode(kind, values, scales)
            tensors[f"blk.{i}.{_NAMES[name]}.weight"] = NUMBERS[kind], values.shape, data
            if bias is not None:
                tensors[f"blk.{i}.{_NAMES[name]}.bias"] = 0, bias.shape, bias.tobytes()
        for name, gain in spec.norms[i].items():
            tensors[f"blk.{i}.{_NAMES[name]}.weight"] = 0, gain.shape, gain.tobytes()
    return metadata, tensors


def write_gguf(path, spec, kind, **options):
    """Write a spec with its matrices in one type and return the path."""
    return write_raw(path, *gguf_entries(spec, kind, **options))


# Hugging Face -------------------------------------------------------------------------------------

_HF = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
    "input_norm": "input_layernorm", "post_norm": "post_attention_layernorm",
    "attention_norm": "self_attn.attn_sub_norm", "feed_forward_norm": "mlp.ffn_sub_norm",
    "query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm",
}  # fmt: skip


def _pack(values):
    fields = (values + 1).astype(np.uint8).reshape(4, len(values) // 4, -1)
    return fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6


def folder_tensors(spec, form):
    """Return {name: array}; ``form`` is packed, float16, float32 or mlx."""
    result = {"model.embed_tokens.weight": spec.embedding, "model.norm.weight": spec.final_norm}
    if not spec.tied:
        result["lm_head.weight"] = spec.head
    for i in range(spec.layers):
        prefix = f"model.layers.{i}."
        for name, values in spec.values[i].items():
            key, scales = prefix + _HF[name], spec.scales[i][name]
            if form == "packed":
                result[key + ".weight"] = _pack(values)
                result[key + ".weight_scale"] = scales[:1, 0]
            elif form == "mlx":
                codes = (values + 1).astype(np.uint32).reshape(len(values), -1, 16)
                words = sum(codes[:, :, j] << np.uint32(2 * j) for j in range(16))
                result[key + ".weight"] = words.astype(np.uint32)
                result[key + ".scales"] = scales.astype(np.float16)
                result[key + ".biases"] = -scales.astype(np.float16)
            else:
                result[key + ".weight"] = spec.floats(i, name).astype(form)
            if name in spec.biases[i]:
                result[key + ".bias"] = spec.biases[i][name]
        for name, gain in spec.norms[i].items():
            result[f"{prefix}{_HF[name]}.weight"] = gain
    return result


def write_folder(folder, spec, form, *, changes=None, edit=None):
    """Write a spec as a Hugging Face folder and return it; see `checkpoints.write`."""
    folder.mkdir(parents=True, exist_ok=True)
    types = {"bitnet": "bitnet", "bitnet-b1.58": "bitnet"}
    config = {
        "model_type": types.get(spec.architecture, spec.architecture),
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.hidden,
        "intermediate_size": spec.feed_forward,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_size,
        "hidden_act": "relu2" if spec.architecture == "bitnet-b1.58" else "silu",
        "max_position_embeddings": 128,
        "rms_norm_eps": 0.0009765625,
        "rope_theta": 20000.0,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    if form == "packed":
        config["quantization_config"] = {"quant_method": "bitnet", "linear_class": "autobitlinear"}
    if form == "mlx":
        size = spec.granularity if spec.granularity > 0 else 128
        config["quantization"] = {"group_size": size, "bits": 2}
    config = {k: v for k, v in (config | (changes or {})).items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = folder_tensors(spec, form)
    if edit:
        edit(tensors)
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder
