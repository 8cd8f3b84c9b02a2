/* The accelerator's machine in software: performs the commands of a program, the heavy ones with the help
 * of an engine (engine.h). The twin of tamale_model/machine.py, for one vector and one row a tile. */
#ifndef TAMALE_MACHINE_INTERPRETER_H
#define TAMALE_MACHINE_INTERPRETER_H

#include <stdbool.h>
#include <stdint.h>

#include "sample.h"

/* Where everything lies, in bytes from the start of the memory. */
struct machine_addresses {
    uint32_t sweep_base, embedding_base, embedding_stride, rope_base, rope_stride;
    uint32_t kv_layer_stride, key_head_stride, value_base, value_head_stride;
};

/* The token of a job; its cache begins `kv_base` bytes from the start of the memory. */
struct machine_token {
    uint32_t token, position, kv_base;
};

/* Takes a program of at most MACHINE_PROGRAM_COMMANDS commands, which is copied. Rows of the head from
 * `rows` on are padding. */
void machine_configure(uint8_t *memory, const struct machine_addresses *addresses,
                       const volatile uint32_t *program, uint32_t commands, uint32_t rows);

/* Runs the program. `head_begins` is called before the head's first command, if the job wants the head.
 * false: the program has a command that does not exist. */
bool machine_run(const struct machine_token *token, bool want_head, void (*head_begins)(void));

/* Performs one command that is no jump, for a token and layer. */
bool machine_execute(const uint32_t *command, const struct machine_token *token, uint32_t layer);

/* The largest logits of the last job with a head, in their order; gives their number. */
uint32_t machine_candidates(struct candidate *best);

/* Cycles that an operation took in all jobs. */
uint64_t machine_spent(uint32_t op);

struct scalar *machine_scalar(uint32_t name);
int32_t *machine_scratch(void);

#endif
