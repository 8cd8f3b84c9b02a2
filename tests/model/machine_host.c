/* The firmware's machine as a library, with its engine in software. */
#include "engine_software.h"
#include "machine.c"

static struct engine_logit logits[1 << 16];

void attach(uint8_t *memory, const uint32_t *addresses, const uint32_t *program, uint32_t commands,
            uint32_t rows) {
    engine_software_attach(memory, logits);
    machine_configure(memory, (const struct machine_addresses *)addresses, program, commands, rows);
}

static void ignore(void) {}

int run(uint32_t token, uint32_t position, uint32_t kv_base, int head) {
    return machine_run(&(struct machine_token){token, position, kv_base}, head, ignore);
}

int execute(const uint32_t *command, uint32_t token, uint32_t position, uint32_t kv_base,
            uint32_t layer_, uint32_t sweep_) {
    sweep = sweep_;
    return machine_execute(command, &(struct machine_token){token, position, kv_base}, layer_);
}

int32_t *scratch_of(void) { return scratch; }
int8_t *activations_of(void) { return engine_software_activations(); }
struct scalar *scalars_of(void) { return scalars; }
int32_t *peak_of(void) { return &peak; }
int32_t *logits_of(void) { return (int32_t *)logits; }
uint32_t candidates_of(struct candidate *best) { return machine_candidates(best); }
