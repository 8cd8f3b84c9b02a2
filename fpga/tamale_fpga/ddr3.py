"""DDR3 memory of an ECP5 board: clocks, LiteDRAM's core and PHY, pins.

The PHY moves four bits of every data pin in a clock of the system, on an edge clock of twice its
frequency, which reaches the pins of one side of the chip and no logic. Clock of the system is half
of the edge clock by a divider beside it, so that both keep their phase. Both stand still until the
PLL is locked, and once more while the PHY's delay lines are set; the divider's output has no short
pulse then, for it is reset while the edge clock rests. So the system needs no reset here either.

Source: Lattice FPGA-TN-02035, "ECP5 and ECP5-5G High-Speed I/O Interface", 5 and 8; FPGA-TN-02200.
"""

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Const,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import io, wiring
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer
from amaranth.lib.wiring import In, Out
from tamale.gateware import litedram
from tamale.soc.system import build_memory

from .clocks import pll, pll_instance

__all__ = ["Ddr3Clocks", "Ddr3Memory"]

#: Clock of the state machine that sets the delay lines, in hertz: slow, for its steps are counted
#: in it and have to last for some clocks of the edge clock.
_INIT_HZ = 25_000_000


class Ddr3Clocks(wiring.Component):
    """Domains ``sync``, ``edge``, ``init`` and, if asked for, ``cpu`` from the board's oscillator.

    ``edge`` has twice the frequency of ``sync``; neither has a reset, see above. The processor
    starts when the PLL is locked: what it asks ``sync`` for waits.

    Parameters
    ----------
    port : io.PortLike
        Pin of the oscillator.
    source, sync, cpu : int
        Frequencies in hertz; ``cpu`` 0: no such domain.

    Members
    -------
    stop, reset : In(1)
        Of the PHY: hold the edge clock, and the divider.
    """

    def __init__(self, port, source, sync, cpu):
        self._port = port
        self._has_cpu = bool(cpu)
        # The CPU is named second: it is what a message would have to say another frequency of.
        wanted = [cpu, _INIT_HZ] if cpu else [_INIT_HZ]
        self._pll = pll(source, litedram.PHASES * sync, *wanted)
        super().__init__({"stop": In(1), "reset": In(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.pin = pin = io.Buffer("i", self._port)
        locked = Signal()
        edge, cpu, init = (Signal(name=f"pll_{name}") for name in ("edge", "cpu", "init"))
        clocks = [edge, cpu, init] if self._has_cpu else [edge, init]
        outputs = {
            name: (clock, divider, 0)
            for name, clock, divider in zip(
                ("CLKOP", "CLKOS", "CLKOS2"), clocks, self._pll.outputs, strict=False
            )
        }
        m.submodules.pll = pll_instance(self._pll, pin.i, outputs, locked)

        m.domains.init = ClockDomain()
        m.d.comb += ClockSignal("init").eq(init)
        m.submodules.init_reset = ResetSynchronizer(~locked, domain="init")
        m.domains.edge = ClockDomain(reset_less=True)
        m.domains.sync = ClockDomain(reset_less=True)
        m.submodules.synchroniser = Instance(
            "ECLKSYNCB",
            i_ECLKI=edge,
            i_STOP=self.stop | ResetSignal("init"),
            o_ECLKO=ClockSignal("edge"),
        )
        m.submodules.divider = Instance(
            "CLKDIVF",
            p_DIV="2.0",
            i_CLKI=ClockSignal("edge"),
            i_RST=self.reset,
            i_ALIGNWD=Const(0),
            o_CDIVX=ClockSignal("sync"),
        )
        if self._has_cpu:
            m.domains.cpu = ClockDomain()
            m.d.comb += ClockSignal("cpu").eq(cpu)
            m.submodules.cpu_reset = ResetSynchronizer(~locked, domain="cpu")
        return m


class Ddr3Memory(wiring.Component):
    """The memory of a board, with the clocks of the whole system.

    Parameters
    ----------
    config : Config
        With ``memory = "ddr3"``.
    soc : Soc
    oscillator : io.PortLike
        Pin of the oscillator.
    frequency : int
        Its, in hertz.
    ports
        As ``platform.request("ddr3", dir=...)`` gives them, directions ``"-"``.

    Members
    -------
    axi : In(axi.Signature)
    control : In(litedram.ControlSignature)
    read_word, write_word, initialised : Out(1)
        Observation outputs of the controller.
    """

    def __init__(self, config, soc, oscillator, frequency, ports):
        self._clocks = Ddr3Clocks(oscillator, frequency, config.clock_hz, config.cpu_clock_hz)
        self._ports = ports
        self._controller = build_memory(config, soc)
        super().__init__(
            {
                "axi": In(self._controller.axi.signature.flip()),
                "control": In(litedram.ControlSignature(self._controller.part)),
                "read_word": Out(1),
                "write_word": Out(1),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        control, ports = self.control, self._ports
        m.submodules.controller = controller = self._controller
        m.submodules.clocks = clocks = self._clocks
        wiring.connect(m, wiring.flipped(self.axi), controller.axi)
        for name, member in litedram.ControlSignature(controller.part).members.items():
            if member.flow is Out:
                m.d.comb += getattr(controller.control, name).eq(getattr(control, name))
        for name in ("read_word", "write_word", "initialised"):
            m.d.comb += getattr(self, name).eq(getattr(controller, name))

        # Registers in the pads start together, two clocks after the divider.
        m.domains.phy = ClockDomain()
        m.d.comb += ClockSignal("phy").eq(ClockSignal("sync"))
        m.submodules.phy_reset = ResetSynchronizer(clocks.reset | ResetSignal("init"), domain="phy")
        # The delay lines have settled when the last of their steps, which pauses, is over.
        settling, settled = Signal(), Signal(2)
        with m.If(settling):
            m.d.init += settled.eq(1)
        with m.Elif(settled[0]):
            m.d.init += settled.eq(3)
        m.submodules.ready = FFSynchronizer(settled[1], control.ready)

        pads = {
            "clk_p": ports.clk, "cke": ports.clk_en, "odt": ports.odt, "a": ports.a,
            "ba": ports.ba, "dm": ports.dm, "ras_n": ~ports.ras, "cas_n": ~ports.cas,
            "we_n": ~ports.we,
        }  # fmt: skip
        outputs = {}
        for name, port in pads.items():
            m.submodules[f"pad_{name}"] = pad = io.Buffer("o", port)
            outputs[f"o_pad_{name}"] = pad.o
        m.submodules.phy = Instance(
            "litedram_phy",
            i_clk=ClockSignal("phy"),
            i_rst=ResetSignal("phy"),
            i_clk2x=ClockSignal("edge"),
            i_init_clk=ClockSignal("init"),
            i_init_rst=ResetSignal("init"),
            o_stop=clocks.stop,
            o_reset=clocks.reset,
            o_settling=settling,
            io_pad_dq=ports.dq.io,
            io_pad_dqs_p=ports.dqs.p,
            **outputs,
            **litedram.dfi_instance(controller.dfi),
            **litedram.control_instance(control),
        )
        part, clock = controller.part, controller.clock_hz
        platform.add_file("litedram_phy.v", litedram.phy_verilog(part, clock))
        return m
