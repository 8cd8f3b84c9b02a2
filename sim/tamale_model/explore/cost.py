"""From a die to a chip to a box: costs with their range, and what they mean for a buyer.

Ranges are corners: every figure at its cheap end, and every figure at its dear end.
"""

import dataclasses

from tamale_model.explore import silicon

__all__ = [
    "BOM",
    "CHIP",
    "Corners",
    "appliance",
    "break_even_months",
    "chip",
    "chip_price",
    "memory",
]

#: Parts of a chip's cost and of a box's, in the order of tables and pictures.
CHIP = ("die", "probe", "package and test", "royalties", "development")
BOM = ("chip", "memory", "board, supply, enclosure")


@dataclasses.dataclass(frozen=True)
class Corners:
    """Parts of a cost in $, each (low, value, high).

    Parameters
    ----------
    parts : dict of str to tuple
    """

    parts: dict

    @property
    def total(self):
        """(low, value, high) of the sum."""
        return tuple(sum(values) for values in zip(*self.parts.values(), strict=True))


def chip(area, world, process, *, development=True):
    """Return the `Corners` of a chip's cost.

    Parameters
    ----------
    area : tuple
        (low, value, high) mm2.
    world : World
    process : str
    development : bool
        Whether masks, licences and work are spread over the chips.
    """
    corners = ("low", "value", "high")
    parts = {
        "die": tuple(
            silicon.die(a, world, process, corner).cost
            for a, corner in zip(area, corners, strict=True)
        ),
        "probe": world["chip.test"].range,
        "package and test": world["chip.package"].range,
        "royalties": world["chip.royalties"].range,
    }
    if development:
        spent, count = world["chip.nre"], world["chip.volume"]
        parts["development"] = tuple(
            s / n for s, n in zip(spent.range, reversed(count.range), strict=True)
        )
    return Corners(parts)


def memory(gigabytes, world, price="memory.price"):
    """Return (low, value, high) $ of a memory."""
    return tuple(gigabytes * p for p in world[price].range)


def chip_price(chip_cost, world):
    """Return (low, value, high) $ that a chip is sold for: a margin on what making it costs.

    Development is recovered, without a margin of its own.
    """
    margin = world["chip.margin"].range
    spent = chip_cost.parts.get("development", (0.0, 0.0, 0.0))
    return tuple(
        (total - once) * factor + once
        for total, once, factor in zip(chip_cost.total, spent, margin, strict=True)
    )


def appliance(chip_cost, gigabytes, world, *, price="memory.price"):
    """Return the `Corners` of a box: chip at its price, memory, and the rest of the essay's list.

    Parameters
    ----------
    chip_cost : Corners
    gigabytes : float
    world : World
    price : str
        Constant that says what memory costs.
    """
    return Corners(
        {
            "chip": chip_price(chip_cost, world),
            "memory": memory(gigabytes, world, price),
            "board, supply, enclosure": world["board.rest"].range,
        }
    )


def break_even_months(price, watts, world):
    """Return (low, value, high) months after which a box has cost less than a subscription.

    Parameters
    ----------
    price, watts : tuple
        (low, value, high) of the box; low is the good end.

    Returns
    -------
    tuple of float
        ``inf`` where electricity costs more than the subscription.
    """
    fee, power = world["economics.subscription"], world["economics.electricity"]
    hours = world["economics.hours"].value
    months = []
    for dollars, draw, each in zip(price, watts, power.range, strict=True):
        monthly = fee.value - draw * hours * 30.4 / 1000 * each
        months.append(dollars / monthly if monthly > 0 else float("inf"))
    return tuple(months)
