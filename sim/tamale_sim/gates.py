"""The simulated board with a netlist in place of the SoC: the FPGA, cell by cell."""

import os

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware.sdram import PARTS, SdramController, SdramPins
from tamale.soc.system import build_firmware, build_soc
from tamale_fpga import netlist

from . import memory, verilator
from .board import HARNESS
from .runner import build_root

__all__ = ["Chip", "build"]

_LOGITS = ("logit_valid", "logit_vector", "logit_row", "logit_value")


class Chip(wiring.Component):
    """SoC and SDRAM controller.

    Parameters
    ----------
    soc : Soc
        With its firmware.
    controller : SdramController

    Members
    -------
    uart_tx, uart_rx : Out(1), In(1)
    halted, exit_code : Out(1), Out(32)
        End of the firmware.
    sdram : Out(SdramPins)
    logit_valid, logit_vector, logit_row, logit_value : Out
        Every logit on its way to the candidates.
    """

    def __init__(self, soc, controller):
        self._soc, self._controller = soc, controller
        super().__init__(
            {
                "uart_tx": Out(1, init=1),
                "uart_rx": In(1, init=1),
                "halted": Out(1),
                "exit_code": Out(32),
                "sdram": Out(SdramPins(controller.part)),
                **{name: soc.accelerator.signature.members[name] for name in _LOGITS},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.soc = soc = self._soc
        m.submodules.controller = controller = self._controller
        wiring.connect(m, soc.axi, controller.axi)
        wiring.connect(m, controller.pins, wiring.flipped(self.sdram))
        m.d.comb += [
            self.uart_tx.eq(soc.uart_tx),
            soc.uart_rx.eq(self.uart_rx),
            self.halted.eq(soc.halted),
            self.exit_code.eq(soc.exit_code),
            *(getattr(self, name).eq(getattr(soc.accelerator, name)) for name in _LOGITS),
        ]
        return m


def build(config, *, edit=None, progress=None):
    """Build the simulator of a configuration's netlist, or find it from before.

    The memory, its timing checked, is outside the netlist; the firmware is inside, as the contents
    of block RAM. There is no record of the activity.

    Parameters
    ----------
    config : Config
        With ``memory = "sdram"``.
    edit : callable, optional
        Changes the netlist, see `tamale_fpga.netlist.build`.
    progress : callable, optional
        Called with a line before work that takes long.

    Returns
    -------
    (Path, Netlist)
        The executable, for `board.Board`, and what it simulates.
    """
    if config.memory != "sdram":
        raise ValueError(f"memory must be 'sdram', which boards have, not {config.memory!r}")
    progress = progress or (lambda line: None)
    root = build_root()
    soc = build_soc(config)
    progress("compiling the firmware")
    build_firmware(soc, root / f"gates.{config.name}.{os.getpid()}")
    port = soc.axi.signature
    controller = SdramController(
        PARTS[config.sdram_part], config.clock_hz, data_width=port.data_width,
        addr_width=port.addr_width, id_width=port.id_width, power_up_us=1,
    )  # fmt: skip
    parameters = memory.chip_parameters(controller)
    part = controller.part
    progress("synthesising the system (some minutes, kept for the next time)")
    made = netlist.build(
        Chip(soc, controller), "chip", root, verilog=soc.verilog_sources(), edit=edit
    )
    board = _BOARD.format(
        parameters=", ".join(f".{name}({value})" for name, value in parameters.items()),
        data=part.data_bits - 1, mask=part.data_bits // 8 - 1, address=part.address_bits - 1,
        bank=len(controller.pins.ba) - 1,
    )  # fmt: skip
    executable = verilator.build_executable(
        board,
        "board",
        HARNESS,
        root,
        extra_sources=[*made.sources, memory.SOURCES[0]],
        progress=progress,
    )
    return executable, made


#: What `harness.cpp` runs: the chip and its memory.
_BOARD = """\
module board (
    input clk, rst, uart_rx,
    output uart_tx, halted, memory_beat, logit_valid,
    output [31:0] exit_code,
    output [7:0] violation,
    output [3:0] logit_vector,
    output [19:0] logit_row,
    output [31:0] logit_value,
    output [16:0] activity
);
    wire cke, cs_n, ras_n, cas_n, we_n, dq_oe, dq_driven;
    wire [{bank}:0] ba;
    wire [{address}:0] a;
    wire [{mask}:0] dqm;
    wire [{data}:0] dq_o, dq_i;

    chip chip (
        .clk(clk), .rst(rst), .uart_rx(uart_rx), .uart_tx(uart_tx), .halted(halted),
        .exit_code(exit_code), .logit_valid(logit_valid), .logit_vector(logit_vector),
        .logit_row(logit_row), .logit_value(logit_value), .sdram__cke(cke), .sdram__cs_n(cs_n),
        .sdram__ras_n(ras_n), .sdram__cas_n(cas_n), .sdram__we_n(we_n), .sdram__ba(ba),
        .sdram__a(a), .sdram__dqm(dqm), .sdram__dq_o(dq_o), .sdram__dq_oe(dq_oe),
        .sdram__dq_i(dq_i)
    );
    sdr_sdram #({parameters}) memory (
        .clk(clk), .cke(cke), .cs_n(cs_n), .ras_n(ras_n), .cas_n(cas_n), .we_n(we_n), .ba(ba),
        .a(a), .dqm(dqm), .dq_i(dq_o), .dq_i_enable(dq_oe), .dq_o(dq_i),
        .dq_o_enable(dq_driven), .violation(violation)
    );
    assign memory_beat = ~cs_n & ras_n & ~cas_n;
    assign activity = 17'b0;
endmodule
"""
