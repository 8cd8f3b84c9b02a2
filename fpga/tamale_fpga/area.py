"""What a design will need of an FPGA, from its registers and memories: seconds, not minutes.

LUT4 follow register bits closely in a pipelined design; memories of few words become LUT RAM. The
figures below are fitted to whole boards: of the presets, `estimate` misses the LUT4 slots that
nextpnr placed by no more than 2 %, and no block RAM.
"""

import dataclasses
import re

from tamale_model.explore import world

__all__ = ["Area", "Device", "estimate", "require_fit"]

#: LUT4 of a design without registers, and of a register bit: fitted, see `estimate`.
_LUT4_BASE, _LUT4_BIT = 2800, 1.064
#: Flip-flops of a register bit: some are constant, or equal to others.
_FF_BIT = 0.99
#: Memories of up to so many bits become LUT RAM; those that are only read, LUT4 like any logic.
_LUT_RAM_BITS, _LUT_ROM_BITS = 2048, 4096
#: A larger part of the LUT4 does not route, or slowly.
_ROUTABLE = 0.9


@dataclasses.dataclass(frozen=True)
class Area:
    """Cells of a design: LUT4 slots, flip-flops, block RAMs."""

    lut4: int
    ff: int
    ebr: int


@dataclasses.dataclass(frozen=True)
class Device:
    """What an FPGA has: its name, LUT4, block RAMs, multipliers."""

    name: str
    lut4: int
    ebr: int
    dsp: int


def _memories(rtlil):
    """Yield (width, words, read ports, whether it is ever written) of each memory."""
    for module in re.split(r"^module ", rtlil, flags=re.MULTILINE):
        ports = re.findall(
            r"^  cell \$mem(rd|wr)\w* .*?parameter \\MEMID \"\\(\S+)\"",
            module, re.MULTILINE | re.DOTALL,
        )  # fmt: skip
        for width, words, name in re.findall(
            r"^  memory width (\d+) size (\d+) (\S+)", module, re.MULTILINE
        ):
            reads = ports.count(("rd", name))
            yield int(width), int(words), max(1, reads), ("wr", name) in ports


def estimate(rtlil, cpu, toolchain):
    """Return the `Area` that synthesis and placement will give, within some per cent.

    Parameters
    ----------
    rtlil : str
        The design, every module instantiated once, as Amaranth writes it.
    cpu : str
        Key of `tamale.soc.cpu.CPUS`, whose Verilog is not part of ``rtlil``.
    toolchain : module
        `tamale_fpga.ecp5` or another: what its memories look like.
    """
    bits = ebr = lut_ram = 0
    for match in re.finditer(
        r"^  cell \$a?s?dff\w* .*?parameter \\WIDTH (\d+)", rtlil, re.MULTILINE | re.DOTALL
    ):
        bits += int(match[1])
    for width, words, reads, written in _memories(rtlil):
        if width * words <= (_LUT_RAM_BITS if written else _LUT_ROM_BITS):
            lut_ram += written * reads * -(-width // 4) * -(-words // 16)
        else:
            shapes = toolchain.BLOCK_RAM_SHAPES
            ebr += reads * min(-(-width // w) * -(-words // n) for w, n in shapes)
    known = world.load()
    own = {name: round(known[f"fpga.cpu.{cpu}.{name}"].value) for name in ("lut4", "ff", "ebr")}
    return Area(
        round(_LUT4_BASE + _LUT4_BIT * bits) + toolchain.LUT_RAM_SLOTS * lut_ram + own["lut4"],
        round(_FF_BIT * bits) + own["ff"],
        ebr + own["ebr"],
    )


def require_fit(area, device, config):
    """Refuse a design that cannot fit.

    Parameters
    ----------
    area : Area
    device : Device
    config : Config

    Raises
    ------
    ValueError
        With the figures that are too large, and the mend.
    """
    problems = []
    if area.ebr > device.ebr:
        problems.append(
            f"about {area.ebr} block RAMs, {device.name} has {device.ebr}; "
            f"lower scratchpad_elements = {config.scratchpad_elements} (with context or vectors), "
            f"cpu_ram_bytes = {config.cpu_ram_bytes} or fifo_beats = {config.fifo_beats}, or use "
            "tile_rows = 1"
        )
    if area.lut4 > _ROUTABLE * device.lut4:
        problems.append(
            f"about {area.lut4:,} LUT4, {device.name} has {device.lut4:,}, "
            f"of which {_ROUTABLE:.0%} can be routed; lower vectors = {config.vectors}, "
            f"vu_width = {config.vu_width} or bus_width = {config.bus_width}"
        )
    if problems:
        raise ValueError(f"configuration {config.name} needs " + "; and ".join(problems))
