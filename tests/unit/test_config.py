"""Configurations: presets, files, what is refused and what is said about it."""

import dataclasses

import pytest
from tamale import config as configuration
from tamale.config import Config

FIELDS = {field.name: field.type for field in dataclasses.fields(Config)}


@pytest.mark.parametrize("name", configuration.preset_names())
def test_presets(tmp_path, name):
    config = configuration.load(name)
    assert config.name == name
    path = tmp_path / "copy.toml"
    path.write_text(config.to_toml())
    assert configuration.load(path) == config


def test_round_trip_of_every_field(tmp_path):
    config = Config(
        name="other", bus_width=128, code="t4", sparse_code="s34", tile_rows=8, vectors=3,
        max_planes=4, max_k=4000, max_context=999, key_planes=2, value_planes=4, head_planes=3,
        group_size=128, vu_width=8,
        scratchpad_elements=65536, program_commands=300, program_width=32, fifo_beats=512,
        max_outstanding=7,
        candidates=5, cpu="vexriscv-lite", cpu_ram_bytes=32768, clock_hz=50_000_000,
        cpu_clock_hz=40_000_000, uart_baud=115200, storage=True, flash_image_offset=0x200000,
        memory="ideal", memory_width=32, sdram_part="tiny", ddr3_part="MT41K128M16",
        memory_bytes=1 << 24, board="other board",
    )  # fmt: skip
    default = Config()
    # The other engine leaves nothing to choose for most fields; its preset is among those below.
    others = [name for name in FIELDS if name != "engine"]
    assert all(getattr(config, name) != getattr(default, name) for name in others)
    path = tmp_path / "other.toml"
    path.write_text(config.to_toml())
    assert configuration.load(path) == config


def test_name_of_a_file(tmp_path):
    path = tmp_path / "bench.toml"
    path.write_text("vectors = 2\n")
    assert configuration.load(str(path)) == Config(name="bench", vectors=2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lanes = 80", "unknown key 'lanes'; known: name, bus_width"),
        ("vectors = '4'", "vectors must be int, not '4'"),
        ("vectors = true", "vectors must be int, not True"),
        ("vectors = 4.0", "vectors must be int, not 4.0"),
        ("memory = 1", "memory must be str, not 1"),
        ("vectors = ", "is not valid TOML"),
        ("vectors = 17", "vectors = 17: use 1 to 16 vectors"),
        ("bus_width = 48", "bus_width = 48: use a power of two from 32 to 512"),
        ("tile_rows = 8", "tile_rows = 8: use a power of two up to the 4 bytes of a beat"),
        ('sparse_code = "s24"', "sparse_code = 's24': known sparse codes are s34, or none"),
        ('sparse_code = "s34"', "multiple of 4 weights, they have 5; use fewer tile_rows"),
        ('code = "t3"', "code = 't3': known codes are t5, t4"),
        ("max_planes = 2\nkey_planes = 3", "key_planes = 3: use 1 to max_planes = 2"),
        ("group_size = 100", "group_size = 100: use 0, 64, 128 or 256"),
        ("fifo_beats = 1000", "fifo_beats = 1000: use a power of two from 64"),
        ("scratchpad_elements = 1025", "multiple of vu_width"),
        ("uart_baud = 40000000", "use at most an eighth of the CPU's clock"),
        ('name = "../up"', "name = '../up': use letters, digits"),
        ('cpu = "z80"', "cpu = 'z80': known cores are vexriscv,"),
        ('sdram_part = "other"', "sdram_part = 'other': known parts are IS42S16160G-7"),
        ("memory_bytes = 3000000", "memory_bytes = 3000000: use a power of two"),
        ("memory_bytes = 67108864", "memory_bytes = 67108864: IS42S16160G-7 has 33554432"),
        ("flash_image_offset = 4096", "= 4096: use a multiple of 65536 (what the flash erases"),
        ("flash_image_offset = 16777216", "below 16 MiB"),
        ('memory = "hbm"', "memory = 'hbm': use sdram, ddr3 or ideal"),
        ('memory = "ddr3"', "bus_width = 32: MT41K256M16 needs 128; use that, or another memory"),
        (
            'memory = "ddr3"\nbus_width = 128\nmemory_width = 32',
            "memory_width = 32: MT41K256M16 needs 64",
        ),
        (
            'memory = "ddr3"\nbus_width = 128\nmemory_width = 64\nmemory_bytes = 1073741824',
            "memory_bytes = 1073741824: MT41K256M16 has 536870912",
        ),
        ('ddr3_part = "other"', "ddr3_part = 'other': known parts are MT41K256M16, MT41K128M16"),
        ('engine = "cpu"', "engine = 'cpu': known engines are accelerator, core"),
        ('engine = "core"\nmemory = "ideal"', "'ideal': with engine = 'core' use flash or sdram"),
        ('engine = "core"', "tile_rows = 4: with engine = 'core' use 1"),
        ('engine = "core"\nmemory = "flash"', "tile_rows = 4: with engine = 'core' use 1"),
        (
            'engine = "core"\nmemory = "sdram"\nbus_width = 32\ntile_rows = 1\nvectors = 1\n'
            "vu_width = 1",
            "cpu_ram_bytes = 65536: scratchpad and program take 139,264 bytes of it, besides",
        ),
        ('memory = "flash"', "memory = 'flash': use sdram, ddr3 or ideal; flash goes with engine"),
        ("memory_width = 24", "memory_width = 24: use a power of two from 16 to bus_width = 32"),
        (
            "memory_width = 32",
            "memory_width = 32: IS42S16160G-7 moves 16 bits; use 16, or",
        ),
    ],
)
def test_refused(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        configuration.load(path)
    assert message in str(error.value)


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="unknown configuration 'ulx4s'; use a .toml file or one"):
        configuration.load("ulx4s")
    with pytest.raises(ValueError, match="nowhere.toml' does not exist"):
        configuration.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
@pytest.mark.parametrize("code", ["t5", "t4"])
@pytest.mark.parametrize("bus_width", [64, 256])
def test_tile(bus_width, code, rows):
    config = Config(bus_width=bus_width, code=code, tile_rows=rows)
    trits = {"t5": 5, "t4": 4}[code]
    assert config.lanes == bus_width // 8 * trits == config.tile_rows * config.tile_k
    assert config.scale_beats * config.beat_bytes >= 2 * rows


@pytest.mark.parametrize(
    ("changes", "most"),
    [({}, 255), ({"tile_rows": 1}, 63), ({"bus_width": 512, "tile_rows": 2, "max_k": 2560}, 127)],
)
def test_groups_of_short_rows_are_counted(changes, most):
    config = Config(**changes)
    assert config.max_groups == most
    # Where a K step is longer than a group, there are more groups than K steps in a row.
    assert config.max_groups >= -(-config.max_k // 32)


def test_accumulator_holds_the_extremes():
    config = Config(max_planes=2, key_planes=2, value_planes=2, head_planes=2, max_k=300)
    assert 128 * 4 * 300 < 1 << config.accumulator_width - 1
