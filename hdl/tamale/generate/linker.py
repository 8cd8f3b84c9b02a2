"""Linker script: program, data and stack in on-chip memory, other memories by name."""

__all__ = ["generate"]

_SECTIONS = """\

ENTRY(_start)

SECTIONS
{{
    .text : {{
        KEEP(*(.text.start))
        *(.text .text.*)
    }} > {program}
    .rodata : ALIGN(4) {{
        *(.rodata .rodata.* .srodata .srodata.*)
    }} > {program}
    .data : ALIGN(4) {{
        *(.data .data.*)
        __global_pointer$ = . + 0x800;
        *(.sdata .sdata.*)
        . = ALIGN(4);
    }} > {program}
    .bss (NOLOAD) : ALIGN(4) {{
        __bss_start = .;
        *(.sbss .sbss.* .bss .bss.* COMMON)
        . = ALIGN(16);
        __bss_end = .;
    }} > {program}
{others}
    __stack_bottom = __bss_end;
    __stack_top = ORIGIN({program}) + LENGTH({program});
    ASSERT(__stack_top - __stack_bottom >= {stack},
           "less than {stack} bytes are left for the stack; enlarge the on-chip memory")

    /DISCARD/ : {{ *(.comment .note .note.* .eh_frame .eh_frame_hdr .riscv.attributes) }}
}}
"""


def generate(system, *, program="ram", stack=2048):
    """Give the text of ``tamale_soc.ld``.

    The image begins at the start of ``program``, is in the memory when the CPU starts, and is not
    copied: after a reset of the CPU alone, initialised variables keep their last values. The stack
    grows down from the end. A variable in section ``.<region>`` lies in that memory, uninitialised.

    Parameters
    ----------
    system : System
        Its memories become the regions of the script.
    program : str
        Memory that holds code and data.
    stack : int
        Bytes that must be left for the stack, or linking fails.

    Raises
    ------
    KeyError
        If there is no such memory.
    """
    system[program]
    lines = [
        f'/* Linker script of the Tamale system "{system.name}".',
        " * Generated from the hardware's description; changes here are lost. */",
        "",
        "MEMORY",
        "{",
    ]
    others = []
    for region in system.memories:
        flags = "rwx" if region.executable else "rw"
        lines.append(
            f"    {region.name} ({flags}) : ORIGIN = {region.base:#010x}, LENGTH = {region.size:#x}"
        )
        if region.name != program:
            others.append(
                f"    .{region.name} (NOLOAD) : ALIGN(4) "
                f"{{ *(.{region.name} .{region.name}.*) }} > {region.name}"
            )
    lines.append("}")
    return "\n".join(lines) + _SECTIONS.format(
        program=program, stack=stack, others="\n".join(others)
    )
