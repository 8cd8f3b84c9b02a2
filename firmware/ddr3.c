#include "ddr3.h"

#ifdef TAMALE_DDR3_BASE

#include "console.h"
#include "hal.h"

#define LANES 2
#define ALL_LANES ((1u << LANES) - 1)
/* Settings of the PHY: by how many bits words are shifted, and where the read window lies. */
#define SLIPS 4
#define DELAYS 8
/* Looks, 10 us apart, for the PHY to settle; that takes some microseconds. */
#define READY_TRIES 1000
/* What is written to train with: at the end of the memory, for its start may hold an image. */
#define WORDS 64
#define TEST (TAMALE_DRAM_UNCACHED_BASE + TAMALE_DRAM_SIZE - 4 * WORDS)

enum { MODE_REGISTER, CALIBRATION };

static void wait_us(uint32_t us) {
    uint64_t end = hal_cycles() + (uint64_t)us * (TAMALE_CPU_CLOCK_HZ / 1000000u + 1);
    while (hal_cycles() < end) {
    }
}

static void pins(bool software, bool cke, bool reset_n) {
    tamale_ddr3_control_write(TAMALE_PLACE(TAMALE_DDR3_CONTROL_SOFTWARE, software) |
                              TAMALE_PLACE(TAMALE_DDR3_CONTROL_CKE, cke) |
                              TAMALE_PLACE(TAMALE_DDR3_CONTROL_ODT, cke) |
                              TAMALE_PLACE(TAMALE_DDR3_CONTROL_RESET_N, reset_n));
}

static void command(int kind, uint32_t bank, uint32_t address) {
    tamale_ddr3_command_write(TAMALE_DDR3_COMMAND_WE_MASK |
                              TAMALE_PLACE(TAMALE_DDR3_COMMAND_RAS, kind == MODE_REGISTER) |
                              TAMALE_PLACE(TAMALE_DDR3_COMMAND_CAS, kind == MODE_REGISTER) |
                              TAMALE_PLACE(TAMALE_DDR3_COMMAND_BANK, bank) |
                              TAMALE_PLACE(TAMALE_DDR3_COMMAND_ADDRESS, address));
}

/* JESD79-3, 3.3: the waits are the standard's, or longer. */
static void set_up(void) {
    pins(true, false, false);
    wait_us(200);
    pins(true, false, true);
    wait_us(500);
    pins(true, true, true);
    wait_us(2);
    command(MODE_REGISTER, 2, TAMALE_DDR3_MODE2);
    wait_us(1);
    command(MODE_REGISTER, 3, TAMALE_DDR3_MODE3);
    wait_us(1);
    command(MODE_REGISTER, 1, TAMALE_DDR3_MODE1);
    wait_us(1);
    command(MODE_REGISTER, 0, TAMALE_DDR3_MODE0);
    wait_us(1);
    command(CALIBRATION, 0, 1 << 10);
    /* 512 clocks of the chip, for calibration and for its delay line. */
    wait_us(10);
    pins(false, true, true);
}

static uint32_t pattern(uint32_t index) {
    uint32_t value = (index + 1) * 0x9E3779B1u;
    return value ^ value >> 15;
}

/* Lanes that read what was written, `seen` those of which a burst was seen. */
static uint32_t good_lanes(uint32_t *seen) {
    uint32_t wrong = 0;
    tamale_ddr3_training_write(TAMALE_DDR3_TRAINING_SEEN_CLEAR_MASK);
    for (uint32_t i = 0; i < WORDS; i++) {
        uint32_t differs = TAMALE_READ32(TEST + 4 * i) ^ pattern(i);
        /* Bytes of the data bus in turn, two words of it in one of ours. */
        for (uint32_t lane = 0; lane < LANES; lane++)
            if (differs & 0x00FF00FFu << 8 * lane) wrong |= 1u << lane;
        if (wrong == ALL_LANES) break;
    }
    *seen = TAMALE_FIELD(TAMALE_DDR3_STATUS_SEEN, tamale_ddr3_status_read());
    return ALL_LANES & ~wrong & *seen;
}

/* Sets lanes anew, `steps` from the start. */
static void set(uint32_t lanes, uint32_t reset, uint32_t step, uint32_t steps) {
    tamale_ddr3_lanes_write(lanes);
    tamale_ddr3_training_write(reset);
    while (steps--) tamale_ddr3_training_write(step);
    tamale_ddr3_lanes_write(0);
}

static void set_delay(uint32_t lanes, uint32_t delay) {
    set(lanes, TAMALE_DDR3_TRAINING_DELAY_RESET_MASK, TAMALE_DDR3_TRAINING_DELAY_STEP_MASK, delay);
}

static void set_slip(uint32_t lanes, uint32_t slip) {
    set(lanes, TAMALE_DDR3_TRAINING_SLIP_RESET_MASK, TAMALE_DDR3_TRAINING_SLIP_STEP_MASK, slip);
}

static bool fail(uint32_t lane, bool seen) {
    record_error("memory_training");
    record_number("lane", lane);
    record_number("seen", seen);
    record_end();
    return false;
}

/* Tries every setting, then puts each lane into the middle of its longest run of delays. */
static bool train(void) {
    uint8_t good[LANES][SLIPS] = {0}; /* a bit for each delay */
    uint32_t seen, ever = 0;
    for (uint32_t i = 0; i < WORDS; i++) TAMALE_WRITE32(TEST + 4 * i, pattern(i));
    for (uint32_t slip = 0; slip < SLIPS; slip++) {
        set_slip(ALL_LANES, slip);
        for (uint32_t delay = 0; delay < DELAYS; delay++) {
            set_delay(ALL_LANES, delay);
            uint32_t lanes = good_lanes(&seen);
            ever |= seen;
            for (uint32_t lane = 0; lane < LANES; lane++)
                if (lanes >> lane & 1) good[lane][slip] |= (uint8_t)(1u << delay);
        }
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        uint32_t longest = 0, best_slip = 0, best_delay = 0;
        for (uint32_t slip = 0; slip < SLIPS; slip++)
            for (uint32_t run = 0, delay = 0; delay < DELAYS; delay++) {
                run = good[lane][slip] >> delay & 1 ? run + 1 : 0;
                if (run <= longest) continue;
                longest = run;
                best_slip = slip;
                best_delay = delay - (run - 1) / 2;
            }
        if (!longest) return fail(lane, ever >> lane & 1);
        set_slip(1u << lane, best_slip);
        set_delay(1u << lane, best_delay);
        record_begin("trained");
        record_number("lane", lane);
        record_number("slip", best_slip);
        record_number("delay", best_delay);
        record_number("width", longest);
        record_end();
    }
    uint32_t lanes = good_lanes(&seen);
    for (uint32_t lane = 0; lane < LANES; lane++)
        if (!(lanes >> lane & 1)) return fail(lane, seen >> lane & 1);
    return true;
}

static bool ready(void) {
    return TAMALE_FIELD(TAMALE_DDR3_STATUS_READY, tamale_ddr3_status_read());
}

bool ddr3_start(void) {
    if (!TAMALE_FIELD(TAMALE_DDR3_CONTROL_SOFTWARE, tamale_ddr3_control_read())) return true;
    for (uint32_t tries = 0; !ready(); tries++) {
        if (tries == READY_TRIES) {
            record_error("memory_clock");
            record_end();
            return false;
        }
        wait_us(10);
    }
    set_up();
    if (train()) return true;
    /* The next attempt begins anew. */
    pins(true, false, false);
    return false;
}

#endif
