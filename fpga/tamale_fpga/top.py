"""A whole board: clocks, system, memory controller, pins."""

from amaranth.hdl import Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.vendor import GowinPlatform
from tamale.gateware.sdram import PARTS
from tamale.soc.system import build_memory

from .clocks import Ecp5Clocks
from .ddr3 import Ddr3Memory
from .gowin_clocks import GowinClocks
from .pads import SdramPads

__all__ = ["BoardDesign"]


class BoardDesign(Elaboratable):
    """The top level for a platform.

    LEDs, from the first: heartbeat, memory ready, a beat of memory moves, the firmware has ended.

    Parameters
    ----------
    config : Config
    soc : Soc
        With its firmware.
    """

    def __init__(self, config, soc):
        self._config, self._soc = config, soc

    def elaborate(self, platform):
        m = Module()
        config, soc = self._config, self._soc

        def ports(resource, number=0):
            return platform.request(resource, number, dir="-")

        attach = {"sdram": self._sdram, "ddr3": self._ddr3}[config.memory]
        memory = attach(m, platform, ports(platform.default_clk), ports)

        uart = ports("uart")
        m.submodules.uart_tx = transmit = io.Buffer("o", uart.tx)
        m.submodules.uart_rx = receive = io.Buffer("i", uart.rx)
        m.d.comb += [transmit.o.eq(soc.uart_tx), soc.uart_rx.eq(receive.i)]

        if config.storage:
            self._storage(m, ports("spi_flash"), ports("sd_card_spi"))

        heart = Signal(26)
        moved = Signal()
        m.d.sync += [heart.eq(heart + 1), moved.eq(memory.read_word | memory.write_word)]
        for number, value in enumerate((heart[-1], memory.initialised, moved, soc.halted)):
            m.submodules[f"led{number}"] = led = io.Buffer("o", ports("led", number))
            m.d.comb += led.o.eq(value)
        return m

    def _sdram(self, m, platform, oscillator, ports):
        """Add clocks, the system, and its memory, which is returned."""
        config, soc = self._config, self._soc
        clocks = GowinClocks if isinstance(platform, GowinPlatform) else Ecp5Clocks
        m.submodules.clocks = clocks(
            oscillator, int(platform.default_clk_frequency), config.clock_hz, config.cpu_clock_hz
        )
        m.submodules.soc = soc
        m.submodules.memory = controller = build_memory(config, soc)
        m.submodules.pads = pads = SdramPads(PARTS[config.sdram_part], ports("sdram"))
        wiring.connect(m, soc.axi, controller.axi)
        wiring.connect(m, controller.pins, pads.pins)
        return controller

    def _ddr3(self, m, platform, oscillator, ports):
        """Do the same for DDR3, whose clocks are tied to its pads."""
        m.submodules.soc = soc = self._soc
        m.submodules.memory = memory = Ddr3Memory(
            self._config, soc, oscillator, int(platform.default_clk_frequency), ports("ddr3")
        )
        wiring.connect(m, soc.axi, memory.axi)
        wiring.connect(m, soc.memory_control, memory.control)
        return memory

    def _storage(self, m, flash, card):
        soc = self._soc
        # The configuration flash is on the pins that configured the device; its clock is no pin.
        m.submodules.flash_clock = Instance(
            "USRMCLK", i_USRMCLKI=soc.spi_flash_sck, i_USRMCLKTS=Const(0)
        )
        outputs = {
            "flash_cs": (flash.cs, ~soc.spi_flash_cs_n),
            "flash_copi": (flash.copi, soc.spi_flash_mosi),
            "flash_hold": (flash.hold, Const(0)),
            "flash_wp": (flash.wp, Const(0)),
            "card_clk": (card.clk, soc.sd_sck),
            "card_cs": (card.cs, ~soc.sd_cs_n),
            "card_copi": (card.copi, soc.sd_mosi),
        }
        # Level shifters between board and card, where there are some, take a direction.
        for name, value in (("outwards", 1), ("inwards", 0)):
            if hasattr(card, name):
                port = getattr(card, name)
                outputs[f"card_{name}"] = (port, Const(value).replicate(len(port)))
        for name, (port, value) in outputs.items():
            m.submodules[name] = pad = io.Buffer("o", port)
            m.d.comb += pad.o.eq(value)
        m.submodules.flash_cipo = pad = io.Buffer("i", flash.cipo)
        m.d.comb += soc.spi_flash_miso.eq(pad.i)
        m.submodules.card_cipo = pad = io.Buffer("i", card.cipo)
        m.d.comb += soc.sd_miso.eq(pad.i)
