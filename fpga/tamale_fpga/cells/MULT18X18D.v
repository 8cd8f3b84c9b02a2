// Multiplier of ECP5's DSP slice: what Yosys ships as a black box.
//
// Sources: Lattice, "ECP5 and ECP5-5G sysDSP Usage Guide" (FPGA-TN-02205): operands, sign inputs, registers and
// their clocks; Yosys, lattice/cells_bb_ecp5.v: names and defaults of the parameters. Shift chains, operand C,
// clock dividers and asynchronous reset are refused.

module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9,
        A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input B17, B16, B15, B14, B13, B12, B11, B10, B9,
        B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input C17, C16, C15, C14, C13, C12, C11, C10, C9,
        C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
    input CLK0, CLK1, CLK2, CLK3, CE0, CE1, CE2, CE3, RST0, RST1, RST2, RST3,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27,
        P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9,
        P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    parameter REG_INPUTA_CLK = "NONE";
    parameter REG_INPUTA_CE = "CE0";
    parameter REG_INPUTA_RST = "RST0";
    parameter REG_INPUTB_CLK = "NONE";
    parameter REG_INPUTB_CE = "CE0";
    parameter REG_INPUTB_RST = "RST0";
    parameter REG_INPUTC_CLK = "NONE";
    parameter REG_INPUTC_CE = "CE0";
    parameter REG_INPUTC_RST = "RST0";
    parameter REG_PIPELINE_CLK = "NONE";
    parameter REG_PIPELINE_CE = "CE0";
    parameter REG_PIPELINE_RST = "RST0";
    parameter REG_OUTPUT_CLK = "NONE";
    parameter REG_OUTPUT_CE = "CE0";
    parameter REG_OUTPUT_RST = "RST0";
    parameter CLK0_DIV = "ENABLED";
    parameter CLK1_DIV = "ENABLED";
    parameter CLK2_DIV = "ENABLED";
    parameter CLK3_DIV = "ENABLED";
    parameter GSR = "ENABLED";
    parameter SOURCEB_MODE = "B_SHIFT";
    parameter MULT_BYPASS = "DISABLED";
    parameter RESETMODE = "SYNC";

    initial if (SOURCEB_MODE != "B_SHIFT" || MULT_BYPASS != "DISABLED" || RESETMODE != "SYNC"
            || REG_INPUTC_CLK != "NONE") begin
        $display("MULT18X18D: this model has neither operand C nor a bypass nor asynchronous reset");
        $finish;
    end

    wire [3:0] clocks = {CLK3, CLK2, CLK1, CLK0};
    wire [3:0] enables = {CE3, CE2, CE1, CE0};
    wire [3:0] resets = {RST3, RST2, RST1, RST0};
    wire [17:0] a = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9,
        A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] b = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9,
        B8, B7, B6, B5, B4, B3, B2, B1, B0
    };
    wire [18:0] a_registered, b_registered;
    wire [35:0] pipelined, product;

    tamale_dsp_register #(19, REG_INPUTA_CLK, REG_INPUTA_CE, REG_INPUTA_RST) input_a (
        clocks, enables, resets, {SIGNEDA & a[17], a}, a_registered
    );
    tamale_dsp_register #(19, REG_INPUTB_CLK, REG_INPUTB_CE, REG_INPUTB_RST) input_b (
        clocks, enables, resets, {SIGNEDB & b[17], b}, b_registered
    );
    // 36 bits hold a product of two signed or two unsigned operands, and of mixed ones.
    wire signed [37:0] full = $signed(a_registered) * $signed(b_registered);
    tamale_dsp_register #(36, REG_PIPELINE_CLK, REG_PIPELINE_CE, REG_PIPELINE_RST) pipeline (
        clocks, enables, resets, full[35:0], pipelined
    );
    tamale_dsp_register #(36, REG_OUTPUT_CLK, REG_OUTPUT_CE, REG_OUTPUT_RST) result (
        clocks, enables, resets, pipelined, product
    );
    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27,
        P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9,
        P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = product;
endmodule

// A register of the slice, or a wire: each chooses one of four clocks, enables and resets.
module tamale_dsp_register #(
    parameter WIDTH = 36,
    parameter CLK = "NONE",
    parameter CE = "CE0",
    parameter RST = "RST0"
) (
    input [3:0] clocks, enables, resets,
    input [WIDTH - 1:0] i,
    output [WIDTH - 1:0] o
);
    localparam integer ENABLE = CE == "CE3" ? 3 : CE == "CE2" ? 2 : CE == "CE1" ? 1 : 0;
    localparam integer RESET = RST == "RST3" ? 3 : RST == "RST2" ? 2 : RST == "RST1" ? 1 : 0;
    localparam integer CLOCK = CLK == "CLK3" ? 3 : CLK == "CLK2" ? 2 : CLK == "CLK1" ? 1 : 0;

    generate if (CLK == "NONE") begin
        assign o = i;
    end else begin
        reg [WIDTH - 1:0] value = {WIDTH{1'b0}};
        wire clock = clocks[CLOCK];
        always @(posedge clock)
            if (resets[RESET]) value <= {WIDTH{1'b0}};
            else if (enables[ENABLE]) value <= i;
        assign o = value;
    end endgenerate
endmodule
