// Single-data-rate SDRAM as its controller sees it, with every timing rule checked.
//
// Commands, masks and write data are sampled at the rising edge of `clk`; a word read with CAS
// latency L is on `dq_o` when the L-th edge after the READ comes. Whenever no word is due, `dq_o`
// carries changing rubbish, so that a controller that samples at the wrong time reads wrong data.
//
// The word of column c of bank b of row r is word {r, b, c} of the image file: a controller that
// maps linear addresses in that order sees the file as it is. Bytes are little-endian in words.
//
// Plusarg:  +image=FILE    contents at the start, from word 0; what lies beyond is left as it was.
//
// A broken rule prints "SDRAM VIOLATION <code> ..." and the first code stays on `violation`:
//    1  command before the end of the power-up wait       11  READ or WRITE to an idle bank
//    2  ACTIVATE before initialisation is complete        12  REFRESH while a bank is active
//    3  tRP    (PRECHARGE to ACTIVATE, REFRESH, MRS)      13  MODE REGISTER SET, bank active
//    4  tRCD   (ACTIVATE to READ, WRITE)                  14  refresh late
//    5  tRAS   (ACTIVATE to PRECHARGE)                    15  both sides drive the data pins
//    6  tRC    (ACTIVATE to ACTIVATE, same bank)          16  write data not driven
//    7  tRRD   (ACTIVATE to ACTIVATE, other bank)         17  feature that is not modelled
//    8  tRFC   (REFRESH to any command)                   18  CAS latency or burst mode refused
//    9  tWR    (last word written to PRECHARGE)           19  row open for longer than tRAS max
//   10  tMRD   (MODE REGISTER SET to any command)         20  ACTIVATE to an active bank
//                                                         21  row or column beyond the part
//
// Source: JEDEC 21-C, section 3.11.5; data sheets of 256 Mbit parts.

module sdr_sdram #(
    parameter BANK_BITS = 2,
    parameter ROW_BITS = 13,
    parameter COLUMN_BITS = 9,
    parameter DATA_BITS = 16,
    parameter ADDRESS_BITS = 13,
    // All times in clock cycles.
    parameter CAS_LATENCY = 2,
    parameter T_POWER_UP = 100,
    parameter T_RP = 2,
    parameter T_RCD = 2,
    parameter T_RAS = 4,
    parameter T_RAS_MAX = 10000,
    parameter T_RC = 6,
    parameter T_RRD = 2,
    parameter T_RFC = 6,
    parameter T_WR = 2,
    parameter T_MRD = 2,
    parameter T_REFI = 781,
    // Refreshes that may be owed at any time, and refreshes that initialisation needs.
    parameter MAX_POSTPONED = 8,
    parameter INIT_REFRESHES = 2,
    // Cycles in which each row needs its refresh; 0 if only MAX_POSTPONED is to be checked.
    parameter T_WINDOW = 6400000
) (
    input  wire                     clk,
    input  wire                     cke,
    input  wire                     cs_n,
    input  wire                     ras_n,
    input  wire                     cas_n,
    input  wire                     we_n,
    input  wire [BANK_BITS-1:0]     ba,
    input  wire [ADDRESS_BITS-1:0]  a,
    input  wire [DATA_BITS/8-1:0]   dqm,
    input  wire [DATA_BITS-1:0]     dq_i,
    input  wire                     dq_i_enable,
    output reg  [DATA_BITS-1:0]     dq_o,
    output reg                      dq_o_enable,
    output reg  [7:0]               violation
);
    localparam BANKS = 1 << BANK_BITS;
    localparam ROWS = 1 << ROW_BITS;
    localparam COLUMNS = 1 << COLUMN_BITS;
    localparam WORDS = ROWS * BANKS * COLUMNS;
    localparam LANES = DATA_BITS / 8;

    // $fread puts the first byte of the file into the highest bits; storing words that way and
    // turning them round at the pins is cheaper than a pass over the whole array.
    reg [DATA_BITS-1:0] memory [0:WORDS-1];

    function [DATA_BITS-1:0] turned(input [DATA_BITS-1:0] word);
        integer lane;
        for (lane = 0; lane < LANES; lane = lane + 1)
            turned[8*lane +: 8] = word[8*(LANES-1-lane) +: 8];
    endfunction

    // Per bank: state, and the earliest cycle at which each kind of command may come.
    reg                 active      [0:BANKS-1];
    reg [ROW_BITS-1:0]  row         [0:BANKS-1];
    reg [63:0]          activated   [0:BANKS-1];
    reg [63:0]          from_trp    [0:BANKS-1];
    reg [63:0]          from_trc    [0:BANKS-1];
    reg [63:0]          from_trcd   [0:BANKS-1];
    reg [63:0]          from_tras   [0:BANKS-1];
    reg [63:0]          from_twr    [0:BANKS-1];
    reg [63:0]          now, from_trrd, from_trfc, from_tmrd;

    // Refresh: how many are owed (negative: in advance), and when each row had its last.
    integer             owed, refi, refreshes;
    reg                 precharged, moded, running;
    reg [63:0]          refreshed   [0:ROWS-1];
    reg [ROW_BITS-1:0]  refresh_row;

    // The burst in progress, and the words on their way to the pins.
    integer                 burst_length, left;
    reg                     reading;
    reg [BANK_BITS-1:0]     burst_bank;
    reg [COLUMN_BITS-1:0]   column, column_mask;
    reg [DATA_BITS-1:0]     word, keep, stage [0:3];
    reg                     due [0:3];
    reg [LANES-1:0]         dqm_1;
    reg                     drove;
    integer                 i, address, file, got;
    string                  image;

    initial begin
        violation = 0;
        dq_o = 0;
        dq_o_enable = 0;
        drove = 0;
        dqm_1 = 0;
        now = 0;
        from_trrd = 0;
        from_trfc = 0;
        from_tmrd = 0;
        owed = 0;
        refi = 0;
        refreshes = 0;
        refresh_row = 0;
        precharged = 0;
        moded = 0;
        running = 0;
        burst_length = 1;
        left = 0;
        reading = 0;
        burst_bank = 0;
        column = 0;
        for (i = 0; i < BANKS; i = i + 1) begin
            active[i] = 0;
            row[i] = 0;
            activated[i] = 0;
            from_trp[i] = 0;
            from_trc[i] = 0;
            from_trcd[i] = 0;
            from_tras[i] = 0;
            from_twr[i] = 0;
        end
        for (i = 0; i < 4; i = i + 1) begin
            stage[i] = 0;
            due[i] = 0;
        end
        if ($value$plusargs("image=%s", image)) begin
            file = $fopen(image, "rb");
            if (file == 0) begin
                $display("sdr_sdram: cannot open the image %s", image);
                $finish;
            end else begin
                got = $fread(memory, file);
                $fclose(file);
                $display("sdr_sdram: %0d bytes from %s", got, image);
            end
        end
    end

    task violate(input [7:0] code, input [BANK_BITS-1:0] bank);
        begin
            $display("SDRAM VIOLATION %0d at cycle %0d, bank %0d", code, now, bank);
            if (violation == 0)
                violation <= code;
        end
    endtask

    task precharge(input integer bank);
        begin
            if (active[bank]) begin
                if (now < from_tras[bank]) violate(5, bank[BANK_BITS-1:0]);
                if (now < from_twr[bank]) violate(9, bank[BANK_BITS-1:0]);
                if (now > activated[bank] + T_RAS_MAX) violate(19, bank[BANK_BITS-1:0]);
                active[bank] = 0;
                from_trp[bank] = now + T_RP;
            end
            if (left != 0 && burst_bank == bank[BANK_BITS-1:0]) begin
                // A write that is cut off loses words that its sender believes written.
                if (!reading) violate(9, bank[BANK_BITS-1:0]);
                left = 0;
            end
        end
    endtask

    always @(posedge clk) begin
        now = now + 1;

        // The data pins, as they were until this edge.
        if (dq_i_enable && (dq_o_enable || drove)) violate(15, 0);
        drove = dq_o_enable;

        if (cke && !cs_n && {ras_n, cas_n, we_n} != 3'b111) begin
            if (now <= T_POWER_UP) violate(1, ba);
            if (now < from_trfc) violate(8, ba);
            if (now < from_tmrd) violate(10, ba);
            case ({ras_n, cas_n, we_n})
                3'b011: begin // ACTIVATE
                    if (!running) violate(2, ba);
                    if (active[ba]) violate(20, ba);
                    if (now < from_trp[ba]) violate(3, ba);
                    if (now < from_trc[ba]) violate(6, ba);
                    if (now < from_trrd) violate(7, ba);
                    if ((a >> ROW_BITS) != 0) violate(21, ba);
                    active[ba] = 1;
                    row[ba] = a[ROW_BITS-1:0];
                    activated[ba] = now;
                    from_trc[ba] = now + T_RC;
                    from_trcd[ba] = now + T_RCD;
                    from_tras[ba] = now + T_RAS;
                    from_twr[ba] = 0;
                    from_trrd = now + T_RRD;
                end
                3'b101, 3'b100: begin // READ, WRITE
                    if (!active[ba]) violate(11, ba);
                    else if (now < from_trcd[ba]) violate(4, ba);
                    if (a[10]) violate(17, ba); // auto precharge
                    if ((a[9:0] >> COLUMN_BITS) != 0) violate(21, ba);
                    left = burst_length;
                    reading = we_n;
                    burst_bank = ba;
                    column = a[COLUMN_BITS-1:0];
                end
                3'b110: left = 0; // BURST TERMINATE
                3'b010: begin // PRECHARGE
                    if (a[10]) begin
                        for (i = 0; i < BANKS; i = i + 1) precharge(i);
                        precharged = 1;
                    end else
                        precharge({{(32-BANK_BITS){1'b0}}, ba});
                end
                3'b001: begin // REFRESH
                    for (i = 0; i < BANKS; i = i + 1) begin
                        if (active[i]) violate(12, i[BANK_BITS-1:0]);
                        if (now < from_trp[i]) violate(3, i[BANK_BITS-1:0]);
                        if (now < from_trc[i]) violate(6, i[BANK_BITS-1:0]);
                    end
                    from_trfc = now + T_RFC;
                    refreshes = refreshes + 1;
                    if (owed > -MAX_POSTPONED) owed = owed - 1;
                    if (running) begin
                        if (T_WINDOW != 0 && now > refreshed[refresh_row] + T_WINDOW)
                            violate(14, 0);
                        refreshed[refresh_row] = now;
                        refresh_row = refresh_row + 1;
                    end
                end
                3'b000: begin // MODE REGISTER SET
                    for (i = 0; i < BANKS; i = i + 1) begin
                        if (active[i]) violate(13, i[BANK_BITS-1:0]);
                        if (now < from_trp[i]) violate(3, i[BANK_BITS-1:0]);
                    end
                    // Sequential bursts of 1 to 8 words, for reads and writes alike.
                    if (a[6:4] != CAS_LATENCY || a[3] || a[2] || (a >> 7) != 0) violate(18, ba);
                    burst_length = 1 << a[1:0];
                    moded = 1;
                    from_tmrd = now + T_MRD;
                end
                default: ;
            endcase
        end

        // Initialisation ends with the last of its three parts; from there on refreshes are owed.
        if (!running && precharged && moded && refreshes >= INIT_REFRESHES) begin
            running = 1;
            owed = 0;
            refi = 0;
            for (i = 0; i < ROWS; i = i + 1) refreshed[i] = now;
        end
        if (running) begin
            if (!cke) violate(17, 0);
            refi = refi + 1;
            if (refi == T_REFI) begin
                refi = 0;
                owed = owed + 1;
                // One more than may be owed is the one that is due just now.
                if (owed > MAX_POSTPONED + 1) begin
                    violate(14, 0);
                    owed = 0;
                end
            end
        end

        // Words that were read travel to the pins; the mask of the previous edge hides them.
        dq_o <= due[CAS_LATENCY-2] ? stage[CAS_LATENCY-2] : {LANES{8'h5a}} ^ {now[DATA_BITS-1:0]};
        dq_o_enable <= due[CAS_LATENCY-2] && !(&dqm_1);
        for (i = 0; i < LANES; i = i + 1)
            if (dqm_1[i]) dq_o[8*i +: 8] <= 8'ha5 ^ now[7:0];
        for (i = 3; i > 0; i = i - 1) begin
            stage[i] = stage[i-1];
            due[i] = due[i-1];
        end
        due[0] = 0;

        if (left != 0) begin
            address = {{(32-ROW_BITS-BANK_BITS-COLUMN_BITS){1'b0}},
                       row[burst_bank], burst_bank, column};
            if (reading) begin
                stage[0] = turned(memory[address]);
                due[0] = 1;
            end else begin
                if (!dq_i_enable && !(&dqm)) violate(16, burst_bank);
                for (i = 0; i < LANES; i = i + 1)
                    keep[8*i +: 8] = {8{dqm[i]}};
                if (!(&dqm)) begin
                    word = memory[address];
                    memory[address] = (word & turned(keep)) | (turned(dq_i) & ~turned(keep));
                end
                from_twr[burst_bank] = now + T_WR;
            end
            // A burst stays in its aligned block of columns.
            column_mask = burst_length - 1;
            column = (column & ~column_mask) | ((column + 1'b1) & column_mask);
            left = left - 1;
        end
        dqm_1 <= dqm;
    end
endmodule
