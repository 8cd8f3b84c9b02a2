/* The SPI host: bytes and words to and from one of its devices. */
#ifndef TAMALE_SPI_H
#define TAMALE_SPI_H

#include <stdbool.h>
#include <stdint.h>

/* Turns to a device, with a serial clock of at most `hz`; none is selected. */
void spi_open(uint32_t device, uint32_t hz);
void spi_select(bool selected);
/* Sends a byte, gives the one that came. */
uint8_t spi_exchange(uint8_t byte);
/* Stores so many words that come while ones are sent. */
void spi_read(volatile uint32_t *to, uint32_t words);

#endif
