"""The device's numbers do not depend on the shape of the hardware, only on model and precisions."""

import numpy as np
import pytest
from random_models import (
    GRAPHS,
    random_config,
    random_linear,
    random_model,
    random_shape,
    random_tokens,
)
from tamale.config import Config
from tamale_model import fidelity, imagefile
from tamale_model.model import LINEARS, FloatLinear
from tamale_model.session import GoldenSession

#: The shape that all others are compared with.
BASE = Config(
    name="base", bus_width=32, code="t5", tile_rows=1, vectors=1, vu_width=1, max_context=64,
    key_planes=3, value_planes=3, memory_bytes=8 << 20,
)  # fmt: skip

SHAPES = {
    "vectors": {"vectors": 3},
    "vector unit": {"vu_width": 4, "vectors": 2},
    "tile": {"tile_rows": 4, "vectors": 4},
    "bus": {"bus_width": 128, "tile_rows": 8, "vectors": 8, "vu_width": 2},
    "code": {"code": "t4", "bus_width": 64, "tile_rows": 2, "vectors": 16},
}


def generate(folder, config, model, prompts, tokens, *, together=True):
    """Return ({sequence: logits [positions, vocabulary]}, {sequence: tokens})."""
    path = folder / f"{abs(hash((config, model.graph.name)))}.image"
    imagefile.build(config, model, path)
    image = imagefile.load(path)
    groups = [prompts] if together else [[prompt] for prompt in prompts]
    logits, made, sequence = {}, {}, 0
    for group in groups:
        session = GoldenSession(image, config, len(group), all_logits=True)
        for step in session.generate(group, tokens):
            logits.setdefault(sequence + step.sequence, []).append(step.logits)
            if step.token is not None:
                made.setdefault(sequence + step.sequence, []).append(step.token)
        sequence += len(group)
    return {s: np.concatenate(rows) for s, rows in logits.items()}, made


def model_and_prompt(seed, **changes):
    model = random_model(seed, **(random_shape(seed) | changes))
    return model, random_tokens(seed, model.graph.vocabulary, 21)


@pytest.mark.parametrize("seed", range(8))
def test_hardware_shape(tmp_path, seed):
    model, prompt = model_and_prompt(seed)
    want, tokens = generate(tmp_path, BASE, model, [prompt], 6)
    assert want[0].std() > 0.5, "logits of a degenerate model"
    for name, changes in SHAPES.items():
        got, others = generate(tmp_path, BASE.replace(**changes), model, [prompt], 6)
        assert np.array_equal(want[0], got[0]), name
        assert tokens == others, name


@pytest.mark.parametrize(
    ("kv_heads", "ratio", "head_size"),
    [(1, 1, 8), (3, 1, 24), (2, 2, 40), (1, 3, 16), (1, 8, 64), (2, 4, 8)],
)
def test_heads(tmp_path, kv_heads, ratio, head_size):
    model, prompt = model_and_prompt(
        40, heads=kv_heads * ratio, kv_heads=kv_heads, head_size=head_size
    )
    want, _ = generate(tmp_path, BASE, model, [prompt], 2)
    for changes in ({"vectors": 2, "vu_width": 4}, {"vectors": 5, "tile_rows": 4, "vu_width": 2}):
        got, _ = generate(tmp_path, BASE.replace(**changes), model, [prompt], 2)
        assert np.array_equal(want[0], got[0]), changes


@pytest.mark.parametrize("planes", [1, 2, 3, 5])
@pytest.mark.parametrize("group_size", [0, 64, 128, 256])
def test_planes_and_groups(tmp_path, planes, group_size):
    """K steps of five trits do not divide the groups, those of four do."""
    model, prompt = model_and_prompt(
        41, planes=planes, group_size=group_size, hidden=151, feed_forward=333, head_size=16
    )
    want, _ = generate(tmp_path, BASE, model, [prompt], 2)
    for code, bus_width in (("t4", 64), ("t5", 64)):
        config = BASE.replace(code=code, bus_width=bus_width, tile_rows=2, vectors=8)
        got, _ = generate(tmp_path, config, model, [prompt], 2)
        assert np.array_equal(want[0], got[0]), code


@pytest.mark.parametrize("sparse", [LINEARS, ("q", "down")], ids=["all", "some"])
@pytest.mark.parametrize("group_size", [0, 64])
def test_sparse_code(tmp_path, sparse, group_size):
    """The sparse code says the same as the dense one, in fewer bytes."""
    # 151 and 333 are no multiples of four, so that code points are filled up.
    sizes = {"hidden": 192, "feed_forward": 320} if group_size else {"hidden": 151}
    model, prompt = model_and_prompt(
        44, planes=1, group_size=group_size, head_size=16, sparse=sparse,
        **({"feed_forward": 333} | sizes),
    )  # fmt: skip
    want, _ = generate(tmp_path, BASE, model, [prompt], 2)
    for changes in ({}, {"code": "t4", "tile_rows": 2, "vectors": 3}, {"bus_width": 128}):
        config = BASE.replace(sparse_code="s34", **changes)
        got, _ = generate(tmp_path, config, model, [prompt], 2)
        assert np.array_equal(want[0], got[0]), changes


@pytest.mark.parametrize("seed", [50, 51])
def test_parallel_sequences(tmp_path, seed):
    model, _ = model_and_prompt(seed)
    prompts = [random_tokens(seed + i, model.graph.vocabulary, 3 + 5 * i) for i in range(3)]
    config = BASE.replace(vectors=3)
    want, alone = generate(tmp_path, config, model, prompts, 7, together=False)
    got, beside = generate(tmp_path, config, model, prompts, 7)
    assert alone == beside
    for sequence in range(len(prompts)):
        assert np.array_equal(want[sequence], got[sequence])


def test_prompt_or_decode(tmp_path):
    """Feeding the generated tokens as a prompt gives the logits of generating them."""
    model, prompt = model_and_prompt(52)
    config = BASE.replace(vectors=4)
    want, made = generate(tmp_path, config, model, [prompt], 9)
    got, _ = generate(tmp_path, config, model, [prompt + made[0][:-1]], 1)
    assert np.array_equal(want[0], got[0])


@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs(tmp_path, graph):
    """Graphs of published checkpoints: the same numbers on every shape, groups without and with."""
    for group_size in (0, 64):
        model, prompt = model_and_prompt(
            43, head_size=16, heads=4, kv_heads=2, hidden=151, group_size=group_size,
            **GRAPHS[graph],
        )  # fmt: skip
        want, _ = generate(tmp_path, BASE, model, [prompt], 2)
        assert want[0].std() > 0.5
        for name in ("vectors", "bus", "code"):
            got, _ = generate(tmp_path, BASE.replace(**SHAPES[name]), model, [prompt], 2)
            assert np.array_equal(want[0], got[0]), name


def follows(model, seed):
    config = random_config(seed, key_planes=5, value_planes=5, code="t5")
    text = [random_tokens(seed, model.graph.vocabulary, 40)]
    return fidelity.measure(model, config, text)


@pytest.mark.parametrize("seed", range(60, 66))
def test_follows_float_reference(seed):
    """On any shape the device approximates the graph; a mistake would cost nats, not hundredths."""
    model, _ = model_and_prompt(seed)
    config = random_config(seed, key_planes=5, value_planes=5)
    text = [random_tokens(seed, model.graph.vocabulary, 40)]
    agreement = fidelity.measure(model, config, text)
    assert agreement.argmax >= 0.85
    assert agreement.kl <= 2e-2
    assert max(agreement.codes.values()) < 0.8


@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_follow_float_reference(graph):
    for seed in (70, 71):
        model, _ = model_and_prompt(seed, planes=3, **GRAPHS[graph])
        agreement = follows(model, seed)
        assert agreement.argmax >= 0.85
        assert agreement.kl <= 2e-2


def test_groups_that_disagree(tmp_path):
    """Matrices that read one vector in other groups get codes of their own."""
    model, prompt = model_and_prompt(41, group_size=64, hidden=151, head_size=16, planes=2)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        layer.up = random_linear(rng, *layer.up.shape, planes=2)
        layer.v = random_linear(rng, *layer.v.shape, planes=2, group_size=128, gain=1.0)
    agreement = follows(model, 41)
    assert agreement.argmax >= 0.85
    assert agreement.kl <= 2e-2
    want, _ = generate(tmp_path, BASE, model, [prompt], 2)
    got, _ = generate(tmp_path, BASE.replace(**SHAPES["code"]), model, [prompt], 2)
    assert np.array_equal(want[0], got[0])


def test_layers_that_disagree(tmp_path):
    """Layers get the planes, groups, scales and biases of the most demanding one."""
    model, prompt = model_and_prompt(42, layers=3, planes=1, group_size=0, head_size=16)
    rng = np.random.default_rng(1)
    shape = model.layers[1].up.shape
    model.layers[0].gate = random_linear(rng, *shape, planes=1, row_scales=True)
    model.layers[1].up = random_linear(rng, *shape, planes=2, group_size=64, bias=0.3)
    model.layers[2].up = random_linear(rng, *shape, planes=1, group_size=128)
    agreement = follows(model, 42)
    assert agreement.argmax >= 0.85
    assert agreement.kl <= 2e-2
    want, _ = generate(tmp_path, BASE, model, [prompt], 2)
    got, _ = generate(tmp_path, BASE.replace(**SHAPES["bus"]), model, [prompt], 2)
    assert np.array_equal(want[0], got[0])


def test_graphs_that_disagree(tmp_path):
    model, _ = model_and_prompt(42, layers=2, head_size=16)
    model.layers[1].attention_norm = None
    with pytest.raises(ValueError, match="layer 1 has the norms .*one program runs all layers"):
        imagefile.build(BASE, model, tmp_path / "image")


def test_too_many_kinds(tmp_path):
    model, _ = model_and_prompt(42, head_size=16, own_norms=True, head_norms=True)
    with pytest.raises(ValueError, match="needs 34 shared scalars, the hardware has 32"):
        imagefile.build(BASE, model, tmp_path / "image")


def test_float_matrix(tmp_path):
    model, _ = model_and_prompt(42, head_size=16)
    model.layers[0].up = FloatLinear(model.layers[0].up.dequantised())
    with pytest.raises(ValueError, match="'up' of layer 0 is float.*tamale quantise"):
        imagefile.build(BASE, model, tmp_path / "image")


def test_goes_on_from_a_cache(tmp_path):
    """A cache that another session filled is as good as a prompt."""
    model, prompt = model_and_prompt(3)
    config = BASE.replace(vectors=3)
    imagefile.build(config, model, tmp_path / "image")
    image = imagefile.load(tmp_path / "image")
    whole = GoldenSession(image, config, 1)
    made = [s.token for s in whole.generate([prompt], 6) if s.token is not None]
    reader = GoldenSession(image, config, 1)
    (first,) = [s.token for s in reader.generate([prompt], 1) if s.token is not None]
    assert first == made[0]
    at, size = image.kv_base, image.fields["kv_sequence_bytes"]
    session = GoldenSession(image, config, 1)
    session.machine.memory[at : at + size] = reader.machine.memory[at : at + size]
    steps = session.generate([[first]], 5, cached=[len(prompt)])
    assert [s.token for s in steps if s.token is not None] == made[1:]
    too_long = session.generate([prompt], 1, cached=[image.fields["context"]])
    with pytest.raises(ValueError, match="a prompt has 1 to 0 tokens"):
        next(too_long)
