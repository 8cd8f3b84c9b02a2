"""Builds for Gowin: clocks, pads, netlists. Tools run in the long test only."""

import json
import shutil

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io, wiring
from tamale import config as configuration
from tamale.gateware.sdram import GW2AR_18, SdramController
from tamale_fpga import area, boards, gowin
from tamale_fpga.area import Area
from tamale_fpga.gowin_clocks import GowinClocks, rpll
from tamale_fpga.measure import measure
from tamale_fpga.pads import SdramPads

_CLOCK = 54_000_000


@pytest.mark.parametrize(
    ("sync", "cpu"),
    [(54_000_000, 0), (40_500_000, 0), (48_000_000, 24_000_000), (108_000_000, 27_000_000)],
)
def test_rpll(sync, cpu):
    pll = rpll(27_000_000, sync, cpu)
    assert 27_000_000 * pll.feedback == sync * pll.reference
    assert 3_000_000 <= 27_000_000 / pll.reference
    assert 500e6 <= sync * pll.output <= 1250e6
    assert pll.slow == (sync // cpu if cpu else 0)


def test_rpll_names_what_it_can_make():
    with pytest.raises(ValueError, match="cannot make 50 MHz from 27 MHz; near are .*50.1429"):
        rpll(27_000_000, 50_000_000)
    with pytest.raises(ValueError, match="cannot make 20 from 54 MHz: use cpu_clock_hz = 0"):
        rpll(27_000_000, 54_000_000, 20_000_000)
    with pytest.raises(ValueError, match="cannot make 18 from 54 MHz: .* even part"):
        rpll(27_000_000, 54_000_000, 18_000_000)


class Memory(Elaboratable):
    """Clocks, controller, pads, and somebody who reads and writes all the time."""

    def elaborate(self, platform):
        m = Module()

        def port(*name):
            return platform.request(*name, dir="-")

        m.submodules.clocks = GowinClocks(port("clk27"), 27_000_000, _CLOCK, 0)
        m.submodules.memory = memory = SdramController(GW2AR_18, _CLOCK, read_delay=2)
        m.submodules.pads = pads = SdramPads(GW2AR_18, port("sdram"))
        wiring.connect(m, memory.pins, pads.pins)
        place, seen, axi = Signal(15), Signal(32), memory.axi
        for name in ("ar", "aw"):
            m.d.comb += [
                getattr(axi, f"{name}addr").eq(place << 7),
                getattr(axi, f"{name}valid").eq(1),
                getattr(axi, f"{name}len").eq(31),
                getattr(axi, f"{name}size").eq(2),
                getattr(axi, f"{name}burst").eq(1),
            ]
        m.d.comb += [axi.rready.eq(1), axi.bready.eq(1), axi.wvalid.eq(1), axi.wstrb.eq(15)]
        m.d.comb += [axi.wdata.eq(seen), axi.wlast.eq(place[0])]
        m.d.sync += place.eq(place + axi.arready)
        with m.If(axi.rvalid):
            m.d.sync += seen.eq(seen ^ axi.rdata)
        m.submodules.led = led = io.Buffer("o", port("led", 0))
        m.d.comb += led.o.eq(seen.xor())
        return m


@pytest.fixture(scope="module")
def plan():
    """What a build of that for the board consists of, and its platform."""
    platform = boards.find("tang-nano-20k").platform()
    return platform.build(Memory(), do_build=False, emit_src=False), platform


def test_pads_and_clocks(plan):
    files = plan[0].files
    constraints = files["top.cst"]
    # Where the wires of the chip in the package end, as Apicula's documentation has it.
    for port, site in (
        ("clk__io", "IOR11B"), ("a__io[10]", "IOR12B"), ("dq__io[0]", "IOL3A"),
        ("dq__io[15]", "IOR3A"), ("dq__io[31]", "IOR44B"), ("dqm__io[3]", "IOR15B"),
    ):  # fmt: skip
        assert f'IO_LOC "sdram_0__{port}" {site};' in constraints
    assert constraints.count("IO_LOC") == 1 + 1 + 6 + 4 + 11 + 2 + 32
    text = files["top.il"]
    for line in ('\\PSDA_SEL "1110"', '\\FCLKIN "27"', "\\FBDIV_SEL 1", "\\ODIV_SEL 16"):
        assert f"parameter {line}" in text
    assert text.count("cell \\ODDR ") == text.count("cell \\DQCE ") == 1


def cell(kind, **pins):
    ways = {pin: "output" if pin in ("F", "Q", "Q0", "Q1", "SUM", "O", "DO", "G") else "input"
            for pin in pins}  # fmt: skip
    wires = {pin: bits if isinstance(bits, list) else [bits] for pin, bits in pins.items()}
    return {"type": kind, "connections": wires, "port_directions": ways}


def design(*cells):
    named = {str(n): entry for n, entry in enumerate(cells)}
    return {"modules": {"top": {"attributes": {"top": "1"}, "cells": named}}}


def test_buffers_without_enable():
    netlist = design(
        cell("GND", G=2),
        cell("TBUF", I=3, OEN=2, O=4),
        cell("TBUF", I=3, OEN="0", O=5),
        cell("TBUF", I=3, OEN=6, O=7),
        cell("ODDR", D0="1", D1="0", TX=2, Q0=8, Q1=9),
        cell("TBUF", I=8, OEN=9, O=10),
    )
    assert gowin.drop_enables(netlist) == 3
    cells = netlist["modules"]["top"]["cells"]
    assert [cells[str(n)]["type"] for n in (1, 2, 3, 5)] == ["OBUF", "OBUF", "TBUF", "OBUF"]
    assert "OEN" not in cells["1"]["connections"] and cells["4"]["connections"]["Q1"] == []


def test_slots():
    """A register shares the place of what drives it alone."""
    netlist = design(
        cell("LUT2", I0=2, I1=3, F=4), cell("DFF", D=4, Q=5),  # together
        cell("LUT1", I0=2, F=6), cell("DFFE", D=6, Q=7), cell("LUT1", I0=6, F=8),  # 3 places
        cell("DFFR", D=5, Q=9),  # behind a register: a place of its own
        cell("ALU", I0=2, I1=3, SUM=10), cell("DFF", D=10, Q=11),
        cell("RAM16SDP4", DO=[12, 13, 14, 15]),
    )  # fmt: skip
    assert gowin.lut4_slots(netlist) == 1 + 3 + 1 + 1 + 8


def test_memory_of_two_ports():
    """One of two readers shares the port of the writer, where the address is the same."""
    text = """
module \\top
  memory width 32 size 1024 \\program
  cell $memrd_v2 $1
    parameter \\MEMID "\\\\program"
    connect \\ADDR \\a
  end
  cell $memrd_v2 $2
    parameter \\MEMID "\\\\program"
    connect \\ADDR \\b
  end
  cell $memwr_v2 $3
    parameter \\MEMID "\\\\program"
    connect \\ADDR \\a
  end
end
"""
    fabric = area.FABRICS["gowin"]
    apart = text.replace("\\b", "\\c").replace("\\a\n  end\nend", "\\d\n  end\nend")
    core = area.estimate("", "vexriscv-min", fabric).ebr
    assert area.estimate(text, "vexriscv-min", fabric).ebr == core + 2
    assert area.estimate(apart, "vexriscv-min", fabric).ebr == core + 4


def test_what_does_not_fit_says_why():
    board = boards.find("tang-nano-20k")
    config = configuration.load(board.preset)
    with pytest.raises(ValueError, match="has 20,736, .*no smaller array is supported. Its note"):
        area.require_fit(Area(27000, 15000, 44), board.device, config, "Its note")
    area.require_fit(Area(18600, 15000, 46), board.device, config)


def test_block_is_measured(tmp_path):
    """`tamale synth --family gowin`; the second time from what was kept."""
    config = configuration.load("tang-nano-20k")
    lines = []
    for _ in range(2):
        result = measure(
            "encoder", config, tmp_path, area=True, family="gowin", progress=lines.append
        )
        assert result["ff"] == result["ebr"] == 0 and 10 < result["lut4"] < 60
        assert not set(result["cells"]) & {"TRELLIS_FF", "CCU2C", "MUX2_LUT5"}
    assert len(lines) == 1


@pytest.mark.long
def test_memory_controller_is_routed(plan, tmp_path):
    """Yosys, nextpnr and Apicula take clocks, pads and controller, and meet the timing."""
    files, platform = plan[0].files, plan[1]
    for name in ("top.il", "top.cst"):
        (tmp_path / name).write_text(files[name])
    cells = gowin.synthesise_files("top", tmp_path)
    assert cells["rPLL"] == 1 and "TBUF" not in cells
    options = (*gowin.route_options("seed1"), "--freq", f"{_CLOCK / 1e6:g}")
    report = gowin.place_and_route("top", tmp_path, platform, seed=1, stem="seed1", options=options)
    (clock,) = report["fmax"].values()
    print(clock)
    assert clock["achieved"] > _CLOCK / 1e6
    routed = json.loads((tmp_path / "seed1.routed.json").read_text())["modules"]["top"]["cells"]
    places = {name: entry["attributes"]["NEXTPNR_BEL"] for name, entry in routed.items()}
    # Registers are in the pads: those of the commands, and both of each data bit.
    used = report["utilization"]
    assert used["IOLOGICO"]["used"] >= 52 and used["IOLOGICI"]["used"] == 32
    assert places["pads.dq.buf.buf0"] == "X0Y2/IOBA"  # IOL3A
    # The clock of the logic runs when the PLL is locked.
    lock = routed["clocks.pll"]["connections"]["LOCK"]
    assert any(
        entry["type"] == "DQCE" and entry["connections"].get("CE") == lock
        for entry in routed.values()
    )
    gowin.pack("seed1", tmp_path, platform, "top.fs")
    assert "\n1010010111000011\n" in (tmp_path / "top.fs").read_text()[:4096]
    shutil.rmtree(tmp_path)
