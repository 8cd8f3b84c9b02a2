/* The ternary engine as a program, for tests of the machine on a computer. */
#include "engine_software.h"

#include "engine.h"
#include "integer.h"
#include "tamale_machine.h"

static const uint8_t *memory, *from;
static struct engine_logit *logits;
static int8_t activations[MACHINE_ACT_STEPS * MACHINE_TILE_K];
static uint32_t planes, bytes, first, rows, fed_bytes, write_at;
static bool scaled, odd; /* odd: the next row has its scales behind the last one */
static uint32_t scales;
static uint8_t fed[1 << 16];
static int32_t factor;
static uint32_t shift;

void engine_software_attach(const uint8_t *memory_, struct engine_logit *logits_) {
    memory = memory_;
    logits = logits_;
}

int8_t *engine_software_activations(void) { return activations; }

void engine_shape(uint32_t planes_, uint32_t bytes_, bool scaled_) {
    planes = planes_, bytes = bytes_, scaled = scaled_;
    odd = false;
    from = 0;
}

void engine_stream(uint32_t offset) { from = memory + offset; }

void engine_rows(uint32_t act, uint32_t count) {
    if (rows || count > ENGINE_ROWS_MOST) __builtin_trap();
    first = act;
    rows = count;
}

void engine_feed(uint32_t word) {
    if (scaled) __builtin_trap(); /* the core keeps the scales to itself */
    for (int i = 0; i < 4; i++, word >>= 8) fed[fed_bytes++] = (uint8_t)word;
}

int32_t engine_sum(void) {
    if (!rows--) __builtin_trap(); /* the engine would wait for ever */
    const uint8_t *row = from ? from : fed;
    int32_t sum = 0;
    for (uint32_t plane = 0; plane < planes; plane++) {
        sum *= 3;
        const int8_t *code = activations + first * MACHINE_TRITS;
        for (uint32_t i = 0; i < bytes; i++) {
            uint32_t number = machine_trit_number[*row++];
            for (uint32_t n = 0; n < MACHINE_TRITS; n++, number /= 3)
                sum += ((int32_t)(number % 3) - 1) * *code++;
        }
    }
    if (from) {
        from = row;
        if (scaled && !odd)
            for (int i = 0; i < 4; i++) scales = scales >> 8 | (uint32_t)*from++ << 24;
        odd = !odd;
    }
    fed_bytes = 0;
    return sum;
}

uint32_t engine_scales(void) { return scales; }

void engine_codes(uint32_t act) { write_at = act * MACHINE_TRITS; }

void engine_code(int32_t code) { activations[write_at++] = (int8_t)code; }

void scaler_shift(uint32_t shift_) { shift = shift_; }

void scaler_factor(int32_t factor_) { factor = factor_; }

int32_t scaler_apply(int32_t a) {
    return integer_sat32(integer_round_shift((int64_t)a * factor, shift));
}

uint32_t engine_cycles(void) { return 0; }

void engine_logit(int32_t value, uint32_t row) {
    if (logits) logits[row] = (struct engine_logit){value, row};
}
