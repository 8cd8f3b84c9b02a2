// Block RAM of ECP5, 18 kbit: what Yosys ships as a black box.
//
// Sources: Lattice, "ECP5 and ECP5-5G Memory Usage Guide" (FPGA-TN-02204): ports, widths, byte enables,
// write modes, output registers, reset; Yosys, lattice/brams_16kd.txt and brams_map_16kd.v: which pins carry
// what at each width, order of the bits of INITVAL. Chip select is not used by Yosys and refused here; so are
// output registers of ports of 36 bits.
//
// What the manual leaves undefined is made harmful: a read of bits that the other port writes at the same
// edge gives pseudo-random bits, so that a netlist which relies on them fails.

module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
        DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5,
        ADA4, ADA3, ADA2, ADA1, ADA0,
    input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
        DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
        DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5,
        ADB4, ADB3, ADB2, ADB1, ADB0,
    input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
    output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
        DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    parameter REGMODE_A = "NOREG";
    parameter REGMODE_B = "NOREG";
    parameter RESETMODE = "SYNC";
    parameter ASYNC_RESET_RELEASE = "SYNC";
    parameter CSDECODE_A = "0b000";
    parameter CSDECODE_B = "0b000";
    parameter WRITEMODE_A = "NORMAL";
    parameter WRITEMODE_B = "NORMAL";
    parameter CLKAMUX = "CLKA";
    parameter CLKBMUX = "CLKB";
    parameter GSR = "ENABLED";
    parameter [319:0] INITVAL_00 = 320'b0;
    parameter [319:0] INITVAL_01 = 320'b0;
    parameter [319:0] INITVAL_02 = 320'b0;
    parameter [319:0] INITVAL_03 = 320'b0;
    parameter [319:0] INITVAL_04 = 320'b0;
    parameter [319:0] INITVAL_05 = 320'b0;
    parameter [319:0] INITVAL_06 = 320'b0;
    parameter [319:0] INITVAL_07 = 320'b0;
    parameter [319:0] INITVAL_08 = 320'b0;
    parameter [319:0] INITVAL_09 = 320'b0;
    parameter [319:0] INITVAL_0A = 320'b0;
    parameter [319:0] INITVAL_0B = 320'b0;
    parameter [319:0] INITVAL_0C = 320'b0;
    parameter [319:0] INITVAL_0D = 320'b0;
    parameter [319:0] INITVAL_0E = 320'b0;
    parameter [319:0] INITVAL_0F = 320'b0;
    parameter [319:0] INITVAL_10 = 320'b0;
    parameter [319:0] INITVAL_11 = 320'b0;
    parameter [319:0] INITVAL_12 = 320'b0;
    parameter [319:0] INITVAL_13 = 320'b0;
    parameter [319:0] INITVAL_14 = 320'b0;
    parameter [319:0] INITVAL_15 = 320'b0;
    parameter [319:0] INITVAL_16 = 320'b0;
    parameter [319:0] INITVAL_17 = 320'b0;
    parameter [319:0] INITVAL_18 = 320'b0;
    parameter [319:0] INITVAL_19 = 320'b0;
    parameter [319:0] INITVAL_1A = 320'b0;
    parameter [319:0] INITVAL_1B = 320'b0;
    parameter [319:0] INITVAL_1C = 320'b0;
    parameter [319:0] INITVAL_1D = 320'b0;
    parameter [319:0] INITVAL_1E = 320'b0;
    parameter [319:0] INITVAL_1F = 320'b0;
    parameter [319:0] INITVAL_20 = 320'b0;
    parameter [319:0] INITVAL_21 = 320'b0;
    parameter [319:0] INITVAL_22 = 320'b0;
    parameter [319:0] INITVAL_23 = 320'b0;
    parameter [319:0] INITVAL_24 = 320'b0;
    parameter [319:0] INITVAL_25 = 320'b0;
    parameter [319:0] INITVAL_26 = 320'b0;
    parameter [319:0] INITVAL_27 = 320'b0;
    parameter [319:0] INITVAL_28 = 320'b0;
    parameter [319:0] INITVAL_29 = 320'b0;
    parameter [319:0] INITVAL_2A = 320'b0;
    parameter [319:0] INITVAL_2B = 320'b0;
    parameter [319:0] INITVAL_2C = 320'b0;
    parameter [319:0] INITVAL_2D = 320'b0;
    parameter [319:0] INITVAL_2E = 320'b0;
    parameter [319:0] INITVAL_2F = 320'b0;
    parameter [319:0] INITVAL_30 = 320'b0;
    parameter [319:0] INITVAL_31 = 320'b0;
    parameter [319:0] INITVAL_32 = 320'b0;
    parameter [319:0] INITVAL_33 = 320'b0;
    parameter [319:0] INITVAL_34 = 320'b0;
    parameter [319:0] INITVAL_35 = 320'b0;
    parameter [319:0] INITVAL_36 = 320'b0;
    parameter [319:0] INITVAL_37 = 320'b0;
    parameter [319:0] INITVAL_38 = 320'b0;
    parameter [319:0] INITVAL_39 = 320'b0;
    parameter [319:0] INITVAL_3A = 320'b0;
    parameter [319:0] INITVAL_3B = 320'b0;
    parameter [319:0] INITVAL_3C = 320'b0;
    parameter [319:0] INITVAL_3D = 320'b0;
    parameter [319:0] INITVAL_3E = 320'b0;
    parameter [319:0] INITVAL_3F = 320'b0;

    localparam REGISTERED_A = REGMODE_A == "OUTREG";
    localparam REGISTERED_B = REGMODE_B == "OUTREG";

    initial if (CSDECODE_A != "0b000" || CSDECODE_B != "0b000"
            || !REGISTERED_A && REGMODE_A != "NOREG" || !REGISTERED_B && REGMODE_B != "NOREG"
            || (REGISTERED_A || REGISTERED_B) && (DATA_WIDTH_A == 36 || DATA_WIDTH_B == 36)) begin
        $display("DP16KD: this model has neither chip select nor output registers of 36 bits");
        $finish;
    end

    // Rows of 36 bits, whatever the widths of the ports: a port of 18 bits takes half a row, a port of 9 a
    // quarter; narrower ones divide the lower eight bits of a quarter, the ninth is out of their reach.
    reg [35:0] memory [0:511];

    // 16 words of 18 bits in each parameter, a word every 20 bits.
    task fill(input integer first, input [319:0] words);
        integer row;
        for (row = 0; row < 8; row = row + 1)
            memory[first + row] = {words[40 * row + 20 +: 18], words[40 * row +: 18]};
    endtask

    initial begin
        fill(0, INITVAL_00); fill(8, INITVAL_01); fill(16, INITVAL_02); fill(24, INITVAL_03);
        fill(32, INITVAL_04); fill(40, INITVAL_05); fill(48, INITVAL_06); fill(56, INITVAL_07);
        fill(64, INITVAL_08); fill(72, INITVAL_09); fill(80, INITVAL_0A); fill(88, INITVAL_0B);
        fill(96, INITVAL_0C); fill(104, INITVAL_0D); fill(112, INITVAL_0E); fill(120, INITVAL_0F);
        fill(128, INITVAL_10); fill(136, INITVAL_11); fill(144, INITVAL_12); fill(152, INITVAL_13);
        fill(160, INITVAL_14); fill(168, INITVAL_15); fill(176, INITVAL_16); fill(184, INITVAL_17);
        fill(192, INITVAL_18); fill(200, INITVAL_19); fill(208, INITVAL_1A); fill(216, INITVAL_1B);
        fill(224, INITVAL_1C); fill(232, INITVAL_1D); fill(240, INITVAL_1E); fill(248, INITVAL_1F);
        fill(256, INITVAL_20); fill(264, INITVAL_21); fill(272, INITVAL_22); fill(280, INITVAL_23);
        fill(288, INITVAL_24); fill(296, INITVAL_25); fill(304, INITVAL_26); fill(312, INITVAL_27);
        fill(320, INITVAL_28); fill(328, INITVAL_29); fill(336, INITVAL_2A); fill(344, INITVAL_2B);
        fill(352, INITVAL_2C); fill(360, INITVAL_2D); fill(368, INITVAL_2E); fill(376, INITVAL_2F);
        fill(384, INITVAL_30); fill(392, INITVAL_31); fill(400, INITVAL_32); fill(408, INITVAL_33);
        fill(416, INITVAL_34); fill(424, INITVAL_35); fill(432, INITVAL_36); fill(440, INITVAL_37);
        fill(448, INITVAL_38); fill(456, INITVAL_39); fill(464, INITVAL_3A); fill(472, INITVAL_3B);
        fill(480, INITVAL_3C); fill(488, INITVAL_3D); fill(496, INITVAL_3E); fill(504, INITVAL_3F);
    end

    function [5:0] place(input integer width, input [4:0] address);
        place = (width < 36 && address[4] ? 6'd18 : 6'd0) + (width < 18 && address[3] ? 6'd9 : 6'd0)
            + (width < 9 ? {3'b0, address[2:0]} & ~(width[5:0] - 6'd1) : 6'd0);
    endfunction

    // Bits of a row that a write reaches; the lowest address bits are byte enables of wide ports.
    function [35:0] reach(input integer width, input [4:0] address);
        reach = (width == 36 ? {{9{address[3]}}, {9{address[2]}}, {9{address[1]}}, {9{address[0]}}}
            : width == 18 ? {18'b0, {9{address[1]}}, {9{address[0]}}}
            : (36'd1 << width) - 36'd1) << place(width, address);
    endfunction

    wire clk_a = CLKAMUX == "INV" ? ~CLKA : CLKA;
    wire clk_b = CLKBMUX == "INV" ? ~CLKB : CLKB;
    wire [13:0] address_a = {
        ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5,
        ADA4, ADA3, ADA2, ADA1, ADA0
    };
    wire [13:0] address_b = {
        ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5,
        ADB4, ADB3, ADB2, ADB1, ADB0
    };
    wire [17:0] lower_data = {
        DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
        DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0
    };
    wire [17:0] upper_data = {
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9,
        DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0
    };

    // A synchronous reset of the outputs stops a write; an asynchronous one does not.
    wire clear_a = RESETMODE == "SYNC" & RSTA;
    wire clear_b = RESETMODE == "SYNC" & RSTB;
    wire empty_a = RESETMODE == "ASYNC" & RSTA;
    wire empty_b = RESETMODE == "ASYNC" & RSTB;
    wire write_a = CEA & WEA & ~clear_a;
    wire write_b = CEB & WEB & ~clear_b & (DATA_WIDTH_A != 36);
    wire [35:0] mask_a = write_a ? reach(DATA_WIDTH_A, address_a[4:0]) : 36'b0;
    wire [35:0] mask_b = write_b ? reach(DATA_WIDTH_B, address_b[4:0]) : 36'b0;
    wire [35:0] data_a = DATA_WIDTH_A == 36 ? {upper_data, lower_data}
        : {18'b0, lower_data} << place(DATA_WIDTH_A, address_a[4:0]);
    wire [35:0] data_b = {18'b0, upper_data} << place(DATA_WIDTH_B, address_b[4:0]);

    // Whether the other clock rises together with a port's own: both were low until now.
    reg low_a = 1'b1, low_b = 1'b1;
    always @(clk_a) low_a <= ~clk_a;
    always @(clk_b) low_b <= ~clk_b;
    wire meet = address_a[13:5] == address_b[13:5];
    // In the blocks below, where a wire of the other clock might not have followed it yet.
    reg [35:0] clash_a, clash_b;
    reg [35:0] noise_a = 36'h5DEECE66D, noise_b = 36'h2545F4914;

    wire [35:0] row_a = memory[address_a[13:5]], row_b = memory[address_b[13:5]];
    reg [35:0] read_a = 36'b0, read_b = 36'b0;

    always @(posedge clk_a) begin
        if (|mask_a[8:0]) memory[address_a[13:5]][8:0] <= row_a[8:0] & ~mask_a[8:0] | data_a[8:0] & mask_a[8:0];
        if (|mask_a[17:9]) memory[address_a[13:5]][17:9] <= row_a[17:9] & ~mask_a[17:9] | data_a[17:9] & mask_a[17:9];
        if (|mask_a[26:18]) memory[address_a[13:5]][26:18] <= row_a[26:18] & ~mask_a[26:18] | data_a[26:18] & mask_a[26:18];
        if (|mask_a[35:27]) memory[address_a[13:5]][35:27] <= row_a[35:27] & ~mask_a[35:27] | data_a[35:27] & mask_a[35:27];
    end

    always @(posedge clk_a, posedge empty_a)
        if (empty_a | clear_a) read_a <= 36'b0;
        else if (CEA & ~WEA) begin
            clash_a = meet & low_b & CLKB != (CLKBMUX == "INV") ? mask_b : 36'b0;
            read_a <= (row_a & ~clash_a | noise_a & clash_a) >> place(DATA_WIDTH_A, address_a[4:0]);
            noise_a <= {noise_a[34:0], noise_a[35] ^ noise_a[24]};
        end else if (CEA & WRITEMODE_A == "WRITETHROUGH")
            read_a <= (row_a & ~mask_a | data_a & mask_a) >> place(DATA_WIDTH_A, address_a[4:0]);
        else if (CEA & WRITEMODE_A == "READBEFOREWRITE")
            read_a <= row_a >> place(DATA_WIDTH_A, address_a[4:0]);

    always @(posedge clk_b) begin
        if (|mask_b[8:0]) memory[address_b[13:5]][8:0] <= row_b[8:0] & ~mask_b[8:0] | data_b[8:0] & mask_b[8:0];
        if (|mask_b[17:9]) memory[address_b[13:5]][17:9] <= row_b[17:9] & ~mask_b[17:9] | data_b[17:9] & mask_b[17:9];
        if (|mask_b[26:18]) memory[address_b[13:5]][26:18] <= row_b[26:18] & ~mask_b[26:18] | data_b[26:18] & mask_b[26:18];
        if (|mask_b[35:27]) memory[address_b[13:5]][35:27] <= row_b[35:27] & ~mask_b[35:27] | data_b[35:27] & mask_b[35:27];
    end

    always @(posedge clk_b, posedge empty_b)
        if (empty_b | clear_b) read_b <= 36'b0;
        else if (CEB & ~WEB) begin
            clash_b = meet & low_a & CLKA != (CLKAMUX == "INV") ? mask_a : 36'b0;
            read_b <= (row_b & ~clash_b | noise_b & clash_b) >> place(DATA_WIDTH_B, address_b[4:0]);
            noise_b <= {noise_b[34:0], noise_b[35] ^ noise_b[24]};
        end else if (CEB & WRITEMODE_B == "WRITETHROUGH")
            read_b <= (row_b & ~mask_b | data_b & mask_b) >> place(DATA_WIDTH_B, address_b[4:0]);
        else if (CEB & WRITEMODE_B == "READBEFOREWRITE")
            read_b <= row_b >> place(DATA_WIDTH_B, address_b[4:0]);

    // Read bits beyond the width are not driven by the memory: ones, so that a use of them shows.
    function [35:0] beyond(input integer width);
        beyond = width >= 36 ? 36'b0 : 36'hFFFFFFFFF << width;
    endfunction

    // The output register follows a cycle later, whether or not the port reads; it has an enable of its own.
    reg [35:0] late_a = 36'b0, late_b = 36'b0;
    always @(posedge clk_a) if (RSTA) late_a <= 36'b0; else if (OCEA) late_a <= read_a;
    always @(posedge clk_b) if (RSTB) late_b <= 36'b0; else if (OCEB) late_b <= read_b;

    wire [35:0] output_a = (REGISTERED_A ? late_a : read_a) | beyond(DATA_WIDTH_A);
    wire [35:0] output_b = (REGISTERED_B ? late_b : read_b) | beyond(DATA_WIDTH_B);

    // A port B of 36 bits has the pins of both.
    assign {
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
        DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0
    } = DATA_WIDTH_B == 36 ? output_b[17:0] : output_a[17:0];
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9,
        DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
    } = DATA_WIDTH_B == 36 ? output_b[35:18] : output_b[17:0];
endmodule
