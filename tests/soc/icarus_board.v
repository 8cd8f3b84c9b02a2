// Drives a simulated board (module `board`, see tamale_sim.board.BoardTop) in any Verilog simulator.
//
// Plusargs:  +commands=FILE  lines for the board; each is sent after a record `idle`
//            +output=FILE    bytes from the board
//            +logits=FILE    a line "vector row value" for each logit
//            +divisor=N      cycles of a bit of the serial line
//            +limit=N        cycles after which the simulation ends
`timescale 1ns / 1ps

module icarus_board;
    reg clk = 0, rst = 1, uart_rx = 1;
    wire uart_tx, halted, memory_beat, logit_valid;
    wire [31:0] exit_code, logit_value;
    wire [7:0] violation;
    wire [3:0] logit_vector;
    wire [19:0] logit_row;

    board board (
        .clk(clk), .rst(rst), .uart_tx(uart_tx), .uart_rx(uart_rx), .halted(halted),
        .exit_code(exit_code), .violation(violation), .memory_beat(memory_beat),
        .logit_valid(logit_valid), .logit_vector(logit_vector), .logit_row(logit_row),
        .logit_value(logit_value)
    );

    integer divisor, limit, cycle = 0, commands, output_file, logits, byte_in;
    reg [1023:0] name;
    always #5 clk = !clk;

    initial begin
        if (!$value$plusargs("divisor=%d", divisor)) divisor = 16;
        if (!$value$plusargs("limit=%d", limit)) limit = 1000000;
        if (!$value$plusargs("commands=%s", name)) $finish;
        commands = $fopen(name, "rb");
        if (!$value$plusargs("output=%s", name)) $finish;
        output_file = $fopen(name, "wb");
        if (!$value$plusargs("logits=%s", name)) $finish;
        logits = $fopen(name, "w");
    end

    // Receiver, sampling in the middle of a bit.
    integer receive_timer = 0, receive_bits = 0;
    reg receiving = 0;
    reg [7:0] shift;
    reg [39:0] last = 0;

    // Transmitter.
    integer send_timer = 0, send_bits = 0;
    reg sending = 0;
    reg [9:0] frame;

    always @(negedge clk) begin
        cycle = cycle + 1;
        if (cycle == 8) rst = 0;
        if (!receiving) begin
            if (uart_tx === 1'b0) begin
                receiving = 1;
                receive_timer = divisor + divisor / 2;
                receive_bits = 0;
            end
        end else begin
            receive_timer = receive_timer - 1;
            if (receive_timer == 0) begin
                receive_timer = divisor;
                if (receive_bits == 8) begin
                    receiving = 0;
                    last = {last[31:0], shift};
                    $fwrite(output_file, "%c", shift);
                end else begin
                    shift = {uart_tx, shift[7:1]};
                    receive_bits = receive_bits + 1;
                end
            end
        end
        if (last == "idle\n") begin
            last = 0;
            sending = 1;
        end
        if (send_timer == 0) begin
            if (send_bits == 0 && sending) begin
                byte_in = $fgetc(commands);
                if (byte_in < 0 || byte_in == 10) sending = 0;
                if (byte_in >= 0) begin
                    frame = {1'b1, byte_in[7:0], 1'b0};
                    send_bits = 10;
                end
            end
            if (send_bits != 0) begin
                uart_rx = frame[0];
                frame = {1'b1, frame[9:1]};
                send_bits = send_bits - 1;
                send_timer = divisor - 1;
            end
        end else send_timer = send_timer - 1;

        if (logit_valid === 1'b1)
            $fwrite(logits, "%0d %0d %0d\n", logit_vector, logit_row, $signed(logit_value));
        if (halted === 1'b1 || violation != 0 || cycle >= limit) begin
            $display("%0d cycles, halted %b with %0d, violation %0d", cycle, halted, exit_code, violation);
            $finish;
        end
    end
endmodule
