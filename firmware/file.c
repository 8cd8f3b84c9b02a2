/* The file TAMALE.IMG in the root of a FAT16 or FAT32 volume: the first partition of a card, or all of it.
 *
 * Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification, 1.03.
 */
#include "console.h"
#include "hal.h"
#include "image.h"
#include "storage.h"
#include "storage_devices.h"

#if TAMALE_STORAGE

#define SECTOR 512u
#define ENTRY 32u
/* The end of the memory, which no image reaches, holds the sector that is looked at. */
#define BUFFER (IMAGE + (TAMALE_DRAM_SIZE - SECTOR) / 4)

static struct {
    uint32_t table, data;      /* sectors of the allocation table, of cluster 2 */
    uint32_t cluster_sectors, clusters;
    uint32_t root, root_sectors; /* sector of FAT16's root, 0 sectors: cluster of FAT32's */
    uint32_t first;            /* cluster of the file */
    uint32_t bytes;
} volume;

static uint32_t buffered; /* sector in the buffer */

static uint32_t number(uint32_t at, uint32_t bytes) {
    const volatile uint8_t *buffer = (const volatile uint8_t *)BUFFER;
    uint32_t value = 0;
    while (bytes--) value = value << 8 | buffer[at + bytes];
    return value;
}

static bool look_at(uint32_t sector) {
    if (sector == buffered) return true;
    buffered = 0;
    if (!card_read(sector, 1, BUFFER)) return false;
    buffered = sector;
    return true;
}

static bool fails(const char *what) {
    record_error(what);
    record_end();
    return false;
}

/* Whether the sector in the buffer, the card's number `base`, begins a volume; keeps its geometry. */
static bool volume_at(uint32_t base) {
    uint32_t reserved = number(14, 2), tables = number(16, 1), entries = number(17, 2);
    uint32_t sectors = number(19, 2), size = number(22, 2), cluster = number(13, 1);
    if (number(510, 2) != 0xAA55 || number(11, 2) != SECTOR || !cluster || cluster & (cluster - 1) ||
        !reserved || tables - 1 > 1 || number(21, 1) < 0xF0)
        return false;
    if (!sectors) sectors = number(32, 4);
    if (!size) size = number(36, 4);
    volume.table = base + reserved;
    volume.root = volume.table + tables * size;
    volume.root_sectors = (entries * ENTRY + SECTOR - 1) / SECTOR;
    volume.data = volume.root + volume.root_sectors;
    volume.cluster_sectors = cluster;
    uint32_t used = volume.data - base;
    if (used >= sectors) return false;
    volume.clusters = (sectors - used) / cluster;
    if (volume.clusters < 4085) return false; /* FAT12, which no card has */
    if (volume.clusters >= 65525) volume.root = number(44, 4);
    return true;
}

static bool is_fat32(void) { return volume.clusters >= 65525; }

/* The cluster behind another, 0 at the end or if the table is wrong or unreadable. */
static uint32_t next(uint32_t cluster) {
    uint32_t width = is_fat32() ? 4 : 2, at = cluster * width;
    if (!look_at(volume.table + at / SECTOR)) return 0;
    cluster = number(at % SECTOR, width) & 0x0FFFFFFF;
    return cluster >= 2 && cluster < volume.clusters + 2 ? cluster : 0;
}

static uint32_t sector_of(uint32_t cluster) {
    return volume.data + (cluster - 2) * volume.cluster_sectors;
}

enum search { FOUND, GO_ON, NOT_THERE, UNREADABLE };

static enum search search(uint32_t sector, uint32_t count) {
    static const char name[11] = {'T', 'A', 'M', 'A', 'L', 'E', ' ', ' ', 'I', 'M', 'G'};
    for (; count--; sector++) {
        if (!look_at(sector)) return UNREADABLE;
        const volatile uint8_t *entry = (const volatile uint8_t *)BUFFER;
        for (uint32_t at = 0; at < SECTOR; at += ENTRY) {
            if (!entry[at]) return NOT_THERE;
            uint32_t i = 0;
            while (i < sizeof name && entry[at + i] == (uint8_t)name[i]) i++;
            /* No label, no folder. */
            if (i < sizeof name || number(at + 11, 1) & 0x18) continue;
            volume.first = number(at + 20, 2) << 16 | number(at + 26, 2);
            if (!is_fat32()) volume.first &= 0xFFFF;
            volume.bytes = number(at + 28, 4);
            return FOUND;
        }
    }
    return GO_ON;
}

bool file_open(void) {
    if (!card_open()) return false;
    buffered = ~0u;
    if (!look_at(0)) return false;
    if (!volume_at(0)) {
        uint32_t base = 0;
        for (uint32_t at = 446; at < 510 && !base; at += 16) {
            uint32_t kind = number(at + 4, 1);
            if (kind == 0x04 || kind == 0x06 || kind == 0x0B || kind == 0x0C || kind == 0x0E)
                base = number(at + 8, 4);
        }
        if (number(510, 2) != 0xAA55 || !base) return fails("card_no_volume");
        if (!look_at(base)) return false;
        if (!volume_at(base)) return fails("card_no_volume");
    }
    enum search result = GO_ON;
    if (!is_fat32()) {
        result = search(volume.root, volume.root_sectors);
    } else {
        /* A damaged table may lead round in circles. */
        uint32_t cluster = volume.root;
        for (uint32_t i = 0; result == GO_ON && cluster && i < 65536; i++) {
            result = search(sector_of(cluster), volume.cluster_sectors);
            if (result == GO_ON) cluster = next(cluster);
        }
    }
    if (result == UNREADABLE) return false;
    return result == FOUND || fails("card_no_file");
}

bool file_read(uint32_t bytes) {
    if (bytes > volume.bytes) return fails("card_file_short");
    uint32_t left = (bytes + SECTOR - 1) / SECTOR, cluster = volume.first;
    for (volatile uint32_t *to = IMAGE; left;) {
        /* Neighbours are read at once. */
        uint32_t first = cluster, run = 0;
        do {
            if (cluster < 2) return fails("card_file_short");
            run += volume.cluster_sectors;
            cluster = run < left ? next(cluster) : 0;
        } while (run < left && cluster == first + run / volume.cluster_sectors);
        if (run > left) run = left;
        if (!card_read(sector_of(first), run, to)) return false;
        to += run * SECTOR / 4;
        left -= run;
    }
    return true;
}

const struct storage storages[2] = {
    {"flash", flash_open, flash_read},
    {"card", file_open, file_read},
};

#endif
