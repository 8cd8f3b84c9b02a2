/* Runs the firmware's set-up and training of DDR3 on this machine, against a PHY and a chip that are imitated.
 *
 *     ddr3 READY SEEN MASK...      READY: looks at the PHY until it is ready; SEEN: lanes whose bursts are seen at
 *                                  all; MASK: delays at which a lane reads right, of lane 0 by slip, of lane 1
 *
 * Prints the records, and at the end what the PHY was left with. Exit status 2: the chip was not set up as it has to be.
 */
#include <stdio.h>
#include <stdlib.h>

#include "console.h"
#include "ddr3.h"
#include "hal.h"

#define LANES 2
#define NS_PER_CYCLE (1000000000.0 / TAMALE_CPU_CLOCK_HZ)

static struct {
    unsigned mask[LANES][4], delay[LANES], slip[LANES], selected, seen, visible;
    unsigned control, looks;
    uint32_t words[64];
    double now, reset_at, cke_at, mode_at, calibrated_at;
    unsigned modes; /* how many were loaded */
} phy = {.control = TAMALE_DDR3_CONTROL_INIT};

static void broken(const char *rule) {
    printf("broken %s\n", rule);
    exit(2);
}

static void control(unsigned value) {
    unsigned rises = value & ~phy.control;
    if (rises & TAMALE_DDR3_CONTROL_RESET_N_MASK) phy.reset_at = phy.now;
    if (phy.reset_at < 200e3 && value & TAMALE_DDR3_CONTROL_RESET_N_MASK) broken("reset 200 us");
    if (rises & TAMALE_DDR3_CONTROL_CKE_MASK) {
        if (phy.now < phy.reset_at + 500e3) broken("clock enable 500 us after reset");
        phy.cke_at = phy.now;
    }
    if (phy.control & ~value & TAMALE_DDR3_CONTROL_SOFTWARE_MASK) {
        if (!phy.calibrated_at || phy.now < phy.calibrated_at + 512 * 6.25) broken("calibration");
        if (!(value & TAMALE_DDR3_CONTROL_CKE_MASK)) broken("hand-over without clock enable");
    }
    phy.control = value;
}

static void command(unsigned value) {
    static const unsigned order[] = {2, 3, 1, 0};
    static const unsigned modes[] = {TAMALE_DDR3_MODE0, TAMALE_DDR3_MODE1, TAMALE_DDR3_MODE2, TAMALE_DDR3_MODE3};
    unsigned bank = TAMALE_FIELD(TAMALE_DDR3_COMMAND_BANK, value);
    unsigned address = TAMALE_FIELD(TAMALE_DDR3_COMMAND_ADDRESS, value);
    if (!(phy.control & TAMALE_DDR3_CONTROL_SOFTWARE_MASK)) broken("command while the controller commands");
    if (!phy.cke_at || phy.now < phy.cke_at + 270) broken("tXPR");
    if (phy.mode_at && phy.now < phy.mode_at + 75) broken("tMOD");
    if ((value & 7) == 7) { /* ras, cas, we: mode register */
        if (phy.modes >= 4 || bank != order[phy.modes++] || address != modes[bank]) broken("mode registers");
        phy.mode_at = phy.now;
    } else if ((value & 7) == 4 && phy.modes == 4 && address == 1 << 10) {
        phy.calibrated_at = phy.now;
    } else {
        broken("unknown command");
    }
}

static void training(unsigned value) {
    if (value & TAMALE_DDR3_TRAINING_SEEN_CLEAR_MASK) phy.seen = 0;
    for (unsigned lane = 0; lane < LANES; lane++) {
        if (!(phy.selected >> lane & 1)) continue;
        if (value & TAMALE_DDR3_TRAINING_DELAY_RESET_MASK) phy.delay[lane] = 0;
        if (value & TAMALE_DDR3_TRAINING_DELAY_STEP_MASK) phy.delay[lane] = (phy.delay[lane] + 1) % 8;
        if (value & TAMALE_DDR3_TRAINING_SLIP_RESET_MASK) phy.slip[lane] = 0;
        if (value & TAMALE_DDR3_TRAINING_SLIP_STEP_MASK) phy.slip[lane] = (phy.slip[lane] + 1) % 4;
    }
}

static uint32_t *word(uintptr_t address) {
    uintptr_t first = TAMALE_DRAM_UNCACHED_BASE + TAMALE_DRAM_SIZE - sizeof phy.words;
    if (address < first || address >= first + sizeof phy.words) broken("access outside the end of the memory");
    if (phy.control & TAMALE_DDR3_CONTROL_SOFTWARE_MASK) broken("access before the hand-over");
    return &phy.words[(address - first) / 4];
}

uint32_t host_read(uintptr_t address) {
    phy.now += 20 * NS_PER_CYCLE;
    if (address == TAMALE_DDR3_BASE + TAMALE_DDR3_CONTROL_OFFSET) return phy.control;
    if (address == TAMALE_DDR3_BASE + TAMALE_DDR3_STATUS_OFFSET)
        return TAMALE_PLACE(TAMALE_DDR3_STATUS_READY, !phy.looks || !--phy.looks) |
               TAMALE_PLACE(TAMALE_DDR3_STATUS_SEEN, phy.seen & phy.visible);
    uint32_t value = *word(address);
    for (unsigned lane = 0; lane < LANES; lane++) {
        phy.seen |= 1u << lane;
        if (!(phy.mask[lane][phy.slip[lane]] >> phy.delay[lane] & 1) || phy.selected >> lane & 1)
            /* one bit of one word is wrong */
            value ^= (address & 0x1C) == 0x14 ? 0x00800000u << 8 * lane : 0;
    }
    return value;
}

void host_write(uintptr_t address, uint32_t value) {
    phy.now += 20 * NS_PER_CYCLE;
    switch (address - TAMALE_DDR3_BASE) {
    case TAMALE_DDR3_CONTROL_OFFSET: control(value); break;
    case TAMALE_DDR3_COMMAND_OFFSET: command(value); break;
    case TAMALE_DDR3_LANES_OFFSET: phy.selected = value; break;
    case TAMALE_DDR3_TRAINING_OFFSET: training(value); break;
    default: *word(address) = value;
    }
}

uint64_t hal_cycles(void) {
    phy.now += 10 * NS_PER_CYCLE;
    return (uint64_t)(phy.now / NS_PER_CYCLE);
}
void record_begin(const char *kind) { printf("%s", kind); }
void record_error(const char *what) { printf("error what=%s", what); }
void record_number(const char *name, uint64_t value) {
    printf(" %s=%llu", name, (unsigned long long)value);
}
void record_end(void) { printf("\n"); }

int main(int count, char **arguments) {
    if (count != 3 + 4 * LANES) return 1;
    phy.looks = (unsigned)atoi(arguments[1]);
    phy.visible = (unsigned)atoi(arguments[2]);
    for (unsigned i = 0; i < 4 * LANES; i++) phy.mask[i / 4][i % 4] = (unsigned)strtoul(arguments[3 + i], 0, 0);
    bool works = ddr3_start();
    /* Memory that works is left alone. */
    double before = phy.now;
    if (works && (!ddr3_start() || phy.now > before + 100 * NS_PER_CYCLE)) broken("set up twice");
    printf("end works=%d software=%u", works, phy.control & TAMALE_DDR3_CONTROL_SOFTWARE_MASK);
    for (unsigned lane = 0; lane < LANES; lane++) printf(" slip=%u delay=%u", phy.slip[lane], phy.delay[lane]);
    printf("\n");
    return 0;
}
