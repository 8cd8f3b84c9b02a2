"""Checkpoint reader: every form, and every way in which a folder can be unusable."""

import json

import checkpoints
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamale_model import readers
from tamale_model.readers import CheckpointError

LAYER = "model.layers.1."


def test_scale_of_both_classes(tmp_path):
    """The same weights under both meanings of weight_scale give the same model."""
    multiply = readers.read(checkpoints.write(tmp_path / "a", "autobitlinear"))
    divide = readers.read(checkpoints.write(tmp_path / "b", "bitlinear"))
    for name in ("q", "k", "v", "o", "gate", "up", "down"):
        a, b = getattr(multiply.layers[1], name), getattr(divide.layers[1], name)
        assert np.array_equal(a.values, b.values)
        assert set(np.unique(a.values)) == {-1, 0, 1}
        assert a.scale == pytest.approx(b.scale, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_unpacked_trits(tmp_path, dtype):
    """Float weights of -1, 0 and 1 with a weight_scale are trits, not master weights."""
    packed = readers.read(checkpoints.write(tmp_path / "a", "autobitlinear"))

    def unpack(tensors):
        for name, array in tensors.items():
            if array.dtype == np.uint8:
                tensors[name] = readers.unpack(array).astype(dtype)

    plain = readers.read(checkpoints.write(tmp_path / "b", "autobitlinear", edit=unpack))
    assert np.array_equal(packed.layers[0].up.values, plain.layers[0].up.values)
    assert packed.layers[0].up.scale == plain.layers[0].up.scale


def test_shards_and_head(tmp_path):
    one = readers.read(checkpoints.write(tmp_path / "a", "autobitlinear"))
    three = readers.read(checkpoints.write(tmp_path / "b", "autobitlinear", shards=3))
    assert np.array_equal(one.layers[1].down.values, three.layers[1].down.values)
    assert not np.array_equal(one.head, one.embedding)
    tied = readers.read(checkpoints.write(tmp_path / "c", "autobitlinear", tied=True))
    assert tied.head is tied.embedding
    assert tied.graph.eos == (1, 2)


def test_unpack_order():
    packed = np.array([[0b10_01_00_10, 0b01_01_01_01]], dtype=np.uint8)
    assert readers.unpack(packed).tolist() == [[1, 0], [-1, 0], [0, 0], [1, 0]]
    with pytest.raises(CheckpointError, match="field of 3"):
        readers.unpack(np.array([[0b11]], dtype=np.uint8))


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_master_weights(seed, size):
    weight = (np.random.default_rng(seed).normal(0, size, (8, 12))).astype(np.float32)
    values, mean = readers.quantise_master(weight)
    assert mean == pytest.approx(np.abs(weight.astype(np.float64)).mean(), rel=1e-6)
    assert (np.abs(weight[values == 0]) <= 0.501 * mean).all()
    assert (weight[values == 1] >= 0.499 * mean).all()
    assert (weight[values == -1] <= -0.499 * mean).all()


def drop(name):
    return lambda tensors: tensors.pop(name)


def change(name, function):
    def edit(tensors):
        tensors[name] = function(tensors[name])

    return edit


EDITS = {
    "missing tensor": (
        drop(LAYER + "mlp.up_proj.weight"),
        r"'model.layers.1.mlp.up_proj.weight' is missing.*lacks a file",
    ),
    "missing scale": (
        drop(LAYER + "mlp.up_proj.weight_scale"),
        r"up_proj.weight_scale' is missing",
    ),
    "missing head": (drop("lm_head.weight"), r"'lm_head.weight' is missing"),
    "shape of a norm": (
        change("model.norm.weight", lambda t: t[:-1]),
        r"'model.norm.weight' has shape \[63\], config.json asks for \[64\]",
    ),
    "shape of packed weights": (
        change(LAYER + "mlp.up_proj.weight", lambda t: t[:-1]),
        r"up_proj.weight has shape \[28, 64\]",
    ),
    "zero scale": (
        change(LAYER + "mlp.up_proj.weight_scale", lambda t: t * 0),
        r"up_proj.weight_scale is 0.0, it must be positive",
    ),
    "infinite scale": (
        change(LAYER + "mlp.up_proj.weight_scale", lambda t: t * np.inf),
        r"up_proj.weight_scale is inf",
    ),
    "not a trit": (
        change(LAYER + "mlp.up_proj.weight", lambda t: t | 3),
        "field of 3",
    ),
    "not finite": (
        change("model.norm.weight", lambda t: t * np.nan),
        "not finite; the checkpoint is damaged",
    ),
    "bias": (
        lambda t: t.update({LAYER + "mlp.up_proj.bias": np.zeros(116, np.float32)}),
        "up_proj has a bias",
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_bad_tensors(tmp_path, case):
    edit, message = EDITS[case]
    folder = checkpoints.write(tmp_path / "model", "autobitlinear", edit=edit)
    with pytest.raises(CheckpointError, match=message):
        readers.read(folder)


CONFIGS = {
    "model_type": ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported.*'bitnet'"),
    "other graph": ({"model_type": "llama"}, "ffn_sub_norm.weight' is not part of .*'llama'"),
    "no model_type": ({"model_type": None}, "model_type None is not supported"),
    "hidden_act": ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported.*'relu2'"),
    "rope_scaling": ({"rope_scaling": {"type": "dynamic"}}, "scaling 'dynamic' is not .*'linear'"),
    "no factor": ({"rope_scaling": {"type": "linear"}}, "config.json has no 'factor'"),
    "yarn": (
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}},
        "'yarn' is not supported in a graph without query and key norms",
    ),
    "linear_class": (
        {"quantization_config": {"linear_class": "other"}},
        "linear_class 'other' is unknown; use bitlinear or autobitlinear",
    ),
    "use_rms_norm": ({"quantization_config": {"use_rms_norm": True}}, "rms_norm.weight' is miss"),
    "other quantiser": (
        {"quantization_config": {"quant_method": "gptq"}},
        "quant_method 'gptq' is not supported; use the float checkpoint",
    ),
    "window": ({"sliding_window": 64, "use_sliding_window": True}, "sliding window of 64 pos"),
    "experts": ({"num_local_experts": 8}, "num_local_experts = 8 is not supported"),
    "softcap": ({"attn_logit_softcapping": 30.0}, "attn_logit_softcapping = 30.0 is not supp"),
    "huge": ({"vocab_size": 10**30}, "vocabulary = 1000000000000000000000000000000, which no"),
    "odd head": ({"head_dim": 15}, "a head size of 15"),
    "epsilon": ({"rms_norm_eps": -1e-5}, "norm_epsilon = -1e-05; the file is damaged"),
    "theta": ({"rope_theta": -1.0}, "rope_theta = -1.0; the file is damaged"),
    "missing size": ({"hidden_size": None}, "config.json has no 'hidden_size'; copy"),
    "text for a number": ({"hidden_size": "wide"}, "value of the wrong kind.*wide"),
    "zero heads": ({"num_attention_heads": 0}, "value of the wrong kind"),
    "negative layers": ({"num_hidden_layers": -1}, "layers = -1, it must be 1 or more"),
    "uneven heads": ({"num_key_value_heads": 3}, "4 heads do not share 3 KV heads evenly"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_config(tmp_path, case):
    changes, message = CONFIGS[case]
    folder = checkpoints.write(tmp_path / "model", "autobitlinear", changes=changes)
    with pytest.raises(CheckpointError, match=message):
        readers.read(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not JSON .*the file is damaged"), ("[1]", "holds no JSON object"), ("", "not JSON")],
)
def test_bad_json(tmp_path, text, message):
    folder = checkpoints.write(tmp_path / "model", "autobitlinear")
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        readers.read(folder)


def test_folders(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere: not a folder; pass the folder"):
        readers.read(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no config.json; pass the folder"):
        readers.read(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(checkpoints.CONFIG))
    with pytest.raises(CheckpointError, match="no .safetensors file; pass a Hugging Face folder"):
        readers.read(tmp_path)


@pytest.mark.parametrize("part", [0, 4, 100, 0.5, 0.99])
def test_truncated_file(tmp_path, part):
    folder = checkpoints.write(tmp_path / "model", "autobitlinear")
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: part if isinstance(part, int) else int(len(data) * part)])
    with pytest.raises(CheckpointError, match="not a complete safetensors file.*copy it again"):
        readers.read(folder)


def test_bad_shards(tmp_path):
    folder = checkpoints.write(tmp_path / "model", "autobitlinear", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="00002.safetensors: the index names this shard"):
        readers.read(folder)
    index = folder / "model.safetensors.index.json"
    for text in ("{", "{}", '{"weight_map": [1]}', "[]"):
        index.write_text(text)
        with pytest.raises(CheckpointError, match="not a safetensors index"):
            readers.read(folder)
