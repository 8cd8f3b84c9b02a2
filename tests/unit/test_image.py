"""The header of memory images; whole files are tested in tests/model/test_imagefile.py."""

import pytest
from tamale import image
from tamale.generate import commands
from tamale.image import FIELDS, HEADER_BYTES, NAME_BYTES, ImageError, pack_header, parse_header

NAMES = [
    name for name, _ in FIELDS if name not in ("magic", "version", "header_crc", "header_bytes")
]
VALUES = {name: i * 0x0101 + 7 for i, name in enumerate(NAMES)}


def test_round_trip():
    header = pack_header("a model", VALUES)
    assert len(header) == HEADER_BYTES
    name, values = parse_header(header)
    assert name == "a model"
    assert {key: values[key] for key in NAMES} == VALUES
    assert (values["magic"], values["version"]) == (image.MAGIC, image.VERSION)


def test_letters():
    assert pack_header("", VALUES)[:4] == b"TAML"


def test_long_name():
    name, _ = parse_header(pack_header("x" * 100, VALUES))
    assert name == "x" * (NAME_BYTES - 1)


@pytest.mark.parametrize("name", NAMES)
def test_value_out_of_range(name):
    for value in (-1, 1 << 32):
        with pytest.raises(ImageError, match=f"{name} = {value} does not fit 32 bits"):
            pack_header("model", VALUES | {name: value})


def test_missing_and_unknown_fields():
    with pytest.raises(ValueError, match="fields differ: .*hidden"):
        pack_header("model", {key: value for key, value in VALUES.items() if key != "hidden"})
    with pytest.raises(ValueError, match="fields differ: .*extra"):
        pack_header("model", VALUES | {"extra": 1})


@pytest.mark.parametrize("at", [*range(8, HEADER_BYTES, 61), HEADER_BYTES - 1])
def test_damage(at):
    header = bytearray(pack_header("model", VALUES))
    header[at] ^= 0x10
    with pytest.raises(ImageError, match="^file: the header's checksum is wrong.*pack it again"):
        parse_header(bytes(header), source="file")


def test_foreign_and_short():
    header = pack_header("model", VALUES)
    with pytest.raises(ImageError, match="0x46554747 is not that of a Tamale image"):
        parse_header(b"GGUF" + header[4:])
    with pytest.raises(ImageError, match="1023 bytes are too short"):
        parse_header(header[:-1])
    newer = f"version {image.VERSION + 1}, this tool reads {image.VERSION}; pack it again"
    with pytest.raises(ImageError, match=newer):
        parse_header(header[:4] + bytes([image.VERSION + 1, 0, 0, 0]) + header[8:])


def test_document():
    text = commands.generate_image()
    for i, (name, doc) in enumerate(FIELDS):
        assert f"| `{4 * i:#x}` | `{name}` | {doc} |" in text
