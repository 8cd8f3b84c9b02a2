"""C header: addresses, masks, constants, and an accessor for every register.

Accesses go through ``TAMALE_READ32(address)`` and ``TAMALE_WRITE32(address, value)``, and block
addresses through ``TAMALE_<BLOCK>_BASE``; a program that defines them before it includes the header
reaches the same registers in another way (a host over a link, a simulation, another address).
"""

__all__ = ["generate"]

_PREAMBLE = """\
/* Registers and constants of the Tamale system "{name}".
 * Generated from the hardware's description; changes here are lost. */
#ifndef TAMALE_SOC_H
#define TAMALE_SOC_H

#include <stdint.h>

#ifndef TAMALE_READ32
#define TAMALE_READ32(address) (*(volatile const uint32_t *)(uintptr_t)(address))
#endif
#ifndef TAMALE_WRITE32
#define TAMALE_WRITE32(address, value) \\
    ((void)(*(volatile uint32_t *)(uintptr_t)(address) = (uint32_t)(value)))
#endif

/* A field out of a register's word, and a value moved to the field's place. */
#define TAMALE_FIELD(field, word) (((uint32_t)(word) & field##_MASK) >> field##_SHIFT)
#define TAMALE_PLACE(field, value) (((uint32_t)(value) << field##_SHIFT) & field##_MASK)
"""


def generate(system):
    """Give the text of ``tamale_soc.h``."""
    lines = [_PREAMBLE.format(name=system.name)]
    if system.constants:
        lines.append("/* Constants of the configuration. */")
        for name, value in system.constants.items():
            lines.append(f"#define TAMALE_{name} {_literal(value)}")
        lines.append("")
    if system.interrupts:
        lines.append("/* Lines of the CPU's interrupt input. */")
        for name, line in sorted(system.interrupts.items(), key=lambda item: item[1]):
            lines.append(f"#define TAMALE_INTERRUPT_{name.upper()} {line}")
        lines.append("")
    for region in system.memories:
        prefix = f"TAMALE_{region.name.upper()}"
        lines += [
            f"/* {region.doc} */",
            f"#define {prefix}_BASE {region.base:#010x}u",
            f"#define {prefix}_SIZE {region.size:#010x}u",
            "",
        ]
    for region in system.peripherals:
        lines += _block(region)
    lines.append("#endif")
    return "\n".join(lines) + "\n"


def _literal(value):
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    suffix = "" if -(1 << 31) <= value < 1 << 31 else "u" if 0 <= value < 1 << 32 else "ull"
    return f"({value})" if value < 0 else f"{value}{suffix}"


def _block(region):
    prefix, function = f"TAMALE_{region.name.upper()}", f"tamale_{region.name}"
    lines = [
        f"/* ---- {region.name}: {region.block.doc} */",
        f"#ifndef {prefix}_BASE",
        f"#define {prefix}_BASE {region.base:#010x}u",
        "#endif",
        f"#define {prefix}_SIZE {region.block.size:#x}u",
        "",
    ]
    for register in region.block.registers:
        lines += _register(prefix, function, register)
    for window in region.block.windows:
        name = f"{prefix}_{window.name.upper()}"
        lines += [
            f"/* {window.doc} */",
            f"#define {name}_OFFSET {window.offset:#x}u",
            f"#define {name}_SIZE {window.size:#x}u",
        ]
        address = f"{prefix}_BASE + {name}_OFFSET + 4u * (uintptr_t)word"
        if window.access != "wo":
            lines += _reader(f"{function}_{window.name}", "uint32_t word", [address])
        if window.access != "ro":
            lines += _writer(f"{function}_{window.name}", "uint32_t word, ", [address])
        lines.append("")
    return lines


def _register(prefix, function, register):
    name = f"{prefix}_{register.name.upper()}"
    lines = [f"/* {register.doc} */", f"#define {name}_OFFSET {register.offset:#x}u"]
    if register.count is not None:
        lines.append(f"#define {name}_COUNT {register.count}u")
    if register.init_word:
        lines.append(f"#define {name}_INIT {register.init_word:#x}{'ull' * (register.words > 1)}")
    for field in register.fields:
        if len(register.fields) > 1 or field.values or field.name != "value":
            lines += [
                f"/*   {field.name} ({field.access}): {field.doc} */",
                f"#define {name}_{field.name.upper()}_SHIFT {field.offset}",
                f"#define {name}_{field.name.upper()}_MASK {field.mask:#x}u",
            ]
        for value_name, value in field.values.items():
            lines.append(f"#define {name}_{field.name.upper()}_{value_name.upper()} {value:#x}u")
    index = "" if register.count is None else f" + {4 * register.words}u * (uintptr_t)index"
    parameter = "" if register.count is None else "uint32_t index"
    addresses = [
        f"{prefix}_BASE + {name}_OFFSET{index}" + (f" + {4 * word}u" if word else "")
        for word in range(register.words)
    ]
    accessor = f"{function}_{register.name}"
    if register.words > 2:
        raise ValueError(
            f"register {register.name!r} is {register.width} bits wide; C has no integer for more "
            "than 64: make it an array of words"
        )
    if register.readable:
        lines += _reader(accessor, parameter or "void", addresses)
    if register.writable:
        lines += _writer(accessor, parameter + ", " if parameter else "", addresses)
    return lines + [""]


def _reader(accessor, parameters, addresses):
    if len(addresses) == 1:
        return [
            f"static inline uint32_t {accessor}_read({parameters}) {{",
            f"    return TAMALE_READ32({addresses[0]});",
            "}",
        ]
    low, high = addresses
    # The words change under way; the pair is right if no carry went past between its two halves.
    return [
        f"static inline uint64_t {accessor}_read({parameters}) {{",
        "    uint32_t low, high, again;",
        f"    again = TAMALE_READ32({high});",
        "    do {",
        "        high = again;",
        f"        low = TAMALE_READ32({low});",
        f"        again = TAMALE_READ32({high});",
        "    } while (high != again);",
        "    return (uint64_t)high << 32 | low;",
        "}",
    ]


def _writer(accessor, parameters, addresses):
    kind = "uint32_t" if len(addresses) == 1 else "uint64_t"
    lines = [f"static inline void {accessor}_write({parameters}{kind} value) {{"]
    for word, address in enumerate(addresses):
        value = f"value >> {32 * word}" if word else "value"
        lines.append(f"    TAMALE_WRITE32({address}, {value});")
    return lines + ["}"]
