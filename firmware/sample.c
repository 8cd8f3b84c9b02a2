#include "sample.h"

#include "integer.h"

/* log2(e) in units of 2**-16. */
#define LOG2_E 94548u
/* The largest argument of exp2_negative. */
#define Z_MAX ((1u << 21) - 1)
#define CANDIDATES_MAX 64

void sampler_init(struct sampler *sampler, uint32_t temperature, uint32_t top_k, uint32_t seed) {
    sampler->temperature = temperature;
    sampler->top_k = top_k;
    sampler->state = seed ? seed : 0x9E3779B9u;
}

static uint32_t next_random(struct sampler *sampler) {
    uint32_t x = sampler->state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return sampler->state = x;
}

void candidates_sort(struct candidate *best, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        struct candidate moving = best[i];
        uint32_t j = i;
        for (; j && (best[j - 1].value < moving.value ||
                     (best[j - 1].value == moving.value && best[j - 1].row > moving.row));
             j--)
            best[j] = best[j - 1];
        best[j] = moving;
    }
}

uint32_t sampler_pick(struct sampler *sampler, const struct candidate *best, uint32_t count,
                      struct scalar unit) {
    if (!sampler->temperature) return best[0].row;
    if (sampler->top_k && sampler->top_k < count) count = sampler->top_k;
    uint64_t factor = ((uint64_t)unit.mantissa * LOG2_E << 16) / sampler->temperature;
    int32_t exponent = unit.exponent;
    while (factor >> 32) {
        factor >>= 1;
        exponent++;
    }
    uint32_t weights[CANDIDATES_MAX], total = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t z = (uint64_t)((uint32_t)best[0].value - (uint32_t)best[i].value) * factor;
        if (exponent < 0)
            z = exponent <= -64 ? 0 : z >> -exponent;
        else if (z && (exponent >= 21 || z >> (21 - exponent)))
            z = Z_MAX;
        else
            z <<= exponent;
        weights[i] = integer_exp2_negative(z > Z_MAX ? Z_MAX : (uint32_t)z);
        total += weights[i];
    }
    uint32_t threshold = (uint32_t)((uint64_t)next_random(sampler) * total >> 32);
    for (uint32_t i = 0; i < count; i++) {
        if (threshold < weights[i]) return best[i].row;
        threshold -= weights[i];
    }
    return best[0].row;
}
