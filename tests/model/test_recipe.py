"""Recipe of the demonstration model: packing, quantiser, parsing, export; no texts needed."""

import itertools
import types

import numpy as np
import pytest
from tamale_model.recipe import packing, texts

SEED = 20251122


def test_pack_layout():
    codes = np.zeros((8, 3), dtype=np.int8)
    codes[0, 0] = 1  # byte row 0, bits 0-1
    codes[3, 1] = -1  # byte row 1, bits 2-3
    codes[6, 2] = 1  # byte row 0, bits 6-7
    packed = packing.pack(codes)
    assert packed.dtype == np.uint8 and packed.shape == (2, 3)
    zeros = 0b01010101
    assert packed[0].tolist() == [zeros + 0b01, zeros, zeros + (0b01 << 6)]
    assert packed[1].tolist() == [zeros, zeros - (0b01 << 2), zeros]


@pytest.mark.parametrize("shape", [(4, 1), (64, 17), (256, 768)])
def test_pack_roundtrip(shape):
    codes = np.random.default_rng(SEED).integers(-1, 2, shape, dtype=np.int8)
    assert np.array_equal(packing.unpack(packing.pack(codes)), codes)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((6, 2)), r"out a multiple of 4, not \(6, 2\)"),
        (np.zeros(8), r"must be \[out, in\]"),
        (np.full((4, 2), 2), "quantise the matrix first"),
    ],
)
def test_pack_rejects(codes, message):
    with pytest.raises(ValueError, match=message):
        packing.pack(codes)


def test_unpack_rejects():
    with pytest.raises(ValueError, match="no ternary code"):
        packing.unpack(np.full((1, 2), 0b11, dtype=np.uint8))
    with pytest.raises(ValueError, match="must be uint8"):
        packing.unpack(np.zeros((1, 2), dtype=np.int8))


def test_quantise():
    codes, scale = packing.quantise([[0.4, -0.1, 0.0, 0.3]])
    assert scale == pytest.approx(0.2)
    assert codes.tolist() == [[1, 0, 0, 1]]
    codes, scale = packing.quantise(np.zeros((4, 4)))
    assert not codes.any() and scale == np.float32(packing.SCALE_MINIMUM)


def test_quantise_keeps_the_sign_and_the_set():
    master = np.random.default_rng(SEED).normal(0, 0.05, (64, 96))
    codes, scale = packing.quantise(master)
    assert codes.dtype == np.int8 and set(np.unique(codes)) == {-1, 0, 1}
    assert (codes * master >= 0).all()
    assert (codes[np.abs(master) > 0.5001 * scale] != 0).all()
    assert (codes[np.abs(master) < 0.4999 * scale] == 0).all()


def test_parse_kjv():
    listing = "\nGenesis 1\n\n  1 In the beginning.\n  2 And  so.\n\n3 John 1\n\n  1 The elder.\n"
    first, second = texts.parse_kjv(listing)
    assert first.text == "Genesis 1\n\nIn the beginning.\nAnd so."
    assert (second.heading, second.text) == ("3 John 1", "3 John 1\n\nThe elder.")


def test_parse_novel():
    lines = ["EMMA", "", "by Jane Austen", "", "VOLUME I", "", "CHAPTER I", "", ""]
    lines += ["_Emma_  was", "rich.", "", "[End of a volume.]", "", " * * *", "", "She had £20."]
    lines += ["", "VOLUME II", "", "CHAPTER I", "", "Then.*", "", "*A footnote.", "", "FINIS"]
    first, second = texts.parse_novel("Emma", lines)
    assert first.text == "Emma, Chapter 1\n\nEmma was rich.\n\nShe had 20 pounds."
    assert second.text == "Emma, Chapter 2\n\nThen."


def test_split_holds_out_neighbours():
    chapters = [texts.Chapter("kjv", str(i), "") for i in range(80)]
    train, held_out = texts.split(chapters)
    assert [chapter.heading for chapter in held_out] == ["38", "39", "78", "79"]
    assert len(train) == 76


def test_missing_text_names_the_package(monkeypatch):
    monkeypatch.setattr(texts.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="install the Debian package 'bible-kjv'"):
        texts.gather()


class Letters:
    """Tokenizer of one letter an entry: ids 2 to 27 are a to z, 28 is the end of a line."""

    class Encoding:
        def __init__(self, ids):
            self.ids = ids

    def encode(self, text):
        return self.Encoding([28 if c == "\n" else ord(c) - ord("a") + 2 for c in text])

    def decode(self, ids):
        return "".join("\n" if i == 28 else chr(i - 2 + ord("a")) for i in ids)

    def get_vocab_size(self):
        return 29

    def id_to_token(self, index):
        return "Ċ" if index == 28 else str(index)

    def save(self, path):
        with open(path, "w") as file:
            file.write("{}")


@pytest.fixture
def stream():
    pytest.importorskip("tokenizers")
    from tamale_model.recipe import corpus

    chapters = [texts.Chapter("kjv", "", "abc\nxyz" * 20), texts.Chapter("austen", "", "no\n" * 30)]
    return corpus.Stream(chapters, Letters())


def test_stream(stream):
    assert stream.bytes == 230 and len(stream) == 232
    assert stream.ids[140] == 1 and stream.source[140:142].tolist() == [0, 1]
    assert stream.lines[0] == 4 and 141 in stream.lines
    assert stream.window(4, 3).tolist() == [0, *Letters().encode("xyz").ids]
    assert stream.window(4, 2, bos=False).tolist() == Letters().encode("xyz").ids


def test_batches_repeat_with_the_seed(stream):
    from tamale_model.recipe import corpus

    first, second = (corpus.batches(stream, 16, 4, np.random.default_rng(SEED)) for _ in range(2))
    for _ in range(10):
        batch = next(first)
        assert batch.shape == (4, 17) and batch.dtype == np.int64
        assert np.array_equal(batch, next(second))


@pytest.fixture
def small():
    torch = pytest.importorskip("torch")
    from tamale_model.recipe.model import BitNet, Geometry

    torch.manual_seed(SEED)
    geometry = Geometry(
        hidden=16, layers=2, heads=4, kv_heads=2, head_size=4, ffn=24, vocabulary=29, context=64
    )
    return BitNet(geometry)


def test_geometry_rejects():
    pytest.importorskip("torch")
    from tamale_model.recipe.model import Geometry

    with pytest.raises(ValueError, match=r"heads \* head_size is 320"):
        Geometry(heads=5)
    with pytest.raises(ValueError, match="multiple of kv_heads"):
        Geometry(kv_heads=3)


def test_demonstration_size():
    pytest.importorskip("torch")
    from tamale_model.recipe.model import BitNet, Geometry

    assert sum(p.numel() for p in BitNet(Geometry()).parameters()) == 3_414_272


def test_export_roundtrip(small, tmp_path):
    import torch
    from tamale_model.recipe.export import export, load

    export(small, Letters(), tmp_path)
    again = load(tmp_path)
    ids = torch.randint(0, 29, (2, 40), generator=torch.Generator().manual_seed(SEED))
    with torch.no_grad():
        assert torch.allclose(small(ids), again(ids), atol=1e-5)


def test_gradient_passes_straight_through():
    torch = pytest.importorskip("torch")
    from tamale_model.recipe.model import bit_linear

    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(3, 8, generator=generator, requires_grad=True)
    master = torch.randn(4, 8, generator=generator, requires_grad=True)
    (y,) = bit_linear(x, master, fast=False)
    upstream = torch.randn(3, 4, generator=generator)
    y.backward(upstream)
    codes, scale = packing.quantise(master.detach().numpy())
    matrix = torch.from_numpy(codes * scale)
    assert torch.allclose(y, x @ matrix.T, atol=0.05)
    assert torch.allclose(x.grad, upstream @ matrix, atol=1e-5)
    assert torch.allclose(master.grad, upstream.T @ x.detach(), atol=0.05)


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
def test_train_learns_and_resumes(small, stream, tmp_path, monkeypatch, capsys, optimiser):
    from tamale_model.recipe import corpus, train

    monkeypatch.setattr(corpus, "load", lambda: (Letters(), stream, stream))
    monkeypatch.setattr(train, "PHASES", ((0.0, 16), (0.5, 32)))
    monkeypatch.setattr(train, "held_out_loss", lambda model, stream: 0.0)
    # A clock that the machine's load cannot slow: 4 ms a look, 300 steps in all.
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: 0.004 * next(ticks))
    monkeypatch.setattr(train, "time", clock)
    settings = dict(
        minutes=0.04, tokens_per_step=64, peak=1e-2, compiled=False, geometry=small.geometry
    )
    train.train(tmp_path, **settings, optimiser=optimiser, stop_after=0.02)
    model = train.train(tmp_path, **settings, optimiser=optimiser)
    assert "resumed step" in capsys.readouterr().out
    import torch

    ids = torch.from_numpy(stream.window(0, 48)[None])
    assert model.loss(ids).item() < 3.2  # an untrained model has ln 29 = 3.37


def test_schedules():
    pytest.importorskip("torch")
    from tamale_model.recipe import train

    assert train.rate(0.0) == 0.0 and train.rate(1.0) == 0.0 and train.rate(train.WARM_UP) == 1.0
    assert [train.window_length(share) for share in (0, 0.6, 0.99)] == [256, 512, 2048]
