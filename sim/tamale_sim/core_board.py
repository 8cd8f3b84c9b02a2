"""Top level of a simulated board whose core performs the commands, with its flash."""

from amaranth.hdl import ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from tamale.soc.core_soc import FIRMWARE_OFFSET
from tamale.soc.soc import STORAGE

from .board_ports import board_ports
from .runner import MODELS

__all__ = ["CoreBoardTop"]


class CoreBoardTop(wiring.Component):
    """Top level with the ports of `board.BoardTop`; what there is none of, rests.

    Parameters
    ----------
    config : Config
    soc : CoreSoc
        With its firmware.

    Members
    -------
    uart_tx, uart_rx, halted, exit_code, logit_valid, logit_vector, logit_row, logit_value
        As in `board.BoardTop`; logits as the firmware shows them.
    violation : Out(8)
        First rule of the flash that was broken, 0 for none (see ``qspi_flash.v``).
    memory_beat : Out(1)
        The flash is read.
    """

    def __init__(self, config, soc):
        self._config, self._soc = config, soc
        super().__init__(board_ports())

    def sources(self, directory):
        """Return the paths of all Verilog that it refers to; what is generated goes there."""
        del directory
        return [*self._soc.verilog_sources(), MODELS / "qspi_flash.v"]

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.soc = soc = self._soc
        pads = {}
        for name in ("sck", "pulse", "cs", "data_o", "data_oe"):
            value = getattr(soc, f"flash_{name}")
            pads[name] = pad = Signal(len(value), name=f"pad_{name}")
            m.d.sync += pad.eq(value)
        given = Signal(4)
        m.submodules.flash = Instance(
            "qspi_flash",
            p_IMAGE_OFFSET=config.flash_image_offset,
            p_FIRMWARE_OFFSET=FIRMWARE_OFFSET,
            p_T_SHSL=-(-50 * config.clock_hz // 10**9),
            p_T_RES1=-(-3 * config.clock_hz // 10**6),
            i_clk=ClockSignal(),
            i_sck=pads["sck"],
            i_pulse=pads["pulse"],
            i_cs=pads["cs"],
            i_data_i=pads["data_o"],
            i_data_i_enable=pads["data_oe"],
            o_data_o=given,
            o_violation=self.violation,
        )
        m.d.sync += soc.flash_data_i.eq(given)
        m.d.comb += [
            self.uart_tx.eq(soc.uart_tx),
            soc.uart_rx.eq(self.uart_rx),
            self.halted.eq(soc.halted),
            self.exit_code.eq(soc.exit_code),
            self.memory_beat.eq(pads["pulse"]),
        ]
        for name in ("logit_valid", "logit_row", "logit_value"):
            m.d.comb += getattr(self, name).eq(getattr(soc.engine, name))
        for device in STORAGE.values():
            for pin in ("cs_n", "mosi"):
                m.d.comb += getattr(self, f"{device}_{pin}").eq(1)
        return m
