"""C header ``tamale_machine.h``: commands, weight code and tables, for firmware that is the machine
itself."""

from tamale import isa, tables
from tamale.codes import PLANES_MAX, limit

__all__ = ["generate"]

_ENUMS = (
    isa.Op, isa.Source, isa.Format, isa.Destination, isa.Reduce, isa.Bound, isa.ScalarOp,
    isa.Function, isa.Kind,
)  # fmt: skip

_BITS = """\
/* Bits of a command: `offset` and `width` are constants. */
static inline uint32_t command_bits(const uint32_t *c, unsigned offset, unsigned width) {
    uint32_t value = c[offset / 32] >> offset % 32;
    if (offset % 32 + width > 32) value |= c[offset / 32 + 1] << (32 - offset % 32);
    return width < 32 ? value & ((1u << width) - 1) : value;
}
static inline int32_t command_signed(const uint32_t *c, unsigned offset, unsigned width) {
    return (int32_t)(command_bits(c, offset, width) << (32 - width)) >> (32 - width);
}
"""


def generate(config):
    """Give the text of ``tamale_machine.h``, for a configuration of one vector, one row a tile."""
    code = config.trit_code
    size = code.trits_per_byte
    numbers = [sum((t + 1) * 3**n for n, t in enumerate(trits)) for trits in code.decode]
    encode = [0] * 3**size
    for trits, byte in code.encode.items():
        encode[sum((t + 1) * 3**n for n, t in enumerate(trits))] = byte
    lines = [
        "/* Commands, weight code and tables of the integer specification.",
        " * Generated from the same description as the hardware; changes here are lost. */",
        "#ifndef TAMALE_MACHINE_H",
        "#define TAMALE_MACHINE_H",
        "",
        "#include <stdint.h>",
        "",
        *(
            f"#define MACHINE_{name} {value}u"
            for name, value in (
                ("SCRATCH_ELEMENTS", config.scratchpad_elements),
                ("ACT_STEPS", config.act_steps),
                ("PROGRAM_COMMANDS", config.program_commands),
                ("CANDIDATES", config.candidates),
                ("CONTEXT", config.max_context),
                ("BUS_WIDTH", config.bus_width),
                ("BEAT_WORDS", config.beat_bytes // 4),
                ("TILE_ROWS", config.tile_rows),
                ("TILE_K", config.tile_k),
                ("TILE_COLUMNS", config.tile_columns),
                ("TRITS", size),
                ("CODE", config.code_ident),
                ("VECTORS", config.vectors),
                ("VU_WIDTH", config.vu_width),
                ("OPS", max(isa.Op) + 1),
                ("COMMAND_WORDS", isa.COMMAND_BITS // 32),
            )
        ),
        "",
    ]
    for kind in _ENUMS:
        prefix = _capitals(kind.__name__)
        lines += [f"enum {{ {', '.join(f'{prefix}_{m.name} = {int(m)}' for m in kind)} }};"]
    lines += ["", _BITS, f"#define COMMAND_OP(c) ({_field(0, 4, False)})"]
    for op, fields in isa.FIELDS.items():
        lines += [
            f"#define {op.name}_{name.upper()}(c) ({_field(*place, name in isa.SIGNED)})"
            for name, place in fields.items()
            if name not in ("op", "spare")
        ]
    limits = [0, *(limit(planes) for planes in range(1, PLANES_MAX + 1))]
    lines += [
        "",
        "/* Largest magnitude of so many trits. */",
        *_table("int16_t", "limits", limits),
        "/* Number of a byte's trits, each plus one, the first counting one; byte of a number. */",
        *_table("uint8_t", "trit_number", numbers),
        *_table("uint8_t", "trit_byte", encode),
        "/* A third of a number of trits, rounded down: small cores divide slowly. */",
        *_table("uint8_t", "third", [n // 3 for n in range(max(3**size, limits[-1] * 2 + 1))]),
        "/* 1 / (1 + exp(i / 16)) in units of 2**-16, and the fall to the next. */",
        *_table("uint16_t", "sigmoid_table", tables.SIGMOID_TABLE),
        *_table("uint16_t", "sigmoid_delta", tables.SIGMOID_DELTA),
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _capitals(name):
    """``ScalarOp`` as SCALAR_OP."""
    return "".join(f"_{c}" if c.isupper() and i else c for i, c in enumerate(name)).upper()


def _field(offset, width, signed):
    return f"command_{'signed' if signed else 'bits'}(c, {offset}, {width})"


def _table(kind, name, values):
    rows = [values[i : i + 16] for i in range(0, len(values), 16)]
    return [
        f"static const {kind} machine_{name}[{len(values)}] = {{",
        *("    " + " ".join(f"{value}," for value in row) for row in rows),
        "};",
    ]
