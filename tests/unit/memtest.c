/* Runs the firmware's memory test on this machine: a memory of 1 MiB at the address that the firmware uses, in
 * which some address lines may be cut.
 *
 *     memtest LINES BYTES SEED      LINES: mask of the address bits that count, from bit 12
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "console.h"
#include "memtest.h"
#include "tamale_soc.h"

static char **words;

bool console_number(uint32_t *value) {
    if (!*words) return false;
    *value = (uint32_t)strtoul(*words++, 0, 0);
    return true;
}
bool console_end(void) { return !*words; }
bool console_interrupted(void) { return false; }
void record_begin(const char *kind) { printf("%s", kind); }
void record_error(const char *what) { printf("error what=%s", what); }
void record_number(const char *name, uint64_t value) {
    printf(" %s=%llu", name, (unsigned long long)value);
}
void record_end(void) { printf("\n"); }

int main(int count, char **arguments) {
    if (count < 4) return 2;
    unsigned long lines = strtoul(arguments[1], 0, 0);
    int file = memfd_create("memory", 0);
    if (file < 0 || ftruncate(file, TAMALE_DRAM_SIZE)) return 2;
    for (unsigned long page = 0; page < TAMALE_DRAM_SIZE; page += 4096)
        if (mmap((void *)(TAMALE_DRAM_UNCACHED_BASE + page), 4096, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, file, (long)(page & lines)) == MAP_FAILED)
            return perror("mmap"), 2;
    words = arguments + 2;
    return !memtest();
}
