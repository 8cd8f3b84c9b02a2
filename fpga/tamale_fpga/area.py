"""What a design will need of an FPGA, from its registers and memories: seconds, not minutes.

LUT4 follow register bits closely in a pipelined design; memories of few words become LUT RAM. The
figures below are fitted to whole boards: of the presets for ECP5 with 32 bits of bus, `estimate`
misses the LUT4 slots that nextpnr placed by no more than 2 %, and no block RAM; with 128 bits it is
a quarter too high, though it does not see LiteDRAM, which comes as Verilog. For Gowin it is fitted
to netlists, whose slots are counted as nextpnr would place them (`tamale_fpga.gowin.lut4_slots`).
"""

import collections
import dataclasses
import re

from tamale_model.explore import world

__all__ = ["FABRICS", "Area", "Device", "Fabric", "estimate", "misfits", "require_fit"]

#: LUT4 of a design without registers: fitted, see `estimate`.
_LUT4_BASE = 400
#: Flip-flops of a register bit: some are constant, or equal to others.
_FF_BIT = 0.99
#: Memories of up to so many bits become LUT RAM; those that are only read, by several readers, LUT4
#: like any logic.
_LUT_RAM_BITS, _LUT_ROM_BITS = 1600, 4096
#: A larger part of the LUT4 does not route, or slowly.
_ROUTABLE = 0.9


@dataclasses.dataclass(frozen=True)
class Area:
    """Cells of a design: LUT4 slots, flip-flops, block RAMs."""

    lut4: int
    ff: int
    ebr: int


@dataclasses.dataclass(frozen=True)
class Fabric:
    """What memories become in a family of FPGAs.

    Parameters
    ----------
    block_ram : tuple of (int, int)
        Data bits and words of a block RAM's shapes.
    kilobits : int
        Of a block RAM.
    lut_ram : int
        LUT4 slots of 16 words of 4 bits in LUT RAM; 0 if there is none.
    bit : float
        LUT4 slots of a register bit and the logic in front of it: fitted.
    """

    block_ram: tuple
    kilobits: int
    lut_ram: int
    bit: float = 1.2


_LARGE = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))

#: By family. Sources: Lattice FPGA-TN-02204 (ECP5; a LUT RAM takes four slots and, with the writing
#: half of its slice, two more), Gowin UG285 and UG288, Lattice FPGA-TN-02002 (iCE40). In nextpnr's
#: model of Gowin's cells, a LUT RAM keeps others from the whole cell of eight LUT4, and a register
#: has its input from the look-up table beside it only: without one of its own, it takes that, too.
FABRICS = {
    "ecp5": Fabric(_LARGE, 18, 6),
    "gowin": Fabric(_LARGE, 18, 8, 1.53),
    "ice40": Fabric(((16, 256), (8, 512), (4, 1024), (2, 2048)), 4, 0),
}


@dataclasses.dataclass(frozen=True)
class Device:
    """What an FPGA has.

    Parameters
    ----------
    name, family : str
        The family is a key of `FABRICS`.
    lut4, ebr, dsp : int
        LUT4, block RAMs, multipliers.
    """

    name: str
    family: str
    lut4: int
    ebr: int
    dsp: int

    @property
    def fabric(self):
        """The `Fabric`."""
        return FABRICS[self.family]


def _memories(rtlil):
    """Yield (width, words, readers, whether it is written, shared) of each memory.

    Shared: a reader has the address of the writer, and is served by the same port.
    """
    for module in re.split(r"^module ", rtlil, flags=re.MULTILINE):
        found = re.findall(
            r"^  cell \$mem(rd|wr)\w* (.*?)parameter \\MEMID \"\\(\S+)\"(.*?)^  end$",
            module, re.MULTILINE | re.DOTALL,
        )  # fmt: skip
        ports = [(kind, name) for kind, _, name, _ in found]
        places = collections.defaultdict(set)
        for kind, _, name, rest in found:
            places[kind, name].update(re.findall(r"connect \\ADDR (.*)", rest))
        for width, words, name in re.findall(
            r"^  memory width (\d+) size (\d+) (\S+)", module, re.MULTILINE
        ):
            reads = ports.count(("rd", name))
            shared = bool(reads > 1 and places["rd", name] & places["wr", name])
            yield int(width), int(words), max(1, reads), ("wr", name) in ports, shared


def estimate(rtlil, cpu, fabric):
    """Return the `Area` that synthesis and placement will give, within some per cent.

    Parameters
    ----------
    rtlil : str
        The design, every module instantiated once, as Amaranth writes it.
    cpu : str
        Key of `tamale.soc.cpu.CPUS`, whose Verilog is not part of ``rtlil``.
    fabric : Fabric
        What its memories become.
    """
    bits = ebr = lut_ram = 0
    for match in re.finditer(
        r"^  cell \$a?s?dff\w* .*?parameter \\WIDTH (\d+)", rtlil, re.MULTILINE | re.DOTALL
    ):
        bits += int(match[1])
    for width, words, reads, written, shared in _memories(rtlil):
        most = _LUT_ROM_BITS if not written and reads > 1 else _LUT_RAM_BITS
        small = width * words <= most
        if small and (fabric.lut_ram or not written):
            lut_ram += written * reads * -(-width // 4) * -(-words // 16)
        else:
            # With two ports for writing, a block RAM has half the width at most.
            widest = max(w for w, _ in fabric.block_ram) // (1 + shared)
            shapes = [(w, n) for w, n in fabric.block_ram if w <= widest]
            ebr += (reads - shared) * min(-(-width // w) * -(-words // n) for w, n in shapes)
    known = world.load()
    own = {name: round(known[f"fpga.cpu.{cpu}.{name}"].value) for name in ("lut4", "ff", "ebr")}
    return Area(
        round(_LUT4_BASE + fabric.bit * bits) + fabric.lut_ram * lut_ram + own["lut4"],
        round(_FF_BIT * bits) + own["ff"],
        ebr + own["ebr"],
    )


def misfits(area, device, config):
    """Return what of a device is not enough: pairs of the figures and the mend; none if all is.

    Parameters
    ----------
    area : Area
    device : Device
    config : Config

    Returns
    -------
    list of (str, str)
    """
    found = []
    if area.ebr > device.ebr:
        found.append(
            (
                f"about {area.ebr} block RAMs of {device.fabric.kilobits} kbit, {device.name} has "
                f"{device.ebr}",
                f"lower scratchpad_elements = {config.scratchpad_elements} (with context or "
                f"vectors), cpu_ram_bytes = {config.cpu_ram_bytes} or fifo_beats = "
                f"{config.fifo_beats}, or use tile_rows = 1",
            )
        )
    if area.lut4 > _ROUTABLE * device.lut4:
        least = {"vectors": 1, "vu_width": 1, "bus_width": 32}
        large = [
            f"{name} = {getattr(config, name)}"
            for name, value in least.items()
            if getattr(config, name) > value
        ]
        found.append(
            (
                f"about {area.lut4:,} LUT4, {device.name} has {device.lut4:,}, "
                f"of which {_ROUTABLE:.0%} can be routed",
                "lower " + " or ".join(large) if large else "no smaller array is supported",
            )
        )
    return found


def require_fit(area, device, config, note=""):
    """Refuse a design that cannot fit.

    Parameters
    ----------
    area, device, config
        Those of `misfits`.
    note : str
        What else is known of such a board.

    Raises
    ------
    ValueError
        With the figures that are too large, and the mends.
    """
    found = misfits(area, device, config)
    if found:
        texts = "; and ".join(f"{figures}; {mend}" for figures, mend in found)
        raise ValueError(f"configuration {config.name} needs {texts}{note and f'. {note}'}")
