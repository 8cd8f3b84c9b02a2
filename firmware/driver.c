#include "driver.h"

#include "tamale_image.h"
#include "tamale_soc.h"

/* What an image says of itself, what the hardware says, and whether they must be the same. */
static const struct {
    enum tamale_image_word word;
    uint32_t offset;
    bool equal;
    const char *name;
} requirements[] = {
    {TAMALE_IMAGE_BUS_WIDTH_WORD, TAMALE_ACCELERATOR_BUS_WIDTH_OFFSET, true, "bus_width"},
    {TAMALE_IMAGE_TILE_ROWS_WORD, TAMALE_ACCELERATOR_TILE_ROWS_OFFSET, true, "tile_rows"},
    {TAMALE_IMAGE_TILE_K_WORD, TAMALE_ACCELERATOR_TILE_K_OFFSET, true, "tile_k"},
    {TAMALE_IMAGE_VECTORS_WORD, TAMALE_ACCELERATOR_VECTORS_OFFSET, false, "vectors"},
    {TAMALE_IMAGE_SCRATCH_ELEMENTS_WORD, TAMALE_ACCELERATOR_SCRATCHPAD_OFFSET, false,
     "scratch_elements"},
    {TAMALE_IMAGE_ACT_STEPS_WORD, TAMALE_ACCELERATOR_ACT_STEPS_OFFSET, false, "act_steps"},
    {TAMALE_IMAGE_PROGRAM_COMMANDS_WORD, TAMALE_ACCELERATOR_PROGRAM_OFFSET, false,
     "program_commands"},
    {TAMALE_IMAGE_CONTEXT_WORD, TAMALE_ACCELERATOR_MAX_CONTEXT_OFFSET, false, "context"},
};

bool driver_fits(const volatile uint32_t *words, const char **what, uint32_t *has, uint32_t *wants) {
    for (uint32_t i = 0; i < sizeof requirements / sizeof *requirements; i++) {
        *what = requirements[i].name;
        *has = TAMALE_READ32(TAMALE_ACCELERATOR_BASE + requirements[i].offset);
        *wants = words[requirements[i].word];
        if (requirements[i].equal ? *has != *wants : *has < *wants) return false;
    }
    /* The sparse code, bits 15:8, matters to images that use it. */
    *what = "code";
    *has = tamale_accelerator_code_read();
    *wants = words[TAMALE_IMAGE_CODE_WORD];
    if (*wants != *has && *wants != (*has & 0xFF)) return false;
    *what = "vu_width";
    *has = tamale_accelerator_vu_width_read();
    *wants = words[TAMALE_IMAGE_VU_WIDTH_WORD];
    return *wants % *has == 0;
}

bool driver_checksum(uint32_t address, uint32_t bytes, uint32_t *crc) {
    /* The reader's bounds hold for checksums too. */
    tamale_accelerator_read_base_write(address);
    tamale_accelerator_read_limit_write(address + bytes);
    tamale_accelerator_checksum_address_write(address);
    tamale_accelerator_checksum_beats_write(bytes / (tamale_accelerator_bus_width_read() / 8));
    tamale_accelerator_control_write(TAMALE_ACCELERATOR_CONTROL_CHECKSUM_MASK);
    uint32_t status;
    do {
        status = tamale_accelerator_status_read();
        if (TAMALE_FIELD(TAMALE_ACCELERATOR_STATUS_FAULTED, status)) return false;
    } while (TAMALE_FIELD(TAMALE_ACCELERATOR_STATUS_CHECKSUM_BUSY, status));
    *crc = tamale_accelerator_checksum_read();
    return true;
}

void driver_configure(const volatile uint32_t *words, const volatile uint32_t *program,
                      uint32_t kv_base, uint32_t kv_limit) {
    tamale_accelerator_sweep_base_write(words[TAMALE_IMAGE_SWEEP_BASE_WORD]);
    tamale_accelerator_embedding_base_write(words[TAMALE_IMAGE_EMBEDDING_BASE_WORD]);
    tamale_accelerator_embedding_stride_write(words[TAMALE_IMAGE_EMBEDDING_STRIDE_WORD]);
    tamale_accelerator_rope_base_write(words[TAMALE_IMAGE_ROPE_BASE_WORD]);
    tamale_accelerator_rope_stride_write(words[TAMALE_IMAGE_ROPE_STRIDE_WORD]);
    tamale_accelerator_kv_layer_stride_write(words[TAMALE_IMAGE_KV_LAYER_STRIDE_WORD]);
    tamale_accelerator_key_head_stride_write(words[TAMALE_IMAGE_KEY_HEAD_STRIDE_WORD]);
    tamale_accelerator_value_base_write(words[TAMALE_IMAGE_VALUE_BASE_WORD]);
    tamale_accelerator_value_head_stride_write(words[TAMALE_IMAGE_VALUE_HEAD_STRIDE_WORD]);
    tamale_accelerator_read_base_write(0);
    tamale_accelerator_read_limit_write(words[TAMALE_IMAGE_IMAGE_BYTES_WORD]);
    tamale_accelerator_kv_base_write(kv_base);
    tamale_accelerator_kv_limit_write(kv_limit);
    tamale_accelerator_slot_stride_write(words[TAMALE_IMAGE_SLOT_STRIDE_WORD]);
    tamale_accelerator_vocabulary_write(words[TAMALE_IMAGE_VOCABULARY_WORD]);
    tamale_accelerator_program_index_write(0);
    for (uint32_t i = 0; i < 4 * words[TAMALE_IMAGE_PROGRAM_COMMANDS_WORD]; i++)
        tamale_accelerator_program_word_write(program[i]);
}

void driver_submit(const struct driver_slot *slots, uint32_t count, bool want_head) {
    while (TAMALE_FIELD(TAMALE_ACCELERATOR_STATUS_SUBMIT_BUSY, tamale_accelerator_status_read())) {
    }
    for (uint32_t i = 0; i < count; i++) {
        tamale_accelerator_job_token_write(i, slots[i].token);
        tamale_accelerator_job_position_write(i, slots[i].position);
        tamale_accelerator_job_kv_base_write(i, slots[i].kv_base);
    }
    tamale_accelerator_submit_write(TAMALE_PLACE(TAMALE_ACCELERATOR_SUBMIT_SLOTS, count) |
                                    TAMALE_PLACE(TAMALE_ACCELERATOR_SUBMIT_WANT_HEAD, want_head));
}

uint32_t driver_queue_depth(void) { return tamale_accelerator_queue_depth_read(); }

uint32_t driver_jobs_done(void) { return tamale_accelerator_jobs_done_read(); }

uint32_t driver_candidates(uint32_t slot, struct candidate *best) {
    uint32_t select = TAMALE_PLACE(TAMALE_ACCELERATOR_CANDIDATE_SELECT_VECTOR, slot);
    tamale_accelerator_candidate_select_write(select);
    uint32_t count = tamale_accelerator_candidate_count_read();
    for (uint32_t i = 0; i < count; i++) {
        tamale_accelerator_candidate_select_write(
            select | TAMALE_PLACE(TAMALE_ACCELERATOR_CANDIDATE_SELECT_INDEX, i));
        best[i].value = (int32_t)tamale_accelerator_candidate_value_read();
        best[i].row = tamale_accelerator_candidate_row_read();
    }
    return count;
}

struct scalar driver_scalar(uint32_t slot, uint32_t name) {
    tamale_accelerator_scalar_select_write(TAMALE_PLACE(TAMALE_ACCELERATOR_SCALAR_SELECT_NAME, name) |
                                           TAMALE_PLACE(TAMALE_ACCELERATOR_SCALAR_SELECT_SLOT, slot));
    uint32_t word = tamale_accelerator_scalar_read();
    return (struct scalar){TAMALE_FIELD(TAMALE_ACCELERATOR_SCALAR_MANTISSA, word),
                           (int16_t)TAMALE_FIELD(TAMALE_ACCELERATOR_SCALAR_EXPONENT, word)};
}

uint64_t driver_counter(enum driver_counter counter) {
    tamale_accelerator_counter_select_write(
        TAMALE_PLACE(TAMALE_ACCELERATOR_COUNTER_SELECT_INDEX, counter));
    return tamale_accelerator_counter_read();
}

uint32_t driver_fault(uint32_t *info) {
    /* The code first: a fault may come between the two, and the first one stays. */
    uint32_t code = TAMALE_FIELD(TAMALE_ACCELERATOR_FAULT_CODE, tamale_accelerator_fault_read());
    *info = tamale_accelerator_fault_info_read();
    return code;
}

void driver_reset(void) {
    tamale_accelerator_control_write(TAMALE_ACCELERATOR_CONTROL_RESET_MASK);
    while (TAMALE_FIELD(TAMALE_ACCELERATOR_STATUS_RESETTING, tamale_accelerator_status_read())) {
    }
}
