"""`tamale inspect`: what it says of checkpoints, images and files that are not supported."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tamale import config as configuration
from tamale_model import cycles, imagefile, readers
from tamale_model.machine import Job, Slot
from tamale_sim.cli import main
from tamale_sim.models_cache import demonstration

sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
import sparse_folders  # noqa: E402
from gguf_files import Spec, gguf_entries, write_folder, write_gguf, write_raw  # noqa: E402

ULX3S = configuration.load("ulx3s")


def inspect(capsys, *arguments, status=0):
    """The object that ``--json`` prints."""
    assert main(["inspect", *map(str, arguments), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def text(capsys, *arguments, status=0):
    assert main(["inspect", *map(str, arguments)]) == status
    return capsys.readouterr()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An image of the demonstration model."""
    path = tmp_path_factory.mktemp("inspect") / "demo.img"
    imagefile.build(ULX3S, readers.read(demonstration()), path)
    return path


@pytest.mark.parametrize("positions", [1, 100, 2048])
def test_demonstration(capsys, image, positions):
    """Without packing, bytes and cycles are those of the packed image."""
    result = inspect(capsys, "--config", "ulx3s", "--context", positions)
    packed = imagefile.load(image)
    fit, traffic = result["configurations"][0], result["traffic"]
    assert fit["runs"] and fit["reason"] is None
    job = Job([Slot(0, positions - 1, 0)])
    assert fit["cycles"] == pytest.approx(cycles.predict(ULX3S, packed.program, job).cycles, 1e-9)
    assert fit["tokens_per_second"] == pytest.approx(80e6 / fit["cycles"])
    assert fit["tokens_per_second"] <= fit["bound"]
    sweep = traffic["total"] - traffic["cache"]
    assert sweep == pytest.approx(packed.fields["sweep_bytes"], rel=2e-3)
    assert fit["memory"] == pytest.approx(packed.memory_bytes(), rel=0.02)
    if positions == 2048:
        assert traffic["cache"] == packed.fields["kv_sequence_bytes"]
    assert traffic["positions"] == positions


def test_demonstration_in_words(capsys):
    out = text(capsys, "--config", "tiny", "--config", "ulx3s").out
    for part in (
        "architecture bitnet",
        "4 layers, hidden 256, 4 heads of 64, 2 to a KV head, feed-forward 768 with relu2",
        "context 2,048, rotary base 10,000, sub-norms",
        "1,024 tokens, tied head, with its tokenizer",
        "3,414,272: 3,145,728 in matrices, 262,144 in embedding and head",
        "packed trits (28)",
        "one for each matrix, 1 trit a weight",
        "% of the weights (all layers)",
        "with 2,048 positions in its context (configuration ulx3s)",
        "tiny does not run it: ",
        "rows of 768 weights are longer than max_k = 256",
    ):
        assert part in out, part


def test_zeros_and_parameters(capsys):
    result = inspect(capsys, "--config", "ulx3s")
    model = readers.read(demonstration())
    zeros = total = 0
    for layer in model.layers:
        for name in ("q", "k", "v", "o", "gate", "up", "down"):
            values = getattr(layer, name).values
            zeros += values.size - np.count_nonzero(values)
            total += values.size
    assert result["zeros"]["share"] == zeros / total and result["zeros"]["layers"] == 4
    assert result["parameters"]["matrices"] == total
    assert result["bits"]["total"] == pytest.approx(1.625, abs=0.001)


def test_gguf(capsys, tmp_path):
    """Groups along K, two trits, biases, norms of heads: all of it is said."""
    path = write_gguf(tmp_path / "m.gguf", Spec(1, "qwen3", 64, 2), "Q2_0")
    result = inspect(capsys, path, "--config", "ulx3s")
    assert (result["kind"], result["architecture"]) == ("GGUF", "qwen3")
    assert set(result["scales"]["up"].values()) == {"group", 64, 2}
    assert result["forms"] == {"Q2_0": 14} and result["norms"][-1] == "query_norm"
    assert result["bits"]["scales"] == 16 / 64 / 2
    out = text(capsys, path, "--config", "ulx3s").out
    assert "norms of query and key" in out and "untied head, without tokenizer" in out
    assert "one for every 64 weights, 2 trits a weight" in out
    assert "note         no tokenizer: the file has no vocabulary" in out
    path = write_gguf(tmp_path / "n.gguf", Spec(1, "qwen2", 64), "Q2_0")
    assert "biases of k, q, v" in text(capsys, path, "--config", "ulx3s").out


def test_float(capsys, tmp_path):
    """A float checkpoint is reckoned as what it would become."""
    spec = Spec(2)
    for values in spec.values:
        for name in values:
            values[name] = values[name] + spec.rng.normal(0, 0.1, values[name].shape)
    path = write_folder(tmp_path / "m", spec, "float32")
    result = inspect(capsys, path, "--config", "ulx3s", "--trits", 2)
    assert len(result["float_matrices"]) == 7 and result["zeros"] is None
    assert result["scales"]["q"] == {"level": "group", "group_size": 128, "trits": 2}
    out = text(capsys, path, "--config", "ulx3s").out
    assert "all matrices are not ternary; `tamale quantise` makes trits of them" in out
    assert "float32 (14)" in out


def test_geometry_of_2b_4t(capsys, tmp_path):
    """1.61 bits a trit, and why it does not run on a board of 32 MB."""
    sparse_folders.write(tmp_path / "m", "packed", layers=1, vocabulary=16384)
    result = inspect(capsys, tmp_path / "m", "--context", 1024)
    assert result["bits"]["total"] < 1.61
    (fit,) = (f for f in result["configurations"] if f["configuration"] == "ulx3s")
    assert not fit["runs"]
    assert "image and cache need" in fit["reason"] and "longer than max_k" in fit["reason"]


def test_image(capsys, image):
    result = inspect(capsys, image, "--context", 500, "--config", "tiny", "--config", "ulx3s")
    assert result["kind"] == "image" and result["model"] == "demo"
    tiny, ulx3s = sorted(
        result["configurations"], key=lambda fit: fit["memory"] > fit["available"]
    )[::-1]
    assert not tiny["runs"] and "hardware has" in tiny["reason"]
    assert ulx3s["runs"] and 0.9 < ulx3s["tokens_per_second"] / ulx3s["bound"] < 1
    out = text(capsys, image).out
    assert "memory image of demo" in out and "1,024 tokens, with their texts" in out


UNSUPPORTED = {
    "architecture": ({"general.architecture": "gemma3"}, "architecture 'gemma3' is not supported"),
    "experts": ({"llama.expert_count": 8}, "llama.expert_count = 8 is not supported"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported(capsys, tmp_path, case):
    """What can be said is said, then what is wrong and what to do."""
    changes, message = UNSUPPORTED[case]
    metadata, tensors = gguf_entries(Spec(3), "TQ2_0")
    path = write_raw(tmp_path / "m.gguf", metadata | changes, tensors)
    result = inspect(capsys, path, status=1)
    assert message in result["unsupported"] and result["forms"]["TQ2_0"] == 14
    shown = text(capsys, path, status=1)
    assert message in shown.err and shown.err.startswith("tamale: ")
    assert "TQ2_0 (14)" in shown.out


def test_tl2(capsys, tmp_path):
    metadata, tensors = gguf_entries(Spec(3), "TQ2_0")
    for name, (kind, shape, data) in tensors.items():
        tensors[name] = (39 if kind == 35 else kind), shape, data
    path = write_raw(tmp_path / "m.gguf", metadata, tensors)
    shown = text(capsys, path, status=1)
    assert "TL2 of bitnet.cpp (14)" in shown.out
    assert "use the I2_S, TQ2_0 or F16 file of the same model" in shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--context", "0"], "--context must be 1 or more, not 0"),
        (["--trits", "6"], "--trits must be 1 to 5, not 6"),
        (["/nowhere"], "/nowhere: no such file or folder"),
        (["--config", "none"], "unknown configuration 'none'"),
    ],
)
def test_bad_arguments(capsys, arguments, message):
    assert main(["inspect", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_damaged(capsys, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF")
    shown = text(capsys, path, status=1)
    assert "not a complete GGUF file" in shown.err and "architecture unknown" in shown.out


def test_help(capsys):
    with pytest.raises(SystemExit):
        main(["inspect", "--help"])
    out = capsys.readouterr().out
    assert "examples:" in out and "tamale inspect model.img" in out and "bound" in out


def test_gguf_in_other_commands(capsys, tmp_path, monkeypatch):
    """`pack` and `run` take GGUF files as `inspect` does."""
    monkeypatch.setenv("TAMALE_BUILD", str(tmp_path / "build"))
    sizes = {"hidden": 128, "feed_forward": 256, "heads": 2, "kv_heads": 1}
    path = write_gguf(tmp_path / "small.gguf", Spec(1, "qwen3", 64, 2, **sizes), "Q2_0")
    fit = inspect(capsys, path, "--config", "ulx3s", "--context", 1)["configurations"][0]
    assert main(["pack", str(path), "-o", str(tmp_path / "small.img")]) == 0
    packed = imagefile.load(tmp_path / "small.img")
    job = Job([Slot(0, 0, 0)])
    # The extrapolation over layers and vocabulary is exact but for pauses of the memory.
    predicted = cycles.predict(ULX3S, packed.program, job).cycles
    assert fit["cycles"] == pytest.approx(predicted, rel=2e-3)
    assert fit["memory"] == pytest.approx(packed.memory_bytes(), rel=0.03)
    capsys.readouterr()
    arguments = ["--backend", "golden", "--prompt-ids", "1,2,3", "--tokens", "4"]
    assert main(["run", str(path), *arguments]) == 0
    assert "4 tokens" in capsys.readouterr().err
