// Runs a simulated board without a test framework: clock, reset, serial port, logit trace.
//
//     board [+image=FILE] [--logits FILE] [--trace FILE] [--divisor N] [--limit CYCLES] [--patience CYCLES]
//           [--activity FILE] [--clock HZ] [--cpu-clock HZ] [--control FD] [--flash FILE]
//           [--card FILE [--card-capacity standard]]
//
// A cycle is one of `clk`. The CPU's own clock, if its frequency is not 0, is the slower one; its edges fall on
// edges of `clk`.
//
// A line "divisor N" on the control descriptor changes the speed of the host's serial port, once what was sent
// before has gone out. Flash and SD card have the contents of their files; a device without one is not there.
//
// Bytes of the board's serial port go to standard output, bytes of standard input to the board. After a
// record `idle` the board has nothing to do until a byte comes, so time stands still until then.
//
// The program ends when the firmware halts (exit status: its code), at the end of standard input once the
// board is idle (0), at SIGTERM (0), at the first broken timing rule of the memory (3) or rule of an SPI device (6),
// at the cycle limit (4), or when a board that is not idle has neither sent a byte nor moved a beat of memory for `patience`
// cycles: it hangs (5). A line of JSON on standard error closes the run.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>

#include "Vboard.h"
#include "models/spi_devices.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

// Receiver and transmitter of 8N1, a bit every `divisor` cycles.
class Serial {
public:
    explicit Serial(unsigned divisor) : divisor_(divisor) {}

    // Looks at the board's transmit pin once a cycle; gives a byte or -1.
    int receive(bool level) {
        if (!receiving_) {
            if (!level) receiving_ = true, receive_timer_ = divisor_ + divisor_ / 2, bits_ = 0, shift_ = 0;
            return -1;
        }
        if (--receive_timer_) return -1;
        receive_timer_ = divisor_;
        if (bits_ < 8) {
            shift_ |= unsigned(level) << bits_++;
            return -1;
        }
        receiving_ = false;
        return shift_;
    }

    // The level of the board's receive pin for this cycle.
    bool transmit(std::deque<uint8_t>& queue) {
        if (!send_timer_) {
            if (!frame_bits_) {
                if (queue.empty()) return true;
                frame_ = 0x200u | unsigned(queue.front()) << 1;
                queue.pop_front();
                frame_bits_ = 10;
            }
            level_ = frame_ & 1, frame_ >>= 1, --frame_bits_;
            send_timer_ = divisor_;
        }
        --send_timer_;
        return level_;
    }

    bool idle() const { return !receiving_ && !frame_bits_ && !send_timer_; }

    // Of an idle port.
    void set_divisor(unsigned divisor) { divisor_ = divisor; }

private:
    unsigned divisor_, receive_timer_ = 0, bits_ = 0, shift_ = 0;
    unsigned send_timer_ = 0, frame_ = 0, frame_bits_ = 0;
    bool receiving_ = false, level_ = true;
};

void put(int file, const void* data, size_t size) {
    const char* bytes = static_cast<const char*>(data);
    while (size) {
        ssize_t n = write(file, bytes, size);
        if (n <= 0) exit(0);  // the reader is gone
        bytes += n, size -= n;
    }
}

// Knows whether the board waits for the host: from the record `idle` to the end of a line that says
// something.
class IdleWatch {
public:
    bool idle() const { return idle_; }

    void sent(uint8_t byte) {
        if (byte == '\n' || byte == '\r') idle_ = idle_ && !line_, line_ = false;
        else if (byte != ' ' && byte != 0x03) line_ = true;
    }

    void received(uint8_t byte) {
        static const char record[] = "\x1eidle\n";
        if (byte != uint8_t(record[matched_])) matched_ = 0;
        if (byte == uint8_t(record[matched_]) && !record[++matched_]) matched_ = 0, idle_ = true, line_ = false;
    }

private:
    unsigned matched_ = 0;
    bool idle_ = false, line_ = false;
};

// Counts, for every 64 cycles, those in which each bit of `activity` was set: 16-bit numbers, one per bit.
class ActivityRecorder {
public:
    explicit ActivityRecorder(FILE* file) : file_(file) {}

    void add(uint32_t activity) {
        for (uint32_t rest = activity; rest; rest &= rest - 1) ++counts_[__builtin_ctz(rest)];
        if (++cycles_ == 64) {
            fwrite(counts_, sizeof *counts_, BITS, file_);
            memset(counts_, 0, sizeof counts_);
            cycles_ = 0;
        }
    }

private:
    static const unsigned BITS = 17;
    FILE* file_;
    unsigned cycles_ = 0;
    uint16_t counts_[32] = {};
};

// Lines "divisor N" from the host.
class Control {
public:
    explicit Control(int file) : file_(file) {
        if (file >= 0) fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK);
    }

    // The divisor that is asked for, 0 for none.
    unsigned wanted() {
        char byte;
        while (file_ >= 0 && read(file_, &byte, 1) == 1) {
            if (byte != '\n') {
                if (size_ + 1 < sizeof line_) line_[size_++] = byte;
                continue;
            }
            line_[size_] = 0, size_ = 0;
            sscanf(line_, "divisor %u", &wanted_);
        }
        return wanted_;
    }
    void done() { wanted_ = 0; }
    int file() const { return file_; }

private:
    int file_;
    char line_[32];
    size_t size_ = 0;
    unsigned wanted_ = 0;
};

volatile sig_atomic_t terminated = 0;

}  // namespace

int main(int argc, char** argv) {
#ifdef __linux__
    // A simulation without anybody to read it would run for ever.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
    VerilatedContext context;
    context.commandArgs(argc, argv);
    const char *logits_path = nullptr, *trace_path = nullptr, *activity_path = nullptr;
    const char *flash_path = nullptr, *card_path = nullptr;
    bool high_capacity = true;
    int control_file = -1;
    unsigned divisor = 80;
    uint64_t limit = UINT64_MAX, patience = 5000000, clock = 80000000, cpu_clock = 0, cpu_phase = 0;
    for (int i = 1; i + 1 < argc; ++i) {
        if (!strcmp(argv[i], "--logits")) logits_path = argv[++i];
        else if (!strcmp(argv[i], "--trace")) trace_path = argv[++i];
        else if (!strcmp(argv[i], "--activity")) activity_path = argv[++i];
        else if (!strcmp(argv[i], "--divisor")) divisor = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--clock")) clock = strtoull(argv[++i], nullptr, 0);
        else if (!strcmp(argv[i], "--cpu-clock")) cpu_clock = strtoull(argv[++i], nullptr, 0);
        else if (!strcmp(argv[i], "--control")) control_file = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--flash")) flash_path = argv[++i];
        else if (!strcmp(argv[i], "--card")) card_path = argv[++i];
        else if (!strcmp(argv[i], "--card-capacity")) high_capacity = strcmp(argv[++i], "standard");
        else if (!strcmp(argv[i], "--limit")) limit = strtoull(argv[++i], nullptr, 0);
        else if (!strcmp(argv[i], "--patience")) patience = strtoull(argv[++i], nullptr, 0);
    }
    Vboard top{&context};
#if VM_TRACE
    VerilatedVcdC trace;
    if (trace_path) context.traceEverOn(true), top.trace(&trace, 99), trace.open(trace_path);
#else
    if (trace_path) fprintf(stderr, "this build records no waves; build it with WAVES=1\n");
#endif
    FILE* logits = logits_path ? fopen(logits_path, "wb") : nullptr;
    if (logits_path && !logits) return perror(logits_path), 2;
    FILE* activity = activity_path ? fopen(activity_path, "wb") : nullptr;
    if (activity_path && !activity) return perror(activity_path), 2;
    ActivityRecorder recorder(activity);
    std::vector<uint8_t> contents;
    std::unique_ptr<spi::Device> flash, card;
    if (flash_path) {
        if (!spi::read_file(flash_path, contents)) return perror(flash_path), 2;
        flash = std::make_unique<spi::Flash>(double(clock), std::move(contents));
    }
    contents.clear();
    if (card_path) {
        if (!spi::read_file(card_path, contents)) return perror(card_path), 2;
        card = std::make_unique<spi::Card>(double(clock), std::move(contents), high_capacity);
    }
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);

    // What the Verilog models print is no output of the board.
    int serial_output = dup(STDOUT_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);

    struct sigaction action = {};
    action.sa_handler = [](int) { terminated = 1; };
    sigaction(SIGTERM, &action, nullptr);  // without SA_RESTART: poll() returns

    Serial serial(divisor);
    Control control(control_file);
    IdleWatch watch;
    std::deque<uint8_t> input;
    bool input_open = true;
    uint64_t cycle = 0, moved = 0;
    int status = 0;
    const char *reason = "halted", *rule = "";
    auto start = std::chrono::steady_clock::now();

    // Called at each edge of `clk`.
    auto advance_cpu_clock = [&] {
        if (cpu_clock && (cpu_phase += cpu_clock) >= clock) cpu_phase -= clock, top.cpu_clk = !top.cpu_clk;
    };

    top.uart_rx = 1;
    top.spi_flash_miso = 1;
    top.sd_miso = 1;
    top.rst = 1;
    for (;; ++cycle) {
        if (cycle == 8) top.rst = 0;
        top.clk = 1;
        advance_cpu_clock();
        top.eval();
#if VM_TRACE
        if (trace_path) trace.dump(cycle * 2);
#endif
        int byte = serial.receive(top.uart_tx);
        if (byte >= 0) {
            uint8_t value = byte;
            put(serial_output, &value, 1);
            watch.received(value);
            moved = cycle;
        }
        if (top.memory_beat) moved = cycle;
        if (logits && top.logit_valid) {
            uint32_t record[2] = {uint32_t(top.logit_vector) << 28 | top.logit_row, top.logit_value};
            fwrite(record, sizeof record, 1, logits);
        }
        if (activity) recorder.add(top.activity);
        top.uart_rx = serial.transmit(input);
        if (flash) top.spi_flash_miso = flash->step(top.spi_flash_sck, top.spi_flash_cs_n, top.spi_flash_mosi);
        if (card) top.sd_miso = card->step(top.sd_sck, top.sd_cs_n, top.sd_mosi);
        top.clk = 0;
        advance_cpu_clock();
        top.eval();
#if VM_TRACE
        if (trace_path) trace.dump(cycle * 2 + 1);
#endif
        if (top.halted) {
            status = top.exit_code;
            break;
        }
        if (top.violation) {
            status = 3, reason = "timing rule of the memory broken";
            break;
        }
        for (const auto& device : {flash.get(), card.get()})
            if (device && device->broken()) status = 6, reason = "rule of an SPI device broken", rule = device->broken();
        if (status == 6) break;
        if (cycle >= limit) {
            status = 4, reason = "cycle limit reached";
            break;
        }
        if ((cycle & 1023) == 0) {
            if (terminated) {
                reason = "terminated";
                break;
            }
            if (control.wanted() && input.empty() && serial.idle()) {
                serial.set_divisor(control.wanted());
                control.done();
            }
            bool waits = watch.idle() && input.empty() && serial.idle();
            if (waits && !input_open) {
                reason = "end of input";
                break;
            }
            if (waits) {
                if (logits) fflush(logits);
                pollfd files[] = {{STDIN_FILENO, POLLIN, 0}, {control.file(), POLLIN, 0}};
                poll(files, 2, 1000);
            }
            if (input_open) {
                uint8_t buffer[256];
                ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
                for (ssize_t i = 0; i < n; ++i) input.push_back(buffer[i]), watch.sent(buffer[i]);
                if (n == 0) input_open = false;
            }
            // Bytes on their way to the board are work too.
            if (watch.idle() || !input.empty()) moved = cycle;
            if (cycle - moved > patience) {
                status = 5, reason = "silence";
                break;
            }
            if (logits && (cycle & 0xFFFFF) == 0) fflush(logits);
        }
    }
    top.final();
#if VM_TRACE
    if (trace_path) trace.close();
#endif
    if (logits) fclose(logits);
    if (activity) fclose(activity);
    fflush(stdout);
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fprintf(stderr,
            "{\"reason\": \"%s\", \"cycles\": %llu, \"seconds\": %.3f, \"violation\": %u, \"exit_code\": %u, "
            "\"rule\": \"%s\"}\n",
            reason, (unsigned long long)cycle, seconds, unsigned(top.violation), unsigned(top.exit_code), rule);
    return status & 255;
}
