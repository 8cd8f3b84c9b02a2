/* The program of the boot ROM: wakes the flash, copies the firmware from it, starts it.
 *
 * Source: data sheet of the W25Q128JV, commands ABh, 50h, 31h. */
#include <stdint.h>

#include "tamale_soc.h"

/* tRES1 is 3 us for this part; the slowest of its kind take 30. */
#define WAKE_UP_CYCLES (TAMALE_CLOCK_HZ / 25000)

#define HEADER ((const volatile uint32_t *)(TAMALE_FLASH_BASE + TAMALE_FIRMWARE_OFFSET))

__attribute__((naked, section(".text.start"))) void _start(void) {
    __asm__ volatile("li sp, %0\n\tj boot" ::"i"(TAMALE_RAM_BASE + TAMALE_RAM_SIZE));
}

static void pins(uint32_t cs, uint32_t sck, uint32_t data) {
    tamale_engine_pins_write(TAMALE_ENGINE_PINS_MANUAL_MASK | TAMALE_PLACE(TAMALE_ENGINE_PINS_CS, cs) |
                             TAMALE_PLACE(TAMALE_ENGINE_PINS_SCK, sck) |
                             TAMALE_PLACE(TAMALE_ENGINE_PINS_DATA, data));
}

/* Sends a command of `count` bytes, the first in the highest byte. */
static void send(uint32_t bytes, uint32_t count) {
    for (count *= 8; count--; bytes <<= 1) {
        pins(1, 0, bytes >> 31);
        pins(1, 1, bytes >> 31);
    }
    pins(1, 0, 0);
    pins(0, 0, 0);
}

static void wait(uint32_t cycles) {
    uint32_t start = tamale_timer_cycles_read();
    while (tamale_timer_cycles_read() - start < cycles) {
    }
}

/* Copies and checks the firmware. */
static uint32_t copy(void) {
    uint32_t bytes = HEADER[1], crc = 0xFFFFFFFFu;
    if (HEADER[0] != TAMALE_FIRMWARE_MAGIC || bytes > TAMALE_RAM_SIZE - 1024) return 0;
    uint32_t wanted = HEADER[2];
    for (uint32_t i = 0; i < bytes / 4; i++) {
        uint32_t word = HEADER[3 + i];
        ((volatile uint32_t *)TAMALE_RAM_BASE)[i] = word;
        crc ^= word;
        for (int bit = 0; bit < 32; bit++) crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc == wanted;
}

__attribute__((used)) static void boot(void) {
    send(0xABu << 24, 1);
    wait(WAKE_UP_CYCLES);
    /* Quad enable, until the power goes. */
    send(0x50u << 24, 1);
    send(0x3102u << 16, 2);
    tamale_engine_pins_write(0);
    while (!copy()) {
        for (const char *text = "no firmware in the flash; write it with: tamale flash\r\n"; *text; text++) {
            while (!TAMALE_FIELD(TAMALE_UART_STATUS_TRANSMIT_READY, tamale_uart_status_read())) {
            }
            tamale_uart_transmit_data_write((uint8_t)*text);
        }
        wait(TAMALE_CLOCK_HZ);
    }
    __asm__ volatile("fence.i\n\tjr %0" ::"r"(TAMALE_RAM_BASE));
}
