"""LiteDRAM as the controller of DDR3 memory: its core and its PHY for ECP5, made as Verilog.

The core has an AXI4 port, LiteDRAM's interface to a PHY (DFI) and a way past both for the commands
that set the chip up, which come from software. Nothing generated is kept: `core_verilog` and
`phy_verilog` give the same text for the same parameters, without dates.

LiteDRAM and what it is made with (LiteX, Migen) are imported where they are needed: all other
memories do without.

Source: JEDEC JESD79-3F (DDR3 commands and timing); Micron MT41K256M16 data sheet, rev. T; DFI 2.1.
"""

import dataclasses
import math
import re

from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import axi

__all__ = [
    "MT41K128M16", "MT41K256M16", "PARTS", "PHASES", "ControlSignature", "Ddr3Controller",
    "Ddr3Part", "DfiSignature", "axi_instance", "axi_names", "control_instance", "core_verilog",
    "dfi_instance", "mode_registers", "phy_settings", "phy_verilog", "to_verilog",
]  # fmt: skip

#: Clocks of the chip in one of the system: commands come in so many phases.
PHASES = 2

#: Words of the chip's data bus in a burst.
BURST = 8

#: Signals of the AXI channels that our ports have; LiteDRAM's other inputs are 0.
_CHANNELS = {
    "ar": (("addr", "burst", "len", "size", "id", "valid"), ("ready",)),
    "aw": (("addr", "burst", "len", "size", "id", "valid"), ("ready",)),
    "w": (("data", "strb", "last", "valid"), ("ready",)),
    "b": (("ready",), ("id", "resp", "valid")),
    "r": (("ready",), ("data", "id", "last", "resp", "valid")),
}
_UNUSED = ("cache", "dest", "lock", "prot", "qos", "region", "user", "last")


@dataclasses.dataclass(frozen=True)
class Ddr3Part:
    """Geometry and timing of a DDR3 chip.

    Attributes
    ----------
    name : str
        Marking of the chip.
    banks, row_bits, column_bits, data_bits : int
    t_rp, t_rcd, t_ras, t_wr, t_rfc, t_faw : float
        Nanoseconds: precharge, activate to read or write, activate to precharge, last word written
        to precharge, refresh, four activates.
    t_rrd, t_wtr, t_rtp : tuple of (int, float)
        The longer of so many clocks of the chip and so many nanoseconds: activates of different
        banks, write to read, read to precharge.
    t_refi : float
        Nanoseconds between two refreshes on average.
    """

    name: str
    banks: int
    row_bits: int
    column_bits: int
    data_bits: int
    t_rp: float
    t_rcd: float
    t_ras: float
    t_wr: float
    t_rfc: float
    t_faw: float
    t_rrd: tuple
    t_wtr: tuple
    t_rtp: tuple
    t_refi: float

    @property
    def size(self):
        """Bytes in the chip."""
        return self.banks * self.data_bits // 8 << (self.row_bits + self.column_bits)

    @property
    def lanes(self):
        """Bytes of the data bus, each with a strobe of its own."""
        return self.data_bits // 8

    @property
    def data_width(self):
        """Bits of a burst, which is the beat of the controller."""
        return BURST * self.data_bits

    @property
    def width_per_clock(self):
        """Bits that move in a clock of the system: two in a clock of the chip."""
        return 2 * PHASES * self.data_bits

    def clocks(self, name, clock_hz):
        """Return a timing in clocks of the chip, rounded up, for a clock of the system."""
        value = getattr(self, name)
        least, nanoseconds = value if isinstance(value, tuple) else (0, value)
        return max(least, math.ceil(nanoseconds * PHASES * clock_hz / 1e9))


#: 512 MB chip of ECPIX-5; timings of its slowest grade that is sold (-125).
MT41K256M16 = Ddr3Part(
    name="MT41K256M16",
    banks=8,
    row_bits=15,
    column_bits=10,
    data_bits=16,
    t_rp=13.75,
    t_rcd=13.75,
    t_ras=35,
    t_wr=15,
    t_rfc=260,
    t_faw=40,
    t_rrd=(4, 7.5),
    t_wtr=(4, 7.5),
    t_rtp=(4, 7.5),
    t_refi=7812.5,  # 8192 refreshes in 64 ms
)

#: Its 256 MB sister, of OrangeCrab boards: half the rows, which are refreshed faster.
MT41K128M16 = dataclasses.replace(MT41K256M16, name="MT41K128M16", row_bits=14, t_rfc=160)

#: Parts by name.
PARTS = {part.name: part for part in (MT41K256M16, MT41K128M16)}


def _phase_members(part):
    """Signals of a phase of the DFI as the controller sees them: name to direction and width."""
    bits = BURST * part.data_bits // PHASES
    return {
        "address": (Out, part.row_bits),
        "bank": (Out, (part.banks - 1).bit_length()),
        "cs_n": (Out, 1),
        "ras_n": (Out, 1),
        "cas_n": (Out, 1),
        "we_n": (Out, 1),
        "cke": (Out, 1),
        "odt": (Out, 1),
        "reset_n": (Out, 1),
        "wrdata": (Out, bits),
        "wrdata_en": (Out, 1),
        "wrdata_mask": (Out, bits // 8),
        "rddata_en": (Out, 1),
        "rddata": (In, bits),
        "rddata_valid": (In, 1),
    }


class DfiSignature(wiring.Signature):
    """LiteDRAM's interface from controller to PHY, as the controller sees it.

    Members
    -------
    p0_address, p1_address, ...
        The signals of each phase, with the names of the DFI specification. One burst is the data of
        all phases.
    """

    def __init__(self, part):
        super().__init__(
            {
                f"p{phase}_{name}": flow(width)
                for phase in range(PHASES)
                for name, (flow, width) in _phase_members(part).items()
            }
        )


class ControlSignature(wiring.Signature):
    """What software has to say to controller and PHY, as its registers see it.

    Members
    -------
    software : Out(1)
        Commands come from here, not from the controller.
    cke, odt, reset_n : Out(1)
        Pins of the chip while they do.
    issue : Out(1)
        A command in this cycle: `ras`, `cas`, `we`, `address`, `bank`.
    lanes : Out
        Byte lanes to which the following four pulses apply; their reading pauses.
    delay_reset, delay_step, slip_reset, slip_step : Out(1)
        Begin at 0, or go one further: with the delay of the read strobe's window; with the bits by
        which words are shifted.
    seen_clear : Out(1)
    seen : In
        Lanes of which a whole burst was seen since.
    ready : In(1)
        Clocks and delay lines of the PHY have settled.
    """

    def __init__(self, part):
        super().__init__(
            {
                "software": Out(1, init=1),
                "cke": Out(1),
                "odt": Out(1),
                "reset_n": Out(1),
                "issue": Out(1),
                "ras": Out(1),
                "cas": Out(1),
                "we": Out(1),
                "address": Out(part.row_bits),
                "bank": Out((part.banks - 1).bit_length()),
                "lanes": Out(part.lanes),
                "delay_reset": Out(1),
                "delay_step": Out(1),
                "slip_reset": Out(1),
                "slip_step": Out(1),
                "seen_clear": Out(1),
                "seen": In(part.lanes),
                "ready": In(1),
            }
        )


#: Members of `ControlSignature` that concern the controller, and those that concern the PHY.
_CORE_CONTROL = (
    "software", "issue", "cke", "odt", "reset_n", "ras", "cas", "we", "address", "bank",
)  # fmt: skip
_PHY_CONTROL = (
    "lanes", "delay_reset", "delay_step", "slip_reset", "slip_step", "seen_clear",
)  # fmt: skip


def axi_names(port):
    """Name the signals of LiteDRAM's AXI port ``axi_<channel>_<name>``; return them as a set."""
    ports = set()
    for channel in _CHANNELS:
        endpoint = getattr(port, channel)
        fields = (*endpoint.description.payload_layout, *endpoint.description.param_layout)
        for name in ("valid", "ready", "last", *(field[0] for field in fields)):
            if hasattr(endpoint, name):
                signal = getattr(endpoint, name)
                signal.name_override = f"axi_{channel}_{name}"
                ports.add(signal)
    return ports


def axi_instance(port):
    """Return what an `Instance` with the ports of `axi_names` takes for an AXI4 subordinate."""
    ports = {"i_axi_w_id": 0}
    for channel, (inputs, outputs) in _CHANNELS.items():
        for way, names in (("i", inputs), ("o", outputs)):
            for name in names:
                ports[f"{way}_axi_{channel}_{name}"] = getattr(port, channel + name)
    return ports | {f"i_axi_{channel}_{name}": 0 for channel in ("ar", "aw") for name in _UNUSED}


def dfi_instance(dfi):
    """Return what an `Instance` of a PHY takes for a DFI."""
    return {
        f"{'i' if member.flow is Out else 'o'}_dfi_{name}": getattr(dfi, name)
        for name, member in dfi.signature.members.items()
    }


def control_instance(control):
    """Return what an `Instance` of a PHY takes for a `ControlSignature`."""
    ports = {f"i_control_{name}": getattr(control, name) for name in _PHY_CONTROL}
    return ports | {"o_control_seen": control.seen}


def to_verilog(top, ports, name, overrides=None):
    """Return the Verilog of a Migen module without comments, in which LiteX puts the date."""
    from litex.gen.fhdl import verilog

    text = verilog.convert(top, ports, name=name, special_overrides=overrides or {}).main_source
    text = re.sub(r"^`timescale.*$|//.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n\s*\n+", "\n", text)


def _require():
    try:
        import litedram  # noqa: F401
        import litex  # noqa: F401
    except ImportError:
        raise FileNotFoundError(
            "the controller of DDR3 memory is missing; install it with: pip install "
            "litedram==2024.12 litex==2024.12"
        ) from None


def _pads(part):
    """The chip's pins, as LiteDRAM's PHY takes them."""
    import migen

    class Pads:
        pass

    pads = Pads()
    widths = {
        "clk_p": 1, "cke": 1, "odt": 1, "ras_n": 1, "cas_n": 1, "we_n": 1,
        "ba": (part.banks - 1).bit_length(), "a": part.row_bits, "dm": part.lanes,
        "dq": part.data_bits, "dqs_p": part.lanes,
    }  # fmt: skip
    for name, width in widths.items():
        setattr(pads, name, migen.Signal(width, name=f"pad_{name}"))
    return pads


def _phy(part, clock_hz):
    from litedram.phy import ECP5DDRPHY

    pads = _pads(part)
    return pads, ECP5DDRPHY(pads, sys_clk_freq=clock_hz)


def _module(part, clock_hz):
    """The chip as LiteDRAM describes one."""
    from litedram.modules import DDR3Module, _SpeedgradeTimings, _TechnologyTimings

    class Chip(DDR3Module):
        nbanks, nrows, ncols = part.banks, 1 << part.row_bits, 1 << part.column_bits
        technology_timings = _TechnologyTimings(
            tREFI=part.t_refi, tWTR=part.t_wtr, tCCD=(4, None), tRRD=part.t_rrd
        )
        speedgrade_timings = {
            "default": _SpeedgradeTimings(
                tRP=part.t_rp, tRCD=part.t_rcd, tWR=part.t_wr, tRFC=(None, part.t_rfc),
                tFAW=(None, part.t_faw), tRAS=part.t_ras,
            )
        }  # fmt: skip

    return Chip(clock_hz, f"1:{PHASES}")


def phy_settings(part, clock_hz):
    """Return LiteDRAM's ``PhySettings`` of its PHY for ECP5: latencies among others."""
    _require()
    return _phy(part, clock_hz)[1].settings


def mode_registers(part, clock_hz):
    """Return the values of the chip's mode registers 0 to 3 that LiteDRAM's PHY works with."""
    _require()
    from litedram.init import cmds, get_sdram_phy_init_sequence

    sequence, _ = get_sdram_phy_init_sequence(
        phy_settings(part, clock_hz), _module(part, clock_hz).timing_settings
    )
    values = {
        bank: address
        for _, address, bank, command, _ in sequence
        if command == cmds["MODE_REGISTER"]
    }
    return [values[bank] for bank in range(4)]


def _name_dfi(interface, part, prefix="dfi"):
    """Name the signals of a DFI; return those of `DfiSignature` as a set."""
    ports = set()
    for index, phase in enumerate(interface.phases):
        for name in _phase_members(part):
            signal = getattr(phase, name)
            signal.name_override = f"{prefix}_p{index}_{name}"
            ports.add(signal)
    return ports


def core_verilog(part, clock_hz, *, id_width=1, addr_width=32, postpone=8):
    """Return LiteDRAM's core with an AXI4 port as Verilog, module ``litedram_core``.

    Parameters
    ----------
    part : Ddr3Part
    clock_hz : int
        Of the system; the chip has `PHASES` times as much.
    id_width, addr_width : int
        Of the port; its beats have ``part.data_width`` bits.
    postpone : int
        Refreshes at once, up to 8.

    Raises
    ------
    FileNotFoundError
        Without LiteDRAM.
    """
    _require()
    import migen
    from litedram.core import LiteDRAMCore
    from litedram.core.controller import ControllerSettings
    from litedram.frontend.axi import LiteDRAMAXI2Native, LiteDRAMAXIPort
    from litedram.phy import dfi

    top = migen.Module()
    top.clock_domains.sys = clock = migen.ClockDomain("sys")
    clock.clk.name_override, clock.rst.name_override = "clk", "rst"
    chip = _module(part, clock_hz)

    class Phy:
        settings = phy_settings(part, clock_hz)

    Phy.dfi = dfi.Interface(
        part.row_bits, chip.geom_settings.bankbits, 1, Phy.settings.dfi_databits, PHASES
    )
    top.submodules.core = core = LiteDRAMCore(
        Phy, chip.geom_settings, chip.timing_settings, clock_hz,
        controller_settings=ControllerSettings(refresh_postponing=postpone),
    )  # fmt: skip
    width = part.data_width
    bus = LiteDRAMAXIPort(data_width=width, address_width=addr_width, id_width=id_width)
    top.submodules.front = LiteDRAMAXI2Native(bus, core.crossbar.get_port(data_width=width))

    ports = {clock.clk, clock.rst} | axi_names(bus) | _name_dfi(Phy.dfi, part)
    shapes = ControlSignature(part).members
    own = {name: migen.Signal(shapes[name].shape, name=f"control_{name}") for name in _CORE_CONTROL}
    injected = core.dfii.ext_dfi
    top.comb += core.dfii.ext_dfi_sel.eq(own["software"])
    for phase in injected.phases:
        top.comb += [getattr(phase, name).eq(own[name]) for name in ("cke", "odt", "reset_n")]
        top.comb += [getattr(phase, name).eq(1) for name in ("cs_n", "ras_n", "cas_n", "we_n")]
    first = injected.p0
    top.comb += [
        first.address.eq(own["address"]),
        first.bank.eq(own["bank"]),
        migen.If(
            own["issue"],
            first.cs_n.eq(0),
            *(getattr(first, f"{name}_n").eq(~own[name]) for name in ("ras", "cas", "we")),
        ),
    ]
    return to_verilog(top, ports | set(own.values()), "litedram_core")


def phy_verilog(part, clock_hz):
    """Return LiteDRAM's PHY for ECP5 as Verilog, module ``litedram_phy``.

    Clocks: ``clk``, ``clk2x`` (on an edge clock) and ``init_clk``; ``rst`` and ``init_rst`` are
    theirs. ``stop`` and ``reset`` hold edge clock and its divider while delay lines settle, until
    ``settling`` has gone up and down. Pins are ``pad_*``.

    Parameters
    ----------
    part : Ddr3Part
    clock_hz : int

    Raises
    ------
    FileNotFoundError
        Without LiteDRAM.
    """
    _require()
    import migen
    from litex.build.lattice.common import lattice_ecp5_special_overrides

    top = migen.Module()
    for name, prefix in (("sys", ""), ("init", "init_")):
        domain = migen.ClockDomain(name)
        domain.clk.name_override, domain.rst.name_override = prefix + "clk", prefix + "rst"
        setattr(top.clock_domains, name, domain)
    top.clock_domains.sys2x = double = migen.ClockDomain("sys2x", reset_less=True)
    double.clk.name_override = "clk2x"
    pads, phy = _phy(part, clock_hz)
    top.submodules.phy = phy
    ports = {top.sys.clk, top.sys.rst, top.init.clk, top.init.rst, double.clk}
    ports |= _name_dfi(phy.dfi, part) | set(vars(pads).values())
    wires = {
        "control_lanes": phy._dly_sel.storage,
        "control_delay_reset": phy._rdly_dq_rst.re,
        "control_delay_step": phy._rdly_dq_inc.re,
        "control_slip_reset": phy._rdly_dq_bitslip_rst.re,
        "control_slip_step": phy._rdly_dq_bitslip.re,
        "control_seen_clear": phy._burstdet_clr.re,
        "control_seen": phy._burstdet_seen.status,
        "stop": phy.init.stop,
        "reset": phy.init.reset,
        "settling": phy.init.pause,
    }
    for name, signal in wires.items():
        signal.name_override = name
    return to_verilog(
        top, ports | set(wires.values()), "litedram_phy", lattice_ecp5_special_overrides
    )


class Ddr3Controller(wiring.Component):
    """LiteDRAM's core.

    Parameters
    ----------
    part : Ddr3Part
    clock_hz : int
    addr_width, id_width : int
        Of the AXI4 port.
    postpone : int
        Refreshes at once, up to 8.

    Members
    -------
    axi : In(axi.Signature)
        Memory port. Answers are always OKAY; addresses beyond the chip wrap.
    dfi : Out(DfiSignature)
    control : In(ControlSignature)
        The part of it that concerns the controller.
    read_word, write_word : Out(1)
        Data of the chip move in this cycle.
    refreshing : Out(1)
        From the command that closes all rows for refreshes to the first data after them.
    initialised : Out(1)
        Commands come from the controller.
    """

    def __init__(self, part, clock_hz, *, addr_width=32, id_width=1, postpone=8):
        self.part, self.clock_hz = part, clock_hz
        signature = axi.Signature(
            addr_width=addr_width, data_width=part.data_width, id_width=id_width
        )
        self._options = {"addr_width": addr_width, "id_width": id_width, "postpone": postpone}
        super().__init__(
            {
                "axi": In(signature),
                "dfi": Out(DfiSignature(part)),
                "control": In(ControlSignature(part)),
                "read_word": Out(1),
                "write_word": Out(1),
                "refreshing": Out(1),
                "initialised": Out(1),
            }
        )

    def verilog(self):
        """Return the text of the modules that the netlist refers to, by file name."""
        return {"litedram_core.v": core_verilog(self.part, self.clock_hz, **self._options)}

    def elaborate(self, platform):
        m = Module()
        dfi, control = self.dfi, self.control
        ports = axi_instance(self.axi)
        for name, member in dfi.signature.members.items():
            ports[f"{'o' if member.flow is Out else 'i'}_dfi_{name}"] = getattr(dfi, name)
        ports |= {f"i_control_{name}": getattr(control, name) for name in _CORE_CONTROL}
        m.submodules.core = Instance(
            "litedram_core", i_clk=ClockSignal(), i_rst=ResetSignal(allow_reset_less=True), **ports
        )
        if platform is not None and hasattr(platform, "add_file"):
            for name, text in self.verilog().items():
                platform.add_file(name, text)

        # A burst takes two clocks of the system.
        for name, start in (
            ("read_word", dfi.p0_rddata_valid),
            ("write_word", dfi.p0_wrdata_en | dfi.p1_wrdata_en),
        ):
            second = Signal(name=f"{name}_second")
            m.d.sync += second.eq(start)
            m.d.comb += getattr(self, name).eq(start | second)
        closes, refreshes = Signal(), Signal()
        for phase in range(PHASES):
            command = {
                name: ~getattr(dfi, f"p{phase}_{name}_n") for name in ("cs", "ras", "cas", "we")
            }
            row = command["cs"] & command["ras"]
            with m.If(row & ~command["cas"] & command["we"]):
                m.d.comb += closes.eq(getattr(dfi, f"p{phase}_address")[10])
            with m.If(row & command["cas"] & ~command["we"]):
                m.d.comb += refreshes.eq(1)
        state = Signal(2)
        word = self.read_word | self.write_word
        with m.If(refreshes):
            m.d.sync += state.eq(2)
        with m.Elif(closes):
            m.d.sync += state.eq(1)
        with m.Elif((state == 2) & word):
            m.d.sync += state.eq(0)
        m.d.comb += [
            self.refreshing.eq((state != 0) & ~word),
            self.initialised.eq(~control.software),
        ]
        return m
