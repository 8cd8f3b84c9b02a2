/* Byte-pair encoding with the tables of an image, see "Tokenizer" in docs/reference/image.md.
 *
 * Text comes in pieces of any length; what cannot change any more becomes tokens at once. The numbers
 * are those of the Hugging Face library `tokenizers`, or there is an error: never others. A byte that is
 * no part of valid UTF-8, which the library cannot be given, counts as a character of its own that is
 * neither letter nor number nor space.
 *
 * Nothing here knows the board: the same file compiled for a host is what the tests check.
 */
#ifndef TAMALE_TOKENIZER_H
#define TAMALE_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

/* Symbols of a word that is merged in on-chip memory; longer ones are merged in the work memory. */
#define TOKENIZER_SHORT_WORD 48

/* Characters whose classes are kept in on-chip memory. */
#define TOKENIZER_ASCII 128

/* Least and largest bytes of text that the work memory holds. */
#define TOKENIZER_TEXT_MIN 64
#define TOKENIZER_TEXT_MAX 32768

enum tokenizer_result {
    TOKENIZER_OK,
    TOKENIZER_REFUSED,        /* the receiver took no more tokens */
    TOKENIZER_WORD_TOO_LONG,  /* a word, or a line behind one, is longer than the work memory */
    TOKENIZER_NOT_NORMALISED, /* the text may have another form NFC */
};

/* Options of a text. */
enum {
    TOKENIZER_SPECIAL = 1,    /* special tokens in the text are such tokens, not their letters */
    TOKENIZER_NORMALISED = 4, /* the text is known to be in form NFC */
};

/* A word that is being merged: linked lists of symbols, and the ranks of their pairs. */
struct tokenizer_symbols {
    uint32_t *token;
    uint32_t *rank;  /* of the pair that begins here */
    uint32_t *made;  /* token that this pair becomes */
    uint32_t *least; /* rank within a block of symbols */
    uint16_t *next, *previous;
};

/* Takes a token; false ends the text. */
typedef bool (*tokenizer_sink)(void *context, uint32_t token);

struct tokenizer {
    const uint32_t *tables;  /* the image's tokenizer section */
    const uint32_t *offsets; /* of the vocabulary section */
    const uint8_t *bytes;
    uint32_t begins[8]; /* a bit for each byte with which an added token begins */
    struct tokenizer_symbols brief, full;
    uint8_t *text;
    uint32_t capacity, start, length; /* of the text that is no token yet */
    uint32_t options;
    uint32_t checked, mark;    /* normalised so far; the last character was a mark */
    uint32_t scanned;          /* no added token begins before */
    uint32_t added, added_bytes; /* the one that begins there, its length; 0 for none */
    uint32_t end;              /* of the text that the matcher may see */
    bool opens, behind; /* a part of the text begins; one has begun before */
    bool closed, starved;
    uint32_t first, last, kind; /* of the range of characters that was looked up last */
    uint8_t ascii[TOKENIZER_ASCII];
    uint32_t brief_words[3 * TOKENIZER_SHORT_WORD + 1];
    uint16_t brief_links[2 * TOKENIZER_SHORT_WORD];
};

/* Prepares for an image. `work` are `bytes` of memory, aligned to 4; false if they are too few. */
bool tokenizer_init(struct tokenizer *t, const uint32_t *tables, const uint32_t *offsets,
                    const uint8_t *bytes, void *work, uint32_t size);
/* Forgets text that is no token yet, and begins another. */
void tokenizer_begin(struct tokenizer *t, uint32_t options);
/* Adds a byte; false if there is no room. */
bool tokenizer_put(struct tokenizer *t, uint8_t byte);
/* Gives the tokens that are certain, all of them if the text ends here. After an error the text begins
 * anew. */
enum tokenizer_result tokenizer_run(struct tokenizer *t, bool final, tokenizer_sink sink,
                                    void *context);

#endif
