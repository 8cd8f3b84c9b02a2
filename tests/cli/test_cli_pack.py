"""`tamale pack`: whole images or none."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tamale.image import FIELDS
from tamale_model import imagefile
from tamale_sim.cli import main


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """(path, object printed) of the demonstration model, packed by the command."""
    path = tmp_path_factory.mktemp("pack") / "demo.img"
    result = subprocess.run(
        [sys.executable, "-m", "tamale_sim", "pack", "--context", "64", "-o", path, "--json"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return path, json.loads(result.stdout)


def test_json(packed):
    path, printed = packed
    image = imagefile.load(path)
    assert printed == {"file": str(path), "model": image.name, **image.fields}
    assert set(printed) == {name for name, _ in FIELDS} | {"file", "model"}
    assert printed["context"] == 64
    assert printed["image_bytes"] == path.stat().st_size


def test_text(packed, tmp_path, capsys):
    path = tmp_path / "again.img"
    assert main(["pack", "--context", "64", "-o", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"{path}: demo, {path.stat().st_size:,} bytes for configuration ulx3s" in text
    assert path.read_bytes() == packed[0].read_bytes()


def refuse(capsys, arguments, message):
    assert main(["pack", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tamale: ") and message in error, error
    assert "Traceback" not in error


def only(folder, name, content):
    """Whether a folder holds one file, unchanged."""
    return [file.name for file in folder.iterdir()] == [name] and (
        (folder / name).read_bytes() == content
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "tiny"], "longer than max_k = 256"),
        (["--context", "99999"], "was made for a context of 2048, not 99999"),
        (["--config", "none"], "unknown configuration 'none'"),
        (["/nowhere/model"], "/nowhere/model: no such file or folder"),
    ],
)
def test_failure_leaves_the_target(tmp_path, capsys, arguments, message):
    target = tmp_path / "model.img"
    target.write_bytes(b"older image")
    refuse(capsys, [*arguments, "-o", str(target)], message)
    assert only(tmp_path, "model.img", b"older image")


def test_target_that_cannot_be(tmp_path, capsys):
    (tmp_path / "folder.img").mkdir()
    refuse(capsys, ["--context", "16", "-o", str(tmp_path / "folder.img")], "folder.img")
    refuse(capsys, ["--context", "16", "-o", str(tmp_path / "no" / "x.img")], "x.img")
    assert [file.name for file in tmp_path.iterdir()] == ["folder.img"]


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left on device"), 1)]
)
def test_interrupted_write(tmp_path, capsys, monkeypatch, error, status):
    target = tmp_path / "model.img"
    target.write_bytes(b"older image")
    write, calls = imagefile._Writer.write, []

    def failing(self, data):
        calls.append(len(data))
        if sum(calls) > 500_000:
            raise error
        write(self, data)

    monkeypatch.setattr(imagefile._Writer, "write", failing)
    assert main(["pack", "--context", "16", "-o", str(target)]) == status
    assert sum(calls) > 500_000
    assert only(tmp_path, "model.img", b"older image")
    assert capsys.readouterr().err.startswith("tamale: ")


def test_killed(tmp_path):
    """Even a kill leaves the target as it was."""
    target = tmp_path / "model.img"
    target.write_bytes(b"older image")
    process = subprocess.Popen(
        [sys.executable, "-m", "tamale_sim", "pack", "-o", target],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.part")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    if killed and target.read_bytes() != b"older image":
        # The kill came after the last step: then the image is complete.
        imagefile.load(target)
    elif killed:
        assert target.read_bytes() == b"older image"
