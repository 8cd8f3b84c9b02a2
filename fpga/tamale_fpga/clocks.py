"""Clocks of a board: one PLL, gated until it is locked, so that the design needs no reset net."""

import dataclasses

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer

__all__ = ["SDRAM_PHASE", "Ecp5Clocks", "Pll", "pll", "pll_instance"]

#: Limits of EHXPLLL in hertz. Source: Lattice FPGA-DS-02012, "sysCLOCK PLL timing".
_VCO = (400_000_000, 800_000_000)
_PHASE_DETECTOR = (3_125_000, 400_000_000)


@dataclasses.dataclass(frozen=True)
class Pll:
    """Dividers of EHXPLLL with feedback from its first output.

    Attributes
    ----------
    reference, feedback : int
        Input is divided by ``reference``, the first output by ``feedback``.
    outputs : tuple of int
        Dividers from the oscillator to each output.
    """

    reference: int
    feedback: int
    outputs: tuple


def pll(source, *wanted):
    """Return the dividers that make clocks of exactly the wanted frequencies.

    Parameters
    ----------
    source : int
        Frequency of the input in hertz.
    *wanted : int
        Frequencies of the outputs; the fastest oscillator that makes all of them is taken.

    Raises
    ------
    ValueError
        If there are none; the message lists what the second clock could be.
    """
    near = set()
    best = None
    for reference in range(1, 129):
        if not _PHASE_DETECTOR[0] * reference <= source <= _PHASE_DETECTOR[1] * reference:
            continue
        feedback, rest = divmod(wanted[0] * reference, source)
        if rest or not 1 <= feedback <= 128:
            continue
        for divider in range(1, 129):
            oscillator = wanted[0] * divider
            if not _VCO[0] <= oscillator <= _VCO[1]:
                continue
            if all(oscillator % f == 0 and oscillator // f <= 128 for f in wanted):
                found = Pll(reference, feedback, tuple(oscillator // f for f in wanted))
                if best is None or oscillator > best[0]:
                    best = oscillator, found
            near |= {oscillator // d for d in range(1, 129) if oscillator % d == 0}
        if best:
            return best[1]
    if near and len(wanted) > 1:
        mend = "with the first clock, the second can be " + ", ".join(
            f"{f / 1e6:g}" for f in sorted(near, key=lambda f: abs(f - wanted[1]))[:4]
        )
    else:
        mend = f"use a multiple of {source / 8e6:g} MHz"
    raise ValueError(
        f"the PLL cannot make {' and '.join(f'{f / 1e6:g}' for f in wanted)} MHz from "
        f"{source / 1e6:g} MHz; {mend} MHz"
    )


def pll_instance(dividers, source, outputs, locked):
    """Return the `Instance` of a PLL.

    Parameters
    ----------
    dividers : Pll
    source, locked : Signal
        Its input, and its output of this name.
    outputs : dict of str to (Signal, int, int)
        By the output's name: clock, divider, eighths of a cycle of the oscillator by which it is
        late.
    """
    parameters = {
        "p_CLKI_DIV": dividers.reference,
        "p_CLKFB_DIV": dividers.feedback,
        "p_FEEDBK_PATH": "CLKOP",
        "p_PLLRST_ENA": "DISABLED",
        "p_INTFB_WAKE": "DISABLED",
        "p_STDBY_ENABLE": "DISABLED",
        "p_DPHASE_SOURCE": "DISABLED",
        # Loop filter as the vendor's tool sets it for this family.
        "a_ICP_CURRENT": "12",
        "a_LPF_RESISTOR": "8",
        "a_MFG_ENABLE_FILTEROPAMP": "1",
        "a_MFG_GMCREF_SEL": "2",
    }
    for name, (signal, divider, late) in outputs.items():
        parameters |= {
            f"p_{name}_ENABLE": "ENABLED",
            f"p_{name}_DIV": divider,
            f"p_{name}_CPHASE": divider - 1 + late // 8,
            f"p_{name}_FPHASE": late % 8,
            f"o_{name}": signal,
        }
    return Instance(
        "EHXPLLL",
        **parameters,
        i_CLKI=source,
        i_CLKFB=outputs["CLKOP"][0],
        i_RST=0,
        i_STDBY=0,
        o_LOCK=locked,
    )


#: Eighths of a period by which the memory chip's clock is late; see `tamale_fpga.pads`.
SDRAM_PHASE = 6


class Ecp5Clocks(wiring.Component):
    """Domains ``sync``, ``sdram`` and, if asked for, ``cpu`` from the board's oscillator, for ECP5.

    ``sync`` has no reset: every register starts from its initial value, and the clock starts when
    the PLL is locked. Processors come without initial values, so ``cpu`` has one. ``sdram`` is
    ``sync``, late by `SDRAM_PHASE`.

    Parameters
    ----------
    port : io.PortLike
        Pin of the oscillator.
    source, sync, cpu : int
        Frequencies in hertz; ``cpu`` 0: no such domain.

    Source: Lattice FPGA-TN-02200, "sysCLOCK PLL/DLL Design and Usage Guide".
    """

    def __init__(self, port, source, sync, cpu):
        self._port = port
        self._has_cpu = bool(cpu)
        self._pll = pll(source, sync, *([cpu] if cpu else []))
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.pin = pin = io.Buffer("i", self._port)
        locked = Signal()
        sync, sdram, cpu = (Signal(name=f"pll_{name}") for name in ("sync", "sdram", "cpu"))
        divider = self._pll.outputs[0]
        # (output, divider, eighths of a cycle of the oscillator by which it is late)
        outputs = {"CLKOP": (sync, divider, 0), "CLKOS": (sdram, divider, SDRAM_PHASE * divider)}
        if self._has_cpu:
            outputs["CLKOS2"] = (cpu, self._pll.outputs[1], 0)
        m.submodules.pll = pll_instance(self._pll, pin.i, outputs, locked)
        m.domains.sync = ClockDomain(reset_less=True)
        m.submodules.gate = Instance("DCCA", i_CLKI=sync, i_CE=locked, o_CLKO=ClockSignal("sync"))
        m.domains.sdram = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal("sdram").eq(sdram)
        if self._has_cpu:
            m.domains.cpu = ClockDomain()
            m.d.comb += ClockSignal("cpu").eq(cpu)
            m.submodules.cpu_reset = ResetSynchronizer(~locked, domain="cpu")
        return m
