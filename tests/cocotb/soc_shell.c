/* Exercises the system from the CPU's side; the testbench reads the UART and the exit code. */
#include "hal.h"

#define WORDS 64u
/* From here on the testbench has filled the DRAM with a known pattern. */
#define PATTERN_OFFSET 0x2000u

static volatile unsigned alarms;
static volatile unsigned received_count;
static uint8_t received[8];
static volatile unsigned exceptions;
static volatile unsigned bus_errors;
static volatile uintptr_t bus_error_address;
static volatile int bus_error_write;
static uint32_t zeroed[4];
static uint32_t initialised[4] = {1, 2, 3, 4};

static void on_alarm(void) {
    alarms++;
    hal_alarm_cancel();
}

static void on_uart(void) {
    int byte = hal_uart_poll();
    if (byte >= 0 && received_count < sizeof received) received[received_count++] = (uint8_t)byte;
}

static void require(int condition, uint32_t code) {
    if (!condition) hal_exit(code);
}

/* Skips the instruction: every one that faults here is four bytes long. */
uintptr_t hal_exception(uint32_t cause, uintptr_t address, uint32_t value) {
    (void)value;
    require(cause == 2, 100 + cause);
    exceptions++;
    return address + 4;
}

void hal_bus_error(uintptr_t address, int write) {
    bus_errors++;
    bus_error_address = address;
    bus_error_write = write;
}

static void report(const char *name, uint32_t value) {
    hal_uart_print(name);
    hal_uart_print(" ");
    hal_uart_print_hex(value);
    hal_uart_print("\n");
}

static void wait_for_bus_error(unsigned count, uintptr_t address, int write) {
    for (unsigned i = 0; i < 20 && bus_errors < count; i++) __asm__ volatile("nop");
    require(bus_errors == count, 30 + count);
    require(bus_error_address == address && bus_error_write == write, 40 + count);
}

static uint32_t cycles_of_reads(volatile uint32_t *from) {
    uint32_t start = (uint32_t)hal_cycles(), sum = 0;
    for (unsigned i = 0; i < WORDS; i += 8) {
        sum += from[i];
        sum += from[i + 1];
        sum += from[i + 2];
        sum += from[i + 3];
        sum += from[i + 4];
        sum += from[i + 5];
        sum += from[i + 6];
        sum += from[i + 7];
    }
    uint32_t end = (uint32_t)hal_cycles();
    require(sum == 0x01000193u * (WORDS * (WORDS - 1) / 2), 20);
    return end - start;
}

#ifdef TAMALE_ACCELERATOR_BASE
static volatile unsigned copies;

static void on_copied(void) {
    copies++;
    tamale_accelerator_status_write(TAMALE_ACCELERATOR_STATUS_DONE_MASK);
}

/* Control window, memory port and interrupt of the accelerator, while the CPU uses the DRAM too. */
static void copy(volatile uint32_t *pattern) {
    copies = 0;
    for (unsigned i = 0; i < 16; i++) tamale_accelerator_scratchpad_write(i, ~i);
    for (unsigned i = 0; i < 16; i++) require(tamale_accelerator_scratchpad_read(i) == ~i, 50);
    hal_interrupt_attach(TAMALE_INTERRUPT_ACCELERATOR, on_copied);
    hal_interrupt_enable(TAMALE_INTERRUPT_ACCELERATOR);
    volatile uint32_t *target = pattern + 0x400;
    tamale_accelerator_source_write((uint32_t)(uintptr_t)pattern - TAMALE_DRAM_BASE);
    tamale_accelerator_destination_write((uint32_t)(uintptr_t)target - TAMALE_DRAM_BASE);
    tamale_accelerator_beats_write(WORDS * 4 / BEAT_BYTES);
    tamale_accelerator_control_write(TAMALE_ACCELERATOR_CONTROL_START_MASK);
    unsigned reads = 0;
    while (!copies) reads += *(volatile uint32_t *)hal_uncached(pattern) == 0;
    require(reads > 0 && copies == 1, 51);
    hal_data_cache_invalidate();
    for (unsigned i = 0; i < WORDS; i++) require(target[i] == pattern[i], 52);
}
#endif

int main(void) {
    hal_uart_print("hello\n");
    require(tamale_system_identifier_read() == 0x4c4d4154u, 1);
    require(tamale_system_clock_frequency_read() == TAMALE_CLOCK_HZ, 2);
    for (unsigned i = 0; i < 4; i++) require(zeroed[i] == 0 && initialised[i] == i + 1, 3);

    /* Multiplication and division, in hardware or not. */
    volatile uint64_t a = 123456789012345ull, b = 9876543;
    require(a / b == 12500000u && a % b == 1512345u, 4);

    /* Time. */
    uint64_t first = hal_cycles(), second = hal_cycles();
    require(second > first && second - first < 1000, 5);
    hal_interrupt_attach(TAMALE_INTERRUPT_TIMER, on_alarm);
    hal_interrupt_enable(TAMALE_INTERRUPT_TIMER);
    hal_alarm_set(hal_cycles() + 500);
    require(alarms == 0, 6);
    while (!alarms) {
    }
    require(alarms == 1, 7);

    /* DRAM: every width, both views of it. */
    volatile uint32_t *dram = (volatile uint32_t *)TAMALE_DRAM_BASE;
    volatile uint32_t *uncached = hal_uncached(dram);
    for (unsigned i = 0; i < WORDS; i++) dram[i] = i * 0x9e3779b1u;
    for (unsigned i = 0; i < WORDS; i++) require(uncached[i] == i * 0x9e3779b1u, 8);
    for (unsigned i = 0; i < WORDS; i++) require(dram[i] == i * 0x9e3779b1u, 9);
    volatile uint8_t *bytes = (volatile uint8_t *)TAMALE_DRAM_BASE + 0x1000;
    volatile uint16_t *halves = (volatile uint16_t *)(TAMALE_DRAM_BASE + 0x1000);
    for (unsigned i = 0; i < 16; i++) bytes[i] = (uint8_t)(0x10 + i);
    halves[2] = 0xbeef;
    require(bytes[3] == 0x13 && bytes[4] == 0xef && bytes[5] == 0xbe && bytes[6] == 0x16, 10);

    /* A line that another manager changes: stale through the cache until it is invalidated. */
    (void)dram[0];
    uncached[0] = 0x600df00d;
    hal_data_cache_invalidate();
    require(dram[0] == 0x600df00d, 11);

    /* The same reads three ways, after the cache has forgotten all. */
    volatile uint32_t *pattern = dram + PATTERN_OFFSET / 4;
    hal_data_cache_invalidate();
    (void)cycles_of_reads(hal_uncached(pattern)); /* code into the cache */
    report("uncached", cycles_of_reads(hal_uncached(pattern)));
    hal_data_cache_invalidate();
    report("missing", cycles_of_reads(pattern));
    report("hitting", cycles_of_reads(pattern));

#ifdef TAMALE_ACCELERATOR_BASE
    copy(pattern);
#endif

    /* An instruction that does not exist. */
    require(exceptions == 0, 12);
    __asm__ volatile(".word 0" ::: "memory");
    require(exceptions == 1, 13);

    /* Nothing there: a message, not silence. */
    require(bus_errors == 0, 14);
    require(*(volatile uint32_t *)0xe0000004u == 0, 15);
    wait_for_bus_error(1, 0xe0000004u, 0);
    (void)*(volatile uint32_t *)(TAMALE_UART_BASE + 0x800);
    wait_for_bus_error(2, TAMALE_UART_BASE + 0x800, 0);
    *(volatile uint32_t *)(TAMALE_RAM_BASE + 0x20000000u) = 1;
    wait_for_bus_error(3, TAMALE_RAM_BASE + 0x20000000u, 1);
    *(volatile uint8_t *)(TAMALE_UART_BASE + TAMALE_UART_DIVISOR_OFFSET) = 1;
    wait_for_bus_error(4, TAMALE_UART_BASE + TAMALE_UART_DIVISOR_OFFSET, 1);
    report("bus errors", bus_errors);

    /* Bytes from the testbench, by interrupt. */
    hal_interrupt_attach(TAMALE_INTERRUPT_UART, on_uart);
    tamale_uart_interrupt_enable_write(TAMALE_UART_INTERRUPT_ENABLE_RECEIVE_VALID_MASK);
    hal_interrupt_enable(TAMALE_INTERRUPT_UART);
    hal_uart_print("ready\n");
    while (received_count < 4) {
    }
    for (unsigned i = 0; i < 4; i++) hal_uart_put(received[i] ^ 0x20);
    hal_uart_print("\n");

    /* Scratch survives a reset of the CPU: the second pass ends the program. */
    if (TAMALE_FIELD(TAMALE_SYSTEM_RESET_CAUSE, tamale_system_reset_read()) == 0) {
        tamale_system_scratch_write(0x5ca1ab1e);
        hal_uart_flush();
        tamale_system_reset_write(TAMALE_SYSTEM_RESET_REQUEST_MASK);
        for (;;) {
        }
    }
    require(tamale_system_scratch_read() == 0x5ca1ab1e, 16);
    return 42;
}
