/* Arithmetic of the integer specification, the twin of tamale_model/integer.py: equal bit for bit. */
#ifndef TAMALE_INTEGER_H
#define TAMALE_INTEGER_H

#include <stdint.h>

#include "sample.h"
#include "tamale_image.h"

/* floor(value / 2**bits + 1/2); bits up to 63, and then value is below 2**62 in magnitude. */
static inline int64_t integer_round_shift(int64_t value, uint32_t bits) {
    return bits ? (value + (1ll << (bits - 1))) >> bits : value;
}

/* The same of 32 bits; bits up to 31. */
static inline int32_t integer_round_shift32(int32_t value, uint32_t bits) {
    if (!bits) return value;
    /* A small core shifts by a bit a cycle, so not twice. */
    int32_t twice = value >> (bits - 1);
    return (twice >> 1) + (twice & 1);
}

static inline int32_t integer_sat32(int64_t value) {
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
}

static inline int32_t integer_sat18(int32_t value) {
    return value > 131071 ? 131071 : value < -131072 ? -131072 : value;
}

static inline int32_t integer_add(int32_t a, int32_t b) {
    int32_t sum;
    return !__builtin_add_overflow(a, b, &sum) ? sum : b < 0 ? INT32_MIN : INT32_MAX;
}

static inline int32_t integer_subtract(int32_t a, int32_t b) {
    int32_t difference;
    return !__builtin_sub_overflow(a, b, &difference) ? difference : b < 0 ? INT32_MAX : INT32_MIN;
}

/* 2**-z in units of 2**-15; z in units of 2**-16, below 2**21. */
static inline uint32_t integer_exp2_negative(uint32_t z) {
    uint32_t index = z >> 10 & 63, shift = 1 + (z >> 16);
    uint32_t value = tamale_exp2_table[index] - ((tamale_exp2_delta[index] * (z & 1023) + 512) >> 10);
    /* The value is at most 2**16. */
    return shift > 17 ? 0 : (value + (1u << (shift - 1))) >> shift;
}

/* value * 2**exponent as a scalar, truncated to 16 bits. */
struct scalar integer_normalise(uint64_t value, int32_t exponent);
struct scalar integer_mul(struct scalar a, struct scalar b);
struct scalar integer_div(struct scalar a, struct scalar b);
struct scalar integer_sqrt(struct scalar a);
struct scalar integer_sum(struct scalar a, struct scalar b);
struct scalar integer_scale(struct scalar a, int32_t imm);
/* a * 2**max(0, exponent(b) + imm) */
struct scalar integer_shift(struct scalar a, struct scalar b, int32_t imm);

/* The scalar as a 16-bit float: bits 15:11 E, 10:0 F; value (2048 + F) * 2**(E - 31). */
uint32_t integer_encode_scale(struct scalar value);
/* A 16-bit float in units of 2**-20. */
int32_t integer_scale_to_fixed(uint32_t code);

#endif
