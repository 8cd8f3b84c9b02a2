/* Runs a model: checks the image, takes prompts from the host, keeps the accelerator busy, samples,
 * prints. Vectors never pass through here; this core sees tokens, candidates and counters. */
#include "console.h"
#include "ddr3.h"
#include "driver.h"
#include "hal.h"
#include "image.h"
#include "loader.h"
#include "memtest.h"
#include "storage.h"
#include "tokenizer.h"

#define NO_TOKEN 0xFFFFFFFFu
#define SEQUENCES_MAX 16
#define PROTOCOL 3

static const volatile uint32_t *const image = IMAGE;

static struct sequence {
    uint32_t cached; /* positions that the cache holds already */
    uint32_t prompt_length, position, last, made;
    bool active;
    struct sampler sampler;
} sequences[SEQUENCES_MAX];

/* What the host asked for. */
static struct {
    uint32_t sequences, tokens, temperature, top_k, seed, all_logits;
} request;

/* Text on its way to a prompt. */
static struct {
    bool possible; /* the image has the tables */
    bool unfinished;
    uint32_t sequence; /* of the unfinished text */
    struct tokenizer tokenizer;
} text;

static struct layout layout;
static bool usable;        /* the memory holds an image that was checked */
static const char *source; /* of that image */
static uint32_t greeting;  /* number of the last `hello` */

static uint32_t submitted;
static bool stopped; /* by Ctrl-C */

/* A system with less on-chip memory takes prompts as tokens only. */
#define TEXT_FITS (TAMALE_RAM_SIZE >= TAMALE_TEXT_RAM_BYTES)

/* A memory that is the flash is written by a programmer only. */
#ifdef TAMALE_DRAM_SIZE
#define CAN_LOAD (TAMALE_RAM_SIZE >= TAMALE_LOAD_RAM_BYTES)
#define CAN_TEST_MEMORY (TAMALE_RAM_SIZE >= TAMALE_STORAGE_RAM_BYTES)
#endif

static uint32_t word(enum tamale_image_word name) { return image[name]; }

static void configure(void) {
    driver_configure(image, image + word(TAMALE_IMAGE_PROGRAM_OFFSET_WORD) / 4, layout.kv_base,
                     layout.kv_base + layout.sequences * word(TAMALE_IMAGE_KV_SEQUENCE_BYTES_WORD));
    submitted = driver_jobs_done();
}

/* The caches are free while no generation runs, so the tokenizer works there. */
static void prepare_text(void) {
    if (!TEXT_FITS) return;
    const uint8_t *memory = (const uint8_t *)MEMORY_BASE;
    const uint32_t *vocabulary = (const uint32_t *)(memory + word(TAMALE_IMAGE_TEXT_OFFSET_WORD));
    text.possible =
        word(TAMALE_IMAGE_TOKENIZER_BYTES_WORD) && word(TAMALE_IMAGE_TEXT_BYTES_WORD) &&
        tokenizer_init(&text.tokenizer,
                       (const uint32_t *)(memory + word(TAMALE_IMAGE_TOKENIZER_OFFSET_WORD)),
                       vocabulary,
                       (const uint8_t *)(vocabulary + word(TAMALE_IMAGE_VOCABULARY_WORD) + 1),
                       (void *)(MEMORY_BASE + layout.kv_base),
                       layout.sequences * word(TAMALE_IMAGE_KV_SEQUENCE_BYTES_WORD));
}

static void report_ready(void) {
    char name[TAMALE_IMAGE_NAME_BYTES + 1] = {0};
    const volatile uint8_t *letters = (const volatile uint8_t *)image + TAMALE_IMAGE_HEADER_BYTES -
                                      TAMALE_IMAGE_NAME_BYTES;
    for (uint32_t i = 0; i < TAMALE_IMAGE_NAME_BYTES; i++) name[i] = (char)letters[i];
    record_begin("ready");
    record_number("protocol", PROTOCOL);
    record_text("model", name);
    record_text("configuration", TAMALE_NAME);
    record_number("vocabulary", word(TAMALE_IMAGE_VOCABULARY_WORD));
    record_number("context", word(TAMALE_IMAGE_CONTEXT_WORD));
    record_number("sequences", layout.sequences);
    record_number("text", TEXT_FITS && text.possible ? text.tokenizer.capacity : 0);
    record_text("source", source);
    record_number("hello", greeting);
    record_end();
}

/* What the board is about: a model, or waiting for one. */
static void report_state(void) {
    if (usable) {
        report_ready();
        return;
    }
    record_begin("waiting");
    record_number("protocol", PROTOCOL);
    record_text("configuration", TAMALE_NAME);
    record_number("memory", MEMORY_BYTES);
    record_number("hello", greeting);
    record_end();
}

/* "hello NUMBER": the answer has the number, by which a host knows its own greeting. */
static void command_hello(void) {
    if (!console_number(&greeting)) greeting = 0;
    report_state();
}

/* Prints what a token stands for. */
static void print_token(uint32_t token) {
    if (!word(TAMALE_IMAGE_TEXT_BYTES_WORD)) return;
    uint32_t section = word(TAMALE_IMAGE_TEXT_OFFSET_WORD);
    uint32_t from = image[section / 4 + token], to = image[section / 4 + token + 1];
    const volatile uint8_t *bytes =
        (const volatile uint8_t *)image + section + 4 * (word(TAMALE_IMAGE_VOCABULARY_WORD) + 1);
    for (; from < to; from++) {
        uint8_t byte = bytes[from];
        /* RS would start a record, so the text shows SUB in its place. */
        hal_uart_put(byte == 0x1E ? 0x1A : byte);
    }
}

static bool is_stop(uint32_t token) {
    for (uint32_t i = 0; i < word(TAMALE_IMAGE_EOS_COUNT_WORD); i++)
        if (image[TAMALE_IMAGE_EOS0_WORD + i] == token) return true;
    return false;
}

/* Waits until at most `pending` jobs are unfinished; false after a fault. */
static bool wait_for(uint32_t pending) {
    while (submitted - driver_jobs_done() > pending) {
        uint32_t info, code = driver_fault(&info);
        if (code) {
            report_fault(code, info);
            configure();
            return false;
        }
        if (console_interrupted()) stopped = true;
    }
    return true;
}

/* A finished job with a head: what the next one overwrites. */
struct finished {
    uint32_t slots;
    uint64_t cycles, head_cycles;
    struct scalar unit[SEQUENCES_MAX]; /* value of a logit unit */
};

static void report_job(const struct finished *job) {
    record_begin("job");
    record_number("slots", job->slots);
    record_number("head", 1);
    record_number("cycles", job->cycles);
    record_number("head_cycles", job->head_cycles);
    for (uint32_t slot = 0; slot < job->slots; slot++) {
        record_number("m", job->unit[slot].mantissa);
        record_signed("e", job->unit[slot].exponent);
    }
    record_end();
}

static uint64_t cycles_before, head_cycles_before;

static void job_cycles(uint64_t *cycles, uint64_t *head_cycles) {
    uint64_t head_now = driver_counter(DRIVER_COUNTER_HEAD_CYCLES);
    uint64_t now = driver_counter(DRIVER_COUNTER_LAYERS_CYCLES) + head_now;
    *cycles = now - cycles_before;
    *head_cycles = head_now - head_cycles_before;
    cycles_before = now;
    head_cycles_before = head_now;
}

static void finish_job(struct finished *job, uint32_t slots) {
    job->slots = slots;
    job_cycles(&job->cycles, &job->head_cycles);
    for (uint32_t slot = 0; slot < slots; slot++)
        job->unit[slot] = driver_scalar(slot, word(TAMALE_IMAGE_LOGIT_SCALAR_WORD));
}

static struct driver_slot slot_of(uint32_t sequence, uint32_t token, uint32_t position) {
    return (struct driver_slot){
        token, position, layout.kv_base + sequence * word(TAMALE_IMAGE_KV_SEQUENCE_BYTES_WORD)};
}

static void submit(const struct driver_slot *slots, uint32_t count, bool head) {
    driver_submit(slots, count, head);
    submitted++;
}

/* Samples the next token of a sequence from a slot's candidates. */
static void sample(uint32_t sequence, uint32_t slot, struct scalar unit) {
    struct candidate best[DRIVER_CANDIDATES];
    uint32_t count = driver_candidates(slot, best);
    struct sequence *s = &sequences[sequence];
    candidates_sort(best, count);
    s->last = sampler_pick(&s->sampler, best, count, unit);
    s->made++;
    const char *reason = is_stop(s->last)                                        ? "stop"
                         : s->made >= request.tokens                             ? "length"
                         : s->position >= word(TAMALE_IMAGE_CONTEXT_WORD) ? "context"
                                                                                 : 0;
    s->active = !reason;
}

static void report_token(uint32_t sequence) {
    struct sequence *s = &sequences[sequence];
    record_begin("token");
    record_number("sequence", sequence);
    record_number("id", s->last);
    record_end();
    print_token(s->last);
}

static void report_end(uint32_t sequence) {
    struct sequence *s = &sequences[sequence];
    record_begin("done");
    record_number("sequence", sequence);
    record_number("tokens", s->made);
    record_text("reason", is_stop(s->last)                                 ? "stop"
                          : s->made >= request.tokens                      ? "length"
                          : s->position >= word(TAMALE_IMAGE_CONTEXT_WORD) ? "context"
                                                                           : "interrupted");
    record_end();
}

/* Feeds a prompt and samples its first new token; jobs without head are queued ahead. What the last
 * job, `job`, and the token have to report is left to the caller. */
static enum progress { FAULTED, STOPPED, DONE } prefill(uint32_t sequence, struct finished *job) {
    struct sequence *s = &sequences[sequence];
    uint32_t vectors = word(TAMALE_IMAGE_VECTORS_WORD), context = word(TAMALE_IMAGE_CONTEXT_WORD);
    for (uint32_t first = 0;; first += vectors) {
        struct driver_slot slots[SEQUENCES_MAX];
        uint32_t count = s->prompt_length - first < vectors ? s->prompt_length - first : vectors;
        for (uint32_t i = 0; i < count; i++)
            slots[i] = slot_of(sequence, layout.prompts[sequence * context + first + i],
                               s->cached + first + i);
        bool final = first + count == s->prompt_length, head = final || request.all_logits;
        if (!wait_for(driver_queue_depth() - 1)) return FAULTED;
        submit(slots, count, head);
        if (head) {
            if (!wait_for(0)) return FAULTED;
            finish_job(job, count);
        }
        s->position = s->cached + first + count;
        if (stopped) {
            if (!wait_for(0)) return FAULTED;
            if (head) report_job(job);
            return STOPPED;
        }
        if (final) {
            sample(sequence, count - 1, job->unit[count - 1]);
            return DONE;
        }
        if (head) report_job(job);
    }
}

static void generate(void) {
    stopped = false;
    uint64_t cycles, head_cycles;
    job_cycles(&cycles, &head_cycles); /* of what came before */
    for (uint32_t i = 0; i < request.sequences; i++) {
        sequences[i].position = sequences[i].made = 0;
        sequences[i].last = NO_TOKEN;
        sequences[i].active = false;
        sampler_init(&sequences[i].sampler, request.temperature, request.top_k,
                     request.seed + i * 0x9E3779B9u);
    }
    /* The accelerator has its next job before the last one's tokens are printed: the serial port
     * takes longer than the sampler. */
    struct finished job;
    uint32_t who[SEQUENCES_MAX], made = 0;
    for (uint32_t i = 0; i < request.sequences && !stopped; i++) {
        enum progress progress = prefill(i, &job);
        if (progress == FAULTED) return;
        if (progress == STOPPED) break;
        if (i + 1 < request.sequences) {
            report_job(&job);
            report_token(i);
        } else {
            who[made++] = i;
        }
    }
    for (;;) {
        struct driver_slot slots[SEQUENCES_MAX];
        uint32_t next[SEQUENCES_MAX], count = 0;
        for (uint32_t i = 0; i < request.sequences && !stopped; i++)
            if (sequences[i].active) {
                next[count] = i;
                slots[count++] = slot_of(i, sequences[i].last, sequences[i].position++);
            }
        if (count) submit(slots, count, true);
        if (made) report_job(&job);
        for (uint32_t i = 0; i < made; i++) report_token(who[i]);
        if (!count) break;
        if (!wait_for(0)) return;
        finish_job(&job, count);
        for (made = 0; made < count; made++)
            sample(who[made] = next[made], made, job.unit[made]);
    }
    for (uint32_t i = 0; i < request.sequences; i++) report_end(i);
}

static const struct {
    const char *name;
    uint32_t index;
} counters[] = {
#define COUNTER(name, index) {#name, DRIVER_COUNTER_##index}
    COUNTER(cycles, CYCLES),
    COUNTER(layers_cycles, LAYERS_CYCLES),
    COUNTER(layers_beats, LAYERS_BEATS),
    COUNTER(head_cycles, HEAD_CYCLES),
    COUNTER(head_beats, HEAD_BEATS),
    COUNTER(loader_cycles, LOADER_CYCLES),
    COUNTER(array_cycles, ARRAY_CYCLES),
    COUNTER(vector_cycles, VECTOR_CYCLES),
    COUNTER(scalar_cycles, SCALAR_CYCLES),
    COUNTER(kv_writer_cycles, KV_WRITER_CYCLES),
    COUNTER(sequencer_cycles, SEQUENCER_CYCLES),
    COUNTER(array_starved, ARRAY_STARVED),
    COUNTER(array_draining, ARRAY_DRAINING),
    COUNTER(fence_wait, FENCE_WAIT),
    COUNTER(fifo_full, FIFO_FULL),
    COUNTER(memory_wait, MEMORY_WAIT),
    COUNTER(walker_idle, WALKER_IDLE),
    COUNTER(saturations, SATURATIONS),
    COUNTER(queue_empty, QUEUE_EMPTY),
    COUNTER(jobs, JOBS),
};

static void stats(void) {
    record_begin("stats");
    for (uint32_t i = 0; i < sizeof counters / sizeof *counters; i++)
        record_number(counters[i].name, driver_counter(counters[i].index));
    record_end();
}

/* The sequence that a line is for; reports an error if there is none. */
static bool read_sequence(uint32_t *sequence) {
    if (!console_number(sequence)) {
        record_error("bad_number");
        record_end();
        return false;
    }
    if (*sequence >= layout.sequences) {
        record_error("bad_sequence");
        record_number("sequence", *sequence);
        record_number("sequences", layout.sequences);
        record_end();
        return false;
    }
    return true;
}

/* Whether a prompt takes a token; otherwise `refuse` says why not. */
static bool append(uint32_t sequence, uint32_t token) {
    struct sequence *s = &sequences[sequence];
    /* A prompt arrives faster than the header's words can be read from memory. */
    if (token >= layout.vocabulary || s->cached + s->prompt_length >= layout.context) return false;
    layout.prompts[sequence * layout.context + s->prompt_length++] = token;
    return true;
}

static void refuse(uint32_t token) {
    if (token >= word(TAMALE_IMAGE_VOCABULARY_WORD)) {
        record_error("token_outside_vocabulary");
        record_number("token", token);
        record_number("vocabulary", word(TAMALE_IMAGE_VOCABULARY_WORD));
    } else {
        record_error("prompt_longer_than_context");
        record_number("context", word(TAMALE_IMAGE_CONTEXT_WORD));
    }
    record_end();
}

static void report_prompt(uint32_t sequence) {
    record_begin("ok");
    record_number("prompt_tokens", sequences[sequence].prompt_length);
    record_end();
}

/* Gives true, and says so, if the end of a text is still missing. */
static bool unfinished_text(void) {
    if (!text.unfinished) return false;
    record_error("text_unfinished");
    record_number("sequence", text.sequence);
    record_end();
    return true;
}

/* "prompt SEQUENCE ID ...": more lines for the same sequence go on where the last one ended. */
static void command_prompt(void) {
    uint32_t sequence, token;
    if (unfinished_text() || !read_sequence(&sequence)) return;
    while (console_number(&token))
        if (!append(sequence, token)) {
            refuse(token);
            return;
        }
    if (console_bad()) {
        record_error("bad_number");
        record_number("prompt_tokens", sequences[sequence].prompt_length);
        record_end();
        return;
    }
    report_prompt(sequence);
}

#define TEXT_MORE 2u
#define TEXT_START 8u
#define TEXT_OPTIONS (TOKENIZER_SPECIAL | TEXT_MORE | TOKENIZER_NORMALISED | TEXT_START)

static bool take_token(void *refused, uint32_t token) {
    if (append(text.sequence, token)) return true;
    *(uint32_t *)refused = token;
    return false;
}

/* Runs the tokenizer over what has come and reports the new tokens. */
static enum tokenizer_result run_text(bool final, uint32_t before, uint32_t *refused) {
    uint64_t start = hal_cycles();
    enum tokenizer_result result = tokenizer_run(&text.tokenizer, final, take_token, refused);
    uint64_t cycles = hal_cycles() - start;
    record_begin("tokens");
    record_number("sequence", text.sequence);
    record_number("cycles", cycles);
    const volatile uint32_t *prompt =
        layout.prompts + text.sequence * word(TAMALE_IMAGE_CONTEXT_WORD);
    for (; before < sequences[text.sequence].prompt_length; before++)
        record_number("id", prompt[before]);
    record_end();
    return result;
}

/* "cached SEQUENCE POSITIONS": the cache holds these, the prompt comes after them. */
static void command_cached(void) {
    uint32_t sequence, positions;
    if (unfinished_text() || !read_sequence(&sequence)) return;
    if (!console_number(&positions) || !console_end() ||
        positions >= word(TAMALE_IMAGE_CONTEXT_WORD) || sequences[sequence].prompt_length) {
        record_error("bad_cached");
        record_number("context", word(TAMALE_IMAGE_CONTEXT_WORD));
        record_number("prompt_tokens", sequences[sequence].prompt_length);
        record_end();
        return;
    }
    sequences[sequence].cached = positions;
}

/* The tokenizer works where the caches are. */
static bool cache_in_use(void) {
    for (uint32_t i = 0; i < SEQUENCES_MAX; i++)
        if (sequences[i].cached) {
            record_error("cache_in_use");
            record_number("sequence", i);
            record_end();
            return true;
        }
    return false;
}

/* "text SEQUENCE OPTIONS TEXT": the text's tokens, as far as they are certain. */
static void command_text(void) {
    uint32_t sequence, options, refused;
    if (!read_sequence(&sequence)) return;
    if (!console_number(&options) || options & ~TEXT_OPTIONS) {
        record_error("bad_number");
        record_end();
        return;
    }
    if (!TEXT_FITS || !text.possible) {
        record_error("no_tokenizer");
        record_end();
        return;
    }
    if (cache_in_use() || (sequence != text.sequence && unfinished_text())) return;
    if (!text.unfinished) {
        hal_data_cache_invalidate();
        tokenizer_begin(&text.tokenizer, options);
    }
    text.sequence = sequence;
    enum tokenizer_result result = TOKENIZER_OK;
    /* Nothing else is done before the line's end: bytes come faster than words are merged. */
    for (int byte; (byte = console_text()) >= 0;)
        if (!tokenizer_put(&text.tokenizer, (uint8_t)byte)) result = TOKENIZER_WORD_TOO_LONG;
    if (console_bad()) {
        text.unfinished = false;
        record_error("bad_text");
        record_end();
        return;
    }
    uint32_t before = sequences[sequence].prompt_length, bos = word(TAMALE_IMAGE_BOS_WORD);
    if (options & TEXT_START && !before && bos != NO_TOKEN) append(sequence, bos);
    if (!result) result = run_text(!(options & TEXT_MORE), before, &refused);
    text.unfinished = !result && options & TEXT_MORE;
    if (result == TOKENIZER_REFUSED) {
        refuse(refused);
    } else if (result == TOKENIZER_WORD_TOO_LONG) {
        record_error("word_too_long");
        record_number("bytes", text.tokenizer.capacity);
        record_end();
    } else if (result == TOKENIZER_NOT_NORMALISED) {
        record_error("text_not_normalised");
        record_end();
    } else {
        report_prompt(sequence);
    }
}

/* "generate SEQUENCES TOKENS TEMPERATURE TOP_K SEED ALL_LOGITS" */
static void command_generate(void) {
    if (!console_number(&request.sequences) || !console_number(&request.tokens) ||
        !console_number(&request.temperature) || !console_number(&request.top_k) ||
        !console_number(&request.seed) || !console_number(&request.all_logits) || !console_end() ||
        !request.tokens) {
        record_error("bad_request");
        record_end();
        return;
    }
    if (!request.sequences || request.sequences > layout.sequences) {
        record_error("bad_sequence");
        record_number("sequence", request.sequences - 1);
        record_number("sequences", layout.sequences);
        record_end();
        return;
    }
    if (unfinished_text()) return;
    for (uint32_t i = 0; i < request.sequences; i++)
        if (!sequences[i].prompt_length) {
            record_error("empty_prompt");
            record_number("sequence", i);
            record_end();
            return;
        }
    generate();
}

static bool same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static void clear(void) {
    for (uint32_t i = 0; i < SEQUENCES_MAX; i++)
        sequences[i].prompt_length = sequences[i].cached = 0;
    text.unfinished = false;
}

/* Makes an image that is in the memory the one that runs, if it is good; errors say why it is not. */
static void take_image(const char *from) {
    usable = false;
    clear();
    hal_data_cache_invalidate();
    if (!image_check_header(from, &layout) || !image_check_payload(from)) return;
    usable = true;
    source = from;
    configure();
    prepare_text();
}

static void no_image(uint32_t magic) {
    record_error("no_image");
    record_number("magic", magic);
    record_end();
}

/* Takes the image of the first storage that has a good one. */
static void boot_from_storage(void) {
#if TAMALE_STORAGE
    for (uint32_t i = 0; i < sizeof storages / sizeof *storages && !usable; i++) {
        const struct storage *s = &storages[i];
        if (!s->open() || !s->read(TAMALE_IMAGE_HEADER_BYTES)) continue;
        if (!image_begins()) continue;
        if (!image_check_header(s->name, &layout)) continue;
        record_begin("booting");
        record_text("source", s->name);
        record_number("bytes", word(TAMALE_IMAGE_IMAGE_BYTES_WORD));
        record_end();
        if (s->read(word(TAMALE_IMAGE_IMAGE_BYTES_WORD))) take_image(s->name);
    }
#endif
}

static void boot(void) {
    /* An image that is still in the memory is as good as a new one. */
    uint32_t magic = word(TAMALE_IMAGE_MAGIC_WORD);
    if (image_begins()) take_image("memory");
    if (!usable) boot_from_storage();
    if (!usable && magic != TAMALE_IMAGE_MAGIC) no_image(magic);
    report_state();
}

#if CAN_LOAD
static void command_load(void) {
    if (!loader_load()) return;
    usable = false;
    if (image_begins())
        take_image("host");
    else
        no_image(word(TAMALE_IMAGE_MAGIC_WORD));
    report_state();
}

static void command_sums(void) {
    loader_sums();
    /* The bounds of the accelerator's reader were changed. */
    if (usable) configure();
}
#endif

#if CAN_TEST_MEMORY
static void command_memtest(void) {
    if (!memtest()) return;
    usable = false;
    clear();
    report_state();
}
#endif

static const struct {
    const char *name;
    void (*run)(void);
    bool needs_image;
} commands[] = {
    {"prompt", command_prompt, true},
    {"text", command_text, true},
    {"cached", command_cached, true},
    {"generate", command_generate, true},
    {"clear", clear, false},
    {"stats", stats, false},
    {"hello", command_hello, false},
    {"boot", boot, false},
#if CAN_TEST_MEMORY
    {"memtest", command_memtest, false},
#endif
#if CAN_LOAD
    {"load", command_load, false},
    {"sums", command_sums, false},
#endif
};

/* False if the memory does not work: then nothing else runs, and each command tries again. */
static bool start(void) {
    if (!ddr3_start()) return false;
    boot();
    return true;
}

static void obey(const char *name) {
    for (uint32_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (same(name, commands[i].name) && !console_bad()) {
            if (commands[i].needs_image && !usable)
                no_image(word(TAMALE_IMAGE_MAGIC_WORD));
            else
                commands[i].run();
            return;
        }
    record_error("unknown_command");
    record_end();
}

int main(void) {
    bool works = start();
    for (;;) {
        char command[CONSOLE_WORD];
        record_begin("idle");
        record_end();
        while (!console_word(command) && !console_bad()) console_next_line();
        if (same(command, "halt") && !console_bad()) return 0;
        if (works || (works = start())) obey(command);
        console_next_line();
    }
}
