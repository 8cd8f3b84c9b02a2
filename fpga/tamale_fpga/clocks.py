"""Clocks of a board: one PLL, gated until it is locked, so that the design needs no reset net."""

import dataclasses

from amaranth.hdl import ClockDomain, ClockSignal, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.cdc import ResetSynchronizer

__all__ = ["Ecp5Clocks", "Pll", "pll"]

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


class Ecp5Clocks(wiring.Component):
    """Domains ``sync`` and, if asked for, ``cpu`` from the board's oscillator, for ECP5.

    ``sync`` has no reset: every register starts from its initial value, and the clock starts when
    the PLL is locked. Processors come without initial values, so ``cpu`` has one.

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
        self._frequencies = [sync, cpu] if cpu else [sync]
        self._pll = pll(source, *self._frequencies)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.pin = pin = io.Buffer("i", self._port)
        made, locked = Signal(2), Signal()
        dividers = self._pll
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
        for i, (name, divider) in enumerate(
            zip(("CLKOP", "CLKOS"), dividers.outputs, strict=False)
        ):
            parameters |= {
                f"p_{name}_ENABLE": "ENABLED",
                f"p_{name}_DIV": divider,
                f"p_{name}_CPHASE": divider - 1 if i == 0 else 0,
                f"p_{name}_FPHASE": 0,
                f"o_{name}": made[i],
            }
        m.submodules.pll = Instance(
            "EHXPLLL",
            **parameters,
            i_CLKI=pin.i,
            i_CLKFB=made[0],
            i_RST=0,
            i_STDBY=0,
            o_LOCK=locked,
        )
        m.domains.sync = ClockDomain(reset_less=True)
        m.submodules.gate = Instance(
            "DCCA", i_CLKI=made[0], i_CE=locked, o_CLKO=ClockSignal("sync")
        )
        if len(self._frequencies) > 1:
            m.domains.cpu = ClockDomain()
            m.d.comb += ClockSignal("cpu").eq(made[1])
            m.submodules.cpu_reset = ResetSynchronizer(~locked, domain="cpu")
        return m
