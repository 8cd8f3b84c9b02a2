"""`tamale explore`: sizes the design from a budget, and audits the essay."""

import argparse

from tamale_model.explore import world
from tamale_model.explore.quantity import DataError

from . import explore_runs, explore_show

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

    sub = command("essay", explore_show.essay, "the audit: claims, arithmetic, verdicts")
    sub.add_argument("--claim", metavar="NAME", help="one claim only")
    sub = command("workloads", explore_show.workloads, "what models read and compute for a token")
    sub.add_argument("--model", action="append", help="card or checkpoint; repeat for several")
    context(sub)
    sub = command(
        "platforms", explore_show.platforms, "speed, energy and price of every platform for a model"
    )
    sub.add_argument(
        "--model", action="append", help="card or checkpoint (default: bitnet-2b-4t, dense-14b)"
    )
    sub.add_argument("--sequences", type=int, default=1, metavar="N", help="parallel sequences")
    context(sub)
    sub = command(
        "metric", explore_show.metric, "the cheapest complete system that runs each model"
    )
    sub.add_argument("--goal", type=float, metavar="TOKENS_PER_SECOND", help="default: interactive")
    context(sub)
    sub = command("boxes", explore_show.boxes, "a model split by layers over several boxes")
    sub.add_argument("--model", default="deepseek-v3", help="card or checkpoint")
    sub.add_argument("--platform", default="appliance-28nm", help="a chip platform")
    context(sub, 4096)
    sub = command("chips", explore_show.chips, "area and cost of the chips, by part")
    sub = command("constants", explore_show.constants, "every figure with its source")
    sub = command(
        "size", explore_runs.size, "the Pareto front of configurations, and a preset of the best"
    )
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
    sub = command(
        "predict", explore_runs.predict, "the cycle model's predictions beside the RTL's cycles"
    )
    sub.add_argument("--measure", action="store_true", help="measure on the simulated board")
    sub.add_argument("--record", action="store_true", help="record what was measured")
    sub.add_argument("--only", metavar="TEXT", help="cases whose names have this")
    sub = command(
        "area", explore_runs.area, "synthesise the blocks that the area model is fitted to"
    )
    sub.add_argument("--liberty", metavar="FILE", help="cell library (default: an installed one)")
    sub.add_argument("--record", action="store_true", help="record the result")
    parallel(sub)
    sub = command("fields", explore_runs.fields, "what fields of a configuration are worth")
    sub.add_argument("fields", nargs="*", metavar="FIELD=VALUE,VALUE")
    sub.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    sub.add_argument("--model", help="checkpoint (default: the demonstration model)")
    sub.add_argument("--positions", default="63,2047", help="default: 63,2047")
    sub = command("report", explore_runs.report, "one page with everything, and its pictures")
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
