// Output register of ECP5's pads for both edges: what Yosys ships as a black box.
//
// Source: Lattice, "ECP5 and ECP5-5G High-Speed I/O Interface" (FPGA-TN-02035), "GDDRX1 output": D0 leaves while
// the clock is high, D1 while it is low.

module ODDRX1F (
    input SCLK, RST, D0, D1,
    output Q
);
    parameter GSR = "ENABLED";

    reg [1:0] value = 2'b0;
    always @(posedge SCLK) value <= RST ? 2'b0 : {D1, D0};
    assign Q = SCLK ? value[0] : value[1];
endmodule
