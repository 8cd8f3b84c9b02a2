/* Sets DDR3 memory up and trains its reading. */
#ifndef TAMALE_DDR3_H
#define TAMALE_DDR3_H

#include <stdbool.h>

#include "tamale_soc.h"

#ifdef TAMALE_DDR3_BASE
/* True once the memory works; an error record says why not. Memory that works is left alone. */
bool ddr3_start(void);
#else
static inline bool ddr3_start(void) { return true; }
#endif

#endif
