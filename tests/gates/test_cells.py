"""Models of cells against what the manuals say, without Yosys in between."""

import json
import shutil
import subprocess

import pytest
from tamale_fpga import netlist

pytestmark = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus Verilog is not installed"
)

#: Rows of a DP16KD: 16 words in each parameter, 20 bits apart.
_CONTENTS = sum((0x20000 | n) << 20 * n for n in range(16))

_RAM = """\
module bench;
    reg clk = 0, cea = 1, wea = 0, ceb = 1, web = 0, rstb = 0;
    reg [13:0] ada = 0, adb = 0;
    reg [35:0] di = 0;
    wire [17:0] doa, dob;
    DP16KD #(.DATA_WIDTH_A({a}), .DATA_WIDTH_B({b}), .INITVAL_00(320'h{contents:x}) {more}) ram (
        .CLKA(clk), .CLKB(clk), .CEA(cea), .CEB(ceb), .WEA(wea), .WEB(web), .OCEA(1'b1),
        .OCEB(1'b1), .RSTA(1'b0), .RSTB(rstb), .CSA0(1'b0), .CSA1(1'b0), .CSA2(1'b0),
        .CSB0(1'b0), .CSB1(1'b0), .CSB2(1'b0), {pins}
    );
    task tick; begin #5 clk = 1; #5 clk = 0; end endtask
    initial begin
        {steps}
    end
endmodule
"""


def ram(folder, a, b, steps, **parameters):
    """Run steps on a block RAM; return what they display, as numbers."""
    pins = [f".{bus}{n}({net}[{n}])" for bus, net, width in (
        ("ADA", "ada", 14), ("ADB", "adb", 14), ("DOA", "doa", 18), ("DOB", "dob", 18),
    ) for n in range(width)]  # fmt: skip
    pins += [f".DIA{n}(di[{n}]), .DIB{n}(di[{n + 18}])" for n in range(18)]
    more = "".join(f', .{name}("{value}")' for name, value in parameters.items())
    text = _RAM.format(a=a, b=b, contents=_CONTENTS, more=more, pins=", ".join(pins), steps=steps)
    (folder / "bench.v").write_text(text)
    return [int(word, 16) for word in run(folder, netlist.CELLS / "DP16KD.v").split()]


def run(folder, *sources):
    """Compile ``bench.v`` and run it; return what it prints."""
    command = ["iverilog", "-g2012", "-s", "bench", "-o", "bench.vvp", "bench.v", *sources]
    subprocess.run(command, cwd=folder, check=True)
    result = subprocess.run(["vvp", "-n", "bench.vvp"], cwd=folder, capture_output=True, text=True)
    return result.stdout


def test_initial_contents_and_widths(tmp_path):
    read = "".join(f'adb = {n} << {{}}; tick; $display("%h", dob);' for n in range(16))
    words = [0x20000 | n for n in range(16)]
    assert ram(tmp_path, 18, 18, read.format(*[4] * 16)) == words
    # Nine bits: the halves of a word; unused outputs are ones.
    halves = [word >> 9 * n & 0x1FF for word in words for n in range(2)][:16]
    assert [value & 0x1FF for value in ram(tmp_path, 18, 9, read.format(*[3] * 16))] == halves
    # One bit: the lower eight of every nine.
    bits = [word >> 9 * n & 0xFF for word in words for n in range(2)]
    bits = [byte >> n & 1 for byte in bits for n in range(8)][:16]
    assert [value & 1 for value in ram(tmp_path, 18, 1, read.format(*[0] * 16))] == bits
    # 36 bits: the lower half on the outputs of port A.
    read = "".join(f'adb = {n} << 5; tick; $display("%h %h", doa, dob);' for n in range(8))
    assert ram(tmp_path, 36, 36, read) == words


def test_byte_enables(tmp_path):
    steps = """wea = 1; di = 36'hFFFFFFFFF; ada = 5'b00101; tick;
        wea = 0; adb = 0; tick; $display("%h %h", doa, dob);"""
    low, high = ram(tmp_path, 36, 36, steps)
    assert (low, high) == (0x20000 & ~0x1FF | 0x1FF, 0x20001 & ~0x1FF | 0x1FF)


def test_write_modes(tmp_path):
    steps = """ada = 16; tick; wea = 1; ada = 2'b11; di = 18'h12345; tick; $display("%h", doa);"""
    for mode, wanted in (("NORMAL", 0x20001), ("WRITETHROUGH", 0x12345),
                         ("READBEFOREWRITE", 0x20000)):  # fmt: skip
        assert ram(tmp_path, 18, 18, steps, WRITEMODE_A=mode) == [wanted], mode


def test_reset_and_enable(tmp_path):
    steps = """adb = 16; tick; ceb = 0; adb = 32; tick; $display("%h", dob);
        rstb = 1; tick; $display("%h", dob);"""
    assert ram(tmp_path, 18, 18, steps) == [0x20001, 0]


def test_output_registers(tmp_path):
    steps = """adb = 16; tick; adb = 32; tick; $display("%h", dob); tick; $display("%h", dob);
        ceb = 0; adb = 48; tick; tick; $display("%h", dob);
        ceb = 1; tick; rstb = 1; tick; $display("%h", dob); rstb = 0; tick; $display("%h", dob);"""
    found = ram(tmp_path, 18, 18, steps, REGMODE_B="OUTREG")
    assert found == [0x20001, 0x20002, 0x20002, 0, 0]
    # Port A is as it was.
    steps = 'ada = 16; tick; $display("%h", doa);'
    assert ram(tmp_path, 18, 18, steps, REGMODE_B="OUTREG") == [0x20001]


def test_undefined_reads_are_noise(tmp_path):
    step = 'di = {}; adb = 0; tick; $display("%h", dob);'
    steps = "wea = 1; ada = 3;" + "".join(step.format(n % 2 * 0x3FFFF) for n in range(20))
    values = ram(tmp_path, 18, 18, steps)
    assert len(set(values)) > 15
    # Bits that are not written are read.
    steps = steps.replace("ada = 3", "ada = 1")
    values = ram(tmp_path, 18, 18, steps)
    assert {value >> 9 for value in values} == {0x20000 >> 9}


def test_pll_outputs(tmp_path):
    def bits(number):
        return f"{number:032b}"

    cell = {
        "type": "EHXPLLL",
        "parameters": {
            "CLKI_DIV": bits(5), "CLKFB_DIV": bits(16), "FEEDBK_PATH": "CLKOP",
            "CLKOP_ENABLE": "ENABLED", "CLKOP_DIV": bits(10), "CLKOP_CPHASE": bits(9),
            "CLKOP_FPHASE": bits(0),
            "CLKOS_ENABLE": "ENABLED", "CLKOS_DIV": bits(10), "CLKOS_CPHASE": bits(16),
            "CLKOS_FPHASE": bits(4),
            "CLKOS2_ENABLE": "ENABLED", "CLKOS2_DIV": bits(16), "CLKOS2_CPHASE": bits(15),
            "CLKOS2_FPHASE": bits(0),
        },
    }  # fmt: skip
    path = tmp_path / "top.json"
    top = {"attributes": {"top": bits(1)}, "cells": {"pll": cell}}
    path.write_text(json.dumps({"modules": {"top": top, "BOX": {"attributes": {}}}}))
    made = netlist.Netlist(None, path, {}, ())
    assert netlist.pll_outputs(made, 25e6) == {
        "CLKOP": (80e6, 0), "CLKOS": (80e6, 0.75), "CLKOS2": (50e6, 0),
    }  # fmt: skip
