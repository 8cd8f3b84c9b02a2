"""`tamale bench`: the design's table of figures, measured on this machine."""

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from tamale import config as configuration

from ..bench import baseline, decode
from ..bench.figures import FIGURES
from ..models_cache import open_image
from ..runner import build_root

__all__ = ["add", "run"]

_EPILOG = """\
examples:
  tamale bench                        every figure; the engine is placed and routed (an hour)
  tamale bench --only decode          roofline, idle causes, cycle model: minutes
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
        "Cycles are counted, not seconds, so that figures do not depend on the machine.",
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
    """Figures of decoding, and the `Decode` at a short context."""
    config = configuration.load(args.config)
    image, file = open_image(args.model, config, None, note)
    short = decode.measure(config, image, file, tokens=args.tokens, progress=note)
    far = image.fields["context"] - args.tokens - 2
    long = decode.measure(config, image, file, start=far, tokens=args.tokens, progress=note)
    if args.picture:
        from ..bench.picture import timeline

        title = (
            f"One token of {image.name} on {config.name}: {short.cycles:,.0f} cycles, "
            f"{short.roofline:.1%} of the memory's peak"
        )
        timeline(short, args.picture, title=title)
    return {
        "roofline": short.roofline,
        "roofline_layers": short.layers_roofline,
        "roofline_head": short.head_roofline,
        "roofline_2k": long.roofline / short.roofline,
        "context_2k": long.context,
        "stream": short.stream,
        "outside_stream": short.idle,
        "idle_causes": {k: v for k, v in short.shares.items() if k.startswith(("idle", "between"))},
        "units": {
            k: v
            for k, v in short.shares.items()
            if not k.startswith(("idle", "between", "data", "refresh"))
        },
        "prediction_error": max(abs(short.prediction_error), abs(long.prediction_error)),
        "prefill_gain": short.prefill_gain,
        "cycles_per_token": short.cycles,
        "cycles_per_token_2k": long.cycles,
        "tokens_per_second": config.clock_hz / short.cycles,
        "megabytes_per_second": short.useful_bytes / short.cycles * config.clock_hz / 1e6,
        "equal_tokens": short.tokens + long.tokens,
    }


def _memory(args, note):
    """Bits of memory per weight."""
    from tamale_model import bits

    return {"bits_per_weight": bits.measure(configuration.load(args.config)).total}


def _engine(args, note):
    """Area and clock of the engine, placed and routed with three seeds; area of its decoder."""
    from tamale_fpga.measure import measure

    config = configuration.load(args.config)
    directory = build_root() / "synth"

    def engine(config):
        return measure(
            "engine", config, directory / f"engine.{config.name}", seeds=_SEEDS, progress=note
        )

    four = engine(config)
    one = engine(config.replace(name=f"{config.name}-1", vectors=1))
    decoder = measure(
        "decoder", config, directory / f"decoder.{config.name}", area=True, progress=note
    )
    return {
        "lut4_per_mac": four["lut4_per_mac"],
        "lut4_per_mac_1": one["lut4_per_mac"],
        "gmacs_per_klut4": four["gmacs_per_klut4"],
        "engine_mhz": four["mhz"],
        "engine_lut4": four["lut4"],
        "engine_ebr": four["ebr"],
        "engine_dsp": four["dsp"],
        "decoder_lut4_per_weight": decoder["lut4_per_weight"],
        "vectors": config.vectors,
        # Multipliers see finished sums and scales; trits select additions.
        "multipliers_on_trits": 0,
    }


#: Seeds whose slowest clock counts.
_SEEDS = 3

_PARTS = {"decode": _decode, "memory": _memory, "engine": _engine}


def run(args):
    """Run the command."""
    if args.picture and not Path(args.picture).absolute().parent.is_dir():
        raise ValueError(f"--picture {args.picture}: the folder does not exist; make it first")
    recorded = baseline.load()
    if args.recorded:
        measured = recorded
    else:
        note = None if args.json else lambda line: print(f"tamale: {line}", file=sys.stderr)
        measured = {}
        for name in args.only or _PARTS:
            measured |= _PARTS[name](args, note)
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
