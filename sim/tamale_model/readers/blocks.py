"""Block types of GGUF tensors: sizes, and codes and scales of the ternary ones.

Sources: llama.cpp ``ggml-common.h`` and ``ggml-quants.c`` (TQ1_0, TQ2_0, Q1_0, Q2_0),
https://github.com/PrismML-Eng/llama.cpp ``ggml-common.h`` (groups of 128), bitnet.cpp
``ggml-bitnet-mad.cpp`` and ``convert-hf-to-gguf-bitnet.py`` (I2_S, in the order of x86).
"""

import dataclasses
from collections.abc import Callable

import ml_dtypes
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

__all__ = ["I2_S", "PLAIN", "REFUSED", "TERNARY", "Coding", "dequantise", "read_i2_s", "type_name"]

I2_S = 36
#: Bytes behind the codes of an I2_S tensor; the first four are the scale.
I2_S_TAIL = 32

#: NumPy's types of values that are not coded.
PLAIN = {
    0: np.dtype("<f4"),
    1: np.dtype("<f2"),
    30: np.dtype(ml_dtypes.bfloat16),
}

#: Types that are known and not taken, and what to use instead.
REFUSED = {
    38: ("TL1", "its layout depends on tile settings that are not in the file; "
         "use the I2_S file of the same model, or convert the Hugging Face folder"),
    39: ("MXFP4, or TL2 of bitnet.cpp", "TL2's layout depends on tile settings that are not in "
         "the file; use the I2_S, TQ2_0 or F16 file of the same model"),
    40: ("NVFP4", "use the BF16 or Q8_0 file of the same model"),
}  # fmt: skip

_FLOATS = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL",
    "IQ4_XS",
)  # fmt: skip
#: {type number: (weights, bytes)} of block types that hold floats.
FLOAT_BLOCKS = {
    GGMLQuantizationType[name].value: GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    for name in _FLOATS
}


@dataclasses.dataclass(frozen=True)
class Coding:
    """A ternary block type.

    Parameters
    ----------
    name : str
    weights, bytes : int
        Of a block.
    scale_at : int
        Byte of the block's fp16 scale.
    values : callable
        Returns the int8 values [n, weights] of blocks uint8 [n, bytes].
    pairs : bool
        Whether codes are two bits wide, so that a value of +2 can occur.
    codes : tuple of int
        First and last byte, exclusive, of those that hold two-bit codes.
    """

    name: str
    weights: int
    bytes: int
    scale_at: int
    values: Callable
    pairs: bool = False
    codes: tuple[int, int] = (0, 0)

    def scales(self, blocks):
        """Return the scales of blocks uint8 [..., bytes] as float32, signed as they are."""
        part = np.ascontiguousarray(blocks[..., self.scale_at : self.scale_at + 2])
        return part.view("<f2")[..., 0].astype(np.float32)

    def has_two(self, blocks):
        """Whether a value is +2."""
        if not self.pairs:
            return False
        codes = blocks[..., slice(*self.codes)]
        return bool((codes & codes >> 1 & 0x55).any())


def _fields(codes):
    """Two-bit fields of bytes [n, m]: uint8 [n, m, 4], lowest bits first."""
    return codes[:, :, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3


def _trits(count):
    """int8 [256, count]: the trits of a byte that is ceil(256 / 243 of five ternary digits)."""
    byte = np.arange(256)[:, None] * 3 ** np.arange(count) & 0xFF
    return (byte * 3 >> 8).astype(np.int8) - 1


_FIVE, _FOUR = _trits(5), _trits(4)


def _stages(codes, widths):
    """int8 [n, 5 * sum of widths]: stages of bytes, digit by digit within a stage."""
    parts, at = [], 0
    for width in widths:
        digits = _FIVE[codes[:, at : at + width]]
        parts.append(digits.transpose(0, 2, 1).reshape(len(codes), -1))
        at += width
    return parts


def _high(codes):
    """int8 [n, 4 * m]: the digits of bytes of four trits."""
    return _FOUR[codes].transpose(0, 2, 1).reshape(len(codes), -1)


def _tq1_0(blocks):
    return np.concatenate([*_stages(blocks[:, :48], (32, 16)), _high(blocks[:, 48:52])], axis=1)


def _ptq1_0(blocks):
    return np.concatenate([*_stages(blocks[:, :24], (16, 8)), _high(blocks[:, 24:26])], axis=1)


def _tq2_0(blocks):
    fields = _fields(blocks[:, :64]).reshape(-1, 2, 32, 4).transpose(0, 1, 3, 2)
    return fields.reshape(len(blocks), 256).astype(np.int8) - 1


def _q2_0(blocks):
    return _fields(blocks[:, 2:]).reshape(len(blocks), -1).astype(np.int8) - 1


def _q1_0(blocks):
    bits = np.unpackbits(np.ascontiguousarray(blocks[:, 2:]), axis=1, bitorder="little")
    return (bits.astype(np.int8) << 1) - 1


_Q2_0_128 = Coding("Q2_0, groups of 128", 128, 34, 0, _q2_0, True, (2, 34))

#: {type number: codings}; several where files disagree, then the extents of tensors decide.
TERNARY = {
    34: (Coding("TQ1_0", 256, 54, 52, _tq1_0),),
    35: (Coding("TQ2_0", 256, 66, 64, _tq2_0, True, (0, 64)),),
    41: (Coding("Q1_0", 128, 18, 0, _q1_0),),
    42: (Coding("Q2_0", 64, 18, 0, _q2_0, True, (2, 18)), _Q2_0_128),
    142: (dataclasses.replace(_Q2_0_128, name="PQ2_0"),),
    143: (Coding("PTQ1_0", 128, 28, 26, _ptq1_0),),
}


def type_name(number):
    """Name of a tensor type, for messages and reports."""
    if number in REFUSED:
        return REFUSED[number][0]
    if number in TERNARY:
        return TERNARY[number][0].name
    if number == I2_S:
        return "I2_S"
    try:
        return GGMLQuantizationType(number).name
    except ValueError:
        return f"number {number}"


def read_i2_s(raw, rows, k):
    """Return (int8 values [rows, k], scale) of an I2_S tensor's bytes.

    The flat weights lie in blocks of 128 in 32 bytes: byte p holds elements p, 32 + p, 64 + p and
    96 + p in its bits 7:6, 5:4, 3:2 and 1:0. Codes 0, 1 and 2 are -1, 0 and +1.

    Raises
    ------
    ValueError
        For a code of 3.
    """
    count = rows * k // 4
    codes = raw[:count].reshape(-1, 32)
    if (codes & codes >> 1 & 0x55).any():
        raise ValueError("a code of 3, which is no trit")
    fields = _fields(codes)[:, :, ::-1].transpose(0, 2, 1)
    return fields.reshape(rows, k).astype(np.int8) - 1, i2_s_scale(raw, count)


def i2_s_scale(raw, count):
    """The scale behind ``count`` bytes of codes."""
    return float(np.ascontiguousarray(raw[count : count + 4]).view("<f4")[0])


def dequantise(number, raw, columns):
    """Return float32 [n, columns] of raw rows uint8 [n, bytes] of a plain, float or ternary type.

    ``number`` may be a `Coding` too.
    """
    if isinstance(number, Coding):
        coding = number
        blocks = np.ascontiguousarray(raw).reshape(-1, coding.bytes)
        values = coding.values(blocks) * coding.scales(blocks)[:, None]
        return values.reshape(len(raw), columns)
    if not len(raw):
        return np.zeros((0, columns), np.float32)
    if number in PLAIN:
        return np.ascontiguousarray(raw).view(PLAIN[number]).astype(np.float32)
    with np.errstate(all="ignore"):  # hostile scales; the caller checks for infinities
        return dequantize(np.ascontiguousarray(raw), GGMLQuantizationType(number))
