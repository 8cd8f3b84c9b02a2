"""`tamale explore`: sizes the design from a budget, and audits the essay."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from tamale import config as configuration
from tamale_fpga import liberty, points
from tamale_fpga.boards import BOARDS
from tamale_model import readers
from tamale_model.explore import (
    audit,
    cost,
    fields,
    market,
    performance,
    predictions,
    silicon,
    sizing,
    sweep,
    world,
)
from tamale_model.explore.quantity import DataError
from tamale_model.explore.workload import Storage

from ..explore import tables
from ..models_cache import demonstration
from ..runner import build_root

__all__ = ["add", "run"]

_EPILOG = """\
examples:
  tamale explore essay                             every claim of the essay, with a verdict
  tamale explore essay --claim appliance           one of them
  tamale explore workloads                         what models read for a token
  tamale explore platforms --model dense-14b       speed, price, energy of every platform
  tamale explore size --model demonstration --platform ulx3s-85f -o mine.toml
  tamale explore size --model dense-14b --platform appliance-28nm-lpddr5-8gb --goal 10
  tamale explore boxes --model deepseek-v3         a model split over several boxes
  tamale explore report -o report                  one page with everything, and its pictures
  tamale explore predict                           the cycle model against the RTL, as recorded
  tamale explore predict --measure                 measure it again: an hour, resumable
  tamale explore area --scheduler tcp://HOST:8786  synthesis of the area model on a Dask cluster
  tamale explore --assume mine.toml platforms      with your own prices, chips and models
  tamale explore fields fifo_beats=64,512,2048     what a field of a configuration is worth
"""


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "explore",
        help="size the design from a budget; audit the essay",
        description="What models need, what platforms give, what chips cost: from data files in "
        "which every figure has its source, or is marked as an assumption.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--assume", action="append", default=[], metavar="FILE",
        help="TOML with figures of your own; repeat for several",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="explore", metavar="COMMAND", required=True)

    def command(name, function, text):
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.add_argument("--json", action="store_true", help="print one object")
        sub.set_defaults(run=run, function=function)
        return sub

    def context(sub, default=2048):
        sub.add_argument(
            "--context", type=int, default=default, metavar="N",
            help=f"positions in a token's context (default: {default})",
        )  # fmt: skip

    def parallel(sub):
        sub.add_argument(
            "--scheduler", metavar="ADDRESS",
            help="Dask scheduler, such as tcp://HOST:8786 (default: a cluster on this machine)",
        )  # fmt: skip
        sub.add_argument(
            "--workers", type=int, metavar="N",
            help="processes on this machine (default: its cores; 1: no cluster)",
        )  # fmt: skip

    sub = command("essay", _essay, "the audit: claims, arithmetic, verdicts")
    sub.add_argument("--claim", metavar="NAME", help="one claim only")
    sub = command("workloads", _workloads, "what models read and compute for a token")
    sub.add_argument("--model", action="append", help="card or checkpoint; repeat for several")
    context(sub)
    sub = command("platforms", _platforms, "speed, energy and price of every platform for a model")
    sub.add_argument(
        "--model", action="append", help="card or checkpoint (default: bitnet-2b-4t, dense-14b)"
    )
    sub.add_argument("--sequences", type=int, default=1, metavar="N", help="parallel sequences")
    context(sub)
    sub = command("metric", _metric, "the cheapest complete system that runs each model")
    sub.add_argument("--goal", type=float, metavar="TOKENS_PER_SECOND", help="default: interactive")
    context(sub)
    sub = command("boxes", _boxes, "a model split by layers over several boxes")
    sub.add_argument("--model", default="deepseek-v3", help="card or checkpoint")
    sub.add_argument("--platform", default="appliance-28nm", help="a chip platform")
    context(sub, 4096)
    sub = command("chips", _chips, "area and cost of the chips, by part")
    sub = command("constants", _constants, "every figure with its source")
    sub = command("size", _size, "the Pareto front of configurations, and a preset of the best")
    sub.add_argument("--model", default="demonstration", help="card or checkpoint")
    sub.add_argument("--platform", default="ulx3s-85f", help="see `tamale explore platforms`")
    sub.add_argument("--goal", type=float, metavar="TOKENS_PER_SECOND",
                     help="take the cheapest that reaches it (default: the cheapest within 2 %% of "
                     "the fastest)")  # fmt: skip
    sub.add_argument("--sequences", type=int, default=1, metavar="N", help="parallel sequences")
    sub.add_argument("--loss", type=float, default=3e-3, metavar="NATS",
                     help="most loss that the cache's trits may cost (default: 0.003)")  # fmt: skip
    sub.add_argument("--points", type=int, default=96, metavar="N",
                     help="configurations to evaluate (default: 96)")  # fmt: skip
    sub.add_argument("--synthesise", action="store_true",
                     help="synthesise the engines of the front: minutes")  # fmt: skip
    sub.add_argument("--liberty", metavar="FILE", help="cell library (default: an installed one)")
    sub.add_argument("-o", "--output", metavar="FILE", help="write the preset here")
    context(sub, 1024)
    parallel(sub)
    sub = command("predict", _predict, "the cycle model's predictions beside the RTL's cycles")
    sub.add_argument("--measure", action="store_true", help="measure on the simulated board")
    sub.add_argument("--record", action="store_true", help="record what was measured")
    sub.add_argument("--only", metavar="TEXT", help="cases whose names have this")
    sub = command("area", _area, "synthesise the blocks that the area model is fitted to")
    sub.add_argument("--liberty", metavar="FILE", help="cell library (default: an installed one)")
    sub.add_argument("--record", action="store_true", help="record the result")
    parallel(sub)
    sub = command("fields", _fields, "what fields of a configuration are worth")
    sub.add_argument("fields", nargs="*", metavar="FIELD=VALUE,VALUE")
    sub.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    sub.add_argument("--model", help="checkpoint (default: the demonstration model)")
    sub.add_argument("--positions", default="63,2047", help="default: 63,2047")
    sub = command("report", _report, "one page with everything, and its pictures")
    sub.add_argument("-o", "--output", default="report", help="folder (default: report)")
    sub.add_argument("--points", type=int, default=32, metavar="N",
                     help="configurations for a Pareto front; 0: none (default: 32)")  # fmt: skip
    context(sub)
    parallel(sub)


def run(args):
    """Run the command."""
    for name in ("context", "sequences"):
        if getattr(args, name, 1) < 1:
            raise DataError(f"--{name} must be 1 or more, not {getattr(args, name)}")
    known = world.load(args.assume)
    return args.function(args, known)


def _show(*sheets):
    # Wide tables keep their columns where nobody reads them on a terminal.
    console = Console(width=None if sys.stdout.isatty() else 200)
    for sheet in sheets:
        console.print(sheet.rich())
        console.print()


def _note(args):
    return None if args.json else lambda line: print(f"tamale: {line}", file=sys.stderr)


def _triple(values):
    return dict(zip(("low", "value", "high"), values, strict=True))


# The audit ----------------------------------------------------------------------------------------

_STYLES = {audit.Verdict.HOLDS: "green", audit.Verdict.IF: "yellow", audit.Verdict.NOT: "red"}


def _essay(args, known):
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
        counts = [f"{sum(a.verdict is v for a in answers)} {v.value}" for v in audit.Verdict]
        console.print(f"\n{len(answers)} claims: {', '.join(counts)}")
        console.print("`tamale explore constants` has every figure with its source")


def _answer(answer):
    return {
        **dataclasses.asdict(answer.claim),
        "verdict": answer.verdict.value,
        "checks": [
            {**dataclasses.asdict(check), "verdict": check.verdict.value} for check in answer.checks
        ],
    }


# What there is ------------------------------------------------------------------------------------


def _cards(args, known, default):
    return [known.workload(name) for name in args.model or default]


def _workloads(args, known):
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
    _show(tables.workloads(cards, args.context))


def _platforms(args, known):
    cards = _cards(args, known, ["bitnet-2b-4t", "dense-14b"])
    if not args.json:
        _show(*(tables.platforms(known, card, args.context, args.sequences) for card in cards))
        return
    result = {}
    for card in cards:
        result[card.name] = entries = {}
        for platform in known.platforms.values():
            limit = performance.bound(
                platform, card, positions=args.context, sequences=args.sequences
            )
            price = platform.get("price")
            price = price.range if price else market.appliance(platform, known).total
            draw = market.watts(platform, known, card, positions=args.context)
            rate = limit.tokens_per_second
            entries[platform.name] = {
                "fits": limit.fits,
                "memory_bytes": limit.memory,
                "available_bytes": limit.available,
                "tokens_per_second": _triple(rate),
                "roofline": limit.roofline,
                "price": _triple(price),
                "watts": _triple(draw),
                "tokens_per_second_per_dollar": rate[1] / price[1],
                "dollars_per_token_per_second": price[1] / rate[1] if rate[1] else None,
                "break_even_months": _triple(cost.break_even_months(price, draw, known)),
                "token_bytes": limit.bytes,
            }
    print(json.dumps(result))


def _metric(args, known):
    goal = known["economics.interactive"].value if args.goal is None else args.goal
    if goal <= 0:
        raise DataError(f"--goal must be above 0 tokens/s, not {goal:g}")
    if not args.json:
        _show(tables.offers(known, list(known.workloads), goal, args.context))
        return
    print(json.dumps({
        name: [
            {"platform": o.platform.name, "status": o.status, "price": _triple(o.price),
             "tokens_per_second": _triple(o.rate), "tokens_per_second_per_dollar": o.per_dollar}
            for o in market.offers(name, known, goal=goal, positions=args.context)
        ]
        for name in known.workloads
    }))  # fmt: skip


def _chips(args, known):
    if not args.json:
        _show(tables.chips(known))
        return
    result = {}
    for platform in known.platforms.values():
        if platform.kind == "chip":
            area = market.total_area(platform, known)
            chip = cost.chip(area, known, platform.process)
            result[platform.name] = {
                "parts_mm2": {
                    name: _triple(part) for name, part in market.chip_area(platform, known).items()
                },
                "area_mm2": _triple(area),
                "cost": {name: _triple(part) for name, part in chip.parts.items()},
                "price": _triple(cost.chip_price(chip, known)),
            }
    print(json.dumps(result))


def _boxes(args, known):
    card, platform = known.workload(args.model), known.platform(args.platform)
    if platform.kind != "chip":
        raise DataError(f"{platform.name} is no chip of ours; use one, such as appliance-28nm")
    rows = market.cluster(card, platform, known, positions=args.context)
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    _show(tables.boxes(rows, card, platform, known))


def _constants(args, known):
    if args.json:
        print(json.dumps({n: dataclasses.asdict(q) for n, q in known.constants.items()}))
        return
    _show(tables.constants(known), tables.sources(known))


# Sizing -------------------------------------------------------------------------------------------


def _search(args, asked, budget):
    """Return (points, front) of a search, with a bar for people who wait."""
    sizing.check(asked, budget)
    with sweep.pool(args.scheduler, args.workers) as pool:
        if args.json or not sys.stderr.isatty():
            found = sizing.search(asked, pool, budget=budget)
        else:
            with Progress(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task(f"sizing for {asked.workload.name}", total=budget)
                found = sizing.search(
                    asked, pool, budget=budget,
                    progress=lambda done, total: bar.update(task, completed=done),
                )  # fmt: skip
        best = sizing.front(found)
        if getattr(args, "synthesise", False):
            best = _synthesised(args, asked, best, pool)
    return found, best


def _synthesised(args, asked, best, pool):
    """Return the front with its engines synthesised, all different ones in parallel."""
    chip = asked.platform.kind == "chip"
    library = liberty.find(args.liberty).read_text() if chip else None
    engines = {repr(sizing.engine(p)): sizing.engine(p) for p in best}
    todo = [("engine", fields, str(build_root()), library, not chip) for fields in engines.values()]
    note = _note(args)
    if note:
        note(f"synthesising {len(todo)} engines")
    results = pool(points.run, todo, note and (lambda n: note(f"{n} of {len(todo)} synthesised")))
    found = dict(zip(engines, results, strict=True))
    # Areas have changed, so some points may be beaten now.
    return sizing.front([sizing.corrected(asked, p, found[repr(sizing.engine(p))]) for p in best])


def _size(args, known):
    if args.goal is not None and args.goal <= 0:
        raise DataError(f"--goal must be above 0 tokens/s, not {args.goal:g}")
    if args.output and not Path(args.output).absolute().parent.is_dir():
        raise DataError(f"--output {args.output}: the folder does not exist; make it first")
    if args.output and not args.output.endswith(".toml"):
        raise DataError(f"--output {args.output}: a preset is a TOML file; name it *.toml")
    asked = sizing.Search(
        known.workload(args.model), known.platform(args.platform), known, args.context,
        args.sequences,
    )  # fmt: skip
    if args.synthesise and asked.platform.kind == "chip":
        liberty.find(args.liberty)
    found, best = _search(args, asked, args.points)
    taken = sizing.pick(best, args.goal, loss=args.loss)
    config = taken.config
    if args.output:
        config = config.replace(name=Path(args.output).stem)
        Path(args.output).write_text(_preset(config, asked, taken))
    if args.json:
        print(json.dumps({
            "taken": _point(taken),
            "front": [_point(p) for p in best],
            "evaluated": len(found),
            "prediction_error": _worst(),
            "configuration": dataclasses.asdict(config),
        }))  # fmt: skip
        return
    _show(tables.size(best, taken, asked))
    error = _worst()
    print(f"{len(found)} configurations evaluated"
          + (f"; the cycle model is within {error:.2%} of the RTL where it was measured "
             "(`tamale explore predict`)" if error is not None else ""))  # fmt: skip
    parts = ", ".join(f"{name} {value:,.3g}" for name, value in taken.detail.items())
    print(f"taken: {config.lanes} lanes x {config.vectors} vectors; {parts}")
    for line in _limits(asked, config):
        print(f"note: {line}")
    print(f"wrote {args.output}" if args.output else config.to_toml())
    if args.output and asked.platform.name in BOARDS:
        print(f"next: tamale build --board {asked.platform.name} --config {args.output}")


def _worst():
    errors = [abs(e.error) for e in predictions.compare() if e.error is not None]
    return max(errors, default=None)


def _limits(asked, config):
    """What a preset cannot say of its platform."""
    need = asked.workload.memory_bytes(
        performance.storage_of(config, asked.workload), asked.positions, asked.sequences
    )
    if need > config.memory_bytes:
        yield (
            f"the model needs {need / 1e9:.2f} GB, the generator's address space ends at "
            f"{config.memory_bytes / 1e9:.2f} GB: the preset generates and runs smaller models"
        )
    if asked.platform.kind == "fpga" and config.clock_hz > 1e6 * asked.platform.clock.value:
        yield (
            f"{config.clock_hz / 1e6:g} MHz is the upper end of what is assumed of this board; "
            "`tamale build` tells whether it closes, and `--assume` may set the platform's clock"
        )
    if asked.platform.note:
        yield asked.platform.note
    if config.memory == "ideal":
        yield (
            f"on the simulated board the memory is ideal, {config.memory_width} bits a clock; the "
            f"prediction is for {asked.platform.bandwidth.value:g} GB/s with refresh"
        )


def _preset(config, asked, taken):
    return (
        f"# Sized by `tamale explore size` for {asked.workload.name} on {asked.platform.name}, "
        f"{asked.positions} positions:\n"
        f"# {taken.tokens_per_second:.3g} tokens/s predicted.\n{config.to_toml()}"
    )


def _point(p):
    c = p.config
    return {
        "lanes": c.lanes, "tile_rows": c.tile_rows, "vectors": c.vectors, "vu_width": c.vu_width,
        "fifo_beats": c.fifo_beats, "code": c.code, "kv_trits": c.key_planes,
        "clock_hz": c.clock_hz, "tokens_per_second": p.tokens_per_second, "cycles": p.cycles,
        "prefill_tokens_per_second": p.prefill, "cost": p.cost, "loss": p.loss, "parts": p.detail,
    }  # fmt: skip


def _report(args, known):
    from ..explore import report

    searches = []
    if args.points < 0:
        raise DataError(f"--points must be 0 or more, not {args.points}")
    if args.points:
        for model, platform, positions in (
            ("demonstration", "ulx3s-85f", 1024),
            ("dense-14b", "appliance-28nm-lpddr5-8gb", 1024),
        ):
            asked = sizing.Search(known.workload(model), known.platform(platform), known, positions)
            found, best = _search(args, asked, args.points)
            searches.append((asked, found, best, sizing.pick(best)))
    files = report.build(
        known, args.output, searches=searches, context=args.context, note=_note(args)
    )
    if args.json:
        print(json.dumps([str(file) for file in files]))
        return
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes")


# Measurements -------------------------------------------------------------------------------------


def _predict(args, known):
    results = None
    if args.record and not args.measure:
        raise DataError("--record records what --measure measures; give both")
    if args.measure:
        # Imported here: the simulator is not needed for what is recorded.
        from ..bench import predictions as bench

        results = bench.measure(only=args.only, progress=_note(args))
        if args.record:
            bench.record(results)
        results = predictions.recorded() | results
    compared = [
        c for c in predictions.compare(results) if not args.only or args.only in c.case.name
    ]
    if not compared:
        raise DataError(f"no case has {args.only!r} in its name; see `tamale explore predict`")
    if args.json:
        print(json.dumps([
            {"case": c.case.name, "positions": c.case.positions, "predicted": c.predicted,
             "measured": c.measured, "error": c.error, "equal_tokens": c.equal_tokens}
            for c in compared
        ]))  # fmt: skip
        return
    _show(tables.predictions(compared))


def _area(args, known):
    library = liberty.find(args.liberty)
    text = library.read_text()
    todo = [(block, changes, str(build_root()), text, True) for block, changes in points.points()]
    note = _note(args)
    done = note and (lambda count: note(f"{count} of {len(todo)} blocks synthesised"))
    with sweep.pool(args.scheduler, args.workers) as pool:
        results = pool(points.run, todo, done)
    if args.record:
        silicon.record(library.stem, results)
    if args.json:
        print(json.dumps(results))
        return
    rows = [
        (
            r["block"], ", ".join(f"{k} = {v}" for k, v in r["changes"].items()) or "default",
            f"{r['gates']:,.0f}", f"{r['register_gates']:,.0f}",
            f"{sum(words * width for words, width, *_ in r['macros']):,}",
            f"{r['ecp5']['lut4']:,}" if r["ecp5"] else "",
        )
        for r in results
    ]  # fmt: skip
    title = f"gates (NAND2 of {library.stem}), bits of memory macros, LUT4 of ECP5"
    columns = ("block", "<changes", "gates", "in registers", "macro bits", "LUT4")
    _show(tables.Sheet(title, columns, rows))


def _fields(args, known):
    try:
        positions = [int(position) for position in args.positions.split(",")]
    except ValueError:
        raise DataError(f"--positions {args.positions}: write numbers with commas") from None
    base = configuration.load(args.config)
    if min(positions) < 0 or max(positions) >= base.max_context:
        raise DataError(
            f"--positions {args.positions}: use 0 to {base.max_context - 1}, the context of "
            f"{base.name}"
        )
    model = readers.read(args.model or demonstration())
    rows = list(fields.sweep(base, model, positions, args.fields))
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    _show(tables.fields(rows, positions))
