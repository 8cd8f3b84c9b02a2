"""Commands of `tamale explore` that search, measure or draw: what takes longer than a table."""

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
from tamale_model.explore import fields as values
from tamale_model.explore import performance, predictions, silicon, sizing, sweep
from tamale_model.explore.quantity import DataError

from ..explore import tables
from ..explore.terminal import note, show
from ..models_cache import demonstration
from ..runner import build_root

__all__ = ["area", "fields", "predict", "report", "size"]


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
    say = note(args)
    if say:
        say(f"synthesising {len(todo)} engines")
    results = pool(points.run, todo, say and (lambda n: say(f"{n} of {len(todo)} synthesised")))
    found = dict(zip(engines, results, strict=True))
    # Areas have changed, so some points may be beaten now.
    return sizing.front([sizing.corrected(asked, p, found[repr(sizing.engine(p))]) for p in best])


def size(args, known):
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
    show(tables.size(best, taken, asked))
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


def report(args, known):
    from ..explore import report as page

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
    files = page.build(known, args.output, searches=searches, context=args.context, note=note(args))
    if args.json:
        print(json.dumps([str(file) for file in files]))
        return
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes")


def predict(args, known):
    results = None
    if args.record and not args.measure:
        raise DataError("--record records what --measure measures; give both")
    if args.measure:
        # Imported here: the simulator is not needed for what is recorded.
        from ..bench import predictions as bench

        results = bench.measure(only=args.only, progress=note(args))
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
    show(tables.predictions(compared))


def area(args, known):
    library = liberty.find(args.liberty)
    text = library.read_text()
    todo = [(block, changes, str(build_root()), text, True) for block, changes in points.points()]
    say = note(args)
    done = say and (lambda count: say(f"{count} of {len(todo)} blocks synthesised"))
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
    show(tables.Sheet(title, columns, rows))


def fields(args, known):
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
    rows = list(values.sweep(base, model, positions, args.fields))
    if args.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return
    show(tables.fields(rows, positions))
