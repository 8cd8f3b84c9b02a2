"""The float reference against transformers' models, layer by layer and end to end."""

import dataclasses

import checkpoints
import numpy as np
import pytest
from random_models import random_linear, random_tokens
from tamale_model import fidelity, readers
from tamale_model.linears import accumulate, prepare, quantise_activation, rms_norm
from tamale_model.model import LINEARS, Linear
from tamale_model.reference import Reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
bitnet = pytest.importorskip("transformers.integrations.bitnet")

import torch_models  # noqa: E402  needs torch

torch.set_num_threads(1)
torch._dynamo.config.disable = True

pytestmark = pytest.mark.filterwarnings("ignore")

FORMS = {
    "autobitlinear": {"kind": "autobitlinear"},
    "autobitlinear, tied, shards": {"kind": "autobitlinear", "tied": True, "shards": 3},
    "bitlinear": {"kind": "bitlinear"},
    "bitlinear, tied": {"kind": "bitlinear", "tied": True},
    "master": {"kind": "master", "shards": 2},
    "master-bf16, tied": {"kind": "master-bf16", "tied": True},
    "default rotary base": {"kind": "autobitlinear", "changes": {"rope_theta": None}},
}


def run(torch_model, segments):
    """Return ({(layer, name): [(module, input, output)]}, logits of each segment)."""
    seen, handles = {}, []
    for path, module in torch_model.named_modules():
        if isinstance(module, (bitnet.BitLinear, bitnet.AutoBitLinear)):
            _, _, layer, name = path.split(".", 3)
            key = int(layer), torch_models.MODULES[name]

            def hook(module, inputs, output, key=key):
                seen.setdefault(key, []).append((module, inputs[0][0], output[0]))

            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        logits = [torch_model(torch.tensor([tokens])).logits[0].numpy() for tokens in segments]
    for handle in handles:
        handle.remove()
    return seen, logits


def codes_and_sums(module, x, y):
    """transformers' codes, their factor and the accumulators, from its own functions and output."""
    with torch.no_grad():
        if module.rms_norm is not None:
            x = module.rms_norm(x)
        if module.bias is not None:
            y = y - module.bias
        if isinstance(module, bitnet.BitLinear):
            codes, factor = module.activation_quant(x)
            unit = 1 / (module.weight_scale.double() * factor.double())
        else:
            factor = 127 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
            codes = (bitnet.ActQuant.apply(x) * factor).round()
            scale = (
                bitnet.WeightQuant.apply(module.weight).abs().max()
                if module.online_quant
                else module.weight_scale
            )
            unit = scale.double() / factor.double()
        sums = y.double() / unit
    assert float((sums - sums.round()).abs().max()) < 0.1, "outputs are not multiples of the unit"
    return codes.numpy(), factor.numpy(), sums.round().numpy()


def check_layers(model, seen):
    """Require exact equality per linear layer on the same inputs; return the outputs compared."""
    assert len(seen) == 7 * model.graph.layers
    outputs = 0
    for (layer, name), calls in seen.items():
        linear = getattr(model.layers[layer], name)
        for module, x, y in calls:
            codes, factor, sums = codes_and_sums(module, x, y)
            normed = x
            if module.rms_norm is not None:
                with torch.no_grad():
                    normed = module.rms_norm(x)
                ours = rms_norm(x.numpy(), linear.norm, model.graph.linear_norm_epsilon)
                assert np.abs(ours - normed.numpy()).max() <= 4e-7 * np.abs(ours).max()
            ours, our_factor = quantise_activation(normed.numpy())
            assert np.array_equal(ours, codes), f"codes of {name} in layer {layer}"
            assert np.array_equal(our_factor, factor), f"factors of {name} in layer {layer}"
            assert np.array_equal(accumulate(linear, ours)[0], sums), f"sums of {name} in {layer}"
            bare = dataclasses.replace(linear, norm=None)
            result = prepare(bare, "hf")(normed.numpy())
            # AutoBitLinear sums in float32, so its own outputs carry rounding.
            slack = 1e-6 if isinstance(module, bitnet.BitLinear) else 1e-5
            assert np.abs(result - y.numpy()).max() <= slack * np.abs(result).max()
            outputs += sums.size
    return outputs


def reference_logits(model, segments):
    reference = fidelity.reference_pass(model, segments, codes=False)
    return [reference.logits(i) for i in range(len(segments))]


def check_gates(agreement):
    """The gates of float references."""
    assert agreement.argmax >= 0.98
    assert agreement.kl <= 1e-3
    assert abs(agreement.delta_xent) <= 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_random_checkpoint(tmp_path, form):
    folder = checkpoints.write(tmp_path / "model", **FORMS[form])
    model = readers.read(folder)
    segments = [random_tokens(1, model.graph.vocabulary, 70)]
    seen, want = run(torch_models.load(folder), segments)
    assert check_layers(model, seen) == 70 * 2 * (3 * 64 + 2 * 116 + 64)
    got = reference_logits(model, segments)
    agreement = fidelity.Agreement.of(segments, want, got)
    check_gates(agreement)


def test_demonstration_model(demo_folder):
    model = readers.read(demo_folder)
    segments = fidelity.draw_text(model, 384, segment=192)
    seen, want = run(torch_models.load(demo_folder), segments)
    check_layers(model, seen)
    got = reference_logits(model, segments)
    agreement = fidelity.Agreement.of(segments, want, got)
    check_gates(agreement)


def check_reader(folder, model):
    """Require the reader to give the model that transformers loaded."""
    read = readers.read(folder)
    tokens = random_tokens(4, model.graph.vocabulary, 20)
    got, want = (
        reference.logits(reference.forward(tokens, reference.cache()))
        for reference in (Reference(read), Reference(model))
    )
    # transformers divides by a scale where the reader multiplies.
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


#: Quantised graphs: class, how weight_scale is meant, a norm for each matrix, configuration.
QUANTISED = {
    "bitnet, silu": ("BitNet", "autobitlinear", False, {"hidden_act": "silu"}),
    "bitnet, silu, divides": ("BitNet", "bitlinear", False, {"hidden_act": "silu"}),
    "llama, divides": ("Llama", "bitlinear", False, {"rope_parameters": {"rope_theta": 1e6}}),
    "llama, multiplies": ("Llama", "autobitlinear", False, {"tie_word_embeddings": True}),
    "llama, norms": ("Llama", "bitlinear", True, {}),
    "llama, norms, multiplies": ("Llama", "autobitlinear", True, {}),
    "qwen2": ("Qwen2", "bitlinear", False, {}),
    "qwen3": ("Qwen3", "autobitlinear", False, {"head_dim": 24}),
}


@pytest.mark.parametrize("form", QUANTISED)
def test_quantised_graph(tmp_path, form):
    """Codes and accumulators of every layer on the same inputs, and the gates end to end."""
    kind, linear_class, norms, changes = QUANTISED[form]
    made = torch_models.random_float(kind, 5, **changes)
    folder = torch_models.quantise(made, tmp_path / "model", linear_class, norms=norms)
    torch_model = torch_models.load(folder)
    model = torch_models.neutral(torch_model)
    check_reader(folder, model)
    segments = fidelity.draw_text(model, 96, segment=96)
    seen, want = run(torch_model, segments)
    sizes = [getattr(layer, name).shape[0] for layer in model.layers for name in LINEARS]
    assert check_layers(model, seen) == 96 * sum(sizes)
    got = reference_logits(model, segments)
    agreement = fidelity.Agreement.of(segments, want, got)
    print(form, agreement)
    check_gates(agreement)


LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

#: Graphs that nobody has quantised: class and configuration.
FLOAT = {
    "llama": ("Llama", {}),
    "llama, tied, one KV head": ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, llama3 scaling": ("Llama", {"rope_parameters": LLAMA3}),
    "llama, linear scaling": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 24, "num_attention_heads": 6, "num_key_value_heads": 3}),
    "bitnet without quantisation": ("BitNet", {"hidden_act": "relu2"}),
}


def check_floats(torch_model, model, arithmetic):
    """Require the logits to be those of transformers but for float32 rounding."""
    tokens = random_tokens(2, model.graph.vocabulary, 120)
    with torch.no_grad():
        want = torch_model(torch.tensor([tokens])).logits[0].numpy()
    reference = Reference(model, arithmetic=arithmetic)
    got = reference.logits(reference.forward(tokens, reference.cache()))
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("form", FLOAT)
def test_float_graph(tmp_path, form):
    kind, changes = FLOAT[form]
    torch_model = torch_models.random_float(kind, 7, **changes)
    torch_model.save_pretrained(tmp_path / "model")
    if kind != "BitNet":  # whose matrices are read as master weights
        check_reader(tmp_path / "model", torch_models.neutral(torch_model))
    # A matrix that nobody has quantised is a float product in every arithmetic.
    for arithmetic in ("float", "hf"):
        check_floats(torch_model, torch_models.neutral(torch_model), arithmetic)


@pytest.mark.parametrize(
    "shape",
    [
        {"row_scales": True},  # TriLM: scales of blocks of rows
        {"planes": 3, "group_size": 40},
        {"planes": 5},
    ],
    ids=["trilm", "3 trits, groups", "5 trits"],
)
def test_ternary_weights_float_activations(shape):
    """A llama graph whose float weights are trits times scales, as TriLM's are."""
    torch_model = torch_models.random_float("Llama", 9)
    model, rng = torch_models.neutral(torch_model), np.random.default_rng(9)
    for layer, torch_layer in zip(model.layers, torch_model.model.layers, strict=True):
        for path, name in torch_models.MODULES.items():
            linear = random_linear(rng, *getattr(layer, name).shape, **shape)
            assert isinstance(linear, Linear)
            setattr(layer, name, linear)
            with torch.no_grad():
                weight = torch_layer.get_submodule(path).weight
                weight.copy_(torch.from_numpy(linear.dequantised()))
    check_floats(torch_model, model, "float")


def test_reciprocal_rounds_twice():
    """127 / a of torch is fl(fl(1 / a) * 127), which differs from fl(127 / a) in some last bits."""
    peaks = np.random.default_rng(3).lognormal(0, 2, 4096).astype(np.float32)
    _, ours = quantise_activation(peaks[:, None])
    assert np.array_equal(ours[:, 0], (127 / torch.from_numpy(peaks)).numpy())
    assert not np.array_equal(ours[:, 0], np.float32(127) / peaks)
