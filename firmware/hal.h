/* What every program needs of the system: serial port, time, interrupts, caches, the end.
 *
 * Registers themselves are reached through the accessors of the generated tamale_soc.h.
 */
#ifndef TAMALE_HAL_H
#define TAMALE_HAL_H

#include <stddef.h>
#include <stdint.h>

#include "tamale_soc.h"

/* Serial port. The writers wait while the FIFO is full. */
void hal_uart_put(uint8_t byte);
void hal_uart_write(const void *data, size_t length);
void hal_uart_print(const char *text);
void hal_uart_print_hex(uint32_t value);
/* Next received byte, or -1 if none waits. */
int hal_uart_poll(void);
/* Next received byte; waits for it. */
uint8_t hal_uart_get(void);
/* Waits until every byte has left the pin. */
void hal_uart_flush(void);

/* Clock cycles since reset. */
uint64_t hal_cycles(void);
/* Raises the timer's interrupt from a cycle count on, until the alarm is set anew or cancelled. */
void hal_alarm_set(uint64_t cycles);
void hal_alarm_cancel(void);

/* Interrupts. main starts with them enabled and every line but the bus errors' off. A handler runs with interrupts disabled and must end the cause. A line that is enabled
 * without a handler is disabled at its first interrupt. */
typedef void (*hal_handler)(void);
void hal_interrupt_attach(unsigned line, hal_handler handler);
void hal_interrupt_enable(unsigned line);
void hal_interrupt_disable(unsigned line);
/* All lines: gives what hal_interrupts_restore takes. */
uint32_t hal_interrupts_save_disable(void);
void hal_interrupts_restore(uint32_t saved);

/* Called by an interrupt, a few instructions after an access that ended with a bus error. A program may
 * replace this weak function; this one reports over the UART and exits with 512. */
void hal_bus_error(uintptr_t address, int write);

/* Called at exceptions. Gives the address at which the program goes on. A program that replaces this
 * weak function handles exceptions itself; this one reports over the UART and exits with 256 + cause. */
uintptr_t hal_exception(uint32_t cause, uintptr_t address, uint32_t value);

/* Makes the CPU forget the contents of its data cache (write-through: nothing is lost) or instruction
 * cache. */
void hal_data_cache_invalidate(void);
void hal_instruction_cache_invalidate(void);

#ifdef TAMALE_DRAM_BASE
/* The same DRAM past the caches. */
static inline volatile void *hal_uncached(const volatile void *pointer) {
    return (volatile void *)((uintptr_t)pointer - TAMALE_DRAM_BASE + TAMALE_DRAM_UNCACHED_BASE);
}
#endif

/* Ends the program. */
_Noreturn void hal_exit(uint32_t code);

#endif
