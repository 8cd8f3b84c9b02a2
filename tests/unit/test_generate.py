"""Generated header, linker script, SVD and documents against their description."""

import re
import subprocess
import sys
import xml.etree.ElementTree as xml

import pytest
from tamale import generate
from tamale.generate import header, linker, markdown, svd
from tamale.soc.memory_map import Region, System
from tamale.soc.registers import Block, Field, Register, Window

BLOCK = Block("engine", "Runs command lists | in order.", [
    Register("control", "Starts and configures the engine.", [
        Field("start", 1, "Write 1 to start.", access="pulse"),
        Field("mode", 3, "What runs.", init=2, offset=4, values={"list": 0, "single": 2}),
    ]),
    Register("status", "What happened.", [
        Field("busy", 1, "High while a list runs.", access="ro"),
        Field("fault", 2, "Bus errors; write 1 to clear.", access="w1c"),
    ]),
    Register("entry_word", "Words of the entry.", access="wo", count=4, offset=0x10),
    Register("limit", "Where to stop.", width=40, init=0x12_3456_789A),
    Register("cycles", "Clock cycles since reset.", width=64, access="ro"),
    Register("layer_cycles", "Cycles of each layer.", width=64, access="ro", count=2),
    Window("scratchpad", "Activations, one word each.", size=64),
    Window("trace", "Past commands.", size=32, access="ro"),
])  # fmt: skip
SYSTEM = System(
    "test",
    [
        Region("engine", 0xF001_0000, 0x1_0000, "Runs.", block=BLOCK),
        Region("ram", 0, 0x4000, "On-chip memory.", cached=True, executable=True),
        Region("dram", 0x4000_0000, 1 << 25, "DRAM."),
    ],
    {"engine": 2},
    {"CLOCK_HZ": 80_000_000, "BIG": 1 << 31, "LANES": 80, "CODE": 'a"b'},
)


@pytest.mark.parametrize("name", generate.FILES)
def test_deterministic(name):
    text = generate.FILES[name](SYSTEM)
    assert text == generate.FILES[name](SYSTEM)
    assert not re.search(r"/home|/work|/tmp|20\d\d-\d\d", text)
    assert text.endswith("\n") and max(map(len, text.splitlines())) < 200


def test_write_all(tmp_path):
    paths = generate.write_all(SYSTEM, tmp_path / "new")
    assert [path.name for path in paths] == list(generate.FILES)
    assert all(path.read_text() for path in paths)


HOST_PROGRAM = r"""
#include <stdint.h>
#include <stdio.h>
static uint32_t space[64];
static int carry;
static uint32_t read32(uintptr_t address) {
    uint32_t value = space[(address - 0x1000) / 4];
    /* The counter carries into its high word while the program reads it. */
    if (carry && address == 0x1000 + LOW) { space[(LOW + 4) / 4]++; space[LOW / 4] = 5; carry = 0; }
    return value;
}
#define TAMALE_ENGINE_BASE 0x1000u
#define TAMALE_READ32(address) read32(address)
#define TAMALE_WRITE32(address, value) (space[((address) - 0x1000) / 4] = (uint32_t)(value))
#include "tamale_soc.h"
#define CHECK(condition) if (!(condition)) { printf("%s\n", #condition); return 1; }
_Static_assert(TAMALE_CLOCK_HZ == 80000000, "");
_Static_assert(TAMALE_BIG == 0x80000000u && TAMALE_BIG > 0, "");
_Static_assert(sizeof TAMALE_CODE == 4, "");
_Static_assert(TAMALE_INTERRUPT_ENGINE == 2, "");
_Static_assert(TAMALE_DRAM_BASE == 0x40000000 && TAMALE_DRAM_SIZE == 1 << 25, "");
_Static_assert(TAMALE_ENGINE_CONTROL_MODE_SINGLE == 2, "");
_Static_assert(TAMALE_ENGINE_LIMIT_INIT == 0x123456789aull, "");
int main(void) {
    tamale_engine_control_write(TAMALE_PLACE(TAMALE_ENGINE_CONTROL_MODE, 5));
    CHECK(space[0] == 5 << 4);
    CHECK(TAMALE_FIELD(TAMALE_ENGINE_CONTROL_MODE, tamale_engine_control_read()) == 5);
    tamale_engine_entry_word_write(3, 7);
    CHECK(space[0x1c / 4] == 7);
    tamale_engine_limit_write(0x1122334455ull);
    CHECK(tamale_engine_limit_read() == 0x1122334455ull);
    space[LOW / 4] = 0xfffffffe; space[LOW / 4 + 1] = 1; carry = 1;
    uint64_t cycles = tamale_engine_cycles_read();
    CHECK(cycles == 0x200000005ull);
    space[(TAMALE_ENGINE_LAYER_CYCLES_OFFSET + 8) / 4] = 9;
    CHECK(tamale_engine_layer_cycles_read(1) == 9);
    tamale_engine_scratchpad_write(2, 3);
    CHECK(tamale_engine_scratchpad_read(2) == 3);
    CHECK(space[(TAMALE_ENGINE_SCRATCHPAD_OFFSET + 8) / 4] == 3);
    return 0;
}
"""


def test_header_on_a_host(tmp_path):
    """The accessors, redirected into an array, reach the right words in the right order."""
    (tmp_path / "tamale_soc.h").write_text(header.generate(SYSTEM))
    (tmp_path / "main.c").write_text(HOST_PROGRAM)
    program = tmp_path / "main"
    subprocess.run(
        [sys.executable, "-m", "ziglang", "cc", "-std=c11", "-Wall", "-Wextra", "-Werror",
         "-Wno-unused-function", f"-DLOW={BLOCK['cycles'].offset:#x}", "main.c", "-o", program],
        cwd=tmp_path, check=True,
    )  # fmt: skip
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_header_access():
    text = header.generate(SYSTEM)
    assert "tamale_engine_cycles_read(" in text and "tamale_engine_cycles_write(" not in text
    assert "tamale_engine_entry_word_write(" in text
    assert "tamale_engine_entry_word_read(" not in text
    assert "tamale_engine_trace_read(" in text and "tamale_engine_trace_write(" not in text


#: Order of children that the CMSIS-SVD schema 1.3 prescribes, for the elements that are written.
ORDER = {
    "device": ["vendor", "name", "version", "description", "addressUnitBits", "width", "size",
               "access", "resetValue", "resetMask", "peripherals"],
    "peripheral": ["name", "description", "baseAddress", "addressBlock", "interrupt", "registers"],
    "addressBlock": ["offset", "size", "usage"],
    "interrupt": ["name", "description", "value"],
    "register": ["dim", "dimIncrement", "name", "description", "addressOffset", "size", "access",
                 "resetValue", "fields"],
    "field": ["name", "description", "bitOffset", "bitWidth", "access", "modifiedWriteValues",
              "enumeratedValues"],
    "enumeratedValue": ["name", "value"],
}  # fmt: skip


def test_svd():
    root = xml.fromstring(svd.generate(SYSTEM).encode())
    for element in root.iter():
        if element.tag in ORDER:
            order = ORDER[element.tag]
            places = [order.index(child.tag) for child in element]
            assert places == sorted(set(places)), f"{element.tag}: {[c.tag for c in element]}"
    (peripheral,) = root.findall("peripherals/peripheral")
    assert int(peripheral.findtext("baseAddress"), 0) == 0xF001_0000
    assert peripheral.findtext("interrupt/value") == "2"
    registers = {r.findtext("name").split("[")[0]: r for r in peripheral.iter("register")}
    assert list(registers) == [item.name.upper() for item in (*BLOCK.registers, *BLOCK.windows)]
    for item in BLOCK.registers:
        register = registers[item.name.upper()]
        assert int(register.findtext("addressOffset"), 0) == item.offset
        assert int(register.findtext("resetValue"), 0) == item.init_word
        assert register.findtext("dim") == (None if item.count is None else str(item.count))
        fields = register.findall("fields/field")
        assert [
            (f.findtext("name"), int(f.findtext("bitOffset")), int(f.findtext("bitWidth")))
            for f in fields
        ] == [(f.name.upper(), f.offset, f.width) for f in item.fields]
    values = registers["CONTROL"].findall("fields/field/enumeratedValues/enumeratedValue")
    assert [(v.findtext("name"), v.findtext("value")) for v in values] == [
        ("list", "0"), ("single", "2"),
    ]  # fmt: skip


def test_markdown():
    text = markdown.generate(SYSTEM)
    for register in BLOCK.registers:
        assert f"### engine.{register.name}\n" in text
        for field in register.fields:
            assert f"| `{field.name}` |" in text and field.doc in text
    for window in BLOCK.windows:
        assert f"`{window.name}` (window)" in text
    widths = {}
    for table, line in enumerate(text.splitlines()):
        if line.startswith("|"):
            cells = len(re.findall(r"(?<!\\)\|", line))
            assert widths.setdefault(table - 1, cells) == cells, line
            widths[table] = cells


def test_linker():
    text = linker.generate(SYSTEM)
    assert "ram (rwx) : ORIGIN = 0x00000000, LENGTH = 0x4000" in text
    assert ".dram (NOLOAD)" in text
    with pytest.raises(KeyError, match="no region is called 'flash'; known: ram, dram, engine"):
        linker.generate(SYSTEM, program="flash")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Region("Ram", 0, 8, "A."), "must be a lower-case identifier, not 'Ram'"),
        (lambda: Region("ram", 1 << 32, 8, "A."), "leaves the 32-bit address space"),
        (lambda: Region("e", 0, 8, "A.", block=BLOCK), "does not fit region 'e'"),
        (
            lambda: System("s", [Region("a", 0, 16, "A."), Region("b", 8, 16, "B.")]),
            "region 'b' at 0x8 overlaps 'a', which ends at 0x10",
        ),
        (lambda: System("s", [], {"a": 1, "b": 1}), "interrupts need different lines"),
        (lambda: System("s", [], {}, {"clock": 1}), "must be written in capitals"),
    ],
)
def test_bad_systems(make, message):
    with pytest.raises(ValueError, match=message):
        make()
