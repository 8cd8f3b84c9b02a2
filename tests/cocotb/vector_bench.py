"""Vector unit, scratchpad and scalar unit, wired as in the accelerator, without the executor."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware.interfaces import ActivationWrite, ScratchRead, ScratchWrite, UnitSignature
from tamale.gateware.scalar import ScalarRead, ScalarUnit, ScalarWrite
from tamale.gateware.scratchpad import Scratchpad
from tamale.gateware.vector import VectorUnit


class VectorBench(wiring.Component):
    """What the test drives in the executor's place; ``peek`` and ``poke`` reach the scratchpad."""

    def __init__(self, config):
        self._config = config
        self.scalar_unit = ScalarUnit(config)
        super().__init__(
            {
                "vector": Out(UnitSignature()),
                "scalar": Out(UnitSignature()),
                "scalar_read": In(ScalarRead()),
                "scalar_write": In(ScalarWrite()),
                "normalise": self.scalar_unit.signature.members["normalise"],
                "peek": In(ScratchRead(config)),
                "poke": In(ScratchWrite(config)),
                "activation": Out(ActivationWrite(config)),
                "saturated": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.pad = pad = Scratchpad(self._config)
        m.submodules.vector = vector = VectorUnit(self._config)
        m.submodules.scalar = scalar = self.scalar_unit
        wiring.connect(m, wiring.flipped(self.vector), vector.unit)
        wiring.connect(m, wiring.flipped(self.scalar), scalar.unit)
        wiring.connect(m, wiring.flipped(self.scalar_read), scalar.read)
        wiring.connect(m, wiring.flipped(self.scalar_write), scalar.write)
        wiring.connect(m, wiring.flipped(self.normalise), scalar.normalise)
        wiring.connect(m, wiring.flipped(self.activation), vector.activation)
        wiring.connect(m, vector.b, pad.b)
        m.d.comb += [
            # Ored, as the ports of all units are: an idle unit has to be silent.
            pad.a.en.eq(vector.a.en | self.peek.en),
            pad.a.addr.eq(vector.a.addr | self.peek.addr),
            vector.a.data.eq(pad.a.data),
            self.peek.data.eq(pad.a.data),
            pad.write.en.eq(vector.write.en | self.poke.en),
            pad.write.addr.eq(vector.write.addr | self.poke.addr),
            pad.write.data.as_value().eq(vector.write.data.as_value() | self.poke.data.as_value()),
            self.saturated.eq(vector.saturated),
            self.busy.eq(vector.busy),
        ]
        return m
