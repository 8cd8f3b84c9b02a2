/* The driver's interface where the core itself performs the commands: a job is done when it is submitted. */
#include "driver.h"

#include "image.h"
#include "machine.h"
#include "hal.h"

/* A command that does not exist; the accelerator's code for it is the same. */
#define FAULT_COMMAND 1u

static struct {
    uint32_t done, fault;
    uint32_t head_started;
    uint64_t layers_cycles, head_cycles;
} jobs;

/* What an image says of itself, what this machine is, and whether they must be the same. */
static const struct {
    enum tamale_image_word word;
    uint32_t has;
    bool equal;
    const char *name;
} requirements[] = {
    {TAMALE_IMAGE_BUS_WIDTH_WORD, MACHINE_BUS_WIDTH, true, "bus_width"},
    {TAMALE_IMAGE_TILE_ROWS_WORD, MACHINE_TILE_ROWS, true, "tile_rows"},
    {TAMALE_IMAGE_TILE_K_WORD, MACHINE_TILE_K, true, "tile_k"},
    {TAMALE_IMAGE_CODE_WORD, MACHINE_CODE, true, "code"},
    {TAMALE_IMAGE_VECTORS_WORD, MACHINE_VECTORS, false, "vectors"},
    {TAMALE_IMAGE_SCRATCH_ELEMENTS_WORD, MACHINE_SCRATCH_ELEMENTS, false, "scratch_elements"},
    {TAMALE_IMAGE_ACT_STEPS_WORD, MACHINE_ACT_STEPS, false, "act_steps"},
    {TAMALE_IMAGE_PROGRAM_COMMANDS_WORD, MACHINE_PROGRAM_COMMANDS, false, "program_commands"},
    {TAMALE_IMAGE_CONTEXT_WORD, MACHINE_CONTEXT, false, "context"},
};

bool driver_fits(const volatile uint32_t *words, const char **what, uint32_t *has, uint32_t *wants) {
    for (uint32_t i = 0; i < sizeof requirements / sizeof *requirements; i++) {
        *what = requirements[i].name;
        *has = requirements[i].has;
        *wants = words[requirements[i].word];
        if (requirements[i].equal ? *has != *wants : *has < *wants) return false;
    }
    return true;
}

bool driver_checksum(uint32_t address, uint32_t bytes, uint32_t *crc) {
    /* A byte at a time: the payload is the longest work of a start. */
    static uint32_t table[256];
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
            table[i] = value;
        }
    const volatile uint32_t *word = IMAGE + address / 4, *end = word + bytes / 4;
    uint32_t value = 0xFFFFFFFFu;
    while (word < end) {
        value ^= *word++;
        value = value >> 8 ^ table[value & 255];
        value = value >> 8 ^ table[value & 255];
        value = value >> 8 ^ table[value & 255];
        value = value >> 8 ^ table[value & 255];
    }
    *crc = ~value;
    return true;
}

void driver_configure(const volatile uint32_t *words, const volatile uint32_t *program,
                      uint32_t kv_base, uint32_t kv_limit) {
    (void)kv_base, (void)kv_limit;
    struct machine_addresses addresses = {
        .sweep_base = words[TAMALE_IMAGE_SWEEP_BASE_WORD],
        .embedding_base = words[TAMALE_IMAGE_EMBEDDING_BASE_WORD],
        .embedding_stride = words[TAMALE_IMAGE_EMBEDDING_STRIDE_WORD],
        .rope_base = words[TAMALE_IMAGE_ROPE_BASE_WORD],
        .rope_stride = words[TAMALE_IMAGE_ROPE_STRIDE_WORD],
        .kv_layer_stride = words[TAMALE_IMAGE_KV_LAYER_STRIDE_WORD],
        .key_head_stride = words[TAMALE_IMAGE_KEY_HEAD_STRIDE_WORD],
        .value_base = words[TAMALE_IMAGE_VALUE_BASE_WORD],
        .value_head_stride = words[TAMALE_IMAGE_VALUE_HEAD_STRIDE_WORD],
    };
    machine_configure((uint8_t *)MEMORY_BASE, &addresses, program,
                      words[TAMALE_IMAGE_PROGRAM_COMMANDS_WORD], words[TAMALE_IMAGE_VOCABULARY_WORD]);
}

static void head_begins(void) { jobs.head_started = (uint32_t)hal_cycles(); }

void driver_submit(const struct driver_slot *slots, uint32_t count, bool want_head) {
    (void)count; /* there is one vector */
    uint32_t start = (uint32_t)hal_cycles();
    if (!machine_run(&(struct machine_token){slots->token, slots->position, slots->kv_base}, want_head,
                     head_begins)) {
        jobs.fault = FAULT_COMMAND;
        return;
    }
    uint32_t end = (uint32_t)hal_cycles();
    uint32_t head = want_head ? end - jobs.head_started : 0;
    jobs.head_cycles += head;
    jobs.layers_cycles += end - start - head;
    jobs.done++;
}

uint32_t driver_queue_depth(void) { return 1; }

uint32_t driver_jobs_done(void) { return jobs.done; }

uint32_t driver_candidates(uint32_t slot, struct candidate *best) {
    (void)slot;
    return machine_candidates(best);
}

struct scalar driver_scalar(uint32_t slot, uint32_t name) {
    (void)slot;
    return *machine_scalar(name);
}

uint64_t driver_counter(enum driver_counter counter) {
    switch (counter) {
    case DRIVER_COUNTER_CYCLES: return jobs.layers_cycles + jobs.head_cycles;
    case DRIVER_COUNTER_LAYERS_CYCLES: return jobs.layers_cycles;
    case DRIVER_COUNTER_HEAD_CYCLES: return jobs.head_cycles;
    case DRIVER_COUNTER_LOADER_CYCLES: return machine_spent(OP_LOAD) + machine_spent(OP_SLOAD);
    case DRIVER_COUNTER_ARRAY_CYCLES: return machine_spent(OP_MATVEC);
    case DRIVER_COUNTER_VECTOR_CYCLES:
        return machine_spent(OP_VEC) + machine_spent(OP_HADAMARD) + machine_spent(OP_ROPE) +
               machine_spent(OP_EXP);
    case DRIVER_COUNTER_SCALAR_CYCLES: return machine_spent(OP_SCALAR);
    case DRIVER_COUNTER_KV_WRITER_CYCLES: return machine_spent(OP_KVWRITE);
    case DRIVER_COUNTER_JOBS: return jobs.done;
    default: return 0;
    }
}

uint32_t driver_fault(uint32_t *info) {
    *info = 0;
    return jobs.fault;
}

void driver_reset(void) { jobs.fault = 0; }
