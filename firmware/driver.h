/* Small portable driver of the accelerator, over the generated tamale_soc.h.
 *
 * A program that uses the accelerator alone, in a system of its own, takes this file, driver.c and the
 * generated headers, and defines TAMALE_ACCELERATOR_BASE (or the TAMALE_READ32 and TAMALE_WRITE32
 * macros) before it includes the header.
 */
#ifndef TAMALE_DRIVER_H
#define TAMALE_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "sample.h"
#include "tamale_soc.h"

#ifdef TAMALE_ENGINE_BASE
/* The core performs the commands itself, see core_driver.c; what it does not count stays zero. */
#include "tamale_machine.h"
#define DRIVER_CANDIDATES MACHINE_CANDIDATES
enum driver_counter {
#define DRIVER_COUNTER(name) DRIVER_COUNTER_##name
#else
#define DRIVER_CANDIDATES TAMALE_ACCELERATOR_CANDIDATES_INIT
enum driver_counter {
#define DRIVER_COUNTER(name) DRIVER_COUNTER_##name = TAMALE_ACCELERATOR_COUNTER_SELECT_INDEX_##name
#endif
    DRIVER_COUNTER(CYCLES),
    DRIVER_COUNTER(LAYERS_CYCLES),
    DRIVER_COUNTER(LAYERS_BEATS),
    DRIVER_COUNTER(HEAD_CYCLES),
    DRIVER_COUNTER(HEAD_BEATS),
    DRIVER_COUNTER(LOADER_CYCLES),
    DRIVER_COUNTER(ARRAY_CYCLES),
    DRIVER_COUNTER(VECTOR_CYCLES),
    DRIVER_COUNTER(SCALAR_CYCLES),
    DRIVER_COUNTER(KV_WRITER_CYCLES),
    DRIVER_COUNTER(SEQUENCER_CYCLES),
    DRIVER_COUNTER(ARRAY_STARVED),
    DRIVER_COUNTER(ARRAY_DRAINING),
    DRIVER_COUNTER(FENCE_WAIT),
    DRIVER_COUNTER(FIFO_FULL),
    DRIVER_COUNTER(MEMORY_WAIT),
    DRIVER_COUNTER(WALKER_IDLE),
    DRIVER_COUNTER(SATURATIONS),
    DRIVER_COUNTER(QUEUE_EMPTY),
    DRIVER_COUNTER(JOBS),
};

/* One token of a job. */
struct driver_slot {
    uint32_t token;
    uint32_t position;
    uint32_t kv_base; /* byte address of the sequence's cache, counted from the start of the memory */
};

/* Whether the image, whose header's words are `words`, suits the hardware; otherwise the name of the
 * value that does not and both values. */
bool driver_fits(const volatile uint32_t *words, const char **what, uint32_t *has, uint32_t *wants);

/* CRC-32 of a range of memory, computed by the DMA engine; addresses and sizes in whole beats.
 * false: the engine faulted. */
bool driver_checksum(uint32_t address, uint32_t bytes, uint32_t *crc);

/* Tells the accelerator where everything lies, and loads the program. */
void driver_configure(const volatile uint32_t *words, const volatile uint32_t *program,
                      uint32_t kv_base, uint32_t kv_limit);

/* Queues a job. The caller keeps at most driver_queue_depth() jobs unfinished. */
void driver_submit(const struct driver_slot *slots, uint32_t count, bool want_head);
uint32_t driver_queue_depth(void);
/* Jobs finished since reset, modulo 2**32. */
uint32_t driver_jobs_done(void);

/* Candidates of a slot of the last job, unordered; gives their number. */
uint32_t driver_candidates(uint32_t slot, struct candidate *best);
/* A scalar register of a slot. */
struct scalar driver_scalar(uint32_t slot, uint32_t name);

/* A performance counter as it was when the last job ended. */
uint64_t driver_counter(enum driver_counter counter);

/* 0, or the code of the fault that stopped the accelerator; `info` as its register says. */
uint32_t driver_fault(uint32_t *info);
/* Brings the accelerator back to its idle state; what was queued is lost. */
void driver_reset(void);

#endif
