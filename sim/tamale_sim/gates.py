"""The simulated board with the netlist of a real one: the FPGA cell by cell, pads included."""

import gc
import json
import warnings

from amaranth.hdl import UnusedElaboratable
from tamale.gateware.sdram import PARTS
from tamale.soc.system import build_memory, build_soc
from tamale_fpga import build as boards_build
from tamale_fpga import netlist

from . import memory, verilator
from .board import HARNESS, HARNESS_HEADERS
from .runner import build_root

__all__ = ["build"]


def build(board, config, *, edit=None, progress=None):
    """Build the simulator of a board's netlist, or find it from before.

    The netlist is the one that `tamale build` routes, but for the contents of block RAM: it has the
    firmware from the start, where the routed one has it written in by packing. Around it are
    the SDRAM, whose timing is checked, on the clock that the netlist gives it, the serial port,
    flash and SD card. Logits are not to be seen, nor is the activity.

    Parameters
    ----------
    board : Board
        Of `tamale_fpga.boards`.
    config : Config
    edit : callable, optional
        Changes the netlist, see `tamale_fpga.netlist.build`.
    progress : callable, optional
        Called with a line before work that takes long.

    Returns
    -------
    (Path, Netlist)
        The executable, for `board.Board`, and what it simulates.

    Raises
    ------
    ValueError
        If the netlist's PLL does not make the clocks of the configuration.
    """
    root = build_root()
    design = boards_build.synthesise(
        board, config, root / "boards", firmware=True, progress=progress
    )
    made = netlist.write(design.directory / "top.json", "top", root, edit=edit)
    wires = {
        f"pll_{name.lower()}": _clock(config, *output)
        for name, output in netlist.pll_outputs(made, design.platform.default_clk_frequency).items()
    }
    with warnings.catch_warnings():
        # The controller is in the netlist; this one only tells its timing.
        warnings.simplefilter("ignore", UnusedElaboratable)
        parameters = memory.chip_parameters(build_memory(config, build_soc(config)))
        gc.collect()
    part = PARTS[config.sdram_part]
    known = {name: pins for name, pins in _PINS.items() if name in made.ports}
    text = _BOARD.format(
        parameters=", ".join(f".{name}({value})" for name, value in parameters.items()),
        data=part.data_bits - 1, mask=part.data_bits // 8 - 1, address=part.address_bits - 1,
        bank=parameters["BANK_BITS"] - 1,
        clocks=", ".join(f"{name} = {wire}" for name, wire in wires.items()),
        enable=_cells(made, "TRELLIS_IO", "sdram_0__dq__io")[0],
        flash_clock="".join(
            f"assign spi_flash_sck = chip.cells.\\{name} .pin;"
            for name in _cells(made, "USRMCLK")
        ),
        connections=", ".join(f".\\{name} ({wire})" for name, wire in known.items()),
    )  # fmt: skip
    executable = verilator.build_executable(
        text,
        "board",
        HARNESS,
        root,
        headers=HARNESS_HEADERS,
        extra_sources=[*made.sources, memory.SOURCES[0]],
        # A netlist is a hundred megabytes of C++, and its run is short.
        options={"OPT_FAST": "-O1"},
        progress=progress,
    )
    return executable, made


def _clock(config, frequency, late):
    """Return what stands for an output of the PLL in the simulation, which has half cycles.

    Of a clock that is late, only the order of its edges and the main clock's is kept.
    """
    if frequency == config.clock_hz:
        return "~clk" if late else "clk"
    if frequency == config.cpu_clock_hz and not late:
        return "cpu_clk"
    raise ValueError(
        f"the netlist's PLL makes {frequency / 1e6:g} MHz, {late:g} of a period late; "
        f"{config.clock_hz / 1e6:g} and {config.cpu_clock_hz / 1e6:g} MHz are expected"
    )


def _cells(made, kind, port=None):
    """Return the names of a netlist's cells of a type, with a port the pad of its first bit."""
    top = json.loads(made.json.read_text())["modules"]["top"]
    pin = port and top["ports"][port]["bits"][0]
    return [
        name
        for name, cell in top["cells"].items()
        if cell["type"] == kind and (port is None or cell["connections"]["B"] == [pin])
    ]


#: Pins of the netlist, and what they are wired to; inputs that are not here float.
_PINS = {
    "clk25_0__io": "oscillator",
    "uart_0__tx__io": "uart_tx",
    "uart_0__rx__io": "receive",
    "led_3__io": "halted",
    **{f"sdram_0__{name}__io": name for name in ("cs", "ras", "cas", "we", "ba", "a", "dqm", "dq")},
    "sdram_0__clk_en__io": "cke",
    "sdram_0__clk__io": "memory_clk",
    "spi_flash_0__cs__io": "spi_flash_cs_n",
    "spi_flash_0__copi__io": "spi_flash_mosi",
    "spi_flash_0__cipo__io": "flash_answer",
    "sd_card_spi_0__clk__io": "sd_sck",
    "sd_card_spi_0__cs__io": "sd_cs_n",
    "sd_card_spi_0__copi__io": "sd_mosi",
    "sd_card_spi_0__cipo__io": "card_answer",
}

#: What `harness.cpp` runs. The names of the clocks are those that `EHXPLLL.v` knows.
_BOARD = """\
module board (
    input clk, cpu_clk, rst, uart_rx, spi_flash_miso, sd_miso,
    output spi_flash_sck, spi_flash_cs_n, spi_flash_mosi, sd_sck, sd_cs_n, sd_mosi,
    output uart_tx, halted, memory_beat, logit_valid,
    output [31:0] exit_code,
    output [7:0] violation,
    output [3:0] logit_vector,
    output [19:0] logit_row,
    output [31:0] logit_value,
    output [16:0] activity
);
    wire oscillator = clk, receive = uart_rx;
    wire flash_answer = spi_flash_miso, card_answer = sd_miso;
    wire {clocks};
    wire cke, cs, ras, cas, we, dq_driven, memory_clk;
    wire [{bank}:0] ba;
    wire [{address}:0] a;
    wire [{mask}:0] dqm;
    wire [{data}:0] dq, dq_given;
    reg [{data}:0] dq_later;
    reg driven_later;

    top chip ({connections});

    // The chip's access time and the delays of the pads are about a period, see `tamale_fpga.pads`:
    // a word comes after the next edge of the controller's clock and before the one after it.
    always @(negedge memory_clk) {{driven_later, dq_later}} <= {{dq_driven, dq_given}};
    assign dq = driven_later ? dq_later : {{({data} + 1){{1'bz}}}};
    sdr_sdram #({parameters}) memory (
        .clk(memory_clk), .cke(cke), .cs_n(cs), .ras_n(ras), .cas_n(cas), .we_n(we), .ba(ba),
        .a(a), .dqm(dqm), .dq_i(dq), .dq_o(dq_given),
        .dq_i_enable(~chip.cells.\\{enable} .T), .dq_o_enable(dq_driven), .violation(violation)
    );
    {flash_clock}
    assign memory_beat = ~cs & ras & ~cas;
    assign {{exit_code, logit_valid, logit_vector, logit_row, logit_value, activity}} = 106'b0;
endmodule
"""
