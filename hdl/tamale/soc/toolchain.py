"""Firmware build: C and assembly to an image for the on-chip memory.

The compiler is Clang as ``zig cc``, which the package ``ziglang`` brings for every host;
compiler-rt comes with it, so 64-bit divisions and soft floating point link without a C library.
"""

import dataclasses
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

__all__ = ["Firmware", "build_firmware", "read_image"]


@dataclasses.dataclass(frozen=True)
class Firmware:
    """A linked program.

    Attributes
    ----------
    elf : Path
        The program with its symbols.
    image : bytes
        What the on-chip memory holds when the CPU starts, from the first address on.
    """

    elf: Path
    image: bytes


def build_firmware(
    sources, output, *, toolchain, linker_script, include=(), defines=None, options=()
):
    """Compile and link a program.

    Parameters
    ----------
    sources : sequence of paths
        ``.c`` and ``.S`` files.
    output : path
        Where the ELF file goes; its folder is made if missing.
    toolchain : cpu.Toolchain
        Facts of the processor.
    linker_script : path
        As `tamale.generate.linker` writes it.
    include : sequence of paths
        Folders with headers, such as the one that holds ``tamale_soc.h``.
    defines : dict of str to int or str
        Macros.
    options : sequence of str
        Further arguments of the compiler; a later ``-O`` replaces ``-Os``.

    Returns
    -------
    Firmware

    Raises
    ------
    FileNotFoundError
        If the compiler or a source is missing.
    RuntimeError
        If the program does not compile or link; the message has the compiler's.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise FileNotFoundError(
            "the RISC-V compiler is missing; install it with: pip install ziglang"
        )
    sources = [Path(source) for source in sources]
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f"firmware source {str(source)!r} does not exist")
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "ziglang", "cc",
        "-target", "riscv32-freestanding-none", f"-mcpu={toolchain.mcpu}",
        f"-mabi={toolchain.mabi}", "-std=c11", "-Os", "-Wall", "-Wextra", "-Werror",
        "-ffreestanding", "-fno-pic", "-ffunction-sections", "-fdata-sections",
        "-fno-sanitize=undefined", "-fno-stack-protector", *(f"-I{folder}" for folder in include),
        *(f"-D{name}={value}" for name, value in (defines or {}).items()), *options, *map(str,
        sources), "-Wl,--gc-sections", f"-Wl,-T,{linker_script}", "-o", str(output),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"firmware {output.name} does not build:\n{result.stderr.strip()}")
    return Firmware(output, read_image(output))


def read_image(elf):
    """Give the loaded bytes of a 32-bit little-endian ELF file, gaps filled with zeros.

    The first byte is the one at the lowest loaded address.

    Source: System V ABI, chapters 4 and 5 (program headers).

    Raises
    ------
    ValueError
        If the file is no such program, loads nothing, or loads to places more than 16 MiB apart.
    """
    data = Path(elf).read_bytes()
    if data[:6] != b"\x7fELF\x01\x01":
        raise ValueError(f"{str(elf)!r} is no 32-bit little-endian ELF file")
    table, entry_size, count = (
        *struct.unpack_from("<I", data, 28), *struct.unpack_from("<HH", data, 42),
    )  # fmt: skip
    pieces = []
    for index in range(count):
        kind, offset, _, address, length = struct.unpack_from(
            "<5I", data, table + index * entry_size
        )
        if kind == 1 and length:
            pieces.append((address, data[offset : offset + length]))
    if not pieces:
        raise ValueError(f"{str(elf)!r} loads nothing; does it have a .text section?")
    first = min(address for address, _ in pieces)
    last = max(address + len(piece) for address, piece in pieces)
    if last - first > 1 << 24:
        raise ValueError(
            f"{str(elf)!r} loads to {first:#x} and {last:#x}; initialised data belong into the "
            "on-chip memory"
        )
    image = bytearray(last - first)
    for address, piece in pieces:
        image[address - first : address - first + len(piece)] = piece
    return bytes(image)
