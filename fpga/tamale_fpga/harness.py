"""Harness around a block under measurement: every port ends in a register of the harness.

Inputs come from one shift register, outputs are registered and folded into one pin, so that a block
of any width routes on a real package and its critical path is its own.
"""

import json
from pathlib import Path

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Harness", "own_lut4"]

#: Output bits that one level of the fold joins.
_FOLD = 4

#: How names of its registers begin.
_PREFIX = "harness_fold_"


class Harness(wiring.Component):
    """A block between a shift register and a folding tree.

    Parameters
    ----------
    block : wiring.Component

    Members
    -------
    shift_in : In(1)
    fold_out : Out(1)
    """

    def __init__(self, block):
        self._block = block
        super().__init__({"shift_in": In(1), "fold_out": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = block = self._block
        inputs, outputs = [], []
        for _path, member, port in block.signature.flatten(block):
            (inputs if member.flow == In else outputs).append(Value.cast(port))
        width = sum(map(len, inputs))
        shift = Signal(max(1, width))
        m.d.sync += shift.eq(Cat(self.shift_in, shift))
        at = 0
        for port in inputs:
            m.d.comb += port.eq(shift[at : at + len(port)])
            at += len(port)
        level = Signal(max(1, sum(map(len, outputs))), name="outputs")
        m.d.sync += level.eq(Cat(*outputs))
        while len(level) > 1:
            folded = Signal(-(-len(level) // _FOLD), name=f"{_PREFIX}{len(level)}")
            for i in range(len(folded)):
                m.d.sync += folded[i].eq(level[i * _FOLD : (i + 1) * _FOLD].xor())
            level = folded
        m.d.comb += self.fold_out.eq(level)
        return m


def own_lut4(path):
    """Return the LUT4 of a netlist that are the harness's own: those in front of its registers.

    Outputs of a block that are equal, or constant, need fewer of them, so they are counted.

    Parameters
    ----------
    path : Path
        The netlist, Yosys' JSON, of a `Harness`.
    """
    modules = json.loads(Path(path).read_text())["modules"].values()
    (module,) = (m for m in modules if int(m["attributes"].get("top", "0"), 2))
    names = {
        bit
        for name, net in module["netnames"].items()
        if name.startswith(_PREFIX)
        for bit in net["bits"]
    }
    cells = module["cells"].values()
    ends = {
        cell["connections"]["DI"][0]
        for cell in cells
        if cell["type"] == "TRELLIS_FF" and cell["connections"]["Q"][0] in names
    }
    return sum(cell["type"] == "LUT4" and cell["connections"]["Z"][0] in ends for cell in cells)
