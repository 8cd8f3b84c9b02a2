/* The ternary engine beside the core: sums of rows of trits times activations, and a multiplier that
 * scales, rounds and saturates. See tamale/soc/ternary.py.
 *
 * Rows are sent one after another: engine_shape says what a row looks like, engine_rows how many come and
 * where their activations lie. The bytes come from the flash (engine_stream, before engine_rows) or are
 * fed by the core, a row at a time. engine_sum waits for a row's sum. */
#ifndef TAMALE_ENGINE_H
#define TAMALE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef TAMALE_ENGINE_IN_SOFTWARE

/* Whether rows may come from the memory without the core. */
#define ENGINE_STREAMS true

/* Rows that one engine_rows may announce: few, so that every test comes to the next ones. */
#define ENGINE_ROWS_MOST 9u

/* Trit planes and bytes of a plane of a row; whether behind the first row and every other one that the
 * memory gives comes a word with the scales of it and of the next one. */
void engine_shape(uint32_t planes, uint32_t bytes, bool scaled);
/* Takes rows from the memory, from `offset` on. */
void engine_stream(uint32_t offset);
/* So many rows follow, for the activations from `act` on, counted in bytes of trits. */
void engine_rows(uint32_t act, uint32_t count);
void engine_feed(uint32_t word);
int32_t engine_sum(void);
/* The next word of scales, after the sum of the first of its rows. */
uint32_t engine_scales(void);

/* The following codes are activations, from `act` on; engine_code takes one. */
void engine_codes(uint32_t act);
void engine_code(int32_t code);

/* floor(a * factor / 2**shift + 1/2), saturated to 32 bits; factors of 18 bits, shifts of up to 63. */
void scaler_shift(uint32_t shift);
void scaler_factor(int32_t factor);
int32_t scaler_apply(int32_t a);

/* Shows a logit to whoever watches a simulation. */
void engine_logit(int32_t value, uint32_t row);

/* Clock cycles, modulo 2**32. */
uint32_t engine_cycles(void);

#else

#include "tamale_soc.h"

#ifdef TAMALE_FLASH_BASE
#define ENGINE_STREAMS true
#else
#define ENGINE_STREAMS false
#endif
#define ENGINE_ROWS_MOST (TAMALE_ENGINE_ROWS_COUNT_MASK >> TAMALE_ENGINE_ROWS_COUNT_SHIFT)

static inline void engine_shape(uint32_t planes, uint32_t bytes, bool scaled) {
    tamale_engine_shape_write(TAMALE_PLACE(TAMALE_ENGINE_SHAPE_BYTES, bytes) |
                              TAMALE_PLACE(TAMALE_ENGINE_SHAPE_PLANES, planes) |
                              TAMALE_PLACE(TAMALE_ENGINE_SHAPE_SCALED, scaled) |
                              TAMALE_PLACE(TAMALE_ENGINE_SHAPE_ROW_WORDS, planes * bytes / 4));
}
static inline void engine_stream(uint32_t offset) {
    tamale_engine_stream_write(TAMALE_FLASH_IMAGE_OFFSET + offset);
}
static inline void engine_rows(uint32_t act, uint32_t count) {
    tamale_engine_rows_write(TAMALE_PLACE(TAMALE_ENGINE_ROWS_ACT, act) |
                             TAMALE_PLACE(TAMALE_ENGINE_ROWS_COUNT, count));
}
static inline void engine_feed(uint32_t word) { tamale_engine_feed_write(word); }
static inline int32_t engine_sum(void) { return (int32_t)tamale_engine_sum_read(); }
static inline uint32_t engine_scales(void) { return tamale_engine_scales_read(); }
static inline void engine_codes(uint32_t act) { tamale_engine_codes_write(act); }
static inline void engine_code(int32_t code) { tamale_engine_code_write((uint32_t)code); }
static inline void scaler_shift(uint32_t shift) { tamale_engine_shift_write(shift); }
static inline void scaler_factor(int32_t factor) { tamale_engine_factor_write((uint32_t)factor); }
static inline int32_t scaler_apply(int32_t a) {
    tamale_engine_value_write((uint32_t)a);
    return (int32_t)tamale_engine_scaled_read();
}
static inline uint32_t engine_cycles(void) { return tamale_timer_cycles_read(); }
static inline void engine_logit(int32_t value, uint32_t row) {
    tamale_engine_logit_row_write(row);
    tamale_engine_logit_write((uint32_t)value);
}

#endif
#endif
