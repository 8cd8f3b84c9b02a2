"""Commands of the accelerator: one 128-bit format per operation, defined once.

The sequencer, the stream walker, the program builder, the golden model and the documents all read
the tables below. A *program* is a list of commands in on-chip memory; a *job* runs it once, for one
token of every active *slot* (prompt tokens or parallel sequences that share the sweep).

Two agents walk the program: the stream walker runs ahead and asks the DMA for the data of every
command that consumes the stream (LOAD, SLOAD, MATVEC), in order; the executor performs the commands
one by one.

State that commands act on
--------------------------
scratchpad
    int32 elements, ``vu_width`` of them a word. Operands marked ``*_slot`` get
    ``slot * slot_stride`` added.
activation memory
    int8 codes, per vector, addressed in K steps (``tile_k`` codes each).
scalars
    64 register names of (mantissa, exponent); names 32 to 63 are private to the slot of the loop.
peak
    int32 result of the last ``max`` reduction; EXP measures its distance from it.
"""

from enum import IntEnum

__all__ = [
    "COMMAND_BITS",
    "Bound",
    "Destination",
    "FIELDS",
    "Format",
    "Function",
    "Kind",
    "Op",
    "Reduce",
    "SHARED_SCALARS",
    "SIGNED",
    "ScalarOp",
    "Source",
    "decode",
    "encode",
]

COMMAND_BITS = 128

#: Scalar register names below this are shared by all slots.
SHARED_SCALARS = 32


class Op(IntEnum):
    """Operations."""

    END = 0
    LOOP = 1
    NEXT = 2
    SKIP_UNLESS_HEAD = 3
    LOAD = 4
    SLOAD = 5
    MATVEC = 6
    VEC = 7
    HADAMARD = 8
    ROPE = 9
    EXP = 10
    SCALAR = 11
    KVWRITE = 12


class Source(IntEnum):
    """Where the stream of LOAD, SLOAD or MATVEC comes from (byte addresses, all beat-aligned).

    LINEAR        the sweep pointer, which every LINEAR command advances by what it reads
    EMBEDDING     embedding_base + token[slot] * embedding_stride
    ROPE          rope_base + position[slot] * rope_stride
    KEYS          kv_base[slot] + layer * kv_layer_stride + head * key_head_stride;
                  ceil((position+1) / tile_rows) tiles
    VALUES        kv_base[slot] + layer * kv_layer_stride + value_base + head * value_head_stride;
                  ceil((position+1) / tile_k) blocks
    VALUE_BLOCK   the one block of VALUES that holds the position
    """

    LINEAR = 0
    EMBEDDING = 1
    ROPE = 2
    KEYS = 3
    VALUES = 4
    VALUE_BLOCK = 5


class Format(IntEnum):
    """Elements in the stream of LOAD, little-endian, first element in the lowest bits."""

    INT8 = 0
    INT16 = 1
    INT32 = 2


class Destination(IntEnum):
    """Where VEC puts its result.

    SCRATCH        scratchpad, element ``dst``
    ACTIVATION     clamped to -127..127, to activation memory of vector ``vector`` (plus the slot if
                   ``vector_slot``), from K step ``dst``
    HIGH, LOW      clamped to 0..16383, then bits 13:7 or 6:0 to activation memory in the same way
    NONE           nowhere (reductions only)

    Whole K steps are written: codes from element n to the end of its step are zero.
    """

    SCRATCH = 0
    ACTIVATION = 1
    HIGH = 2
    LOW = 3
    NONE = 4


class Reduce(IntEnum):
    """Reduction over the first n results of VEC; ABSMAX and SUM go to a scalar, MAX to ``peak``."""

    NONE = 0
    ABSMAX = 1
    SUM = 2
    MAX = 3


class Bound(IntEnum):
    """What the length of a vector is: the immediate, or position[slot] + 1."""

    IMMEDIATE = 0
    POSITION = 1


class ScalarOp(IntEnum):
    """Scalar operations; see ``tamale_model.integer`` for their exact results.

    MUL rd = a * b; DIV rd = a / b (zero if b is zero); SQRT rd = sqrt(a); ADD rd = a + b;
    SHIFT rd = a * 2**max(0, exponent(b) + imm); SCALE rd = a * 2**imm
    """

    MUL = 0
    DIV = 1
    SQRT = 2
    ADD = 3
    SHIFT = 4
    SCALE = 5


class Function(IntEnum):
    """What EXP computes, see ``tamale_model.integer`` for the exact results.

    EXP2      2**-z, z from the distance to ``peak``
    SIGMOID   1 / (1 + exp(-z)), z from the element itself
    """

    EXP2 = 0
    SIGMOID = 1


class Kind(IntEnum):
    """Which half of the cache KVWRITE writes."""

    KEY = 0
    VALUE = 1


_ADDRESS = 17
_REGISTER = 6

#: (name, width) of the fields of each operation after the 4-bit ``op``, from bit 4 upwards.
_LAYOUT = {
    # End of the program: the job is complete.
    Op.END: (),
    # Repeat the commands up to the matching NEXT. level 0: layers, `count` times. level 1: the
    # active slots, whatever `count` says.
    Op.LOOP: (("level", 1), ("count", 16)),
    Op.NEXT: (("level", 1),),
    # Jump to `target` if the job does not ask for the head; otherwise the head's counters start
    # here.
    Op.SKIP_UNLESS_HEAD: (("target", 12),),
    # Stream to scratchpad: `beats` beats of `format` elements from source + offset (beats).
    Op.LOAD: (
        ("dst", _ADDRESS),
        ("dst_slot", 1),
        ("beats", 14),
        ("format", 2),
        ("source", 3),
        ("offset", 14),
        ("head", 8),
        ("fence", 1),
    ),
    # Stream to scalars rd, rd+1, ...: `count` words of 32 bits, mantissa low, exponent (signed)
    # high, from whole beats (the rest of the last beat is dropped).
    Op.SLOAD: (
        ("rd", _REGISTER),
        ("count", 6),
        ("source", 3),
        ("offset", 14),
        ("head", 8),
        ("fence", 1),
    ),
    # Ternary matrix times the activation vectors 0 to n-1 (n = active slots if vectors_slot).
    #   for block, for tile, for group, for plane (most significant first), for step:
    #       one beat: tile_rows x tile_k trits; byte r * columns + j holds row r, codes of step
    #       column j
    #       acc[row, vector] += trit * activation[vector][step]    (acc * 3 first at a new plane)
    #   After the last plane of a group, if `scaled`: ceil(2 * tile_rows / beat_bytes) beats of
    #   16-bit scales (and as many again of auxiliary scales if `aux`), row 0 first. Where a beat
    #   has room for several groups' (`Config.scale_share`) and there are no auxiliary ones, it
    #   holds those of the next groups of the command too, which come without.
    # Activation K step: act + (block * groups + group) * steps + step. Results: element dst + row
    # of the scratchpad, plus vector * vector_stride (slot_stride if vectors_slot), added up over
    # groups and blocks; aux scales to dst + n * vector_stride + row. to_candidates: to the
    # candidate lists instead.
    # KEYS: tiles is ceil((position+1)/tile_rows). VALUES: blocks is ceil((position+1)/tile_k),
    # else 1.
    # sparse (hardware with a sparse code): the trits of a group are in that code, of one plane
    # whatever planes says, and its K steps lie in beats without gaps as `tamale.gearing` says:
    # number n of a step, five bits from bit 5 n on, is number n % (tile_k / 4) of row
    # n // (tile_k / 4).
    Op.MATVEC: (
        ("dst", _ADDRESS),
        ("vector_stride", _ADDRESS),
        ("act", 12),
        ("tiles", 16),
        ("groups", 8),
        ("planes", 3),
        ("steps", 12),
        ("vectors", 5),
        ("vectors_slot", 1),
        ("scaled", 1),
        ("aux", 1),
        ("to_candidates", 1),
        ("source", 3),
        ("head", 8),
        ("fence", 1),
        ("sparse", 1),
    ),
    # result[i] = clamp(sat32(sat32(round((relu? a[i]) * m[i] / 2**s)) + (add? b[i] : 0)))
    #   m = mantissa of scalar m                                   (vector = 0)
    #   m = sat18(round(b[i] / 2**t)),                             (vector = 1)
    #       t = clamp(b_shift + (b_by_x ? exponent(x) : 0), 0, 31)
    #   s = clamp(shift - (by_m ? exponent(m) : 0) + (by_x ? exponent(x) : 0), 0, 63)
    # clamp to +-limit(planes) where planes is not 0. Elements n.. of the last word count as zero in
    # reductions and in activation memory; what they become in the scratchpad is not defined.
    Op.VEC: (
        ("dst", _ADDRESS),
        ("a", _ADDRESS),
        ("b", _ADDRESS),
        ("dst_slot", 1),
        ("a_slot", 1),
        ("b_slot", 1),
        ("n", 14),
        ("bound", 1),
        ("destination", 3),
        ("vector", 4),
        ("vector_slot", 1),
        ("m", _REGISTER),
        ("x", _REGISTER),
        ("shift", 7),
        ("by_m", 1),
        ("by_x", 1),
        ("b_shift", 6),
        ("b_by_x", 1),
        ("by_vector", 1),
        ("relu", 1),
        ("add", 1),
        ("planes", 3),
        ("reduce", 2),
        ("rd", _REGISTER),
        ("spare", 5),
    ),
    # In place, on consecutive blocks of 2**log2_block elements: natural-order Walsh-Hadamard
    # transform without scaling, sat32 after every addition. ABSMAX of the result goes to rd.
    Op.HADAMARD: (
        ("a", _ADDRESS),
        ("a_slot", 1),
        ("n", 14),
        ("log2_block", 4),
        ("rd", _REGISTER),
    ),
    # In place, on consecutive heads of `size` elements: with h = size/2, i < h,
    #   a[i] = round((a[i] c[i] - a[i+h] s[i]) / 2**shift)
    #   a[i+h] = round((a[i+h] c[i] + a[i] s[i]) / 2**shift), both from the old values,
    # c = b[0..h), s = b[h..2h), both sat18; results sat32.
    Op.ROPE: (
        ("a", _ADDRESS),
        ("a_slot", 1),
        ("b", _ADDRESS),
        ("b_slot", 1),
        ("n", 14),
        ("size", 10),
        ("shift", 6),
    ),
    # EXP2: dst[i] = exp2(-z), d = max(0, min(peak - a[i], 2**31 - 1)).
    # SIGMOID: dst[i] = sigmoid(z with the sign of a[i]), d = min(|a[i]|, 2**31 - 1).
    # z = min(round(d * mantissa(m) / 2**s), 2**21 - 1) in units of 2**-16,
    # s = clamp(shift - exponent(m), 0, 63); result in units of 2**-15. SUM to rd.
    Op.EXP: (
        ("dst", _ADDRESS),
        ("a", _ADDRESS),
        ("dst_slot", 1),
        ("a_slot", 1),
        ("n", 14),
        ("bound", 1),
        ("m", _REGISTER),
        ("shift", 7),
        ("rd", _REGISTER),
        ("function", 1),
    ),
    Op.SCALAR: (
        ("rd", _REGISTER),
        ("a", _REGISTER),
        ("b", _REGISTER),
        ("operation", 3),
        ("imm", 11),
    ),
    # Packs `size` quantised elements (|v| <= limit(planes)) at `a` into the cache of `head`, at the
    # slot's position. KEY: row position % tile_rows of tile position // tile_rows, with the scale
    # `scale` and the auxiliary scale `aux` in the tile's scale beats (16-bit floats of the
    # scalars). VALUE: digit position % tile_k of block position // tile_k, the other digits from
    # the old block (raw beats loaded at `b`), or zero where position % tile_k is zero.
    Op.KVWRITE: (
        ("a", _ADDRESS),
        ("a_slot", 1),
        ("b", _ADDRESS),
        ("b_slot", 1),
        ("kind", 1),
        ("head", 8),
        ("size", 10),
        ("planes", 3),
        ("scale", _REGISTER),
        ("aux", _REGISTER),
    ),
}

#: Fields that hold two's-complement numbers.
SIGNED = {"shift", "b_shift", "imm"}


def _place(layout):
    fields, offset = {"op": (0, 4)}, 4
    for name, width in layout:
        fields[name] = (offset, width)
        offset += width
    return fields, offset


#: For each operation, a dict of field name to (offset, width) in the command.
FIELDS = {}
for _op, _layout in _LAYOUT.items():
    FIELDS[_op], _used = _place(_layout)
    if _used > COMMAND_BITS:
        raise AssertionError(f"{_op.name} needs {_used} bits, a command has {COMMAND_BITS}")


def encode(op, **values):
    """Return the command as an integer of 128 bits; fields that are not named are zero.

    Raises
    ------
    ValueError
        For a field that the operation does not have, or a value that the field cannot hold.
    """
    fields = FIELDS[op]
    word = int(op)
    for name, value in values.items():
        if name not in fields:
            raise ValueError(f"{op.name} has no field {name!r}; it has {', '.join(fields)}")
        offset, width = fields[name]
        value = int(value)
        if name in SIGNED:
            low, high = -(1 << width - 1), (1 << width - 1) - 1
        else:
            low, high = 0, (1 << width) - 1
        if not low <= value <= high:
            raise ValueError(
                f"{op.name}.{name} holds {low} to {high}, not {value}; the model or the "
                "configuration is larger than the command format"
            )
        word |= (value & (1 << width) - 1) << offset
    return word


def decode(word):
    """Return (operation, dict of fields) of a 128-bit command."""
    op = Op(word & 15)
    values = {}
    for name, (offset, width) in FIELDS[op].items():
        value = word >> offset & (1 << width) - 1
        if name in SIGNED and value >> width - 1:
            value -= 1 << width
        values[name] = value
    del values["op"]
    return op, values
