"""Readers end to end: every form of the same model gives the same `Model`."""

import dataclasses
import math
import tracemalloc

import gguf
import ml_dtypes
import numpy as np
import pytest
import sparse_folders
from gguf_files import NUMBERS, Spec, gguf_entries, write_folder, write_gguf, write_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from tamale_model import readers
from tamale_model.model import LINEARS, FloatLinear, Linear
from tamale_model.readers import CheckpointError, structure
from tamale_model.readers.arrays import Rows
from tamale_model.readers.layers import Layers

NORMS = (
    "input_norm", "attention_norm", "post_norm", "feed_forward_norm", "query_norm", "key_norm",
)  # fmt: skip


def equal(a, b):
    """Whether two arrays, or Nones, are the same."""
    if a is None or b is None:
        return a is b
    return np.array_equal(np.asarray(a, dtype=np.float32), np.asarray(b, dtype=np.float32))


def check_same(a, b):
    """Require two models to be equal, but for their names."""
    assert dataclasses.replace(a.graph, name="") == dataclasses.replace(b.graph, name="")
    assert len(a.layers) == len(b.layers) == a.graph.layers
    for one, two in zip(a.layers, b.layers, strict=True):
        for name in LINEARS:
            left, right = getattr(one, name), getattr(two, name)
            assert type(left) is type(right)
            for key in ("values", "scales", "weights", "bias", "norm"):
                assert equal(getattr(left, key, None), getattr(right, key, None)), (name, key)
            for key in ("planes", "scale", "group_size"):
                assert getattr(left, key, 0) == getattr(right, key, 0), (name, key)
        for name in NORMS:
            assert equal(getattr(one, name), getattr(two, name)), name
    assert equal(a.embedding, b.embedding) and equal(a.head, b.head)
    assert (a.head is a.embedding) == (b.head is b.embedding) == a.graph.tied
    assert equal(a.final_norm, b.final_norm)


def check_spec(model, spec):
    """Require a model to be what was written."""
    assert model.graph.activation == ("relu2" if spec.architecture == "bitnet-b1.58" else "silu")
    assert model.graph.frequencies[1] == pytest.approx(20000 ** (-2 / spec.head_size))
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            linear = getattr(layer, name)
            assert isinstance(linear, Linear)
            assert np.array_equal(linear.values, spec.values[i][name])
            assert np.array_equal(linear.dequantised(), spec.floats(i, name))
            assert equal(linear.bias, spec.biases[i].get(name))
            assert linear.planes == (2 if spec.top == 2 else 1)
            if spec.granularity == 0:
                assert linear.scales is None and linear.scale == spec.scales[i][name][0, 0]
            else:
                assert linear.group_size == max(spec.granularity, 0)
                assert np.array_equal(linear.scales, spec.scales[i][name])
        for name in NORMS:
            assert equal(getattr(layer, name), spec.norms[i].get(name))
    assert equal(model.embedding, spec.embedding)
    assert equal(model.head, spec.embedding if spec.tied else spec.head)


#: (architecture, scales, largest value, forms in GGUF files, forms in folders)
SAME = [
    ("bitnet-b1.58", 0, 1, ["TQ2_0", "TQ1_0", "I2_S", "Q2_0", "F16", "F32", "PTQ1_0"], ["packed"]),
    ("bitnet", 0, 1, ["TQ2_0", "I2_S"], ["packed"]),
    ("llama", 0, 1, ["TQ2_0", "TQ1_0", "I2_S", "F16"], ["packed", "float16"]),
    ("llama", -1, 1, ["TQ2_0", "Q2_0/128", "F32"], ["float16"]),
    ("llama", 256, 1, ["TQ2_0", "TQ1_0", "F16"], ["float16", "mlx"]),
    ("qwen2", 64, 1, ["Q2_0", "F16"], ["float32", "mlx"]),
    ("qwen3", 128, 1, ["Q2_0/128", "PQ2_0", "PTQ1_0", "F16"], ["float16", "mlx"]),
    ("qwen3", 64, 2, ["Q2_0"], ["mlx"]),
]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("case", SAME, ids=lambda case: "-".join(map(str, case[:3])))
def test_same_model(tmp_path, case, tied):
    """All forms are what was written, hence the same model."""
    architecture, granularity, top, kinds, forms = case
    hidden = 512 if granularity == 256 else 256
    spec = Spec(
        len(kinds) + 7 * granularity + 99,
        architecture,
        granularity,
        top,
        tied,
        hidden,
        heads=hidden // 64,
        feed_forward=2 * hidden,
    )
    models = [readers.read(write_gguf(tmp_path / f"{i}.gguf", spec, kind))
              for i, kind in enumerate(kinds)]  # fmt: skip
    models += [readers.read(write_folder(tmp_path / form, spec, form)) for form in forms]
    for model in models:
        check_spec(model, spec)
        if architecture.startswith("bitnet"):
            # The base of frequencies is the only default that differs between files.
            assert model.graph.rope_theta == 20000
        check_same(models[0], model)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [
            ("bitnet-b1.58", 0, "packed"),
            ("llama", 0, "packed"),
            ("llama", -1, "float32"),
            ("qwen2", 256, "float32"),
            ("qwen3", 256, "mlx"),
        ]
    ),
    st.sampled_from([1, 2, 4]),
)
@settings(max_examples=12, deadline=None)
def test_gguf_and_folder(tmp_path_factory, seed, case, kv_heads):
    """A model written as TQ2_0 and as a folder is the same model."""
    architecture, granularity, form = case
    spec = Spec(
        seed, architecture, granularity, kv_heads=kv_heads, layers=1, feed_forward=256,
        vocabulary=8,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("same")
    one = readers.read(write_gguf(folder / "model.gguf", spec, "TQ2_0"))
    check_same(one, readers.read(write_folder(folder / "folder", spec, form)))


def test_biases(tmp_path):
    """Biases of q and k are in the order of their rows, in a llama file too."""
    spec = Spec(24, "llama", -1, biases_of="qkvo")
    model = readers.read(write_gguf(tmp_path / "m.gguf", spec, "TQ2_0"))
    check_spec(model, spec)
    check_same(model, readers.read(write_folder(tmp_path / "f", spec, "float16")))


def test_the_gguf_package_agrees(tmp_path):
    """Its writer's files are read, and its reader reads the files of these tests."""
    spec = Spec(5, "llama", 256)
    path = write_gguf(tmp_path / "own.gguf", spec, "TQ2_0")
    assert {t.name for t in gguf.GGUFReader(path).tensors} == set(gguf_entries(spec, "TQ2_0")[1])
    metadata, tensors = gguf_entries(spec, "TQ2_0")
    writer = gguf.GGUFWriter(tmp_path / "package.gguf", "llama")
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](key, value)
    for name, (kind, shape, data) in tensors.items():
        number = gguf.GGMLQuantizationType(kind)
        raw = np.frombuffer(data, np.uint8).reshape(*shape[:-1], -1)
        writer.add_tensor(name, raw, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_same(readers.read(path), readers.read(tmp_path / "package.gguf"))


def test_layers_differ(tmp_path):
    """The finest scales and the most planes of any layer are given to all of them."""
    rough, fine = Spec(1, "qwen3", 0), Spec(2, "qwen3", 64, 2)
    for part in (fine.values, fine.scales, fine.norms):
        part[0] = getattr(rough, {id(fine.values): "values", id(fine.scales): "scales",
                                  id(fine.norms): "norms"}[id(part)])[0]  # fmt: skip
    model = readers.read(write_gguf(tmp_path / "m.gguf", fine, "Q2_0"))
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            linear = getattr(layer, name)
            assert (linear.planes, linear.group_size) == (2, 64)
            assert np.array_equal(linear.dequantised(), fine.floats(i, name))


def test_mixed_types(tmp_path):
    """q, k and v read the same activations, so their groups become the same."""
    spec = Spec(3, "llama", 256, hidden=512, heads=8)
    metadata, tensors = gguf_entries(spec, "TQ2_0")
    _, finer = gguf_entries(spec, "Q2_0")
    tensors["blk.0.attn_k.weight"] = finer["blk.0.attn_k.weight"]
    # The scales are those of groups of 256, which Q2_0 says four times: still the same model.
    check_spec(readers.read(write_raw(tmp_path / "a.gguf", metadata, tensors)), spec)
    other = Spec(4, "llama", 64, hidden=512, heads=8)
    tensors["blk.0.attn_k.weight"] = gguf_entries(other, "Q2_0")[1]["blk.0.attn_k.weight"]
    layer = readers.read(write_raw(tmp_path / "b.gguf", metadata, tensors)).layers[0]
    assert {getattr(layer, name).group_size for name in "qkv"} == {64}
    assert layer.o.group_size == 256
    assert np.array_equal(layer.q.dequantised(), spec.floats(0, "q"))
    assert np.array_equal(layer.k.dequantised(), other.floats(0, "k"))


def test_signs_and_zeros_of_scales(tmp_path):
    """A negative scale turns its values, a scale of zero makes them zero."""
    spec = Spec(6, "qwen3", 256, hidden=512)
    for i in range(spec.layers):
        spec.scales[i]["up"][3] *= -1
        spec.scales[i]["up"][5] = 0
    linear = readers.read(write_gguf(tmp_path / "m.gguf", spec, "TQ2_0")).layers[1].up
    assert (linear.scales >= 0).all()
    assert np.array_equal(linear.values[3], -spec.values[1]["up"][3])
    assert not linear.values[5].any()
    assert np.array_equal(linear.dequantised(), spec.floats(1, "up"))


# Embeddings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_embeddings(tmp_path, kind):
    """Plain types are views of the file, coded ones become float32 row by row."""
    spec = Spec(7)
    path = write_gguf(tmp_path / "m.gguf", spec, "TQ2_0", embedding=kind)
    embedding = readers.read(path).embedding
    assert embedding.shape == spec.embedding.shape
    close = {"F32": 0, "F16": 0, "BF16": 0.02, "Q8_0": 0.02, "Q4_0": 0.5, "Q4_1": 0.4}[kind]
    whole = np.asarray(embedding, dtype=np.float32)
    assert np.abs(whole - spec.embedding).max() <= close
    if kind.startswith("Q"):
        assert isinstance(embedding, Rows)
        assert len(embedding) == spec.vocabulary and embedding.size == whole.size
        for index in (3, -1, slice(5, 20, 3), [7, 7, 0], np.array([[1, 2]]), (slice(2), 4),
                      np.int64(9), slice(0), ..., np.arange(spec.vocabulary) % 2 == 0):  # fmt: skip
            assert np.array_equal(embedding[index], whole[index]), index
        assert np.array_equal(embedding.T, whole.T)
        with pytest.raises(IndexError):
            embedding[spec.vocabulary]
    else:
        assert not embedding.flags.owndata and not embedding.flags.writeable


def test_float_model(tmp_path):
    """What is not ternary stays float, in the rows of the model."""
    spec = Spec(8)
    for i in range(spec.layers):
        for name in LINEARS:
            spec.values[i][name] = spec.values[i][name].astype(np.float32)
            spec.values[i][name] += spec.rng.normal(0, 0.1, spec.values[i][name].shape)
    for kind, error in (
        ("F32", 1e-7),
        ("F16", 1e-3),
        ("BF16", 1e-2),
        ("Q8_0", 1e-2),
        ("Q4_1", 0.1),
    ):
        model = readers.read(write_gguf(tmp_path / "m.gguf", spec, kind))
        for i, layer in enumerate(model.layers):
            for name in LINEARS:
                linear = getattr(layer, name)
                assert isinstance(linear, FloatLinear)
                expected = spec.floats(i, name)
                assert (
                    np.abs(linear.dequantised() - expected).max() <= error * np.abs(expected).max()
                )
    folder = readers.read(write_folder(tmp_path / "f", spec, "float16"))
    assert folder.layers[1].q.weights.dtype == np.float16
    assert not folder.layers[1].q.weights.flags.owndata


# Structure ----------------------------------------------------------------------------------------


def ternary(rng, rows, scales):
    """A float matrix of trits with scales [rows, groups] over 768 columns."""
    values = rng.integers(-1, 2, (rows, 768)).astype(np.float32)
    return values * np.repeat(scales, 768 // scales.shape[1], axis=1)


@pytest.mark.parametrize(
    ("shape", "level", "size"),
    [
        ((1, 1), structure.TENSOR, 0),
        ((24, 1), structure.ROW, 0),
        ((1, 6), structure.GROUP, 128),
        ((1, 2), structure.GROUP, 384),
        ((24, 3), structure.GROUP, 256),
        ((24, 24), structure.GROUP, 32),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_find(shape, level, size, dtype):
    rng = np.random.default_rng(9)
    scales = rng.uniform(0.01, 0.02, shape).astype(dtype).astype(np.float32)
    weights = ternary(rng, 24, np.broadcast_to(scales, (24, shape[1])))
    plan, found, group = structure.find(weights)
    assert plan == structure.Plan(level, size) and group == (size or 768)
    again = structure.linear(np.sign(weights).astype(np.int8), found, group, plan)
    assert np.array_equal(again.dequantised(), weights)


def test_find_in_shards_of_rows():
    """TriLM: up to six scales, for blocks of rows or of columns."""
    rng = np.random.default_rng(10)
    scales = np.repeat(rng.uniform(0.01, 0.02, 6).astype(np.float32), 4)[:, None]
    plan, found, _ = structure.find(ternary(rng, 24, scales))
    assert plan.level == structure.ROW and np.array_equal(found, scales)


def test_find_nothing():
    rng = np.random.default_rng(11)
    weights = ternary(rng, 24, np.ones((24, 1), np.float32))
    assert structure.find(weights)[0].level == structure.TENSOR
    weights[23, 767] = 0.5
    assert structure.find(weights)[0].level == structure.FLOAT
    assert structure.find(rng.normal(0, 1, (24, 768)))[0].level == structure.FLOAT
    zeros = structure.find(np.zeros((24, 768), np.float32))
    assert zeros[0].level == structure.TENSOR
    assert structure.linear(np.zeros((24, 768), np.int8), *zeros[1:], zeros[0]).scale == 1


def test_samples_that_mislead(tmp_path):
    """One row between the sampled ones is not ternary: that matrix alone stays float."""
    spec = Spec(12)

    def edit(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][1, 7] = 0.001

    model = readers.read(write_folder(tmp_path / "f", spec, "float32", edit=edit))
    assert isinstance(model.layers[0].up, Linear)
    assert isinstance(model.layers[1].up, FloatLinear)
    assert isinstance(model.layers[1].gate, Linear)


# Rotary embedding ---------------------------------------------------------------------------------


def rewritten(tmp_path, spec, changes, extra=None, kind="TQ2_0"):
    """The model of a GGUF file with changes in its metadata (None removes) and further tensors."""
    metadata, tensors = gguf_entries(spec, kind)
    metadata = {k: v for k, v in (metadata | changes).items() if v is not None}
    return readers.read(write_raw(tmp_path / "m.gguf", metadata, tensors | (extra or {})))


def test_kinds_of_scaling(tmp_path):
    """Without a kind a factor is linear; "none" means none; factors of frequencies come on top."""
    spec = Spec(13)
    plain = 20000.0 ** (-np.arange(32) / 32)
    factor = {"llama.rope.scaling.factor": 4.0}
    model = rewritten(tmp_path, spec, factor)
    assert np.allclose(model.graph.frequencies, plain / 4, rtol=1e-12)
    model = rewritten(tmp_path, spec, factor | {"llama.rope.scaling.type": "none"})
    assert model.graph.rope_frequencies is None
    extra = {"rope_freqs.weight": (0, (32,), np.full(32, 2, np.float32).tobytes())}
    model = rewritten(tmp_path, spec, factor, extra)
    assert np.allclose(model.graph.frequencies, plain / 8, rtol=1e-12)
    # bitnet.cpp's graph looks at no such tensor.
    model = rewritten(tmp_path, Spec(13, "bitnet-b1.58"), {}, extra)
    assert model.graph.rope_frequencies is None


def test_linear_scaling(tmp_path):
    spec = Spec(13)
    plain = 20000.0 ** (-np.arange(32) / 32)
    changes = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    model = rewritten(tmp_path, spec, changes)
    assert np.allclose(model.graph.frequencies, plain / 4, rtol=1e-12)
    for scaling in ({"type": "linear", "factor": 4}, {"rope_type": "linear", "factor": 4.0}):
        for key in ("rope_scaling", "rope_parameters"):
            folder = write_folder(tmp_path / "f", spec, "packed", changes={key: scaling})
            check_same(model, readers.read(folder))


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@pytest.mark.parametrize("scaling", [LLAMA3, YARN], ids=lambda s: s["rope_type"])
def test_scaling_of_transformers(tmp_path, scaling):
    """Frequencies and the attention factor are those of transformers."""
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = transformers.Qwen3Config(
        head_dim=64, max_position_embeddings=128, rope_parameters={"rope_theta": 20000.0, **scaling}
    )
    theirs, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config, "cpu")
    spec = Spec(14, "qwen3", 128)
    changes = {"rope_scaling": scaling}
    model = readers.read(write_folder(tmp_path / "f", spec, "mlx", changes=changes))
    assert np.allclose(model.graph.frequencies, theirs.numpy(), rtol=1e-6)
    gain = spec.norms[0]["query_norm"] * np.float32(factor)
    assert np.allclose(model.layers[0].query_norm, gain, rtol=1e-6)


def test_scaling_in_gguf(tmp_path):
    """llama3 lies in a GGUF file as factors, YaRN by name."""
    spec = Spec(15, "llama")
    changes = {"rope_scaling": LLAMA3}
    folder = readers.read(write_folder(tmp_path / "f", spec, "packed", changes=changes))
    factors = (20000.0 ** (-np.arange(32) / 32) / folder.graph.frequencies).astype(np.float32)
    extra = {"rope_freqs.weight": (0, (32,), factors.tobytes())}
    model = rewritten(tmp_path, spec, {}, extra)
    assert np.allclose(model.graph.frequencies, folder.graph.frequencies, rtol=1e-7)
    assert factors.max() == 8 and factors.min() == 1

    spec = Spec(16, "qwen3", 128)
    folder = write_folder(tmp_path / "g", spec, "mlx", changes={"rope_scaling": YARN})
    names = {"type": "yarn", "factor": 4.0, "original_context_length": 32}
    changes = {f"qwen3.rope.scaling.{key}": value for key, value in names.items()}
    check_same(readers.read(folder), rewritten(tmp_path, spec, changes, kind="PQ2_0"))
    assert readers.read(folder).layers[0].key_norm[0] == pytest.approx(
        spec.norms[0]["key_norm"][0] * (0.1 * math.log(4) + 1)
    )


# Refusals -----------------------------------------------------------------------------------------

GGUF_CASES = {
    "architecture": ({"general.architecture": "gemma3"}, "'gemma3' is not supported.*'qwen3'"),
    "no architecture": ({"general.architecture": None}, "no general.architecture"),
    "experts": ({"llama.expert_count": 8}, "llama.expert_count = 8 is not supported"),
    "window": ({"llama.attention.sliding_window": 64}, "a sliding window of 64 positions"),
    "softcap": ({"llama.attn_logit_softcapping": 50.0}, "attn_logit_softcapping = 50.0 is not"),
    "scale": ({"llama.attention.scale": 0.5}, "llama.attention.scale = 0.5 is not supported"),
    "part of a head": ({"llama.rope.dimension_count": 32}, "dimension_count is 32 where a head"),
    "longrope": ({"llama.rope.scaling.type": "longrope"}, "rope scaling 'longrope' is not"),
    "yarn": (
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0},
        "'yarn' is not supported in a graph without query and key norms",
    ),
    "yarn without sense": (
        {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.yarn_beta_fast": 0.0},
        "rope scaling 'yarn' with beta_fast = 0.0; the file is damaged",
    ),
    "no size": ({"llama.embedding_length": None}, "no llama.embedding_length; the file holds a"),
    "text for a number": ({"llama.block_count": "two"}, "llama.block_count is 'two', of the wrong"),
    "negative": ({"llama.block_count": -1}, "gives layers = -1, it must be 1 or more"),
    "more layers": ({"llama.block_count": 1}, "'blk.1.attn_k.weight' is not part of a 1-layer"),
    "fewer layers": ({"llama.block_count": 3}, "'blk.2.attn_q.weight' is missing.*gguf-split"),
    "heads": ({"llama.attention.head_count": 0}, "0 heads of 256"),
    "uneven": ({"llama.attention.head_count_kv": 3}, "4 heads do not share 3 KV heads evenly"),
    "shape": ({"llama.feed_forward_length": 256}, r"ffn_gate.weight' has shape \[512, 256\]"),
    "epsilon": ({"llama.attention.layer_norm_rms_epsilon": math.inf}, "epsilon is 'inf'"),
    "rotated": ({"prism.hadamard_block": 128}, "hadamard_block says that the weights are rotated"),
    "other graph": ({"general.architecture": "qwen3"}, "no qwen3.embedding_length"),
    "alignment": ({"general.alignment": 24}, "general.alignment is 24, no power of two"),
}  # fmt: skip


@pytest.mark.parametrize("case", GGUF_CASES)
def test_gguf_refusals(tmp_path, case):
    changes, message = GGUF_CASES[case]
    with pytest.raises(CheckpointError, match=message):
        rewritten(tmp_path, Spec(17), changes)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (38, "is of type TL1, which is not supported: .*use the I2_S file"),
        (39, "TL2 of bitnet.cpp, which is not supported: .*use the I2_S, TQ2_0 or F16 file"),
        (16, "is of type IQ2_XXS, which is not supported: use the TQ2_0"),
        (99, "is of type number 99"),
    ],
)
def test_other_types(tmp_path, kind, message):
    metadata, tensors = gguf_entries(Spec(18), "TQ2_0")
    _, shape, data = tensors["blk.1.ffn_up.weight"]
    tensors["blk.1.ffn_up.weight"] = kind, shape, data
    with pytest.raises(CheckpointError, match=message):
        readers.read(write_raw(tmp_path / "m.gguf", metadata, tensors))


def damaged(tensors, name, change):
    """Tensors with the bytes of one changed."""
    kind, shape, data = tensors[name]
    data = bytearray(data)
    change(data)
    return tensors | {name: (kind, shape, bytes(data))}


def set_bytes(at, value):
    def change(data):
        data[at : at + len(value)] = value

    return change


@pytest.mark.parametrize(
    ("kind", "name", "change", "message"),
    [
        ("TQ2_0", "blk.0.ffn_up.weight", set_bytes(64, b"\x00\x7c"), "not finite"),
        ("I2_S", "blk.0.ffn_up.weight", set_bytes(0, b"\xff"), "a code of 3, which is no trit"),
        ("I2_S", "blk.0.ffn_up.weight", set_bytes(512 * 64, bytes(4)), "its scale is 0.0"),
        ("F16", "blk.0.ffn_up.weight", set_bytes(0, b"\x00\x7c"), "not finite"),
        ("TQ2_0", "token_embd.weight", set_bytes(2, b"\x00\xfc"), "not finite"),
        ("TQ2_0", "output_norm.weight", set_bytes(2, b"\xc0\x7f"), "not finite"),
    ],
)
def test_damaged_values(tmp_path, kind, name, change, message):
    metadata, tensors = gguf_entries(Spec(19), kind)
    path = write_raw(tmp_path / "m.gguf", metadata, damaged(tensors, name, change))
    with pytest.raises(CheckpointError, match=message):
        readers.read(path).layers[0]


@pytest.mark.parametrize("part", [0, 3, 4, 23, 24, 200, 0.1, 0.5, 0.99])
def test_truncated_gguf(tmp_path, part):
    path = write_gguf(tmp_path / "m.gguf", Spec(20), "TQ2_0")
    data = path.read_bytes()
    path.write_bytes(data[: part if isinstance(part, int) else int(len(data) * part)])
    with pytest.raises(CheckpointError, match="not a complete GGUF file.*copy it again"):
        readers.read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GGML" + bytes(99), "starts with b'GGML', so it is no GGUF file"),
        (b"GGUF\x01\0\0\0" + bytes(99), "GGUF version 1 is not supported"),
        (b"GGUF\0\0\0\x03" + bytes(99), "big-endian"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "counts of 18446744073709551615 tensors"),
        (b"GGUF\x03\0\0\0" + bytes(16), "no general.architecture; the file holds no model"),
    ],
)
def test_other_files(tmp_path, data, message):
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        readers.read(path)


def test_paths(tmp_path):
    spec = Spec(21)
    path = write_gguf(tmp_path / "name.gguf", spec, "TQ2_0")
    assert readers.read(path).graph.name == "name"
    assert readers.read(tmp_path).graph.name == "name"  # a folder that holds one GGUF file
    (tmp_path / "other").mkdir()
    path.rename(tmp_path / "other" / "file")  # the magic decides
    assert readers.read(tmp_path / "other" / "file").graph.name == "file"
    folder = write_folder(tmp_path / "hf", spec, "packed")
    assert readers.read(folder / "model.safetensors").graph.name == "hf"
    write_gguf(folder / "a.gguf", spec, "TQ2_0")
    assert readers.read(folder).graph.name == "hf"
    (folder / "config.json").unlink()
    write_gguf(folder / "b.gguf", spec, "TQ2_0")
    with pytest.raises(CheckpointError, match="holds 2 GGUF files; pass the one that is meant"):
        readers.read(folder)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="starts with b'hell', so it is no GGUF file; pass"):
        readers.read(tmp_path / "text")


def test_sizes_of_a_type_number(tmp_path):
    """Number 42 is a block of 64 or of 128 weights; distances between tensors decide."""
    for granularity, kind in ((64, "Q2_0"), (128, "Q2_0/128")):
        spec = Spec(22, "qwen3", granularity)
        for pad in (False, True):
            metadata, tensors = gguf_entries(spec, kind)
            assert all(entry[0] in (0, 1, NUMBERS[kind]) for entry in tensors.values())
            path = write_raw(tmp_path / "m.gguf", metadata, tensors, pad_last=pad)
            check_spec(readers.read(path), spec)


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["packed", "master"])
def test_memory(tmp_path, form):
    """A layer of BitNet b1.58 2B-4T and its embedding are read in some hundred megabytes."""
    size = sparse_folders.write(tmp_path / "m", form, layers=1, vocabulary=16384)
    assert size > 100e6
    tracemalloc.start()
    try:
        model = readers.read(tmp_path / "m")
        _, opened = tracemalloc.get_traced_memory()
        assert opened < 50e6
        layer = model.layers[0]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert layer.down.shape == (2560, 6912) and peak < 500e6
    assert model.embedding.dtype == ml_dtypes.bfloat16 and not model.embedding.flags.owndata


def test_layers_are_kept_while_small():
    """Small models are decoded once, of large ones only the last layer stays."""
    read = []

    @dataclasses.dataclass
    class Fake:
        array: np.ndarray

    def load(number):
        read.append(number)
        return Fake(np.zeros(100, np.uint8))

    layers = Layers(4, load, kept_bytes=250)
    assert [len(layers), layers[-1] is layers[3]] == [4, True]
    with pytest.raises(IndexError, match="layer 4 of 4"):
        layers[4]
    for _ in range(2):
        assert [layer is layers[i] for i, layer in enumerate(layers)] == [True] * 4
    # 3 and 0 are kept, 1 and 2 read in each walk, never twice in a row.
    assert read == [3, 0, 1, 2, 1, 2]
    assert len(layers[1:3]) == 2


@pytest.mark.parametrize("name", ["scale", "weight_scale"])
def test_scale_beside_a_tensor(tmp_path, name):
    """llama.cpp multiplies a product by an optional tensor of one element."""
    spec = Spec(25, "bitnet")
    extra = {f"blk.1.ffn_up.{name}": (0, (1,), np.float32(0.25).tobytes())}
    model = rewritten(tmp_path, spec, {}, extra)
    assert model.layers[1].up.scale == spec.scales[1]["up"][0, 0] * 0.25
    assert model.layers[0].up.scale == spec.scales[0]["up"][0, 0]
    extra = {f"blk.1.ffn_up.{name}": (0, (1,), np.float32(-1).tobytes())}
    with pytest.raises(CheckpointError, match="it must be positive"):
        rewritten(tmp_path, spec, {}, extra)
