#include "console.h"

#include "hal.h"

#define RECORD 0x1E
#define INTERRUPT 0x03

static bool line_ended, bad;

void record_begin(const char *kind) {
    hal_uart_put(RECORD);
    hal_uart_print(kind);
}

static void put_name(const char *name) {
    hal_uart_put(' ');
    hal_uart_print(name);
    hal_uart_put('=');
}

static void put_number(uint64_t value) {
    char digits[20];
    int n = 0;
    /* 64-bit division is slow on this core and most numbers are short. */
    while (value >> 32) {
        digits[n++] = (char)('0' + value % 10);
        value /= 10;
    }
    uint32_t low = (uint32_t)value;
    do {
        digits[n++] = (char)('0' + low % 10);
        low /= 10;
    } while (low);
    while (n) hal_uart_put((uint8_t)digits[--n]);
}

void record_text(const char *name, const char *value) {
    put_name(name);
    for (; *value; value++) hal_uart_put(*value > ' ' && *value < 127 ? (uint8_t)*value : '_');
}

void record_number(const char *name, uint64_t value) {
    put_name(name);
    put_number(value);
}

void record_signed(const char *name, int32_t value) {
    put_name(name);
    if (value < 0) hal_uart_put('-');
    put_number(value < 0 ? -(uint32_t)value : (uint32_t)value);
}

void record_end(void) { hal_uart_put('\n'); }

void record_error(const char *what) {
    record_begin("error");
    record_text("what", what);
}

bool console_word(char word[CONSOLE_WORD]) {
    int length = 0;
    while (!line_ended) {
        uint8_t byte = hal_uart_get();
        if (byte == '\n' || byte == '\r') {
            line_ended = true;
            break;
        }
        if (byte == INTERRUPT) continue;
        if (byte == ' ') {
            if (length) break;
            continue;
        }
        if (byte < ' ' || byte > 126 || length == CONSOLE_WORD - 1) {
            bad = true;
            continue;
        }
        word[length++] = (char)byte;
    }
    word[length] = 0;
    return length > 0;
}

bool console_number(uint32_t *value) {
    char word[CONSOLE_WORD];
    if (!console_word(word)) return false;
    uint32_t number = 0;
    for (const char *c = word; *c; c++) {
        uint32_t digit = (uint32_t)*c - '0';
        if (digit > 9 || number > UINT32_MAX / 10 || number * 10 > UINT32_MAX - digit)
            return bad = true, false;
        number = number * 10 + digit;
    }
    *value = number;
    return true;
}

/* The next byte of the line, -1 at its end. */
static int line_byte(void) {
    if (line_ended) return -1;
    uint8_t byte;
    do byte = hal_uart_get();
    while (byte == INTERRUPT);
    if (byte != '\n' && byte != '\r') return byte;
    line_ended = true;
    return -1;
}

static int digit_of(int byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

int console_text(void) {
    int byte = line_byte();
    if (byte != '\\') return byte;
    byte = line_byte();
    if (byte == 'n') return '\n';
    if (byte == 'r') return '\r';
    if (byte == '\\') return byte;
    if (byte == 'x') {
        int high = digit_of(line_byte()), low = digit_of(line_byte());
        if (high >= 0 && low >= 0) return high << 4 | low;
    }
    bad = true;
    return line_ended ? -1 : byte;
}

bool console_bad(void) { return bad; }

bool console_end(void) {
    char word[CONSOLE_WORD];
    return !console_word(word) && !bad;
}

void console_next_line(void) {
    char word[CONSOLE_WORD];
    while (console_word(word)) {
    }
    line_ended = bad = false;
}

bool console_interrupted(void) {
    bool interrupted = false;
    for (int byte; (byte = hal_uart_poll()) >= 0;) interrupted |= byte == INTERRUPT;
    return interrupted;
}
