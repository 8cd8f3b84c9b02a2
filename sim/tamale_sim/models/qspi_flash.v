// Flash of the 25 series, 16 MiB, erased behind its contents: what a board with a core engine needs of it.
//
// A clock of the system has two halves: in the first one the serial clock has the level `sck`, in the second one
// `pulse`. It starts in power-down, and with the quad enable bit clear, as after a configuration from it. It is
// strict: what the data sheet forbids, or leaves open, sets `violation` for good:
//
//   1  selected while the serial clock is high, or less than T_SHSL clocks after the last time
//   2  a command that is unknown here
//   3  a command in power-down, or before it has woken up
//   4  a quad read without the quad enable bit
//   5  the pins drive what the flash drives, or leave open what it reads
//   6  deselected within a byte, or within a command
//   7  the mode bits ask for a continuous read
//
// Plusargs: +image=FILE, +firmware=FILE: contents from IMAGE_OFFSET and FIRMWARE_OFFSET on.
//
// Source: data sheet of the W25Q128JV: commands 31h, 50h, ABh, EBh, tSHSL, tRES1.

module qspi_flash #(
    parameter IMAGE_OFFSET = 0,
    parameter FIRMWARE_OFFSET = 0,
    parameter T_SHSL = 2,   // 50 ns
    parameter T_RES1 = 100  // 3 us
) (
    input  wire       clk,
    input  wire       sck,
    input  wire       pulse,
    input  wire       cs,
    input  wire [3:0] data_i,
    input  wire [3:0] data_i_enable,
    output reg  [3:0] data_o,
    output reg  [7:0] violation
);
    localparam SIZE = 1 << 24;
    reg [7:0] data[0:SIZE-1];
    reg [8*512-1:0] name;
    integer file, count, i;
    initial begin
        for (i = 0; i < SIZE; i = i + 1) data[i] = 8'hFF;
        if ($value$plusargs("firmware=%s", name)) begin
            file = $fopen(name, "rb");
            count = $fread(data, file, FIRMWARE_OFFSET);
            $fclose(file);
        end
        if ($value$plusargs("image=%s", name)) begin
            file = $fopen(name, "rb");
            count = $fread(data, file, IMAGE_OFFSET);
            $fclose(file);
        end
        violation = 0;
    end

    reg level = 0, selected = 0, asleep = 1, quad = 0, volatile_write = 0;
    reg [31:0] apart = 1000, waking = 0;
    reg [7:0] command = 0;
    reg [31:0] bits = 0;      // of one wire, or nibbles behind a quad command
    reg [23:0] address = 0;
    reg [31:0] shift = 0;
    reg half = 0;

    task broke(input [7:0] code);
        if (violation == 0) violation = code;
    endtask

    // Counts rising edges of a command: 8 of one wire, then nibbles.
    task rise;
        begin
            if (bits < 8) begin
                if (!data_i_enable[0] || data_i_enable[1]) broke(5);
                shift = {shift[30:0], data_i[0]};
                bits = bits + 1;
                if (bits == 8) begin
                    command = shift[7:0];
                    case (shift[7:0])
                        8'hAB: ;
                        8'h50, 8'h31, 8'hEB: begin
                            if (asleep || waking != 0) broke(3);
                            if (shift[7:0] == 8'hEB && !quad) broke(4);
                        end
                        default: broke(2);
                    endcase
                end
            end else if (command == 8'hEB) begin
                if (bits < 16) begin
                    if (data_i_enable != 4'hF) broke(5);
                    if (bits < 14) address = {address[19:0], data_i};
                    else if (bits == 14 && data_i[1:0] == 2'b10) broke(7);
                end else if (data_i_enable != 0) broke(5);
                if (bits >= 20) begin
                    half = ~half;
                    if (!half) address = address + 1;
                end
                bits = bits + 1;
            end else begin
                if (!data_i_enable[0]) broke(5);
                shift = {shift[30:0], data_i[0]};
                bits = bits + 1;
            end
        end
    endtask

    always @(posedge clk) begin
        if (waking != 0) waking <= waking - 1;
        apart = apart + 1;
        if (cs && !selected) begin
            if (sck || pulse && level) broke(1);
            if (apart < T_SHSL) broke(1);
            bits = 0;
            half = 0;
            command = 0;
            selected = 1;
        end
        if (!cs && selected) begin
            selected = 0;
            apart = 0;
            if (bits < 8) broke(6);
            case (command)
                8'hAB: if (asleep) begin asleep = 0; waking <= T_RES1; end
                8'h50: volatile_write = 1;
                8'h31: begin
                    if (bits != 16 || !volatile_write) broke(6);
                    quad = shift[1];
                    volatile_write = 0;
                end
                8'hEB: if (bits < 20 || half) broke(6);
                default: ;
            endcase
        end
        if (selected && !level && sck) rise;
        if (selected && !sck && pulse) rise;
        level = pulse;
        // With the end of a pulse comes the nibble of the next one.
        if (selected && command == 8'hEB && bits >= 20)
            data_o <= half ? data[address][3:0] : data[address][7:4];
        else
            data_o <= 4'hF;
    end
endmodule
