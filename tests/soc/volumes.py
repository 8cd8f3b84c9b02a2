"""SD cards for the tests: FAT16 and FAT32 volumes, written as the specification says.

Source: Microsoft Extensible Firmware Initiative FAT32 File System Specification, 1.03.
"""

import struct

__all__ = ["card"]

_SECTOR = 512
_RESERVED = 4


def _entry(name, first, size, attributes=0x20):
    head = struct.pack("<11sB8x", name, attributes)
    return head + struct.pack("<HIHI", first >> 16, 0, first & 0xFFFF, size)


def card(files, *, kind=16, cluster_sectors=1, partition=None, clusters=None, scatter=1, before=0):
    """Return the contents of a card.

    Parameters
    ----------
    files : dict of bytes to bytes
        Name as 11 bytes, and contents.
    kind : int
        16 or 32.
    cluster_sectors : int
    partition : int or None
        First sector of the one partition; None for a volume without a table of partitions.
    clusters : int, optional
        By default as few as the kind allows.
    scatter : int
        Clusters between two neighbours of a file.
    before : int
        Entries of the root before the first file: deleted ones, a label, a folder.
    """
    clusters = clusters or {16: 4085, 32: 65525}[kind]
    width = kind // 8
    table_sectors = -(-(clusters + 2) * width // _SECTOR)
    root_sectors = 32 if kind == 16 else 0
    data = _RESERVED + 2 * table_sectors + root_sectors
    total = data + clusters * cluster_sectors
    volume = bytearray(total * _SECTOR)
    boot = struct.pack(
        "<3s8sHBHBHHBHHHII", b"\xeb\x58\x90", b"TESTCARD", _SECTOR, cluster_sectors, _RESERVED, 2,
        512 if kind == 16 else 0, total if kind == 16 and total < 65536 else 0, 0xF8,
        table_sectors if kind == 16 else 0, 63, 255, partition or 0,
        0 if kind == 16 and total < 65536 else total,
    )  # fmt: skip
    if kind == 32:
        boot += struct.pack("<IHHI", table_sectors, 0, 0, 2)
    volume[: len(boot)] = boot
    volume[510:512] = b"\x55\xaa"

    table = [0] * (clusters + 2)
    end = 0x0FFFFFFF if kind == 32 else 0xFFFF
    table[:2] = [0x0FFFFFF8 if kind == 32 else 0xFFF8, end]
    size = cluster_sectors * _SECTOR
    free = 2
    # Every entry of a folder of FAT32 may be anywhere.
    entries = [b"\xe5OLD    TXT" + bytes(21), _entry(b"TAMALE  IMG", 0, 0, 0x08)]
    entries += [_entry(b"TAMALE  IMG", 0, 0, 0x10), b"Bt\0a\0m\0a\0l\0\x0f\0\0e\0" + bytes(16)]
    entries = [(entries * before)[i] for i in range(before)] if before else []

    def place(contents):
        nonlocal free
        chain = []
        for at in range(0, len(contents), size):
            while table[free]:
                free += 1
            chain.append(free)
            start = (data + (free - 2) * cluster_sectors) * _SECTOR
            piece = contents[at : at + size]
            volume[start : start + len(piece)] = piece
            table[free] = end
            free += scatter
            if free >= clusters:
                free = 2
        for one, following in zip(chain, chain[1:], strict=False):
            table[one] = following
        return chain[0] if chain else 0

    if kind == 32:
        # The root is the first cluster; it grows with its entries.
        table[2] = end
    for name, contents in files.items():
        entries.append(_entry(name, place(contents), len(contents)))
    folder = b"".join(entries)
    assert all(len(entry) == 32 for entry in entries)
    if kind == 16:
        start = (data - root_sectors) * _SECTOR
        volume[start : start + len(folder)] = folder
    else:
        table[2] = 0
        free = 2
        assert place(folder) == 2
    for copy in range(2):
        at = (_RESERVED + copy * table_sectors) * _SECTOR
        packed = struct.pack(f"<{len(table)}{'I' if kind == 32 else 'H'}", *table)
        volume[at : at + len(packed)] = packed
    if partition is None:
        return bytes(volume)
    master = bytearray(partition * _SECTOR)
    kind_byte = {16: 0x06, 32: 0x0C}[kind]
    struct.pack_into("<BBHBBHII", master, 446, 0, 0, 0, kind_byte, 0, 0, partition, total)
    master[510:512] = b"\x55\xaa"
    return bytes(master) + bytes(volume)
