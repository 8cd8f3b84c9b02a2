"""Tables of the explorer, each as columns and rows of text, for the terminal and for the page."""

import dataclasses

from rich.table import Table
from tamale_model.explore import cost, market, performance, silicon
from tamale_model.explore.quantity import DataError
from tamale_model.explore.workload import CLASSES, Storage

__all__ = [
    "Sheet", "amount", "boxes", "chips", "constants", "fields", "offers", "platforms", "points",
    "predictions", "size", "span", "workloads",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table.

    Parameters
    ----------
    title : str
    columns : tuple of str
        The first one is text, the others are numbers unless they start with ``<``.
    rows : list of tuple of str
    note : str
    """

    title: str
    columns: tuple
    rows: list
    note: str = ""

    def rich(self):
        """Return the `rich.table.Table`."""
        table = Table(title=self.title, title_justify="left", caption=self.note or None,
                      caption_justify="left", box=None, pad_edge=False)  # fmt: skip
        for number, column in enumerate(self.columns):
            text = column.startswith("<") or not number
            table.add_column(column.lstrip("<"), justify="left" if text else "right",
                             overflow="fold")  # fmt: skip
        for row in self.rows:
            table.add_row(*row)
        return table


def amount(count):
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def span(values, form="{:,.3g}"):
    """A value with its range, or the value alone where there is none."""
    low, middle, high = values
    if low == middle == high:
        return form.format(middle)
    return f"{form.format(middle)} ({form.format(low)}-{form.format(high)})"


def workloads(cards, context):
    """Bytes of a token by class, multiplications, memory."""
    rows = []
    for card in cards:
        storage = card.storage
        positions = min(context, card.context)
        moved = card.token_bytes(storage, positions)
        rows.append(
            (
                card.name,
                f"{card.parameters() / 1e9:,.4g}",
                f"{card.active() / 1e9:,.4g}",
                *(amount(moved[name]) if name in moved else "" for name in CLASSES
                  if name != "embedding"),
                amount(sum(moved.values())),
                f"{card.macs(positions) / 1e9:,.3g}",
                amount(card.memory_bytes(storage, positions)),
                f"{card.cache_bytes(Storage.uniform(16), 131072) / 2**30:.2f}",
            )
        )  # fmt: skip
    return Sheet(
        f"models, trits of 1.6 bits, a cache of three; bytes of a token with {context:,} positions",
        ("model", "B params", "B active", *(n for n in CLASSES if n != "embedding"), "token",
         "GMAC", "memory", "GiB KV16@128k"),
        rows,
        "KV16@128k: cache of 131,072 positions with 16-bit values",
    )  # fmt: skip


def platforms(world, card, context, sequences):
    """Speed, energy and price of every platform for one model."""
    rows = []
    for platform in world.platforms.values():
        limit = performance.bound(platform, card, world, positions=context, sequences=sequences)
        rate = limit.tokens_per_second
        price = platform.get("price")
        price = price.range if price else market.appliance(platform, world).total
        draw = market.watts(platform, world, card, positions=context)
        fits = limit.fits and rate[1] > 0
        rows.append(
            (
                platform.name,
                f"{platform.bandwidth.value:,.4g}",
                f"{platform.memory.value:,.4g}",
                amount(limit.memory),
                span(rate, "{:,.3g}") if fits else "does not fit",
                span(price, "{:,.0f}"),
                f"{1000 * rate[1] / price[1]:,.3g}" if fits else "",
                f"{price[1] / rate[1]:,.3g}" if fits else "",
                span(draw, "{:.3g}") if fits else "",
                f"{draw[1] / rate[1]:.2g}" if fits else "",
                span(cost.break_even_months(price, draw, world), "{:,.0f}") if fits else "",
            )
        )
    note = (
        "tokens/s: bandwidth x the share that decoding reaches / bytes of a token; essay-*: the "
        "essay's own figures; months: until a subscription has cost as much"
    )
    return Sheet(
        f"{card.title} with {context:,} positions, {sequences} sequence{'s' * (sequences > 1)}",
        ("platform", "GB/s", "GB", "needs", "tokens/s", "$", "tokens/s per 1,000 $",
         "$ per token/s", "W", "J/token", "months"),
        rows,
        note,
    )  # fmt: skip


def offers(world, names, goal, context):
    """The metric to watch: the cheapest systems that reach the goal, by model."""
    rows = []
    for name in names:
        card = world.workload(name)
        found = market.offers(card, world, goal=goal, positions=context)
        for status in ("sold", "withdrawn", "on paper"):
            best = next((o for o in found if o.status == status), None)
            if best is None:
                rows.append((card.title, status, "none known", "", "", ""))
                continue
            rows.append(
                (card.title, status, best.platform.title, span(best.price, "{:,.0f}"),
                 f"{best.rate[1]:.1f}", f"{1000 * best.per_dollar:.3g}")
            )  # fmt: skip
    return Sheet(
        f"the metric to watch: the cheapest complete system at {goal:g} tokens/s",
        ("model", "<", "<system", "$", "tokens/s", "tokens/s per 1,000 $"),
        rows,
        f"{context:,} positions in the context; `on paper`: a chip that nobody has made",
    )


def chips(world):
    """Area and cost of each chip platform's reference configuration."""
    rows = []
    for platform in world.platforms.values():
        if platform.kind != "chip":
            continue
        try:
            parts = market.chip_area(platform, world)
        except DataError as error:
            rows.append((platform.name, str(error)))
            continue
        area = market.total_area(platform, world)
        chip = cost.chip(area, world, platform.process)
        die = silicon.die(area[1], world, platform.process)
        rows.append(
            (
                platform.name,
                *(f"{parts[name][1]:.2f}" for name in silicon.AREA),
                span(area, "{:.1f}"),
                f"{die.good:.0%}",
                span(chip.parts["die"], "{:.2f}"),
                span(chip.total, "{:.1f}"),
                span(cost.chip_price(chip, world), "{:.1f}"),
            )
        )
    errors = ", ".join(f"{k} {v:.0%}" for k, v in silicon.fit_errors().items() if v > 0.005)
    return Sheet(
        "chips: mm2 by part, and $",
        ("platform", *silicon.AREA, "mm2", "yield", "die $", "cost $", "price $"),
        rows,
        f"gates from synthesis to {silicon.recorded()['library']}; largest error of the fit over "
        f"sizes: {errors or 'none'}; cost with development, price with margin; ranges are corners",
    )


def points(found, taken=None):
    """Points of a search."""
    rows = []
    for p in found:
        c = p.config
        rows.append(
            (
                "*" if taken is not None and p is taken else "",
                f"{c.lanes}", f"{c.tile_rows}", f"{c.vectors}", f"{c.vu_width}", f"{c.fifo_beats}",
                c.code, f"{c.key_planes}", f"{c.clock_hz / 1e6:g}",
                f"{p.tokens_per_second:,.3g}", f"{p.prefill:,.3g}", f"{p.cost:.3g}",
                f"{p.loss:.1e}",
            )
        )  # fmt: skip
    return ("", "lanes", "rows", "vectors", "vu", "fifo", "<code", "KV trits", "MHz", "tokens/s",
            "prompt/s", "cost", "loss"), rows  # fmt: skip


def size(front, taken, asked):
    """The Pareto front of a search."""
    columns, rows = points(front, taken)
    unit = "mm2" if asked.platform.kind == "chip" else "share of the FPGA"
    return Sheet(
        f"{asked.workload.title} on {asked.platform.title}: Pareto front",
        columns,
        rows,
        f"*: the point taken; cost in {unit}; loss: nats that the cache's trits cost the "
        "demonstration model; prompt/s: prompt tokens a second, as many as vectors at once",
    )


def predictions(compared):
    """Predicted against measured cycles."""
    rows = []
    for entry in compared:
        c = entry.case.config
        rows.append(
            (
                entry.case.name,
                f"{c.lanes} x {c.vectors}", f"{c.tile_rows}", f"{c.vu_width}", c.code,
                f"{c.memory} {c.memory_width}", f"{entry.case.positions[0]:,}",
                f"{entry.predicted:,.0f}",
                "not measured" if entry.measured is None else f"{entry.measured:,.0f}",
                "" if entry.error is None else f"{entry.error:+.2%}",
            )
        )  # fmt: skip
    known = [abs(e.error) for e in compared if e.error is not None]
    note = f"largest error {max(known):.2%}, {len(known)} measured" if known else "none measured"
    return Sheet(
        "cycles of a token: cycle model against the RTL on the simulated board",
        ("case", "lanes x vectors", "rows", "vu", "<code", "<memory", "positions", "predicted",
         "measured", "error"),
        rows,
        note,
    )  # fmt: skip


def boxes(rows, card, platform, world):
    """A model on one box and more."""
    lines = [
        (
            f"{r.boxes}",
            f"{r.single:.3g}" if r.fits else "does not fit",
            f"{r.all:.3g}" if r.fits else "",
            span(r.price, "{:,.0f}"), span(r.watts, "{:,.3g}"),
            "yes" if r.outlet else "no",
        )
        for r in rows
    ]  # fmt: skip
    return Sheet(
        f"{card.title}, split by layers over boxes: {platform.title}",
        ("boxes", "tokens/s, one sequence", "tokens/s, one for each box", "$", "W", "<one outlet"),
        lines,
        "a sequence visits the boxes in turn, so more boxes add memory and throughput, not speed; "
        f"outlet: {world['economics.outlet'].value:g} W, "
        f"{world['economics.continuous'].value:.0%} of it for hours, 200 W for a switch",
    )


def constants(world):
    """Every constant with its source."""
    rows = [(name, span(q.range, "{:g}"), q.unit, q.origin) for name, q in world.constants.items()]
    return Sheet("constants", ("constant", "value", "<unit", "<source"), rows)


def sources(world):
    """Every figure of platforms and models with its source."""
    rows = []
    for card in world.workloads.values():
        rows.append((card.name, "geometry", "", card.origin))
    for platform in world.platforms.values():
        for name, q in platform.figures.items():
            rows.append((platform.name, name, f"{span(q.range, '{:g}')} {q.unit}", q.origin))
    return Sheet("figures of models and platforms", ("of", "<figure", "<value", "<source"), rows)


def fields(rows, positions):
    """What fields of a configuration are worth."""
    lines = []
    for row in rows:
        lines.append(
            (
                row.label,
                *(t for c, r in zip(row.cycles, row.roofline, strict=True)
                  for t in (f"{c:,.0f}", f"{r:.1%}")),
                f"{row.sweep_bytes:,}", f"{row.sweep_padding:.1%}",
                f"{row.cache_bytes:,.1f}", f"{row.cache_padding:.1%}",
            )
        )  # fmt: skip
    heads = (text for p in positions for text in (f"cycles at {p}", "of peak"))
    return Sheet(
        "what fields are worth, by the cycle model",
        ("", *heads, "sweep bytes", "padding", "cache/token", "padding"),
        lines,
    )
