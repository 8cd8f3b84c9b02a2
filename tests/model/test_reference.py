"""Float reference as a session, and the device's fidelity to it."""

import dataclasses
import json
import weakref
from collections.abc import Sequence

import llama_cpp_models
import ml_dtypes
import numpy as np
import pytest
from random_models import random_model, random_tokens
from tamale import config as configuration
from tamale_model import fidelity, readers, reference
from tamale_model.reference import FloatSession, Reference

#: A model of every part that a graph may have, at once.
EVERYTHING = {
    "activation": "silu", "head_norms": True, "own_norms": True, "biases": ("q", "k", "v", "up"),
    "rope_frequencies": True, "tied": False, "group_size": 64, "planes": 2,
}  # fmt: skip


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


def test_observed_blocks():
    """The same for the blocks of activations of llama.cpp's arithmetics."""
    for kind, spec in (("ggml", 256), ("ggml-q8_0", 32)):
        model, seen = llama_cpp_models.build(llama_cpp_models.SPECS[0]), []
        made = Reference(model, lambda *record, seen=seen: seen.append(record), kind)
        made.forward(random_tokens(4, model.graph.vocabulary, 3), made.cache())
        assert len(seen) == 14
        for layer, name, codes, sums in seen:
            values = getattr(model.layers[layer], name).values.astype(np.int64)
            codes = codes.reshape(3, -1, spec)
            want = np.einsum("nbk,rbk->bnr", codes, values.reshape(len(values), -1, spec))
            assert np.array_equal(sums, want)


class Lazy(Sequence):
    """Layers that are made when they are asked for; knows how many were alive at once."""

    def __init__(self, layers):
        self._layers, self.loads, self._made, self.most = layers, [], [], 0

    def __len__(self):
        return len(self._layers)

    def __getitem__(self, number):
        # A new copy of everything, as a reader makes it.
        layer = self._layers[number]
        fields = {
            name: dataclasses.replace(value) if dataclasses.is_dataclass(value) else value
            for name, value in vars(layer).items()
        }
        layer = dataclasses.replace(layer, **fields)
        self._made.append(weakref.ref(layer.q))
        self.loads.append(number)
        self.most = max(self.most, sum(made() is not None for made in self._made))
        return layer

    def __iter__(self):
        raise AssertionError("an iterator would keep a layer while the next one is made")


@pytest.mark.parametrize("kept", [0, 64 << 20])
def test_lazy_layers_and_mapped_embeddings(tmp_path, monkeypatch, kept):
    """A walk loads each layer once and keeps none but those that fit; rows are converted."""
    monkeypatch.setattr(reference, "_KEPT_ELEMENTS", kept)
    monkeypatch.setattr(reference, "_HEAD_ROWS", 7)
    model = random_model(8, layers=4, **EVERYTHING)
    maps = []
    for name in ("embedding", "head"):
        array = getattr(model, name).astype(ml_dtypes.bfloat16)
        array.tofile(tmp_path / name)
        mapped = np.memmap(tmp_path / name, np.uint16, "r", shape=array.shape)
        maps.append(mapped.view(ml_dtypes.bfloat16))
        setattr(model, name, array.astype(np.float32))
    lazy = dataclasses.replace(model, embedding=maps[0], head=maps[1], layers=Lazy(model.layers))
    tokens = random_tokens(8, 100, 30)
    outputs = []
    for each in (model, lazy):
        made = Reference(each)
        cache = made.cache()
        parts = [made.forward(tokens[:20], cache), made.forward(tokens[20:], cache, 20)]
        outputs.append(made.logits(np.concatenate(parts)))
    assert np.allclose(*outputs, rtol=1e-5, atol=1e-5)
    assert lazy.layers.loads == [0, 1, 2, 3] * (1 if kept else 2)
    assert lazy.layers.most == 1


def test_sequences_in_one_walk():
    """Sequences of any length beside each other get the residuals that each has alone."""
    model = random_model(9, **EVERYTHING)
    made, texts = Reference(model), [random_tokens(i, 100, 3 + 9 * i) for i in range(4)]
    caches, steps = [made.cache() for _ in texts], []
    together = made.forward_all(
        [(text, cache, 0) for text, cache in zip(texts, caches, strict=True)],
        lambda *step: steps.append(step),
    )
    assert steps == [(1, 2), (2, 2)]
    for text, cache, got in zip(texts, caches, together, strict=True):
        alone = made.cache()
        want = made.forward(text, alone)
        assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
        assert np.allclose(cache, alone, rtol=1e-4, atol=1e-4)


def test_bad_references():
    model = random_model(1)
    with pytest.raises(ValueError, match="arithmetic 'q4' is unknown; use hf, ggml, "):
        Reference(model, arithmetic="q4")
    model.graph.activation = "gelu"
    with pytest.raises(ValueError, match="activation 'gelu' is not known; this takes relu2 and s"):
        Reference(model)
    made = Reference(random_model(1))
    with pytest.raises(ValueError, match="position 64 is outside the context of 64"):
        made.forward([1] * 65, made.cache())
    with pytest.raises(ValueError, match="token 100 is outside the vocabulary of 100"):
        made.forward([1, 100], made.cache())
    with pytest.raises(ValueError, match="for rows of 48 weights .* use the arithmetic 'hf'"):
        made = Reference(random_model(1), arithmetic="ggml")
        made.forward([1], made.cache())


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


def test_tally_in_pieces():
    rng = np.random.default_rng(1)
    segments = [random_tokens(i, 20, 9 + i) for i in range(3)]
    logits = [[rng.normal(0, 2, (len(s), 20)) for s in segments] for _ in range(2)]
    want = fidelity.Agreement.of(segments, *logits)
    tally = fidelity.Tally()
    for tokens, expected, actual in zip(segments, *logits, strict=True):
        for first in range(0, len(tokens), 4):
            part = slice(first, first + 4)
            tally.add(expected[part], actual[part], tokens[first + 1 : first + 5])
    assert dataclasses.astuple(tally.agreement())[:-1] == pytest.approx(
        dataclasses.astuple(want)[:-1]
    )


def test_draw_text():
    model = random_model(6, context=40)
    steps = []
    segments = fidelity.draw_text(
        model, 70, segment=30, progress=lambda done, total: steps.append((done, total))
    )
    assert [len(s) for s in segments] == [30, 30, 10]
    assert segments[0] != segments[1] and segments[0][0] == 0
    assert steps[-1] == (70, 70)
    # A segment is what a session of its own writes.
    session = FloatSession(model, temperature=0.8, seed=2, context=30, stop_tokens=())
    assert [0, *(s.token for s in session.generate([[0]], 29))] == segments[1]


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


def test_command_with_text(demo_folder, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("In the beginning God created the heaven and the earth. And the earth was " * 3)
    arguments = [str(demo_folder), "--text", str(text), "--cache", "4", "--json"]
    assert fidelity.main([*arguments, "--tokens", "24", "--segment", "12", "--no-codes"]) == 0
    result = json.loads(capsys.readouterr().out)["4"]
    assert result["tokens"] == 24 and result["xent"] < 7 and not result["codes"]
    text.write_text("")
    assert fidelity.main(arguments) == 2
    assert "has 0 tokens; use a text of 2 or more" in capsys.readouterr().err


def test_command_with_gguf(tmp_path, capsys):
    """A GGUF file, against llama.cpp's arithmetic."""
    pytest.importorskip("gguf")
    spec = dataclasses.replace(llama_cpp_models.SPECS[1], layers=1, feed_forward=256)
    path = llama_cpp_models.write(spec, tmp_path / "model.gguf")
    arguments = [str(path), "--tokens", "24", "--cache", "5", "--arithmetic", "ggml", "--json"]
    fidelity.main(arguments)
    result = json.loads(capsys.readouterr().out)["5"]
    assert result["tokens"] == 24 and result["kl"] < 1e-2 and not result["codes"]
    assert fidelity.main([str(path), "--text", str(path)]) == 2
    assert "has no tokenizer, which --text needs" in capsys.readouterr().err
    path = llama_cpp_models.write(dataclasses.replace(spec, kind="Q8_0"), tmp_path / "float.gguf")
    assert fidelity.main([str(path)]) == 2
    assert "is float" in capsys.readouterr().err
