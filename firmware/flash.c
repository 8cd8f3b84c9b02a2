/* The configuration flash: any 25-series part of up to 16 MiB. */
#include "hal.h"
#include "image.h"
#include "spi.h"
#include "storage_devices.h"

#if TAMALE_STORAGE

#define WAKE_UP 0xAB
#define FAST_READ 0x0B
#define CLOCK_HZ 25000000
/* The slowest parts take 30 us to wake up. */
#define WAKE_UP_CYCLES (TAMALE_CPU_CLOCK_HZ / 20000)

bool flash_open(void) {
    spi_open(TAMALE_SPI_CONTROL_DEVICE_FLASH, CLOCK_HZ);
    /* The FPGA's own clock output takes some edges to change hands after configuration. */
    spi_exchange(0xFF);
    spi_select(true);
    spi_exchange(WAKE_UP);
    spi_select(false);
    for (uint32_t start = (uint32_t)hal_cycles(); (uint32_t)hal_cycles() - start < WAKE_UP_CYCLES;) {
    }
    return true;
}

bool flash_read(uint32_t bytes) {
    spi_select(true);
    spi_exchange(FAST_READ);
    for (int shift = 16; shift >= 0; shift -= 8)
        spi_exchange((uint8_t)((uint32_t)TAMALE_FLASH_IMAGE_OFFSET >> shift));
    spi_exchange(0xFF);
    spi_read(IMAGE, bytes / 4);
    spi_select(false);
    return true;
}

#endif
