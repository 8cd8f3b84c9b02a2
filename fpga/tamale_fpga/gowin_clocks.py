"""Clocks of a board with a Gowin FPGA: one PLL, gated until it is locked, as `clocks` does it."""

import dataclasses

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer

__all__ = ["SDRAM_PHASE", "GowinClocks", "Rpll", "rpll"]

#: Limits of rPLL in hertz, grade C8/I7. Source: Gowin DS226, "PLL switching characteristics".
_VCO = (500_000_000, 1_250_000_000)
_PHASE_DETECTOR = (3_000_000, 500_000_000)
#: Dividers from the oscillator to the output. Source: Gowin UG286, "rPLL".
_OUTPUTS = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)

#: Sixteenths of a period by which the memory chip's clock is late. At the clocks that this family
#: reaches a period is long, and an eighth of it is enough for commands to stay, and for a word to
#: be there still when it is sampled; see `tamale_fpga.pads`, where this is six eighths.
SDRAM_PHASE = 14


@dataclasses.dataclass(frozen=True)
class Rpll:
    """Dividers of rPLL.

    Attributes
    ----------
    reference, feedback : int
        Input is divided by ``reference``, the output by ``feedback``.
    output : int
        From the oscillator to the output.
    slow : int
        From the output to the second one; 0: there is none.
    """

    reference: int
    feedback: int
    output: int
    slow: int


def rpll(source, sync, cpu=0):
    """Return the dividers that make clocks of exactly the wanted frequencies.

    Parameters
    ----------
    source, sync, cpu : int
        Frequencies in hertz of the input and both outputs; ``cpu`` 0: no second output.

    Raises
    ------
    ValueError
        If there are none; the message lists what would be possible.
    """
    slow, rest = divmod(sync, cpu) if cpu else (0, 0)
    if rest or slow % 2 or slow > 128:
        raise ValueError(
            f"the PLL cannot make {cpu / 1e6:g} from {sync / 1e6:g} MHz: use cpu_clock_hz = 0, one "
            "clock for all, or an even part of clock_hz"
        )
    best, near = None, set()
    for reference in range(1, 65):
        if not _PHASE_DETECTOR[0] * reference <= source <= _PHASE_DETECTOR[1] * reference:
            continue
        near |= {source * feedback / reference for feedback in range(1, 65)}
        feedback, rest = divmod(sync * reference, source)
        if rest or not 1 <= feedback <= 64:
            continue
        for output in _OUTPUTS:
            if _VCO[0] <= sync * output <= _VCO[1]:
                best = best or Rpll(reference, feedback, output, slow)
    if best is None:
        close = sorted(near, key=lambda f: abs(f - sync))[:4]
        raise ValueError(
            f"the PLL cannot make {sync / 1e6:g} MHz from {source / 1e6:g} MHz; near are "
            + ", ".join(f"{f / 1e6:g}" for f in close)
        )
    return best


class GowinClocks(wiring.Component):
    """Domains ``sync``, ``sdram`` and, if asked for, ``cpu`` from the board's oscillator.

    As `tamale_fpga.clocks.Ecp5Clocks`: ``sync`` has no reset, its clock starts when the PLL is
    locked; ``sdram`` is ``sync``, late by `SDRAM_PHASE`.

    Parameters
    ----------
    port : io.PortLike
        Pin of the oscillator.
    source, sync, cpu : int
        Frequencies in hertz; ``cpu`` 0: no such domain.

    Source: Gowin UG286, "Clock".
    """

    def __init__(self, port, source, sync, cpu):
        self._port, self._source = port, source
        self._pll = rpll(source, sync, cpu)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.pin = pin = io.Buffer("i", self._port)
        pll = self._pll
        locked = Signal()
        sync, sdram, cpu = (Signal(name=f"pll_{name}") for name in ("sync", "sdram", "cpu"))
        m.submodules.pll = Instance(
            "rPLL",
            p_DEVICE="GW2A-18C",
            p_FCLKIN=f"{self._source / 1e6:g}",
            p_IDIV_SEL=pll.reference - 1,
            p_FBDIV_SEL=pll.feedback - 1,
            p_ODIV_SEL=pll.output,
            p_DYN_IDIV_SEL="false",
            p_DYN_FBDIV_SEL="false",
            p_DYN_ODIV_SEL="false",
            p_DYN_DA_EN="false",
            p_PSDA_SEL=f"{SDRAM_PHASE:04b}",
            p_DUTYDA_SEL="1000",
            p_CLKFB_SEL="internal",
            p_CLKOUT_BYPASS="false",
            p_CLKOUTP_BYPASS="false",
            p_CLKOUTD_BYPASS="false",
            p_CLKOUTD_SRC="CLKOUT",
            p_CLKOUTD3_SRC="CLKOUT",
            p_DYN_SDIV_SEL=pll.slow or 2,
            i_CLKIN=pin.i,
            i_CLKFB=Const(0),
            i_RESET=Const(0),
            i_RESET_P=Const(0),
            i_FBDSEL=Const(0, 6),
            i_IDSEL=Const(0, 6),
            i_ODSEL=Const(0, 6),
            i_PSDA=Const(0, 4),
            i_DUTYDA=Const(0, 4),
            i_FDLY=Const(0, 4),
            o_CLKOUT=sync,
            o_CLKOUTP=sdram,
            o_CLKOUTD=cpu,
            o_LOCK=locked,
        )
        m.domains.sync = ClockDomain(reset_less=True)
        m.submodules.gate = Instance("DQCE", i_CLKIN=sync, i_CE=locked, o_CLKOUT=ClockSignal())
        m.domains.sdram = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal("sdram").eq(sdram)
        if pll.slow:
            m.domains.cpu = ClockDomain()
            m.d.comb += ClockSignal("cpu").eq(cpu)
            m.submodules.cpu_reset = ResetSynchronizer(~locked, domain="cpu")
        return m
