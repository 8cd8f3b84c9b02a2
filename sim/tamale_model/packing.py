"""Matrices and vectors as the bytes that the device streams."""

import dataclasses
import functools

import numpy as np
from tamale.codes import QUAD, limit

from tamale_model import integer

__all__ = [
    "PackedLinear",
    "describe",
    "describe_shape",
    "encode_trits",
    "first_not_sparse",
    "pack",
    "pack_beats",
    "pack_rows",
    "pack_scalars",
    "quantise_rows",
    "row_pieces",
    "rows_multiple",
    "row_scales",
    "to_digits",
]

#: Trits of the pieces in which matrices are packed.
_PIECE = 1 << 24

#: Elements of an embedding or a head that are converted to float32 at a time.
_CONVERTED = 1 << 22


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
    beats : int
        Beats of a group's trits.
    sparse : bool
        Whether they are in the configuration's sparse code.
    """

    tiles: int
    groups: int
    planes: int
    steps: int
    scaled: bool
    unit: float
    bound: int
    beats: int
    sparse: bool = False


def describe(config, linear, *, bound=2**31 - 1, sparse=False):
    """Return the `PackedLinear` of a matrix; scales are such that no result exceeds ``bound``."""
    scaled = linear.scales is not None
    return describe_shape(
        config, linear.shape, linear.planes, linear.group_size, linear.scale,
        float(linear.scales.max()) if scaled else None, bound=bound, sparse=sparse,
    )  # fmt: skip


def describe_shape(
    config, shape, planes, group_size=0, scale=1.0, largest_scale=None, *, bound=2**31 - 1,
    sparse=False,
):  # fmt: skip
    """Return the `PackedLinear` of a matrix of which only sizes and scales are known.

    Parameters
    ----------
    shape : (int, int)
        Rows and K.
    planes, group_size, scale
        As in `Linear`.
    largest_scale : float, optional
        Largest of the scales of rows and groups, where there are any.
    bound : int
        See `describe`.
    sparse : bool
        Use the sparse code, for a matrix that `first_not_sparse` lets pass.
    """
    rows, k = shape
    size = group_size or k
    largest = 127 * limit(planes) * k
    unit = scale
    scaled = largest_scale is not None
    if scaled:
        # Scales lie in the stream relative to `top`, a power of two, so that the largest of them
        # times the largest sum stays below the bound in units of 2**-8.
        top = np.ldexp(1.0, int(np.floor(np.log2(bound / (largest * 256)))))
        unit *= (largest_scale or 1.0) / top / 256
        largest = bound
    steps = -(-size // config.tile_k)
    return PackedLinear(
        tiles=-(-rows // config.tile_rows),
        groups=-(-k // size),
        planes=planes,
        steps=steps,
        scaled=scaled,
        unit=unit,
        bound=largest,
        beats=config.gearing.beats(steps) if sparse else planes * steps,
        sparse=sparse,
    )


def first_not_sparse(values, group_size=0):
    """Return why a matrix of trits cannot have a sparse code, or None if it can.

    Of every four weights in a row exactly one must be zero; of one to three that a row has beyond a
    multiple of four, at most one.

    Parameters
    ----------
    values : int8 array [rows, k]
    group_size : int
        As in `Linear`; groups must be whole numbers of four, and all alike, because the weights
        that fill a group up are not zero in a sparse code.
    """
    rows, k = values.shape
    if group_size % QUAD or (group_size and k % group_size):
        return f"{k} weights in groups of {group_size}, which do not fill up"
    whole = k // QUAD * QUAD
    together = max(1, _PIECE // k)
    for first in range(0, rows, together):
        zero = values[first : first + together] == 0
        wrong = zero[:, :whole].reshape(len(zero), -1, QUAD).sum(axis=2, dtype=np.int8) != 1
        if whole < k:
            wrong = np.concatenate([wrong, zero[:, whole:].sum(axis=1, keepdims=True) > 1], axis=1)
        if wrong.any():
            row, quad = np.unravel_index(wrong.argmax(), wrong.shape)
            count = int(zero[row, QUAD * quad : QUAD * quad + QUAD].sum())
            last = min(QUAD * quad + QUAD, k) - 1
            return (
                f"row {first + row}, weights {QUAD * quad} to {last}: {count} of them are zero, "
                "not 1"
            )
    return None


def pack(config, linear, packed):
    """Yield the bytes of a matrix in pieces: row tile, group, plane, step; then a group's scales.

    Raises
    ------
    ValueError
        If a value needs more planes than the matrix says.
    """
    rows, k = linear.shape
    values = np.asarray(linear.values)
    multiple = rows_multiple(config)
    rows_together = max(1, _PIECE // (k * packed.planes) // multiple) * multiple
    for first in range(0, rows, rows_together):
        part = slice(first, first + rows_together)
        scales = None
        if packed.scaled:
            scales = linear.scales[part].astype(np.float64) * linear.scale
        yield pack_rows(config, values[part], scales, packed, linear.group_size)


def pack_rows(config, values, scales, packed, group_size=0):
    """Return the bytes of some rows of a matrix, all but the last a `rows_multiple`.

    Parameters
    ----------
    config : Config
    values : int8 array [rows, k]
    scales : float64 array [rows, groups] or None
        The matrix's own scale included.
    packed : PackedLinear
        Of the whole matrix.
    group_size : int
        As in `Linear`.
    """
    rows, k = values.shape
    size = group_size or k
    tiles = -(-rows // config.tile_rows)
    padded = np.zeros(
        (tiles * config.tile_rows, packed.groups, packed.steps * config.tile_k), dtype=np.int8
    )
    for group in range(packed.groups):
        part = values[:, group * size : (group + 1) * size]
        padded[:rows, group, : part.shape[1]] = part
    if packed.sparse:
        reason = first_not_sparse(values, group_size)
        if reason:
            raise ValueError(f"{reason}; code {config.sparse_code} cannot hold them")
        # A code point has no place for four zeros: what fills up has its one zero last. The codes
        # that it multiplies are zero, and rows beyond the matrix are nobody's.
        padded[:, :, size:] = 1
        padded[rows:] = 1
        body = _sparse_beats(config, padded.reshape(tiles, config.tile_rows, packed.groups, -1))
    else:
        body = _beats(config, padded, packed, tiles)
    if packed.scaled:
        # unit * 256 is the real value of code value 1.
        codes = np.zeros((tiles * config.tile_rows, packed.groups), dtype="<u2")
        codes[:rows] = integer.encode_scales(scales / (packed.unit * 256))
        lines = codes.reshape(tiles, config.tile_rows, packed.groups).transpose(0, 2, 1)
        body = _with_scales(config, body.reshape(-1, *body.shape[2:]), lines)
    return np.ascontiguousarray(body).tobytes()


def rows_multiple(config):
    """Return the rows of which a matrix may be cut into multiples, whatever its groups are."""
    return config.tile_rows * config.scale_share


def _with_scales(config, body, scales):
    """Return uint8 [beats, beat_bytes]: groups with their scales.

    Parameters
    ----------
    body : uint8 array [groups of tiles in a row, beats, beat_bytes]
    scales : "<u2" array [tiles, groups of a tile, tile_rows]
    """
    count, beats, _ = body.shape
    lines = np.ascontiguousarray(scales).reshape(count, config.tile_rows)
    share = config.scale_share
    # What shares a beat lies side by side; where nothing does, a group's scales fill whole beats.
    size = config.scale_beats * config.beat_bytes
    tails = np.zeros((-(-count // share), size), dtype=np.uint8)
    raw = lines.view(np.uint8).reshape(count, 2 * config.tile_rows)
    for place in range(share):
        part = raw[place::share]
        tails[: len(part), place * raw.shape[1] :][:, : raw.shape[1]] = part
    tails = tails.reshape(-1, config.beat_bytes)
    group = np.arange(count)
    before = -(-group // share) * config.scale_beats
    result = np.empty((count * beats + len(tails), config.beat_bytes), dtype=np.uint8)
    result[(group * beats + before)[:, None] + np.arange(beats)] = body
    ends = (group * beats + before)[::share] + beats
    result[(ends[:, None] + np.arange(config.scale_beats)).ravel()] = tails
    return result


def _beats(config, padded, packed, tiles):
    """Return uint8 beats [tiles, groups, beats, beat_bytes] of values [rows, groups, k]."""
    code = config.trit_code
    trits = to_digits(padded, packed.planes)  # planes rows groups k
    trits = trits.reshape(
        packed.planes, tiles, config.tile_rows, packed.groups, packed.steps,
        config.tile_columns, code.trits_per_byte,
    )  # fmt: skip
    body = encode_trits(code, trits).transpose(1, 3, 0, 4, 2, 5)
    return body.reshape(tiles, packed.groups, packed.beats, config.beat_bytes)


def _sparse_beats(config, trits):
    """Return uint8 beats [tiles, groups, beats, beat_bytes] of trits [tiles, rows, groups, k]."""
    code, gearing = config.sparse, config.gearing
    tiles, rows, groups, k = trits.shape
    steps = k // config.tile_k
    quads = trits.reshape(tiles, rows, groups, steps, -1, QUAD).transpose(0, 2, 3, 1, 4, 5).copy()
    quads[(quads != 0).all(axis=-1), -1] = 0
    powers = 3 ** np.arange(QUAD)
    table = np.zeros(3**QUAD, dtype=np.uint8)
    for key, point in code.encode.items():
        table[((np.array(key) + 1) * powers).sum()] = point
    points = table[(quads + 1) @ powers]
    bits = np.unpackbits(points[..., None], axis=-1, count=code.bits, bitorder="little")
    symbols = bits.reshape(tiles, groups, steps * gearing.step, gearing.symbol_bits)
    beats = gearing.beats(steps)
    placed = np.zeros((tiles, groups, beats * gearing.beat, gearing.symbol_bits), dtype=np.uint8)
    placed[:, :, np.array(gearing.sources(steps))] = symbols
    body = np.packbits(placed.reshape(tiles, groups, -1), axis=-1, bitorder="little")
    return body.reshape(tiles, groups, beats, config.beat_bytes)


def to_digits(values, planes):
    """Return int8 digits [planes, ...] of int8 values, most significant first.

    The same digits as `integer.to_digits`, by a table and without wide intermediates.
    """
    top = limit(planes)
    if values.size and max(values.max(), -int(values.min())) > top:
        raise ValueError(
            f"magnitude {max(values.max(), -int(values.min()))} needs more than {planes} trits"
        )
    if planes == 1:
        return values[None]
    table = integer.to_digits(np.arange(-top, top + 1), planes)
    return np.take(table, values.astype(np.int16) + top, axis=1)


@functools.cache
def _encode_table(code):
    """Return (byte of each number, place values): trits plus one are the digits of a number."""
    powers = 3 ** np.arange(code.trits_per_byte)
    table = np.zeros(3**code.trits_per_byte, dtype=np.uint8)
    for key, byte in code.encode.items():
        table[((np.array(key) + 1) * powers).sum()] = byte
    return table, powers


def encode_trits(code, trits):
    """Return the uint8 bytes of trits, int8 [..., trits_per_byte]."""
    table, powers = _encode_table(code)
    # At most 242 for five trits, so that bytes hold the sum.
    index = np.full(trits.shape[:-1], powers.sum(), dtype=np.uint8)
    for place, power in enumerate(powers):
        index += trits[..., place].view(np.uint8) * np.uint8(power)
    return table[index]


def pack_beats(config, values, dtype):
    """Return a vector's bytes in little-endian ``dtype``, padded to whole beats."""
    data = np.asarray(values).astype(dtype).tobytes()
    return data + bytes(-len(data) % config.beat_bytes)


def pack_scalars(config, values):
    """Return the bytes that SLOAD reads for non-negative floats."""
    return pack_beats(config, [integer.Scalar.of(float(v)).word for v in values], "<u4")


def row_pieces(matrix, multiple=1):
    """Yield (first row, float32 rows) of a matrix of any float type, perhaps mapped from a file.

    All pieces but the last have a multiple of ``multiple`` rows.
    """
    rows = max(1, _CONVERTED // matrix.shape[1] // multiple) * multiple
    for first in range(0, matrix.shape[0], rows):
        yield first, np.asarray(matrix[first : first + rows], dtype=np.float32)


def row_scales(matrix, planes):
    """Return the float32 scales [rows] by which `quantise_rows` divides."""
    peak = np.abs(matrix).max(axis=1, initial=0).astype(np.float32)
    return np.where(peak > 0, peak / np.float32(limit(planes)), np.float32(1))


def quantise_rows(matrix, planes):
    """Return (int8 values, float32 scales [rows]): rows rounded to ``planes`` trits by absmax."""
    top, scales = limit(planes), row_scales(matrix, planes)
    values = np.clip(np.rint(matrix / scales[:, None]), -top, top).astype(np.int8)
    return values, scales
