"""Commands where the core performs the commands: what they do otherwise, and what they refuse."""

import pytest
from tamale import config as configuration
from tamale_fpga import flash, ice40
from tamale_model import imagefile
from tamale_sim.cli import main
from tamale_sim.models_cache import open_image

CORE = configuration.load("icebreaker")


@pytest.fixture
def lines(monkeypatch):
    """Arguments of the calls of openFPGALoader."""
    calls = []
    monkeypatch.setattr(flash, "run", lambda line, board, show: calls.append(line))
    monkeypatch.setattr(flash, "programmer", lambda: "openFPGALoader")
    return calls


def test_flash(lines, tmp_path):
    """Bitstream and firmware always go to the flash, from its start; the image behind them."""
    bitstream = tmp_path / "board.bit"
    raw = b"\xff\x00\x00\xff\x7e\xaa\x99\x7e" + bytes(1000)
    bitstream.write_bytes(ice40.with_firmware(raw, b"firmware", 0x20000))
    assert bitstream.read_bytes()[0x20000:] == b"firmware"
    _, image = open_image(None, CORE)
    assert main(["flash", str(bitstream), "--board", "icebreaker", "--image", str(image)]) == 0
    assert [" ".join(line) for line in lines] == [
        f"-b ice40_generic --write-flash --verify --file-type bin --offset 0x400000 {image}",
        f"-b ice40_generic --write-flash --verify {bitstream}",
    ]


def test_bitstream_that_reaches_into_the_firmware():
    with pytest.raises(RuntimeError, match="has 200 bytes, the firmware begins at 100"):
        ice40.with_firmware(bytes(200), b"", 100)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["load", "--simulated"], "has its image in the flash, which a programmer writes"),
        (["inspect"], "measure it: tamale run --config icebreaker"),
        (["generate", "accelerator", "-o", "none"], "no accelerator; generate its soc"),
        (["run", "--context", "200"], "context"),
    ],
)
def test_refused(capsys, command, message):
    assert main([*command, "--config", "icebreaker"]) == 1
    assert message in capsys.readouterr().err


def test_image_of_a_larger_context(tmp_path):
    """The golden model takes the same configuration, and refuses what the board does."""
    image, _ = open_image(None, CORE)
    assert image.fields["context"] == 96
    with pytest.raises(imagefile.ImageError, match="needs context = 96, the hardware has 64"):
        image.check(CORE.replace(max_context=64))
