"""`tamale quantise`: what it writes, prints, refuses, and leaves behind when it is stopped."""

import contextlib
import io
import json
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tamale_model import readers
from tamale_model.model import LINEARS
from tamale_model.quantise import calibrate, report
from tamale_model.quantise.method import Method
from tamale_sim.cli import main
from tamale_sim.models_cache import demonstration

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "model"), str(_TESTS / "soc")]

from float_models import float_model  # noqa: E402
from systems import byte_tokenizer  # noqa: E402

_NAMES = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
    "o": "self_attn.o_proj", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A float llama in Hugging Face form whose token n is the byte n."""
    folder = tmp_path_factory.mktemp("float") / "llama"
    folder.mkdir()
    model = float_model(21, vocabulary=128, hidden=64, context=128, tied=True)
    graph = model.graph
    tensors = {
        "model.embed_tokens.weight": model.embedding,
        "model.norm.weight": model.final_norm,
    }
    for i, layer in enumerate(model.layers):
        prefix = f"model.layers.{i}."
        tensors[prefix + "input_layernorm.weight"] = layer.input_norm
        tensors[prefix + "post_attention_layernorm.weight"] = layer.post_norm
        for name in LINEARS:
            tensors[f"{prefix}{_NAMES[name]}.weight"] = getattr(layer, name).weights
    save_file(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "model.safetensors"
    )
    config = {
        "model_type": "llama", "hidden_size": graph.hidden, "head_dim": graph.head_size,
        "intermediate_size": graph.feed_forward, "num_hidden_layers": graph.layers,
        "num_attention_heads": graph.heads, "num_key_value_heads": graph.kv_heads,
        "vocab_size": graph.vocabulary, "max_position_embeddings": graph.context,
        "rms_norm_eps": graph.norm_epsilon, "rope_theta": graph.rope_theta,
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(byte_tokenizer(128))
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Files of a few thousand characters."""
    rng = np.random.default_rng(1)
    words = ["".join(chr(c) for c in rng.integers(97, 123, n)) for n in rng.integers(2, 8, 50)]
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text(" ".join(rng.choice(words, 4000)))
    return file


def options(checkpoint, text):
    return [str(checkpoint), "--text", str(text), "--tokens", "1024", "--held-out", "256",
            "--group", "64"]  # fmt: skip


@pytest.fixture(scope="module")
def made(checkpoint, text, tmp_path_factory):
    """(folder, object printed)."""
    folder = tmp_path_factory.mktemp("made") / "llama3t"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main(["quantise", *options(checkpoint, text), "-o", str(folder), "--json"])
    assert status == 0
    return folder, json.loads(printed.getvalue())


def test_json(made, checkpoint):
    folder, printed = made
    assert set(printed) == {
        "folder", "model", "trits", "group_size", "bits_per_weight", "calibration_tokens",
        "float_activations", "int8_activations", "layers", "seconds",
    }  # fmt: skip
    assert printed["folder"] == str(folder) and printed["model"] == "llama"
    assert (printed["trits"], printed["group_size"]) == (3, 64)
    assert printed["calibration_tokens"] == 1024
    assert len(printed["layers"]) == 2 and set(printed["layers"][0]) == set(LINEARS)
    assert all(0 < e < 0.05 for layer in printed["layers"] for e in layer.values())
    loss = printed["float_activations"]
    assert 0 < loss["kl"] < 0.05 and loss["argmax"] > 0.8 and loss["tokens"] == 256
    assert loss["perplexity"] == pytest.approx(np.exp(loss["xent"]))
    weights = sum(getattr(readers.read(checkpoint).layers[0], n).weights.size for n in LINEARS)
    scales = sum(getattr(readers.read(folder).layers[0], n).scales.size for n in LINEARS)
    assert printed["bits_per_weight"] == pytest.approx(4.8 + 16 * scales / weights)


def test_folder(made, checkpoint, capsys):
    """The figures are those of the folder's model, which runs."""
    folder, printed = made
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json", *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
        "model.safetensors.index.json", "tokenizer.json",
    ]  # fmt: skip
    found, source = readers.read(folder), readers.read(checkpoint)
    assert found.tokenizer == source.tokenizer and found.graph.eos == (2,)
    assert (
        json.loads((folder / "config.json").read_text())["quantisation"]["losses"][0]
        == (printed["float_activations"])
    )
    for layer in found.layers:
        for name in LINEARS:
            linear = getattr(layer, name)
            assert linear.planes == 3 and linear.group_size == 64 and linear.scales.max() == 1
            assert 4 < np.abs(linear.values).max() <= 13
    for backend in ("float", "golden"):
        arguments = ["run", str(folder), "--backend", backend, "--prompt", "once", "--tokens", "4"]
        assert main([*arguments, "--config", "tiny", "--context", "64", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["tokens"]) == 4


def test_text(checkpoint, text, tmp_path, capsys):
    folder = tmp_path / "one"
    arguments = [*options(checkpoint, text), "--trits", "1", "-o", str(folder)]
    assert main(["quantise", *arguments]) == 0
    out, err = capsys.readouterr()
    assert f"{folder}: llama, 1 trit in groups of 64" in out.replace("\n", " ")
    assert "perplexity of 256 held-out tokens: float" in out and "with int8" in out
    assert "keeps little of its language in one trit" in err
    assert main(["quantise", *options(checkpoint, text), "-o", str(folder)]) == 1
    assert "exists already; remove it or give -o another name" in capsys.readouterr().err


def test_interrupted_and_resumed(checkpoint, text, tmp_path, capsys, monkeypatch, made):
    folder, arguments = tmp_path / "again", [*options(checkpoint, text), "--json"]
    whole = calibrate.quantise_matrix
    calls = []

    def stopping(*given):
        calls.append(given)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(calibrate, "quantise_matrix", stopping)
    assert main(["quantise", *arguments, "-o", str(folder)]) == 130
    error = capsys.readouterr().err
    assert "interrupted" in error and "same command" in error
    assert not folder.exists()
    assert main(["quantise", *arguments, "-o", str(folder)]) == 0
    assert len(calls) == 10 + 7, "the first layer is not quantised again"
    printed = json.loads(capsys.readouterr().out)
    assert printed["float_activations"] == pytest.approx(made[1]["float_activations"])
    for file in made[0].glob("*.safetensors"):
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["again"]


def test_report(checkpoint, text, capsys):
    assert main(["quantise", *options(checkpoint, text), "--report", "2", "3", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = {row["label"]: row for row in printed["methods"]}
    assert list(rows) == [
        "2 trits, to nearest, absmax", "2 trits", "3 trits, to nearest, absmax", "3 trits",
        "INT4, to nearest, absmax", "INT4, GPTQ",
    ]  # fmt: skip
    kl = {label: row["float_activations"]["kl"] for label, row in rows.items()}
    assert kl["3 trits"] < kl["INT4, GPTQ"] < kl["INT4, to nearest, absmax"]
    assert kl["3 trits"] < kl["2 trits"] < kl["2 trits, to nearest, absmax"]
    assert [row["levels"] for row in printed["methods"]] == [9, 9, 27, 27, 16, 16]
    assert rows["INT4, GPTQ"]["bits_per_weight"] == pytest.approx(4.25, abs=0.05)


def test_report_table(checkpoint, text, capsys, monkeypatch):
    methods = {"3 trits": Method.of_trits(3, 64).plain()}
    monkeypatch.setattr(report, "baselines", lambda *_: methods)
    assert main(["quantise", *options(checkpoint, text), "--report"]) == 0
    out = capsys.readouterr().out
    assert "256 held-out tokens, float perplexity" in out and "3 trits" in out


def test_sparse(checkpoint, text, tmp_path, capsys):
    """A sparse model is made, packed in the sparse code and run; a dense one is refused."""
    folder, image = tmp_path / "lean", tmp_path / "lean.img"
    config = tmp_path / "sparse.toml"
    config.write_text(
        (resources.files("tamale") / "presets" / "tiny.toml").read_text().replace("tiny", "sparse")
        + 'sparse_code = "s34"\ntile_rows = 1\n'
    )
    arguments = [str(checkpoint), "--text", str(text), "--tokens", "1024", "--held-out", "256"]
    assert main(["quantise", *arguments, "--sparse", "-o", str(folder)]) == 0
    assert "1 trit, 3:4 sparse, in whole rows, 1." in capsys.readouterr().out
    pack = ["pack", "--config", str(config), "--context", "32", "-o", str(image)]
    assert main([*pack, str(folder), "--sparse", "all"]) == 0
    assert "100.0% of the layers' trits in code s34" in capsys.readouterr().out
    inspected = ["inspect", "--config", str(config)]
    assert main([*inspected, str(image)]) == 0 and main([*inspected, str(folder)]) == 0
    out = capsys.readouterr().out
    assert "code t5 and s34" in out and "3:4 sparse   q, k, v, o, gate, up, down" in out
    assert "code 1.250" in out

    run = ["run", "--backend", "golden", "--config", str(config), "--prompt-ids", "5,7"]
    for model in (folder, image):
        context = ["--context", "32"] if model is folder else []
        assert main([*run, str(model), "--tokens", "3", "--json", *context]) == 0
        assert len(json.loads(capsys.readouterr().out)["tokens"]) == 3

    assert main([*pack, str(folder), "--sparse", "none"]) == 0
    assert "s34" not in capsys.readouterr().out
    dense = tmp_path / "dense"
    assert main(["quantise", *arguments, "--trits", "1", "-o", str(dense)]) == 0
    capsys.readouterr()
    assert main([*pack, str(dense), "--sparse", "all"]) == 1
    error = capsys.readouterr().err
    assert "matrix 'q' of layer 0, " in error and "`tamale quantise --sparse`" in error
    assert main([*pack, str(dense)]) == 0
    assert "not in code s34: matrix 'q' of layer 0, " in capsys.readouterr().out
    assert main(["pack", str(dense), "--config", "tiny", "--sparse", "all", "-o", str(image)]) == 1
    assert "configuration tiny has no sparse code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "x", "--sparse", "--trits", "2"], "--sparse weights have one trit, not 2"),
        (["--report", "2", "--sparse"], "--report of --sparse takes no numbers of trits"),
        ([], "give -o FOLDER to quantise, or --report to compare"),
        (["-o", "x", "--report"], "give -o FOLDER to quantise, or --report to compare"),
        (["-o", "x", "--trits", "6"], "a weight has 1 to 5 trits, not 6"),
        (["--report", "0"], "a weight has 1 to 5 trits, not 0"),
        (["-o", "x", "--tokens", "0"], "--tokens must be 2 or more, not 0"),
        (["-o", "x", "--held-out", "-1"], "--held-out must be 0, or 2 or more, not -1"),
        (["--report", "--held-out", "0"], "--report needs held-out text"),
        (["-o", "x", "--tokens", "9000000"], "pass more text with --text, or use fewer --tokens"),
        (["-o", "x", "--text", "/nowhere"], "/nowhere"),
        (["-o", "/nowhere/x"], "/nowhere: no such folder; make it"),
    ],
)
def test_refused(checkpoint, text, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--text" not in arguments:
        arguments = [*arguments, "--text", str(text)]
    assert main(["quantise", str(checkpoint), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tamale: ") and message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_refused_checkpoints(made, checkpoint, tmp_path, text, capsys):
    target = ["-o", str(tmp_path / "x"), "--text", str(text)]
    for path, message in (
        (demonstration(), "quantised already; `tamale pack` takes such a checkpoint as it is"),
        (made[0], "quantised already"),
        (tmp_path / "nothing", "nothing"),
    ):
        assert main(["quantise", str(path), *target]) == 1
        assert message in capsys.readouterr().err
    mute = tmp_path / "mute"
    mute.mkdir()
    for file in ("config.json", "model.safetensors"):
        (mute / file).write_bytes((checkpoint / file).read_bytes())
    assert main(["quantise", str(mute), *target]) == 1
    assert "has no tokenizer.json, so no text can be read" in capsys.readouterr().err
    (mute / "tokenizer.json").write_text(byte_tokenizer(200))
    target[-1] = str(tmp_path / "odd.txt")
    (tmp_path / "odd.txt").write_text("caf\u00e9 " * 2000)
    assert main(["quantise", str(mute), *target, "--tokens", "500", "--held-out", "0"]) == 1
    assert "the files are not of one checkpoint" in capsys.readouterr().err
