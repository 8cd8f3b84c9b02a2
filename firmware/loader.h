/* Takes a memory image over the serial port; "Loading" in docs/user/protocol.md has the protocol. */
#ifndef TAMALE_LOADER_H
#define TAMALE_LOADER_H

#include <stdbool.h>

/* The command `load`: true if the memory was written, whether or not everything came. */
bool loader_load(void);
/* The command `sums`: checksums of parts of the memory. */
void loader_sums(void);

#endif
