"""`tamale run`: what it prints, saves and refuses, on the simulated board and on models of it."""

import dataclasses
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tamale.config import Config
from tamale_model import imagefile, readers

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "model"), str(_TESTS / "soc")]

import checkpoints  # noqa: E402
from systems import FOUR, byte_tokenizer  # noqa: E402

#: Promised to everyone who reads the object.
PROMISED = {
    "prompt_tokens", "tokens", "text", "cycles_per_token", "bytes_per_token", "roofline",
    "counters",
}  # fmt: skip
ALWAYS = PROMISED | {
    "model", "configuration", "memory", "reasons", "interrupted", "equal_to_golden", "mismatch",
    "seconds", "simulation",
}  # fmt: skip
MEASURED = {
    "tokens_per_second", "bytes_per_second", "layers", "head", "prefill_cycles",
    "predicted_cycles_per_token", "prediction_error",
}  # fmt: skip

#: Byte n is token n; the checkpoints have 90 tokens.
VOCABULARY = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint with tokenizer."""
    folder = checkpoints.write(
        tmp_path_factory.mktemp("run") / "model", "autobitlinear", changes={"eos_token_id": None}
    )
    (folder / "tokenizer.json").write_text(byte_tokenizer(VOCABULARY))
    return folder


@pytest.fixture(scope="module")
def mute(tmp_path_factory):
    """The same without tokenizer."""
    return checkpoints.write(
        tmp_path_factory.mktemp("run") / "mute", "autobitlinear", changes={"eos_token_id": None}
    )


@pytest.fixture(scope="module")
def toml(tmp_path_factory):
    """A configuration file: that of the boards in tests/soc."""
    path = tmp_path_factory.mktemp("run") / "four.toml"
    path.write_text(FOUR.to_toml())
    return path


def command(*arguments):
    return [sys.executable, "-m", "tamale_sim", "run", *map(str, arguments)]


def tamale(*arguments, status=0):
    """Run the command; return its finished process."""
    result = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=1200)
    assert result.returncode == status, result.stderr
    return result


def tamale_json(*arguments):
    """Run the command with --json, which prints one object and nothing else."""
    result = tamale(*arguments, "--json")
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def refused(*arguments):
    """Return the one line that the command prints where it refuses to run."""
    result = tamale(*arguments, status=1)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    # Work that came before the refusal may be announced.
    assert all(line.startswith("tamale: packing ") for line in lines[:-1]), result.stderr
    assert lines[-1].startswith("tamale: ")
    return lines[-1]


# Board --------------------------------------------------------------------------------------------


def test_board(folder, toml, tmp_path):
    """The board's tokens and logits are the golden model's; the object has what was promised."""
    common = [folder, "--config", toml, "--prompt-ids", "5,9,33", "--tokens", 6]
    own = tamale_json(*common, "--logits", tmp_path / "own.npy")
    assert set(own) == ALWAYS | MEASURED
    assert own["prompt_tokens"] == [5, 9, 33]
    assert len(own["tokens"]) == 6 and all(0 <= token < VOCABULARY for token in own["tokens"])
    assert own["text"] == bytes(own["tokens"]).decode()
    assert own["equal_to_golden"] is True and own["mismatch"] is None
    assert own["reasons"] == ["length"] and own["interrupted"] is False
    assert own["configuration"] == "four" and own["memory"] == "sdram"
    assert own["simulation"]["violation"] == 0
    assert own["counters"]["jobs"] == 6
    # Bytes over cycles over the two bytes that the SDRAM moves in a cycle.
    assert own["roofline"] == pytest.approx(own["bytes_per_token"] / own["cycles_per_token"] / 2)
    assert 0 < own["roofline"] < 1
    for part in ("layers", "head"):
        assert set(own[part]) == {"cycles", "bytes", "roofline"}
    assert own["layers"]["bytes"] + own["head"]["bytes"] == pytest.approx(own["bytes_per_token"])
    assert own["layers"]["cycles"] + own["head"]["cycles"] == pytest.approx(own["cycles_per_token"])
    assert own["prefill_cycles"] > 0

    golden = tamale_json(*common, "--backend", "golden", "--logits", tmp_path / "golden.npy")
    assert golden["tokens"] == own["tokens"]
    logits = np.load(tmp_path / "own.npy")
    assert logits.dtype == np.float32 and logits.shape == (3 + 6 - 1, VOCABULARY)
    np.testing.assert_array_equal(logits, np.load(tmp_path / "golden.npy"))


def test_board_parallel(folder, toml, tmp_path):
    """Two prompts are two sequences."""
    own = tamale_json(
        folder, "--config", toml, "--prompt-ids", "1,2,3,4,5,6,7", "--prompt-ids", "8",
        "--tokens", 4, "--temperature", 1.5, "--top-k", 5, "--seed", 3,
        "--logits", tmp_path / "two",
    )  # fmt: skip
    assert own["prompt_tokens"] == [[1, 2, 3, 4, 5, 6, 7], [8]]
    assert [len(tokens) for tokens in own["tokens"]] == [4, 4]
    assert own["text"] == [bytes(tokens).decode() for tokens in own["tokens"]]
    assert own["equal_to_golden"] is True
    # Under the very name that was given.
    logits = np.load(tmp_path / "two")
    assert logits.dtype == np.float32 and logits.shape == (2, 10, VOCABULARY)
    assert not np.isnan(logits[0]).any()
    assert not np.isnan(logits[1, :4]).any() and np.isnan(logits[1, 4:]).all()


def test_board_text(folder, toml):
    """Without --json the text goes to standard output and the figures are there."""
    result = tamale(folder, "--config", toml, "--prompt", "AB", "--tokens", 3)
    assert "all 3 tokens" in result.stderr and "of the memory's peak" in result.stderr
    assert "no memory timing rule broken" in result.stderr
    assert len(result.stdout) == 4 and result.stdout[3] == "\n"
    quiet = tamale(folder, "--config", toml, "--prompt", "AB", "--tokens", 2, "--no-check")
    assert "golden" not in quiet.stderr
    assert quiet.stdout == result.stdout[:2] + "\n"


def test_board_interrupted(folder, toml):
    """Ctrl-C ends the text in good order: it is compared as far as it went."""
    with subprocess.Popen(
        command(folder, "--config", toml, "--prompt-ids", "3,4", "--tokens", 62),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_listen,
    ) as process:  # fmt: skip
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "ended by interrupted" in errors
    made = int(re.search(r"all (\d+) tokens equal to the golden model's", errors)[1])
    assert 1 <= made < 62 and len(first + output) == made + 1


def _listen():
    """What runs in the background of a shell ignores SIGINT, and so would the command."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_board_interrupted_early(folder, toml, tmp_path):
    """Ctrl-C before the first token: an object all the same, or none before the board starts."""
    with subprocess.Popen(
        command(
            folder, "--config", toml, "--prompt-ids", "3,4", "--tokens", 62, "--json", "--logits",
            tmp_path / "logits.npy",
        ),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_listen,
    ) as process:  # fmt: skip
        # The board boots in a child of the command.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("this system does not tell the children of a process")
        end = time.monotonic() + 900
        while not any("Vboard" in _name(child) for child in children.read_text().split()):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
    assert process.returncode in (0, 130), errors
    assert "Traceback" not in errors
    if process.returncode == 0:
        own = json.loads(output)
        assert set(own) - MEASURED == ALWAYS
        assert own["interrupted"] is True and own["reasons"] in ([None], ["interrupted"])
        assert own["equal_to_golden"] is True and len(own["tokens"]) < 62
        assert np.load(tmp_path / "logits.npy").shape[1] == VOCABULARY
    else:  # it came while the board booted
        assert output == "" and errors == "tamale: interrupted\n"


def _name(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def test_waves(mute, toml, tmp_path):
    """--waves records every signal of the board."""
    image, path = tmp_path / "model.img", tmp_path / "board.vcd"
    imagefile.build(FOUR, readers.read(mute), image)
    own = tamale_json(image, "--config", toml, "--prompt-ids", "1", "--tokens", 1, "--waves", path)
    assert own["equal_to_golden"] is True
    assert path.stat().st_size > 100_000
    text = path.read_text()
    assert "$enddefinitions $end" in text and " uart_tx $end" in text
    # Time goes on to the end: two steps a cycle.
    last = int(re.findall(r"^#(\d+)$", text, re.MULTILINE)[-1])
    assert abs(last - 2 * own["simulation"]["cycles"]) < 4


# Models of the board ------------------------------------------------------------------------------


def test_golden(folder, toml):
    common = [folder, "--config", toml, "--backend", "golden", "--tokens", 7]
    first = tamale_json(*common, "--prompt", "A,!?")
    assert set(first) == ALWAYS
    assert first["prompt_tokens"] == [0, *b"A,!?"] and len(first["tokens"]) == 7
    for key in ("cycles_per_token", "bytes_per_token", "roofline", "equal_to_golden", "simulation"):
        assert first[key] is None
    assert first["counters"] == {}
    ids = ",".join(map(str, first["prompt_tokens"]))
    again = tamale_json(*common, "--prompt-ids", ids)
    assert again["tokens"] == first["tokens"]


def test_seeds(folder, toml):
    def tokens(seed):
        return tamale_json(
            folder, "--config", toml, "--backend", "golden", "--prompt-ids", "7", "--tokens", 12,
            "--temperature", 2, "--seed", seed,
        )["tokens"]  # fmt: skip

    assert tokens(1) == tokens(1) != tokens(2)


def test_float(folder, toml, tmp_path):
    """The float reference: other arithmetic, nearly the same logits."""
    common = [folder, "--config", toml, "--prompt-ids", "5,9,33", "--tokens", 2]
    own = tamale_json(*common, "--backend", "float", "--logits", tmp_path / "float.npy")
    assert set(own) == ALWAYS and len(own["tokens"]) == 2
    tamale_json(*common, "--backend", "golden", "--logits", tmp_path / "golden.npy")
    first, second = np.load(tmp_path / "float.npy")[:3], np.load(tmp_path / "golden.npy")[:3]
    assert first.shape == second.shape == (3, VOCABULARY)
    assert not np.array_equal(first, second)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9


def test_without_tokenizer(mute, toml):
    """Numbers are enough for a model without tokenizer; text is refused."""
    common = [mute, "--config", toml, "--backend", "golden", "--tokens", 2]
    own = tamale_json(*common, "--prompt-ids", "1,2")
    assert len(own["tokens"]) == 2 and own["text"] == ""
    message = refused(*common, "--prompt", "Hello")
    assert message == "tamale: the model has no tokenizer; use --prompt-ids"
    # The default prompt is text, too.
    assert refused(*common) == message


def test_golden_interrupted(folder, toml):
    """Ctrl-C gives what there is."""
    with subprocess.Popen(
        command(
            folder, "--config", toml, "--backend", "golden", "--prompt-ids", "3", "--tokens", 10**9,
            "--context", 64,
        ),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        # The first text says that it is at work.
        select.select([process.stdout], [], [], 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130) and b"Traceback" not in errors


# Refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt-ids", "1,x"], "--prompt-ids takes numbers separated by commas, not '1,x'"),
        (["--prompt-ids", ""], "--prompt-ids takes numbers separated by commas, not ''"),
        (["--prompt-ids", "1,90"], "token 90 is outside the vocabulary of 90 tokens"),
        (["--prompt-ids", "-1"], "token -1 is outside the vocabulary of 90 tokens"),
        (
            ["--prompt-ids", ",".join(["1"] * 65)],
            "a prompt needs 1 to 64 tokens in this context, this one has 65; raise --context or "
            "shorten it",
        ),
        (
            ["--prompt-ids", "1,2,3", "--context", "2"],
            "a prompt needs 1 to 2 tokens in this context, this one has 3; raise --context or "
            "shorten it",
        ),
        (
            ["--prompt-ids", "1"] * 5,
            "5 parallel sequences need as many vectors, the configuration has 4",
        ),
        (["--tokens", "0"], "--tokens must be 1 or more, not 0"),
        (["--temperature", "-1"], "--temperature must be 0 to 65535, not -1"),
        (["--temperature", "nan"], "--temperature must be 0 to 65535, not nan"),
        (["--top-k", "-2"], "--top-k must be 0 or more, not -2"),
        (["--context", "4096"], "was made for a context of 128, not 4096"),
        (["--logits", "no/such/file.npy"], "--logits no/such/file.npy: the folder does not exist"),
        (["--waves", "x.fst"], "--waves x.fst: the record is a VCD file; name it FILE.vcd"),
        (["--backend", "golden", "--waves", "x.vcd"], "--waves needs --backend rtl"),
    ],
)  # fmt: skip
def test_refused(folder, toml, arguments, message):
    assert message in refused(folder, "--config", toml, *arguments)


def test_unknown_configuration(folder):
    message = refused(folder, "--config", "ulx4s", "--prompt-ids", "1")
    assert message.startswith("tamale: unknown configuration 'ulx4s'; use a .toml file or one of")


def test_missing_files(folder, tmp_path):
    assert "no such file or folder" in refused(tmp_path / "nothing", "--prompt-ids", "1")
    message = refused(folder, "--config", tmp_path / "no.toml", "--prompt-ids", "1")
    assert "does not exist" in message


def test_foreign_files(tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    assert "GGUF version 0 is not supported" in refused(path, "--prompt-ids", "1")
    path = path.rename(tmp_path / "model.bin")
    assert "neither a Tamale image nor a .safetensors file" in refused(path, "--prompt-ids", "1")
    other = {"model_type": "llama"}
    foreign = checkpoints.write(tmp_path / "foreign", "autobitlinear", changes=other)
    assert re.search("llama", refused(foreign, "--prompt-ids", "1"))


def test_image_of_another_configuration(mute, toml, tmp_path):
    path = tmp_path / "model.img"
    other = dataclasses.replace(FOUR, code="t4", name="other")
    imagefile.build(other, readers.read(mute), path)
    message = refused(path, "--config", toml, "--prompt-ids", "1")
    assert "the image was packed for code = 2, the hardware has 3; pack it again" in message


def test_damaged_image(mute, toml, tmp_path):
    path = tmp_path / "model.img"
    imagefile.build(FOUR, readers.read(mute), path)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert "the checksum is wrong; the file is damaged" in refused(
        path, "--config", toml, "--prompt-ids", "1"
    )


def test_too_large_for_the_memory(mute, tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(dataclasses.replace(FOUR, memory_bytes=1 << 16, key_planes=5).to_toml())
    prompts = ["--prompt-ids", "1"] * 4
    message = refused(mute, "--config", path, *prompts)
    assert "the memory has 65,536; lower --context or choose a larger memory" in message


def test_configurations_are_the_same(toml):
    """The boards of these tests are those of tests/soc, so they are built once."""
    from tamale import config

    assert config.load(toml) == FOUR and isinstance(FOUR, Config)
