"""The firmware's memory test finds every cut address line; it runs on this machine."""

import subprocess
import sys
from pathlib import Path

import pytest
from tamale.soc.system import firmware_folder
from tamale_sim.selftest import MemoryResult

_SIZE = 1 << 20


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memtest")
    (folder / "tamale_soc.h").write_text(
        f"#define TAMALE_DRAM_UNCACHED_BASE 0x80000000ul\n#define TAMALE_DRAM_SIZE {_SIZE}u\n"
    )
    sources = [Path(__file__).with_name("memtest.c"), firmware_folder() / "memtest.c"]
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-fno-sanitize=undefined", "-Wall"]
    command += [f"-I{folder}", f"-I{firmware_folder()}", *map(str, sources)]
    subprocess.run([*command, "-o", str(folder / "memtest")], check=True)

    def run(lines, size, seed=1):
        result = subprocess.run(
            [folder / "memtest", hex(lines), str(size), str(seed)], capture_output=True, text=True
        )
        records = [line.split(" ") for line in result.stdout.splitlines()]
        return [(kind, dict(f.split("=") for f in fields)) for kind, *fields in records]

    return run


@pytest.mark.parametrize("seed", [0, 1, 0xFFFFFFFF])
def test_good_memory(program, seed):
    *testing, last = program(-1 & 0xFFFFFFFF, _SIZE, seed)
    assert last == ("tested", {"walk": "4", "bytes": str(_SIZE), "errors": "0"})
    assert [int(fields["walk"]) for _, fields in testing] == [i // 8 for i in range(32)]


@pytest.mark.parametrize("line", range(12, 20))
def test_cut_address_line(program, line):
    """Found by the lines' own test: the walks see 4 bytes only."""
    kind, fields = program(0xFFFFFFFF & ~(1 << line), 4)[-1]
    assert kind == "tested" and int(fields["errors"]) > 0
    # And by the walks: half of all words were overwritten, twice.
    fields = program(0xFFFFFFFF & ~(1 << line), _SIZE)[-1][1]
    assert int(fields["errors"]) >= _SIZE // 4
    result = MemoryResult(4, int(fields["errors"]), {n: int(fields[n]) for n in fields if n in (
        "address", "has", "wants")})  # fmt: skip
    assert "words are wrong, the first at 0x" in result.sentence()


def test_bad_size(program):
    for size in (0, 6, _SIZE + 4):
        assert program(0xFFFFFFFF, size)[-1][0] == "error"


def test_sentence():
    result = MemoryResult(64, 3, {"address": 0x40, "has": 0x11, "wants": 0x80000010})
    assert result.sentence() == (
        "3 words are wrong, the first at 0x00000040: 0x00000011 where 0x80000010 was written "
        "(data bits 0, 31)"
    )
    assert MemoryResult(1 << 20, 0, None).sentence() == "1,048,576 bytes, no error"
