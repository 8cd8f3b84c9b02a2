/* The memory image: whether it is there, whole, and one that this hardware can run. */
#ifndef TAMALE_IMAGE_CHECK_H
#define TAMALE_IMAGE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "tamale_image.h"
#include "tamale_soc.h"

/* The memory that begins with the image: DRAM, or the part of the flash that the image has for itself. */
#ifdef TAMALE_FLASH_BASE
#define MEMORY_BASE (TAMALE_FLASH_BASE + TAMALE_FLASH_IMAGE_OFFSET)
#define MEMORY_BYTES (TAMALE_FLASH_SIZE - TAMALE_FLASH_IMAGE_OFFSET)
#define IMAGE ((volatile uint32_t *)MEMORY_BASE)
#else
#define MEMORY_BASE TAMALE_DRAM_BASE
#define MEMORY_BYTES TAMALE_DRAM_SIZE
/* Past the caches. */
#define IMAGE ((volatile uint32_t *)TAMALE_DRAM_UNCACHED_BASE)
#endif

/* What the memory holds behind the image, and what of its header is looked at for every token. */
struct layout {
    uint32_t vocabulary, context;
    uint32_t kv_base;           /* of the first sequence's cache, from the start of the memory */
    uint32_t sequences;         /* that fit the memory and the hardware */
    volatile uint32_t *prompts; /* [sequences][context] */
};

/* Whether the memory starts like an image. */
bool image_begins(void);
/* Whether the header is one that this hardware can run; an error record says why not. `source` says
 * where it came from. */
bool image_check_header(const char *source, struct layout *layout);
/* Whether everything behind a good header is what the packer wrote; an error record says why not. */
bool image_check_payload(const char *source);

/* CRC-32 of words, for what is too short for the accelerator: `crc` is 0xFFFFFFFF at first, the checksum
 * the complement of the last result. */
uint32_t image_crc_word(uint32_t crc, uint32_t value);

/* Reports a fault of the accelerator and brings it back to work. */
void report_fault(uint32_t code, uint32_t info);

/* CRC-32 of a part of the memory in whole beats, by the accelerator, where there is one; reports a fault and gives false. */
bool image_checksum(uint32_t offset, uint32_t bytes, uint32_t *crc);

#endif
