"""Reference tables in Markdown: the command format, and the words of an image's header.

They are written from `tamale.isa` and `tamale.image` alone, so they are the same for every
configuration. docs/reference/ has the prose that goes with them.
"""

import inspect

from tamale import image, isa
from tamale.codes import CODES, QUAD, SPARSE_CODES, SparseCode

__all__ = ["FIELD_DOCS", "generate", "generate_image"]

_INTRODUCTION = """\
# Commands of the accelerator

Generated from the hardware's description; changes here are lost.

A command has {bits} bits, in memory as 16 bytes, lowest first. Bits that an operation does not name
are zero. Signed fields are two's complement.
"""

_IMAGE_INTRODUCTION = """\
# Header of a memory image

Generated from the hardware's description; changes here are lost.

Version {version}. The header has {header} bytes: the words below, little-endian, zeros, and in the
last {name} bytes the model's name in UTF-8, ended by a zero byte. Sections start at multiples of
{alignment} bytes.
"""

#: What a field means, the same in every operation that has it.
FIELD_DOCS = {
    "op": "operation",
    "level": "loop: 0 over layers, 1 over active slots",
    "count": "passes of the loop, or scalars to load",
    "target": "index of the command to go on with",
    "dst": "element of the scratchpad (K step of activation memory) for the result",
    "a": "element of the scratchpad, operand a",
    "b": "element of the scratchpad, operand b",
    "dst_slot": "add `slot * slot_stride` to `dst`",
    "a_slot": "add `slot * slot_stride` to `a`",
    "b_slot": "add `slot * slot_stride` to `b`",
    "beats": "beats to take from the stream",
    "format": "elements in the stream",
    "source": "where the stream comes from",
    "offset": "beats from the source's address",
    "head": "KV head",
    "fence": "read only when every earlier KVWRITE is in memory",
    "rd": "scalar register for the result",
    "vector_stride": "elements between the results of two vectors",
    "act": "first K step of activation memory",
    "tiles": "tiles of `tile_rows` matrix rows",
    "groups": "groups along K",
    "planes": "trit planes of the matrix or of a quantised value; 0 in VEC: no clamp",
    "steps": "K steps of a group",
    "vectors": "activation vectors",
    "vectors_slot": "one vector per active slot instead, `slot_stride` apart",
    "scaled": "scales follow each group, or as many as share a beat",
    "sparse": "trits are in the sparse code",
    "aux": "auxiliary scales follow the scales",
    "to_candidates": "results go to the candidate lists",
    "n": "elements",
    "bound": "whether `n` or the position is the length",
    "destination": "where the result goes",
    "vector": "activation vector for the result",
    "vector_slot": "add the slot to `vector`",
    "m": "scalar whose mantissa multiplies",
    "x": "scalar whose exponent shifts",
    "shift": "right shift of the product",
    "by_m": "subtract the exponent of `m` from the shift",
    "by_x": "add the exponent of `x` to the shift",
    "b_shift": "right shift of factor b",
    "b_by_x": "add the exponent of `x` to that shift",
    "by_vector": "multiply by b instead of by `m`",
    "relu": "negative elements of a count as zero",
    "add": "add b to the product",
    "reduce": "reduction over the results",
    "spare": "zero",
    "log2_block": "logarithm of the block of the transform",
    "size": "elements of a head",
    "operation": "scalar operation",
    "imm": "constant, see the operation",
    "kind": "half of the cache",
    "function": "what is computed",
    "scale": "scalar register with the scale of the key",
    "aux_scalar": "scalar register with the scale of the value",
}  # fmt: skip

#: Fields whose values have names.
_ENUMS = {
    "op": isa.Op,
    "format": isa.Format,
    "source": isa.Source,
    "bound": isa.Bound,
    "destination": isa.Destination,
    "reduce": isa.Reduce,
    "operation": isa.ScalarOp,
    "kind": isa.Kind,
    "function": isa.Function,
}


def _meaning(op, name):
    # KVWRITE's aux is a register, MATVEC's a flag.
    text = FIELD_DOCS["aux_scalar" if op is isa.Op.KVWRITE and name == "aux" else name]
    if name in _ENUMS and name != "op":
        text += f", see [{_ENUMS[name].__name__}](#{_ENUMS[name].__name__.lower()})"
    return text


def _bits(offset, width):
    return f"{offset + width - 1}:{offset}" if width > 1 else f"{offset}"


def generate():
    """Give the text of ``tamale_commands.md``."""
    lines = [_INTRODUCTION.format(bits=isa.COMMAND_BITS)]
    for op, fields in isa.FIELDS.items():
        lines += [
            f"## {op.name}",
            "",
            f"Operation {op.value}.",
            "",
            "| bits | field | signed | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for name, (offset, width) in fields.items():
            signed = "yes" if name in isa.SIGNED else ""
            meaning = f"{op.value}" if name == "op" else _meaning(op, name)
            lines.append(f"| {_bits(offset, width)} | `{name}` | {signed} | {meaning} |")
        lines.append("")
    for enum in list(_ENUMS.values())[1:]:
        lines += [f"## {enum.__name__}", "", "```text", inspect.getdoc(enum), "```", ""]
        lines += ["| value | name |", "| --- | --- |"]
        lines += [f"| {member.value} | `{member.name}` |" for member in enum]
        lines.append("")
    return "\n".join(lines)


def generate_image():
    """Give the text of ``tamale_image.md``."""
    lines = [
        _IMAGE_INTRODUCTION.format(
            version=image.VERSION,
            header=image.HEADER_BYTES,
            name=image.NAME_BYTES,
            alignment=image.ALIGNMENT,
        ),
        "| offset | word | meaning |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{4 * i:#x}` | `{name}` | {doc} |" for i, (name, doc) in enumerate(image.FIELDS)]
    lines += ["", "## Tokenizer", "", "| offset | word | meaning |", "| --- | --- | --- |"]
    lines += [
        f"| `{4 * i:#x}` | `{name}` | {doc} |"
        for i, (name, doc) in enumerate(image.TOKENIZER_FIELDS)
    ]
    for title, values in (
        ("pattern", image.TOKENIZER_PATTERNS),
        ("bit of flags", image.TOKENIZER_FLAGS),
        ("class", image.TOKENIZER_CLASSES),
    ):
        lines += ["", f"| {title} | name |", "| --- | --- |"]
        lines += [f"| {value} | `{name}` |" for name, value in values.items()]
    lines += ["", "## Weight codes", "", "| number | name | trits a byte | bits a trit |"]
    lines.append("| --- | --- | --- | --- |")
    for code in CODES.values():
        lines.append(
            f"| {code.ident} | `{code.name}` | {code.trits_per_byte} | {code.bits_per_trit:g} |"
        )
    lines += ["", f"{QUAD} trits, one of them zero, in {SparseCode.bits} bits:", ""]
    lines += [
        "| number | name | bits a trit | trits of 0, 1, 2, ... |",
        "| --- | --- | --- | --- |",
    ]
    for code in SPARSE_CODES.values():
        points = " ".join("".join("-0+"[t + 1] for t in trits) for trits in code.decode)
        lines.append(f"| {code.ident} | `{code.name}` | {code.bits_per_trit:g} | {points} |")
    return "\n".join(lines) + "\n"
