// A DDR3 chip behind LiteDRAM's PHY for ECP5, as the DFI shows both, with every timing rule checked.
//
// A clock of the system is two of the chip, phase 0 and phase 1. A burst of eight words is one word of the DFI:
// those of phase 0 first. Write data come WRITE_LATENCY clocks after the command, read data READ_LATENCY clocks.
//
// Reading has to be trained as in the PHY: per byte lane the strobe's window must be at a delay from FIRST to LAST,
// and words be shifted by SLIP bits. At other delays data are rubbish, with other shifts bytes come at other
// places of the burst. Lanes that are paused (`control_lanes`) give rubbish, too.
//
// The words of column c (a multiple of eight) of bank b of row r are at burst {r, b, c / 8}; bytes are little-endian.
// Of the chip's cells only PAGES pages of 64 KiB are kept, each from when it is first written; others read as zero.
//
// Plusargs: +image=FILE    contents at the start, from burst 0;
//           +dead=LANE     this lane reads at no setting.
//
// A broken rule prints "DDR3 VIOLATION <code> ..." and the first code stays on `violation`:
//    1  reset or CKE: shorter than it must be             12  tRTP   (READ to PRECHARGE)
//    2  command before the chip is set up                 13  tRFC   (REFRESH to any command)
//    3  tMRD, tMOD (mode register to the next command)    14  refresh late
//    4  mode register that the PHY does not work with     15  column command to an idle bank
//    5  tRP    (PRECHARGE to ACTIVATE, REFRESH)           16  ACTIVATE to an active bank
//    6  tRCD   (ACTIVATE to READ, WRITE)                  17  REFRESH or mode register, bank active
//    7  tRAS   (ACTIVATE to PRECHARGE)                    18  READ to WRITE: both drive the data pins
//    8  tRRD   (ACTIVATE to ACTIVATE, other bank)         19  READ or WRITE whose data are not enabled
//    9  tFAW   (four ACTIVATEs)                           20  feature that is not modelled
//   10  tCCD   (READ to READ, WRITE to WRITE)             21  more pages written than the model keeps
//   11  tWR, tWTR (last word written to PRECHARGE, READ)  22  tZQinit, tDLLK (calibration, DLL)
//
// Source: JEDEC JESD79-3F.

module ddr3_dfi #(
    parameter BANK_BITS = 3,
    parameter ROW_BITS = 15,
    parameter COLUMN_BITS = 10,
    parameter LANES = 2,
    parameter PAGES = 1024,
    // Clocks of the system.
    parameter READ_LATENCY = 13,
    parameter WRITE_LATENCY = 3,
    // Clocks of the chip.
    parameter CL = 6,
    parameter CWL = 5,
    parameter T_RESET = 32000,
    parameter T_CKE = 80000,
    parameter T_XPR = 44,
    parameter T_MRD = 4,
    parameter T_MOD = 12,
    parameter T_ZQINIT = 512,
    parameter T_DLLK = 512,
    parameter T_RP = 3,
    parameter T_RCD = 3,
    parameter T_RAS = 6,
    parameter T_WR = 3,
    parameter T_RFC = 42,
    parameter T_FAW = 7,
    parameter T_RRD = 4,
    parameter T_WTR = 4,
    parameter T_RTP = 4,
    parameter T_REFI = 1250,
    // Refreshes that may be owed at any time.
    parameter MAX_POSTPONED = 8,
    // Of each lane, four bits: delays at which it reads, and its shift.
    parameter [4*LANES-1:0] FIRST = 8'h13,
    parameter [4*LANES-1:0] LAST = 8'h46,
    parameter [4*LANES-1:0] SLIP = 8'h21
) (
    input  wire                      clk,
    input  wire [ROW_BITS-1:0]       dfi_p0_address, dfi_p1_address,
    input  wire [BANK_BITS-1:0]      dfi_p0_bank, dfi_p1_bank,
    input  wire                      dfi_p0_cs_n, dfi_p1_cs_n,
    input  wire                      dfi_p0_ras_n, dfi_p1_ras_n,
    input  wire                      dfi_p0_cas_n, dfi_p1_cas_n,
    input  wire                      dfi_p0_we_n, dfi_p1_we_n,
    input  wire                      dfi_p0_cke, dfi_p1_cke,
    input  wire                      dfi_p0_odt, dfi_p1_odt,
    input  wire                      dfi_p0_reset_n, dfi_p1_reset_n,
    input  wire [32*LANES-1:0]       dfi_p0_wrdata, dfi_p1_wrdata,
    input  wire                      dfi_p0_wrdata_en, dfi_p1_wrdata_en,
    input  wire [4*LANES-1:0]        dfi_p0_wrdata_mask, dfi_p1_wrdata_mask,
    input  wire                      dfi_p0_rddata_en, dfi_p1_rddata_en,
    output wire [32*LANES-1:0]       dfi_p0_rddata, dfi_p1_rddata,
    output wire                      dfi_p0_rddata_valid, dfi_p1_rddata_valid,
    input  wire [LANES-1:0]          control_lanes,
    input  wire                      control_delay_reset, control_delay_step,
    input  wire                      control_slip_reset, control_slip_step,
    input  wire                      control_seen_clear,
    output reg  [LANES-1:0]          control_seen,
    output reg  [7:0]                violation
);
    localparam BANKS = 1 << BANK_BITS;
    localparam BURST = 64 * LANES;
    localparam BYTES = 8 * LANES;
    localparam BURST_BITS = ROW_BITS + BANK_BITS + COLUMN_BITS - 3;
    // 64 KiB hold so many bursts.
    localparam PAGE_BITS = 16 - $clog2(BYTES);
    localparam NONE = PAGES;

    // $fread puts the first byte of the file into the highest bits; bursts are stored that way.
    reg [BURST-1:0] memory [0:(PAGES<<PAGE_BITS)-1];
    reg [31:0]      page_of [0:(1<<(BURST_BITS-PAGE_BITS))-1];
    integer         pages;

    function [BURST-1:0] turned(input [BURST-1:0] word);
        integer byte_;
        for (byte_ = 0; byte_ < BYTES; byte_ = byte_ + 1)
            turned[8*byte_ +: 8] = word[8*(BYTES-1-byte_) +: 8];
    endfunction

    // Time in clocks of the chip, and the earliest at which each kind of command may come.
    reg [63:0]          now;
    reg                 active      [0:BANKS-1];
    reg [ROW_BITS-1:0]  row         [0:BANKS-1];
    reg [63:0]          from_trp    [0:BANKS-1];
    reg [63:0]          from_trcd   [0:BANKS-1];
    reg [63:0]          from_tras   [0:BANKS-1];
    reg [63:0]          from_twr    [0:BANKS-1];
    reg [63:0]          from_trtp   [0:BANKS-1];
    reg [63:0]          from_trrd, from_trfc, from_tccd, from_twtr, from_trtw, from_mode, from_mod;
    reg [63:0]          activates   [0:3];

    // Setting up: since when reset and CKE are as they are, what was loaded.
    reg [63:0]          reset_since, cke_since, from_calibrated, from_locked;
    reg                 reset_n, cke, calibrated;
    reg [3:0]           loaded;
    integer             owed, refi;

    // Writes and reads on their way.
    reg                 write_due   [0:15];
    reg [31:0]          write_at    [0:15];
    reg                 read_due    [0:31];
    reg [BURST-1:0]     read_data   [0:31];

    // The training, by lane.
    reg [2:0]           delay       [0:LANES-1];
    reg [1:0]           slip        [0:LANES-1];
    reg [BURST-1:0]     answer, word, keep, given;
    reg                 valid;
    reg [31:0]          at;
    reg                 reads;
    integer             i, lane, shift, file, got, dead;
    string              image;

    assign {dfi_p1_rddata, dfi_p0_rddata} = answer;
    assign dfi_p0_rddata_valid = valid;
    assign dfi_p1_rddata_valid = valid;

    initial begin
        violation = 0;
        control_seen = 0;
        now = 0;
        from_trrd = 0;
        from_trfc = 0;
        from_tccd = 0;
        from_twtr = 0;
        from_trtw = 0;
        from_mode = 0;
        from_mod = 0;
        reset_since = 0;
        cke_since = 0;
        from_calibrated = 0;
        from_locked = 0;
        reset_n = 0;
        cke = 0;
        calibrated = 0;
        loaded = 0;
        owed = 0;
        refi = 0;
        answer = 0;
        valid = 0;
        pages = 0;
        for (i = 0; i < BANKS; i = i + 1) begin
            active[i] = 0;
            row[i] = 0;
            from_trp[i] = 0;
            from_trcd[i] = 0;
            from_tras[i] = 0;
            from_twr[i] = 0;
            from_trtp[i] = 0;
        end
        for (i = 0; i < 4; i = i + 1) activates[i] = 0;
        for (i = 0; i < 16; i = i + 1) begin
            write_due[i] = 0;
            write_at[i] = 0;
        end
        for (i = 0; i < 32; i = i + 1) begin
            read_due[i] = 0;
            read_data[i] = 0;
        end
        for (i = 0; i < LANES; i = i + 1) begin
            delay[i] = 0;
            slip[i] = 0;
        end
        for (i = 0; i < 1 << (BURST_BITS - PAGE_BITS); i = i + 1) page_of[i] = NONE;
        if (!$value$plusargs("dead=%d", dead)) dead = LANES;
        if ($value$plusargs("image=%s", image)) begin
            file = $fopen(image, "rb");
            if (file == 0) begin
                $display("ddr3_dfi: cannot open the image %s", image);
                $finish;
            end else begin
                got = $fread(memory, file);
                $fclose(file);
                $display("ddr3_dfi: %0d bytes from %s", got, image);
                pages = (got + 65535) / 65536;
                for (i = 0; i < pages; i = i + 1) page_of[i] = i;
            end
        end
    end

    task violate(input [7:0] code, input [BANK_BITS-1:0] bank);
        begin
            $display("DDR3 VIOLATION %0d at clock %0d of the chip, bank %0d", code, now, bank);
            if (violation == 0)
                violation <= code;
        end
    endtask

    task precharge(input integer bank);
        begin
            if (active[bank]) begin
                if (now < from_tras[bank]) violate(7, bank[BANK_BITS-1:0]);
                if (now < from_twr[bank]) violate(11, bank[BANK_BITS-1:0]);
                if (now < from_trtp[bank]) violate(12, bank[BANK_BITS-1:0]);
                active[bank] = 0;
                from_trp[bank] = now + T_RP;
            end
        end
    endtask

    // A bank that closes by itself does so as soon as it may.
    task close(input integer bank);
        reg [63:0] latest;
        begin
            latest = now;
            if (from_tras[bank] > latest) latest = from_tras[bank];
            if (from_twr[bank] > latest) latest = from_twr[bank];
            if (from_trtp[bank] > latest) latest = from_trtp[bank];
            active[bank] = 0;
            from_trp[bank] = latest + T_RP;
        end
    endtask

    task all_idle(input [BANK_BITS-1:0] bank);
        for (i = 0; i < BANKS; i = i + 1) begin
            if (active[i]) violate(17, i[BANK_BITS-1:0]);
            if (now < from_trp[i]) violate(5, i[BANK_BITS-1:0]);
        end
    endtask

    task command(
        input [2:0] name, input [ROW_BITS-1:0] a, input [BANK_BITS-1:0] ba, input read_en, input write_en
    );
        begin
            if (!cke || now < cke_since + T_XPR) violate(2, ba);
            if (now < from_trfc) violate(13, ba);
            if (now < (name == 3'b000 ? from_mode : from_mod)) violate(3, ba);
            if (name != 3'b000 && now < from_calibrated) violate(22, ba);
            if (name != 3'b000 && name != 3'b110 && !(calibrated && (&loaded))) violate(2, ba);
            case (name)
                3'b011: begin // ACTIVATE
                    if (active[ba]) violate(16, ba);
                    if (now < from_trp[ba]) violate(5, ba);
                    if (now < from_trrd) violate(8, ba);
                    if (activates[3] != 0 && now < activates[3] + T_FAW) violate(9, ba);
                    for (i = 3; i > 0; i = i - 1) activates[i] = activates[i-1];
                    activates[0] = now;
                    active[ba] = 1;
                    row[ba] = a;
                    from_trrd = now + T_RRD;
                    from_trcd[ba] = now + T_RCD;
                    from_tras[ba] = now + T_RAS;
                    from_twr[ba] = 0;
                    from_trtp[ba] = 0;
                end
                3'b101, 3'b100: begin // READ, WRITE
                    if (!active[ba]) violate(15, ba);
                    else if (now < from_trcd[ba]) violate(6, ba);
                    if (now < from_tccd) violate(10, ba);
                    if (now < from_locked) violate(22, ba);
                    if (a[2:0] != 0 || (a >> COLUMN_BITS) > 1) violate(20, ba);
                    at = {row[ba], ba, a[COLUMN_BITS-1:3]};
                    from_tccd = now + 4;
                    if (name[0]) begin
                        if (!read_en) violate(19, ba);
                        if (now < from_twtr) violate(11, ba);
                        read_due[0] = 1;
                        read_data[0] = page_of[at >> PAGE_BITS] == NONE ? 0
                            : memory[page_of[at >> PAGE_BITS] << PAGE_BITS | at & ((1 << PAGE_BITS) - 1)];
                        from_trtp[ba] = now + T_RTP;
                        from_trtw = now + CL + 6 - CWL;
                    end else begin
                        if (!write_en) violate(19, ba);
                        if (now < from_trtw) violate(18, ba);
                        write_due[0] = 1;
                        write_at[0] = at;
                        from_twr[ba] = now + CWL + 4 + T_WR;
                        from_twtr = now + CWL + 4 + T_WTR;
                    end
                    if (a[10]) close({{(32-BANK_BITS){1'b0}}, ba});
                end
                3'b010: // PRECHARGE
                    if (a[10])
                        for (lane = 0; lane < BANKS; lane = lane + 1) precharge(lane);
                    else
                        precharge({{(32-BANK_BITS){1'b0}}, ba});
                3'b001: begin // REFRESH
                    all_idle(ba);
                    from_trfc = now + T_RFC;
                    owed = owed - 1;
                end
                3'b000: begin // MODE REGISTER SET
                    all_idle(ba);
                    case (ba[1:0])
                        // Bursts of eight in sequence, CL as coded from 5 on; the DLL is reset.
                        0: begin
                            if (a[1:0] != 0 || a[3:2] != 0 || a[6:4] != CL - 4) violate(4, ba);
                            if (a[8]) from_locked = now + T_DLLK;
                        end
                        1: if (a[0] || a[4:3] != 0 || a[7] || a[12]) violate(4, ba);
                        2: if (a[5:3] != CWL - 5) violate(4, ba);
                        3: if (a != 0) violate(4, ba);
                    endcase
                    loaded[ba[1:0]] = 1;
                    from_mode = now + T_MRD;
                    from_mod = now + T_MOD;
                end
                3'b110: begin // ZQ CALIBRATION
                    if (!calibrated && !a[10]) violate(22, ba);
                    if (!calibrated) begin
                        owed = 0;
                        refi = 0;
                    end
                    calibrated = 1;
                    from_calibrated = now + (a[10] ? T_ZQINIT : 64);
                end
                default: ;
            endcase
        end
    endtask

    // Pins that hold for both phases, and the refreshes that fall due.
    task pins(input new_reset_n, input new_cke);
        begin
            if (new_reset_n && !reset_n && (now < reset_since + T_RESET || new_cke)) violate(1, 0);
            if (new_cke && !cke && (!reset_n || now < reset_since + T_CKE)) violate(1, 0);
            if (!new_reset_n && reset_n) begin
                loaded = 0;
                calibrated = 0;
                for (i = 0; i < BANKS; i = i + 1) active[i] = 0;
            end
            if (!new_cke && cke && new_reset_n) violate(20, 0);
            if (new_reset_n != reset_n) reset_since = now;
            if (new_cke != cke) cke_since = now;
            reset_n = new_reset_n;
            cke = new_cke;
            if (calibrated) begin
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
        end
    endtask

    always @(posedge clk) begin
        for (i = 31; i > 0; i = i - 1) begin
            read_due[i] = read_due[i-1];
            read_data[i] = read_data[i-1];
        end
        for (i = 15; i > 0; i = i - 1) begin
            write_due[i] = write_due[i-1];
            write_at[i] = write_at[i-1];
        end
        read_due[0] = 0;
        write_due[0] = 0;
        now = now + 1;
        pins(dfi_p0_reset_n, dfi_p0_cke);
        if (!dfi_p0_cs_n && {dfi_p0_ras_n, dfi_p0_cas_n, dfi_p0_we_n} != 3'b111)
            command({dfi_p0_ras_n, dfi_p0_cas_n, dfi_p0_we_n}, dfi_p0_address, dfi_p0_bank,
                    dfi_p0_rddata_en, dfi_p0_wrdata_en);
        now = now + 1;
        pins(dfi_p1_reset_n, dfi_p1_cke);
        if (!dfi_p1_cs_n && {dfi_p1_ras_n, dfi_p1_cas_n, dfi_p1_we_n} != 3'b111)
            command({dfi_p1_ras_n, dfi_p1_cas_n, dfi_p1_we_n}, dfi_p1_address, dfi_p1_bank,
                    dfi_p1_rddata_en, dfi_p1_wrdata_en);

        if (write_due[WRITE_LATENCY]) begin
            at = write_at[WRITE_LATENCY];
            if (page_of[at >> PAGE_BITS] == NONE) begin
                if (pages == PAGES) violate(21, 0);
                else begin
                    page_of[at >> PAGE_BITS] = pages;
                    pages = pages + 1;
                end
            end
            if (page_of[at >> PAGE_BITS] != NONE) begin
                at = page_of[at >> PAGE_BITS] << PAGE_BITS | at & ((1 << PAGE_BITS) - 1);
                for (i = 0; i < BYTES / 2; i = i + 1) begin
                    keep[8*i +: 8] = {8{dfi_p0_wrdata_mask[i]}};
                    keep[BURST/2+8*i +: 8] = {8{dfi_p1_wrdata_mask[i]}};
                end
                given = {dfi_p1_wrdata, dfi_p0_wrdata};
                word = memory[at];
                memory[at] = (word & turned(keep)) | (turned(given) & ~turned(keep));
            end
        end

        // The lanes of a burst, as the PHY has them after so many clocks.
        valid <= read_due[READ_LATENCY-1];
        word = turned(read_data[READ_LATENCY-1]);
        for (lane = 0; lane < LANES; lane = lane + 1) begin
            shift = slip[lane] - SLIP[4*lane +: 4] + 8;
            reads = read_due[READ_LATENCY-1] && lane != dead && delay[lane] >= FIRST[4*lane +: 4]
                && delay[lane] <= LAST[4*lane +: 4];
            for (i = 0; i < 8; i = i + 1)
                if (!reads || control_lanes[lane])
                    answer[8*(LANES*i+lane) +: 8] <= 8'h5a ^ now[8:1] ^ 29 * i;
                else
                    answer[8*(LANES*i+lane) +: 8] <= word[8*(LANES*((i+shift)%8)+lane) +: 8];
            if (control_seen_clear)
                control_seen[lane] <= 0;
            else if (reads)
                control_seen[lane] <= 1;
            if (control_lanes[lane]) begin
                if (control_delay_reset) delay[lane] <= 0;
                if (control_delay_step) delay[lane] <= delay[lane] + 1;
                if (control_slip_reset) slip[lane] <= 0;
                if (control_slip_step) slip[lane] <= slip[lane] + 1;
            end
        end
    end
endmodule
