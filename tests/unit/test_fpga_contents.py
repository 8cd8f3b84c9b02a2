"""The firmware in a routed design's block RAM is that of a design that was routed with it."""

import random
import re

import numpy as np
import pytest
from amaranth_boards.ulx3s import ULX3S_85F_Platform
from tamale.soc.ram import Ram
from tamale_fpga import contents, ecp5

#: Bytes, with block RAMs of two widths: one bank of 2,048 words is half as large as the others.
SIZE = 12 << 10


def both(size):
    """Placeholder and contents."""
    return contents.placeholder(size), random.Random(7).randbytes(size - 1000)


@pytest.fixture
def images():
    return both(SIZE)


def routed(folder, image):
    """Text and bitstream of a memory with an image."""
    platform = ULX3S_85F_Platform()
    ecp5.synthesise(Ram(len(image), init=image), "top", folder)
    (folder / "top.lpf").write_text('LOCATE COMP "clk" SITE "G2";\n')
    options = ("--lpf-allow-unconstrained", *ecp5.route_options("a"))
    ecp5.place_and_route("top", folder, platform, seed=1, stem="a", options=options)
    return (folder / "a.config").read_text()


@pytest.mark.parametrize(
    "size",
    # 64 KiB, as most boards have: a block RAM for every bit.
    [SIZE, pytest.param(64 << 10, marks=pytest.mark.long)],
)
def test_equals_a_design_routed_with_the_contents(tmp_path, size):
    old, new = both(size)
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    text = routed(tmp_path / "old", old)
    expected = routed(tmp_path / "new", new.ljust(size, b"\0"))
    assert text != expected
    assert contents.replace(text, old, new) == expected
    ecp5.pack("a", tmp_path / "old", None, "a.bit", new.ljust(size, b"\0"))
    ecp5.pack("a", tmp_path / "new", None, "a.bit")
    made, wanted = ((tmp_path / name / "a.bit").read_bytes() for name in ("old", "new"))
    assert made == wanted
    assert not list((tmp_path / "old").glob("a.bit.*"))
    with pytest.raises(ValueError, match=r"parts .* 0 are in the routed design, 0 times"):
        contents.replace(expected, old, new)


def text_of(words, width):
    """What nextpnr writes of a memory of 32-bit words in block RAMs of a width, and another."""
    bits = np.unpackbits(np.frombuffer(words, np.uint8), bitorder="little").reshape(-1, 32)
    unused = 9 if width % 9 == 0 else 8
    depth = 2048 * unused // width
    text = ".tile CIB_R1C1:X\n\n"
    for number, (first, lane) in enumerate(
        (first, lane) for first in range(0, len(bits), depth) for lane in range(0, 32, width)
    ):
        used = np.zeros((depth, width), np.uint8)
        part = bits[first : first + depth, lane : lane + width]
        used[: len(part), : part.shape[1]] = part
        values = np.pad(used.reshape(2048, unused), ((0, 0), (0, 9 - unused))) @ (1 << np.arange(9))
        text += f".bram_init {number}\n"
        text += "".join(
            " ".join(f"{value:03x}" for value in values[at : at + 8]) + "\n"
            for at in range(0, 2048, 8)
        )
        text += "\n"
    return text + ".bram_init 99\n" + ("0ff " * 7 + "100\n") * 256


@pytest.mark.parametrize("width", [1, 2, 4, 9, 18])
def test_widths(images, width):
    """And what is not of the memory stays as it was."""
    old, new = images
    expected = text_of(new.ljust(SIZE, b"\0"), width)
    assert contents.replace(text_of(old, width), old, new) == expected


def test_what_is_not_the_memory_is_refused(images):
    old, new = images
    text = text_of(old, 9)
    one = re.search(r"(?s)\.bram_init 0\n.*?\n\n", text)[0]
    with pytest.raises(ValueError, match=r"of 384 parts .* 384 are in the .* 456 times in all"):
        contents.replace(text + one.replace("init 0", "init 77"), old, new)
    with pytest.raises(ValueError, match=r"of 384 parts .* 312 are in the"):
        contents.replace(text.replace(one, ""), old, new)
    with pytest.raises(ValueError, match="12289 bytes do not fit the memory of 12288"):
        contents.replace(text, old, bytes(SIZE + 1))
    with pytest.raises(ValueError, match="multiple of 1024 bytes, not 1000"):
        contents.placeholder(1000)
