"""Block types: against the gguf package, hand-written vectors, and decoders of the tests' own."""

import gguf
import numpy as np
import pytest
from gguf_files import ENCODERS, NUMBERS, encode
from hypothesis import given, settings
from hypothesis import strategies as st
from tamale_model.readers import blocks

SEED = 2024


def coding(kind):
    """The `Coding` of a name of `NUMBERS`."""
    candidates = blocks.TERNARY[NUMBERS[kind]]
    return candidates[-1] if kind == "Q2_0/128" else candidates[0]


def decode(kind, data):
    """(int8 values [n, weights], float32 scales [n])."""
    form = coding(kind)
    raw = np.frombuffer(data, dtype=np.uint8).reshape(-1, form.bytes)
    return form.values(raw), form.scales(raw)


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("size", [0.0, 1e-7, 1e-3, 1.0, 1.3e4])
def test_quantiser_of_the_gguf_package(kind, size):
    """Codes and scales of its quantiser, and the values of its dequantiser, are equal."""
    number = gguf.GGMLQuantizationType[kind]
    rng = np.random.default_rng(SEED)
    weights = (rng.normal(0, 1, (64, 1024)) * size).astype(np.float32)
    weights[3] = np.abs(weights[3])
    weights[4, :256] = 0
    weights[5] = np.where(rng.random(1024) < 0.5, -size, size)
    raw = gguf.quants.quantize(weights, number)
    values, scales = decode(kind, raw.tobytes())
    # What the package's quantiser says of itself: the block's largest magnitude, rounded.
    top = np.abs(weights).reshape(-1, 256).max(axis=1)
    assert np.array_equal(scales, top.astype(np.float16).astype(np.float32))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(top > 0, np.float32(1) / top, 0).astype(np.float32)[:, None]
    scaled = weights.reshape(-1, 256) * relative
    # Halves are rounded away from zero.
    expected = np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))
    assert np.array_equal(values, expected)
    assert np.array_equal(
        (values * scales[:, None]).reshape(weights.shape), gguf.quants.dequantize(raw, number)
    )


@given(st.binary(min_size=54, max_size=54))
def test_any_bytes_as_tq1_0(data):
    """Bytes that no quantiser writes mean what the gguf package makes of them."""
    raw = np.frombuffer(data, dtype=np.uint8)
    values, scales = decode("TQ1_0", data)
    assert set(np.unique(values)) <= {-1, 0, 1}
    with np.errstate(invalid="ignore"):
        ours = (values * scales[:, None])[0]
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.TQ1_0)
    assert np.array_equal(ours, theirs, equal_nan=True)


@given(st.binary(min_size=66, max_size=66))
def test_any_bytes_as_tq2_0(data):
    raw = np.frombuffer(data, dtype=np.uint8)
    values, scales = decode("TQ2_0", data)
    with np.errstate(invalid="ignore"):
        ours = (values * scales[:, None])[0]
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.TQ2_0)
    assert np.array_equal(ours, theirs, equal_nan=True)
    assert coding("TQ2_0").has_two(raw[None]) == (values.max() == 2)


def one(kind, element, value):
    """A block in which one element is ``value`` and all others are 0, as the text has it."""
    form = coding(kind)
    values = np.zeros((1, form.weights), np.int8)
    values[0, element] = value
    return encode(kind, values, np.ones((1, 1), np.float32))


HAND = {
    # Zeros are 11111 in base 3, 121: ceil(121 * 256 / 243) = 128. Element 32 n + m is digit n of
    # byte m: +1 at element 33 makes byte 1 digits 12111 = 148: 156.
    ("TQ1_0", 33, 1): {1: 156},
    # Element 160 + 16 n + m is digit n of byte 32 + m: -1 at 160 makes 01111 = 40: 43.
    ("TQ1_0", 160, -1): {32: 43},
    # Four digits a byte, one place up: element 240 + 4 n + j; 1112 = 41, times 3: 123: 130.
    ("TQ1_0", 255, 1): {51: 130, 48: 127},
    # Byte 32 h + m, bits 2 l: element 128 h + 32 l + m; zeros are 0b01010101.
    ("TQ2_0", 0, -1): {0: 0b01010100},
    ("TQ2_0", 128 + 32 * 3 + 5, 1): {37: 0b10010101},
    ("Q2_0", 6, 1): {2 + 1: 0b01100101},
    ("Q2_0/128", 127, -1): {2 + 31: 0b00010101},
    # Byte p, bits 6 - 2 g: element 32 g + p.
    ("I2_S", 0, 1): {0: 0b10010101},
    ("I2_S", 32 * 3 + 31, -1): {31: 0b01010100},
}


@pytest.mark.parametrize("case", HAND)
def test_hand_written(case):
    """Positions and codes, worked out on paper from the text of the formats."""
    kind, element, value = case
    if kind == "I2_S":
        values = np.zeros((1, 128), np.int8)
        values[0, element] = value
        data = encode(kind, values, np.ones((1, 1), np.float32))
    else:
        data = one(kind, element, value)
    for byte, expected in HAND[case].items():
        assert data[byte] == expected
    if kind == "I2_S":
        ours = blocks.read_i2_s(np.frombuffer(data, np.uint8), 1, 128)[0]
    else:
        ours = decode(kind, data)[0]
    assert ours[0, element] == value and np.count_nonzero(ours) == 1


@pytest.mark.parametrize("kind", [kind for kind in ENCODERS if kind != "I2_S"])
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_encoders(kind, seed):
    """The tests' encoders, written element by element, are undone."""
    rng = np.random.default_rng(seed)
    form = coding(kind)
    top = 2 if form.pairs else 1
    values = rng.integers(-1, top + 1, (3, 2 * form.weights)).astype(np.int8)
    if kind == "Q1_0":
        values = np.where(values > 0, 1, -1).astype(np.int8)
    scales = rng.uniform(0, 9, (3, 2)).astype(np.float16).astype(np.float32)
    ours, our_scales = decode(kind, encode(kind, values, scales))
    assert np.array_equal(ours.reshape(values.shape), values)
    assert np.array_equal(our_scales.reshape(3, 2), scales)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=30)
def test_i2_s(seed, rows, groups):
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, 2, (rows, 128 * groups)).astype(np.int8)
    scale = np.full((rows, 1), rng.lognormal(), np.float32)
    raw = np.frombuffer(encode("I2_S", values, scale), dtype=np.uint8)
    ours, our_scale = blocks.read_i2_s(raw, rows, 128 * groups)
    assert np.array_equal(ours, values) and our_scale == scale[0, 0]


def test_i2_s_code_of_three():
    raw = np.zeros(64, np.uint8)
    raw[7] = 0b00001100
    with pytest.raises(ValueError, match="a code of 3"):
        blocks.read_i2_s(raw, 1, 128)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q8_0", "F16", "BF16", "F32"])
def test_float_types(kind):
    number = gguf.GGMLQuantizationType[kind]
    rng = np.random.default_rng(SEED)
    weights = rng.normal(0, 1, (7, 96)).astype(np.float32)
    raw = gguf.quants.quantize(weights, number).view(np.uint8).reshape(7, -1)
    ours = blocks.dequantise(number.value, raw, 96)
    assert ours.dtype == np.float32 and np.abs(ours - weights).max() < 0.3
    stored = (
        raw.view(np.float32) if kind == "F32" else raw.view(np.float16) if kind == "F16" else raw
    )
    assert np.array_equal(ours, gguf.quants.dequantize(stored, number))


def test_names():
    assert blocks.type_name(36) == "I2_S"
    assert blocks.type_name(38) == "TL1"
    assert blocks.type_name(12) == "Q4_K"
    assert blocks.type_name(99) == "number 99"
