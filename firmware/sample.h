/* Sampling from the candidates that the hardware kept. The twin of tamale_model/sampling.py: both make
 * the same choice from the same integers. */
#ifndef TAMALE_SAMPLE_H
#define TAMALE_SAMPLE_H

#include <stdint.h>

/* A logit: larger values first, among equals the smaller row. */
struct candidate {
    int32_t value;
    uint32_t row;
};

/* mantissa * 2**exponent. */
struct scalar {
    uint32_t mantissa;
    int32_t exponent;
};

struct sampler {
    uint32_t temperature; /* units of 2**-16; 0: greedy */
    uint32_t top_k;       /* 0: all candidates */
    uint32_t state;
};

void sampler_init(struct sampler *sampler, uint32_t temperature, uint32_t top_k, uint32_t seed);

/* Puts candidates into their order. */
void candidates_sort(struct candidate *best, uint32_t count);

/* The row to go on with. `best` is sorted and not empty; one unit of its values is worth `unit`. */
uint32_t sampler_pick(struct sampler *sampler, const struct candidate *best, uint32_t count,
                      struct scalar unit);

#endif
