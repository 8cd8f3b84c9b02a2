#include "hal.h"

#define MSTATUS_MIE 8u
#define MIE_MEIE (1u << 11)
#define INTERRUPTS 32u

#define CSR_WRITE(csr, value) __asm__ volatile("csrw %0, %1" ::"i"(csr), "r"(value) : "memory")
#define CSR_SET(csr, value) __asm__ volatile("csrs %0, %1" ::"i"(csr), "r"(value) : "memory")
#define CSR_READ(csr, value) __asm__ volatile("csrr %0, %1" : "=r"(value) : "i"(csr) : "memory")
#define CSR_MSTATUS 0x300
#define CSR_MIE 0x304

void hal_uart_put(uint8_t byte) {
    while (!TAMALE_FIELD(TAMALE_UART_STATUS_TRANSMIT_READY, tamale_uart_status_read())) {
    }
    tamale_uart_transmit_data_write(byte);
}

void hal_uart_write(const void *data, size_t length) {
    const uint8_t *bytes = data;
    while (length--) hal_uart_put(*bytes++);
}

void hal_uart_print(const char *text) {
    while (*text) hal_uart_put((uint8_t)*text++);
}

void hal_uart_print_hex(uint32_t value) {
    for (int shift = 28; shift >= 0; shift -= 4)
        hal_uart_put((uint8_t)"0123456789abcdef"[value >> shift & 15]);
}

int hal_uart_poll(void) {
    uint32_t word = tamale_uart_receive_data_read();
    if (!TAMALE_FIELD(TAMALE_UART_RECEIVE_DATA_VALID, word)) return -1;
    return (int)TAMALE_FIELD(TAMALE_UART_RECEIVE_DATA_BYTE, word);
}

uint8_t hal_uart_get(void) {
    int byte;
    do byte = hal_uart_poll();
    while (byte < 0);
    return (uint8_t)byte;
}

void hal_uart_flush(void) {
    while (!TAMALE_FIELD(TAMALE_UART_STATUS_TRANSMIT_IDLE, tamale_uart_status_read())) {
    }
}

#ifdef TAMALE_TIMER_COMPARE_OFFSET
uint64_t hal_cycles(void) { return tamale_timer_cycles_read(); }

void hal_alarm_set(uint64_t cycles) {
    /* Half a new count must not ring. */
    tamale_timer_control_write(0);
    tamale_timer_compare_write(cycles);
    /* Two register accesses take longer than the comparison; the old alarm is gone after this one. */
    (void)tamale_timer_status_read();
    tamale_timer_control_write(TAMALE_TIMER_CONTROL_INTERRUPT_ENABLE_MASK);
}

void hal_alarm_cancel(void) { tamale_timer_control_write(0); }
#else
/* A counter of 32 bits: right if somebody asks often enough, and differences of one job always are. */
uint64_t hal_cycles(void) {
    static uint32_t last, above;
    uint32_t now = tamale_timer_cycles_read();
    above += now < last;
    last = now;
    return (uint64_t)above << 32 | now;
}
#endif

static hal_handler handlers[INTERRUPTS];
/* The mask register cannot be read back on every core. */
static uint32_t enabled;

void hal_interrupt_attach(unsigned line, hal_handler handler) { handlers[line] = handler; }

static void set_lines(uint32_t lines) {
    enabled = lines;
    CSR_WRITE(TAMALE_CPU_CSR_INTERRUPT_MASK, lines);
}

void hal_interrupt_enable(unsigned line) {
    uint32_t saved = hal_interrupts_save_disable();
    set_lines(enabled | 1u << line);
    hal_interrupts_restore(saved);
}

void hal_interrupt_disable(unsigned line) {
    uint32_t saved = hal_interrupts_save_disable();
    set_lines(enabled & ~(1u << line));
    hal_interrupts_restore(saved);
}

uint32_t hal_interrupts_save_disable(void) {
    uint32_t saved;
    __asm__ volatile("csrrc %0, mstatus, %1" : "=r"(saved) : "r"(MSTATUS_MIE) : "memory");
    return saved & MSTATUS_MIE;
}

void hal_interrupts_restore(uint32_t saved) { CSR_SET(CSR_MSTATUS, saved); }

__attribute__((weak)) void hal_bus_error(uintptr_t address, int write) {
    hal_uart_print(write ? "\nbus error: write to " : "\nbus error: read of ");
    hal_uart_print_hex((uint32_t)address);
    hal_uart_print("\n");
    hal_exit(512);
}

#ifdef TAMALE_INTERRUPT_SYSTEM
static void on_bus_error(void) {
    uint32_t status = tamale_system_bus_error_read();
    uintptr_t address = tamale_system_bus_error_address_read();
    tamale_system_bus_error_write(TAMALE_SYSTEM_BUS_ERROR_PENDING_MASK);
    hal_bus_error(address, TAMALE_FIELD(TAMALE_SYSTEM_BUS_ERROR_WRITE, status));
}
#endif

/* Called by start.S before main. */
void hal_start(void);
void hal_start(void) {
    set_lines(0);
#ifdef TAMALE_INTERRUPT_SYSTEM
    hal_interrupt_attach(TAMALE_INTERRUPT_SYSTEM, on_bus_error);
    hal_interrupt_enable(TAMALE_INTERRUPT_SYSTEM);
#endif
    CSR_SET(CSR_MIE, MIE_MEIE);
    CSR_SET(CSR_MSTATUS, MSTATUS_MIE);
}

__attribute__((weak)) uintptr_t hal_exception(uint32_t cause, uintptr_t address, uint32_t value) {
    hal_uart_print("\nexception ");
    hal_uart_print_hex(cause);
    hal_uart_print(" at ");
    hal_uart_print_hex((uint32_t)address);
    hal_uart_print(" value ");
    hal_uart_print_hex(value);
    hal_uart_print("\n");
    hal_exit(256 + cause);
}

/* Called by start.S; gives the address at which the program goes on. */
uintptr_t hal_trap(uint32_t cause, uintptr_t address, uint32_t value);
uintptr_t hal_trap(uint32_t cause, uintptr_t address, uint32_t value) {
    if (!(cause >> 31)) return hal_exception(cause, address, value);
    uint32_t pending;
    CSR_READ(TAMALE_CPU_CSR_INTERRUPT_PENDING, pending);
    for (unsigned line = 0; line < INTERRUPTS; line++) {
        if (!(pending & enabled & 1u << line)) continue;
        if (handlers[line])
            handlers[line]();
        else
            set_lines(enabled & ~(1u << line));
    }
    return address;
}

void hal_data_cache_invalidate(void) {
    /* VexRiscv's own instruction; other cores without a data cache take it for a fence. */
#if TAMALE_CPU_DATA_CACHE_BYTES
    __asm__ volatile(".word 0x500f" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

void hal_instruction_cache_invalidate(void) { __asm__ volatile("fence.i" ::: "memory"); }

_Noreturn void hal_exit(uint32_t code) {
    hal_uart_flush();
    tamale_system_exit_code_write(code);
    for (;;) {
    }
}
