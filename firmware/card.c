/* An SD card in SPI mode, of any capacity.
 *
 * Source: SD Specifications Part 1, Physical Layer Simplified Specification, chapter 7.
 */
#include "console.h"
#include "hal.h"
#include "spi.h"
#include "storage_devices.h"

#if TAMALE_STORAGE

#define START_HZ 400000
#define CLOCK_HZ 25000000
#define MILLISECOND (TAMALE_CPU_CLOCK_HZ / 1000)

#define GO_IDLE 0
#define SEND_INTERFACE_CONDITION 8
#define STOP 12
#define READ_MULTIPLE 18
#define APPLICATION 55
#define READ_OCR 58
#define START_INITIALISATION 41 /* behind APPLICATION */

#define STATUS_IDLE 1
#define NO_ANSWER 0xFF
#define DATA_TOKEN 0xFE

static bool blocks; /* the card counts blocks, not bytes */

static uint32_t now(void) { return (uint32_t)hal_cycles(); }

/* The first byte within some time that is, or is not, 0xFF; else what came last. */
static uint8_t await(bool idle, uint32_t milliseconds) {
    uint32_t start = now();
    uint8_t byte;
    do byte = spi_exchange(0xFF);
    while ((byte == 0xFF) != idle && now() - start < milliseconds * MILLISECOND);
    return byte;
}

static uint8_t command(uint8_t number, uint32_t argument) {
    if (number != STOP) await(true, 500);
    spi_exchange(0x40 | number);
    for (int shift = 24; shift >= 0; shift -= 8) spi_exchange((uint8_t)(argument >> shift));
    /* Checksums count for these two only, and these have one argument each. */
    spi_exchange(number == GO_IDLE ? 0x95 : number == SEND_INTERFACE_CONDITION ? 0x87 : 0x01);
    if (number == STOP) spi_exchange(0xFF);
    uint8_t answer = NO_ANSWER;
    for (int i = 0; i < 9 && answer & 0x80; i++) answer = spi_exchange(0xFF);
    return answer;
}

static uint32_t answer_word(void) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value = value << 8 | spi_exchange(0xFF);
    return value;
}

static void release(void) {
    spi_select(false);
    /* The card lets go of the line at the next clock. */
    spi_exchange(0xFF);
}

static bool start(void) {
    uint32_t high_capacity = 0x40000000;
    uint8_t answer = command(SEND_INTERFACE_CONDITION, 0x1AA);
    if (answer & ~STATUS_IDLE)
        high_capacity = 0; /* older than this command */
    else if ((answer_word() & 0xFFF) != 0x1AA)
        return false;
    uint32_t begun = now();
    do {
        command(APPLICATION, 0);
        answer = command(START_INITIALISATION, high_capacity);
    } while (answer == STATUS_IDLE && now() - begun < 1000 * MILLISECOND);
    if (answer || command(READ_OCR, 0)) return false;
    blocks = answer_word() >> 30 & 1;
    return true;
}

bool card_open(void) {
    spi_open(TAMALE_SPI_CONTROL_DEVICE_CARD, START_HZ);
    /* 74 clocks or more without select. */
    for (int i = 0; i < 10; i++) spi_exchange(0xFF);
    spi_select(true);
    uint8_t answer = NO_ANSWER;
    for (int i = 0; i < 3 && answer != STATUS_IDLE; i++) answer = command(GO_IDLE, 0);
    bool ready = answer == STATUS_IDLE && start();
    release();
    if (ready) {
        spi_open(TAMALE_SPI_CONTROL_DEVICE_CARD, CLOCK_HZ);
    } else if (answer != NO_ANSWER) {
        record_error("card_not_ready");
        record_end();
    }
    return ready;
}

bool card_read(uint32_t sector, uint32_t count, volatile uint32_t *to) {
    spi_select(true);
    bool good = !command(READ_MULTIPLE, blocks ? sector : sector * 512);
    if (good) {
        for (; count && good; count--, to += 128) {
            good = await(false, 300) == DATA_TOKEN;
            if (!good) break;
            spi_read(to, 128);
            spi_exchange(0xFF);
            spi_exchange(0xFF);
        }
        /* The next command waits until the card has stopped. */
        command(STOP, 0);
    }
    release();
    if (!good) {
        record_error("card_unreadable");
        record_number("sector", sector);
        record_end();
    }
    return good;
}

#endif
