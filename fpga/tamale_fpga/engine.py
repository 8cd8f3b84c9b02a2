"""The ternary engine as one block: array, drain and activation memory."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from tamale.gateware.array import ActivationMemory, TernaryArray
from tamale.gateware.interfaces import ActivationWrite

__all__ = ["Engine"]


class Engine(wiring.Component):
    """Everything that turns trits of the stream and activation codes into results.

    The array's ports without the one between array and activation memory, and ``write``, by which
    codes come. This is what area and clock of the engine are measured on.

    Parameters
    ----------
    config : Config
        The configuration.
    """

    def __init__(self, config):
        self.array, self.memory = TernaryArray(config), ActivationMemory(config)
        ports = dict(self.array.signature.members)
        del ports["activation"]
        super().__init__({**ports, "write": In(ActivationWrite(config))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.array, m.submodules.memory = self.array, self.memory
        wiring.connect(m, self.array.activation, self.memory.read)
        wiring.connect(m, wiring.flipped(self.write), self.memory.write)
        for name in self.signature.members:
            if name == "write":
                continue
            inner, outer = getattr(self.array, name), getattr(self, name)
            if self.signature.members[name].is_port:
                m.d.comb += outer.eq(inner)
            else:
                wiring.connect(m, inner, wiring.flipped(outer))
        return m
