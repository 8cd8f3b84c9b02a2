"""Synthesis to a Liberty library, one that is made up here: areas add up, memories stay macros."""

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from tamale_fpga import liberty
from tamale_fpga.tools import ToolError

_PIN = "pin({name}) {{ direction : {direction}; {more} }}"


def _gate(name, area, function, inputs):
    pins = [_PIN.format(name=pin, direction="input", more="") for pin in inputs]
    pins.append(_PIN.format(name="Y", direction="output", more=f'function : "{function}";'))
    return f"cell({name}) {{ area : {area}; {' '.join(pins)} }}"


LIBRARY = "\n".join(
    [
        "library(made_up) {",
        _gate("INV", 2, "(!A)", "A"),
        _gate("BUF", 4, "(A)", "A"),
        _gate("NAND2", 4, "(!(A&B))", "AB"),
        _gate("NAND2_STRONG", 8, "(!(A&B))", "AB"),
        _gate("NOR2", 5, "(!(A|B))", "AB"),
        'cell(DFF) { area : 16; ff(IQ, IQN) { next_state : "D"; clocked_on : "CLK"; } '
        "pin(D) { direction : input; } pin(CLK) { direction : input; clock : true; } "
        'pin(Q) { direction : output; function : "IQ"; } }',
        "}",
    ]
)


class Block(wiring.Component):
    """Eight registers behind eight gates, and memories of two sizes."""

    a: In(8)
    b: In(8)
    y: Out(8)
    z: Out(8)

    def elaborate(self, platform):
        m = Module()
        m.d.sync += self.y.eq(~(self.a & self.b))
        for depth in (8, 64):
            m.submodules[f"memory{depth}"] = memory = Memory(shape=8, depth=depth, init=[])
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [write.en.eq(1), write.data.eq(self.a), write.addr.eq(self.b)]
            m.d.comb += read.addr.eq(self.a)
            if depth == 64:
                m.d.comb += self.z.eq(read.data)
            else:
                m.d.sync += self.y.eq(~(self.a & self.b) ^ read.data)
        return m


def test_gates_and_macros(tmp_path):
    result = liberty.measure(Block(), tmp_path, LIBRARY)
    assert result["macros"] == [[64, 8, 1, 1]]
    # Of the small memory and its read port, and of y: at least 64 + 8 + 8 registers of 4 NAND2.
    assert result["register_gates"] >= 80 * 4
    assert result["register_gates"] % 4 == 0
    assert result["register_gates"] < result["gates"] < 20 * 80


def test_verilog(tmp_path):
    file = tmp_path / "inverters.v"
    file.write_text("module inverters(input [2:0] a, output [2:0] y); assign y = ~a; endmodule")
    result = liberty.measure(file, tmp_path / "build", LIBRARY)
    # Three inverters of half a NAND2 each.
    assert (result["gates"], result["register_gates"], result["macros"]) == (1.5, 0, [])
    with pytest.raises(ToolError, match="no cell whose name starts with NAND2"):
        liberty.measure(file, tmp_path / "build", LIBRARY.replace("NAND2", "ND2"))


def test_find(tmp_path, monkeypatch):
    file = tmp_path / "mine.lib"
    with pytest.raises(ToolError, match="no Liberty library at"):
        liberty.find(file)
    file.write_text(LIBRARY)
    assert liberty.find(file) == file
    monkeypatch.setattr(liberty, "_KNOWN", {"package": str(tmp_path / "none")})
    with pytest.raises(ToolError, match="apt install package"):
        liberty.find()
