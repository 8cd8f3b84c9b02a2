"""A system in which the core itself is the accelerator: firmware performs the commands, a small
engine sums rows of trits, and everything comes from the configuration flash.

=========== ==============================================================================
address     what is there
=========== ==============================================================================
0x0000_0000 RAM: firmware, scratchpad, key-value cache
0x1000_0000 boot ROM, which copies the firmware from the flash
0x8000_0000 the flash, read only
0xF000_0000 system control
0xF000_1000 UART
0xF000_2000 timer
0xF001_0000 engine
=========== ==============================================================================

The flash holds the bitstream, the firmware at `FIRMWARE_OFFSET`, and the memory image where the
configuration says.
"""

import struct
import zlib

from amaranth import Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from . import core_peripherals, wishbone
from . import cpu as cpus
from .core_peripherals import CorePeripherals
from .memory_map import Region, System
from .qspi import FLASH_BYTES, QspiFlash
from .spram import SPRAM_BYTES, Spram

__all__ = ["BOOT_BYTES", "FIRMWARE_MAGIC", "FIRMWARE_OFFSET", "CoreSoc", "flash_firmware"]

#: Behind the bitstream of an iCE40UP5K, which takes 104,090 bytes.
FIRMWARE_OFFSET = 0x20000

#: First word of the firmware in the flash: "TAFW".
FIRMWARE_MAGIC = 0x57464154

#: What two block RAMs hold.
BOOT_BYTES = 1024

RAM_BASE = 0x0000_0000
BOOT_BASE = 0x1000_0000
FLASH_BASE = 0x8000_0000
SYSTEM_BASE = 0xF000_0000
UART_BASE = 0xF000_1000
TIMER_BASE = 0xF000_2000
ENGINE_BASE = 0xF001_0000


class _Rom(wiring.Component):
    """Words that are only read; every access ends a cycle after it began."""

    def __init__(self, size):
        self._size = size
        self.words = []
        super().__init__({"bus": In(wishbone.target(size))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory = store = memory.Memory(
            shape=32, depth=self._size // 4, init=self.words
        )
        port = store.read_port()
        m.d.comb += [port.addr.eq(self.bus.adr), self.bus.dat_r.eq(port.data)]
        m.d.sync += self.bus.ack.eq(self.bus.cyc & self.bus.stb & ~self.bus.ack)
        return m


def flash_firmware(image):
    """Return what the flash holds at `FIRMWARE_OFFSET`: magic, bytes, CRC-32, then the firmware."""
    image = bytes(image) + bytes(-len(image) % 4)
    return struct.pack("<3I", FIRMWARE_MAGIC, len(image), zlib.crc32(image)) + image


class CoreSoc(wiring.Component):
    """CPU, RAM, flash reader, engine, serial port.

    Parameters
    ----------
    clock_hz : int
        Frequency of the clock domain ``sync``.
    cpu : str
        A key of `cpu.CPUS`.
    uart_baud : int
        Bits per second.
    engine : TernaryEngine
    name : str
        Name of the configuration in generated files.
    constants : dict of str to int or str
        More constants for the generated files.
    headers : dict of str to str
        Further C headers that the firmware includes, by their names.

    Members
    -------
    uart_tx, uart_rx : Out(1), In(1)
        Serial port.
    flash_sck, flash_pulse, flash_cs, flash_data_o, flash_data_oe, flash_data_i
        Pins of the flash, see `QspiFlash`; registers in the pads follow.
    flash_busy : Out(1)
        The flash is selected.
    halted, exit_code : Out(1), Out(32)
        What the firmware reports at its end.
    """

    def __init__(self, *, clock_hz, cpu, uart_baud, engine, name, constants=None, headers=None):
        self._cpu = cpus.create(cpu)
        self._ram = Spram()
        self._boot = _Rom(BOOT_BYTES)
        self._flash = QspiFlash()
        self._peripherals = CorePeripherals((clock_hz + uart_baud // 2) // uart_baud)
        self._engine = engine
        self.headers = dict(headers or {})
        self._firmware = None
        regions = [
            Region("ram", RAM_BASE, SPRAM_BYTES, "On-chip memory.", cached=True, executable=True),
            Region(
                "boot", BOOT_BASE, BOOT_BYTES, "Program that starts the firmware.", executable=True
            ),
            Region("flash", FLASH_BASE, FLASH_BYTES, "The configuration flash, read only."),
        ]
        for block, base in (
            (core_peripherals.SYSTEM, SYSTEM_BASE),
            (core_peripherals.UART, UART_BASE),
            (core_peripherals.TIMER, TIMER_BASE),
            (engine.block, ENGINE_BASE),
        ):
            regions.append(Region(block.name, base, block.size, block.doc, block=block))
        self._system = System(
            name=name,
            regions=regions,
            constants={
                "CLOCK_HZ": clock_hz,
                "CPU_CLOCK_HZ": clock_hz,
                "UART_BAUD": uart_baud,
                "FIRMWARE_OFFSET": FIRMWARE_OFFSET,
                "FIRMWARE_MAGIC": FIRMWARE_MAGIC,
                **self._cpu.toolchain.defines,
                **(constants or {}),
            },
        )
        super().__init__(
            {
                "uart_tx": Out(1, init=1),
                "uart_rx": In(1, init=1),
                "flash_sck": Out(1),
                "flash_pulse": Out(1),
                "flash_cs": Out(1),
                "flash_data_o": Out(4),
                "flash_data_oe": Out(4),
                "flash_data_i": In(4),
                "flash_busy": Out(1),
                "halted": Out(1),
                "exit_code": Out(32),
            }
        )

    @property
    def system(self):
        """What programs see, a `System`, for `tamale.generate`."""
        return self._system

    @property
    def toolchain(self):
        """What a firmware build needs to know of the CPU, a `cpu.Toolchain`."""
        return self._cpu.toolchain

    @property
    def engine(self):
        """The `TernaryEngine`."""
        return self._engine

    @property
    def firmware(self):
        """What the flash holds at `FIRMWARE_OFFSET`, after `load_firmware`."""
        return self._firmware

    def load_boot(self, image):
        """Place the boot program into its ROM; possible until the design is elaborated.

        Raises
        ------
        ValueError
            If it is larger than the ROM.
        """
        if len(image) > BOOT_BYTES:
            raise ValueError(f"a boot program of {len(image)} bytes, the ROM has {BOOT_BYTES}")
        image = bytes(image) + bytes(-len(image) % 4)
        self._boot.words = [word for (word,) in struct.iter_unpack("<I", image)]

    def load_firmware(self, image):
        """Keep the firmware's image as the flash has it."""
        self._firmware = flash_firmware(image)

    def verilog_sources(self):
        """Give the paths of the Verilog files that the netlist refers to."""
        return self._cpu.verilog_sources()

    def elaborate(self, platform):
        m = Module()
        cpu, flash, engine, peripherals = self._cpu, self._flash, self._engine, self._peripherals
        m.submodules.cpu = cpu
        m.submodules.ram = self._ram
        m.submodules.boot = self._boot
        m.submodules.flash = flash
        m.submodules.engine = engine
        m.submodules.peripherals = peripherals
        self._bus(m)
        m.d.comb += [
            cpu.reset_vector.eq(BOOT_BASE),
            self.uart_tx.eq(peripherals.tx),
            peripherals.rx.eq(self.uart_rx),
            self.halted.eq(peripherals.halted),
            self.exit_code.eq(peripherals.exit_code),
            flash.start.eq(engine.start),
            flash.address.eq(engine.address),
            flash.want.eq(engine.want),
            engine.issued.eq(flash.issued),
            engine.byte.eq(flash.byte),
            engine.valid.eq(flash.valid),
            flash.manual.eq(engine.pins[0]),
            flash.manual_cs.eq(engine.pins[1]),
            flash.manual_sck.eq(engine.pins[2]),
            flash.manual_data.eq(engine.pins[3]),
            self.flash_sck.eq(flash.sck),
            self.flash_pulse.eq(flash.pulse),
            self.flash_cs.eq(flash.cs),
            self.flash_data_o.eq(flash.data_o),
            self.flash_data_oe.eq(flash.data_oe),
            flash.data_i.eq(self.flash_data_i),
            self.flash_busy.eq(flash.cs),
        ]
        return m

    def _bus(self, m):
        """Connect the CPU's two buses to what is there.

        Data go first; an access or burst of instructions under way is finished. Addresses are
        looked at as far as they tell the targets apart, so that every access ends.
        """
        data, code = self._cpu.data_bus, self._cpu.instruction_bus
        code_holds, code_has, ack = Signal(), Signal(), Signal()
        address, read = Signal(30), Signal(32)
        more = code.cti == wishbone.CycleType.INCR_BURST
        m.d.comb += [
            code_has.eq(code_holds | ~data.cyc),
            address.eq(Mux(code_has, code.adr, data.adr)),
            code.ack.eq(ack & code_has),
            data.ack.eq(ack & ~code_has),
            code.dat_r.eq(read),
            data.dat_r.eq(read),
        ]
        m.d.sync += code_holds.eq(code_has & code.cyc & ~(ack & ~more))
        area, engine = address[26:], address[14]
        for bus, here in (
            (self._ram.bus, area == RAM_BASE >> 28),
            (self._boot.bus, area == BOOT_BASE >> 28),
            (self._flash.bus, area == FLASH_BASE >> 28),
            (self._engine.bus, (area == ENGINE_BASE >> 28) & engine),
            (self._peripherals.bus, (area == SYSTEM_BASE >> 28) & ~engine),
        ):
            m.d.comb += [
                bus.adr.eq(address),
                bus.dat_w.eq(data.dat_w),
                bus.sel.eq(data.sel),
                bus.we.eq(data.we & ~code_has),
                bus.cti.eq(Mux(code_has, code.cti, 0)),
                bus.cyc.eq(here & Mux(code_has, code.cyc, data.cyc)),
                bus.stb.eq(Mux(code_has, code.stb, data.stb)),
            ]
            with m.If(here):
                m.d.comb += [ack.eq(bus.ack), read.eq(bus.dat_r)]
