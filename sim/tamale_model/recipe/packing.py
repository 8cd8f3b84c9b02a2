"""Ternary quantiser of master weights and the 2-bit packing of Hugging Face BitNet files, in NumPy.

Source: arXiv:2402.17764, equations 1 to 3, and `integrations/bitnet.py` of transformers for the
byte layout. With `linear_class: autobitlinear` a layer's matrix is code * `weight_scale`.
"""

import numpy as np

SCALE_MINIMUM = 1e-5
"""Smallest scale of a matrix, and smallest absolute maximum of an activation vector."""


def quantise(master):
    """Quantise a float matrix to ternary codes.

    Returns (codes int8 in {-1, 0, +1} of the same shape, scale float32 = mean absolute value).
    """
    master = np.asarray(master, dtype=np.float32)
    scale = np.float32(max(np.abs(master).mean(dtype=np.float32), SCALE_MINIMUM))
    # transformers multiplies by the reciprocal; the order matters where W/scale is near a half
    codes = np.clip(np.rint(master * (np.float32(1.0) / scale)), -1, 1)
    return codes.astype(np.int8), scale


def pack(codes):
    """Pack ternary codes [out, in] into uint8 [out/4, in].

    Row r lands in byte row r % (out/4), in the bits 2*(r // (out/4)) and up, as code + 1.
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[0] % 4:
        raise ValueError(f"codes must be [out, in] with out a multiple of 4, not {codes.shape!r}")
    if codes.size and not np.isin(codes, (-1, 0, 1)).all():
        raise ValueError("codes must be -1, 0 or +1: quantise the matrix first")
    quarters = (codes + 1).astype(np.uint8).reshape(4, codes.shape[0] // 4, codes.shape[1])
    packed = np.zeros(quarters.shape[1:], dtype=np.uint8)
    for position in range(4):
        packed |= quarters[position] << np.uint8(2 * position)
    return packed


def unpack(packed):
    """Unpack uint8 [out/4, in] into ternary codes int8 [out, in]; the inverse of `pack`."""
    packed = np.asarray(packed)
    if packed.ndim != 2 or packed.dtype != np.uint8:
        raise ValueError(
            f"packed weights must be uint8 [out/4, in], not {packed.dtype} {packed.shape!r}"
        )
    fields = [(packed >> np.uint8(2 * position)) & np.uint8(3) for position in range(4)]
    codes = np.concatenate(fields, axis=0)
    if (codes == 3).any():
        raise ValueError("packed weights hold the field 3, which stands for no ternary code")
    return codes.astype(np.int8) - np.int8(1)
