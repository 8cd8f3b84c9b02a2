"""`tamale build`: a bitstream for a board."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tamale import config as configuration
from tamale_fpga import boards, history, report
from tamale_fpga.build import build, synthesise, wanted_mhz
from tamale_fpga.paths import longest

from ..runner import build_root

__all__ = ["add", "run"]

_EPILOG = """\
examples:
  tamale build --board ulx3s-85f                 a bitstream, of the fastest of three seeds
  tamale build --board ulx3s-85f --seeds 1       the first one that comes, in a third of the time
  tamale build --board ulx3s-85f --picture floor.png
  tamale build --board ulx3s-85f --paths 10      what limits the clock, before anything is placed
  tamale build --board ulx3s-85f --record        keep what it reached, for later builds to compare
  tamale build --list                            boards, and what is sized for them

Every stage is kept: the same command goes on where it was interrupted; a second call only prints.
`tamale flash` loads the bitstream.
"""


def add(subparsers):
    """Describe the command."""
    import argparse

    parser = subparsers.add_parser(
        "build",
        help="a bitstream for a board",
        description="Generates the whole system for a board, synthesises it with Yosys, places and "
        "routes it with nextpnr, seed by seed, and packs the bitstream of the seed with the "
        "fastest clock. Prints clocks, cells by block and the critical paths. About ten minutes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--board", choices=sorted(boards.BOARDS), help="board to build for")
    parser.add_argument("--config", help="preset or TOML file (default: the board's own preset)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds to route (default: 3)")
    parser.add_argument("--jobs", type=int, help="seeds at a time (default: one per core)")
    parser.add_argument("--picture", metavar="FILE", help="draw the floor plan (PNG, SVG, PDF)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to copy the bitstream (default: in the build)"
    )
    parser.add_argument(
        "--paths",
        type=int,
        metavar="N",
        help="synthesise only, and print the N longest paths of each clock, estimated",
    )
    parser.add_argument(
        "--record", action="store_true", help="record clocks and cells in the source tree"
    )
    parser.add_argument("--list", action="store_true", help="list the boards and end")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def _list(console):
    table = Table()
    for column in ("board", "preset", "memory", "about USD"):
        table.add_column(column)
    for board in boards.BOARDS.values():
        table.add_row(board.name, board.preset, board.memory, f"{board.figures.price.value:g}")
    console.print(table)


def run(args):
    """Run the command."""
    console = Console()
    if args.list:
        _list(console)
        return 0
    if args.board is None:
        raise ValueError(f"--board is missing; known boards are {', '.join(boards.BOARDS)}")
    board = boards.find(args.board)
    config = configuration.load(args.config or board.preset)
    folder = build_root() / "boards"

    def progress(text):
        print(f"tamale: {text}", file=sys.stderr)

    if args.paths is not None:
        if args.paths < 1:
            raise ValueError(f"--paths must be 1 or more, not {args.paths}")
        design = synthesise(board, config, folder, progress=progress)
        _print_paths(console, longest(design.directory / "top.json", args.paths), args.json)
        return 0
    result = build(board, config, folder, seeds=args.seeds, jobs=args.jobs, progress=progress)
    bitstream = result.bitstream
    if args.output:
        bitstream = Path(args.output)
        shutil.copyfile(result.bitstream, bitstream)
    best = result.best
    routed = result.directory / f"seed{best['seed']}.routed.json"
    if args.picture:
        report.floor_plan(routed, f"{config.name} on {board.name}", args.picture)
    blocks = report.by_block(routed)
    paths = report.critical_paths(result.directory / f"seed{best['seed']}.report.json")
    changes = history.compare(result)
    if args.record:
        history.record(result)
    seconds = result.synthesis["seconds"] + sum(seed["seconds"] for seed in result.seeds)
    if args.json:
        print(
            json.dumps(
                {
                    "board": board.name,
                    "configuration": config.name,
                    "bitstream": str(bitstream),
                    "closed": result.closed,
                    "fmax_mhz": best["fmax_mhz"],
                    "worst_fmax_mhz": result.worst,
                    "wanted_mhz": wanted_mhz(config),
                    "resources": best["resources"],
                    "blocks": blocks,
                    "critical_paths": paths,
                    "seeds": result.seeds,
                    "changes": [dataclasses.asdict(change) for change in changes],
                    "seconds": seconds,
                }
            )
        )
        return 0 if result.closed else 1
    _print(console, result, blocks, paths)
    for change in changes:
        mark = ": worse than the tolerance" if change.worse else ""
        console.print(
            f"{change.name}: recorded {change.recorded:g}, now {change.measured:g}{mark}",
            highlight=False,
        )
    console.print(f"{bitstream}: {bitstream.stat().st_size:,} bytes, {seconds:.0f} s of tools")
    if not result.closed:
        print(
            "tamale: no seed reaches the clocks that the configuration asks for; lower clock_hz or "
            "cpu_clock_hz, or try more --seeds",
            file=sys.stderr,
        )
        return 1
    return 0


def _print_paths(console, paths, as_json):
    if as_json:
        print(json.dumps([dataclasses.asdict(path) for path in paths]))
        return
    for path in paths:
        console.print(
            f"{path.clock}: {path.ns} ns, {len(path.nets)} nets\n"
            f"  from {path.start}\n  to   {path.end}",
            highlight=False,
        )


def _print(console, result, blocks, paths):
    best = result.best
    table = Table(title="Clocks, MHz", title_justify="left")
    table.add_column("domain")
    table.add_column("wanted", justify="right")
    for seed in result.seeds:
        mark = " *" if seed is best else ""
        table.add_column(f"seed {seed['seed']}{mark}", justify="right")
    for domain, wanted in wanted_mhz(result.config).items():
        values = (f"{seed['fmax_mhz'][domain]:.1f}" for seed in result.seeds)
        table.add_row(domain, f"{wanted:g}", *values)
    console.print(table)

    table = Table(title="Cells by block", title_justify="left")
    table.add_column("block")
    kinds = {"lut4": "LUT4", "ff": "FF", "ebr": "block RAM", "dsp": "multipliers"}
    for heading in kinds.values():
        table.add_column(heading, justify="right")
    for block, counts in blocks.items():
        table.add_row(block, *(f"{counts[kind]:,}" for kind in kinds))
    total = {kind: sum(counts[kind] for counts in blocks.values()) for kind in kinds}
    table.add_section()
    table.add_row("all", *(f"{total[kind]:,}" for kind in kinds))
    parts = report.parts(best["resources"])
    table.add_row("of the device", *(f"{parts[kind]:.0%}" for kind in kinds))
    console.print(table)

    for path in paths:
        console.print(
            f"slowest path of {path['clock']}: {path['ns']} ns, of which {path['routing_ns']} "
            f"wires, {path['levels']} cells\n  from {path['from']}\n  to   {path['to']}",
            highlight=False,
        )
