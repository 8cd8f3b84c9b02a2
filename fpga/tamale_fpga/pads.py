"""Pads of an SDRAM: registers in the pads, and a clock half a period later than its commands."""

from amaranth.hdl import Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In
from tamale.gateware.sdram import SdramPins

__all__ = ["SdramPads"]


class SdramPads(wiring.Component):
    """Between controller and chip.

    The chip's clock rises in the middle of a cycle of ``sync``, so that commands have half a period
    of set-up and of hold time. A word read comes two cycles later than from a chip on the same
    clock: one for the registers on the way out, one for those on the way in
    (`tamale.soc.system.PAD_DELAY`).

    Parameters
    ----------
    part : SdramPart
    ports
        As ``platform.request("sdram", dir=...)`` gives them, directions ``"-"``.

    Members
    -------
    pins : In(SdramPins(part))
    """

    def __init__(self, part, ports):
        self._ports = ports
        super().__init__({"pins": In(SdramPins(part))})

    def elaborate(self, platform):
        m = Module()
        ports, pins = self._ports, self.pins
        outputs = {
            "clk_en": pins.cke,
            "cs": ~pins.cs_n,
            "ras": ~pins.ras_n,
            "cas": ~pins.cas_n,
            "we": ~pins.we_n,
            "ba": pins.ba,
            "a": pins.a,
            "dqm": pins.dqm,
        }
        for name, value in outputs.items():
            if not hasattr(ports, name):  # some boards tie clock enable or chip select
                continue
            m.submodules[name] = pad = io.FFBuffer("o", getattr(ports, name))
            m.d.comb += pad.o.eq(value)
        m.submodules.clk = clock = io.DDRBuffer("o", ports.clk)
        m.d.comb += [clock.o[0].eq(0), clock.o[1].eq(1)]
        m.submodules.dq = dq = io.FFBuffer("io", ports.dq)
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
        return m
