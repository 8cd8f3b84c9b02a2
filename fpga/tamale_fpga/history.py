"""What builds reached when they were last recorded, and how much a new one may differ."""

import dataclasses
from pathlib import Path

from . import records

__all__ = ["Change", "compare", "figures", "record"]

_FILE = Path(__file__).with_name("history.json")

#: Resources that are recorded, by nextpnr's names.
_RESOURCES = (
    "TRELLIS_COMB", "TRELLIS_FF", "DP16KD", "MULT18X18D", "LUT4", "ALU", "DFF", "BSRAM",
    "MULT18X18", "ICESTORM_LC", "ICESTORM_RAM", "ICESTORM_DSP",
)  # fmt: skip

#: How much worse a figure may be before it counts, in parts of it. A clock moves by some per cent
#: with the seed and with every change of a name; cells hardly move.
_CLOCK, _CELLS = 0.05, 0.02


@dataclasses.dataclass(frozen=True)
class Change:
    """A figure of a build beside the recorded one.

    Attributes
    ----------
    name : str
        ``engine_mhz``, ``TRELLIS_COMB``, and so on.
    recorded, measured : float
    worse : bool
        By more than the tolerance.
    """

    name: str
    recorded: float
    measured: float
    worse: bool


def figures(result):
    """Return the figures of a `Build` that are recorded: the worst seed's, by name."""
    worst = {f"{domain}_mhz": round(mhz, 2) for domain, mhz in result.worst.items()}
    cells = {
        name: max(seed["resources"][name][0] for seed in result.seeds)
        for name in _RESOURCES
        if name in result.seeds[0]["resources"]
    }
    return {"seeds": len(result.seeds)} | worst | cells


def compare(result, path=_FILE):
    """Return a `Change` for each figure of a `Build` that has been recorded.

    Clocks are compared only with records of no more seeds: the worst of few is better by chance.
    """
    recorded = records.load(path).get(_name(result), {})
    changes = []
    for name, measured in figures(result).items():
        if name == "seeds" or name not in recorded:
            continue
        before = recorded[name]
        if not name.endswith("_mhz"):
            worse = measured > before * (1 + _CELLS)
        elif len(result.seeds) < recorded["seeds"]:
            continue
        else:
            worse = measured < before * (1 - _CLOCK)
        changes.append(Change(name, before, measured, worse))
    return changes


def record(result, path=_FILE):
    """Keep the figures of a `Build` in the source tree."""
    records.save(path, records.load(path) | {_name(result): figures(result)})


def _name(result):
    return f"{result.board.name}.{result.config.name}"
