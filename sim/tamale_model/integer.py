"""The integer specification: every arithmetic operation of the device, defined once, in NumPy.

RTL and firmware equal these functions bit for bit. Vectors are int64 arrays that hold values of the
stated narrower ranges; scalars are `Scalar` values. Rounding is half-up everywhere:
floor(v / 2**s + 1/2).
"""

import math
from typing import NamedTuple

import numpy as np
from tamale import tables
from tamale.codes import limit

__all__ = [
    "INT32_MAX",
    "INT32_MIN",
    "Scalar",
    "ZERO",
    "add",
    "decode_scale",
    "div",
    "encode_scale",
    "encode_scales",
    "exp2_negative",
    "hadamard",
    "mul",
    "normalise",
    "round_shift",
    "sat18",
    "sat32",
    "scale",
    "scale_to_fixed",
    "scaled_accumulator",
    "shift",
    "sigmoid",
    "sqrt",
    "to_digits",
]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def round_shift(value, bits):
    """Return floor(value / 2**bits + 1/2); ``bits`` >= 0, scalar or array."""
    value = np.asarray(value, dtype=np.int64)
    if isinstance(bits, int) and 0 < bits < 63:
        return (value + (1 << bits - 1)) >> bits
    bits = np.asarray(bits, dtype=np.int64)
    # value + half could leave int64 only for bits = 63, where |value| < 2**52 makes the result 0.
    half = np.where(bits > 0, np.int64(1) << np.clip(bits - 1, 0, 62), 0)
    return (value + half) >> np.clip(bits, 0, 63)


def sat32(value):
    """Clamp to the range of int32."""
    # np.clip asks for the type's limits each time, which costs more than the work.
    return np.minimum(np.maximum(value, INT32_MIN), INT32_MAX)


def sat18(value):
    """Clamp to the range of an 18-bit signed number, the narrow operand of a multiplier."""
    return np.minimum(np.maximum(value, -(2**17)), 2**17 - 1)


class Scalar(NamedTuple):
    """A non-negative number mantissa * 2**exponent.

    The mantissa is 0 (then the exponent is 0 too) or 2**15 to 2**16 - 1; the exponent is from
    -1024 to 1023.
    """

    mantissa: int
    exponent: int

    @classmethod
    def of(cls, value):
        """Return the nearest scalar of a non-negative float (host side only)."""
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"a scalar must be a finite number >= 0, not {value!r}")
        if value == 0:
            return ZERO
        fraction, exponent = math.frexp(value)
        mantissa = round(fraction * 2**16)
        if mantissa == 2**16:
            mantissa, exponent = 2**15, exponent + 1
        return cls(mantissa, exponent - 16)

    @classmethod
    def from_word(cls, word):
        """Return the scalar in a word: mantissa in bits 15:0, signed exponent in bits 31:16."""
        exponent = word >> 16 & 0xFFFF
        return cls(word & 0xFFFF, exponent - (1 << 16) if exponent >> 15 else exponent)

    @property
    def word(self):
        """The scalar as a 32-bit word."""
        return self.mantissa | (self.exponent & 0xFFFF) << 16

    def __float__(self):
        return math.ldexp(self.mantissa, self.exponent)


ZERO = Scalar(0, 0)


def normalise(value, exponent=0):
    """Return value * 2**exponent as a scalar; ``value`` >= 0 is truncated to 16 bits."""
    value = int(value)
    if value == 0:
        return ZERO
    move = value.bit_length() - 16
    mantissa = value >> move if move >= 0 else value << -move
    exponent += move
    if not -1024 <= exponent <= 1023:
        raise OverflowError(f"scalar exponent {exponent} is outside -1024 to 1023")
    return Scalar(mantissa, exponent)


def mul(a, b):
    """ScalarOp.MUL."""
    return normalise(a.mantissa * b.mantissa, a.exponent + b.exponent)


def div(a, b):
    """ScalarOp.DIV: a / b, the quotient of the mantissas truncated; zero if b is zero."""
    if b.mantissa == 0:
        return ZERO
    return normalise((a.mantissa << 16) // b.mantissa, a.exponent - b.exponent - 16)


def sqrt(a):
    """ScalarOp.SQRT, truncated."""
    odd = a.exponent & 1
    return normalise(math.isqrt(a.mantissa << (16 - odd)), (a.exponent + odd) // 2 - 8)


def add(a, b):
    """ScalarOp.ADD: the smaller operand is truncated to 2**-15 units of the larger's mantissa."""
    if a.mantissa == 0 or b.mantissa == 0:
        return b if a.mantissa == 0 else a
    if a.exponent < b.exponent:
        a, b = b, a
    total = (a.mantissa << 15) + ((b.mantissa << 15) >> min(a.exponent - b.exponent, 63))
    return normalise(total, a.exponent - 15)


def shift(a, b, imm):
    """ScalarOp.SHIFT: a * 2**max(0, exponent(b) + imm)."""
    return scale(a, max(0, b.exponent + imm))


def scale(a, imm):
    """ScalarOp.SCALE: a * 2**imm."""
    return ZERO if a.mantissa == 0 else Scalar(a.mantissa, a.exponent + imm)


def exp2_negative(z):
    """Return 2**-z in units of 2**-15; z >= 0 in units of 2**-16.

    A table of 64 nodes with linear interpolation; 32768 at z = 0, 0 from about z = 16.
    """
    z = np.asarray(z, dtype=np.int64)
    index = z >> 10 & 63
    value = np.take(tables.EXP2_TABLE, index)
    value = value - round_shift(np.take(tables.EXP2_DELTA, index) * (z & 1023), 10)
    return round_shift(value, np.minimum(1 + (z >> 16), 63))


def sigmoid(z):
    """Return 1 / (1 + exp(-z)) in units of 2**-15; z in units of 2**-16.

    A table of the tail beyond |z|, with linear interpolation; 0 or 32768 from |z| = 16.
    """
    z = np.asarray(z, dtype=np.int64)
    low = tables.EXP2_FRACTION_BITS + tables.SIGMOID_RANGE_BITS - tables.SIGMOID_BITS
    size = np.minimum(np.abs(z), (1 << low + tables.SIGMOID_BITS) - 1)
    index, rest = size >> low, size & (1 << low) - 1
    tail = np.take(tables.SIGMOID_TABLE, index)
    tail = tail - round_shift(np.take(tables.SIGMOID_DELTA, index) * rest, low)
    tail = round_shift(tail, 1)
    return np.where(z < 0, tail, 2**15 - tail)


def hadamard(x, block):
    """Return the natural-order Walsh-Hadamard transform of blocks, sat32 at every stage.

    Parameters
    ----------
    x : int64 array [n]
        n a multiple of ``block``.
    block : int
        Power of two.
    """
    y = np.array(x, dtype=np.int64)
    step = 1
    while step < block:
        pairs = y.reshape(-1, 2, step)
        upper, lower = pairs[:, 0], pairs[:, 1]
        y = sat32(np.stack([upper + lower, upper - lower], axis=1)).reshape(-1)
        step *= 2
    return y


def to_digits(values, planes):
    """Return the balanced-ternary digits of integers, most significant plane first.

    Parameters
    ----------
    values : integer array [...]
        Magnitudes up to limit(planes).

    Returns
    -------
    int8 array [planes, ...]
    """
    rest = np.asarray(values, dtype=np.int64)
    if rest.size and np.abs(rest).max() > limit(planes):
        raise ValueError(f"magnitude {np.abs(rest).max()} needs more than {planes} trits")
    digits = []
    for _ in range(planes):
        digit = (rest + 1) % 3 - 1
        digits.append(digit.astype(np.int8))
        rest = (rest - digit) // 3
    return np.stack(digits[::-1])


def encode_scale(value):
    """Return the 16-bit float of a scalar: bits 15:11 E, 10:0 F; value (2048 + F) * 2**(E - 31).

    Code 0 is zero. Values that round to 2**-20 or less become zero, values from 2**12 become the
    largest code.
    """
    if value.mantissa == 0:
        return 0
    significand = int(round_shift(value.mantissa, 4))
    exponent = value.exponent + 35
    if significand == 4096:
        significand, exponent = 2048, exponent + 1
    if exponent < 0:
        return 0
    if exponent > 31:
        return 0xFFFF
    return exponent << 11 | significand - 2048


def encode_scales(values):
    """Return the 16-bit floats (uint16) of an array of non-negative floats (host side only).

    Each is ``encode_scale(Scalar.of(value))``, rounded twice as that is.
    """
    fraction, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    mantissa = np.rint(np.ldexp(fraction, 16)).astype(np.int64)
    significand = round_shift(mantissa, 4)
    exponent = exponent.astype(np.int64) - 16 + 35
    # A carry out of the mantissa makes 4096 too.
    carry = significand == 4096
    significand, exponent = np.where(carry, 2048, significand), exponent + carry
    code = exponent << 11 | (significand & 2047)
    code = np.where(exponent > 31, 0xFFFF, code)
    return np.where((mantissa == 0) | (exponent < 0), 0, code).astype(np.uint16)


def decode_scale(code):
    """Return (significand, right shift): the value of a 16-bit float is significand * 2**-shift.

    ``code`` is an integer or an array; the significand of code 0 is 0.
    """
    code = np.asarray(code, dtype=np.int64)
    return np.where(code == 0, 0, 2048 + (code & 2047)), 31 - (code >> 11)


def scaled_accumulator(acc, code):
    """Return a group's accumulator times its 16-bit scale, in units of 2**-8, sat32."""
    significand, bits = decode_scale(code)
    return sat32(round_shift((np.asarray(acc, dtype=np.int64) * significand) << 8, bits))


def scale_to_fixed(code):
    """Return a 16-bit scale in units of 2**-20, sat32: an `aux` scale in the scratchpad."""
    significand, bits = decode_scale(code)
    return sat32(round_shift(significand << 20, bits))
