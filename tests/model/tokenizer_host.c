/* The firmware's tokenizer as a shared library, for tests. */
#include "tokenizer.c"

struct tokens {
    uint32_t *values;
    uint32_t count, room;
};

static bool take(void *context, uint32_t token) {
    struct tokens *tokens = context;
    if (tokens->count == tokens->room) return false;
    tokens->values[tokens->count++] = token;
    return true;
}

/* Tokens of a text that comes in lines of `line` bytes; their number, or minus the error. */
int32_t encode(const uint32_t *tables, const uint32_t *offsets, const uint8_t *bytes, void *work,
               uint32_t size, const uint8_t *text, uint32_t length, uint32_t line, uint32_t options,
               uint32_t *values, uint32_t room) {
    static struct tokenizer t;
    struct tokens tokens = {values, 0, room};
    if (!tokenizer_init(&t, tables, offsets, bytes, work, size)) return -100;
    tokenizer_begin(&t, options);
    for (uint32_t i = 0; i < length; i++) {
        if (!tokenizer_put(&t, text[i])) return -TOKENIZER_WORD_TOO_LONG;
        if ((i + 1) % line) continue;
        enum tokenizer_result result = tokenizer_run(&t, false, take, &tokens);
        if (result) return -(int32_t)result;
    }
    enum tokenizer_result result = tokenizer_run(&t, true, take, &tokens);
    return result ? -(int32_t)result : (int32_t)tokens.count;
}

/* Ends of the words of a text without added tokens; their number. */
int32_t words_of(const uint32_t *tables, const uint32_t *offsets, const uint8_t *bytes, void *work,
                 uint32_t size, const uint8_t *text, uint32_t length, uint32_t *ends) {
    static struct tokenizer t;
    if (!tokenizer_init(&t, tables, offsets, bytes, work, size)) return -100;
    for (uint32_t i = 0; i < length; i++)
        if (!tokenizer_put(&t, text[i])) return -TOKENIZER_WORD_TOO_LONG;
    t.end = t.length;
    t.closed = true;
    int32_t count = 0;
    for (uint32_t at = t.start; at < t.end;) ends[count++] = at = word_end(&t, at);
    return count;
}
