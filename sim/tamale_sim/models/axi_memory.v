// Ideal AXI4 memory: answers at a fixed rate after a fixed latency, takes writes at once.
//
// Reads and writes are INCR bursts of full-width beats. Addresses are accepted ahead (QUEUE of each
// kind); beats of consecutive reads follow each other without a gap. With BEATS_EVERY = n a beat,
// read or written, moves in every n-th clock at most, reads and writes together: the peak of a
// memory whose bus is n times narrower. A read whose address is accepted after a write's `bvalid`
// sees the write.
//
// Beats at or beyond SIZE answer DECERR, beats from ERROR_FIRST to ERROR_LAST answer SLVERR; neither
// touches the memory. A write answers with the union of its beats' responses.
//
// Plusarg:  +image=FILE    contents at the start, from byte 0; what lies beyond is left as it was.

module axi_memory #(
    parameter ADDR_WIDTH = 32,
    parameter DATA_WIDTH = 32,
    parameter ID_WIDTH = 1,
    parameter SIZE = 65536,          // bytes
    parameter LATENCY = 8,           // clocks from an accepted address to its first beat, at least 2
    parameter QUEUE = 8,             // power of two
    parameter BEATS_EVERY = 1,
    parameter [ADDR_WIDTH-1:0] ERROR_FIRST = 1,
    parameter [ADDR_WIDTH-1:0] ERROR_LAST = 0
) (
    input  wire                     clk,
    input  wire                     rst,
    input  wire [ADDR_WIDTH-1:0]    axi__awaddr,
    input  wire [7:0]               axi__awlen,
    input  wire [2:0]               axi__awsize,
    input  wire [1:0]               axi__awburst,
    input  wire [ID_WIDTH-1:0]      axi__awid,
    input  wire                     axi__awvalid,
    output wire                     axi__awready,
    input  wire [DATA_WIDTH-1:0]    axi__wdata,
    input  wire [DATA_WIDTH/8-1:0]  axi__wstrb,
    input  wire                     axi__wlast,
    input  wire                     axi__wvalid,
    output wire                     axi__wready,
    output reg  [ID_WIDTH-1:0]      axi__bid,
    output reg  [1:0]               axi__bresp,
    output reg                      axi__bvalid,
    input  wire                     axi__bready,
    input  wire [ADDR_WIDTH-1:0]    axi__araddr,
    input  wire [7:0]               axi__arlen,
    input  wire [2:0]               axi__arsize,
    input  wire [1:0]               axi__arburst,
    input  wire [ID_WIDTH-1:0]      axi__arid,
    input  wire                     axi__arvalid,
    output wire                     axi__arready,
    output reg  [ID_WIDTH-1:0]      axi__rid,
    output reg  [DATA_WIDTH-1:0]    axi__rdata,
    output reg  [1:0]               axi__rresp,
    output reg                      axi__rlast,
    output reg                      axi__rvalid,
    input  wire                     axi__rready
);
    localparam LANES = DATA_WIDTH / 8;
    localparam LANE_BITS = $clog2(LANES);
    localparam BEATS = SIZE / LANES;
    localparam INDEX = $clog2(QUEUE);

    // As in sdr_sdram.v, the first byte of a beat lies in its highest bits.
    reg [DATA_WIDTH-1:0] memory [0:BEATS-1];

    function [DATA_WIDTH-1:0] turned(input [DATA_WIDTH-1:0] word);
        integer lane;
        for (lane = 0; lane < LANES; lane = lane + 1)
            turned[8*lane +: 8] = word[8*(LANES-1-lane) +: 8];
    endfunction

    // A burst that is not of full-width incrementing beats is answered with SLVERR.
    function [1:0] response(input [ADDR_WIDTH-1:0] address, input odd);
        if (odd) response = 2'b10;
        else if (address >= SIZE) response = 2'b11;
        else if (address >= ERROR_FIRST && address <= ERROR_LAST) response = 2'b10;
        else response = 2'b00;
    endfunction

    reg [ADDR_WIDTH-1:0]    ar_address [0:QUEUE-1], aw_address [0:QUEUE-1];
    reg [7:0]               ar_beats [0:QUEUE-1], aw_beats [0:QUEUE-1];
    reg [ID_WIDTH-1:0]      ar_id [0:QUEUE-1], aw_id [0:QUEUE-1];
    reg                     ar_odd [0:QUEUE-1], aw_odd [0:QUEUE-1];
    reg [31:0]              ar_time [0:QUEUE-1];
    reg [INDEX:0]           ar_in, ar_out, aw_in, aw_out;
    reg [7:0]               ar_done, aw_done;
    reg [31:0]              now, wait_beat;
    reg [1:0]               errors, got;
    reg [ADDR_WIDTH-1:0]    at;
    reg [DATA_WIDTH-1:0]    word, keep;
    integer                 lane, file, bytes;
    string                  image;

    wire [INDEX:0] ar_level = ar_in - ar_out;
    wire [INDEX:0] aw_level = aw_in - aw_out;
    wire [INDEX-1:0] ar_head = ar_out[INDEX-1:0];
    wire [INDEX-1:0] aw_head = aw_out[INDEX-1:0];
    assign axi__arready = !rst && ar_level != QUEUE;
    assign axi__awready = !rst && aw_level != QUEUE;

    // Written beats go first: they are few, and a sweep must show what they cost it.
    wire slot = wait_beat == 0;
    wire take_write = slot && aw_level != 0 && !(axi__bvalid && !axi__bready);
    wire writing = take_write && axi__wvalid;
    assign axi__wready = !rst && take_write;
    wire reading = slot && !writing && ar_level != 0 && now - ar_time[ar_head] >= LATENCY - 1
                   && !(axi__rvalid && !axi__rready);

    initial begin
        now = 0;
        axi__rvalid = 0;
        axi__bvalid = 0;
        {ar_in, ar_out, aw_in, aw_out} = 0;
        {ar_done, aw_done, wait_beat, errors} = 0;
        if ($value$plusargs("image=%s", image)) begin
            file = $fopen(image, "rb");
            if (file == 0) begin
                $display("axi_memory: cannot open the image %s", image);
                $finish;
            end else begin
                bytes = $fread(memory, file);
                $fclose(file);
                $display("axi_memory: %0d bytes from %s", bytes, image);
            end
        end
    end

    always @(posedge clk) begin
        now <= now + 1;
        if (wait_beat != 0) wait_beat <= wait_beat - 1;
        if (reading || writing) wait_beat <= BEATS_EVERY - 1;

        if (axi__arvalid && axi__arready) begin
            ar_address[ar_in[INDEX-1:0]] <= axi__araddr & ~(LANES - 1);
            ar_beats[ar_in[INDEX-1:0]] <= axi__arlen;
            ar_id[ar_in[INDEX-1:0]] <= axi__arid;
            ar_odd[ar_in[INDEX-1:0]] <= axi__arburst != 2'b01 || axi__arsize != LANE_BITS;
            ar_time[ar_in[INDEX-1:0]] <= now;
            ar_in <= ar_in + 1'b1;
        end
        if (axi__awvalid && axi__awready) begin
            aw_address[aw_in[INDEX-1:0]] <= axi__awaddr & ~(LANES - 1);
            aw_beats[aw_in[INDEX-1:0]] <= axi__awlen;
            aw_id[aw_in[INDEX-1:0]] <= axi__awid;
            aw_odd[aw_in[INDEX-1:0]] <= axi__awburst != 2'b01 || axi__awsize != LANE_BITS;
            aw_in <= aw_in + 1'b1;
        end

        if (axi__bready) axi__bvalid <= 0;
        if (writing) begin
            at = aw_address[aw_head] + aw_done * LANES;
            got = response(at, aw_odd[aw_head]);
            if (got == 0) begin
                for (lane = 0; lane < LANES; lane = lane + 1)
                    keep[8*lane +: 8] = {8{!axi__wstrb[lane]}};
                word = memory[at / LANES];
                memory[at / LANES] <= (word & turned(keep)) | turned(axi__wdata & ~keep);
            end
            errors <= errors | got;
            aw_done <= aw_done + 1'b1;
            if (aw_done == aw_beats[aw_head]) begin
                axi__bvalid <= 1;
                axi__bresp <= errors | got;
                axi__bid <= aw_id[aw_head];
                errors <= 0;
                aw_done <= 0;
                aw_out <= aw_out + 1'b1;
            end
        end

        if (axi__rready) axi__rvalid <= 0;
        if (reading) begin
            at = ar_address[ar_head] + ar_done * LANES;
            got = response(at, ar_odd[ar_head]);
            axi__rvalid <= 1;
            axi__rresp <= got;
            axi__rid <= ar_id[ar_head];
            axi__rlast <= ar_done == ar_beats[ar_head];
            axi__rdata <= got == 0 ? turned(memory[at / LANES]) : {LANES{8'ha5}};
            ar_done <= ar_done + 1'b1;
            if (ar_done == ar_beats[ar_head]) begin
                ar_done <= 0;
                ar_out <= ar_out + 1'b1;
            end
        end

        if (rst) begin
            {ar_in, ar_out, aw_in, aw_out} <= 0;
            {ar_done, aw_done, wait_beat, errors} <= 0;
            axi__rvalid <= 0;
            axi__bvalid <= 0;
        end
    end
endmodule
