"""LiteDRAM on the bench of our SDRAM controller: ``python -m tamale_sim.bench_litedram``.

The same reader, chip model and figures as in `tamale_sim.bench_memory`.

The core has an AXI4 port of 32 bits on its native port; a state machine sets the chip up in place
of software. The PHY is LiteDRAM's interface with registers to the chip and back.
"""

import argparse
import gc
import warnings
from pathlib import Path

from amaranth.hdl import ClockSignal, Instance, Module, Mux, ResetSignal, Signal, UnusedElaboratable
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware import axi, litedram
from tamale.gateware.sdram import PARTS, SdramController

from .bench_memory import measure
from .memory import SOURCES, chip_parameters
from .runner import build_root

__all__ = ["LiteDram", "generate", "main"]

#: Pins of the chip and their bits; active-low ones rest at 1.
_PINS = {
    "cke": 1, "cs_n": 1, "ras_n": 1, "cas_n": 1, "we_n": 1, "ba": 2, "a": 13, "dqm": 2,
    "dq_o": 16, "dq_oe": 1,
}  # fmt: skip

#: When the state machine issues the commands that set the chip up, in clocks.
_PRECHARGE, _REFRESH, _MODE, _READY = 400, 420, 700, 720


def generate(path, part, clock_hz, cas_latency, *, postpone=1, data_width=32):
    """Write LiteDRAM's core for a part as Verilog, module ``litedram``.

    Parameters
    ----------
    path : Path
    part : SdramPart
    clock_hz, cas_latency : int
    postpone : int
        Refreshes at once.
    data_width : int
        Of the AXI port.

    Raises
    ------
    ImportError
        Without LiteDRAM.
    """
    import migen
    from litedram.common import PhySettings
    from litedram.core import LiteDRAMCore
    from litedram.core.controller import ControllerSettings
    from litedram.frontend.axi import LiteDRAMAXI2Native, LiteDRAMAXIPort
    from litedram.modules import SDRModule, _SpeedgradeTimings, _TechnologyTimings
    from litedram.phy import dfi

    class Chip(SDRModule):
        nbanks, nrows, ncols = part.banks, 1 << part.row_bits, 1 << part.column_bits
        technology_timings = _TechnologyTimings(
            tREFI=part.t_refi, tWTR=(2, None), tCCD=(1, None), tRRD=(None, part.t_rrd)
        )
        speedgrade_timings = {
            "default": _SpeedgradeTimings(
                tRP=part.t_rp, tRCD=part.t_rcd, tWR=part.t_wr, tRFC=(None, part.t_rfc),
                tFAW=None, tRAS=part.t_ras,
            )
        }  # fmt: skip

    top = migen.Module()
    top.clock_domains.sys = clock = migen.ClockDomain("sys")
    clock.clk.name_override, clock.rst.name_override = "clk", "rst"
    pins = {
        name: migen.Signal(bits, name=f"pin_{name}", reset=int(name.endswith("_n")))
        for name, bits in _PINS.items()
    }
    dq_i = migen.Signal(16, name="pin_dq_i")

    class Phy(migen.Module):
        def __init__(self):
            self.settings = PhySettings(
                phytype="GENSDRPHY", memtype="SDR", databits=16, dfi_databits=16, nranks=1,
                nphases=1, rdphase=0, wrphase=0, cl=cas_latency, read_latency=cas_latency + 2,
                write_latency=0,
            )  # fmt: skip
            self.dfi = dfi.Interface(13, 2, 1, 16)
            phase = self.dfi.p0
            values = {
                "ba": phase.bank, "a": phase.address, "dq_o": phase.wrdata,
                "dq_oe": phase.wrdata_en,
                "dqm": phase.wrdata_mask & migen.Replicate(phase.wrdata_en, 2),
            }  # fmt: skip
            for name, pin in pins.items():
                self.sync += pin.eq(values[name] if name in values else getattr(phase, name))
            coming = migen.Signal(cas_latency + 1, name="coming")
            self.sync += [
                phase.rddata.eq(dq_i),
                coming.eq(migen.Cat(phase.rddata_en, coming)),
                phase.rddata_valid.eq(coming[-1]),
            ]

    top.submodules.phy = phy = Phy()
    chip = Chip(clock_hz, "1:1")
    top.submodules.core = core = LiteDRAMCore(
        phy, chip.geom_settings, chip.timing_settings, clock_hz,
        controller_settings=ControllerSettings(refresh_postponing=postpone),
    )  # fmt: skip
    bus = LiteDRAMAXIPort(data_width=data_width, address_width=25, id_width=1)
    top.submodules.front = LiteDRAMAXI2Native(bus, core.crossbar.get_port(data_width=data_width))

    initialised = migen.Signal(name="initialised")
    word = migen.Signal(name="read_word")
    now, out = migen.Signal(16, name="now"), core.dfii.ext_dfi.p0

    def command(ras, cas, we, address):
        return [out.cs_n.eq(0), out.ras_n.eq(not ras), out.cas_n.eq(not cas), out.we_n.eq(not we),
                out.address.eq(address)]  # fmt: skip

    steps = {_PRECHARGE: command(1, 0, 1, 1 << 10), _MODE: command(1, 1, 1, cas_latency << 4)}
    steps |= {_REFRESH + 20 * i: command(1, 1, 0, 0) for i in range(8)}
    idle = [pin.eq(1) for pin in (out.cke, out.cs_n, out.ras_n, out.cas_n, out.we_n)]
    top.sync += [
        migen.If(~initialised, now.eq(now + 1)), migen.If(now == _READY, initialised.eq(1)),
    ]  # fmt: skip
    top.comb += [core.dfii.ext_dfi_sel.eq(~initialised), word.eq(phy.dfi.p0.rddata_valid)]
    top.comb += [*idle, migen.Case(now, {**steps, "default": []})]
    ports = {clock.clk, clock.rst, initialised, word, dq_i, *pins.values()}
    ports |= litedram.axi_names(bus)
    path.write_text(litedram.to_verilog(top, ports, "litedram"))


class LiteDram(wiring.Component):
    """The generated core with the model of its chip, which checks every timing.

    Parameters
    ----------
    part : SdramPart
    clock_hz, cas_latency, data_width : int

    Members
    -------
    axi, violation, refreshing, initialised
        As of `tamale_sim.memory.SimulatedSdram`.
    """

    def __init__(self, part, clock_hz, cas_latency, data_width=32):
        with warnings.catch_warnings():
            # Ours tells the chip's timing in clocks; it is not simulated.
            warnings.simplefilter("ignore", UnusedElaboratable)
            self._chip = chip_parameters(
                SdramController(part, clock_hz, cas_latency=cas_latency, power_up_us=1)
            )
            gc.collect()
        super().__init__(
            {
                "axi": In(axi.Signature(addr_width=25, data_width=data_width, id_width=1)),
                "violation": Out(8),
                "refreshing": Out(1),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        pins = {name: Signal(bits, name=f"pin_{name}") for name, bits in _PINS.items()}
        given, word = Signal(16), Signal()
        m.submodules.core = Instance(
            "litedram", i_clk=ClockSignal(), i_rst=ResetSignal(),
            i_pin_dq_i=given, o_initialised=self.initialised, o_read_word=word,
            **{f"o_pin_{name}": pin for name, pin in pins.items()},
            **litedram.axi_instance(self.axi),
        )  # fmt: skip
        wires = {name: pins[name] for name in _PINS if not name.startswith("dq_")}
        m.submodules.chip = Instance(
            "sdr_sdram", **{f"p_{name}": value for name, value in self._chip.items()},
            i_clk=ClockSignal(), **{f"i_{name}": pin for name, pin in wires.items()},
            i_dq_i=pins["dq_o"], i_dq_i_enable=pins["dq_oe"], o_dq_o=given,
            o_violation=self.violation,
        )  # fmt: skip
        # A refresh lasts from the command that closes all rows to the first word after it.
        row = ~pins["cs_n"] & ~pins["ras_n"]
        closes = row & pins["cas_n"] & ~pins["we_n"] & pins["a"][10]
        refreshes = row & ~pins["cas_n"] & pins["we_n"]
        state = Signal(2)
        with m.If(closes | refreshes):
            m.d.sync += state.eq(Mux(refreshes, 2, 1))
        with m.Elif((state == 2) & word):
            m.d.sync += state.eq(0)
        m.d.comb += self.refreshing.eq((state != 0) & ~word)
        return m


def main(arguments=None):
    """Measure and print one line per number of refreshes at once."""
    parser = argparse.ArgumentParser(prog="python -m tamale_sim.bench_litedram")
    parser.add_argument("--clock", type=int, default=80_000_000, help="hertz")
    parser.add_argument("--cas-latency", type=int, default=2)
    parser.add_argument("--postpone", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--data-width", type=int, default=32, help="of the AXI port: 16 or 32")
    parser.add_argument("--size", type=int, default=1 << 20, help="bytes")
    options = parser.parse_args(arguments)
    part = PARTS["IS42S16160G-7"]
    folder = build_root() / "litedram"
    folder.mkdir(parents=True, exist_ok=True)
    for postpone in options.postpone:
        source = Path(folder) / f"litedram.{options.data_width}.{postpone}.v"
        generate(
            source, part, options.clock, options.cas_latency, postpone=postpone,
            data_width=options.data_width,
        )  # fmt: skip
        counters = measure(
            LiteDram(part, options.clock, options.cas_latency, options.data_width),
            size=options.size, beats=256, data_width=options.data_width,
            sources=(*SOURCES, source),
        )  # fmt: skip
        words, cycles = options.size // 2, counters["cycles"]
        rest = cycles - counters["refresh_cycles"]
        print(
            f"LiteDRAM, {postpone} refreshes at once: {words / cycles:.2%} of the peak, "
            f"{words / rest:.2%} between refreshes"
        )


if __name__ == "__main__":
    main()
