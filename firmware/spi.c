#include "spi.h"

#include "hal.h"

#if TAMALE_STORAGE

static uint32_t settings;

void spi_open(uint32_t device, uint32_t hz) {
    uint32_t half = (TAMALE_CPU_CLOCK_HZ + 2 * hz - 1) / (2 * hz);
    settings = TAMALE_PLACE(TAMALE_SPI_CONTROL_HALF_PERIOD, half < 255 ? half : 255) |
               TAMALE_PLACE(TAMALE_SPI_CONTROL_DEVICE, device);
    tamale_spi_control_write(settings);
}

void spi_select(bool selected) {
    tamale_spi_control_write(settings | TAMALE_PLACE(TAMALE_SPI_CONTROL_SELECT, selected));
}

static void wait(void) {
    while (tamale_spi_status_read()) {
    }
}

uint8_t spi_exchange(uint8_t byte) {
    tamale_spi_exchange_byte_write(byte);
    wait();
    return (uint8_t)tamale_spi_received_byte_read();
}

void spi_read(volatile uint32_t *to, uint32_t words) {
    uint32_t selected = settings | TAMALE_SPI_CONTROL_SELECT_MASK;
    tamale_spi_control_write(selected | TAMALE_SPI_CONTROL_STREAM_MASK);
    (void)tamale_spi_received_word_read();
    for (; words > 1; words--) {
        wait();
        *to++ = tamale_spi_received_word_read();
    }
    wait();
    tamale_spi_control_write(selected);
    *to = tamale_spi_received_word_read();
}

#endif
