#include "image.h"

#include "console.h"
#include "driver.h"

/* What the stack may take of a memory that it shares with the caches. */
#define STACK_BYTES 4096u

static uint32_t word(enum tamale_image_word name) { return IMAGE[name]; }

static void error(const char *what, const char *source) {
    record_error(what);
    record_text("source", source);
}

uint32_t image_crc_word(uint32_t crc, uint32_t value) {
    /* Four bits at a time. */
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
    };
    crc ^= value;
    for (int i = 0; i < 8; i++) crc = crc >> 4 ^ table[crc & 15];
    return crc;
}

void report_fault(uint32_t code, uint32_t info) {
    record_begin("fault");
    record_number("code", code);
    record_number("info", info);
    record_end();
    driver_reset();
}

bool image_checksum(uint32_t offset, uint32_t bytes, uint32_t *crc) {
    if (driver_checksum(offset, bytes, crc)) return true;
    uint32_t info, code = driver_fault(&info);
    report_fault(code, info);
    return false;
}

bool image_begins(void) { return word(TAMALE_IMAGE_MAGIC_WORD) == TAMALE_IMAGE_MAGIC; }

/* Bytes for caches and prompts, which begin at `kv_base`. */
static uint32_t cache_room(uint32_t bytes, struct layout *layout) {
#ifdef TAMALE_FLASH_BASE
    /* They lie on chip, between variables and stack: a difference of addresses, modulo 2**32. */
    extern uint8_t __bss_end[], __stack_top[];
    uintptr_t base = ((uintptr_t)__bss_end + 15) & ~(uintptr_t)15;
    layout->kv_base = (uint32_t)(base - MEMORY_BASE);
    if (bytes > MEMORY_BYTES) return 0;
    return (uint32_t)((uintptr_t)__stack_top - STACK_BYTES - base) & ~15u;
#else
    if (bytes > MEMORY_BYTES - 4096) return 0;
    layout->kv_base = (bytes + 4095) & ~4095u;
    return MEMORY_BYTES - layout->kv_base;
#endif
}

bool image_check_header(const char *source, struct layout *layout) {
    if (word(TAMALE_IMAGE_VERSION_WORD) != TAMALE_IMAGE_VERSION) {
        error("image_version", source);
        record_number("has", word(TAMALE_IMAGE_VERSION_WORD));
        record_number("wants", TAMALE_IMAGE_VERSION);
        record_end();
        return false;
    }
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < TAMALE_IMAGE_HEADER_BYTES / 4; i++)
        crc = image_crc_word(crc, i == TAMALE_IMAGE_HEADER_CRC_WORD ? 0 : IMAGE[i]);
    if (~crc != word(TAMALE_IMAGE_HEADER_CRC_WORD)) {
        error("header_checksum", source);
        record_number("has", ~crc);
        record_number("wants", word(TAMALE_IMAGE_HEADER_CRC_WORD));
        record_end();
        return false;
    }
    const char *what;
    uint32_t has, wants;
    if (!driver_fits(IMAGE, &what, &has, &wants)) {
        error("image_does_not_fit", source);
        record_text("field", what);
        record_number("hardware", has);
        record_number("image", wants);
        record_end();
        return false;
    }
    uint32_t bytes = word(TAMALE_IMAGE_IMAGE_BYTES_WORD), context = word(TAMALE_IMAGE_CONTEXT_WORD);
    uint32_t cache = word(TAMALE_IMAGE_KV_SEQUENCE_BYTES_WORD);
    layout->vocabulary = word(TAMALE_IMAGE_VOCABULARY_WORD);
    layout->context = context;
    uint32_t room = cache_room(bytes, layout);
    layout->sequences = room / (cache + 4 * context);
    if (!layout->sequences) {
        error("memory_too_small", source);
#ifdef TAMALE_FLASH_BASE
        record_number("has", room);
        record_number("wants", cache + 4 * context);
#else
        record_number("has", MEMORY_BYTES);
        record_number("wants", (uint64_t)bytes + 4096 + cache + 4 * context);
#endif
        record_end();
        return false;
    }
    if (layout->sequences > word(TAMALE_IMAGE_VECTORS_WORD))
        layout->sequences = word(TAMALE_IMAGE_VECTORS_WORD);
    /* At the end of the room. */
    layout->prompts = IMAGE + ((layout->kv_base + room) / 4 - context * layout->sequences);
    return true;
}

bool image_check_payload(const char *source) {
    uint32_t crc;
    if (!image_checksum(TAMALE_IMAGE_HEADER_BYTES,
                        word(TAMALE_IMAGE_IMAGE_BYTES_WORD) - TAMALE_IMAGE_HEADER_BYTES, &crc)) {
        error("checksum_engine", source);
        record_end();
        return false;
    }
    if (crc != word(TAMALE_IMAGE_PAYLOAD_CRC_WORD)) {
        error("image_checksum", source);
        record_number("has", crc);
        record_number("wants", word(TAMALE_IMAGE_PAYLOAD_CRC_WORD));
        record_end();
        return false;
    }
    return true;
}
