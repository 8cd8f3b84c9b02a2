"""Area of a configuration: gates and memories of a chip, LUT4 of an FPGA; dies of a wafer.

Gates come from synthesis to a Liberty library (``data/synthesis.json``, made by
`tamale explore area`), fitted over the sizes that drive them. Ranges are corners: every assumption
at its favourable end, and at its unfavourable one.
"""

import dataclasses
import functools
import json
import math
from importlib import resources
from pathlib import Path

import numpy as np
from tamale import config as configuration

from tamale_model.explore.quantity import DataError

__all__ = [
    "AREA", "Die", "area", "cpu_ebr", "die", "ecp5", "ecp5_blocks", "fit_errors", "gates",
    "gates_per_mac", "memories", "record", "recorded",
]  # fmt: skip

_DATA = resources.files(__package__) / "data"

#: Parts of a die, in the order of tables and pictures.
AREA = ("engine", "vector unit", "control", "CPU", "memories", "memory PHY", "pads and rest")


def _CONSTANT(config):
    return (1.0,)


#: Terms over which a block's gates are fitted; others are the same in every configuration.
_TERMS = {
    "engine": lambda c: (
        1.0, c.lanes * c.vectors, c.tile_rows * c.vectors, c.bus_width,
    ),
    "vector": lambda c: (1.0, c.vu_width),
    "reader": lambda c: (1.0, c.bus_width),
    "kv-writer": lambda c: (1.0, c.bus_width),
}  # fmt: skip


def recorded():
    """Return the recorded synthesis results: ``library``, ``command``, ``points``."""
    return json.loads((_DATA / "synthesis.json").read_text())


def record(library, points):
    """Record results in the source tree that this module was loaded from."""
    text = {"command": "tamale explore area --record", "library": library, "points": points}
    path = Path(str(_DATA)) / "synthesis.json"
    path.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")


def _config(changes):
    return configuration.Config(**changes)


@functools.cache
def _fits(target):
    """{block: (coefficients, largest relative error of the fit)} of ``gates`` or ``lut4``."""
    blocks = {}
    for point in recorded()["points"]:
        size = point["gates"] if target == "gates" else (point["ecp5"] or {}).get(target)
        if size is not None:
            blocks.setdefault(point["block"], []).append((_config(point["changes"]), size))
    fits = {}
    for block, points in blocks.items():
        terms = _TERMS.get(block, _CONSTANT)
        rows = np.array([terms(config) for config, _ in points])
        measured = np.array([size for _, size in points])
        # Relative errors count, so that small configurations are as well met as large ones.
        used = list(range(rows.shape[1]))
        while True:
            scaled = rows[:, used] / measured[:, None]
            found, *_ = np.linalg.lstsq(scaled, np.ones(len(rows)), rcond=None)
            if (found >= 0).all() or len(used) == 1:
                break
            used.pop(int(np.argmin(found)))
        coefficients = np.zeros(rows.shape[1])
        coefficients[used] = found
        fits[block] = coefficients, float(np.abs(rows @ coefficients / measured - 1).max())
    if target != "gates":
        # What could not be synthesised for ECP5 has as many LUT4 a gate as the others together,
        # the engine apart, which is made of carry cells.
        known = [p for p in recorded()["points"] if p["ecp5"] and p["block"] != "engine"]
        share = sum(p["ecp5"][target] for p in known) / sum(p["gates"] for p in known)
        for block, (coefficients, error) in _fits("gates").items():
            if block != "cpu":
                fits.setdefault(block, (share * coefficients, error))
    return fits


def fit_errors(target="gates"):
    """Return {block: largest relative error of the fit over the synthesised points}."""
    return {block: error for block, (_, error) in _fits(target).items()}


def _sizes(config, target):
    return {
        block: float(np.dot(coefficients, _TERMS.get(block, _CONSTANT)(config)))
        for block, (coefficients, _) in _fits(target).items()
    }


def gates(config):
    """Return {block: NAND2 equivalents} of a configuration, the CPU among them."""
    return _sizes(config, "gates")


def gates_per_mac():
    """Gates that a multiplication a cycle adds to the array, with registers and accumulator."""
    few, many = (
        gates(configuration.Config(bus_width=128, tile_rows=1, vectors=vectors))
        for vectors in (4, 8)
    )
    return (many["engine"] - few["engine"]) / (80 * 4)


def memories(config):
    """Return {memory: bits} of a configuration; those of `accelerator` as they are synthesised."""
    from tamale.gateware.activation import ENTRY_BITS, pair_places

    pairs = len(pair_places(config))
    # Four sums of each pair of codes, and every row of a tile reads at once.
    activation = config.act_steps * 4 * pairs * config.tile_rows * ENTRY_BITS * config.vectors
    return {
        "activations": activation,
        "scratchpad": 2 * 32 * config.scratchpad_elements,
        "stream FIFO": config.fifo_beats * config.bus_width,
        "program": 128 * config.program_commands,
        "cache writer": 512 * (config.bus_width + config.beat_bytes),
        "exponentials": 512 * 28 * config.vu_width,
        "CPU": 8 * config.cpu_ram_bytes + 8 * 8192,
    }


def area(config, world, process, channels):
    """Return {part: (low, value, high)} in mm2 of a chip; parts are those of `AREA`.

    Parameters
    ----------
    config : Config
    world : World
    process : str
        Key of ``process`` in the constants.
    channels : float
        Channels of 16 bits to the memory.
    """
    if f"process.{process}.gate" not in world.constants:
        known = sorted({n.split(".")[1] for n in world.constants if n.startswith("process.")})
        raise DataError(f"unknown process {process!r}; use one of {', '.join(known)}")
    blocks = gates(config)
    parts = {
        "engine": blocks["engine"],
        "vector unit": blocks["vector"] + blocks["scalar"] + blocks["candidates"],
        "control": sum(blocks[name] for name in ("reader", "kv-writer", "walker", "executor")),
        "CPU": blocks["cpu"],
    }
    gate, use = world[f"process.{process}.gate"], world["chip.utilisation"]
    factor = world["chip.synthesis"]
    each = [
        gate.low * factor.low / use.high,
        gate.value * factor.value / use.value,
        gate.high * factor.high / use.low,
    ]
    result = {name: tuple(1e-6 * count * e for e in each) for name, count in parts.items()}
    bits = memories(config)
    single = bits.pop("CPU")
    double = sum(bits.values())
    cell, share = world[f"process.{process}.sram_cell"], world["chip.sram_efficiency"]
    ports = world["chip.two_ports"]
    result["memories"] = tuple(
        1e-6 * c * (single + double * p) / s
        for c, p, s in zip(cell.range, ports.range, reversed(share.range), strict=True)
    )
    phy = world[f"process.{process}.phy_area"]
    result["memory PHY"] = tuple(channels * v for v in phy.range)
    result["pads and rest"] = world["chip.fixed_area"].range
    return result


@dataclasses.dataclass(frozen=True)
class Die:
    """A die on its wafer.

    Parameters
    ----------
    area : float
        mm2.
    gross : float
        Dies of a wafer.
    good : float
        Share that works.
    cost : float
        $ of a good die, the probe excluded.
    """

    area: float
    gross: float
    good: float
    cost: float


def die(area, world, process, corner="value"):
    """Return the `Die` of an area.

    Dies of a wafer by the usual approximation, pi d^2 / 4A - pi d / sqrt(2A), of the diameter less
    its edge; yield by the negative binomial model.

    Parameters
    ----------
    area : float
        mm2.
    corner : str
        ``low``, ``value`` or ``high``: which end of defects and price.
    """
    if area <= 0 or area > 858:
        raise DataError(f"a die of {area:g} mm2 cannot be made; use one of up to 858 (the reticle)")
    diameter = world["chip.wafer_diameter"].value - 6
    gross = math.pi * diameter**2 / (4 * area) - math.pi * diameter / math.sqrt(2 * area)
    defects = getattr(world[f"process.{process}.defects"], corner)
    alpha = world["chip.clustering"].value
    good = (1 + area * defects / 100 / alpha) ** -alpha
    return Die(area, gross, good, getattr(world[f"process.{process}.wafer"], corner) / gross / good)


def ecp5_blocks(config):
    """Return {block: LUT4} of the accelerator and the SDRAM controller on ECP5, by their fits."""
    return _sizes(config, "lut4")


def ecp5(config, world):
    """Return {"lut4", "ebr"} of the whole SoC on ECP5, estimated."""
    lane = config.scratchpad_elements // config.vu_width
    ebr = (
        _activation_ebr(config)
        + 2 * config.vu_width * _blocks(lane, 32)
        + _blocks(config.fifo_beats, config.bus_width)
        + _program_ebr(config)
        + _blocks(512, config.bus_width + config.beat_bytes)
        + config.vu_width
        + round(world["fpga.other_ebr"].value)
        + cpu_ebr(config, world)
    )
    lut4 = sum(ecp5_blocks(config).values())
    lut4 += world[f"fpga.cpu.{config.cpu}.lut4"].value + world["fpga.soc_lut4"].value
    return {"lut4": lut4, "ebr": ebr}


def cpu_ebr(config, world):
    """Return the block RAMs of the CPU and its memory."""
    return _blocks(config.cpu_ram_bytes // 4, 32) + round(world[f"fpga.cpu.{config.cpu}.ebr"].value)


def _blocks(words, width):
    """Block RAMs of 18 kbit of a memory, in the shape that takes fewest."""
    shapes = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
    return min(math.ceil(words / depth) * math.ceil(width / size) for depth, size in shapes)


def _program_ebr(config):
    """Block RAMs of program memory: a copy for each reader, or one of two ports of 18 bits each."""
    if config.program_width == 128:
        return 2 * _blocks(config.program_commands, 128)
    return 2 * math.ceil(config.program_commands * 4 / 1024)


def _activation_ebr(config):
    """Block RAMs of activation memory: a word of 36 bits holds a sum of four vectors."""
    from tamale.gateware.activation import interleave, pair_places

    banks = interleave(config)
    words = 4 * config.act_steps // banks
    each = _blocks(words, 36) * math.ceil(config.vectors / 4)
    return banks * len(pair_places(config)) * config.tile_rows * each
