"""Register documents in Markdown."""

__all__ = ["generate"]

_ACCESS = {
    "rw": "read, write",
    "ro": "read",
    "wo": "write",
    "pulse": "write 1 to trigger",
    "w1c": "read, write 1 to clear",
    "const": "read, constant",
}


def generate(system):
    """Give the text of ``tamale_soc.md``."""
    lines = [
        f"# Registers of the Tamale system “{system.name}”",
        "",
        "Generated from the hardware's description; changes here are lost.",
        "",
        "## Memory map",
        "",
        "| from | to | region | cached | content |",
        "| --- | --- | --- | --- | --- |",
    ]
    for region in system.regions:
        name = f"[{region.name}](#{region.name})" if region.block else region.name
        lines.append(
            f"| `{region.base:#010x}` | `{region.base + region.size - 1:#010x}` | {name} "
            f"| {'yes' if region.cached else 'no'} | {_cell(region.doc)} |"
        )
    lines += ["", "An access outside these ends with a bus error.", ""]
    if system.interrupts:
        lines += ["## Interrupts", "", "| line | source |", "| --- | --- |"]
        for name, line in sorted(system.interrupts.items(), key=lambda item: item[1]):
            lines.append(f"| {line} | {name} |")
        lines.append("")
    if system.constants:
        lines += ["## Constants", "", "| name | value |", "| --- | --- |"]
        lines += [f"| `TAMALE_{name}` | {value} |" for name, value in system.constants.items()]
        lines.append("")
    for region in system.peripherals:
        lines += _block(region)
    return "\n".join(lines)


def _cell(text):
    return text.replace("|", "\\|")


def _place(item):
    if getattr(item, "count", None) is None:
        return f"`{item.offset:#x}`"
    return f"`{item.offset:#x}` + {item.size // item.count} × index"


def _block(region):
    block = region.block
    lines = [
        f"## {region.name}",
        "",
        f"{block.doc} Base `{region.base:#010x}`. Registers are written as whole words.",
        "",
        "| offset | name | bits | after reset | content |",
        "| --- | --- | --- | --- | --- |",
    ]
    for register in block.registers:
        name = register.name + (f"[{register.count}]" if register.count is not None else "")
        lines.append(
            f"| {_place(register)} | `{name}` | {register.width} | `{register.init_word:#x}` "
            f"| {_cell(register.doc)} |"
        )
    for window in block.windows:
        lines.append(
            f"| {_place(window)} | `{window.name}` (window) | {window.size} bytes "
            f"| {_ACCESS[window.access]} | {_cell(window.doc)} |"
        )
    lines.append("")
    for register in block.registers:
        lines += [
            f"### {region.name}.{register.name}",
            "",
            register.doc,
            "",
            "| bits | field | access | after reset | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        for field in register.fields:
            top = field.offset + field.width - 1
            bits = f"{top}:{field.offset}" if field.width > 1 else f"{field.offset}"
            reset = f"`{field.init:#x}`" if field.access in ("rw", "w1c", "const") else ""
            meaning = field.doc + "".join(
                f" `{value}` {name}." for name, value in field.values.items()
            )
            lines.append(
                f"| {bits} | `{field.name}` | {_ACCESS[field.access]} | {reset} "
                f"| {_cell(meaning)} |"
            )
        lines.append("")
    return lines
