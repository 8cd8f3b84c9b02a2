"""Hugging Face folders of every publisher, compared with transformers where it runs them."""

import json

import checkpoints
import numpy as np
import pytest
from gguf_files import Spec, write_folder
from random_models import random_tokens
from tamale_model import readers
from tamale_model.model import LINEARS, FloatLinear, Linear
from tamale_model.readers import CheckpointError
from tamale_model.reference import Reference

SIZES = {
    "vocab_size": 90, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip


@pytest.fixture(scope="module")
def torch():
    """The reference, single-threaded."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    torch.set_num_threads(1)
    torch._dynamo.config.disable = True
    torch.manual_seed(7)
    return torch


def reload(torch, folder):
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def logits(torch, model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def check_logits(torch, folder, arithmetic, bound):
    """Require the reference on our `Model` to be close to transformers on the folder."""
    model = readers.read(folder)
    theirs = reload(torch, folder)
    tokens = random_tokens(3, model.graph.vocabulary, 40)
    expected = logits(torch, theirs, tokens)
    reference = Reference(model, arithmetic=arithmetic)
    ours = reference.logits(reference.forward(tokens, reference.cache()))
    assert np.abs(ours - expected).max() <= bound * np.abs(expected).max()
    return model


FLOATS = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "llama, llama3": {
        "rope_parameters": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32, "rope_theta": 5000.0,
        }
    },
    "llama, linear": {"rope_parameters": {"rope_type": "linear", "factor": 3.0,
                                          "rope_theta": 5000.0}},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {"head_dim": 32, "tie_word_embeddings": True},
    "qwen3, yarn": {
        "head_dim": 32,
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5000.0,
                            "original_max_position_embeddings": 32},
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", FLOATS)
def test_float_models(tmp_path, torch, case):
    """Plain float checkpoints, as transformers saves and evaluates them."""
    import transformers

    config = transformers.AutoConfig.for_model(case.split(",")[0], **SIZES, **FLOATS[case])
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "norm" in name:
                parameter.copy_(torch.rand_like(parameter) + 0.5)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn_like(parameter))
            else:
                parameter.mul_(4)
    theirs.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    assert (tmp_path / "model" / "model.safetensors.index.json").is_file()
    model = check_logits(torch, tmp_path / "model", "float", 1e-4)
    assert isinstance(model.layers[1].down, FloatLinear)
    assert model.graph.name == "model"


def packed_llama(folder, *, divide, own_norms=False, seed=5):
    """Write a llama of packed trits, as HF1BitLLM and Falcon3-1.58bit are published."""
    rng = np.random.default_rng(seed)
    spec = Spec(
        seed, "llama", hidden=64, feed_forward=96, heads=4, head_size=16, vocabulary=90,
        kv_heads=2,
    )  # fmt: skip

    def edit(tensors):
        for name in list(tensors):
            if name.endswith("weight_scale") and divide:
                tensors[name] = 1 / tensors[name]
            if name.endswith("proj.weight") and own_norms:
                k = tensors[name].shape[1]
                gain = rng.lognormal(0, 0.3, k).astype(np.float32)
                tensors[name[: -len("weight")] + "rms_norm.weight"] = gain
            if tensors[name].dtype == np.float16:
                tensors[name] = tensors[name].astype(np.float32)

    quantisation = {
        "quant_method": "bitnet",
        "linear_class": "bitlinear" if divide else "autobitlinear",
        "quantization_mode": "offline",
        "modules_to_not_convert": ["lm_head"],
    }
    if own_norms:
        quantisation |= {"use_rms_norm": True, "rms_norm_eps": 0.001}
    if divide:
        del quantisation["linear_class"]  # published files do without
    changes = {"quantization_config": quantisation, "head_dim": None, "rms_norm_eps": 1e-5}
    return write_folder(folder, spec, "packed", changes=changes, edit=edit), spec


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("own_norms", [False, True])
@pytest.mark.parametrize("divide", [False, True])
def test_packed_llama(tmp_path, torch, divide, own_norms):
    """HF1BitLLM, Falcon3-1.58bit: both meanings of the scale, and norms before matrices."""
    folder, spec = packed_llama(tmp_path / "m", divide=divide, own_norms=own_norms)
    # Rounding of float32 can flip an int8 code, so the bound is that of one code of 127.
    model = check_logits(torch, folder, "hf", 0.02)
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            linear = getattr(layer, name)
            assert np.array_equal(linear.values, spec.values[i][name])
            assert linear.scale == pytest.approx(spec.scales[i][name][0, 0], rel=1e-6)
            assert (linear.norm is not None) == own_norms
    if own_norms:
        assert model.graph.linear_norm_epsilon == 0.001
        assert len(model.layers[0].down.norm) == 96


def bitnet_of_1bitllm(folder):
    """Write master weights under the names of 1bitLLM/bitnet_b1_58."""
    folder.mkdir()
    config = SIZES | {
        "architectures": ["BitnetForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "weight_bits": 1, "input_bits": 8,
    }  # fmt: skip
    tensors = checkpoints.tensors("master", 3, {**checkpoints.CONFIG, **SIZES})
    names = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
    for name in list(tensors):
        for old, new in names.items():
            if old in name:
                tensors[name.replace(old, new)] = tensors.pop(name)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    (folder / "config.json").write_text(json.dumps(config))
    checkpoints.save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.filterwarnings("ignore")
def test_1bitllm(tmp_path, torch):
    """Its own names; the graph is BitNet's with SiLU, which transformers' BitNet evaluates."""
    model = readers.read(bitnet_of_1bitllm(tmp_path / "a"))
    assert model.graph.activation == "silu" and model.graph.rope_theta == 10000
    changes = SIZES | {"hidden_act": "silu", "rope_theta": 10000.0}
    config = {**checkpoints.CONFIG, **SIZES}

    def edit(tensors):
        tensors.update(checkpoints.tensors("master", 3, config))

    twin = checkpoints.write(tmp_path / "b", "master", seed=3, changes=changes, edit=edit)
    same = check_logits(torch, twin, "hf", 0.02)
    for one, two in zip(model.layers, same.layers, strict=True):
        for name in LINEARS:
            left, right = getattr(one, name), getattr(two, name)
            assert isinstance(left, Linear) and left.scale == right.scale
            assert np.array_equal(left.values, right.values)
        assert np.array_equal(one.attention_norm, two.attention_norm)
        assert np.array_equal(one.feed_forward_norm, two.feed_forward_norm)


def test_trilm(tmp_path):
    """Spectra's TriLM: float16, a scale for each of six shards, of rows or of columns."""
    spec = Spec(8, "llama", hidden=384, heads=6, kv_heads=6, feed_forward=768)
    for i in range(spec.layers):
        for name in LINEARS:
            rows, k = spec.values[i][name].shape
            shards = spec.rng.uniform(0.01, 0.02, 6).astype(np.float16).astype(np.float32)
            if name in ("o", "down"):
                scales = np.broadcast_to(shards, (rows, 6))
            else:
                scales = np.repeat(shards, rows // 6)[:, None]
            spec.scales[i][name] = np.array(scales)
    model = readers.read(write_folder(tmp_path / "m", spec, "float16"))
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            linear = getattr(layer, name)
            size = {"o": 64, "down": 128}.get(name, 0)
            assert (linear.group_size, linear.planes) == (size, 1)
            assert np.array_equal(linear.scales, spec.scales[i][name])
            assert np.array_equal(linear.dequantised(), spec.floats(i, name))


MLX = {
    "biases": (
        lambda t: t["model.layers.0.mlp.up_proj.biases"].__imul__(2),
        "up_proj: its biases are not minus its scales, so its weights are no trits",
    ),
    "scales": (
        lambda t: t.update({"model.layers.0.mlp.up_proj.scales": np.ones((512, 3), np.float16)}),
        r"up_proj: scales \[512, 3\] and biases \[512, 2\] do not suit \[512, 256\]",
    ),
    "shape": (
        lambda t: t.update({"model.layers.0.mlp.up_proj.weight": np.ones((512, 8), np.uint32)}),
        r"shape \[512, 8\], config.json asks for \[512, 16\]",
    ),
    "finite": (
        lambda t: t["model.layers.0.mlp.up_proj.scales"].fill(np.inf),
        "up_proj' has values that are not finite",
    ),
}


@pytest.mark.parametrize("case", MLX)
def test_damaged_mlx(tmp_path, case):
    edit, message = MLX[case]
    folder = write_folder(tmp_path / "m", Spec(9, "qwen3", 128), "mlx", edit=edit)
    with pytest.raises(CheckpointError, match=message):
        readers.read(folder)


def test_mlx_of_more_bits(tmp_path):
    changes = {"quantization": {"group_size": 64, "bits": 4}}
    folder = write_folder(tmp_path / "m", Spec(9, "qwen3", 128), "mlx", changes=changes)
    with pytest.raises(CheckpointError, match="MLX codes of 4 bits; 2 bits can be ternary"):
        readers.read(folder)


def test_mlx_embedding(tmp_path):
    """Ternary-Bonsai's embedding has codes too: rows are decoded when they are asked for."""
    spec = Spec(10, "qwen3", 128, tied=True)
    values = spec.rng.integers(-1, 2, (spec.vocabulary, 256)).astype(np.int8)
    scales = spec.rng.uniform(0.5, 1, (spec.vocabulary, 2)).astype(np.float16)

    def edit(tensors):
        codes = (values + 1).astype(np.uint32).reshape(spec.vocabulary, -1, 16)
        words = sum(codes[:, :, j] << np.uint32(2 * j) for j in range(16))
        tensors["model.embed_tokens.weight"] = words.astype(np.uint32)
        tensors["model.embed_tokens.scales"] = scales
        tensors["model.embed_tokens.biases"] = -scales

    model = readers.read(write_folder(tmp_path / "m", spec, "mlx", edit=edit))
    expected = values * np.repeat(scales.astype(np.float32), 128, axis=1)
    assert np.array_equal(model.embedding[[5, 0]], expected[[5, 0]])
    assert np.array_equal(np.asarray(model.head), expected)


def test_experts(tmp_path):
    name = "model.layers.0.block_sparse_moe.gate.weight"
    folder = write_folder(
        tmp_path / "m", Spec(9), "float16", edit=lambda t: t.update({name: np.ones((8, 256))})
    )
    with pytest.raises(CheckpointError, match="a mixture of experts is not supported"):
        readers.read(folder)


def test_types_of_tensors(tmp_path):
    """int8 weights, or an embedding of integers, are nothing that is known."""
    for name in ("model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"):

        def edit(tensors, name=name):
            tensors[name] = tensors[name].astype(np.int8)

        folder = write_folder(tmp_path / name, Spec(9), "float16", edit=edit)
        with pytest.raises(CheckpointError, match=f"tensor '{name}' is of type int8"):
            readers.read(folder)


def test_tokenizer(tmp_path):
    folder = write_folder(tmp_path / "m", Spec(9), "float16")
    assert readers.read(folder).tokenizer is None
    (folder / "tokenizer.json").write_text('{"text": "ä"}', encoding="utf-8")
    assert readers.read(folder).tokenizer == '{"text": "ä"}'
    assert readers.read_tokenizer(folder) == '{"text": "ä"}'
    (folder / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="tokenizer.json: cannot be read"):
        readers.read(folder)
