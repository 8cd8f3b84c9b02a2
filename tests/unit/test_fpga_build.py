"""Builds for boards: clocks, fit, stages that are kept, reports. No tool runs here."""

import json
from types import SimpleNamespace

import pytest
from amaranth.lib import io
from tamale import config as configuration
from tamale.gateware.sdram import IS42S16160G_7
from tamale_fpga import area, boards, build, clocks, core_top, history, report, tools
from tamale_fpga.area import Area
from tamale_fpga.pads import SdramPads


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        (25_000_000, (80_000_000, 50_000_000)),
        (25_000_000, (80_000_000,)),
        (12_000_000, (84_000_000,)),
        (25_000_000, (100_000_000, 50_000_000)),
    ],
)
def test_pll(source, wanted):
    dividers = clocks.pll(source, *wanted)
    first = source * dividers.feedback // dividers.reference
    oscillator = first * dividers.outputs[0]
    assert 400e6 <= oscillator <= 800e6
    assert source / dividers.reference >= 3.125e6
    assert tuple(oscillator / divider for divider in dividers.outputs) == wanted


def test_pll_names_what_it_can_make():
    with pytest.raises(ValueError, match=r"80 and 49 MHz from 25 MHz; with .* can be .*50"):
        clocks.pll(25_000_000, 80_000_000, 49_000_000)
    with pytest.raises(ValueError, match="from 25 MHz; use a multiple"):
        clocks.pll(25_000_000, 80_000_001)


def test_area_of_a_design():
    rtlil = """
module \\top
  memory width 32 size 1024 \\ram
  memory width 9 size 16 \\small
  memory width 32 size 1024 \\twice
  memory width 8 size 256 \\constant
  cell $dff $1
    parameter \\WIDTH 1000
  end
  cell $memrd_v2 $3
    parameter \\MEMID "\\\\twice"
  end
  cell $memrd_v2 $4
    parameter \\MEMID "\\\\twice"
  end
  cell $memwr_v2 $5
    parameter \\MEMID "\\\\small"
  end
  cell $dff $2
    parameter \\CLK_POLARITY 1
    parameter \\WIDTH 234
  end
end
"""
    result = area.estimate(rtlil, "vexriscv-min", area.FABRICS["ecp5"])
    assert result.ebr == 2 + 2 * 2 + 1 + 2
    bare = area.estimate(rtlil.replace("wr_v2", "rd_v2"), "vexriscv-min", area.FABRICS["ecp5"])
    assert result.lut4 == bare.lut4 + 6 * 3
    assert result.ff == round(0.99 * 1234) + 928
    # No LUT RAM: what is written takes block RAM, which is smaller there.
    ice40 = area.estimate(rtlil, "vexriscv-min", area.FABRICS["ice40"])
    assert ice40.ebr == 8 + 2 * 8 + 1 + 1 + 2 and ice40.lut4 == bare.lut4


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (Area(20000, 20000, 209), "about 209 block RAMs of 18 kbit, .* has 208; lower scratchpad"),
        (Area(80000, 20000, 100), "about 80,000 LUT4, .* has 83,640, .*90%.*; lower vectors = 4"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(needs, message):
    with pytest.raises(ValueError, match=message):
        area.require_fit(needs, boards.find("ulx3s-85f").device, configuration.load("ulx3s"))


def test_presets_of_boards():
    for board in boards.BOARDS.values():
        config = configuration.load(board.preset)
        platform = board.platform()
        assert platform.device in board.device.name
        assert config.board == board.name
        if board.family == "ice40":
            core_top.ice40_pll(int(platform.default_clk_frequency), config.clock_hz)
        if board.family == "ecp5":
            clocks.pll(int(platform.default_clk_frequency), config.clock_hz, config.cpu_clock_hz)


def test_sdram_without_masks_is_refused():
    """Boards may tie clock enable and chip select; bytes are written by masks."""
    widths = {"ras": 1, "cas": 1, "we": 1, "ba": 2, "a": 13}
    ports = SimpleNamespace(**{n: io.SimulationPort("o", bits) for n, bits in widths.items()})
    with pytest.raises(ValueError, match="SDRAM has no 'dqm' pins, .*single bytes"):
        SdramPads(IS42S16160G_7, ports).elaborate(None)


def test_a_tool_that_was_killed_says_so(tmp_path):
    with pytest.raises(tools.ToolError, match="^bash was ended by signal 15:"):
        tools.run("bash", ["-c", "kill -TERM $$"], tmp_path)
    with pytest.raises(tools.ToolError, match="^bash failed:\nno$"):
        tools.run("bash", ["-c", "echo no; exit 3"], tmp_path)


def test_stages_are_kept(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"x": len(made)}

    path = tmp_path / "stage.json"
    first = build._stage(path, make)
    assert build._stage(path, make) == first and made == [1] and first["seconds"] >= 0

    def fail():
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        build._stage(tmp_path / "other.json", fail)
    assert not (tmp_path / "other.json").exists()


def test_firmware_routes_nothing_again(tmp_path, monkeypatch):
    """Of three builds two have one firmware: one netlist, one routing, two bitstreams."""
    calls = []

    def place_and_route(*_, seed, **__):
        calls.append("route")
        return {"fmax": {"clk": {"achieved": 90}, "cpu_clk": {"achieved": 60}}, "utilization": {}}

    def pack(stem, directory, platform, name, firmware):
        calls.append("pack")
        (directory / name).write_bytes(firmware.rstrip(b"\0"))

    for name, stub in (
        ("synthesise_files", lambda *_: calls.append("synthesise") or {}),
        ("place_and_route", place_and_route),
        ("pack", pack),
    ):
        monkeypatch.setattr(build.ecp5, name, stub)
    images = iter([b"one", b"two", b"one"])
    monkeypatch.setattr(
        build, "build_firmware", lambda soc, folder: SimpleNamespace(image=next(images))
    )
    config = configuration.load("icepi-zero")
    made = [build.build(boards.find("icepi-zero"), config, tmp_path, seeds=1) for _ in range(3)]
    assert calls == ["synthesise", "route", "pack", "pack"]
    assert [result.bitstream.read_bytes() for result in made] == [b"one", b"two", b"one"]


def test_seed_of_the_bitstream():
    config = configuration.load("ulx3s")
    seeds = [
        {"seed": n, "fmax_mhz": {"engine": engine, "cpu": cpu}, "resources": {}}
        for n, engine, cpu in ((1, 90.0, 40.0), (2, 81.0, 51.0), (3, 79.0, 80.0))
    ]
    result = build.Build(None, boards.find("ulx3s-85f"), config, {}, seeds, None)
    # The first is fast where it is of no use.
    assert result.best["seed"] == 2 and result.closed
    assert result.worst == {"engine": 79.0, "cpu": 40.0}


def test_memory_that_the_board_lacks():
    config = configuration.load("tang-nano-20k")
    with pytest.raises(ValueError, match="icebreaker has no memory but its flash, .*use memory = "):
        build.synthesise(boards.find("icebreaker"), config, None)


def test_unknown_board():
    with pytest.raises(ValueError, match="unknown board 'x'; known: ulx3s-85f, ulx3s-45f, "):
        boards.find("x")


def routed(path):
    """A routed design of three cells."""

    def cell(kind, output, bel):
        return {
            "type": kind, "port_directions": {"F": "output", "A": "input"},
            "connections": {"F": [output], "A": [1]}, "attributes": {"NEXTPNR_BEL": bel},
        }  # fmt: skip

    design = {
        "attributes": {"top": "1"},
        "cells": {
            "$abc$1": cell("TRELLIS_COMB", 7, "X3/Y4/SLICEA.COMB0"),
            "soc.cpu.core.x": cell("TRELLIS_FF", 8, "X5/Y6/SLICEB.FF0"),
            "soc.accelerator.scratchpad.a0.0": cell("DP16KD", 9, "X9/Y9/EBR"),
        },
        "netnames": {
            "soc.accelerator.vector.lane0.sum": {"bits": [7]}, "heart": {"bits": [7, 8]},
        },
    }  # fmt: skip
    path.write_text(json.dumps({"modules": {"top": design}}))
    return path


def test_cells_by_block(tmp_path):
    blocks = report.by_block(routed(tmp_path / "routed.json"))
    assert blocks["vector unit"] == {"lut4": 1, "ff": 0, "ebr": 0, "dsp": 0}
    assert blocks["cpu"]["ff"] == 1 and blocks["scratchpad"]["ebr"] == 1


def test_floor_plan(tmp_path):
    report.floor_plan(routed(tmp_path / "routed.json"), "a board", tmp_path / "floor.svg")
    text = (tmp_path / "floor.svg").read_text()
    assert "<svg" in text


def test_critical_paths(tmp_path):
    def step(kind, delay, net=None):
        return {
            "type": kind,
            "delay": delay,
            "from": {"cell": "a"},
            "to": {"cell": "b"},
            "net": net,
        }

    paths = [
        {"from": "posedge clk", "to": "posedge clk",
         "path": [step("clk-to-q", 0.5), step("routing", 2.0, "soc.x"), step("logic", 0.2),
                  step("routing", 1.0, "soc.y"), step("setup", 0.1)]},
        {"from": "<async>", "to": "posedge clk", "path": []},
    ]  # fmt: skip
    (tmp_path / "report.json").write_text(json.dumps({"critical_paths": paths}))
    (path,) = report.critical_paths(tmp_path / "report.json")
    assert path["ns"] == 3.8 and path["routing_ns"] == 3.0 and path["levels"] == 1
    assert path["clock"] == "clk" and path["nets"] == ["soc.x", "soc.y"]


def test_history(tmp_path):
    """A build is compared with the record; few seeds are not compared with many."""

    def routed(mhz, cells, seeds):
        found = [
            {"fmax_mhz": {"engine": mhz + n}, "resources": {"TRELLIS_COMB": [cells, 83640]}}
            for n in range(seeds)
        ]
        board, config = SimpleNamespace(name="board"), SimpleNamespace(name="preset")
        return build.Build(tmp_path, board, config, {}, found, tmp_path)

    path = tmp_path / "history.json"
    assert history.compare(routed(80, 1000, 3), path) == []
    history.record(routed(80, 1000, 3), path)
    assert json.loads(path.read_text()) == {
        "board.preset": {"seeds": 3, "engine_mhz": 80, "TRELLIS_COMB": 1000}
    }

    def worse(*made):
        return {change.name: change.worse for change in history.compare(routed(*made), path)}

    assert worse(81, 1000, 3) == {"engine_mhz": False, "TRELLIS_COMB": False}
    assert worse(77, 1019, 3) == {"engine_mhz": False, "TRELLIS_COMB": False}
    assert worse(75, 1021, 4) == {"engine_mhz": True, "TRELLIS_COMB": True}
    assert worse(60, 1000, 1) == {"TRELLIS_COMB": False}
