"""Matrices and vectors as the bytes that the device streams."""

import dataclasses

import numpy as np
from tamale.codes import limit

from tamale_model import integer

__all__ = [
    "PackedLinear",
    "describe",
    "encode_trits",
    "pack",
    "pack_beats",
    "pack_scalars",
    "quantise_rows",
]


@dataclasses.dataclass(frozen=True)
class PackedLinear:
    """What MATVEC must know of a packed matrix.

    Parameters
    ----------
    tiles, groups, planes, steps : int
        Fields of the command.
    scaled : bool
        Whether scales lie in the stream.
    unit : float
        Real value of one unit of the result, activation scale excluded.
    bound : int
        No result is larger in magnitude.
    """

    tiles: int
    groups: int
    planes: int
    steps: int
    scaled: bool
    unit: float
    bound: int


def describe(config, linear, *, bound=2**31 - 1):
    """Return the `PackedLinear` of a matrix; scales are such that no result exceeds ``bound``."""
    rows, k = linear.shape
    size = linear.group_size or k
    steps = -(-size // config.tile_k)
    largest = 127 * limit(linear.planes) * k
    unit = linear.scale
    scaled = linear.scales is not None
    if scaled:
        # Scales lie in the stream relative to `top`, a power of two, so that the largest of them
        # times the largest sum stays below the bound in units of 2**-8.
        top = np.ldexp(1.0, int(np.floor(np.log2(bound / (largest * 256)))))
        unit *= float(linear.scales.max()) / top / 256
        largest = bound
    return PackedLinear(
        tiles=-(-rows // config.tile_rows),
        groups=linear.groups,
        planes=linear.planes,
        steps=steps,
        scaled=scaled,
        unit=unit,
        bound=largest,
    )


def pack(config, linear, packed):
    """Return the bytes of a matrix: row tile, group, plane, step; then the group's scales.

    Raises
    ------
    ValueError
        If a value needs more planes than the matrix says.
    """
    rows, k = linear.shape
    code, size = config.trit_code, linear.group_size or k
    padded = np.zeros((packed.tiles * config.tile_rows, packed.groups * size), dtype=np.int8)
    padded[:rows, :k] = linear.values
    values = np.zeros((len(padded), packed.groups, packed.steps * config.tile_k), dtype=np.int8)
    values[:, :, :size] = padded.reshape(len(padded), packed.groups, size)
    trits = integer.to_digits(values, packed.planes)  # planes rows groups k
    trits = trits.reshape(
        packed.planes, packed.tiles, config.tile_rows, packed.groups, packed.steps,
        config.tile_columns, code.trits_per_byte,
    )  # fmt: skip
    body = encode_trits(code, trits).transpose(1, 3, 0, 4, 2, 5)
    body = body.reshape(
        packed.tiles, packed.groups, packed.planes * packed.steps, config.beat_bytes
    )
    if packed.scaled:
        # unit * 256 is the real value of code value 1.
        codes = np.zeros((packed.tiles * config.tile_rows, packed.groups), dtype="<u2")
        relative = linear.scales.astype(np.float64) * linear.scale / (packed.unit * 256)
        codes[:rows] = [
            [integer.encode_scale(integer.Scalar.of(float(s))) for s in row] for row in relative
        ]
        tail = np.zeros(
            (packed.tiles, packed.groups, config.scale_beats * config.beat_bytes), dtype=np.uint8
        )
        lines = codes.reshape(packed.tiles, config.tile_rows, packed.groups).transpose(0, 2, 1)
        tail[:, :, : 2 * config.tile_rows] = np.ascontiguousarray(lines).view(np.uint8)
        tail = tail.reshape(packed.tiles, packed.groups, config.scale_beats, config.beat_bytes)
        body = np.concatenate([body, tail], axis=2)
    return np.ascontiguousarray(body).tobytes()


def encode_trits(code, trits):
    """Return the uint8 bytes of trits [..., trits_per_byte]."""
    powers = 3 ** np.arange(code.trits_per_byte)
    table = np.zeros(3**code.trits_per_byte, dtype=np.uint8)
    for key, byte in code.encode.items():
        table[((np.array(key) + 1) * powers).sum()] = byte
    return table[((trits.astype(np.int16) + 1) * powers.astype(np.int16)).sum(axis=-1)]


def pack_beats(config, values, dtype):
    """Return a vector's bytes in little-endian ``dtype``, padded to whole beats."""
    data = np.asarray(values).astype(dtype).tobytes()
    return data + bytes(-len(data) % config.beat_bytes)


def pack_scalars(config, values):
    """Return the bytes that SLOAD reads for non-negative floats."""
    return pack_beats(config, [integer.Scalar.of(float(v)).word for v in values], "<u4")


def quantise_rows(matrix, planes):
    """Return (int8 values, float32 scales [rows]): rows rounded to ``planes`` trits by absmax."""
    top = limit(planes)
    peak = np.abs(matrix).max(axis=1, initial=0).astype(np.float32)
    scales = np.where(peak > 0, peak / np.float32(top), np.float32(1))
    values = np.clip(np.rint(matrix / scales[:, None]), -top, top).astype(np.int8)
    return values, scales
