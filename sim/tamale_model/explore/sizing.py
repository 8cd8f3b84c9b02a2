"""From a goal to a configuration: the Pareto front over speed and cost, and the point to take.

The search walks over single steps of the fields that matter: it evaluates the neighbours of the
front until the front has none left, or its budget is spent. It uses no random numbers, so the same
question always has the same answer.
"""

import dataclasses
import math

from tamale_model import cycles
from tamale_model.explore import design, performance, silicon
from tamale_model.explore.quantity import DataError

__all__ = ["Point", "Search", "check", "corrected", "engine", "evaluate", "front", "pick", "search"]

#: Steps of each field.
_STEPS = {
    "bus_width": (32, 64, 128, 256, 512),
    "tile_rows": (1, 2, 4, 8),
    "vectors": (1, 2, 4, 8),
    "vu_width": (1, 2, 4, 8, 16, 32),
    "fifo_beats": (128, 256, 512, 1024, 2048),
    "code": ("t5", "t4"),
    "planes": (2, 3, 5),
    "clock": (0, 1, 2),
}


@dataclasses.dataclass(frozen=True)
class Point:
    """A configuration and what it gives.

    Parameters
    ----------
    config : Config
    tokens_per_second : float
        Of all sequences together.
    cycles : float
        Of one sweep.
    cost : float
        mm2 of a chip, share of an FPGA's scarcest resource.
    loss : float
        Divergence in nats that the cache's trits cost the demonstration model.
    prefill : float
        Prompt tokens/s.
    detail : dict
        Area by part, or LUT4 and block RAM.
    """

    config: object
    tokens_per_second: float
    cycles: float
    cost: float
    loss: float
    prefill: float
    detail: dict


@dataclasses.dataclass(frozen=True)
class Search:
    """What is asked.

    Parameters
    ----------
    workload : Workload
    platform : Platform
    world : World
    positions : int
        In the context.
    sequences : int
        Parallel sequences.
    """

    workload: object
    platform: object
    world: object
    positions: int = 1024
    sequences: int = 1


def _config(asked, key):
    """Return the `Config` of a point of the grid, or None where there is none."""
    values = dict(zip(_STEPS, key, strict=True))
    start = design.reference(asked.platform, asked.world, asked.workload, positions=asked.positions)
    if asked.platform.kind == "chip":
        clocks = [1e6 * c for c in asked.world[f"process.{asked.platform.process}.clock"].range]
    else:
        clocks = [1e6 * c for c in asked.platform.clock.range]
    clock = round(clocks[values.pop("clock")])
    planes = values.pop("planes")
    if start.memory == "ideal":
        per_cycle = 8e9 * asked.platform.bandwidth.value / clock
        width = 16 << max(0, round(math.log2(per_cycle / 16)))
        values["memory_width"] = min(width, values["bus_width"], 512)
    if values["vectors"] < asked.sequences:
        return None
    try:
        config = design.at_clock(start, clock).replace(
            **values, key_planes=planes, value_planes=planes
        )
        return design.fit_memories(config, asked.workload, asked.positions)
    except (DataError, ValueError):
        return None


def _memory(asked, config):
    """What the platform's memory does at this clock: pins do not speed up with the chip."""
    if asked.platform.kind == "chip":
        return performance.memory_of(asked.platform, config, asked.world)
    # A board's SDRAM has the clock of the system.
    memory = cycles.memory_of(config)
    if config.memory == "ideal":
        loss = 1 - asked.platform.efficiency.value
        memory = dataclasses.replace(memory, refresh=min(0.5, loss))
    return memory


def evaluate(arguments):
    """Return the `Point` of (search, key), or None where nothing can be built.

    A function of the module, so that workers elsewhere can call it.
    """
    asked, key = arguments
    config = _config(asked, key)
    if config is None:
        return None
    try:
        once = performance.predicted(
            config, asked.workload, positions=asked.positions, sequences=asked.sequences,
            memory=_memory(asked, config),
        )  # fmt: skip
    except ValueError:
        return None
    rate = config.clock_hz / once
    if asked.platform.kind == "chip":
        engines = design.engines(asked.platform, asked.world)
        parts = silicon.area(
            config, asked.world, asked.platform.process, asked.platform.channels.value
        )
        detail = {
            name: (engines if name in ("engine", "vector unit", "memories") else 1) * v[1]
            for name, v in parts.items()
        }
        cost = sum(detail.values())
        # Engines side by side share the model; each has its part of the memory.
        rate *= engines
    else:
        detail = silicon.ecp5(config, asked.world)
        cost = _share(asked.platform, detail)
        if cost > asked.world["fpga.full"].value:
            return None
    prefill = rate * asked.sequences
    if config.vectors > asked.sequences:
        # As many prompt tokens as there are vectors share a sweep.
        several = performance.predicted(
            config, asked.workload, positions=min(64, asked.positions), sequences=config.vectors,
            memory=_memory(asked, config),
        )  # fmt: skip
        prefill = config.clock_hz / several * config.vectors
    return Point(
        config=config,
        tokens_per_second=rate * asked.sequences,
        cycles=once,
        cost=cost,
        loss=asked.world[f"measured.cache_loss_{config.key_planes}"].value,
        prefill=prefill,
        detail=detail,
    )


def front(points):
    """Return the points that no other one beats in speed, prefill, cost and loss at once."""

    def beats(a, b):
        ours = (a.tokens_per_second, a.prefill, -a.cost, -a.loss)
        theirs = (b.tokens_per_second, b.prefill, -b.cost, -b.loss)
        return ours != theirs and all(x >= y for x, y in zip(ours, theirs, strict=True))

    # Points that differ in nothing that counts: the first one stands for all.
    kept = {}
    for p in points:
        kept.setdefault((p.tokens_per_second, p.prefill, p.cost, p.loss), p)
    points = list(kept.values())
    best = [p for p in points if not any(beats(q, p) for q in points)]
    return sorted(best, key=lambda p: (p.cost, -p.tokens_per_second))


def _neighbours(key):
    for place, (name, value) in enumerate(zip(_STEPS, key, strict=True)):
        steps = _STEPS[name]
        at = steps.index(value)
        for other in (at - 1, at + 1):
            if 0 <= other < len(steps):
                yield (*key[:place], steps[other], *key[place + 1 :])


def _start(asked):
    """The grid point nearest to the reference configuration."""
    config = design.reference(
        asked.platform, asked.world, asked.workload, positions=asked.positions
    )
    near = {
        name: min(steps, key=lambda s, name=name: abs(math.log2(s / getattr(config, name))))
        for name, steps in _STEPS.items()
        if name not in ("code", "planes", "clock")
    }
    near["vectors"] = max(near["vectors"], asked.sequences)
    if near["vectors"] not in _STEPS["vectors"]:
        near["vectors"] = next(v for v in _STEPS["vectors"] if v >= asked.sequences)
    near |= {"code": config.code, "planes": 3, "clock": 1}
    return tuple(near[name] for name in _STEPS)


def check(asked, budget):
    """Raise what `search` would at once, before anything is started for it.

    Raises
    ------
    DataError
        For a budget or a number of sequences that cannot be, a model that does not fit the
        platform's memory, or one that the hardware does not run.
    """
    if budget < 1:
        raise DataError(f"--points must be 1 or more, not {budget}")
    if asked.sequences < 1 or asked.sequences > max(_STEPS["vectors"]):
        raise DataError(f"--sequences must be 1 to {max(_STEPS['vectors'])}, not {asked.sequences}")
    limit = performance.bound(
        asked.platform, asked.workload, asked.world, positions=asked.positions,
        sequences=asked.sequences,
    )  # fmt: skip
    if not limit.fits:
        raise DataError(
            f"{asked.workload.name} needs {limit.memory / 1e9:,.3g} GB with {asked.positions} "
            f"positions, {asked.platform.name} has {limit.available / 1e9:,.3g} GB; use a smaller "
            "model, a shorter --context, or a platform with more memory"
        )
    design.reference(asked.platform, asked.world, asked.workload, positions=asked.positions)


def search(asked, run, *, budget=96, progress=None):
    """Return the list of `Point` that were evaluated.

    Parameters
    ----------
    asked : Search
    run : callable
        From `sweep.pool`.
    budget : int
        Evaluations.
    progress : callable, optional
        Called with evaluations done and those begun.

    Raises
    ------
    DataError
        See `check`; and if nothing can be built.
    """
    check(asked, budget)
    start = _start(asked)
    seen, points = {start: None}, []
    queue = [start]
    while queue:
        queue = queue[: budget - (len(seen) - len(queue))]
        if not queue:
            break
        done = len(seen) - len(queue)
        note = progress and (lambda n, done=done: progress(done + n, len(seen)))
        found = run(evaluate, [(asked, key) for key in queue], note)
        for key, point in zip(queue, found, strict=True):
            seen[key] = point
            if point is not None:
                points.append(point)
        if not points:
            break
        best = {id(p) for p in front(points)}
        queue = []
        for key, point in list(seen.items()):
            if point is not None and id(point) in best:
                for other in _neighbours(key):
                    if other not in seen and len(seen) < budget:
                        seen[other] = None
                        queue.append(other)
    if not points:
        raise DataError(
            f"no configuration of {asked.platform.name} runs {asked.workload.name}; see "
            "`tamale inspect` for what is missing"
        )
    return points


#: Fields that the engine depends on.
_ENGINE = (
    "bus_width", "code", "sparse_code", "tile_rows", "vectors", "vu_width", "max_planes", "max_k",
    "max_context",
)  # fmt: skip


def engine(point):
    """Return the fields of a point's configuration that its engine depends on."""
    return {name: getattr(point.config, name) for name in _ENGINE}


def corrected(asked, point, result):
    """Return a point with the area of its engine as it was synthesised, not as it was fitted.

    Parameters
    ----------
    asked : Search
    point : Point
    result : dict
        ``gates`` for a chip, ``ecp5`` with ``lut4`` for a board; unchanged where that is None.
    """
    detail = dict(point.detail)
    if asked.platform.kind == "chip":
        detail["engine"] *= result["gates"] / silicon.gates(point.config)["engine"]
        return dataclasses.replace(point, detail=detail, cost=sum(detail.values()))
    if result["ecp5"] is None:
        return point
    fitted = silicon.ecp5_blocks(point.config)["engine"]
    detail["lut4"] += result["ecp5"]["lut4"] - fitted
    return dataclasses.replace(point, detail=detail, cost=_share(asked.platform, detail))


def _share(platform, detail):
    """Share of an FPGA's scarcest resource."""
    return max(detail["lut4"] / platform.lut4.value, detail["ebr"] / platform.ebr.value)


def pick(points, goal=None, *, loss=3e-3):
    """Return the point to take.

    Parameters
    ----------
    points : list of Point
    goal : float, optional
        Tokens/s: the cheapest point that reaches it. Without a goal, the cheapest one that is
        within 2 % of the fastest.
    loss : float
        Most divergence that the cache may cost.

    Raises
    ------
    DataError
        If no point reaches the goal.
    """
    good = [p for p in points if p.loss <= loss]
    if not good:
        raise DataError(f"no point has a loss of at most {loss}; allow more with --loss")
    fastest = max(p.tokens_per_second for p in good)
    if goal is not None and fastest < goal:
        raise DataError(
            f"the goal of {goal:g} tokens/s is not reached: {fastest:.3g} is the most here, "
            "for the "
            "memory delivers no more; use a faster memory, a smaller model or a shorter --context"
        )
    wanted = goal if goal is not None else 0.98 * fastest
    return min(
        (p for p in good if p.tokens_per_second >= wanted), key=lambda p: (p.cost, -p.prefill)
    )
