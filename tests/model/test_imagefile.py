"""Images: round trip of the header, and files that are foreign, truncated or damaged."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_models import random_model, random_tokens
from tamale import image
from tamale.config import Config
from tamale.image import FIELDS, HEADER_BYTES, ImageError
from tamale_model import imagefile
from tamale_model.session import GoldenSession

CONFIG = Config(name="test", vectors=2, vu_width=2, max_context=64, memory_bytes=1 << 20)
NAMES = [
    name for name, _ in FIELDS if name not in ("magic", "version", "header_crc", "header_bytes")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "image"
    imagefile.build(CONFIG, random_model(1), path)
    return path.read_bytes()


def load(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return imagefile.load(path)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=len(NAMES), max_size=len(NAMES)))
def test_header_round_trip(words):
    values = dict(zip(NAMES, words, strict=True))
    name, fields = image.parse_header(image.pack_header("model", values))
    assert name == "model"
    assert {key: fields[key] for key in NAMES} == values


def test_header_values():
    values = dict.fromkeys(NAMES, 0)
    with pytest.raises(ImageError, match="image_bytes = 4294967296 does not fit 32 bits"):
        image.pack_header("model", values | {"image_bytes": 2**32})
    with pytest.raises(ValueError, match="fields differ: .*extra"):
        image.pack_header("model", values | {"extra": 1})


def test_sections(tmp_path, data):
    loaded = load(tmp_path, data)
    fields = loaded.fields
    for key in ("program_offset", "embedding_base", "rope_base", "sweep_base"):
        assert fields[key] % image.ALIGNMENT == 0
    assert fields["sweep_base"] + fields["sweep_bytes"] <= fields["image_bytes"] == len(data)
    assert loaded.name == "random-1"
    assert len(loaded.program) == fields["program_commands"]


def test_same_input_same_bytes(tmp_path, data):
    imagefile.build(CONFIG, random_model(1), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data


def damage(data, at, value=0xFF):
    changed = bytearray(data)
    changed[at] ^= value
    return bytes(changed)


def renumber(data, version):
    changed = bytearray(data)
    struct.pack_into("<I", changed, 4, version)
    struct.pack_into("<I", changed, 8, 0)
    struct.pack_into("<I", changed, 8, zlib.crc32(changed[:HEADER_BYTES]))
    return bytes(changed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "0 bytes are too short.*pack it again"),
        (lambda d: d[:100], "100 bytes are too short"),
        (lambda d: b"GGUF" + d[4:], "is not that of a Tamale image"),
        (lambda d: renumber(d, 99), "image version 99, this tool reads .*pack it again"),
        (lambda d: damage(d, 40), "header's checksum is wrong.*pack it again"),
        (lambda d: d[:-64], "its header says .*truncated, pack it again"),
        (lambda d: d + bytes(64), "its header says"),
        (lambda d: damage(d, HEADER_BYTES), "checksum is wrong; the file is damaged"),
        (lambda d: damage(d, len(d) - 1, 1), "checksum is wrong; the file is damaged"),
    ],
)
def test_unusable(tmp_path, data, change, message):
    with pytest.raises(ImageError, match=message):
        load(tmp_path, change(data))


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match="nowhere: cannot be read"):
        imagefile.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": "t4"}, "packed for code = 3, the hardware has 2; pack it again"),
        ({"bus_width": 64}, "packed for bus_width = 32, the hardware has 64"),
        ({"tile_rows": 2}, "packed for tile_rows = 4, the hardware has 2"),
        ({"vectors": 1}, "needs vectors = 2, the hardware has 1; use a larger configuration"),
        ({"max_context": 32}, "needs context = 64, the hardware has 32"),
        ({"vu_width": 4}, "vector unit of 2 elements, the hardware has 4"),
    ],
)
def test_other_hardware(tmp_path, data, changes, message):
    with pytest.raises(ImageError, match=message):
        load(tmp_path, data).machine(CONFIG.replace(**changes))


def test_memory_too_small(tmp_path, data):
    small = CONFIG.replace(memory_bytes=1 << 16)
    with pytest.raises(ImageError, match="need .* bytes, the memory has 65536; lower the context"):
        load(tmp_path, data).machine(small, sequences=20)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (
            {"head_size": 20},
            {"tile_rows": 4, "vu_width": 4},
            "head size 20 must be a multiple of 8",
        ),
        ({"feed_forward": 1500}, {}, "rows of 1500 weights are longer than max_k = 1024"),
        ({"planes": 5}, {"max_planes": 3, "head_planes": 3}, "weights of 5 planes need max_planes"),
        (
            {"feed_forward": 900},
            {"scratchpad_elements": 1024},
            "scratchpad elements.*raise scratchpad_elements",
        ),
        ({}, {"program_commands": 16}, "the configuration has program_commands = 16"),
    ],
)
def test_model_does_not_fit(tmp_path, model, changes, message):
    with pytest.raises(ValueError, match=message):
        imagefile.build(CONFIG.replace(**changes), random_model(1, **model), tmp_path / "image")
    assert not list(tmp_path.iterdir()), "an unfinished file was left behind"


def test_context(tmp_path):
    with pytest.raises(ImageError, match="made for a context of 64, not 65"):
        imagefile.build(CONFIG, random_model(1), tmp_path / "image", 65)
    imagefile.build(CONFIG, random_model(1), tmp_path / "image", 16)
    loaded = imagefile.load(tmp_path / "image")
    session = GoldenSession(loaded, CONFIG)
    steps = list(session.generate([random_tokens(1, 100, 10)], 100))
    assert len([step for step in steps if step.token is not None]) == 7
    for prompts, message in (
        ([[1] * 17], "1 to 16 tokens in this context, not 17"),
        ([[]], "1 to 16 tokens in this context, not 0"),
        ([[100]], "token 100 is outside the vocabulary of 100"),
        ([[1], [2]], "2 prompts for 1 parallel sequences"),
    ):
        with pytest.raises(ValueError, match=message):
            list(session.generate(prompts, 1))
    with pytest.raises(ValueError, match="3 parallel sequences; the configuration has 2 vectors"):
        GoldenSession(loaded, CONFIG, 3)


def test_useful_bytes(tmp_path, data):
    loaded = load(tmp_path, data)
    per_position = loaded.useful_bytes(10) - loaded.useful_bytes(9)
    # Two layers of two heads: key and value of 16 elements, 3 trits each, and two scales.
    assert per_position == pytest.approx(4 * (16 * 6 * 1.6 / 8 + 4))
    assert loaded.useful_bytes(0) <= loaded.fields["sweep_bytes"]
    assert np.isclose(
        loaded.useful_bytes(5) - loaded.useful_bytes(5, head=False),
        loaded.fields["useful_head_bytes"],
    )
