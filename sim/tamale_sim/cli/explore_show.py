"""Commands of `tamale explore` that print what is known, and the audit of the essay."""

import dataclasses
import json
import sys

from rich.console import Console
from tamale_model.explore import audit, cost, market, performance
from tamale_model.explore.quantity import DataError
from tamale_model.explore.workload import Storage

from ..explore import tables
from ..explore.terminal import show, triple

__all__ = ["boxes", "chips", "constants", "essay", "metric", "platforms", "workloads"]

_STYLES = {audit.Verdict.HOLDS: "green", audit.Verdict.IF: "yellow", audit.Verdict.NOT: "red"}


def essay(args, known):
    names = audit.claims()
    if args.claim is not None and args.claim not in names:
        raise DataError(f"unknown claim {args.claim!r}; use one of {', '.join(names)}")
    answers = [audit.answer(name, known) for name in names if args.claim in (None, name)]
    if args.json:
        print(json.dumps([_answer(answer) for answer in answers]))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    for answer in answers:
        claim, style = answer.claim, _STYLES[answer.verdict]
        console.print(
            f"[bold]{claim.claim}[/]: {claim.figure}  [dim]({claim.where}, {claim.name})[/]"
        )
        console.print(f"  [{style}]{answer.verdict.value}[/]")
        for check in answer.checks:
            console.print(f"  [{_STYLES[check.verdict]}]*[/] {check.computed}")
            if check.verdict is not audit.Verdict.HOLDS:
                console.print(f"    {check.verdict.value}: {check.because}", style="italic")
            assumed = [n for n in check.uses if n in known.constants and known[n].assumption]
            if assumed:
                console.print(f"    assumes {', '.join(assumed)}", style="dim")
        console.print()
    if args.claim is None:
        goal = known["economics.interactive"].value
        console.print(tables.offers(known, list(known.workloads), goal, 2048).rich())
        holds, conditional, fails = (sum(a.verdict is v for a in answers) for v in audit.Verdict)
        console.print(
            f"\n{len(answers)} claims: {holds} hold, {conditional} hold under a condition, "
            f"{fails} do not hold"
        )
        console.print("`tamale explore constants` has every figure with its source")


def _answer(answer):
    return {
        **dataclasses.asdict(answer.claim),
        "verdict": answer.verdict.value,
        "checks": [
            {**dataclasses.asdict(check), "verdict": check.verdict.value} for check in answer.checks
        ],
    }


def _cards(args, known, default):
    return [known.workload(name) for name in args.model or default]


def workloads(args, known):
    cards = _cards(args, known, [*known.workloads, "demonstration"])
    if args.json:
        print(json.dumps({
            card.name: {
                "origin": card.origin,
                "parameters": card.parameters(),
                "active": card.active(),
                "token_bytes": card.token_bytes(card.storage, min(args.context, card.context)),
                "macs": card.macs(min(args.context, card.context)),
                "memory_bytes": card.memory_bytes(card.storage, min(args.context, card.context)),
                "cache_16_bit_at_131072": card.cache_bytes(Storage.uniform(16), 131072),
            }
            for card in cards
        }))  # fmt: skip
        return
    show(tables.workloads(cards, args.context))


def platforms(args, known):
    cards = _cards(args, known, ["bitnet-2b-4t", "dense-14b"])
    if not args.json:
        show(*(tables.platforms(known, card, args.context, args.sequences) for card in cards))
        return
    result = {}
    for card in cards:
        result[card.name] = entries = {}
        for platform in known.platforms.values():
            limit = performance.bound(
                platform, card, known, positions=args.context, sequences=args.sequences
            )
            price = platform.get("price")
            price = price.range if price else market.appliance(platform, known).total
            draw = market.watts(platform, known, card, positions=args.context)
            rate = limit.tokens_per_second
            entries[platform.name] = {
                "fits": limit.fits,
                "memory_bytes": limit.memory,
                "available_bytes": limit.available,
                "tokens_per_second": triple(rate),
                "roofline": limit.roofline,
                "price": triple(price),
                "watts": triple(draw),
                "tokens_per_second_per_dollar": rate[1] / price[1],
                "dollars_per_token_per_second": price[1] / rate[1] if rate[1] else None,
                "break_even_months": triple(cost.break_even_months(price, draw, known)),
                "token_bytes": limit.bytes,
            }
    print(json.dumps(result))


def metric(args, known):
    goal = known["economics.interactive"].value if args.goal is None else args.goal
    if goal <= 0:
        raise DataError(f"--goal must be above 0 tokens/s, not {goal:g}")
    if not args.json:
        show(tables.offers(known, list(known.workloads), goal, args.context))
        return
    print(json.dumps({
        name: [
            {"platform": o.platform.name, "status": o.status, "price": triple(o.price),
             "tokens_per_second": triple(o.rate), "tokens_per_second_per_dollar": o.per_dollar}
            for o in market.offers(name, known, goal=goal, positions=args.context)
        ]
        for name in known.workloads
    }))  # fmt: skip


def chips(args, known):
    if not args.json:
        show(tables.chips(known))
        return
    result = {}
    for platform in known.platforms.values():
        if platform.kind == "chip":
            area = market.total_area(platform, known)
            chip = cost.chip(area, known, platform.process)
            result[platform.name] = {
                "parts_mm2": {
                    name: triple(part) for name, part in market.chip_area(platform, known).items()
                },
                "area_mm2": triple(area),
                "cost": {name: triple(part) for name, part in chip.parts.items()},
                "price": triple(cost.chip_price(chip, known)),
            }
    print(json.dumps(result))


def boxes(args, known):
    card, platform = known.workload(args.model), known.platform(args.platform)
    if platform.kind != "chip":
        raise DataError(f"{platform.name} is no chip of ours; use one, such as appliance-28nm")
    rows = market.cluster(card, platform, known, positions=args.context)
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    show(tables.boxes(rows, card, platform, known))


def constants(args, known):
    if args.json:
        print(json.dumps({n: dataclasses.asdict(q) for n, q in known.constants.items()}))
        return
    show(tables.constants(known), tables.sources(known))
