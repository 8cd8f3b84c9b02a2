#include "loader.h"

#include "console.h"
#include "hal.h"
#include "image.h"

/* Bytes of a block, and the blocks that the host may send ahead of their answers. While a block is
 * checked and answered, what arrives must fit the port's FIFO: at 3 Mbaud and 50 MHz that is 2,700
 * cycles, and both take about 1,500. */
#define BLOCK 2048u
#define WINDOW 8u
/* What the accelerator's checksum takes: the widest beat. */
#define ALIGNMENT 64u
/* Bit times after which a line is quiet: 5 ms at 3 Mbaud, for hosts pause. */
#define QUIET_BITS 16384u
/* The receiver needs so many clock cycles a bit. */
#define MIN_DIVISOR 5u

static uint32_t now(void) { return (uint32_t)hal_cycles(); }

/* The next byte, or -1 after so many cycles without one. */
static int get(uint32_t patience) {
    int byte = hal_uart_poll();
    if (byte >= 0) return byte;
    uint32_t start = now();
    do {
        byte = hal_uart_poll();
        if (byte >= 0) return byte;
    } while (now() - start < patience);
    return -1;
}

static bool get_word(uint32_t *word, uint32_t patience) {
    uint32_t value = 0;
    for (int shift = 0; shift < 32; shift += 8) {
        int byte = get(patience);
        if (byte < 0) return false;
        value |= (uint32_t)byte << shift;
    }
    *word = value;
    return true;
}

/* A core without an accelerator checks a block as it arrives: at its end that would take too long. */
#ifdef TAMALE_ENGINE_BASE
#define CORE_CHECKS true
#else
#define CORE_CHECKS false
#endif

struct header {
    uint32_t offset, bytes, data_crc, header_crc;
};

enum frame { GOT, BROKEN, END, SILENCE };

/* Takes one frame. Only the place that a good header names is written. */
static enum frame take(uint32_t bytes, uint32_t quiet, uint32_t patience, uint32_t *number) {
    struct header header;
    for (uint32_t i = 0; i < sizeof header; i++) {
        int byte = get(i ? quiet : patience);
        if (byte < 0) return i ? BROKEN : SILENCE;
        ((uint8_t *)&header)[i] = (uint8_t)byte;
    }
    uint32_t crc = image_crc_word(0xFFFFFFFFu, header.offset);
    crc = image_crc_word(image_crc_word(crc, header.bytes), header.data_crc);
    if (header.header_crc != ~crc || header.bytes > BLOCK || header.bytes % ALIGNMENT ||
        header.offset % BLOCK || header.offset > bytes || header.bytes > bytes - header.offset)
        return BROKEN;
    if (!header.bytes) return END;
    volatile uint32_t *to = IMAGE + header.offset / 4;
    crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < header.bytes / 4; i++) {
        uint32_t value;
        if (!get_word(&value, quiet)) return BROKEN;
        to[i] = value;
        if (CORE_CHECKS) crc = image_crc_word(crc, to[i]);
    }
    *number = header.offset / BLOCK;
    if (CORE_CHECKS)
        crc = ~crc;
    else if (!image_checksum(header.offset, header.bytes, &crc))
        return BROKEN;
    return crc == header.data_crc ? GOT : BROKEN;
}

static void receive(uint32_t bytes, uint32_t quiet, uint32_t patience) {
    for (;;) {
        uint32_t number = 0;
        switch (take(bytes, quiet, patience, &number)) {
        case GOT:
            /* While this is sent bytes arrive, so it must fit the port's FIFO. */
            record_begin("got");
            record_number("n", number);
            record_end();
            break;
        case BROKEN:
            while (get(quiet) >= 0) {
            }
            record_begin("again");
            record_end();
            break;
        case END:
            record_begin("loaded");
            record_end();
            return;
        case SILENCE:
            record_error("load_interrupted");
            record_end();
            return;
        }
    }
}

bool loader_load(void) {
    uint32_t bytes, baud, milliseconds;
    if (!console_number(&bytes) || !console_number(&baud) || !console_number(&milliseconds) ||
        !console_end() || !milliseconds || milliseconds > 10000) {
        record_error("bad_load");
        record_end();
        return false;
    }
    if (!bytes || bytes > TAMALE_DRAM_SIZE || bytes % ALIGNMENT) {
        record_error("bad_range");
        record_number("bytes", bytes);
        record_number("memory", TAMALE_DRAM_SIZE);
        record_end();
        return false;
    }
    uint32_t usual = tamale_uart_divisor_read();
    uint32_t divisor = baud ? (TAMALE_CPU_CLOCK_HZ + baud / 2) / baud : usual;
    /* A bit may be a fortieth too long or short: a quarter of a bit at the end of a byte. */
    uint32_t off = divisor * baud > TAMALE_CPU_CLOCK_HZ ? divisor * baud - TAMALE_CPU_CLOCK_HZ
                                                    : TAMALE_CPU_CLOCK_HZ - divisor * baud;
    if (divisor < MIN_DIVISOR || divisor >> 16 || (baud && off > TAMALE_CPU_CLOCK_HZ / 40)) {
        record_error("bad_baud");
        record_number("baud", baud);
        record_end();
        return false;
    }
    record_begin("loading");
    record_number("bytes", bytes);
    record_number("block", BLOCK);
    record_number("window", WINDOW);
    record_end();
    hal_uart_flush();
    tamale_uart_divisor_write(divisor);
    uint32_t patience = TAMALE_CPU_CLOCK_HZ / 1000 * milliseconds;
    receive(bytes, QUIET_BITS * divisor, patience);
    hal_uart_flush();
    tamale_uart_divisor_write(usual);
    /* The host says when it listens at the usual rate again. */
    while (get(patience) >= 0 && get(QUIET_BITS * usual / 16) >= 0) {
    }
    return true;
}

void loader_sums(void) {
    uint32_t offset, bytes, count, crc;
    if (!console_number(&offset) || !console_number(&bytes) || !console_number(&count) ||
        !console_end()) {
        record_error("bad_number");
        record_end();
        return;
    }
    if (!bytes || offset % ALIGNMENT || bytes % ALIGNMENT || offset > TAMALE_DRAM_SIZE ||
        count > (TAMALE_DRAM_SIZE - offset) / bytes) {
        record_error("bad_range");
        record_number("bytes", bytes);
        record_number("memory", TAMALE_DRAM_SIZE);
        record_end();
        return;
    }
    record_begin("sums");
    for (; count && image_checksum(offset, bytes, &crc); count--, offset += bytes)
        record_number("c", crc);
    record_end();
}
