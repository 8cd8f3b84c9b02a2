"""The integer specification against exact integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tamale.codes import limit
from tamale_model import integer
from tamale_model.integer import Scalar

int32 = st.integers(integer.INT32_MIN, integer.INT32_MAX)
scalars = st.one_of(
    st.just(integer.ZERO),
    st.builds(Scalar, st.integers(1 << 15, (1 << 16) - 1), st.integers(-300, 300)),
)
positive = st.builds(Scalar, st.integers(1 << 15, (1 << 16) - 1), st.integers(-300, 300))


def exact(scalar):
    return scalar.mantissa * Fraction(2) ** scalar.exponent


def truncated(value):
    """The largest scalar that does not exceed a fraction."""
    if value == 0:
        return integer.ZERO
    exponent = value.numerator.bit_length() - value.denominator.bit_length() - 16
    while value / Fraction(2) ** exponent >= 1 << 16:
        exponent += 1
    while value / Fraction(2) ** exponent < 1 << 15:
        exponent -= 1
    return Scalar(math.floor(value / Fraction(2) ** exponent), exponent)


@given(st.integers(-(2**62), 2**62 - 1), st.integers(0, 62))
def test_round_shift(value, bits):
    half = 0 if bits == 0 else 1 << bits - 1
    if value + half < 1 << 63:
        assert integer.round_shift(value, bits) == math.floor(
            Fraction(value, 1 << bits) + Fraction(1, 2)
        )


@given(st.integers(-(2**52) + 1, 2**52 - 1))
def test_round_shift_by_63(value):
    assert integer.round_shift(value, 63) == 0


@given(st.integers(-(2**62), 2**62))
def test_saturation(value):
    assert integer.sat32(value) == max(-(2**31), min(2**31 - 1, value))
    assert integer.sat18(value) == max(-(2**17), min(2**17 - 1, value))


@given(st.integers(0, 2**80), st.integers(-200, 200))
def test_normalise(value, exponent):
    assert integer.normalise(value, exponent) == truncated(value * Fraction(2) ** exponent)


def test_normalise_range():
    assert integer.normalise(1, 1038) == Scalar(1 << 15, 1023)
    with pytest.raises(OverflowError, match="1024 is outside -1024 to 1023"):
        integer.normalise(1, 1039)


@given(scalars, scalars)
def test_product(a, b):
    assert integer.mul(a, b) == truncated(exact(a) * exact(b))


@given(scalars, positive)
def test_quotient(a, b):
    result = integer.div(a, b)
    want = exact(a) / exact(b)
    assert exact(result) <= want
    assert want - exact(result) <= want / (1 << 15)
    assert integer.div(b, b) == truncated(Fraction(1))
    assert integer.div(a, integer.ZERO) == integer.ZERO


@given(scalars)
def test_root(a):
    result = exact(integer.sqrt(a))
    assert result**2 <= exact(a)
    assert exact(a) == 0 or (result * (1 + Fraction(1, 1 << 15))) ** 2 > exact(a)


@given(scalars, scalars)
def test_sum(a, b):
    result, want = exact(integer.add(a, b)), exact(a) + exact(b)
    assert result <= want
    assert want - result <= want / (1 << 14)
    assert integer.add(a, b) == integer.add(b, a)


@given(scalars, positive, st.integers(-400, 400))
def test_scaling(a, b, imm):
    assert exact(integer.scale(a, imm)) == exact(a) * Fraction(2) ** imm
    assert exact(integer.shift(a, b, imm)) == exact(a) * 2 ** max(0, b.exponent + imm)


@given(st.floats(1e-60, 1e60))
def test_scalar_of_a_float(value):
    scalar = Scalar.of(value)
    assert 1 << 15 <= scalar.mantissa < 1 << 16
    assert abs(exact(scalar) - Fraction(value)) <= Fraction(value) / (1 << 16)
    assert Scalar.from_word(scalar.word) == scalar
    assert float(scalar) == pytest.approx(value, rel=2**-16)


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_no_scalar(value):
    with pytest.raises(ValueError, match="must be a finite number >= 0"):
        Scalar.of(value)


@given(st.integers(0, 2**21 - 1))
def test_exp2(z):
    want = 2.0 ** (-z / 65536) * 32768
    assert abs(int(integer.exp2_negative(z)) - want) <= 1.5


def test_exp2_falls():
    values = integer.exp2_negative(np.arange(0, 2**21, 37))
    assert values[0] == 32768
    assert (np.diff(values) <= 0).all()
    assert values[-1] == 0


@given(st.integers(-(2**21), 2**21))
def test_sigmoid(z):
    want = 32768 / (1 + math.exp(-z / 65536))
    assert abs(int(integer.sigmoid(z)) - want) <= 2.5
    assert integer.sigmoid(z) + integer.sigmoid(-z) == 32768


def test_sigmoid_rises():
    values = integer.sigmoid(np.arange(-(2**20), 2**20 + 37, 37))
    assert (np.diff(values) >= 0).all()
    assert (values[0], values[-1]) == (0, 32768)


@given(st.integers(0, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_hadamard(log2, blocks, seed):
    size = 1 << log2
    x = np.random.default_rng(seed).integers(-(2**20), 2**20, size * blocks)
    signs = np.array([[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)])
    assert np.array_equal(integer.hadamard(x, size).reshape(-1, size), x.reshape(-1, size) @ signs)


def test_hadamard_saturates():
    x = np.array([2**31 - 1, 2**31 - 1, -(2**31), 5])
    # First stage: 2**31 - 1, 0, -2**31 + 5, -2**31; then sums and differences of halves.
    assert integer.hadamard(x, 4).tolist() == [4, -(2**31), 2**31 - 1, 2**31 - 1]


@given(st.integers(1, 5), st.data())
def test_digits(planes, data):
    value = data.draw(st.integers(-limit(planes), limit(planes)))
    digits = integer.to_digits(np.array([value]), planes)[:, 0]
    assert digits.dtype == np.int8 and set(digits.tolist()) <= {-1, 0, 1}
    total = 0
    for digit in digits.tolist():
        total = 3 * total + digit
    assert total == value


@pytest.mark.parametrize("planes", [1, 2, 3, 4, 5])
def test_digits_out_of_range(planes):
    with pytest.raises(ValueError, match=f"needs more than {planes} trits"):
        integer.to_digits(np.array([0, -limit(planes) - 1]), planes)


def scale_value(code):
    """Value of a 16-bit scale, from its definition."""
    return 0 if code == 0 else (2048 + (code & 2047)) * Fraction(2) ** ((code >> 11) - 31)


@given(positive)
@example(Scalar(1 << 15, -35))
def test_encode_scale(scalar):
    value, coded = exact(scalar), scale_value(integer.encode_scale(scalar))
    if value < Fraction(1, 2**20) * Fraction(4095, 4096):
        assert coded == 0
    elif value >= 4095:
        assert coded >= 4095
    elif value >= Fraction(1, 2**20) * Fraction(4097, 4096):
        assert abs(coded - value) <= value / (1 << 12)


@given(st.lists(st.floats(0, 2**14), min_size=1))
@example([0.0, 2.0**-20, 2.0**-21, 4095.9, 4096.0, 2.0 - 2**-40, 2.0 - 2**-17, 1e-300])
def test_encode_scales(values):
    want = [integer.encode_scale(Scalar.of(value)) for value in values if value > 2**-900]
    got = integer.encode_scales(np.array(values))
    assert got[np.array(values) > 2**-900].tolist() == want
    assert not got[np.array(values) < 2**-22].any()


@given(st.integers(0, 0xFFFF), st.integers(-(2**34), 2**34))
def test_apply_scale(code, acc):
    significand, bits = integer.decode_scale(code)
    assert Fraction(int(significand), 1 << int(bits)) == scale_value(code)
    want = math.floor(acc * scale_value(code) * 256 + Fraction(1, 2))
    assert integer.scaled_accumulator(acc, code) == max(-(2**31), min(2**31 - 1, want))
    want = math.floor(scale_value(code) * 2**20 + Fraction(1, 2))
    assert integer.scale_to_fixed(code) == min(2**31 - 1, want)
