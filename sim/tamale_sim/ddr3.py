"""DDR3 memory in simulation: LiteDRAM's core with a model of PHY and chip that checks every timing.

``python -m tamale_sim.ddr3`` measures a long linear read, as `tamale_sim.bench_memory` does for our
own controller of SDRAM.
"""

import argparse
import math
import os

from amaranth.hdl import ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware import litedram

from .runner import MODELS, build_root

__all__ = [
    "SOURCE", "Ddr3Setup", "PreparedDdr3", "SimulatedDdr3", "chip_parameters", "main",
    "write_sources",
]  # fmt: skip

#: Model that the components instantiate.
SOURCE = MODELS / "ddr3_dfi.v"

#: Microseconds that reset lasts, and from its end to the clock's enable (JESD79-3F, 3.3).
RESET_US, CKE_US = 200, 500

#: Of each lane the delays at which the model reads, and its shift: no lane is like the other, and
#: none works as it is after power-on.
WINDOWS = ((3, 6, 1), (1, 4, 2))


def chip_parameters(controller):
    """Return the parameters of the model ``ddr3_dfi`` for the part and clock of a controller."""
    part, clock = controller.part, controller.clock_hz
    chip_clock = litedram.PHASES * clock
    settings = litedram.phy_settings(part, clock)
    parameters = {
        "BANK_BITS": (part.banks - 1).bit_length(),
        "ROW_BITS": part.row_bits,
        "COLUMN_BITS": part.column_bits,
        "LANES": part.lanes,
        "READ_LATENCY": settings.read_latency,
        "WRITE_LATENCY": settings.write_latency,
        "CL": settings.cl,
        "CWL": settings.cwl,
        "T_RESET": math.ceil(RESET_US * chip_clock / 1e6),
        "T_CKE": math.ceil(CKE_US * chip_clock / 1e6),
        "T_XPR": max(5, math.ceil((part.t_rfc + 10) * chip_clock / 1e9)),
        # An upper limit is rounded down, unlike the lower ones.
        "T_REFI": int(part.t_refi * chip_clock / 1e9),
    }
    for name in ("t_rp", "t_rcd", "t_ras", "t_wr", "t_rfc", "t_faw", "t_rrd", "t_wtr", "t_rtp"):
        parameters[name.upper()] = part.clocks(name, clock)
    for index, name in enumerate(("FIRST", "LAST", "SLIP")):
        parameters[name] = sum(lane[index] << 4 * i for i, lane in enumerate(WINDOWS))
    return parameters


def write_sources(controller, directory):
    """Write LiteDRAM's core for a controller; return the paths of it and of the model."""
    paths = []
    for name, text in controller.verilog().items():
        path = directory / f"{controller.part.name}.{controller.clock_hz}.{name}"
        # Tests of several processes write the same at once.
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.replace(path)
        paths.append(path)
    return [*paths, SOURCE]


class SimulatedDdr3(wiring.Component):
    """`litedram.Ddr3Controller` with the model of PHY and chip.

    The contents come from ``+image=FILE`` on the command line of the simulator.

    Parameters
    ----------
    controller : litedram.Ddr3Controller
    chip : dict
        Parameters of the model ``ddr3_dfi`` that shall differ from those of the controller's part.

    Members
    -------
    axi : In(axi.Signature)
        Memory port of the controller.
    control : In(litedram.ControlSignature)
    violation : Out(8)
        0, or the code of the first timing rule broken (see ``ddr3_dfi.v``).
    read_word, write_word, refreshing, initialised : Out(1)
        Observation outputs of the controller.
    """

    def __init__(self, controller, chip=None):
        self._controller, self._chip = controller, dict(chip or {})
        super().__init__(
            {
                "axi": In(controller.axi.signature.flip()),
                "control": In(litedram.ControlSignature(controller.part)),
                "violation": Out(8),
                "read_word": Out(1),
                "write_word": Out(1),
                "refreshing": Out(1),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.controller = controller = self._controller
        wiring.connect(m, wiring.flipped(self.axi), controller.axi)
        for name in ("read_word", "write_word", "refreshing", "initialised"):
            m.d.comb += getattr(self, name).eq(getattr(controller, name))
        for name, member in litedram.ControlSignature(controller.part).members.items():
            if member.flow is Out:
                m.d.comb += getattr(controller.control, name).eq(getattr(self.control, name))
        m.d.comb += self.control.ready.eq(1)
        parameters = chip_parameters(controller) | self._chip
        m.submodules.chip = Instance(
            "ddr3_dfi",
            **{f"p_{name}": value for name, value in parameters.items()},
            i_clk=ClockSignal(),
            **litedram.dfi_instance(controller.dfi),
            **litedram.control_instance(self.control),
            o_violation=self.violation,
        )
        return m


class Ddr3Setup(wiring.Component):
    """Does what the firmware does at the start, and knows the delays: simulations without a CPU.

    Parameters
    ----------
    part : litedram.Ddr3Part
    clock_hz : int

    Members
    -------
    control : Out(litedram.ControlSignature)
    """

    #: Waits of a chip whose times for reset and clock enable are cut short, in clocks.
    WAIT = 600
    CHIP = {"T_RESET": 100, "T_CKE": 100}

    def __init__(self, part, clock_hz):
        self._part, self._clock_hz = part, clock_hz
        super().__init__({"control": Out(litedram.ControlSignature(part))})

    def elaborate(self, platform):
        m = Module()
        control = self.control
        modes = litedram.mode_registers(self._part, self._clock_hz)
        every = (1 << self._part.lanes) - 1
        steps = [{"lanes": every, "delay_reset": 1}, {"lanes": every, "slip_reset": 1}]
        for lane, (first, last, slip) in enumerate(WINDOWS):
            steps += [{"lanes": 1 << lane, "delay_step": 1}] * ((first + last) // 2)
            steps += [{"lanes": 1 << lane, "slip_step": 1}] * slip
        steps += [{"reset_n": 1}, {"cke": 1}]
        for bank in (2, 3, 1, 0):
            steps.append(
                {"issue": 1, "ras": 1, "cas": 1, "we": 1, "bank": bank, "address": modes[bank]}
            )
        steps.append({"issue": 1, "we": 1, "address": 1 << 10})
        steps.append({"software": 0})
        step, wait = Signal(range(len(steps) + 1)), Signal(range(self.WAIT))
        pulses = (
            "issue", "ras", "cas", "we", "delay_reset", "delay_step", "slip_reset", "slip_step"
        )  # fmt: skip
        m.d.sync += [getattr(control, name).eq(0) for name in (*pulses, "lanes")]
        with m.If(wait != self.WAIT - 1):
            m.d.sync += wait.eq(wait + 1)
        with m.Elif(step != len(steps)):
            m.d.sync += [wait.eq(0), step.eq(step + 1)]
            with m.Switch(step):
                for index, values in enumerate(steps):
                    with m.Case(index):
                        m.d.sync += [getattr(control, n).eq(value) for n, value in values.items()]
        return m


class PreparedDdr3(wiring.Component):
    """`SimulatedDdr3` that sets itself up, and takes no address before.

    Parameters
    ----------
    controller : litedram.Ddr3Controller
    chip : dict
        See `SimulatedDdr3`.

    Members
    -------
    All of `SimulatedDdr3`, without ``control``.
    """

    def __init__(self, controller, chip=None):
        self._memory = SimulatedDdr3(controller, Ddr3Setup.CHIP | (chip or {}))
        self._setup = Ddr3Setup(controller.part, controller.clock_hz)
        members = dict(self._memory.signature.members)
        del members["control"]
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        m.submodules.setup, m.submodules.memory = setup, memory = self._setup, self._memory
        wiring.connect(m, setup.control, memory.control)
        for name, member in memory.axi.signature.flip().members.items():
            here, there = getattr(self.axi, name), getattr(memory.axi, name)
            given, taken = (here, there) if member.flow is Out else (there, here)
            if name in ("arvalid", "arready", "awvalid", "awready"):
                given = given & memory.initialised
            m.d.comb += taken.eq(given)
        for name in ("violation", "read_word", "write_word", "refreshing", "initialised"):
            m.d.comb += getattr(self, name).eq(getattr(memory, name))
        return m


def main(arguments=None):
    """Measure and print one line per number of refreshes at once."""
    from .bench_memory import measure

    parser = argparse.ArgumentParser(prog="python -m tamale_sim.ddr3", description=__doc__)
    parser.add_argument("--part", choices=litedram.PARTS, default="MT41K256M16")
    parser.add_argument("--clock", type=int, default=80_000_000, help="of the system, hertz")
    parser.add_argument("--postpone", type=int, nargs="+", default=[1, 8], help="refreshes at once")
    parser.add_argument("--beats", type=int, default=256, help="beats in a burst")
    parser.add_argument("--size", type=int, default=1 << 20, help="bytes")
    options = parser.parse_args(arguments)
    part = litedram.PARTS[options.part]
    for postpone in options.postpone:
        controller = litedram.Ddr3Controller(part, options.clock, postpone=postpone)
        directory = build_root() / f"litedram.{postpone}"
        directory.mkdir(parents=True, exist_ok=True)
        counters = measure(
            PreparedDdr3(controller), size=options.size, beats=options.beats,
            data_width=part.data_width, sources=write_sources(controller, directory),
        )  # fmt: skip
        cycles = counters["cycles"]
        busy = options.size * 8 / part.width_per_clock
        rate = options.size * options.clock / cycles / 1e6
        print(
            f"{part.name}, {options.clock / 1e6:g} MHz, {postpone} refreshes at once: "
            f"{busy / cycles:.2%} of the peak, {busy / (cycles - counters['refresh_cycles']):.2%} "
            f"between refreshes, {rate:.0f} MB/s"
        )


if __name__ == "__main__":
    main()
