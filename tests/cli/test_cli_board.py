"""load, console, selftest: on a serial port behind which a simulated board is, and without one."""

import io
import json
import os
import re
import sys
import termios
import threading
import tty
from pathlib import Path

import pytest
import serial
from tamale_sim import board as boards
from tamale_sim import link as links
from tamale_sim.cli import console as consoles
from tamale_sim.cli import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soc"))

import systems  # noqa: E402
from systems import FOUR  # noqa: E402

#: Takes text: every byte is a token.
MODEL = {
    "layers": 1, "hidden": 16, "heads": 2, "kv_heads": 1, "head_size": 8, "feed_forward": 24,
    "vocabulary": 128, "context": 32, "tokenizer": systems.byte_tokenizer(128),
}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Configuration, image, and `Image`."""
    folder = tmp_path_factory.mktemp("board")
    config, path = folder / "four.toml", folder / "text.img"
    config.write_text(FOUR.to_toml())
    return str(config), str(path), systems.pack(FOUR, path, **MODEL)


@pytest.fixture(scope="module")
def four():
    """Executable of the board with four vectors."""
    return boards.build(FOUR)


class SerialPort:
    """A pseudo-terminal with a simulated board behind it, which follows the port's speed."""

    def __init__(self, executable):
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self._slave, self.name = slave, os.ttyname(slave)
        self.board = boards.Board(executable, FOUR, None)
        self._speed = None
        self._open = True
        self._threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._to_board, self._from_board)
        ]
        for thread in self._threads:
            thread.start()

    def _follow(self):
        fast = termios.tcgetattr(self._slave)[4] == termios.B3000000
        if fast != self._speed:
            self._speed = fast
            self.board.link.set_baud(3_000_000 if fast else FOUR.uart_baud)

    def _to_board(self):
        while self._open:
            try:
                data = os.read(self._master, 4096)
            except OSError:
                return
            self._follow()
            self.board.send_bytes(data)

    def _from_board(self):
        while self._open:
            data = self.board.link.read(0.1)
            if data is None:
                return
            if data:
                os.write(self._master, data)

    def close(self):
        self._open = False
        os.write(self._slave, b"")
        self._threads[1].join(10)
        self.board.link.terminate()
        self.board.close()
        os.close(self._slave)
        os.close(self._master)


def test_serial_port(four, files, monkeypatch, capsys):
    """selftest tests, loads and compares; load finds the image there; console talks with it."""
    config, path, image = files
    # The board behind this port is slow.
    monkeypatch.setattr(links.SerialLink, "patience", 120.0)
    port = SerialPort(four)
    options = ["--port", port.name, "--config", config]
    try:
        command = ["selftest", path, *options, "--memory", "2048", "--tokens", "2", "--json"]
        assert main(command) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["passed"] and report["digest"] == report["golden_digest"]
        assert report["memory"] == {
            "bytes": 2048, "errors": 0, "first": None, "text": "2,048 bytes, no error",
        }  # fmt: skip
        assert report["tokens"] == 2 * 5 and report["configuration"] == "four"

        assert main(["load", path, *options]) == 0
        assert (
            f"the board held all {image.fields['image_bytes']:,} bytes" in capsys.readouterr().err
        )

        lines = ["Hello", "", "/tokens 3", "/temperature 2", "/top-k 4", "/seed 9", "/fly"]
        lines += ["/seed x", "/board", "A", "/quit", "B"]
        monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
        assert main(["console", *options, "--tokens", "5", "--temperature", "0"]) == 0
        out, err = capsys.readouterr()
        # An empty line goes on with what was written.
        prompt = list(b"Hello")
        ten = systems.golden(image, FOUR, [prompt], 10).tokens[0]
        assert ten[:5] == systems.golden(image, FOUR, [prompt], 5).tokens[0]
        drawn = systems.golden(image, FOUR, [[65]], 3, sampling=(2.0, 4, 9)).tokens[0]
        text = b"".join(map(image.token_bytes, ten[:5])) + b"\n"
        text += b"".join(map(image.token_bytes, ten[5:])) + b"\n"
        expected = b"Hello" + text + b"A" + b"".join(map(image.token_bytes, drawn)) + b"\n"
        assert out == expected.replace(b"\x1e", b"\x1a").decode(errors="replace")
        assert "unknown command /fly; /help" in err and "seed must be 0 to 4294967295" in err
        assert "model=random-1" in err and "[3 tokens," in err and "ended by length" in err

        # One program at a time.
        with links.SerialLink(port.name, FOUR.uart_baud)._port:
            assert main(["console", *options]) == 1
        assert "is in use by another program" in capsys.readouterr().err
    finally:
        port.close()


def test_console_simulated(four, files, monkeypatch, capsys):
    config, path, image = files
    monkeypatch.setattr(sys, "stdin", io.StringIO("\nHi\n/stats\n/help\n" + "x" * 40 + "\n"))
    options = ["--simulated", "--config", config, "--tokens", "2", "--temperature", "0"]
    assert main(["console", path, *options]) == 0
    out, err = capsys.readouterr()
    two = systems.golden(image, FOUR, [list(b"Hi")], 2).tokens[0]
    assert out.startswith("Hi" + b"".join(map(image.token_bytes, two)).decode(errors="replace"))
    assert "type a text for the model" in err and "layers_cycles" in err and "/tokens N" in err
    assert "the prompt is longer than the context of 32 positions" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["load"], "no USB serial port is plugged in"),
        (["console"], "without a board, --simulated"),
        (["selftest", "--port", "/dev/ttyUSB77"], "/dev/ttyUSB77 does not exist"),
        (["console", "--port", "/dev/null"], "/dev/null cannot be opened"),
        (["load", "--baud", "-1"], "--baud must be 0 to 12000000, not -1"),
        (["load", "--port", "x", "--simulated"], "--port is for a real board and --simulated for"),
        (["console", "demo.img"], "a real board runs what was loaded: tamale load MODEL"),
        (["selftest", "--tokens", "0"], "--tokens must be 1 or more, not 0"),
        (["selftest", "--memory", "5"], "--memory must be a multiple of 4 from 0, not 5"),
    ],
)
def test_without_board(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("tamale_sim.cli.attach.serial_ports", list)
    monkeypatch.setattr("tamale_sim.link.serial_ports", list)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_ports(monkeypatch, capsys):
    ports = [("/dev/ttyUSB0", "FT231X"), ("/dev/ttyUSB1", "other")]
    monkeypatch.setattr("tamale_sim.cli.attach.serial_ports", lambda: ports)
    monkeypatch.setattr("tamale_sim.link.serial_ports", lambda: ports)
    assert main(["load"]) == 1
    assert "name one with --port: /dev/ttyUSB0 (FT231X), /dev/ttyUSB1 (other)" in (
        capsys.readouterr().err
    )
    assert main(["load", "--port", "/dev/ttyUSB5"]) == 1
    assert "serial ports here: /dev/ttyUSB0 (FT231X)" in capsys.readouterr().err

    def denied(*_args, **_options):
        raise serial.SerialException(13, "could not open port: Permission denied")

    monkeypatch.setattr(serial, "Serial", denied)
    del ports[1]
    assert main(["console"]) == 1
    assert (
        "no permission for /dev/ttyUSB0: add yourself to its group (sudo usermod -aG dialout"
        in (capsys.readouterr().err)
    )


def test_silent_board(monkeypatch, capsys):
    """A port behind which nothing answers."""
    monkeypatch.setattr("tamale_sim.conversation._GREETINGS", (0.05, 0.05, 0.05))
    master, slave = os.openpty()
    tty.setraw(slave)
    assert main(["load", "--port", os.ttyname(slave)]) == 1
    error = capsys.readouterr().err
    assert "no answer from the board at 1000000 bits per second: is it the right port" in error
    greetings = re.findall(rb"\x03\nhello (\d+)\n", os.read(master, 100))
    assert list(map(int, greetings)) == [int(greetings[0]) + i for i in range(3)]
    os.close(slave)
    os.close(master)


def test_settings():
    with pytest.raises(ValueError, match="tokens must be 1 or more, not '0'"):
        consoles.Console(None, {"tokens": 0})
    with pytest.raises(ValueError, match="top-k must be 0 or more, not '-1'"):
        consoles.Console(None, {"top_k": -1})
