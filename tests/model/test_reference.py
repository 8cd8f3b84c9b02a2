"""Float reference as a session, and the device's fidelity to it."""

import json

import numpy as np
import pytest
from random_models import random_model, random_tokens
from tamale import config as configuration
from tamale_model import fidelity, readers
from tamale_model.reference import FloatSession, Reference


def test_incremental_decoding():
    """Chunks, single tokens and generated tokens give the logits of one pass."""
    model = random_model(3, group_size=64, planes=2)
    prompt = random_tokens(3, 100, 17)
    outputs = []
    for chunk in (64, 5, 1):
        session = FloatSession(model, all_logits=True, chunk=chunk)
        steps = list(session.generate([prompt], 6))
        outputs.append((np.concatenate([s.logits for s in steps]), [s.token for s in steps][-6:]))
    for logits, tokens in outputs[1:]:
        assert tokens == outputs[0][1]
        # BLAS may sum in another order, which can move a code by one.
        assert np.abs(logits - outputs[0][0]).mean() < 0.05
    assert outputs[0][0].shape == (17 + 5, 100)


def test_observed_sums():
    """Codes times dequantised weights are the accumulators times the scales, in every layer."""
    model, seen = random_model(4, group_size=64, planes=3, hidden=150), []
    reference = Reference(model, lambda *record: seen.append(record))
    reference.forward(random_tokens(4, 100, 5), reference.cache())
    assert [name for _, name, _, _ in seen[:7]] == ["q", "k", "v", "o", "gate", "up", "down"]
    assert len(seen) == 14
    for layer, name, codes, sums in seen:
        linear = getattr(model.layers[layer], name)
        assert np.abs(codes).max() == 127 or np.abs(codes).max() == 128
        want = codes @ linear.dequantised().astype(np.float64).T
        got = np.einsum("gnr,rg->nr", sums, linear.scales) * linear.scale
        assert np.allclose(got, want, rtol=1e-5, atol=1e-4)


def test_sessions_end():
    model = random_model(5, context=24)
    prompts = [random_tokens(i, 100, 4 + 3 * i) for i in range(2)]
    steps = list(FloatSession(model, 2, temperature=0.9, seed=3).generate(prompts, 100))
    count = [sum(s.sequence == i and s.token is not None for s in steps) for i in range(2)]
    assert count == [24 - 4 + 1, 24 - 7 + 1], "the context ends the text"
    again = list(FloatSession(model, 2, temperature=0.9, seed=3).generate(prompts, 100))
    assert [s.token for s in steps] == [s.token for s in again]
    first = next(s.token for s in steps if s.sequence == 0 and s.token is not None)
    session = FloatSession(model, temperature=0.9, seed=3, stop_tokens=[first])
    assert [s.token for s in session.generate(prompts[:1], 9)] == [first], "a stop token ends it"


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[]], "1 to 64 tokens in this context, not 0"),
        ([[1] * 65], "1 to 64 tokens in this context, not 65"),
        ([[100]], "token 100 is outside the vocabulary of 100"),
        ([[1], [2]], "2 prompts for 1 parallel sequences"),
    ],
)
def test_bad_prompts(prompts, message):
    with pytest.raises(ValueError, match=message):
        list(FloatSession(random_model(1)).generate(prompts, 1))


def test_bad_sessions():
    with pytest.raises(ValueError, match="0 parallel sequences"):
        FloatSession(random_model(1), 0)
    with pytest.raises(ValueError, match="context of 64, not 65"):
        FloatSession(random_model(1), context=65)
    with pytest.raises(ValueError, match="0 prompt tokens at a time"):
        FloatSession(random_model(1), chunk=0)


def test_agreement_by_hand():
    segments = [[0, 1], [1, 0]]
    even, tilted = np.zeros((2, 2)), np.log(np.array([[0.75, 0.25], [0.75, 0.25]]))
    result = fidelity.Agreement.of(segments, [even, even], [tilted, tilted])
    assert result.tokens == 4 and result.argmax == 1
    assert result.xent == pytest.approx(np.log(2))
    assert result.delta_xent == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2 - np.log(2))
    assert result.kl == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))
    assert not result.met


def test_demonstration_model(demo_folder):
    model = readers.read(demo_folder)
    segments = fidelity.draw_text(model, 256, segment=128)
    config = fidelity.device_config(
        model, configuration.load("ulx3s"), 128, key_planes=5, value_planes=5, head_planes=5
    )
    result = fidelity.measure(model, config, segments)
    # One of 256 tokens is 0.4 % of the argmax; the report uses more, and the gates themselves.
    assert result.argmax >= 0.96
    assert result.kl <= fidelity.GATES["kl"]
    # Three times the sampling error of a mean over so few tokens.
    assert abs(result.delta_xent) <= 3 * np.sqrt(2 * result.kl / result.tokens)
    assert result.codes["down"] < 0.1 and max(result.codes.values()) < 0.65


def test_command(demo_folder, capsys):
    assert fidelity.main([str(demo_folder), "--tokens", "48", "--cache", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["3"]["tokens"] == 48
    assert fidelity.main([str(demo_folder), "--tokens", "20", "--cache", "2"]) == 0
    assert "argmax agreement" in capsys.readouterr().out
    assert fidelity.main(["nowhere"]) == 2
    assert "nowhere: not a folder" in capsys.readouterr().err
