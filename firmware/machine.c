#include "machine.h"

#include "engine.h"
#include "integer.h"
#include "tamale_machine.h"

static uint8_t *memory;
static struct machine_addresses at;
static uint32_t rows_of_head;
static uint32_t program[MACHINE_PROGRAM_COMMANDS * MACHINE_COMMAND_WORDS];

static int32_t scratch[MACHINE_SCRATCH_ELEMENTS];
static struct scalar scalars[64];
static int32_t peak; /* of the last reduction MAX */

static struct candidate candidates[MACHINE_CANDIDATES];
static uint32_t candidate_count;

static uint64_t spent[MACHINE_OPS];

/* What the commands of a job refer to. */
static struct machine_token now;
static uint32_t layer, sweep;

struct scalar *machine_scalar(uint32_t name) { return &scalars[name]; }

uint64_t machine_spent(uint32_t op) { return spent[op]; }

int32_t *machine_scratch(void) { return scratch; }

uint32_t machine_candidates(struct candidate *best) {
    for (uint32_t i = 0; i < candidate_count; i++) best[i] = candidates[i];
    return candidate_count;
}

static uint32_t clamp(int32_t value, int32_t limit) {
    return value < 0 ? 0 : value > limit ? (uint32_t)limit : (uint32_t)value;
}

/* Offset in memory of what a command reads; LINEAR advances the sweep by `bytes`. */
static uint32_t locate(uint32_t source, uint32_t head, uint32_t bytes) {
    uint32_t base = now.kv_base + layer * at.kv_layer_stride;
    switch (source) {
    case SOURCE_LINEAR:
        sweep += bytes;
        return sweep - bytes;
    case SOURCE_EMBEDDING:
        return at.embedding_base + now.token * at.embedding_stride;
    case SOURCE_ROPE:
        return at.rope_base + now.position * at.rope_stride;
    case SOURCE_KEYS:
        return base + head * at.key_head_stride;
    default:
        base += at.value_base + head * at.value_head_stride;
        return source == SOURCE_VALUE_BLOCK ? base + now.position / MACHINE_TILE_K * bytes : base;
    }
}

static uint32_t *words_at(uint32_t offset) { return (uint32_t *)(void *)(memory + offset); }

static void load(const uint32_t *c) {
    uint32_t beats = LOAD_BEATS(c), bytes = beats * MACHINE_BEAT_WORDS * 4;
    const uint32_t *from = words_at(locate(LOAD_SOURCE(c), LOAD_HEAD(c), bytes) +
                                    LOAD_OFFSET(c) * MACHINE_BEAT_WORDS * 4);
    int32_t *to = scratch + LOAD_DST(c);
    uint32_t format = LOAD_FORMAT(c);
    /* Whole words from the memory; parts of them from here, for a small core shifts by a bit a cycle. */
    volatile union {
        uint32_t word;
        int16_t halves[2];
        int8_t bytes[4];
    } part;
    for (const uint32_t *end = from + bytes / 4; from < end;) {
        part.word = *from++;
        if (format == FORMAT_INT8) {
            for (uint32_t i = 0; i < 4; i++) *to++ = part.bytes[i];
        } else if (format == FORMAT_INT16) {
            *to++ = part.halves[0];
            *to++ = part.halves[1];
        } else {
            *to++ = (int32_t)part.word;
        }
    }
}

static void sload(const uint32_t *c) {
    uint32_t count = SLOAD_COUNT(c), beat = MACHINE_BEAT_WORDS * 4;
    uint32_t bytes = (4 * count + beat - 1) / beat * beat;
    const uint32_t *from =
        words_at(locate(SLOAD_SOURCE(c), SLOAD_HEAD(c), bytes) + SLOAD_OFFSET(c) * beat);
    for (uint32_t i = 0; i < count; i++)
        scalars[SLOAD_RD(c) + i] = (struct scalar){from[i] & 0xFFFF, (int32_t)from[i] >> 16};
}

/* Keeps the largest logits in their order; rows come in theirs. */
static void consider(int32_t value, uint32_t row) {
    engine_logit(value, row);
    if (candidate_count == MACHINE_CANDIDATES) {
        if (value <= candidates[MACHINE_CANDIDATES - 1].value) return;
    } else {
        candidate_count++;
    }
    uint32_t i = candidate_count - 1;
    for (; i && candidates[i - 1].value < value; i--) candidates[i] = candidates[i - 1];
    candidates[i] = (struct candidate){value, row};
}

/* A group's sum times its 16-bit scale, in units of 2**-8. */
static int32_t scaled_sum(int32_t sum, uint32_t code) {
    uint32_t significand = code ? 2048 + (code & 2047) : 0, bits = 31 - (code >> 11);
    if (bits < 8) return integer_sat32(((int64_t)sum * significand) << (8 - bits));
    scaler_shift(bits - 8);
    scaler_factor((int32_t)significand);
    return scaler_apply(sum);
}

/* Feeds a row; gives what follows it. */
static const uint32_t *feed(const uint32_t *from, uint32_t words) {
    const uint32_t *end = from + words;
    /* Cached keys and values have three planes. */
    for (; end - from >= 3; from += 3) {
        engine_feed(from[0]);
        engine_feed(from[1]);
        engine_feed(from[2]);
    }
    while (from < end) engine_feed(*from++);
    return from;
}

static void matvec(const uint32_t *c) {
    uint32_t source = MATVEC_SOURCE(c), tiles = MATVEC_TILES(c), groups = MATVEC_GROUPS(c);
    uint32_t planes = MATVEC_PLANES(c), steps = MATVEC_STEPS(c), blocks = 1;
    if (source == SOURCE_KEYS) tiles = now.position / MACHINE_TILE_ROWS + 1;
    if (source == SOURCE_VALUES) blocks = now.position / MACHINE_TILE_K + 1;
    bool scaled = MATVEC_SCALED(c), aux = scaled && MATVEC_AUX(c);
    bool to_candidates = MATVEC_TO_CANDIDATES(c);
    uint32_t body = planes * steps, sets = blocks * tiles * groups;
    /* A word holds the scales of two sets, or one set's and then comes its auxiliary one's. */
    uint32_t words = sets * body + (aux ? 2 * sets : scaled ? (sets + 1) / 2 : 0);
    uint32_t offset = locate(source, MATVEC_HEAD(c), 4 * words);
    /* No model has auxiliary scales there. */
    bool streams = ENGINE_STREAMS && source == SOURCE_LINEAR && !aux;
    const uint32_t *from = words_at(offset);
    uint32_t stride = MATVEC_VECTOR_STRIDE(c);
    if (to_candidates) candidate_count = 0;
    engine_shape(planes, steps * MACHINE_TILE_COLUMNS, streams && scaled);
    if (streams) engine_stream(offset);
    uint32_t codes = 0; /* of scales that are still to come, from bit 0 on */
    bool more = false;
    uint32_t announced = 0; /* rows that the engine is still to give */
    for (uint32_t block = 0; block < blocks; block++) {
        uint32_t act = MATVEC_ACT(c) + block * groups * steps;
        int32_t *to = scratch + MATVEC_DST(c);
        for (uint32_t tile = 0; tile < tiles; tile++, to++) {
            int32_t sum = 0;
            for (uint32_t group = 0; group < groups; group++) {
                if (!announced) {
                    announced = tiles - tile < ENGINE_ROWS_MOST ? tiles - tile : ENGINE_ROWS_MOST;
                    if (groups > 1) announced = 1; /* the next group has other activations */
                    engine_rows((act + group * steps) * MACHINE_TILE_COLUMNS, announced);
                }
                announced--;
                if (!streams) from = feed(from, body);
                int32_t part = engine_sum();
                if (scaled) {
                    if (!more) codes = streams ? engine_scales() : *from++;
                    part = scaled_sum(part, codes & 0xFFFF);
                    codes >>= 16;
                    more = !more && !aux;
                }
                if (aux) to[stride] = integer_scale_to_fixed(*from++ & 0xFFFF);
                sum = group ? integer_add(sum, part) : part;
            }
            if (!to_candidates)
                *to = block ? integer_add(*to, sum) : sum;
            else if (tile < rows_of_head)
                consider(sum, tile);
        }
    }
}

static void reduce(uint32_t kind, uint32_t largest, uint64_t total, int32_t maximum, uint32_t rd) {
    if (kind == REDUCE_ABSMAX) scalars[rd] = integer_normalise(largest, 0);
    if (kind == REDUCE_SUM) scalars[rd] = integer_normalise(total, 0);
    if (kind == REDUCE_MAX) peak = maximum;
}

static uint32_t magnitude(int32_t value) { return value < 0 ? -(uint32_t)value : (uint32_t)value; }

/* Zeros up to the end of the K step that holds code n - 1. */
static void fill_step(uint32_t n) {
    for (n %= MACHINE_TILE_K; n && n < MACHINE_TILE_K; n++) engine_code(0);
}

/* What VEC does with its elements; see isa.py. */
struct vec {
    const int32_t *a, *b, *end;
    int32_t *to;
    uint32_t pre, rd;
    int32_t limit;
    uint32_t destination, reduce;
    bool by_vector, relu, add;
};

/* Its loop. Inlined where some of the fields are constants, for a test takes as long as the work. */
static inline __attribute__((always_inline)) void each(const struct vec *v, bool by_vector, bool plain,
                                                       uint32_t destination, uint32_t kind) {
    uint32_t largest = 0, pre = v->pre;
    uint64_t total = 0;
    int32_t maximum = INT32_MIN, limit = v->limit;
    const int32_t *b = v->b, *end = v->end;
    int32_t *to = v->to;
    bool relu = v->relu, add = v->add;
    for (const int32_t *a = v->a; a < end; a++) {
        int32_t left = *a;
        if (relu && left < 0) left = 0;
        if (by_vector) scaler_factor(integer_sat18(integer_round_shift32(*b, pre)));
        int32_t result = scaler_apply(left);
        if (!plain) {
            if (add) result = integer_add(result, *b);
            if (limit) result = result > limit ? limit : result < -limit ? -limit : result;
        }
        b++;
        if (destination == DESTINATION_SCRATCH) {
            *to++ = result;
        } else if (destination == DESTINATION_ACTIVATION) {
            engine_code(result > 127 ? 127 : result < -127 ? -127 : result);
        } else if (destination != DESTINATION_NONE) {
            int32_t code = result > 16383 ? 16383 : result < 0 ? 0 : result;
            engine_code(destination == DESTINATION_HIGH ? code >> 7 : code & 127);
        }
        if (kind == REDUCE_ABSMAX) {
            if (magnitude(result) > largest) largest = magnitude(result);
        } else if (kind == REDUCE_SUM) {
            total += (uint64_t)(int64_t)result;
        } else if (kind == REDUCE_MAX) {
            if (result > maximum) maximum = result;
        }
    }
    reduce(kind, largest, total, maximum, v->rd);
}

static void vec(const uint32_t *c) {
    uint32_t n = VEC_BOUND(c) == BOUND_POSITION ? now.position + 1 : VEC_N(c);
    struct scalar m = scalars[VEC_M(c)];
    int32_t exponent = scalars[VEC_X(c)].exponent;
    struct vec v = {
        .a = scratch + VEC_A(c),
        .b = scratch + VEC_B(c),
        .end = scratch + VEC_A(c) + n,
        .to = scratch + VEC_DST(c),
        .pre = clamp(VEC_B_SHIFT(c) + (VEC_B_BY_X(c) ? exponent : 0), 31),
        .rd = VEC_RD(c),
        .limit = machine_limits[VEC_PLANES(c)],
        .destination = VEC_DESTINATION(c),
        .reduce = VEC_REDUCE(c),
        .by_vector = VEC_BY_VECTOR(c),
        .relu = VEC_RELU(c),
        .add = VEC_ADD(c),
    };
    scaler_shift(clamp(VEC_SHIFT(c) - (VEC_BY_M(c) ? m.exponent : 0) + (VEC_BY_X(c) ? exponent : 0), 63));
    if (!v.by_vector) scaler_factor((int32_t)m.mantissa);
    bool codes = v.destination != DESTINATION_SCRATCH && v.destination != DESTINATION_NONE;
    if (codes) engine_codes(VEC_DST(c) * MACHINE_TILE_COLUMNS);
    bool plain = !v.add && !v.limit;
    if (v.by_vector && plain && v.destination == DESTINATION_SCRATCH && v.reduce == REDUCE_ABSMAX)
        each(&v, true, true, DESTINATION_SCRATCH, REDUCE_ABSMAX);
    else if (v.by_vector && plain && v.destination == DESTINATION_NONE && v.reduce == REDUCE_SUM)
        each(&v, true, true, DESTINATION_NONE, REDUCE_SUM);
    else if (!v.by_vector && plain && v.destination == DESTINATION_ACTIVATION && !v.reduce)
        each(&v, false, true, DESTINATION_ACTIVATION, REDUCE_NONE);
    else if (!v.by_vector && v.destination == DESTINATION_SCRATCH)
        each(&v, false, false, DESTINATION_SCRATCH, v.reduce);
    else
        each(&v, v.by_vector, false, v.destination, v.reduce);
    if (codes) fill_step(n);
}

static uint32_t largest_of(const int32_t *a, const int32_t *end) {
    uint32_t largest = 0;
    for (; a < end; a++)
        if (magnitude(*a) > largest) largest = magnitude(*a);
    return largest;
}

/* All stages of the transform, with sums that saturate or with those that cannot. */
static inline __attribute__((always_inline)) void butterflies(int32_t *a, const int32_t *end,
                                                              uint32_t size, bool saturates) {
    for (uint32_t step = 1; step < size; step *= 2)
        for (int32_t *block = a; block < end; block += 2 * step)
            for (int32_t *x = block; x < block + step; x++) {
                int32_t upper = x[0], lower = x[step];
                x[0] = saturates ? integer_add(upper, lower) : upper + lower;
                x[step] = saturates ? integer_subtract(upper, lower) : upper - lower;
            }
}

static void hadamard(const uint32_t *c) {
    int32_t *a = scratch + HADAMARD_A(c), *end = a + HADAMARD_N(c);
    uint32_t bits = HADAMARD_LOG2_BLOCK(c);
    /* Every stage doubles magnitudes at most. */
    if (largest_of(a, end) < 1u << 31 >> bits)
        butterflies(a, end, 1u << bits, false);
    else
        butterflies(a, end, 1u << bits, true);
    reduce(REDUCE_ABSMAX, largest_of(a, end), 0, 0, HADAMARD_RD(c));
}

static void rope(const uint32_t *c) {
    uint32_t half = ROPE_SIZE(c) / 2, shift = ROPE_SHIFT(c);
    const int32_t *b = scratch + ROPE_B(c);
    int32_t *a = scratch + ROPE_A(c), *end = a + ROPE_N(c);
    for (; a < end; a += 2 * half)
        for (uint32_t i = 0; i < half; i++) {
            int64_t cosine = integer_sat18(b[i]), sine = integer_sat18(b[half + i]);
            int32_t first = a[i], second = a[half + i];
            a[i] = integer_sat32(integer_round_shift(first * cosine - second * sine, shift));
            a[half + i] = integer_sat32(integer_round_shift(second * cosine + first * sine, shift));
        }
}

/* 1 / (1 + exp(-z)) in units of 2**-15, of z >= 0 or of its negative. */
static uint32_t sigmoid(uint32_t z, bool negative) {
    if (z > (1u << 20) - 1) z = (1u << 20) - 1;
    uint32_t index = z >> 12, rest = z & 4095;
    uint32_t tail = machine_sigmoid_table[index] - ((machine_sigmoid_delta[index] * rest + 2048) >> 12);
    tail = (tail + 1) >> 1;
    return negative ? tail : (1u << 15) - tail;
}

static void exponential(const uint32_t *c) {
    uint32_t n = EXP_BOUND(c) == BOUND_POSITION ? now.position + 1 : EXP_N(c);
    const int32_t *a = scratch + EXP_A(c);
    int32_t *to = scratch + EXP_DST(c);
    struct scalar m = scalars[EXP_M(c)];
    bool is_sigmoid = EXP_FUNCTION(c) == FUNCTION_SIGMOID;
    scaler_shift(clamp(EXP_SHIFT(c) - m.exponent, 63));
    scaler_factor((int32_t)m.mantissa);
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        int32_t value = a[i];
        uint32_t distance = is_sigmoid ? magnitude(value)
                            : value > peak ? 0
                                           : (uint32_t)peak - (uint32_t)value;
        if (distance > INT32_MAX) distance = INT32_MAX;
        uint32_t z = (uint32_t)scaler_apply((int32_t)distance);
        if (z > (1u << 21) - 1) z = (1u << 21) - 1;
        uint32_t result = is_sigmoid ? sigmoid(z, value < 0) : integer_exp2_negative(z);
        to[i] = (int32_t)result;
        total += result;
    }
    reduce(REDUCE_SUM, 0, total, 0, EXP_RD(c));
}

static void scalar(const uint32_t *c) {
    struct scalar a = scalars[SCALAR_A(c)], b = scalars[SCALAR_B(c)], *rd = &scalars[SCALAR_RD(c)];
    switch (SCALAR_OPERATION(c)) {
    case SCALAR_OP_MUL: *rd = integer_mul(a, b); break;
    case SCALAR_OP_DIV: *rd = integer_div(a, b); break;
    case SCALAR_OP_SQRT: *rd = integer_sqrt(a); break;
    case SCALAR_OP_ADD: *rd = integer_sum(a, b); break;
    case SCALAR_OP_SHIFT: *rd = integer_shift(a, b, SCALAR_IMM(c)); break;
    default: *rd = integer_scale(a, SCALAR_IMM(c)); break;
    }
}

/* Digits of a value, the least significant first, each plus one. */
static void to_digits(int32_t value, uint32_t planes, uint8_t *digits) {
    /* With every digit plus one, the number is that of ordinary ternary digits. */
    uint32_t rest = (uint32_t)(value + machine_limits[planes]);
    for (uint32_t i = 0; i < planes; i++) {
        uint32_t third = machine_third[rest];
        digits[i] = (uint8_t)(rest - third - third - third);
        rest = third;
    }
}

static const uint8_t powers[] = {1, 3, 9, 27, 81};

static void write_key(const uint32_t *c) {
    uint32_t size = KVWRITE_SIZE(c), planes = KVWRITE_PLANES(c);
    uint32_t steps = (size + MACHINE_TILE_K - 1) / MACHINE_TILE_K, line = steps * MACHINE_TILE_COLUMNS;
    uint32_t record = planes * line + 2 * MACHINE_BEAT_WORDS * 4;
    uint8_t *to = memory + locate(SOURCE_KEYS, KVWRITE_HEAD(c), 0) + now.position * record;
    const int32_t *a = scratch + KVWRITE_A(c);
    for (uint32_t i = 0, byte = 0; byte < line; byte++) {
        uint8_t numbers[MACHINE_TRITS] = {0}, digits[MACHINE_TRITS];
        for (uint32_t n = 0; n < MACHINE_TRITS; n++, i++) {
            to_digits(i < size ? a[i] : 0, planes, digits);
            for (uint32_t plane = 0; plane < planes; plane++)
                numbers[plane] = (uint8_t)(numbers[plane] + digits[plane] * powers[n]);
        }
        for (uint32_t plane = 0; plane < planes; plane++)
            to[(planes - 1 - plane) * line + byte] = machine_trit_byte[numbers[plane]];
    }
    uint16_t *scales = (uint16_t *)(void *)(to + planes * line);
    scales[0] = (uint16_t)integer_encode_scale(scalars[KVWRITE_SCALE(c)]);
    scales[2 * MACHINE_BEAT_WORDS] = (uint16_t)integer_encode_scale(scalars[KVWRITE_AUX(c)]);
}

static void write_value(const uint32_t *c) {
    uint32_t size = KVWRITE_SIZE(c), planes = KVWRITE_PLANES(c);
    uint32_t digit = now.position % MACHINE_TILE_K, column = digit / MACHINE_TRITS;
    uint32_t place = digit % MACHINE_TRITS, power = powers[place];
    uint8_t *to = memory + locate(SOURCE_VALUE_BLOCK, KVWRITE_HEAD(c),
                                  size * planes * MACHINE_TILE_COLUMNS);
    const int32_t *a = scratch + KVWRITE_A(c);
    const uint8_t *old = (const uint8_t *)(scratch + KVWRITE_B(c));
    for (uint32_t row = 0; row < size; row++) {
        uint8_t digits[MACHINE_TRITS];
        to_digits(a[row], planes, digits);
        for (uint32_t plane = planes; plane-- > 0;)
            for (uint32_t i = 0; i < MACHINE_TILE_COLUMNS; i++, old++) {
                /* The number of zeros alone has every digit one. */
                uint32_t number =
                    digit ? machine_trit_number[*old] : (uint32_t)machine_limits[MACHINE_TRITS];
                if (i == column) {
                    uint32_t rest = number;
                    for (uint32_t p = 0; p < place; p++) rest = machine_third[rest];
                    uint32_t third = machine_third[rest];
                    number += (digits[plane] + third + third + third - rest) * power;
                }
                *to++ = machine_trit_byte[number];
            }
    }
}

bool machine_execute(const uint32_t *c, const struct machine_token *token, uint32_t layer_) {
    now = *token, layer = layer_;
    switch (COMMAND_OP(c)) {
    case OP_LOAD: load(c); break;
    case OP_SLOAD: sload(c); break;
    case OP_MATVEC: matvec(c); break;
    case OP_VEC: vec(c); break;
    case OP_HADAMARD: hadamard(c); break;
    case OP_ROPE: rope(c); break;
    case OP_EXP: exponential(c); break;
    case OP_SCALAR: scalar(c); break;
    case OP_KVWRITE: KVWRITE_KIND(c) == KIND_KEY ? write_key(c) : write_value(c); break;
    default: return false;
    }
    return true;
}

void machine_configure(uint8_t *memory_, const struct machine_addresses *addresses,
                       const volatile uint32_t *program_, uint32_t commands, uint32_t rows) {
    memory = memory_;
    at = *addresses;
    rows_of_head = rows;
    for (uint32_t i = 0; i < commands * MACHINE_COMMAND_WORDS; i++) program[i] = program_[i];
}

bool machine_run(const struct machine_token *token, bool want_head, void (*head_begins)(void)) {
    uint32_t pc = 0, start = 0, count = 0, index = 0;
    sweep = at.sweep_base;
    uint32_t began = engine_cycles();
    for (;;) {
        const uint32_t *c = program + pc++ * MACHINE_COMMAND_WORDS;
        switch (COMMAND_OP(c)) {
        case OP_END:
            return true;
        case OP_LOOP: /* of slots: there is one */
            if (!LOOP_LEVEL(c)) start = pc, count = LOOP_COUNT(c), index = 0;
            break;
        case OP_NEXT:
            if (NEXT_LEVEL(c)) break;
            if (++index < count)
                pc = start;
            else
                index = 0;
            break;
        case OP_SKIP_UNLESS_HEAD:
            if (!want_head)
                pc = SKIP_UNLESS_HEAD_TARGET(c);
            else
                head_begins();
            break;
        default:
            if (!machine_execute(c, token, index)) return false;
            uint32_t ended = engine_cycles();
            spent[COMMAND_OP(c)] += ended - began;
            began = ended;
        }
    }
}
