// Pad of ECP5. Yosys has a model, but compares with high impedance, which Verilator does not.
//
// Source: Lattice, "ECP5 and ECP5-5G sysI/O Usage Guide" (FPGA-TN-02032): the output is off while T is high.

module TRELLIS_IO (
    inout B,
    input I, T,
    output O
);
    parameter DIR = "INPUT";

    generate if (DIR != "INPUT") assign B = T ? 1'bz : I; endgenerate
    assign O = B;
endmodule
