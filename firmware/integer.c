#include "integer.h"

static const struct scalar zero = {0, 0};

static int32_t bit_length(uint64_t value) {
    uint32_t high = (uint32_t)(value >> 32), low = (uint32_t)value;
    int32_t length = 0;
    if (high) length = 32, low = high;
    for (; low; low >>= 1) length++;
    return length;
}

struct scalar integer_normalise(uint64_t value, int32_t exponent) {
    if (!value) return zero;
    int32_t move = bit_length(value) - 16;
    uint32_t mantissa = move >= 0 ? (uint32_t)(value >> move) : (uint32_t)value << -move;
    return (struct scalar){mantissa, exponent + move};
}

struct scalar integer_mul(struct scalar a, struct scalar b) {
    return integer_normalise(a.mantissa * b.mantissa, a.exponent + b.exponent);
}

struct scalar integer_div(struct scalar a, struct scalar b) {
    if (!b.mantissa) return zero;
    return integer_normalise((a.mantissa << 16) / b.mantissa, a.exponent - b.exponent - 16);
}

struct scalar integer_sqrt(struct scalar a) {
    uint32_t odd = (uint32_t)a.exponent & 1, rest = a.mantissa << (16 - odd), root = 0;
    /* Bit by bit, from the highest. */
    for (uint32_t bit = 1u << 30; bit; bit >>= 2) {
        uint32_t trial = root + bit;
        root >>= 1;
        if (rest >= trial) {
            rest -= trial;
            root += bit;
        }
    }
    return integer_normalise(root, ((a.exponent + (int32_t)odd) >> 1) - 8);
}

struct scalar integer_sum(struct scalar a, struct scalar b) {
    if (!a.mantissa) return b;
    if (!b.mantissa) return a;
    if (a.exponent < b.exponent) {
        struct scalar larger = b;
        b = a, a = larger;
    }
    uint32_t apart = (uint32_t)(a.exponent - b.exponent);
    uint32_t total = (a.mantissa << 15) + (apart > 31 ? 0 : (b.mantissa << 15) >> apart);
    return integer_normalise(total, a.exponent - 15);
}

struct scalar integer_scale(struct scalar a, int32_t imm) {
    return a.mantissa ? (struct scalar){a.mantissa, a.exponent + imm} : zero;
}

struct scalar integer_shift(struct scalar a, struct scalar b, int32_t imm) {
    int32_t move = b.exponent + imm;
    return integer_scale(a, move > 0 ? move : 0);
}

uint32_t integer_encode_scale(struct scalar value) {
    if (!value.mantissa) return 0;
    uint32_t significand = (value.mantissa + 8) >> 4;
    int32_t exponent = value.exponent + 35;
    if (significand == 4096) significand = 2048, exponent++;
    if (exponent < 0) return 0;
    if (exponent > 31) return 0xFFFF;
    return (uint32_t)exponent << 11 | (significand - 2048);
}

int32_t integer_scale_to_fixed(uint32_t code) {
    if (!code) return 0;
    return integer_sat32(integer_round_shift((int64_t)(2048 + (code & 2047)) << 20, 31 - (code >> 11)));
}
