#include "tokenizer.h"

#include "tamale_image.h"

#define NONE 0xFFFFFFFFu
#define LAST 0xFFFFu
#define ID 0xFFFFFFu
/* Symbols that share an entry of `least`. */
#define BLOCK 64

/* Beside the classes of the image's table. */
#define CLASS_END 6u  /* the text, or the part between added tokens, ends here */
#define CLASS_WAIT 7u /* depends on bytes that are not there yet */
#define IN(class, set) ((set) >> (class) & 1u)
#define LETTER (1u << TAMALE_TOKENIZER_CLASS_LETTER)
#define NUMBER (1u << TAMALE_TOKENIZER_CLASS_NUMBER)
#define SPACE (1u << TAMALE_TOKENIZER_CLASS_SPACE)
#define DIGIT (1u << TAMALE_TOKENIZER_CLASS_DIGIT)
#define OTHER (1u << TAMALE_TOKENIZER_CLASS_OTHER)

static uint32_t word_of(const struct tokenizer *t, enum tamale_tokenizer_word name) {
    return t->tables[name];
}

static const uint32_t *table(const struct tokenizer *t, enum tamale_tokenizer_word offset) {
    return t->tables + t->tables[offset] / 4;
}

static bool flag(const struct tokenizer *t, uint32_t mask) {
    return word_of(t, TAMALE_TOKENIZER_FLAGS_WORD) & mask;
}

/* Work memory ------------------------------------------------------------------------------------- */

/* Bytes per byte of text: itself, three words and two half-words; and a word per block. */
#define WORK_BYTES(size) (17 * (size) + 4 * ((size) / BLOCK))

static struct tokenizer_symbols place(uint32_t *words, uint16_t *links, uint32_t size) {
    return (struct tokenizer_symbols){
        words, words + size, words + 2 * size, words + 3 * size, links, links + size,
    };
}

void tokenizer_begin(struct tokenizer *t, uint32_t options) {
    t->options = options;
    t->start = t->length = t->checked = t->scanned = 0;
    t->mark = t->added_bytes = 0;
    t->opens = true;
    t->behind = false;
    if (!flag(t, TAMALE_TOKENIZER_FLAG_PREFIX)) return;
    /* The first place is kept for the space that may come before the text. */
    t->start = t->length = t->checked = t->scanned = 1;
}

bool tokenizer_put(struct tokenizer *t, uint8_t byte) {
    if (t->length == t->capacity) return false;
    t->text[t->length++] = byte;
    /* U+2581 is what such vocabularies write for a space. */
    if (byte == 0x81 && flag(t, TAMALE_TOKENIZER_FLAG_CHARACTERS) && t->length - t->start >= 3 &&
        t->text[t->length - 2] == 0x96 && t->text[t->length - 3] == 0xE2) {
        t->length -= 2;
        t->text[t->length - 1] = ' ';
        /* It may have looked like an unknown character before it was complete. */
        if (t->scanned > t->length - 1) t->scanned = t->length - 1;
        if (t->checked > t->length - 1) t->checked = t->length - 1;
    }
    return true;
}

/* Characters -------------------------------------------------------------------------------------- */

static uint32_t search_kind(struct tokenizer *t, uint32_t code) {
    if (code < t->first || code > t->last) {
        /* Ranges in order, each up to the next: code point << 8 | kind. */
        const uint32_t *ranges = table(t, TAMALE_TOKENIZER_RANGES_WORD);
        uint32_t low = 0, high = word_of(t, TAMALE_TOKENIZER_RANGE_COUNT_WORD);
        while (high - low > 1) {
            uint32_t middle = (low + high) / 2;
            if (ranges[middle] >> 8 <= code)
                low = middle;
            else
                high = middle;
        }
        t->first = ranges[low] >> 8;
        t->last = low + 1 < word_of(t, TAMALE_TOKENIZER_RANGE_COUNT_WORD)
                      ? (ranges[low + 1] >> 8) - 1
                      : 0x10FFFF;
        t->kind = ranges[low] & 0xFF;
    }
    return t->kind;
}

/* Class of a code point; bits above those of the class say what normalisation has to know. */
static uint32_t kind_of(struct tokenizer *t, uint32_t code) {
    return code < TOKENIZER_ASCII ? t->ascii[code] : search_kind(t, code);
}

struct character {
    uint32_t class, bytes, kind;
};

/* The character at a place before `end`; CLASS_WAIT if its end is missing and may yet come. */
static struct character character_at(struct tokenizer *t, uint32_t at, uint32_t end, bool closed) {
    const struct character bad = {TAMALE_TOKENIZER_CLASS_OTHER, 1, TAMALE_TOKENIZER_CLASS_OTHER};
    uint32_t code = t->text[at], bytes = 1, least = 0;
    if (code >= 0x80) {
        if (code >= 0xF5 || code < 0xC2) return bad;
        bytes = code >= 0xF0 ? 4 : code >= 0xE0 ? 3 : 2;
        least = bytes == 4 ? 0x10000 : bytes == 3 ? 0x800 : 0x80;
        code &= 0x7Fu >> bytes;
        for (uint32_t i = 1; i < bytes; i++) {
            if (at + i >= end) return closed ? bad : (struct character){CLASS_WAIT, 0, 0};
            uint8_t byte = t->text[at + i];
            if (byte >> 6 != 2) return bad;
            code = code << 6 | (byte & 0x3F);
        }
        if (code < least || code > 0x10FFFF || code >> 11 == 0xD800 >> 11) return bad;
    }
    uint32_t kind = kind_of(t, code);
    return (struct character){kind & TAMALE_TOKENIZER_CLASS_MASK, bytes, kind};
}

/* The character at a place, as the matcher sees it. */
static struct character look(struct tokenizer *t, uint32_t at) {
    if (at < t->end) {
        struct character c = character_at(t, at, t->end, t->closed);
        if (c.class == CLASS_WAIT) t->starved = true;
        return c;
    }
    if (!t->closed) t->starved = true;
    return (struct character){t->closed ? CLASS_END : CLASS_WAIT, 0, 0};
}

/* A byte where only ASCII counts; 0 at the end. */
static uint32_t byte_at(struct tokenizer *t, uint32_t at) {
    if (at < t->end) return t->text[at];
    if (!t->closed) t->starved = true;
    return 0;
}

/* End of a run of at most `most` characters of some classes; `*latest` is where its last one begins. */
static uint32_t run_end(struct tokenizer *t, uint32_t at, uint32_t classes, uint32_t most,
                        uint32_t *latest) {
    for (; most; most--) {
        struct character c = look(t, at);
        if (!IN(c.class, classes)) break;
        *latest = at;
        at += c.bytes;
    }
    return at;
}

/* Words ------------------------------------------------------------------------------------------- */

/* Bytes of 's 't 're 've 'm 'll 'd at a place; 0 if there is none. */
static uint32_t contraction(struct tokenizer *t, uint32_t at) {
    if (byte_at(t, at) != '\'') return 0;
    uint32_t first = byte_at(t, at + 1), second;
    bool either = flag(t, TAMALE_TOKENIZER_FLAG_EITHER_CASE);
    /* U+017F, the long s, is an s to a pattern that does not tell cases apart. */
    if (either && first == 0xC5) return byte_at(t, at + 2) == 0xBF ? 3 : 0;
    if (either && first >= 'A' && first <= 'Z') first |= 0x20;
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
    if (first != 'r' && first != 'v' && first != 'l') return 0;
    second = byte_at(t, at + 2);
    if (either && second >= 'A' && second <= 'Z') second |= 0x20;
    return second == (first == 'l' ? 'l' : 'e') ? 3 : 0;
}

/* End of what \s+(?!\S)|\s+ matches, after \s*[\r\n]+ where `lines`. */
static uint32_t space_end(struct tokenizer *t, uint32_t at, bool lines) {
    uint32_t latest = at, end = run_end(t, at, SPACE, NONE, &latest), line = end;
    if (t->starved) return at;
    if (lines) {
        while (line > at && t->text[line - 1] != '\n' && t->text[line - 1] != '\r') line--;
        if (line > at) return line;
    }
    if (latest == at || IN(look(t, end).class, 1u << CLASS_END | DIGIT)) return end;
    return latest;
}

/* End of the word that begins at a place; of no use if `starved` is set then.
 *
 * The patterns, as the tokenizers' files have them:
 *   GPT-2  's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   cl100k (?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 */
static uint32_t word_end(struct tokenizer *t, uint32_t at) {
    uint32_t pattern = word_of(t, TAMALE_TOKENIZER_PATTERN_WORD), latest;
    if (pattern == TAMALE_TOKENIZER_PATTERN_NONE) {
        if (!t->closed) t->starved = true;
        return t->end;
    }
    struct character here = look(t, at), then;
    if (here.class == TAMALE_TOKENIZER_CLASS_DIGIT) return at + here.bytes;
    uint32_t bytes = contraction(t, at);
    if (bytes || t->starved) return at + bytes;
    uint32_t byte = t->text[at], numbers = word_of(t, TAMALE_TOKENIZER_NUMBERS_WORD);
    bool modern = pattern == TAMALE_TOKENIZER_PATTERN_CL100K;
    then = IN(here.class, SPACE | OTHER) ? look(t, at + here.bytes) : here;
    if (t->starved) return at;
    if (modern) {
        if (here.class == TAMALE_TOKENIZER_CLASS_LETTER ||
            (then.class == TAMALE_TOKENIZER_CLASS_LETTER && byte != '\r' && byte != '\n'))
            return run_end(t, at + here.bytes, LETTER, NONE, &latest);
        if (here.class == TAMALE_TOKENIZER_CLASS_NUMBER)
            return run_end(t, at, NUMBER, numbers, &latest);
    } else {
        uint32_t class = byte == ' ' ? then.class : here.class;
        if (IN(class, LETTER | NUMBER))
            return run_end(t, at + here.bytes, 1u << class, NONE, &latest);
    }
    if (here.class == TAMALE_TOKENIZER_CLASS_OTHER ||
        (byte == ' ' && then.class == TAMALE_TOKENIZER_CLASS_OTHER)) {
        uint32_t end = run_end(t, at + here.bytes, OTHER, NONE, &latest);
        while (modern && (byte = byte_at(t, end), byte == '\n' || byte == '\r')) end++;
        return end;
    }
    return space_end(t, at, modern);
}

/* Merging ----------------------------------------------------------------------------------------- */

static uint32_t bucket(uint32_t hash, uint32_t bits) { return hash >> (32 - bits); }

/* Rank of a pair of tokens, and the token that it becomes; NONE if they are never merged. */
static uint32_t rank_of(const struct tokenizer *t, uint32_t left, uint32_t right, uint32_t *made) {
    uint32_t hash = left * 0x9E3779B1u ^ right * 0x85EBCA6Bu;
    const uint32_t *index = table(t, TAMALE_TOKENIZER_MERGE_INDEX_WORD) +
                            bucket(hash * 0x9E3779B1u, word_of(t, TAMALE_TOKENIZER_MERGE_BITS_WORD));
    const uint32_t *merges = table(t, TAMALE_TOKENIZER_MERGES_WORD);
    const uint32_t *entry = merges + 3 * index[0], *end = merges + 3 * index[1];
    for (; entry < end; entry += 3) {
        if ((entry[0] & ID) != left || (entry[1] & ID) != right) continue;
        *made = entry[0] >> 24 | entry[1] >> 24 << 8 | entry[2] >> 24 << 16;
        return entry[2] & ID;
    }
    return NONE;
}

static void set_rank(struct tokenizer_symbols *s, uint32_t at, uint32_t rank, uint32_t count) {
    uint32_t *least = &s->least[at / BLOCK], before = s->rank[at];
    s->rank[at] = rank;
    if (rank <= *least) {
        *least = rank;
    } else if (before == *least) {
        uint32_t i = at - at % BLOCK, end = i + BLOCK < count ? i + BLOCK : count;
        for (rank = NONE; i < end; i++)
            if (s->rank[i] < rank) rank = s->rank[i];
        *least = rank;
    }
}

static void pair_up(const struct tokenizer *t, struct tokenizer_symbols *s, uint32_t at,
                    uint32_t count) {
    uint32_t rank = NONE;
    if (s->next[at] != LAST)
        rank = rank_of(t, s->token[at], s->token[s->next[at]], &s->made[at]);
    set_rank(s, at, rank, count);
}

/* Merges the pair of the least rank, of equal ones the first, until none is left. */
static void merge(const struct tokenizer *t, struct tokenizer_symbols *s, uint32_t count) {
    uint32_t blocks = (count + BLOCK - 1) / BLOCK;
    for (uint32_t i = 0; i < blocks; i++) s->least[i] = NONE;
    for (uint32_t i = 0; i < count; i++) {
        s->next[i] = (uint16_t)(i + 1 < count ? i + 1 : LAST);
        s->previous[i] = (uint16_t)(i ? i - 1 : LAST);
        s->rank[i] = NONE;
        pair_up(t, s, i, count);
    }
    for (;;) {
        uint32_t best = NONE, at = 0;
        for (uint32_t i = 0; i < blocks; i++)
            if (s->least[i] < best) best = s->least[i], at = i * BLOCK;
        if (best == NONE) return;
        while (s->rank[at] != best) at++;
        uint32_t gone = s->next[at], after = s->next[gone];
        s->token[at] = s->made[at];
        s->next[at] = (uint16_t)after;
        if (after != LAST) s->previous[after] = (uint16_t)at;
        set_rank(s, gone, NONE, count);
        pair_up(t, s, at, count);
        if (s->previous[at] != LAST) pair_up(t, s, s->previous[at], count);
    }
}

/* The token whose bytes these are; NONE if there is none. */
static uint32_t lookup(const struct tokenizer *t, const uint8_t *bytes, uint32_t length) {
    uint32_t hash = 0x811C9DC5u;
    for (uint32_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 0x01000193u;
    const uint32_t *index = table(t, TAMALE_TOKENIZER_LOOKUP_INDEX_WORD) +
                            bucket(hash * 0x9E3779B1u, word_of(t, TAMALE_TOKENIZER_LOOKUP_BITS_WORD));
    const uint32_t *ids = table(t, TAMALE_TOKENIZER_LOOKUP_WORD);
    for (uint32_t i = index[0]; i < index[1]; i++) {
        uint32_t token = ids[i], from = t->offsets[token];
        if (t->offsets[token + 1] - from != length) continue;
        uint32_t same = 0;
        while (same < length && t->bytes[from + same] == bytes[same]) same++;
        if (same == length) return token;
    }
    return NONE;
}

/* Symbols of a word, one for each character that is a token and one for each byte of others. */
static uint32_t character_symbols(struct tokenizer *t, uint32_t at, uint32_t length, uint32_t *token) {
    const uint32_t *tokens = table(t, TAMALE_TOKENIZER_BYTES_WORD);
    uint32_t count = 0;
    for (uint32_t end = at + length; at < end;) {
        uint32_t bytes = character_at(t, at, end, true).bytes;
        token[count] = lookup(t, t->text + at, bytes);
        if (token[count] != NONE)
            count++;
        else
            for (uint32_t i = 0; i < bytes; i++) token[count++] = tokens[t->text[at + i]];
        at += bytes;
    }
    return count;
}

/* The same, one for each byte. A byte that the vocabulary lacks is left out, as the library does. */
static uint32_t byte_symbols(struct tokenizer *t, uint32_t at, uint32_t length, uint32_t *token) {
    const uint32_t *tokens = table(t, TAMALE_TOKENIZER_BYTES_WORD);
    uint32_t count = 0;
    for (uint32_t i = 0; i < length; i++) {
        token[count] = tokens[t->text[at + i]];
        if (token[count] != NONE) count++;
    }
    return count;
}

/* Gives the tokens of a word. */
static bool word_tokens(struct tokenizer *t, uint32_t at, uint32_t length, tokenizer_sink sink,
                        void *context) {
    if (flag(t, TAMALE_TOKENIZER_FLAG_IGNORE_MERGES)) {
        uint32_t token = lookup(t, t->text + at, length);
        if (token != NONE) return sink(context, token);
    }
    struct tokenizer_symbols *s = length <= TOKENIZER_SHORT_WORD ? &t->brief : &t->full;
    uint32_t count = flag(t, TAMALE_TOKENIZER_FLAG_CHARACTERS)
                         ? character_symbols(t, at, length, s->token)
                         : byte_symbols(t, at, length, s->token);
    if (!count) return true;
    merge(t, s, count);
    for (uint32_t i = 0; i != LAST; i = s->next[i])
        if (!sink(context, s->token[i])) return false;
    return true;
}

/* Text -------------------------------------------------------------------------------------------- */

/* Goes on to the next added token, or to where one may begin. */
static void scan(struct tokenizer *t, bool final) {
    const uint32_t *added = table(t, TAMALE_TOKENIZER_ADDED_WORD);
    uint32_t count = word_of(t, TAMALE_TOKENIZER_ADDED_COUNT_WORD);
    while (!t->added_bytes && t->scanned < t->length) {
        uint8_t byte = t->text[t->scanned];
        uint32_t room = t->length - t->scanned, i = count, length = 0;
        if (t->begins[byte >> 5] >> (byte & 31) & 1)
            /* Longer ones come first: of several that match, the longest counts. */
            for (i = 0; i < count; i++) {
                const uint8_t *bytes = (const uint8_t *)t->tables + added[3 * i];
                length = added[3 * i + 1];
                uint32_t same = 0;
                while (same < length && same < room && bytes[same] == t->text[t->scanned + same]) same++;
                if (same == length) break;
                if (same == room && !final) return;
            }
        if (i == count) {
            t->scanned++;
            continue;
        }
        uint32_t token = added[3 * i + 2];
        if (token & TAMALE_TOKENIZER_ADDED_SPECIAL && !(t->options & TOKENIZER_SPECIAL)) {
            /* Text like other text, but no other token begins in it. */
            t->scanned += length;
            continue;
        }
        t->added = token & ID;
        t->added_bytes = length;
    }
}

/* Whether form NFC is sure not to change the text so far. */
static bool normalised(struct tokenizer *t, bool final) {
    if (!flag(t, TAMALE_TOKENIZER_FLAG_NFC) || t->options & TOKENIZER_NORMALISED) return true;
    while (t->checked < t->length) {
        struct character c = character_at(t, t->checked, t->length, final);
        if (c.class == CLASS_WAIT) break;
        uint32_t mark = c.kind & TAMALE_TOKENIZER_KIND_MARK;
        if (c.kind & TAMALE_TOKENIZER_KIND_UNSTABLE || (mark && t->mark)) return false;
        t->mark = mark;
        t->checked += c.bytes;
    }
    return true;
}

/* Gives the tokens of the text before `end`, as far as they are certain. */
static bool words(struct tokenizer *t, tokenizer_sink sink, void *context) {
    while (t->start < t->end) {
        t->starved = false;
        uint32_t end = word_end(t, t->start);
        if (t->starved) break;
        if (!word_tokens(t, t->start, end - t->start, sink, context)) return false;
        t->start = end;
    }
    return true;
}

/* Puts a space before a part of the text where the vocabulary's kind asks for one. */
static void open_part(struct tokenizer *t) {
    if (t->text[t->start] == ' ' && !flag(t, TAMALE_TOKENIZER_FLAG_PREFIX_ALWAYS)) return;
    if (t->behind && flag(t, TAMALE_TOKENIZER_FLAG_PREFIX_FIRST)) return;
    t->text[--t->start] = ' ';
}

static bool run(struct tokenizer *t, bool final, tokenizer_sink sink, void *context) {
    for (;;) {
        scan(t, final);
        t->end = t->scanned;
        t->closed = final || t->added_bytes;
        if (t->opens && t->start < t->end) {
            t->opens = false;
            if (flag(t, TAMALE_TOKENIZER_FLAG_PREFIX)) open_part(t);
        }
        if (!words(t, sink, context)) return false;
        if (!t->added_bytes) return true;
        if (!sink(context, t->added)) return false;
        t->start = t->scanned += t->added_bytes;
        t->added_bytes = 0;
        t->opens = t->behind = true;
    }
}

bool tokenizer_init(struct tokenizer *t, const uint32_t *tables, const uint32_t *offsets,
                    const uint8_t *bytes, void *work, uint32_t size) {
    uint32_t capacity = TOKENIZER_TEXT_MAX;
    while (capacity >= TOKENIZER_TEXT_MIN && WORK_BYTES(capacity) > size) capacity -= BLOCK;
    if (capacity < TOKENIZER_TEXT_MIN) return false;
    t->tables = tables;
    t->offsets = offsets;
    t->bytes = bytes;
    t->capacity = capacity;
    uint32_t *words = work, symbols = 3 * capacity + capacity / BLOCK;
    t->full = place(words, (uint16_t *)(words + symbols), capacity);
    t->text = (uint8_t *)(words + symbols + capacity);
    t->brief = place(t->brief_words, t->brief_links, TOKENIZER_SHORT_WORD);
    t->first = 1, t->last = 0;
    for (uint32_t i = 0; i < TOKENIZER_ASCII; i++) t->ascii[i] = (uint8_t)search_kind(t, i);
    for (uint32_t i = 0; i < 8; i++) t->begins[i] = 0;
    const uint32_t *added = table(t, TAMALE_TOKENIZER_ADDED_WORD);
    for (uint32_t i = 0; i < word_of(t, TAMALE_TOKENIZER_ADDED_COUNT_WORD); i++) {
        uint8_t byte = ((const uint8_t *)tables)[added[3 * i]];
        t->begins[byte >> 5] |= 1u << (byte & 31);
    }
    tokenizer_begin(t, 0);
    return true;
}

enum tokenizer_result tokenizer_run(struct tokenizer *t, bool final, tokenizer_sink sink,
                                    void *context) {
    enum tokenizer_result result = TOKENIZER_OK;
    if (!normalised(t, final))
        result = TOKENIZER_NOT_NORMALISED;
    else if (!run(t, final, sink, context))
        result = TOKENIZER_REFUSED;
    if (final || result) {
        tokenizer_begin(t, t->options);
        return result;
    }
    /* What is left goes to the front. */
    uint32_t front = flag(t, TAMALE_TOKENIZER_FLAG_PREFIX) ? 1 : 0, gone = t->start - front;
    if (t->start <= front) {
        if (t->length < t->capacity) return TOKENIZER_OK;
        tokenizer_begin(t, t->options);
        return TOKENIZER_WORD_TOO_LONG;
    }
    for (uint32_t i = t->start; i < t->length; i++) t->text[i - gone] = t->text[i];
    t->start -= gone;
    t->length -= gone;
    t->scanned -= gone;
    t->checked -= gone;
    return TOKENIZER_OK;
}
