/* Where an image waits without a computer: the configuration flash, and a file on an SD card. */
#ifndef TAMALE_STORAGE_H
#define TAMALE_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

struct storage {
    const char *name;
    /* Finds the image; false if there is none. An error record says why, unless no device is there. */
    bool (*open)(void);
    /* Copies the image's first bytes, a multiple of 512, to the start of the memory; reports errors. */
    bool (*read)(uint32_t bytes);
};

/* In the order in which they are tried. */
extern const struct storage storages[2];

#endif
