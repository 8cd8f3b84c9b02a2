"""C header ``tamale_image.h``: the words of an image's header, and the tables that firmware shares
with the hardware."""

from tamale import image, tables

__all__ = ["generate"]


def generate():
    """Give the text of ``tamale_image.h``."""
    lines = [
        "/* Format of memory images, and constants of the integer specification.",
        " * Generated from the same description as the hardware; changes here are lost. */",
        "#ifndef TAMALE_IMAGE_H",
        "#define TAMALE_IMAGE_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define TAMALE_IMAGE_MAGIC {image.MAGIC:#010x}u",
        f"#define TAMALE_IMAGE_VERSION {image.VERSION}u",
        f"#define TAMALE_IMAGE_HEADER_BYTES {image.HEADER_BYTES}u",
        f"#define TAMALE_IMAGE_NAME_BYTES {image.NAME_BYTES}u",
        "",
        "/* Words of the header. */",
        "enum tamale_image_word {",
        *(
            f"    TAMALE_IMAGE_{name.upper()}_WORD = {i}, /* {doc} */"
            for i, (name, doc) in enumerate(image.FIELDS)
        ),
        "};",
        "",
        "/* Words of the tokenizer's tables. */",
        "enum tamale_tokenizer_word {",
        *(
            f"    TAMALE_TOKENIZER_{name.upper()}_WORD = {i}, /* {doc} */"
            for i, (name, doc) in enumerate(image.TOKENIZER_FIELDS)
        ),
        "};",
        *(
            f"#define TAMALE_TOKENIZER_{kind}_{name} {value}u"
            for kind, values in (
                ("PATTERN", image.TOKENIZER_PATTERNS),
                ("FLAG", image.TOKENIZER_FLAGS),
                ("CLASS", image.TOKENIZER_CLASSES),
            )
            for name, value in values.items()
        ),
        f"#define TAMALE_TOKENIZER_CLASS_MASK {image.TOKENIZER_CLASS_MASK}u",
        f"#define TAMALE_TOKENIZER_KIND_MARK {image.TOKENIZER_KIND_MARK}u",
        f"#define TAMALE_TOKENIZER_KIND_UNSTABLE {image.TOKENIZER_KIND_UNSTABLE}u",
        f"#define TAMALE_TOKENIZER_ADDED_SPECIAL {image.TOKENIZER_ADDED_SPECIAL:#x}u",
        "",
        "/* 2**(-i/64) in units of 2**-16, and the fall to the next. */",
        f"static const uint32_t tamale_exp2_table[{len(tables.EXP2_TABLE)}] = {{",
        *_rows(tables.EXP2_TABLE),
        "};",
        f"static const uint16_t tamale_exp2_delta[{len(tables.EXP2_DELTA)}] = {{",
        *_rows(tables.EXP2_DELTA),
        "};",
        "",
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _rows(values):
    return [
        "    " + " ".join(f"{value}," for value in values[i : i + 8])
        for i in range(0, len(values), 8)
    ]
