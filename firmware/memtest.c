#include "memtest.h"

#include "console.h"
#include "tamale_soc.h"

#define MEMORY ((volatile uint32_t *)TAMALE_DRAM_UNCACHED_BASE)
#define WORDS (TAMALE_DRAM_SIZE / 4)
/* Progress reports of each walk through the memory. */
#define REPORTS 8

static struct {
    uint32_t errors, address, has, wants; /* the last three of the first error */
} found;

static void compare(uint32_t index, uint32_t wants) {
    uint32_t has = MEMORY[index];
    if (has == wants || found.errors++) return;
    found.address = index * 4;
    found.has = has;
    found.wants = wants;
}

/* Every data line alone, up and down. */
static void data_lines(void) {
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t value = 1u << (i & 31);
        MEMORY[0] = i < 32 ? value : ~value;
        MEMORY[1] = i < 32 ? ~value : value; /* the lines do not remember */
        compare(0, i < 32 ? value : ~value);
    }
}

/* Every address line alone, up and down: cells that are one in truth overwrite each other. */
static void address_lines(uint32_t seed) {
    for (uint32_t flip = 0; flip < 2; flip++) {
        uint32_t base = flip ? WORDS - 1 : 0;
        for (uint32_t bit = 0; bit == 0 || bit < WORDS; bit = bit ? bit << 1 : 1)
            MEMORY[base ^ bit] = seed + bit;
        for (uint32_t bit = 0; bit == 0 || bit < WORDS; bit = bit ? bit << 1 : 1)
            compare(base ^ bit, seed + bit);
    }
}

/* Single bytes do not touch their neighbours. */
static void byte_lanes(void) {
    volatile uint8_t *bytes = (volatile uint8_t *)MEMORY;
    for (uint32_t lane = 0; lane < 4; lane++) {
        MEMORY[0] = 0x55AA33CC;
        bytes[lane] = 0x96;
        compare(0, (0x55AA33CC & ~(0xFFu << 8 * lane)) | 0x96u << 8 * lane);
    }
}

static uint32_t pattern(uint32_t index, uint32_t seed) {
    uint32_t value = (index ^ seed) * 0x9E3779B1u;
    return value ^ value >> 15;
}

static void report(const char *kind, uint32_t walk, uint32_t words) {
    record_begin(kind);
    record_number("walk", walk);
    record_number("bytes", words * 4);
    record_number("errors", found.errors);
    if (found.errors) {
        record_number("address", found.address);
        record_number("has", found.has);
        record_number("wants", found.wants);
    }
    record_end();
}

bool memtest(void) {
    uint32_t bytes, seed;
    if (!console_number(&bytes) || !console_number(&seed) || !console_end()) {
        record_error("bad_number");
        record_end();
        return false;
    }
    uint32_t words = bytes / 4;
    if (bytes % 4 || !words || words > WORDS) {
        record_error("bad_range");
        record_number("bytes", bytes);
        record_number("memory", TAMALE_DRAM_SIZE);
        record_end();
        return false;
    }
    found.errors = 0;
    data_lines();
    address_lines(seed);
    byte_lanes();
    bool stopped = false;
    uint32_t walk = 0, step = (words + REPORTS - 1) / REPORTS;
    /* Write, compare; the same with every bit the other way. */
    for (; walk < 4 && !stopped; walk++) {
        uint32_t flip = walk & 2 ? ~0u : 0;
        for (uint32_t i = 0; i < words && !stopped;) {
            uint32_t end = words - i > step ? i + step : words;
            for (; i < end; i++) {
                if (walk & 1)
                    compare(i, pattern(i, seed) ^ flip);
                else
                    MEMORY[i] = pattern(i, seed) ^ flip;
            }
            report("testing", walk, i);
            stopped = console_interrupted();
        }
    }
    report("tested", walk, stopped ? 0 : words);
    return true;
}
