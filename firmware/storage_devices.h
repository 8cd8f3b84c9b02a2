/* The functions behind `storages`, a file for each device. */
#ifndef TAMALE_STORAGE_DEVICES_H
#define TAMALE_STORAGE_DEVICES_H

#include <stdbool.h>
#include <stdint.h>

bool flash_open(void);
bool flash_read(uint32_t bytes);

/* The file on the card. */
bool file_open(void);
bool file_read(uint32_t bytes);

/* The card itself: false without a record if there is none, with one if it does not become ready. */
bool card_open(void);
/* Copies sectors of 512 bytes; false if the card fails. */
bool card_read(uint32_t sector, uint32_t count, volatile uint32_t *to);

#endif
