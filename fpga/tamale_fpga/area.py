"""What a design will need of an ECP5, from its registers and memories: seconds, not minutes.

LUT4 follow register bits closely in a pipelined design. The line through three accelerators that
Yosys 0.70 synthesised (10,242 register bits 13,385 LUT4; 15,653 and 19,142; 19,311 and 22,594)
misses none of them by more than 2 %.
"""

import dataclasses
import re

__all__ = ["CAPACITY", "Area", "estimate", "require_fit"]

#: (LUT4, block RAMs, multipliers) of a device. Source: Lattice FPGA-DS-02012, table 1.1.
CAPACITY = {
    "LFE5U-12F": (24_288, 56, 28),
    "LFE5U-25F": (24_288, 56, 28),
    "LFE5U-45F": (43_848, 108, 72),
    "LFE5U-85F": (83_640, 208, 156),
}

#: (LUT4, flip-flops, block RAMs) of the processors, which come as Verilog; synthesised alone.
_CPUS = {
    "vexriscv": (3647, 1858, 10),
    "vexriscv-lite": (3027, 1288, 4),
    "vexriscv-min": (1705, 928, 2),
    "vexriscv-full": (4400, 2200, 10),
}

#: (data bits, words) of a block RAM's shapes.
_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
#: Memories of up to so many bits become LUT RAM.
_LUT_RAM_BITS = 1024
#: A larger part of the LUT4 does not route, or slowly.
_ROUTABLE = 0.9


@dataclasses.dataclass(frozen=True)
class Area:
    """Cells of a design: LUT4 slots, flip-flops, block RAMs."""

    lut4: int
    ff: int
    ebr: int


def estimate(rtlil, cpu):
    """Return the `Area` that synthesis will give, within some per cent.

    Parameters
    ----------
    rtlil : str
        The design, every module instantiated once, as Amaranth writes it.
    cpu : str
        Key of `tamale.soc.cpu.CPUS`, whose Verilog is not part of ``rtlil``.
    """
    bits = ebr = 0
    for match in re.finditer(
        r"^  cell \$a?s?dff\w* .*?parameter \\WIDTH (\d+)", rtlil, re.MULTILINE | re.DOTALL
    ):
        bits += int(match[1])
    for match in re.finditer(r"^  memory width (\d+) size (\d+)", rtlil, re.MULTILINE):
        width, words = int(match[1]), int(match[2])
        if width * words > _LUT_RAM_BITS:
            ebr += min(-(-width // w) * -(-words // n) for w, n in _SHAPES)
    lut4, ff, cpu_ebr = _CPUS[cpu]
    return Area(round(2500 + 1.064 * bits) + lut4, round(0.97 * bits) + ff, ebr + cpu_ebr)


def require_fit(area, device, config):
    """Refuse a design that cannot fit.

    Raises
    ------
    ValueError
        With the figure that is too large, and the mend.
    """
    lut4, ebr, _ = CAPACITY[device]
    if area.ebr > ebr:
        raise ValueError(
            f"configuration {config.name} needs about {area.ebr} block RAMs, {device} has {ebr}; "
            f"lower scratchpad_elements = {config.scratchpad_elements} (with context or vectors), "
            f"cpu_ram_bytes = {config.cpu_ram_bytes} or fifo_beats = {config.fifo_beats}, or use "
            "tile_rows = 1"
        )
    if area.lut4 > _ROUTABLE * lut4:
        raise ValueError(
            f"configuration {config.name} needs about {area.lut4:,} LUT4, {device} has {lut4:,}, "
            f"of which {_ROUTABLE:.0%} can be routed; lower vectors = {config.vectors}, "
            f"vu_width = {config.vu_width} or bus_width = {config.bus_width}"
        )
