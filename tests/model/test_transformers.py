"""The float reference against transformers' BitNetForCausalLM, layer by layer and end to end."""

import checkpoints
import numpy as np
import pytest
from random_models import random_tokens
from tamale_model import checkpoint, fidelity
from tamale_model.reference import Reference, accumulate, quantise_activation

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
bitnet = pytest.importorskip("transformers.integrations.bitnet")

torch.set_num_threads(1)
torch._dynamo.config.disable = True

pytestmark = pytest.mark.filterwarnings("ignore")

NAMES = {
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
}

FORMS = {
    "autobitlinear": {"kind": "autobitlinear"},
    "autobitlinear, tied, shards": {"kind": "autobitlinear", "tied": True, "shards": 3},
    "bitlinear": {"kind": "bitlinear"},
    "bitlinear, tied": {"kind": "bitlinear", "tied": True},
    "master": {"kind": "master", "shards": 2},
    "master-bf16, tied": {"kind": "master-bf16", "tied": True},
    "default rotary base": {"kind": "autobitlinear", "changes": {"rope_theta": None}},
}


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def run(torch_model, segments):
    """Return ({(layer, name): [(module, input, output)]}, logits of each segment)."""
    seen, handles = {}, []
    for path, module in torch_model.named_modules():
        if isinstance(module, (bitnet.BitLinear, bitnet.AutoBitLinear)):
            _, _, layer, name = path.split(".", 3)
            key = int(layer), NAMES[name]

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
            ours, our_factor = quantise_activation(x.numpy())
            assert np.array_equal(ours, codes), f"codes of {name} in layer {layer}"
            assert np.array_equal(our_factor, factor), f"factors of {name} in layer {layer}"
            assert np.array_equal(accumulate(linear, ours)[0], sums), f"sums of {name} in {layer}"
            result = Reference(model).linear(layer, name, x.numpy())
            # AutoBitLinear sums in float32, so its own outputs carry rounding.
            slack = 1e-6 if isinstance(module, bitnet.BitLinear) else 1e-5
            assert np.abs(result - y.numpy()).max() <= slack * np.abs(result).max()
            outputs += sums.size
    return outputs


@pytest.mark.parametrize("form", FORMS)
def test_random_checkpoint(tmp_path, form):
    folder = checkpoints.write(tmp_path / "model", **FORMS[form])
    model = checkpoint.read(folder)
    segments = [random_tokens(1, model.graph.vocabulary, 70)]
    seen, want = run(load(folder), segments)
    assert check_layers(model, seen) == 70 * 2 * (3 * 64 + 2 * 116 + 64)
    got, _ = fidelity.reference_pass(model, segments)
    agreement = fidelity.Agreement.of(segments, want, got)
    assert agreement.argmax >= 0.98
    assert agreement.kl <= 1e-3
    assert abs(agreement.delta_xent) <= 1e-3


def test_demonstration_model(demo_folder):
    model = checkpoint.read(demo_folder)
    segments = fidelity.draw_text(model, 384, segment=192)
    seen, want = run(load(demo_folder), segments)
    check_layers(model, seen)
    got, _ = fidelity.reference_pass(model, segments)
    agreement = fidelity.Agreement.of(segments, want, got)
    assert agreement.argmax >= 0.98
    assert agreement.kl <= 1e-3
    assert abs(agreement.delta_xent) <= 1e-3


def test_reciprocal_rounds_twice():
    """127 / a of torch is fl(fl(1 / a) * 127), which differs from fl(127 / a) in some last bits."""
    peaks = np.random.default_rng(3).lognormal(0, 2, 4096).astype(np.float32)
    _, ours = quantise_activation(peaks[:, None])
    assert np.array_equal(ours[:, 0], (127 / torch.from_numpy(peaks)).numpy())
    assert not np.array_equal(ours[:, 0], np.float32(127) / peaks)
