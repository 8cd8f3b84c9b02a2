// Gate of a primary clock of ECP5: what Yosys ships as a black box.
//
// Source: Lattice, "ECP5 and ECP5-5G sysCLOCK PLL/DLL Design and Usage Guide" (FPGA-TN-02200), "Dynamic Clock
// Control": the clock stops low and starts without a short pulse.

module DCCA (
    input CLKI, CE,
    output CLKO
);
    reg enabled = 1'b0;
    always @(negedge CLKI) enabled <= CE;
    assign CLKO = CLKI & enabled;
endmodule
