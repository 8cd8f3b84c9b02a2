"""Firmware builds: images, and what is said when something is missing."""

import importlib.util

import pytest
from tamale.generate import linker
from tamale.soc import cpu
from tamale.soc.memory_map import Region, System
from tamale.soc.toolchain import build_firmware, read_image

SYSTEM = System("test", [
    Region("ram", 0, 0x4000, "On-chip memory.", executable=True),
    Region("dram", 0x4000_0000, 1 << 20, "DRAM."),
])  # fmt: skip


def build(tmp_path, source, **options):
    (tmp_path / "main.c").write_text(source)
    (tmp_path / "link.ld").write_text(linker.generate(SYSTEM))
    options = {"toolchain": TOOLCHAIN, **options}
    return build_firmware(
        [tmp_path / "main.c"], tmp_path / "out" / "main.elf", linker_script=tmp_path / "link.ld",
        **options,
    )  # fmt: skip


TOOLCHAIN = cpu.Toolchain("rv32im", "generic_rv32+m", "ilp32", {})
PROGRAM = """
volatile unsigned numbers[] = {0x11223344, VALUE};
__attribute__((section(".dram"))) volatile unsigned buffer[100];
__attribute__((section(".text.start"))) void _start(void) { for (;;) buffer[0] += numbers[1]; }
"""


def test_image(tmp_path):
    firmware = build(tmp_path, PROGRAM, defines={"VALUE": 0x5566})
    again = build(tmp_path, PROGRAM, defines={"VALUE": 0x5566})
    assert firmware.image == again.image
    assert b"\x44\x33\x22\x11\x66\x55\x00\x00" in firmware.image
    assert len(firmware.image) < 200


def test_compiler_messages(tmp_path):
    with pytest.raises(RuntimeError, match=r"firmware main\.elf does not build:\n(.|\n)*VALUE"):
        build(tmp_path, PROGRAM)
    with pytest.raises(FileNotFoundError, match="no-such.c' does not exist"):
        build_firmware(["no-such.c"], tmp_path / "x", toolchain=TOOLCHAIN, linker_script="x")


def test_full_memory(tmp_path):
    source = "volatile char big[SIZE];" + PROGRAM.replace("buffer[0] +=", "big[9] +=")
    build(tmp_path, source, defines={"VALUE": 1, "SIZE": 0x3700})
    with pytest.raises(RuntimeError, match="less than 2048 bytes are left for the stack"):
        build(tmp_path, source, defines={"VALUE": 1, "SIZE": 0x3B00})


def test_missing_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="install it with: pip install ziglang"):
        build(tmp_path, PROGRAM)


def test_no_elf(tmp_path):
    (tmp_path / "x").write_bytes(b"hello")
    with pytest.raises(ValueError, match="is no 32-bit little-endian ELF file"):
        read_image(tmp_path / "x")
