"""The system on chip: CPU, on-chip memory, peripherals, accelerator slot, one memory port.

Memory map:

=========== ==============================================================================
address     what is there
=========== ==============================================================================
0x0000_0000 on-chip memory with the firmware (cached)
0x4000_0000 DRAM through the CPU's caches
0x8000_0000 the same DRAM past the caches: for whatever the accelerator writes
0xF000_0000 system control
0xF000_1000 UART
0xF000_2000 timer
0xF000_3000 SPI host for the configuration flash and an SD card, where there is storage
0xF000_4000 set-up of the memory, where software has to do it
0xF001_0000 accelerator: registers and windows, 64 KiB; or the engine of a core that is one itself
=========== ==============================================================================

VexRiscv treats every address from 0x8000_0000 as input and output and never caches it. The data
cache writes through, so the accelerator sees what the CPU wrote by either way; a line that the CPU
has read at 0x4000_0000 goes stale when the accelerator writes there, so read at 0x8000_0000, or
flush. An access outside the map, or one that the memory answers with an error, ends, reads as
zero (or as what the memory gave), is recorded by the system control block and raises an interrupt.

On the memory port, addresses count from the start of the DRAM: address 0 is the CPU's 0x4000_0000.

Accelerator and memory port run on the clock of domain ``sync``. CPU, on-chip memory and peripherals
run on the same, or on one of their own (domain ``cpu``), for a soft core is slower than a pipeline.
"""

from amaranth import Cat, DomainRenamer, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from . import cpu as cpus
from . import wishbone
from .axi_bridge import AxiBridge
from .axi_mux import AxiMux
from .crossing import AxiCrossing, WishboneCrossing
from .memory_map import Region, System
from .ram import Ram
from .spi import Spi
from .system_control import SystemControl
from .timer import Timer
from .uart import Uart

__all__ = ["INTERRUPTS", "Soc"]

RAM_BASE = 0x0000_0000
DRAM_CACHED_BASE = 0x4000_0000
DRAM_UNCACHED_BASE = 0x8000_0000
DRAM_LIMIT = 0x4000_0000
SYSTEM_BASE = 0xF000_0000
UART_BASE = 0xF000_1000
TIMER_BASE = 0xF000_2000
SPI_BASE = 0xF000_3000
MEMORY_CONTROL_BASE = 0xF000_4000
ACCELERATOR_BASE = 0xF001_0000
ACCELERATOR_LIMIT = 0x1_0000

#: Prefixes of the ports of the SPI host's devices.
STORAGE = {"flash": "spi_flash", "card": "sd"}

#: Lines of the CPU's interrupt input.
INTERRUPTS = {"uart": 0, "timer": 1, "accelerator": 2, "system": 3}


class Soc(wiring.Component):
    """A CPU system with one memory port and, beside the CPU on that port, an accelerator.

    Parameters
    ----------
    clock_hz : int
        Frequency of the clock domain ``sync``.
    cpu_clock_hz : int or None
        Frequency of the clock domain ``cpu``; None if there is none and the CPU runs on ``sync``.
    ram_bytes : int
        On-chip memory, a multiple of 4, up to 1 GiB.
    dram_bytes : int
        DRAM behind the memory port, a power of two up to 1 GiB.
    cpu : str
        A key of `cpu.CPUS`.
    uart_baud : int
        Bits per second.
    accelerator : component or None
        ``bus``: a Wishbone target of up to 64 KiB; ``axi``: an AXI4 manager with 32-bit addresses;
        ``irq``: one bit; ``block``: its `Block` of registers, for the generated files.
    engine : TernaryEngine or None
        In the accelerator's place, where the core itself performs the commands.
    data_width : int or None
        Bits of a beat on the memory port; None takes the accelerator's, or 32.
    storage : bool
        Whether there is an SPI host for the configuration flash and an SD card.
    memory_control : component or None
        What software sets the memory up with, on the memory's clock. ``bus``: a Wishbone target;
        ``block``: its `Block` of registers; ``control``: an output, of any signature.
    name : str
        Name of the configuration in generated files.
    constants : dict of str to int or str
        More constants for the generated files.
    headers : dict of str to str
        Further C headers that the firmware includes, by their names.

    Members
    -------
    uart_tx : Out(1)
    uart_rx : In(1)
        Serial port.
    spi_flash_sck, spi_flash_cs_n, spi_flash_mosi : Out(1)
    spi_flash_miso : In(1)
    sd_sck, sd_cs_n, sd_mosi : Out(1)
    sd_miso : In(1)
        With ``storage``: configuration flash and SD card, see `Spi`. The other data pins of both
        are held high outside, as is ``miso`` of a device that is not there.
    memory_control : Out
        With ``memory_control``: its ``control``.
    axi : ``Out(axi.Signature(addr_width=32, data_width=data_width, ...))``
        Memory port. The accelerator's transactions go before the CPU's.
    halted : Out(1)
    exit_code : Out(32)
        What the firmware reports at its end; on the CPU's clock.

    Raises
    ------
    ValueError
        If a size does not fit the memory map or the accelerator's ports do not fit the system.
    """

    def __init__(
        self,
        *,
        clock_hz,
        cpu_clock_hz=None,
        ram_bytes=65536,
        dram_bytes=1 << 25,
        cpu="vexriscv",
        uart_baud=1_000_000,
        accelerator=None,
        engine=None,
        data_width=None,
        storage=False,
        memory_control=None,
        name="default",
        constants=None,
        headers=None,
    ):
        if (
            not isinstance(dram_bytes, int)
            or not 4096 <= dram_bytes <= DRAM_LIMIT
            or (dram_bytes & (dram_bytes - 1))
        ):
            raise ValueError(
                f"DRAM size must be a power of two from 4 KiB to 1 GiB, not {dram_bytes!r} bytes"
            )
        if accelerator is not None:
            beat = accelerator.axi.signature.data_width
            if data_width not in (None, beat):
                raise ValueError(
                    f"memory port of {data_width} bits cannot take an accelerator of {beat}; give "
                    "data_width=None"
                )
            data_width = beat
            size = 4 << accelerator.bus.addr_width
            if size > ACCELERATOR_LIMIT:
                raise ValueError(
                    f"the accelerator's window of {size:#x} bytes is larger than its place of "
                    f"{ACCELERATOR_LIMIT:#x}; reach large tables through an index register"
                )
        if accelerator is not None and engine is not None:
            raise ValueError("accelerator and engine have one place; give one of them")
        if uart_baud <= 0:
            raise ValueError(f"baud rate must be positive, not {uart_baud!r}")
        self._accelerator, self._engine = accelerator, engine
        self.headers = dict(headers or {})
        self._domain = "sync" if cpu_clock_hz is None else "cpu"
        cpu_clock_hz = cpu_clock_hz or clock_hz
        self._cpu = cpus.create(cpu)
        self._ram = Ram(ram_bytes)
        self._uart = Uart((cpu_clock_hz + uart_baud // 2) // uart_baud)
        self._timer = Timer()
        self._spi = Spi(tuple(STORAGE)) if storage else None
        self._memory_control = memory_control
        self._system_control = SystemControl(cpu_clock_hz)
        self._bridge = AxiBridge(dram_bytes, data_width or 32)
        managers, priorities = [self._bridge.axi.signature], [0]
        if accelerator is not None:
            managers.append(accelerator.axi.signature)
            priorities.append(1)
        self._mux = AxiMux(managers, priorities=priorities)

        # What is where: the decoder and the generated files both follow this list.
        self._places = [
            (
                self._ram.bus,
                Region(
                    "ram",
                    RAM_BASE,
                    ram_bytes,
                    "On-chip memory with the firmware.",
                    cached=True,
                    executable=True,
                ),
            ),
            (
                self._bridge.bus,
                Region(
                    "dram",
                    DRAM_CACHED_BASE,
                    dram_bytes,
                    "DRAM through the CPU's caches.",
                    cached=True,
                    executable=True,
                ),
            ),
            (
                self._bridge.bus,
                Region(
                    "dram_uncached",
                    DRAM_UNCACHED_BASE,
                    dram_bytes,
                    "The same DRAM past the caches, for data that the accelerator writes.",
                ),
            ),
        ]
        for component, region, base in (
            (self._system_control, "system", SYSTEM_BASE),
            (self._uart, "uart", UART_BASE),
            (self._timer, "timer", TIMER_BASE),
            (self._spi, "spi", SPI_BASE),
            (memory_control, memory_control and memory_control.block.name, MEMORY_CONTROL_BASE),
            (accelerator, "accelerator", ACCELERATOR_BASE),
            (engine, "engine", ACCELERATOR_BASE),
        ):
            block = getattr(component, "block", None)
            if component is None:
                continue
            size = 4 << component.bus.addr_width
            doc = block.doc if block else "A peripheral that does not describe its registers."
            self._places.append((component.bus, Region(region, base, size, doc, block=block)))
        self._system = System(
            name=name,
            regions=[region for _, region in self._places],
            interrupts={
                source: line
                for source, line in INTERRUPTS.items()
                if source != "accelerator" or accelerator is not None
            },
            constants={
                "CLOCK_HZ": clock_hz,
                "CPU_CLOCK_HZ": cpu_clock_hz,
                "UART_BAUD": uart_baud,
                **self._cpu.toolchain.defines,
                **(constants or {}),
            },
        )
        ports = {
            "uart_tx": Out(1, init=1),
            "uart_rx": In(1, init=1),
            "axi": Out(self._mux.memory.signature),
            "halted": Out(1),
            "exit_code": Out(32),
        }
        if storage:
            for prefix in STORAGE.values():
                ports |= {
                    f"{prefix}_sck": Out(1),
                    f"{prefix}_cs_n": Out(1, init=1),
                    f"{prefix}_mosi": Out(1, init=1),
                    f"{prefix}_miso": In(1, init=1),
                }
        if memory_control is not None:
            ports["memory_control"] = Out(memory_control.control.signature)
        super().__init__(ports)

    @property
    def system(self):
        """What programs see, a `System`, for `tamale.generate`."""
        return self._system

    @property
    def toolchain(self):
        """What a firmware build needs to know of the CPU, a `cpu.Toolchain`."""
        return self._cpu.toolchain

    @property
    def accelerator(self):
        """The component in the accelerator's slot, or None."""
        return self._accelerator

    @property
    def engine(self):
        """The `TernaryEngine` in the same place, or None."""
        return self._engine

    def load_firmware(self, image):
        """Place an image into the on-chip memory; possible until the design is elaborated.

        The generated header and linker script, which the firmware is built with, come from the same
        object before.

        Raises
        ------
        ValueError
            If the image does not fit.
        """
        self._ram.load(image)

    def verilog_sources(self):
        """Give the paths of the Verilog files that the netlist refers to."""
        return self._cpu.verilog_sources()

    def elaborate(self, platform):
        m = Module()
        on_cpu_clock = DomainRenamer(self._domain)
        cpu, ram, uart, timer = self._cpu, self._ram, self._uart, self._timer
        control, bridge = self._system_control, self._bridge
        arbiter, decoder = wishbone.Arbiter(), wishbone.Decoder()
        m.submodules.cpu = on_cpu_clock(cpu)
        m.submodules.ram = on_cpu_clock(ram)
        m.submodules.uart = on_cpu_clock(uart)
        m.submodules.timer = on_cpu_clock(timer)
        m.submodules.system_control = on_cpu_clock(control)
        m.submodules.bridge = on_cpu_clock(bridge)
        m.submodules.arbiter = on_cpu_clock(arbiter)
        m.submodules.decoder = on_cpu_clock(decoder)
        m.submodules.mux = mux = self._mux

        arbiter.add(cpu.data_bus)
        arbiter.add(cpu.instruction_bus)
        wiring.connect(m, arbiter.bus, decoder.bus)
        accelerator = self._accelerator
        on_sync = [c for c in (accelerator, self._engine, self._memory_control) if c is not None]
        for bus, region in self._places:
            if self._domain != "sync" and any(bus is component.bus for component in on_sync):
                crossing = WishboneCrossing(bus.signature.flip(), self._domain)
                m.submodules[f"{region.name}_crossing"] = crossing
                wiring.connect(m, crossing.target, bus)
                bus = crossing.bus
            size = 1 << (region.size - 1).bit_length()
            decoder.add(bus, base=region.base, size=size, name=region.name)

        memory_port = bridge.axi
        if self._domain != "sync":
            m.submodules.memory_crossing = crossing = AxiCrossing(
                bridge.axi.signature, self._domain
            )
            wiring.connect(m, bridge.axi, crossing.manager)
            memory_port = crossing.subordinate
        wiring.connect(m, memory_port, mux.managers[0])
        wiring.connect(m, mux.memory, wiring.flipped(self.axi))
        cpu_reset = control.cpu_reset
        if self._domain == "sync":
            # The domain may lack a reset, for registers have initial values; those of the core not.
            started = Signal(2)
            m.d.sync += started.eq(Cat(1, started))
            cpu_reset = cpu_reset | ~started[1]
        m.d.comb += [
            cpu.reset_vector.eq(RAM_BASE),
            cpu.reset.eq(cpu_reset),
            cpu.interrupts[INTERRUPTS["uart"]].eq(uart.irq),
            cpu.interrupts[INTERRUPTS["timer"]].eq(timer.irq),
            cpu.interrupts[INTERRUPTS["system"]].eq(control.irq),
            control.bus_error.eq(arbiter.bus.cyc & arbiter.bus.stb & arbiter.bus.err),
            control.bus_error_address.eq(arbiter.bus.adr << 2),
            control.bus_error_write.eq(arbiter.bus.we),
            self.uart_tx.eq(uart.tx),
            uart.rx.eq(self.uart_rx),
            self.halted.eq(control.halted),
            self.exit_code.eq(control.exit_code),
        ]
        if self._spi is not None:
            spi = self._spi
            m.submodules.spi = on_cpu_clock(spi)
            for i, prefix in enumerate(STORAGE.values()):
                m.d.comb += [
                    getattr(self, f"{prefix}_sck").eq(spi.sck[i]),
                    getattr(self, f"{prefix}_cs_n").eq(spi.cs_n[i]),
                    getattr(self, f"{prefix}_mosi").eq(spi.mosi[i]),
                    spi.miso[i].eq(getattr(self, f"{prefix}_miso")),
                ]
        if self._memory_control is not None:
            m.submodules.memory_control = self._memory_control
            wiring.connect(m, self._memory_control.control, wiring.flipped(self.memory_control))
        if self._engine is not None:
            m.submodules.engine = self._engine
        if accelerator is not None:
            m.submodules.accelerator = accelerator
            wiring.connect(m, accelerator.axi, mux.managers[1])
            line = cpu.interrupts[INTERRUPTS["accelerator"]]
            if self._domain == "sync":
                m.d.comb += line.eq(accelerator.irq)
            else:
                m.submodules.irq = FFSynchronizer(accelerator.irq, line, o_domain=self._domain)
        return m
