// Access of the logic to the clock pin of the configuration flash of ECP5: what Yosys ships as a black box.
//
// Source: Lattice, "ECP5 and ECP5-5G sysCONFIG User Guide" (FPGA-TN-02039), "Master SPI configuration mode". The
// pin is no port of the design; a model of a flash finds it as `pin`.

module USRMCLK (
    input USRMCLKI, USRMCLKTS
);
    wire pin = USRMCLKTS ? 1'bz : USRMCLKI;
endmodule
