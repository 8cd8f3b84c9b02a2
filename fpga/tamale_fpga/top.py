"""A whole board: clocks, system, memory controller, pins."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import io, wiring
from tamale.gateware.sdram import PARTS
from tamale.soc.system import build_memory

from .clocks import Ecp5Clocks
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

        oscillator = ports(platform.default_clk)
        m.submodules.clocks = Ecp5Clocks(
            oscillator, int(platform.default_clk_frequency), config.clock_hz, config.cpu_clock_hz
        )
        m.submodules.soc = soc
        m.submodules.memory = controller = build_memory(config, soc)
        m.submodules.pads = pads = SdramPads(PARTS[config.sdram_part], ports("sdram"))
        wiring.connect(m, soc.axi, controller.axi)
        wiring.connect(m, controller.pins, pads.pins)

        uart = ports("uart")
        m.submodules.uart_tx = transmit = io.Buffer("o", uart.tx)
        m.submodules.uart_rx = receive = io.Buffer("i", uart.rx)
        m.d.comb += [transmit.o.eq(soc.uart_tx), soc.uart_rx.eq(receive.i)]

        heart = Signal(26)
        moved = Signal()
        m.d.sync += [heart.eq(heart + 1), moved.eq(controller.read_word | controller.write_word)]
        for number, value in enumerate((heart[-1], controller.initialised, moved, soc.halted)):
            m.submodules[f"led{number}"] = led = io.Buffer("o", ports("led", number))
            m.d.comb += led.o.eq(value)
        return m
