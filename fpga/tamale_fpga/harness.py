"""Harness around a block under measurement: every port ends in a register of the harness.

Inputs come from one shift register, outputs are registered and folded into one pin, so that a block
of any width routes on a real package and its critical path is its own.
"""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Harness"]

#: Output bits that one level of the fold joins.
_FOLD = 4


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

    @property
    def lut4(self):
        """LUT4 slots of the harness itself: one for each bit of each level of the fold."""
        outputs = 0
        for _path, member, port in self._block.signature.flatten(self._block):
            outputs += len(Value.cast(port)) if member.flow != In else 0
        total, level = 0, max(1, outputs)
        while level > 1:
            level = -(-level // _FOLD)
            total += level
        return total

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
            folded = Signal(-(-len(level) // _FOLD), name=f"fold_{len(level)}")
            for i in range(len(folded)):
                m.d.sync += folded[i].eq(level[i * _FOLD : (i + 1) * _FOLD].xor())
            level = folded
        m.d.comb += self.fold_out.eq(level)
        return m
