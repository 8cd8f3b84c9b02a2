// PLL of ECP5: what Yosys ships as a black box. Three of its outputs.
//
// Sources: Lattice, "ECP5 and ECP5-5G sysCLOCK PLL/DLL Design and Usage Guide" (FPGA-TN-02200): outputs, lock;
// Yosys, lattice/cells_bb_ecp5.v: names of the parameters.
//
// A simulation in cycles has no time to multiply, so the outputs are clocks of the simulated board, `pll_clkop`,
// `pll_clkos` and `pll_clkos2` of a module `board` above. What dividers and phases make of the oscillator's
// frequency is worked out by `tamale_fpga.netlist.pll_outputs`.

module EHXPLLL (
    input CLKI, CLKFB, RST, STDBY,
    output CLKOP, CLKOS, CLKOS2, LOCK
);
    parameter CLKI_DIV = 1;
    parameter CLKFB_DIV = 1;
    parameter CLKOP_DIV = 8;
    parameter CLKOS_DIV = 8;
    parameter CLKOS2_DIV = 8;
    parameter CLKOP_ENABLE = "ENABLED";
    parameter CLKOS_ENABLE = "DISABLED";
    parameter CLKOS2_ENABLE = "DISABLED";
    parameter CLKOP_CPHASE = 0;
    parameter CLKOS_CPHASE = 0;
    parameter CLKOS2_CPHASE = 0;
    parameter CLKOP_FPHASE = 0;
    parameter CLKOS_FPHASE = 0;
    parameter CLKOS2_FPHASE = 0;
    parameter FEEDBK_PATH = "CLKOP";
    parameter PLLRST_ENA = "DISABLED";
    parameter STDBY_ENABLE = "DISABLED";
    parameter DPHASE_SOURCE = "DISABLED";
    parameter INTFB_WAKE = "DISABLED";

    initial if (FEEDBK_PATH != "CLKOP" || PLLRST_ENA != "DISABLED" || STDBY_ENABLE != "DISABLED"
            || DPHASE_SOURCE != "DISABLED") begin
        $display("EHXPLLL: this model takes its feedback from CLKOP and has neither reset nor standby");
        $finish;
    end

    assign CLKOP = CLKOP_ENABLE == "ENABLED" & board.pll_clkop;
    assign CLKOS = CLKOS_ENABLE == "ENABLED" & board.pll_clkos;
    assign CLKOS2 = CLKOS2_ENABLE == "ENABLED" & board.pll_clkos2;

    // The real one takes milliseconds.
    reg [5:0] settling = 6'd0;
    always @(posedge CLKOP) if (!LOCK) settling <= settling + 6'd1;
    assign LOCK = &settling;
endmodule
