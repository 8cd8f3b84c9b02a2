"""Pads of an SDRAM: registers in the pads, and a clock three quarters of a period after commands.

With period T, let d be the delay from the clock's register through its pad to the chip, and from
the chip's pins through a pad to a register: some 3 to 5 ns on ECP5. The chip samples commands 3/4 T
after they change and T/4 before they change again. Its word arrives t_AC + d after an edge of its
clock and stays until t_OH + d after the next; it is sampled 5/4 T after that first edge. So reading
needs

    t_AC + d + set-up < 5/4 T      and      t_OH + d > T/4 + hold

At 80 MHz, with t_AC = 6 ns and t_OH = 2.5 ns, that is d from 0.7 to 9 ns. With a clock half a
period late, the usual choice, d would have to be more than 3.8 ns. Where periods are longer, less
of one is enough: with a clock 7/8 T late (`gowin_clocks`), reading needs t_AC + d + set-up < 9/8 T
and t_OH + d > T/8 + hold; at 40 MHz d from 0.7 to 21 ns.
"""

from amaranth.hdl import Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In
from tamale.gateware.sdram import SdramPins

__all__ = ["SdramPads"]


class SdramPads(wiring.Component):
    """Between controller and chip.

    The chip's clock is domain ``sdram``. A word read comes two cycles later than from a chip on
    ``sync``: one for the registers on the way out, one for those on the way in
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
            if not hasattr(ports, name):
                if name not in ("clk_en", "cs"):  # which some boards tie
                    raise ValueError(
                        f"the board's SDRAM has no {name!r} pins, which the controller needs (dqm: "
                        "to write single bytes); use another board"
                    )
                continue
            m.submodules[name] = pad = io.FFBuffer("o", getattr(ports, name))
            m.d.comb += pad.o.eq(value)
        m.submodules.clk = clock = io.DDRBuffer("o", ports.clk, o_domain="sdram")
        m.d.comb += [clock.o[0].eq(1), clock.o[1].eq(0)]
        m.submodules.dq = dq = io.FFBuffer("io", ports.dq)
        m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]
        return m
