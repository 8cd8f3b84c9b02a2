/* The conversation with the host over the serial port.
 *
 * Towards the board: lines of words separated by spaces. Towards the host: the bytes of the text, and
 * records, which start with the control character RS (0x1E) and end with a newline; docs/user/protocol.md
 * lists both.
 */
#ifndef TAMALE_CONSOLE_H
#define TAMALE_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>

/* Longest word of a command. */
#define CONSOLE_WORD 16

/* Starts a record of a kind, adds fields, ends it. */
void record_begin(const char *kind);
void record_text(const char *name, const char *value);
void record_number(const char *name, uint64_t value);
void record_signed(const char *name, int32_t value);
void record_end(void);
/* Starts a record of kind error. */
void record_error(const char *what);

/* The next word of the line, at most CONSOLE_WORD - 1 characters; false at the end of the line. Words
 * that are longer, and bytes that are no printable ASCII, count as garbage: see console_bad. */
bool console_word(char word[CONSOLE_WORD]);
/* The next word as a decimal number; false at the end of the line or if it is none (then console_bad). */
bool console_number(uint32_t *value);
/* The next byte of the text that is the rest of the line, -1 at its end. A backslash and n, r, or x and two
 * hexadecimal digits, stand for a newline, a carriage return, any byte; two backslashes for one. Other
 * backslashes are garbage. */
int console_text(void);
/* Whether the line has no more words, and had no garbage; takes it to its end, or to the next word. What
 * arrives during a generation is no command (see console_interrupted), so a line ends before it. */
bool console_end(void);
/* Whether something on this line was garbage. */
bool console_bad(void);
/* Drops the rest of the line and starts a new one. */
void console_next_line(void);
/* Drops waiting input; true if the host sent Ctrl-C (0x03). */
bool console_interrupted(void);

#endif
