"""The reference's ``ggml`` arithmetic against llama.cpp: recorded outputs, and live if it is there.

``data/`` has what llama.cpp computed, `record_llama_cpp` makes it anew.
"""

import dataclasses
from pathlib import Path

import llama_cpp_models as models
import numpy as np
import pytest
from random_models import random_linear, random_tokens
from tamale_model import fidelity, linears, readers
from tamale_model.model import LINEARS
from tamale_model.readers.blocks import TERNARY
from tamale_model.reference import Reference

DATA = Path(__file__).parent / "data"
NAMED = {spec.name: spec for spec in models.SPECS}
FLOATS = ("cosines", "normal", "ties", "halves", "trits")


@pytest.fixture(scope="module")
def recorded():
    with np.load(DATA / "llama_cpp.npz") as data:
        yield dict(data)


@pytest.fixture(scope="module")
def vectors():
    with np.load(DATA / "ggml_blocks.npz") as data:
        yield dict(data)


@pytest.fixture(scope="module")
def library():
    pytest.importorskip("llama_cpp")
    import llama_cpp_runner

    return llama_cpp_runner.Library()


def arithmetic_of(spec):
    """The arithmetic of llama.cpp for a file whose matrices are of one type."""
    return "ggml" if spec.kind in ("TQ1_0", "TQ2_0") else "ggml-q8_0"


def logits(model, tokens, arithmetic):
    reference = Reference(model, arithmetic=arithmetic)
    return reference.logits(reference.forward(tokens, reference.cache()))


def check_product(spec, model, layer, name, x, y):
    """Require a matrix's outputs to be llama.cpp's but for the order of float32 additions.

    Of floats there are more of them. For the minima of Q4_1, llama.cpp takes sums of activations
    that were rounded to float16.
    """
    linear = getattr(model.layers[layer], name)
    got = linears.prepare(dataclasses.replace(linear, bias=None), arithmetic_of(spec))(x)
    if spec.architecture == "llama" and name in "qk":
        heads = spec.heads if name == "q" else spec.kv_heads
        got = models.interleave(got.T, heads).T
    slack = {"Q8_0": 2e-6, "Q4_1": 3e-3}.get(spec.kind, 5e-7)
    assert np.abs(got - y).max() <= slack * np.abs(y).max(), f"{name} in layer {layer}"


def compare(recorded, arithmetic):
    """The agreement over all recorded files; of each its KL and its largest difference.

    An arithmetic of None is that of each file.
    """
    segments, want, got = [], [], []
    for name, spec in NAMED.items():
        model = models.build(spec)
        assert models.checksum(model) == recorded[f"{name}/checksum"], "NumPy draws other numbers"
        segments.append(recorded[f"{name}/tokens"].tolist())
        want.append(recorded[f"{name}/logits"])
        got.append(logits(model, segments[-1], arithmetic or arithmetic_of(spec)))
    parts = list(zip(segments, want, got, strict=True))
    divergences = [fidelity.Agreement.of([t], [a], [b]).kl for t, a, b in parts]
    worst = [float(np.abs(a - b).max()) for _, a, b in parts]
    return fidelity.Agreement.of(segments, want, got), divergences, worst


def check_gates(agreement):
    """The gates of float references."""
    assert agreement.argmax >= 0.98
    assert agreement.kl <= 1e-3
    assert abs(agreement.delta_xent) <= 1e-3


def test_recorded_logits(recorded):
    agreement, divergences, worst = compare(recorded, None)
    print(agreement, *zip(NAMED, divergences, worst, strict=True), sep="\n")
    check_gates(agreement)
    # A mistake in what one graph alone has would be small among all of them.
    assert max(divergences) <= 1e-3
    # Where no activation code falls on the other side, by a norm's unit in the last place, logits
    # differ by rounding alone.
    assert np.median(worst) < 3e-5


@pytest.mark.parametrize("arithmetic", ["hf", "float"])
def test_other_arithmetics_differ(recorded, arithmetic):
    """What the agreement would be if the arithmetic were not llama.cpp's."""
    agreement, _, worst = compare(recorded, arithmetic)
    print(agreement)
    assert agreement.kl > 5e-4 and min(worst) > 1e-2


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("matrix", ["q", "down"])
def test_recorded_products(recorded, name, matrix):
    spec = NAMED[name]
    x, y = (recorded[f"{name}/{matrix}/{what}"] for what in ("inputs", "outputs"))
    check_product(spec, models.build(spec), spec.layers - 1, matrix, x, y)


@pytest.mark.parametrize("name", FLOATS)
def test_recorded_activations(vectors, name):
    for kind, quantise in (("Q8_K", linears.quantise_q8_k), ("Q8_0", linears.quantise_q8_0)):
        codes, scales = quantise(vectors[f"{name}/floats"])
        assert np.array_equal(codes, vectors[f"{name}/{kind}/codes"])
        assert np.array_equal(scales, vectors[f"{name}/{kind}/scales"].astype(np.float32))


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
def test_gguf_quantises_alike(vectors, name, kind):
    """The package that writes our test files makes the bytes that ggml makes."""
    gguf = pytest.importorskip("gguf")
    kinds = gguf.GGMLQuantizationType
    got = gguf.quants.quantize(vectors[f"{name}/floats"], kinds[kind])
    assert np.array_equal(got, vectors[f"{name}/{kind}/bytes"])
    values = gguf.quants.dequantize(got, kinds[kind])
    assert np.array_equal(values, vectors[f"{name}/{kind}/values"])


@pytest.mark.parametrize("name", [*FLOATS, "bytes"])
@pytest.mark.parametrize("kind", models.TYPES)
def test_reader_decodes(vectors, name, kind):
    number, group = models.TYPES[kind]
    coding = TERNARY[number][0]
    assert coding.weights == group
    data = vectors[f"{name}/{kind}/bytes"]
    data = data.reshape(-1, coding.bytes)
    got = coding.values(data) * coding.scales(data)[:, None]
    want = vectors[f"{name}/{kind}/values"]
    assert np.array_equal(got.reshape(want.shape), want)


@pytest.mark.parametrize("name", NAMED)
def test_reader_reads_what_llama_cpp_reads(tmp_path, name):
    """The files of which llama.cpp's outputs are recorded become the models that agree with it."""
    pytest.importorskip("gguf")
    want = models.build(NAMED[name])
    got = readers.read(models.write(NAMED[name], tmp_path / f"{name}.gguf"))
    for field in dataclasses.fields(got.graph):
        if field.name not in ("bos", "eos", "rope_frequencies", "linear_norm_epsilon"):
            value = getattr(got.graph, field.name)
            assert value == pytest.approx(getattr(want.graph, field.name)), field.name
    assert np.allclose(got.graph.frequencies, want.graph.frequencies, rtol=1e-6)
    assert np.array_equal(got.embedding[:], want.embedding)
    assert np.array_equal(got.head[:], want.head)
    assert np.array_equal(got.final_norm, want.final_norm)
    for layer, wanted in zip(got.layers, want.layers, strict=True):
        for part, value in vars(wanted).items():
            read = getattr(layer, part)
            if part not in LINEARS:
                assert np.array_equal(read, value) if value is not None else read is None
                continue
            if NAMED[name].kind in models.TYPES:
                assert read.planes == value.planes
                assert np.array_equal(read.values, value.values)
            assert np.array_equal(read.dequantised(), value.dequantised())
            if value.bias is None:
                assert read.bias is None
            else:
                assert np.array_equal(read.bias, value.bias)
    # The reader gives scales in their coarsest form, here per row, which tells nothing of the type.
    tokens = random_tokens(1, want.graph.vocabulary, 20)
    results = [logits(model, tokens, arithmetic_of(NAMED[name])) for model in (got, want)]
    assert np.array_equal(*results)


@pytest.mark.parametrize(("kind", "block"), [("ggml", 256), ("ggml-q8_0", 64)])
@pytest.mark.parametrize("group", [0, 512])
def test_coarse_scales(kind, block, group):
    """A scale of a row or a longer group is the same scale in each of its blocks."""
    rng = np.random.default_rng(1)
    coarse = random_linear(rng, 9, 1024, group_size=group, row_scales=True)
    scales = np.repeat(coarse.scales, (group or 1024) // block, axis=1)
    fine = dataclasses.replace(coarse, scales=scales, group_size=block)
    x = rng.normal(0, 1, (3, 1024)).astype(np.float32)
    assert np.array_equal(linears.prepare(coarse, kind)(x), linears.prepare(fine, kind)(x))


def test_refused():
    linear = models.build(NAMED["llama-tq1_0"]).layers[0].down
    with pytest.raises(ValueError, match="no ternary type for rows of 512 weights with a scale pe"):
        linears.prepare(dataclasses.replace(linear, group_size=32), "ggml")
    narrow = dataclasses.replace(linear, values=linear.values[:, :300], scales=None, group_size=0)
    with pytest.raises(ValueError, match="rows of 300 weights .* multiples of 64; use the arithme"):
        linears.prepare(narrow, "ggml-q8_0")
    with pytest.raises(ValueError, match="arithmetic 'q8' is unknown; use hf, ggml, ggml-q8_0, fl"):
        linears.prepare(linear, "q8")


def test_live_recorded(library, tmp_path, recorded):
    """The llama.cpp that is installed computes what was recorded."""
    import llama_cpp_runner

    for name, spec in NAMED.items():
        path = models.write(spec, tmp_path / f"{name}.gguf")
        got, _ = llama_cpp_runner.evaluate(path, recorded[f"{name}/tokens"].tolist())
        assert np.abs(got - recorded[f"{name}/logits"]).max() < 1e-4, "record it again"


def test_live(library, tmp_path):
    """Other and longer files: every matrix on the same inputs, and the gates over all logits."""
    import llama_cpp_runner

    texts, wanted, got = [], [], []
    for spec in models.SPECS:
        spec = dataclasses.replace(spec, seed=spec.seed + 100, layers=3)
        model, path = models.build(spec), models.write(spec, tmp_path / f"{spec.name}.gguf")
        (tokens,) = fidelity.draw_text(model, spec.context)
        watch = {
            f"blk.{layer}.{stored}.weight": (layer, name)
            for layer in range(spec.layers)
            for name, stored in models.NAMES.items()
        }
        want, seen = llama_cpp_runner.evaluate(path, tokens, watch)
        assert set(seen) == set(watch)
        for weight, (x, y) in seen.items():
            check_product(spec, model, *watch[weight], x, y)
        texts.append(tokens)
        wanted.append(want)
        got.append(logits(model, tokens, arithmetic_of(spec)))
        alone = fidelity.Agreement.of(texts[-1:], wanted[-1:], got[-1:])
        print(spec.name, alone)
        assert alone.kl <= 1e-3
    agreement = fidelity.Agreement.of(texts, wanted, got)
    print("all", agreement)
    check_gates(agreement)


def test_live_vectors(library, vectors):
    for name in FLOATS:
        floats = vectors[f"{name}/floats"]
        for kind in models.TYPES:
            data = library.quantise(kind, floats)
            assert np.array_equal(data, vectors[f"{name}/{kind}/bytes"])
            values = library.dequantise(kind, data, floats.shape[1])
            assert np.array_equal(values, vectors[f"{name}/{kind}/values"])


def test_live_files(library):
    """Our bytes of a matrix are those of ggml's quantiser, or at least mean the same to it."""
    for spec in models.SPECS:
        linear = models.build(spec).layers[0].gate
        data, weights = models.blocks(linear, spec.kind), linear.dequantised()
        assert np.array_equal(library.dequantise(spec.kind, data, linear.shape[1]), weights)
        # The quantiser of Q2_0 makes no twos; floats are the package's own.
        if spec.kind in ("TQ1_0", "TQ2_0"):
            assert np.array_equal(library.quantise(spec.kind, weights), data)
