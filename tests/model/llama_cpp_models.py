"""Small random GGUF files that llama.cpp evaluates, and the same models in neutral form.

Recorded outputs of llama.cpp (``data/``, made by ``record_llama_cpp.py``) belong to models that are
made anew on every run. So the numbers come from ``numpy.random.RandomState``, whose streams are
frozen for ever, and from additions, multiplications and roots, which round alike everywhere.
"""

import dataclasses
import zlib

import numpy as np
from tamale_model.model import FloatLinear, Graph, Layer, Linear, Model

__all__ = [
    "NAMES",
    "FLOAT_TYPES",
    "SPECS",
    "TYPES",
    "Spec",
    "blocks",
    "build",
    "checksum",
    "interleave",
    "write",
]

#: Numbers of ternary types of tensors in GGUF, and weights that share a scale.
TYPES = {"TQ1_0": (34, 256), "TQ2_0": (35, 256), "Q2_0": (42, 64)}

#: Numbers of types that hold floats, and whose activations llama.cpp quantises to Q8_0 (or Q8_1).
FLOAT_TYPES = {"Q4_0": 2, "Q4_1": 3, "Q8_0": 8}

#: Names of matrices in GGUF.
NAMES = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
_NORMS = {
    "input_norm": "attn_norm", "attention_norm": "attn_sub_norm", "post_norm": "ffn_norm",
    "feed_forward_norm": "ffn_sub_norm", "query_norm": "attn_q_norm", "key_norm": "attn_k_norm",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a file is like; the name tells it too.

    Parameters
    ----------
    architecture : str
        ``general.architecture``: bitnet (SiLU and sub-norms), llama, qwen2 (biases) or qwen3
        (norms of queries and keys).
    kind : str
        A key of `TYPES` or `FLOAT_TYPES`.
    rope_factors : bool
        Whether the file has a ``rope_freqs.weight``, which divides the rotations.
    """

    architecture: str
    kind: str
    seed: int
    tied: bool = True
    rope_factors: bool = False
    hidden: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    feed_forward: int = 512
    vocabulary: int = 48
    context: int = 256
    rope_theta: float = 10000.0
    epsilon: float = 1e-5

    @property
    def name(self):
        return f"{self.architecture}-{self.kind}".lower()


#: One file per graph and type that llama.cpp evaluates.
SPECS = [
    Spec("bitnet", "TQ1_0", 1),
    Spec("bitnet", "TQ2_0", 2),
    Spec("llama", "TQ1_0", 3, tied=False),
    Spec("llama", "TQ2_0", 4, rope_factors=True),
    Spec("llama", "Q2_0", 5, tied=False, feed_forward=320),
    Spec("qwen2", "TQ2_0", 6, tied=False),
    Spec("qwen3", "TQ2_0", 7, heads=6, kv_heads=3, head_size=128),
    Spec("llama", "Q8_0", 8, hidden=96, heads=3, kv_heads=1, head_size=32, feed_forward=160),
    Spec("qwen2", "Q4_1", 9, hidden=96, heads=3, kv_heads=1, head_size=32, feed_forward=160),
]


def _bell(rng, shape):
    """Sums of four uniform numbers, deviation 0.7: like a Gaussian, without its logarithms."""
    return rng.uniform(-0.6, 0.6, (4, *shape)).sum(axis=0).astype(np.float32)


def _linear(rng, spec, rows, k, gain, bias):
    bias = rng.uniform(-0.9, 0.9, rows).astype(np.float32) if bias else None
    if spec.kind in FLOAT_TYPES:
        import gguf

        kind = gguf.GGMLQuantizationType[spec.kind]
        weights = _bell(rng, (rows, k)) * np.float32(gain / (0.7 * np.sqrt(k)))
        weights = gguf.quants.dequantize(gguf.quants.quantize(weights, kind), kind)
        return FloatLinear(weights, bias)
    group = TYPES[spec.kind][1]
    draw = rng.random_sample((rows, k))
    values = (draw > 0.35).astype(np.int8) + (draw > 0.65) - 1
    if spec.kind == "Q2_0":
        values[draw > 0.975] = 2
        values[(draw > 0.35) & (draw < 0.375)] = -1  # keeps the mean at zero
    values = values.astype(np.int8)
    deviation = np.sqrt(np.mean(values.astype(np.float64) ** 2) * k)
    scales = rng.uniform(0.6, 1.4, (rows, k // group)) * gain / deviation
    scales = scales.astype(np.float16).astype(np.float32)
    return Linear(
        values,
        2 if spec.kind == "Q2_0" else 1,
        1.0,
        scales,
        group,
        bias,
    )


def build(spec):
    """Return the `Model` of a `Spec`; rows of q and k are in half-split order."""
    rng = np.random.RandomState(spec.seed)
    query, kv = spec.heads * spec.head_size, spec.kv_heads * spec.head_size

    def norm(n):
        return rng.uniform(0.6, 1.6, n).astype(np.float32)

    bitnet, biases = spec.architecture == "bitnet", spec.architecture == "qwen2"
    layers = []
    for _ in range(spec.layers):
        layer = {
            name: _linear(rng, spec, rows, k, gain, biases and name in "qkv")
            for name, rows, k, gain in (
                ("q", query, spec.hidden, 1.2),
                ("k", kv, spec.hidden, 1.0),
                ("v", kv, spec.hidden, 1.0),
                ("o", spec.hidden, query, 0.35),
                ("gate", spec.feed_forward, spec.hidden, 1.5),
                ("up", spec.feed_forward, spec.hidden, 1.0),
                ("down", spec.hidden, spec.feed_forward, 0.35),
            )
        }
        layer |= {"input_norm": norm(spec.hidden), "post_norm": norm(spec.hidden)}
        layer["attention_norm"] = norm(query) if bitnet else None
        layer["feed_forward_norm"] = norm(spec.feed_forward) if bitnet else None
        if spec.architecture == "qwen3":
            layer |= {"query_norm": norm(spec.head_size), "key_norm": norm(spec.head_size)}
        layers.append(Layer(**layer))
    embedding = _bell(rng, (spec.vocabulary, spec.hidden))
    head = embedding if spec.tied else _bell(rng, embedding.shape)
    signs = rng.choice([-1, 1], spec.hidden)
    final = (signs * norm(spec.hidden) * 3 / (0.7 * np.sqrt(spec.hidden))).astype(np.float32)
    graph = Graph(
        name=spec.name,
        hidden=spec.hidden,
        layers=spec.layers,
        heads=spec.heads,
        kv_heads=spec.kv_heads,
        head_size=spec.head_size,
        feed_forward=spec.feed_forward,
        vocabulary=spec.vocabulary,
        context=spec.context,
        rope_theta=spec.rope_theta,
        norm_epsilon=spec.epsilon,
        activation="silu",
        tied=spec.tied,
    )
    if spec.rope_factors:
        graph.rope_frequencies = tuple(graph.frequencies / _rope_factors(spec))
    return Model(graph, embedding, head, layers, final)


def _rope_factors(spec):
    """Like those of Llama 3: high frequencies stay, low ones are divided by 8."""
    half = spec.head_size // 2
    return np.where(np.arange(half) < half // 2, 1, 8).astype(np.float32)


def checksum(model):
    """Return the CRC-32 of the numbers of a `Model`."""
    crc = 0
    arrays = [model.embedding, model.head, model.final_norm]
    for layer in model.layers:
        for part in vars(layer).values():
            if isinstance(part, Linear):
                arrays += [part.values, part.scales, part.bias]
            elif isinstance(part, FloatLinear):
                arrays += [part.weights, part.bias]
            else:
                arrays.append(part)
    for array in arrays:
        if array is not None:
            crc = zlib.crc32(np.ascontiguousarray(array).tobytes(), crc)
    return crc


def blocks(linear, kind):
    """Return uint8 [rows, bytes]: a matrix as GGUF stores it."""
    if kind == "Q2_0":  # which the package does not know
        rows, k = linear.shape
        codes = (linear.values + 1).astype(np.uint8).reshape(rows, k // 64, 16, 4)
        packed = codes[..., 0] | codes[..., 1] << 2 | codes[..., 2] << 4 | codes[..., 3] << 6
        scales = linear.scales.astype("<f2").view(np.uint8).reshape(rows, k // 64, 2)
        return np.concatenate([scales, packed], axis=2).reshape(rows, -1)
    import gguf

    return gguf.quants.quantize(linear.dequantised(), gguf.GGMLQuantizationType[kind])


def interleave(array, heads):
    """Rows from half-split to the pairs of neighbours that the llama graph rotates in GGUF."""
    return np.ascontiguousarray(
        array.reshape(heads, 2, -1, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
    )


def write(spec, path):
    """Write the GGUF file of a `Spec`; embedding, head and norms are F32."""
    import gguf

    model = build(spec)
    graph = model.graph
    writer = gguf.GGUFWriter(path, spec.architecture)
    writer.add_name(spec.name)
    writer.add_context_length(graph.context)
    writer.add_embedding_length(graph.hidden)
    writer.add_block_count(graph.layers)
    writer.add_feed_forward_length(graph.feed_forward)
    writer.add_head_count(graph.heads)
    writer.add_head_count_kv(graph.kv_heads)
    writer.add_key_length(graph.head_size)
    writer.add_value_length(graph.head_size)
    writer.add_rope_dimension_count(graph.head_size)
    writer.add_rope_freq_base(graph.rope_theta)
    writer.add_layer_norm_rms_eps(graph.norm_epsilon)
    writer.add_vocab_size(graph.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    writer.add_tensor("token_embd.weight", model.embedding)
    writer.add_tensor("output_norm.weight", model.final_norm)
    if not graph.tied:
        writer.add_tensor("output.weight", model.head)
    if spec.rope_factors:
        writer.add_tensor("rope_freqs.weight", _rope_factors(spec))
    for i, layer in enumerate(model.layers):
        for name, stored in NAMES.items():
            linear = getattr(layer, name)
            if spec.architecture == "llama" and name in "qk":
                heads = graph.heads if name == "q" else graph.kv_heads
                parts = ("weights",) if spec.kind in FLOAT_TYPES else ("values", "scales")
                linear = dataclasses.replace(
                    linear, **{part: interleave(getattr(linear, part), heads) for part in parts}
                )
            data = blocks(linear, spec.kind)
            # The writer knows no Q2_0 yet: bytes of another type keep the shape as given.
            writer.add_tensor(
                f"blk.{i}.{stored}.weight",
                data.view(np.int8),
                raw_shape=linear.shape,
                raw_dtype=FLOAT_TYPES.get(spec.kind) or TYPES[spec.kind][0],
            )
            if linear.bias is not None:
                writer.add_tensor(f"blk.{i}.{stored}.bias", linear.bias)
        for name, stored in _NORMS.items():
            if getattr(layer, name) is not None:
                writer.add_tensor(f"blk.{i}.{stored}.weight", getattr(layer, name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
