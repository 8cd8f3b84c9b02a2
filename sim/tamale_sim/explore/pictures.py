"""Pictures of the explorer; each function returns a matplotlib figure."""

import numpy as np
from tamale_model.explore import cost, design, market, performance, silicon
from tamale_model.explore.quantity import DataError
from tamale_model.explore.workload import CLASSES

__all__ = ["FORMATS", "bytes_bars", "cost_stack", "energy_stack", "pareto", "prediction_errors",
           "roofline", "save"]  # fmt: skip

FORMATS = ("png", "svg")

_COLOURS = ("#2a6f97", "#e07a5f", "#81b29a", "#f2cc8f", "#6d597a", "#bc4749", "#8d99ae", "#a9d6e5",
            "#3d405b")  # fmt: skip
#: Inches of every picture's width.
_WIDTH = 5.4

_KINDS = {"fpga": "#e07a5f", "chip": "#2a6f97", "system": "#81b29a"}


def _figure(height, **fields):
    """A figure of a phone's width, on which eight points can be read."""
    # Imported here: a second that only pictures are worth.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    # The same figures always make the same file.
    matplotlib.rcParams["svg.hashsalt"] = "tamale"
    matplotlib.rcParams["font.size"] = 8.5
    return pyplot.subplots(figsize=(_WIDTH, height), layout="constrained", **fields)


def save(figure, path):
    """Write a figure as PNG or SVG, by the suffix, and close it."""
    from matplotlib import pyplot

    metadata = {"Date": None} if str(path).endswith(".svg") else {"Software": None}
    figure.savefig(path, dpi=120, metadata=metadata)
    pyplot.close(figure)


def roofline(world):
    """Attainable operations against operations per byte, a line for every platform."""
    figure, axis = _figure(6.6)
    intensity = np.geomspace(2, 2000, 200)
    ends = []
    for platform in world.platforms.values():
        peak = platform.bandwidth.value * platform.efficiency.value * 1e9
        rate = peak * intensity
        roof = None
        tops = platform.get("tops")
        if tops is not None:
            roof = tops.value * 1e12
        elif platform.kind != "system":
            try:
                config = design.reference(platform, world)
            except DataError:
                continue
            count = design.engines(platform, world)
            roof = 2.0 * config.lanes * config.vectors * config.clock_hz * count
        if roof:
            rate = np.minimum(rate, roof)
        style = "--" if platform.name.startswith("essay-") else "-"
        axis.plot(intensity, rate / 1e12, style, color=_KINDS[platform.kind], linewidth=1.1)
        ends.append((rate[-1] / 1e12, platform.name, _KINDS[platform.kind]))
    card = world.workloads["dense-14b"]
    for vectors in (1, 4, 16):
        moved = sum(card.token_bytes(card.storage, 2048, vectors).values())
        at = 2 * vectors * card.macs(2048) / moved
        axis.axvline(at, color="black", linewidth=0.6, linestyle=":")
        axis.text(at, 1.01, f"{vectors} vector{'s' * (vectors > 1)}", fontsize=8, rotation=40,
                  transform=axis.get_xaxis_transform())  # fmt: skip
    # Labels that would lie upon each other move up.
    least = 0.0
    for value, name, colour in sorted(ends):
        least = max(value, least * 1.36)
        axis.annotate(name, (intensity[-1], value), xytext=(intensity[-1] * 1.15, least),
                      fontsize=7, va="center", color=colour)  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(2, 90000)
    axis.set_xlabel("operations per byte (dotted: 14 B ternary, vectors that share a sweep)")
    axis.set_ylabel("Tops/s")
    for kind, colour in _KINDS.items():
        axis.plot([], [], color=colour, label={"fpga": "FPGA board", "chip": "chip on paper",
                                               "system": "system to buy"}[kind])  # fmt: skip
    axis.plot([], [], "--", color=_KINDS["chip"], label="the essay's figures")
    axis.legend(fontsize=8, frameon=False, loc="upper left")
    return figure


def bytes_bars(world, context):
    """Bytes of a token by class, a bar for every model."""
    figure, axis = _figure(4.4)
    cards = sorted(world.workloads.values(), key=lambda c: c.active())
    left = np.zeros(len(cards))
    totals = np.array(
        [sum(c.token_bytes(c.storage, min(context, c.context)).values()) for c in cards]
    )
    for name, colour in zip(CLASSES, _COLOURS, strict=False):
        sizes = np.array(
            [c.token_bytes(c.storage, min(context, c.context)).get(name, 0) for c in cards]
        )
        shares = sizes / totals
        axis.barh(range(len(cards)), shares, left=left, color=colour, label=name)
        left += shares
    axis.set_yticks(
        range(len(cards)),
        [f"{c.title}\n{t / 1e9:.3g} GB" for c, t in zip(cards, totals, strict=True)],
        fontsize=8,
    )  # fmt: skip
    axis.set_xlim(0, 1)
    axis.set_xlabel(f"share of a token's bytes, {context:,} positions, ternary")
    axis.legend(fontsize=8, ncol=4, frameon=False, loc="lower center", bbox_to_anchor=(0.3, 1.0))
    return figure


def pareto(found, front, taken, asked):
    """Speed against cost of every evaluated point, the front and the point taken."""
    figure, axis = _figure(4.2)
    for trits, colour in ((2, "#f2cc8f"), (3, "#2a6f97"), (5, "#6d597a")):
        some = [p for p in found if p.config.key_planes == trits]
        axis.scatter([p.cost for p in some], [p.tokens_per_second for p in some], s=10,
                     color=colour, alpha=0.5, label=f"cache of {trits} trits")  # fmt: skip
    best, line = -1.0, []
    for p in sorted(front, key=lambda p: (p.cost, -p.tokens_per_second)):
        if p.tokens_per_second > best:
            best = p.tokens_per_second
            line.append(p)
    axis.step([p.cost for p in line], [p.tokens_per_second for p in line], where="post",
              color="black", linewidth=0.8, label="front")  # fmt: skip
    axis.scatter([taken.cost], [taken.tokens_per_second], marker="*", s=140, color="#bc4749",
                 label="taken", zorder=3)  # fmt: skip
    axis.set_xlabel("die, mm2" if asked.platform.kind == "chip" else "share of the FPGA")
    axis.set_ylabel("tokens/s")
    axis.set_title(f"{asked.workload.title} on {asked.platform.title}", fontsize=8.5)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def cost_stack(world):
    """What a box costs, by part, for each memory price."""
    figure, axis = _figure(3.6)
    bars = [("the essay", {"chip": 14, "memory": 45, "board, supply, enclosure": 27.5})]
    for name in ("appliance-28nm", "appliance-28nm-lpddr5-8gb", "appliance-28nm-4gb"):
        platform = world.platforms[name]
        parts = market.appliance(platform, world).parts
        for label, corner in (("last trough", 0), ("November 2025", 1)):
            values = {part: v[1] for part, v in parts.items()}
            values["memory"] = cost.memory(platform.memory.value, world)[corner]
            bars.append((f"{platform.memory.value:g} GB, {label}", values))
    bottom = np.zeros(len(bars))
    for part, colour in zip(cost.BOM, _COLOURS, strict=False):
        sizes = np.array([values[part] for _, values in bars])
        axis.barh(range(len(bars)), sizes, left=bottom, color=colour, label=part)
        bottom += sizes
    for place, total in enumerate(bottom):
        axis.text(total, place, f" ${total:,.0f}", va="center", fontsize=8)
    axis.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.12 * bottom.max())
    axis.set_xlabel("$ a box, 28 nm, by the price of memory")
    axis.legend(fontsize=8, frameon=False)
    return figure


def energy_stack(world, context=2048):
    """Energy of a token by part: the essay's constants, and ours."""
    figure, axis = _figure(3.8)
    platform = world.platforms["appliance-28nm-lpddr5-8gb"]
    bars = []
    for name in ("bitnet-2b-4t", "dense-7b", "dense-14b"):
        card = world.workloads[name]
        area = market.total_area(platform, world)[1]
        for label, essay in (("the essay's constants", True), ("ours", False)):
            parts = performance.energy(platform, card, world, positions=context, essay=essay,
                                       area=area)  # fmt: skip
            bars.append((f"{card.title}\n{label}", parts))
    left = np.zeros(len(bars))
    for part, colour in zip(performance.ENERGY, _COLOURS, strict=False):
        sizes = np.array([1e3 * parts.get(part, 0) for _, parts in bars])
        axis.barh(range(len(bars)), sizes, left=left, color=colour, label=part)
        left += sizes
    axis.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.05 * left.max())
    axis.set_xlabel(f"mJ a token on {platform.title}, {context:,} positions")
    axis.legend(fontsize=8, frameon=False)
    return figure


def prediction_errors(compared):
    """Errors of the cycle model, a bar for every measured case."""
    known = [entry for entry in compared if entry.error is not None]
    figure, axis = _figure(0.6 + 0.28 * max(4, len(known)))
    errors = [100 * entry.error for entry in known]
    axis.barh(range(len(known)), errors, color=_COLOURS[0])
    axis.set_yticks(range(len(known)), [entry.case.name for entry in known], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.6)
    axis.axvspan(-5, 5, color="#81b29a", alpha=0.15)
    axis.set_xlim(-6, 6)
    axis.set_xlabel("error of the predicted cycles, %; shaded: the 5 % that are allowed")
    return figure


def area_stack(world):
    """mm2 of each chip platform's die, by part."""
    figure, axis = _figure(3.2)
    chips = [
        p
        for p in world.platforms.values()
        if p.kind == "chip" and p.process == "28nm" and not p.name.startswith("essay-")
    ]
    parts = [market.chip_area(p, world) for p in chips]
    left = np.zeros(len(chips))
    for name, colour in zip(silicon.AREA, _COLOURS, strict=False):
        sizes = np.array([part[name][1] for part in parts])
        axis.barh(range(len(chips)), sizes, left=left, color=colour, label=name)
        left += sizes
    axis.set_yticks(range(len(chips)), [p.name for p in chips], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("mm2 in 28 nm")
    axis.legend(fontsize=8, frameon=False)
    return figure
