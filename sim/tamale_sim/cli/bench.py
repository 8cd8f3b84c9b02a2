"""`tamale bench`: the design's table of figures, measured on this machine."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tamale import config as configuration
from tamale.codes import SPARSE_CODES

from ..bench import baseline, decode, kept
from ..bench.figures import FIGURES
from ..models_cache import open_image

__all__ = ["add", "run"]

_EPILOG = """\
examples:
  tamale bench                        every figure; the engine is placed and routed (an hour)
  tamale bench --only decode          roofline, idle causes, prefill: minutes
  tamale bench --record               record them: what was measured before is not measured again
  tamale bench --picture token.png    a timeline of one token too
  tamale bench --recorded             the figures recorded with this version, at once
"""


def add(subparsers):
    """Describe the command."""
    import argparse

    parser = subparsers.add_parser(
        "bench",
        help="the table of figures",
        description="Measures this design's figures and compares them with the recorded ones: "
        "tokens on the simulated board with real memory timing, the engine placed and routed. "
        "Cycles are counted, not seconds, so that figures do not depend on the machine. What was "
        "measured with the same hardware is kept; an interrupted run goes on where it was.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("--model", help="checkpoint or image (default: the demonstration model)")
    parser.add_argument(
        "--only", choices=sorted(_PARTS), action="append", help="one part; repeat for several"
    )
    parser.add_argument("--tokens", type=int, default=4, help="decoded tokens (default: 4)")
    parser.add_argument("--picture", metavar="FILE", help="timeline of a token, PNG or SVG")
    parser.add_argument("--recorded", action="store_true", help="print the recorded figures")
    parser.add_argument("--record", action="store_true", help="record what was measured")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def _decode(args, note):
    """Figures of decoding at a short context; the timeline of a token."""
    config = configuration.load(args.config)
    short, name = _board(args, config, note)
    if args.picture:
        from ..bench.picture import timeline

        title = (
            f"One token of {name} on {config.name}: {short.cycles:,.0f} cycles, "
            f"{short.roofline:.1%} of the memory's peak"
        )
        timeline(short, args.picture, title=title)
    return {
        "roofline": short.roofline,
        "roofline_layers": short.layers_roofline,
        "roofline_head": short.head_roofline,
        "stream": short.stream,
        "outside_stream": short.idle,
        "idle_causes": {k: v for k, v in short.shares.items() if k.startswith(("idle", "between"))},
        "units": {
            k: v
            for k, v in short.shares.items()
            if not k.startswith(("idle", "between", "data", "refresh"))
        },
        "prediction_error_short": short.prediction_error,
        "prefill_gain": short.prefill_gain,
        "cycles_per_token": short.cycles,
        "tokens_per_second": config.clock_hz / short.cycles,
        "megabytes_per_second": short.useful_bytes / short.cycles * config.clock_hz / 1e6,
        "equal_tokens": short.tokens,
    }


def _context(args, note):
    """Figures of decoding at the end of the context, over those at a short one."""
    config = configuration.load(args.config)
    short, _ = _board(args, config, note)
    long, _ = _board(args, config, note, far=True)
    return {
        "roofline_2k": long.roofline / short.roofline,
        "roofline_at_2k": long.roofline,
        "context_2k": long.context,
        "prediction_error": max(abs(short.prediction_error), abs(long.prediction_error)),
        "cycles_per_token_2k": long.cycles,
        "tokens_per_second_2k": config.clock_hz / long.cycles,
        "equal_tokens_2k": long.tokens,
    }


def _board(args, config, note, far=False):
    """Return the `Decode` at a short context or at the end of the context, and the model's name."""
    image, file = open_image(args.model, config, None, note)
    start = image.fields["context"] - args.tokens - 2 if far else 0
    path = kept.path("decode", image.name, config, file.read_bytes(), args.tokens, start)
    path = path.with_suffix(".npz")
    if not path.is_file():
        measured = decode.measure(
            config, image, file, start=start, tokens=args.tokens, progress=note
        )
        measured.save(path)
    return decode.Decode.load(path), image.name


def _memory(args, note):
    """Bits of memory per weight."""
    from tamale_model import bits

    config = configuration.load(args.config)
    sparse = config.replace(sparse_code=next(iter(SPARSE_CODES)))
    return {
        "bits_per_weight": bits.measure(config).total,
        "bits_per_weight_sparse": bits.measure(sparse, sparse=True).total,
    }


def _engine(args, note):
    """Area and clock of the engine, placed and routed with three seeds; area of its decoder."""
    from ..bench import engine

    return engine.measure(configuration.load(args.config), note)


def _vectors(args, note):
    """Vectors that share a sweep."""
    from ..bench import vectors

    config = configuration.load(args.config)
    file = kept.path("vectors", config.name, config)
    return kept.figures(file, lambda: vectors.measure(config, note))


#: In the order of their duration.
_PARTS = {
    "memory": _memory, "vectors": _vectors, "decode": _decode, "context": _context,
    "engine": _engine,
}  # fmt: skip


def run(args):
    """Run the command."""
    if args.picture and not Path(args.picture).absolute().parent.is_dir():
        raise ValueError(f"--picture {args.picture}: the folder does not exist; make it first")
    recorded = baseline.load()
    if args.recorded:
        if not recorded:
            raise ValueError(
                "no figures are recorded with this version; `tamale bench --record` records them"
            )
        measured = recorded
    else:
        measured = {}
        for name in args.only or _PARTS:
            measured |= _PARTS[name](args, lambda line: print(f"tamale: {line}", file=sys.stderr))
    if args.record:
        baseline.save(recorded | measured)
    if args.json:
        print(json.dumps(measured))
        return
    _print(measured, recorded)


def _print(measured, recorded):
    console = Console()
    table = Table(title="figures")
    for column in ("#", "figure", "measured", "recorded", "best peer", "reach", "beyond", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for figure in FIGURES:
        value, before = measured.get(figure.key), recorded.get(figure.key)
        if value is None:
            continue
        table.add_row(
            str(figure.number), figure.title, figure.show(value), figure.show(before),
            figure.peer, figure.show(figure.reach), figure.show(figure.beyond),
            figure.reached(value),
        )  # fmt: skip
    console.print(table)
    if "engines" in measured:
        _print_engines(console, measured)
    for name in ("idle_causes", "units"):
        if name in measured:
            title = "memory idle" if name == "idle_causes" else "executing"
            parts = ", ".join(
                f"{key.removeprefix('idle_')} {share:.2%}"
                for key, share in sorted(measured[name].items(), key=lambda item: -item[1])
            )
            console.print(f"{title}: {parts}")
    known = {figure.key for figure in FIGURES}
    for key, value in measured.items():
        if key not in known and isinstance(value, int | float):
            console.print(f"{key}: {value:,.4g}")


def _print_engines(console, measured):
    table = Table(title="engines, ECP5-85F grade 6, placed and routed")
    names = ("lanes x vectors", "LUT4", "LUT4/MAC", "FF", "EBR", "DSP", "MHz by seed")
    for column in (*names, "GMAC/s/kLUT4"):
        table.add_column(column, justify="right")
    for name, row in measured["engines"].items():
        table.add_row(
            name, f"{row['lut4']:,}", f"{row['lut4_per_mac']:.1f}",
            *(f"{row[key]:,}" for key in ("ff", "ebr", "dsp")),
            ", ".join(f"{mhz:.1f}" for mhz in row["mhz_by_seed"]),
            f"{row['gmacs_per_klut4']:.2f}",
        )  # fmt: skip
    console.print(table)
    console.print(f"figures 6, 7, 8: engine {measured['engine_configuration']}")
    if "engine_configuration_1" in measured:
        console.print(f"6 with one vector: {measured['engine_configuration_1']}")
