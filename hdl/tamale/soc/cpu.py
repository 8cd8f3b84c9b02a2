"""Processors: one signature, a registry by name, VexRiscv as the default.

``vexriscv`` (standard) is the default: for a fifth more logic than ``vexriscv-lite`` (3,647 against
3,027 LUT4 on ECP5) it runs CoreMark 2.3 times as fast per megahertz, thanks to its data cache and
barrel shifter, and tokeniser and sampling are the code that a user waits for.

Caches are write-through and know nothing of other bus managers. Addresses from 0x8000_0000 are
never cached, in every variant (``isIoAccess`` is address bit 31), so the DRAM is mapped twice; see
`tamale.soc.soc`.
"""

import dataclasses
from pathlib import Path

from amaranth import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import wishbone

__all__ = ["CPUS", "Signature", "Toolchain", "VexRiscv", "create"]


class Signature(wiring.Signature):
    """What a processor shows to the system.

    Members
    -------
    instruction_bus, data_bus : ``Out(wishbone.initiator())``
        Byte order is little-endian; a cache refill is an incrementing burst of one line. An access
        that ends with ``err`` is over; whether it is an exception depends on the processor (it is
        not on VexRiscv), so software learns of it by an interrupt, see `SystemControl`.
    interrupts : In(32)
        Levels; software masks each line.
    reset_vector : In(32)
        Address of the first instruction.
    reset : In(1)
        Resets the processor alone, besides the reset of its clock domain.
    """

    def __init__(self):
        super().__init__(
            {
                "instruction_bus": Out(wishbone.initiator()),
                "data_bus": Out(wishbone.initiator()),
                "interrupts": In(32),
                "reset_vector": In(32),
                "reset": In(1),
            }
        )


@dataclasses.dataclass(frozen=True)
class Toolchain:
    """What a firmware build needs to know of a processor.

    Attributes
    ----------
    march : str
        Instruction set for GCC and the documents, ``rv32im`` for example.
    mcpu : str
        The same for ``zig cc -mcpu=``.
    mabi : str
        Calling convention.
    defines : dict of str to int
        C constants: numbers of the control registers for interrupts, cache sizes in bytes.
    """

    march: str
    mcpu: str
    mabi: str
    defines: dict


@dataclasses.dataclass(frozen=True)
class _Variant:
    file: str
    extensions: str
    instruction_cache: int
    data_cache: int


class VexRiscv(wiring.Component):
    """VexRiscv, from the Verilog in the package ``pythondata-cpu-vexriscv``.

    ========  =======  =================  ==========
    variant   ISA      instruction cache  data cache
    ========  =======  =================  ==========
    min       RV32I    none               none
    lite      RV32IM   2 KiB              none
    standard  RV32IM   4 KiB              4 KiB
    full      RV32IM   4 KiB              4 KiB
    ========  =======  =================  ==========

    Full has more control registers than standard: cycle counters, identification, and those that
    standard lets software only write can be read back.

    Parameters
    ----------
    variant : str
        One of the table.

    Raises
    ------
    ValueError
        If there is no such variant.

    Source: SpinalHDL VexRiscv, ``GenCoreDefault`` with the arguments in that package's Makefile.
    """

    VARIANTS = {
        "min": _Variant("VexRiscv_Min.v", "", 0, 0),
        "lite": _Variant("VexRiscv_Lite.v", "m", 2048, 0),
        "standard": _Variant("VexRiscv.v", "m", 4096, 4096),
        "full": _Variant("VexRiscv_Full.v", "m", 4096, 4096),
    }

    def __init__(self, variant="standard"):
        if variant not in self.VARIANTS:
            raise ValueError(
                f"VexRiscv variant must be one of {', '.join(self.VARIANTS)}, not {variant!r}"
            )
        self._variant = self.VARIANTS[variant]
        super().__init__(Signature())

    @property
    def toolchain(self):
        """What a firmware build needs, a `Toolchain`."""
        extensions = self._variant.extensions
        return Toolchain(
            march=f"rv32i{extensions}_zicsr_zifencei",
            mcpu="generic_rv32" + "".join(f"+{letter}" for letter in extensions),
            mabi="ilp32",
            defines={
                # The core masks its 32 interrupt inputs by control registers of its own.
                "CPU_CSR_INTERRUPT_MASK": 0xBC0,
                "CPU_CSR_INTERRUPT_PENDING": 0xFC0,
                "CPU_INSTRUCTION_CACHE_BYTES": self._variant.instruction_cache,
                "CPU_DATA_CACHE_BYTES": self._variant.data_cache,
            },
        )

    def verilog_sources(self):
        """Give the paths of the Verilog files that the netlist refers to.

        Raises
        ------
        FileNotFoundError
            If the package that carries them is not installed.
        """
        try:
            import pythondata_cpu_vexriscv
        except ImportError:
            raise FileNotFoundError(
                "the Verilog of VexRiscv is missing; install pythondata-cpu-vexriscv"
            ) from None
        return [Path(pythondata_cpu_vexriscv.data_location) / self._variant.file]

    def elaborate(self, platform):
        m = Module()
        ports = {
            "i_clk": ClockSignal(),
            "i_reset": ResetSignal(allow_reset_less=True) | self.reset,
            "i_externalResetVector": self.reset_vector,
            "i_externalInterruptArray": self.interrupts,
            # Every interrupt of the system, the timer's too, takes a line of the array.
            "i_timerInterrupt": 0,
            "i_softwareInterrupt": 0,
        }
        for prefix, bus in (("iBus", self.instruction_bus), ("dBus", self.data_bus)):
            for direction, name, signal in (
                ("o", "CYC", bus.cyc),
                ("o", "STB", bus.stb),
                ("o", "WE", bus.we),
                ("o", "ADR", bus.adr),
                ("o", "DAT_MOSI", bus.dat_w),
                ("o", "SEL", bus.sel),
                ("o", "CTI", bus.cti),
                ("o", "BTE", bus.bte),
                # The core ignores ERR and would wait for ever; `SystemControl` tells software.
                ("i", "ACK", bus.ack | bus.err),
                ("i", "DAT_MISO", bus.dat_r),
                ("i", "ERR", bus.err),
            ):
                ports[f"{direction}_{prefix}Wishbone_{name}"] = signal
        m.submodules.core = Instance("VexRiscv", **ports)
        if platform is not None and hasattr(platform, "add_file"):
            for path in self.verilog_sources():
                platform.add_file(path.name, path.read_text())
        return m


#: Processors by name. A processor has the members of `Signature`, ``toolchain`` and
#: ``verilog_sources()``.
CPUS = {
    "vexriscv": VexRiscv,
    "vexriscv-min": lambda: VexRiscv("min"),
    "vexriscv-lite": lambda: VexRiscv("lite"),
    "vexriscv-full": lambda: VexRiscv("full"),
}


def create(name):
    """Make the processor called ``name``.

    Raises
    ------
    ValueError
        If there is none; the message lists those that there are.
    """
    if name not in CPUS:
        raise ValueError(f"no CPU is called {name!r}; known: {', '.join(sorted(CPUS))}")
    return CPUS[name]()
