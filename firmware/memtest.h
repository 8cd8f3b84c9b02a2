/* The command `memtest`: every line and cell of the memory; what it held is lost. */
#ifndef TAMALE_MEMTEST_H
#define TAMALE_MEMTEST_H

#include <stdbool.h>

/* True if the memory was written. */
bool memtest(void);

#endif
