"""A whole iCE40 board with a core engine: clock, reset, system, pads of the flash."""

import dataclasses

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)  # fmt: skip
from amaranth.lib import io, wiring

__all__ = ["CoreBoardDesign", "Ice40Clocks", "Ice40Pll", "ice40_pll"]

#: Limits of SB_PLL40 in hertz. Source: Lattice FPGA-DS-02008, "sysCLOCK PLL timing".
_VCO = (533_000_000, 1_066_000_000)
_PHASE_DETECTOR = (10_000_000, 133_000_000)

#: Cycles for which the system is held in reset: block RAMs read as zero for the first 3 us or so
#: after the configuration. This is 20 us at 50 MHz.
_RESET_CYCLES = 1024


@dataclasses.dataclass(frozen=True)
class Ice40Pll:
    """Dividers of SB_PLL40 with simple feedback.

    Attributes
    ----------
    reference, feedback, output : int
        The output is the input times ``feedback`` by ``reference`` by two to the ``output``.
    filter_range : int
        Of the loop filter, for the phase detector's frequency.
    """

    reference: int
    feedback: int
    output: int
    filter_range: int


def ice40_pll(source, wanted):
    """Return the dividers that make a clock of exactly the wanted frequency.

    Raises
    ------
    ValueError
        If there are none; the message lists what is near.
    """
    near = set()
    for reference in range(1, 17):
        if not _PHASE_DETECTOR[0] * reference <= source <= _PHASE_DETECTOR[1] * reference:
            continue
        detector = source // reference
        # Upper ends of the filter's ranges, as the vendor's tool sets them.
        ends = (17e6, 26e6, 44e6, 66e6, 101e6)
        filter_range = 1 + sum(detector >= end for end in ends)
        for feedback in range(1, 129):
            oscillator = source * feedback / reference
            if not _VCO[0] <= oscillator <= _VCO[1]:
                continue
            for output in range(1, 7):
                if oscillator == wanted << output:
                    return Ice40Pll(reference, feedback, output, filter_range)
                near.add(oscillator / (1 << output))
    best = sorted(near, key=lambda frequency: abs(frequency - wanted))[:4]
    raise ValueError(
        f"the PLL cannot make {wanted / 1e6:g} MHz from {source / 1e6:g} MHz; use "
        + ", ".join(f"{frequency / 1e6:g}" for frequency in sorted(best))
        + " MHz"
    )


class Ice40Clocks(wiring.Component):
    """Domain ``sync`` from the oscillator, in reset until some time after the PLL is locked.

    Parameters
    ----------
    port : io.PortLike
        Pin of the oscillator, which must be that of a PLL.
    source, sync : int
        Frequencies in hertz.

    Source: Lattice FPGA-TN-02052, "iCE40 sysCLOCK PLL Design and User Guide".
    """

    def __init__(self, port, source, sync):
        self._port, self._pll = port, ice40_pll(source, sync)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        clock, locked = Signal(), Signal()
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE",
            p_DIVR=self._pll.reference - 1,
            p_DIVF=self._pll.feedback - 1,
            p_DIVQ=self._pll.output,
            p_FILTER_RANGE=self._pll.filter_range,
            i_PACKAGEPIN=self._port.io,
            i_RESETB=1,
            i_BYPASS=0,
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )
        m.domains.start = ClockDomain(reset_less=True, local=True)
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal("start").eq(clock), ClockSignal("sync").eq(clock)]
        # Registers start as zero, so it is a one that ends the reset.
        left, ready = Signal(range(_RESET_CYCLES)), Signal()
        synchronised = Signal(2)
        m.d.start += synchronised.eq(synchronised << 1 | locked)
        with m.If(~synchronised[1]):
            m.d.start += left.eq(0)
        with m.Elif(~ready):
            m.d.start += [left.eq(left + 1), ready.eq(left == _RESET_CYCLES - 1)]
        m.d.comb += ResetSignal("sync").eq(~ready)
        return m


class CoreBoardDesign(Elaboratable):
    """The top level for a platform.

    LEDs, from the first: heartbeat, the flash is selected.

    Parameters
    ----------
    config : Config
    soc : CoreSoc
        With its boot program.
    """

    def __init__(self, config, soc):
        self._config, self._soc = config, soc

    def elaborate(self, platform):
        m = Module()
        soc = self._soc

        def ports(resource, number=0):
            return platform.request(resource, number, dir="-")

        m.submodules.clocks = Ice40Clocks(
            ports(platform.default_clk), int(platform.default_clk_frequency), self._config.clock_hz
        )
        m.submodules.soc = soc

        uart = ports("uart")
        m.submodules.uart_tx = transmit = io.Buffer("o", uart.tx)
        m.submodules.uart_rx = receive = io.Buffer("i", uart.rx)
        m.d.comb += [transmit.o.eq(soc.uart_tx), soc.uart_rx.eq(receive.i)]

        flash = ports("spi_flash_4x")
        m.submodules.flash_cs = select = io.FFBuffer("o", flash.cs)
        m.submodules.flash_clk = clock = io.DDRBuffer("o", flash.clk)
        m.d.comb += [
            select.o.eq(soc.flash_cs),
            clock.o[0].eq(soc.flash_sck),
            clock.o[1].eq(soc.flash_pulse),
        ]
        for i in range(4):
            m.submodules[f"flash_data{i}"] = pad = io.FFBuffer("io", flash.dq[i])
            m.d.comb += [
                pad.o.eq(soc.flash_data_o[i]),
                pad.oe.eq(soc.flash_data_oe[i]),
                soc.flash_data_i[i].eq(pad.i),
            ]

        heart = Signal(24)
        m.d.sync += heart.eq(heart + 1)
        for number, value in enumerate((heart[-1], soc.flash_busy)):
            m.submodules[f"led{number}"] = led = io.Buffer("o", ports("led", number))
            m.d.comb += led.o.eq(value)
        return m
