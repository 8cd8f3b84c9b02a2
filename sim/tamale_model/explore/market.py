"""What boxes cost and draw, which is the cheapest that runs a model, and boxes in a row."""

import dataclasses

from tamale_model.explore import cost, design, performance, silicon
from tamale_model.explore.quantity import DataError

__all__ = [
    "Cluster", "Offer", "Pipeline", "appliance", "chip_area", "cluster", "offers", "pipeline",
    "total_area", "watts",
]  # fmt: skip


def chip_area(platform, world):
    """Return {part: (low, value, high)} mm2 of a chip platform's reference configuration."""
    config = design.reference(platform, world)
    parts = silicon.area(config, world, platform.process, platform.channels.value)
    count = design.engines(platform, world)
    return {
        name: tuple(
            (count if name in ("engine", "vector unit", "memories") else 1) * v for v in part
        )
        for name, part in parts.items()
    }


def total_area(platform, world):
    """Return (low, value, high) mm2 of a chip platform's die."""
    return tuple(sum(v) for v in zip(*chip_area(platform, world).values(), strict=True))


def appliance(platform, world, *, price="memory.price"):
    """Return the `cost.Corners` of a box with a chip platform's chip and memory."""
    chip = cost.chip(total_area(platform, world), world, platform.process)
    return cost.appliance(chip, platform.memory.value, world, price=price)


def watts(platform, world, workload=None, *, positions=2048):
    """Return (low, value, high) W of a box while it decodes.

    Parameters
    ----------
    platform : Platform
    world : World
    workload : Workload, optional
        ``dense-7b`` when left out; what is decoded matters little, for the memory is always busy.
    positions : int
    """
    if platform.get("watts") is not None:
        return platform.watts.range
    card = workload or world.workloads["dense-7b"]
    rate = performance.bound(platform, card, world, positions=positions).tokens_per_second[1]
    area = total_area(platform, world) if platform.kind == "chip" else (0, 0, 0)
    return tuple(
        rate
        * sum(
            performance.energy(
                platform, card, world, positions=positions, corner=corner, area=area[corner]
            ).values()
        )
        for corner in range(3)
    )


@dataclasses.dataclass(frozen=True)
class Offer:
    """A system that runs a model at the goal's speed.

    Parameters
    ----------
    platform : Platform
    price : tuple
        (low, value, high) $ of the complete system.
    rate : tuple
        (low, value, high) tokens/s.
    status : str
        ``sold``, ``withdrawn``, or ``on paper``: a chip that nobody has made.
    """

    platform: object
    price: tuple
    rate: tuple
    status: str

    @property
    def per_dollar(self):
        """Tokens/s for a $."""
        return self.rate[1] / self.price[1]

    @property
    def per_rate(self):
        """$ for a token/s."""
        return self.price[1] / self.rate[1]


def offers(workload, world, *, goal=10.0, positions=2048, essay=False):
    """Return the list of `Offer` that reach ``goal`` tokens/s, the cheapest first.

    Parameters
    ----------
    workload : str or Workload
    world : World
    goal : float
        Tokens/s of one sequence.
    positions : int
        In the context.
    essay : bool
        Whether the essay's own figures are among the offers.
    """
    card = world.workloads[workload] if isinstance(workload, str) else workload
    found = []
    for platform in world.platforms.values():
        if platform.name.startswith("essay-") and not essay:
            continue
        limit = performance.bound(platform, card, world, positions=positions)
        rate = limit.tokens_per_second
        if rate[1] < goal:
            continue
        price = platform.get("price")
        found.append(
            Offer(
                platform=platform,
                price=price.range if price else appliance(platform, world).total,
                rate=rate,
                status=(
                    "on paper"
                    if platform.kind == "chip"
                    else "withdrawn"
                    if platform.availability
                    else "sold"
                ),
            )
        )
    return sorted(found, key=lambda offer: offer.price[1])


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Boxes in a row, each with some layers.

    Parameters
    ----------
    single, all : float
        Tokens/s of one sequence; of as many as there are boxes.
    hop, hop_bytes : float
        Seconds and bytes from one box to the next.
    """

    single: float
    all: float
    hop: float
    hop_bytes: float


def pipeline(workload, platform, world, boxes, *, positions=4096):
    """Return the `Pipeline` of a model that is split by layers over equal boxes.

    One sequence visits the boxes in turn, so its token takes as long as one box with the memory of
    all would; with a sequence for every box all of them work at once.

    Raises
    ------
    DataError
        If the model does not fit their memory together.
    """
    storage = performance.storage_on(platform, workload, world)
    size = workload.memory_bytes(storage, positions, boxes)
    if boxes < 1:
        raise DataError(f"{boxes} boxes; use 1 or more")
    if size > boxes * platform.memory.value * 1e9:
        least = -(-size // (platform.memory.value * 1e9))
        raise DataError(
            f"{workload.name} needs {size / 1e9:,.0f} GB, {boxes} x {platform.memory.value:g} "
            "GB are "
            f"{boxes * platform.memory.value:,.0f}; use {least:.0f} boxes or more"
        )
    moved = sum(workload.token_bytes(storage, positions).values())
    once = moved / (1e9 * platform.bandwidth.value * platform.efficiency.value)
    hop_bytes = workload.hidden + 4
    # A gigabit line; text and tokens go the same way and are small.
    hop = 1e-3 * world["economics.hop"].value + hop_bytes * 8 / 1e9
    step = once / boxes + hop
    return Pipeline(1 / (boxes * step), 1 / step, hop, hop_bytes)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A model on some boxes.

    Parameters
    ----------
    boxes : int
    fits : bool
        Whether the model fits their memory; if not, speeds are zero.
    single, all : float
        Tokens/s of one sequence; of one for each box.
    price, watts : tuple
        (low, value, high) of all boxes.
    outlet : bool
        Whether one outlet feeds them for hours, with 200 W to spare.
    """

    boxes: int
    fits: bool
    single: float
    all: float
    price: tuple
    watts: tuple
    outlet: bool


def cluster(workload, platform, world, *, positions=4096, counts=(1, 2, 3, 4, 8, 16, 32, 64)):
    """Return the list of `Cluster` of a model that is split by layers over equal boxes."""
    price = appliance(platform, world).total
    draw = watts(platform, world, positions=positions)
    allowed = world["economics.outlet"].value * world["economics.continuous"].value - 200
    result = []
    for boxes in counts:
        try:
            line = pipeline(workload, platform, world, boxes, positions=positions)
        except DataError:
            line = None
        result.append(
            Cluster(
                boxes=boxes,
                fits=line is not None,
                single=line.single if line else 0.0,
                all=line.all if line else 0.0,
                price=tuple(boxes * p for p in price),
                watts=tuple(boxes * w for w in draw),
                outlet=boxes * draw[1] <= allowed,
            )
        )
    return result
