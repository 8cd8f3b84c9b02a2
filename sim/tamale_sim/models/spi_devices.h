// Models of an SPI flash and of an SD card in SPI mode, for the C++ harness of a simulated board.
//
// Both look at the pins once a clock of the system and give the level of their output. They are strict: what a
// data sheet forbids, or leaves open, is a broken rule, whose text `broken()` gives from then on.
//
// Sources: data sheet of the W25Q128JV (commands 03h, 0Bh, 9Fh, ABh; tRES1, tSHSL), of which other 25-series parts
// differ in nothing used here; SD Specifications Part 1, Physical Layer Simplified Specification, chapters 4.5
// (CRC), 6.4 (power up) and 7 (SPI mode).
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <string>
#include <vector>

namespace spi {

inline bool read_file(const char* path, std::vector<uint8_t>& data) {
    FILE* file = fopen(path, "rb");
    if (!file) return false;
    uint8_t buffer[65536];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;)
        data.insert(data.end(), buffer, buffer + n);
    fclose(file);
    return true;
}

// Takes bytes off the pins in mode 0 and puts bytes on them. A device overrides what happens to them.
class Device {
public:
    explicit Device(double clock_hz) : clock_hz_(clock_hz) {}
    virtual ~Device() = default;

    // Level of the output after this clock's pins.
    bool step(bool sck, bool cs_n, bool mosi) {
        ++now_;
        if (!cs_n && !selected_) {
            if (sck) broke("selected while the serial clock is high");
            bits_in_ = 0, bits_out_ = 0;
            selected_ = true;
            select();
            // The first bit is on the pin before the first edge.
            output_ = next_bit();
        }
        if (cs_n && selected_) {
            selected_ = false;
            deselect(bits_in_ == 0);
            output_ = true;
            deselected_at_ = now_;
        }
        if (sck && !sck_) {
            if (mosi != mosi_) broke("data changed with the rising edge of the serial clock");
            rise(mosi);
            risen_at_ = now_;
            if (selected_) {
                shift_in_ = uint8_t(shift_in_ << 1 | mosi);
                if (++bits_in_ == 8) bits_in_ = 0, receive(shift_in_);
            }
        }
        if (!sck && sck_ && selected_) output_ = next_bit();
        sck_ = sck, mosi_ = mosi;
        return output_;
    }

    const char* broken() const { return rule_.empty() ? nullptr : rule_.c_str(); }

protected:
    virtual void select() {}
    virtual void deselect(bool whole_bytes) {}
    virtual void rise(bool mosi) {}
    virtual void receive(uint8_t byte) = 0;
    // The next byte that the device gives, ones where it drives nothing.
    virtual uint8_t give() { return 0xFF; }

    void broke(const char* format, ...) {
        if (!rule_.empty()) return;
        char text[160];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        rule_ = std::string(name()) + ": " + text;
    }
    virtual const char* name() const = 0;

    double seconds_since(uint64_t then) const { return double(now_ - then) / clock_hz_; }
    uint64_t now_ = 0, risen_at_ = 0, deselected_at_ = 0;

private:
    bool next_bit() {
        if (!bits_out_) shift_out_ = give(), bits_out_ = 8;
        return shift_out_ >> --bits_out_ & 1;
    }

    double clock_hz_;
    bool sck_ = false, mosi_ = true, selected_ = false, output_ = true;
    unsigned bits_in_ = 0, bits_out_ = 0;
    uint8_t shift_in_ = 0, shift_out_ = 0;
    std::string rule_;
};

// A 25-series flash of 16 MiB, erased behind its contents. It starts in power-down, as a bitstream or an earlier
// program may have left it.
class Flash : public Device {
public:
    Flash(double clock_hz, std::vector<uint8_t> contents) : Device(clock_hz), data_(std::move(contents)) {
        data_.resize(SIZE, 0xFF);
    }

private:
    static const uint32_t SIZE = 1u << 24;
    const char* name() const override { return "flash"; }

    void select() override {
        count_ = 0;
        if (deselected_at_ && seconds_since(deselected_at_) < 50e-9) broke("deselected for less than tSHSL");
        // 3 us for this part; the slowest of its kind take 30.
        if (woken_at_ && seconds_since(woken_at_) < 30e-6) broke("selected before tRES1 was over");
    }

    void deselect(bool whole_bytes) override {
        if (!whole_bytes) broke("deselected within a byte");
        if (count_ && count_ < needed()) broke("command %02x ended after %u bytes", command_, count_);
        if (count_ && command_ == 0xAB && asleep_) asleep_ = false, woken_at_ = now_;
    }

    // Bytes of a command before its data.
    unsigned needed() const { return command_ == 0x03 ? 4 : command_ == 0x0B ? 5 : 1; }

    void receive(uint8_t byte) override {
        if (!count_++) {
            command_ = byte, address_ = 0;
            if (byte != 0x03 && byte != 0x0B && byte != 0x9F && byte != 0xAB)
                broke("command %02x is unknown to a boot program", byte);
            else if (asleep_ && byte != 0xAB) broke("command %02x in power-down", byte);
        } else if (count_ <= 4) {
            address_ = (address_ << 8 | byte) & (SIZE - 1);
        }
    }

    uint8_t give() override {
        if (!count_) return 0xFF;
        if (command_ == 0x9F) return count_ <= 3 ? "\xEF\x40\x18"[count_ - 1] : 0xFF;
        if (command_ == 0xAB) return count_ > 3 ? 0x17 : 0xFF;
        if (count_ < needed()) return 0xFF;
        return data_[address_++ & (SIZE - 1)];
    }

    std::vector<uint8_t> data_;
    bool asleep_ = true;
    uint64_t woken_at_ = 0;
    unsigned count_ = 0;
    uint8_t command_ = 0;
    uint32_t address_ = 0;
};

// An SD card: high capacity (blocks are addressed), or standard capacity (bytes are). Answers come after one to
// eight bytes, data after some more, as they do.
class Card : public Device {
public:
    Card(double clock_hz, std::vector<uint8_t> contents, bool high_capacity)
        : Device(clock_hz), data_(std::move(contents)), high_capacity_(high_capacity) {
        data_.resize((data_.size() + 511) / 512 * 512);
    }

private:
    enum State { OFF, IDLE, READY };
    const char* name() const override { return "SD card"; }

    void rise(bool mosi) override {
        double period = seconds_since(risen_at_);
        if (state_ != READY && period < 1 / 400.1e3) broke("clock of more than 400 kHz before it is ready");
        if (period < 1 / 25.1e6) broke("clock of more than 25 MHz");
        if (!powered_) clocks_ = mosi ? clocks_ + 1 : 0;
    }

    void select() override {
        if (!powered_ && clocks_ < 74) broke("selected after %u clocks with data high, not 74", clocks_);
        powered_ = true;
        command_.clear();
    }

    void deselect(bool whole_bytes) override {
        if (!whole_bytes) broke("deselected within a byte");
        if (!command_.empty()) broke("deselected within a command");
        answer_.clear();
        if (reading_) broke("deselected during a read of several blocks");
    }

    void receive(uint8_t byte) override {
        if (command_.empty() && (byte & 0xC0) != 0x40) {
            if (byte != 0xFF) broke("byte %02x where no command begins", byte);
            return;
        }
        if (command_.empty() && busy_) broke("command %02x while it is busy", byte);
        command_.push_back(byte);
        if (command_.size() == 6) {
            obey();
            command_.clear();
        }
    }

    void respond(uint8_t status, std::initializer_list<uint8_t> more = {}) {
        answer_.clear();
        random_ = random_ * 1103515245u + 12345u;
        // A byte has been given while the command's last one came.
        answer_.insert(answer_.end(), random_ >> 16 & 7, 0xFF);
        answer_.push_back(status);
        answer_.insert(answer_.end(), more);
    }

    void obey() {
        uint8_t number = command_[0] & 0x3F, idle = state_ == READY ? 0 : 1;
        uint32_t argument = uint32_t(command_[1]) << 24 | command_[2] << 16 | command_[3] << 8 | command_[4];
        if (!(command_[5] & 1)) broke("command %u without end bit", number);
        bool application = application_;
        application_ = false;
        if (state_ == OFF && number != 0) return broke("command %u before command 0", number);
        if (reading_ && number != 12) return broke("command %u during a read of several blocks", number);
        if ((number == 0 || number == 8) && command_[5] != crc7()) {
            broke("command %u with checksum %02x, not %02x", number, command_[5], crc7());
            return;
        }
        if (application && number == 41) {
            if (argument & ~0x40000000u) broke("ACMD41 with argument %08x", argument);
            if (high_capacity_ && !(argument & 0x40000000u)) tries_ = 0;  // it never becomes ready
            if (++tries_ > 3) state_ = READY;
            respond(state_ == READY ? 0 : 1);
            return;
        }
        switch (number) {
        case 0:
            if (argument) broke("command 0 with argument %08x", argument);
            state_ = IDLE, tries_ = 0;
            respond(1);
            break;
        case 8:
            if ((argument & 0xF00) != 0x100) broke("command 8 for another voltage");
            respond(idle, {0, 0, 1, uint8_t(argument)});
            break;
        case 55:
            application_ = true;
            respond(idle);
            break;
        case 58:
            respond(idle, {uint8_t(state_ == READY ? (high_capacity_ ? 0xC0 : 0x80) : 0), 0xFF, 0x80, 0});
            break;
        case 16:
            if (argument != 512) broke("blocks of %u bytes", argument);
            respond(idle);
            break;
        case 17:
        case 18:
            if (state_ != READY) return broke("command %u before it is ready", number);
            if (!high_capacity_ && argument % 512) return broke("read at byte %u, within a block", argument);
            respond(0);
            block_ = high_capacity_ ? argument : argument / 512;
            stalled_ = false;
            append_block();
            reading_ = number == 18;
            break;
        case 12:
            if (!reading_) return broke("command 12 without a read of several blocks");
            reading_ = false;
            // A byte of no meaning, the answer, then busy.
            respond(0);
            answer_.push_front(0x7F);
            answer_.insert(answer_.end(), 5, 0x00);
            busy_ = true;
            break;
        default:
            broke("command %u is unknown to a boot program", number);
            respond(idle | 4);
        }
    }

    void append_block() {
        random_ = random_ * 1103515245u + 12345u;
        answer_.insert(answer_.end(), 1 + (random_ >> 16 & 15), 0xFF);
        if (size_t(block_) * 512 >= data_.size()) {
            // Out of range, once; a read of several blocks still wants its end.
            if (!stalled_) answer_.push_back(0x08);
            stalled_ = true;
            return;
        }
        answer_.push_back(0xFE);
        uint16_t crc = 0;
        for (size_t i = 0; i < 512; ++i) {
            uint8_t byte = data_[size_t(block_) * 512 + i];
            answer_.push_back(byte);
            crc ^= uint16_t(byte << 8);
            for (int bit = 0; bit < 8; ++bit) crc = uint16_t(crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0));
        }
        answer_.push_back(crc >> 8);
        answer_.push_back(crc & 0xFF);
        ++block_;
    }

    uint8_t give() override {
        if (answer_.empty() && reading_ && !stalled_) append_block();
        if (answer_.empty()) {
            busy_ = false;
            return 0xFF;
        }
        uint8_t byte = answer_.front();
        answer_.pop_front();
        return byte;
    }

    // x^7 + x^3 + 1, with the end bit.
    uint8_t crc7() const {
        uint8_t crc = 0;
        for (int i = 0; i < 5; ++i)
            for (int bit = 7; bit >= 0; --bit) {
                bool feedback = (crc >> 6 & 1) != (command_[i] >> bit & 1);
                crc = uint8_t((crc << 1 & 0x7F) ^ (feedback ? 0x09 : 0));
            }
        return uint8_t(crc << 1 | 1);
    }

    std::vector<uint8_t> data_;
    bool high_capacity_, powered_ = false, application_ = false, reading_ = false, stalled_ = false;
    bool busy_ = false;
    State state_ = OFF;
    unsigned clocks_ = 0, tries_ = 0;
    uint32_t block_ = 0, random_ = 1;
    std::vector<uint8_t> command_;
    std::deque<uint8_t> answer_;
};

}  // namespace spi
