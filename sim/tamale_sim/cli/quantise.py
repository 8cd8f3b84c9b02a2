"""`tamale quantise`: a float checkpoint becomes a model of trits."""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tamale_model import readers
from tamale_model.model import FloatLinear
from tamale_model.quantise import corpus, report
from tamale_model.quantise.calibrate import check_float, quantise_layers
from tamale_model.quantise.method import Method
from tamale_model.quantise.neutral import FolderWriter

__all__ = ["add", "run"]

_EPILOG = """\
A weight becomes a number of balanced trits (2 trits: -4 to 4, 3 trits: -13 to 13) times a scale
that its group shares. The array multiplies by trits only, so n trits cost n times the memory
traffic of a ternary model (1.6 bits a trit) and no multiplier. Three trits are the usual choice.

The calibration text decides which errors matter: a sample of what the model will be used for is
best. It is cut into sequences of 512 tokens; a few thousand tokens are enough.

examples:
  tamale quantise ./SmolLM2-135M -o smol3                        3 trits, groups of 128
  tamale quantise model.gguf -o smol2 --trits 2 --group 64       smaller and worse
  tamale quantise model.gguf -o mine --text notes.txt --tokens 16384
  tamale quantise model.gguf --report                            the loss for 1 to 5 trits
  tamale quantise model.gguf -o lean --sparse --group row        1.25 bits a weight
  tamale run smol3 --backend float --prompt "The moon"           what became of it

An interrupted run goes on where it was when the same command is given again.
"""

_GROUPS = {"64": 64, "128": 128, "256": 256, "row": 0}


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "quantise",
        help="a float checkpoint becomes a model of trits",
        description="Quantises a float checkpoint (llama, qwen2, qwen3 graphs; Hugging Face folder "
        "or GGUF file) to n trits per weight with group scales, by error-aware rounding on a "
        "calibration text (GPTQ), and says what was lost. The folder that it writes goes into "
        "`tamale pack` and `tamale run`.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="Hugging Face folder or GGUF file")
    parser.add_argument("-o", "--output", help="the folder to make")
    parser.add_argument(
        "--trits", type=int, metavar="N", help="trits of a weight, 1 to 5 (default: 3)"
    )
    parser.add_argument(
        "--sparse", action="store_true",
        help="one trit a weight, and of every four along a row exactly one is zero: 1.25 bits in a "
        "configuration with sparse_code; takes ternary checkpoints too",
    )  # fmt: skip
    parser.add_argument(
        "--group", choices=_GROUPS,
        help="weights along a row that share a scale (default: 128; with --sparse row, because "
        "scales of groups cost more than it saves)",
    )  # fmt: skip
    parser.add_argument(
        "--text", action="append", metavar="FILE",
        help="calibration text; repeat it to mix (default: books of the recipe where they are "
        "installed, and Python's own documentation)",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", type=int, default=8192, metavar="N",
        help="tokens of calibration (default: 8192)",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=int, default=4096, metavar="N",
        help="further tokens of the text, on which the loss is measured (default: 4096; 0: none)",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=int, nargs="*", metavar="N",
        help="compare numbers of trits (default: 1 to 5) with rounding to nearest and with INT4, "
        "and write nothing; takes as long as a dozen quantisations",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


class _Progress:
    """A line that is overwritten, or, away from a terminal, a line now and then."""

    def __init__(self, layers, quiet):
        self.layers, self.quiet = layers, quiet
        self.shown, self.last = sys.stderr.isatty(), time.monotonic()

    def __call__(self, label, number, name):
        if self.quiet:
            return
        line = f"tamale: {label}: layer {number + 1} of {self.layers}, {name}"
        if self.shown:
            print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last > 10:
            print(line, file=sys.stderr, flush=True)
            self.last = time.monotonic()

    def close(self):
        if self.shown and not self.quiet:
            print(file=sys.stderr)


def _sequences(args, model):
    """(calibration, held-out) sequences."""
    graph = model.graph
    length = min(corpus.SEQUENCE, graph.context)
    held_out = args.held_out
    if model.tokenizer is None:
        raise ValueError(
            f"{args.checkpoint}: has no tokenizer.json, so no text can be read; copy it beside the "
            "checkpoint"
        )
    if args.text:
        texts = [Path(file).read_text(encoding="utf-8") for file in args.text]
    else:
        texts = corpus.default_texts()
    tokens, held_out = corpus.sequences(
        model.tokenizer, texts, args.tokens, length=length, held_out=held_out, bos=graph.bos
    )
    for part in (tokens, held_out):
        if part.size and part.max() >= graph.vocabulary:
            raise ValueError(
                f"{args.checkpoint}: its tokenizer gives token {part.max()}, the vocabulary has "
                f"{graph.vocabulary}; the files are not of one checkpoint"
            )
    return tokens, held_out


def _check(args):
    if (args.output is None) == (args.report is None):
        raise ValueError("give -o FOLDER to quantise, or --report to compare")
    if args.tokens < 2:
        raise ValueError(f"--tokens must be 2 or more, not {args.tokens}")
    if args.held_out < 0 or args.held_out == 1:
        raise ValueError(f"--held-out must be 0, or 2 or more, not {args.held_out}")
    if args.report is not None and not args.held_out:
        raise ValueError("--report needs held-out text; leave --held-out as it is")
    if args.sparse and args.trits not in (None, 1):
        raise ValueError(f"--sparse weights have one trit, not {args.trits}; leave --trits out")
    args.group = args.group or ("row" if args.sparse else "128")
    args.trits = 1 if args.sparse else 3 if args.trits is None else args.trits
    if args.sparse and args.report:
        raise ValueError("--report of --sparse takes no numbers of trits; leave them out")
    for n in args.report or [args.trits]:
        if not 1 <= n <= 5:
            raise ValueError(f"a weight has 1 to 5 trits, not {n}")


def run(args):
    """Run the command."""
    _check(args)
    model = readers.read(args.checkpoint)
    if not args.sparse:
        check_float(model.graph.name, model.layers[0])
    if args.report is not None:
        _report(args, model)
    else:
        _quantise(args, model)


def _quantise(args, model):
    started = time.monotonic()
    graph, group = model.graph, _GROUPS[args.group]
    method = Method.of_sparse(group) if args.sparse else Method.of_trits(args.trits, group)
    if args.trits == 1 and isinstance(model.layers[0].q, FloatLinear):
        print(
            "tamale: a float model keeps little of its language in one trit a weight; models are "
            "trained for that. Three trits lose little, two are a compromise",
            file=sys.stderr,
        )
    tokens, held_out = _sequences(args, model)
    settings = {
        "trits": args.trits,
        "group_size": group,
        "method": repr(method),
        "checkpoint": str(Path(args.checkpoint).resolve()),
        "tokens": int(tokens.size),
        # Other text, other sums; two texts with the same sum of squares are not worth more.
        "text": int((tokens.astype(np.uint64) * np.arange(1, tokens.size + 1, dtype=np.uint64)
                     .reshape(tokens.shape)).sum()),
        "graph": repr(graph),
    }  # fmt: skip
    writer = FolderWriter(args.output, graph, settings)
    judge = report.Judge(model, held_out) if held_out.size else None
    progress = _Progress(graph.layers, args.json)
    errors = []

    def layers():
        def note(number, name):
            progress("3:4 sparse" if args.sparse else f"{args.trits} trits", number, name)

        for step in quantise_layers(model, tokens, method, ready=writer.ready, progress=note):
            if step.errors:
                writer.add(step.number, step.layer)
            errors.append(step.errors)
            yield step.layer

    try:
        losses = judge.losses(layers()) if judge else [None for _ in layers()][:0]
    except KeyboardInterrupt:
        progress.close()
        print("tamale: give the same command again to go on from here", file=sys.stderr)
        raise
    progress.close()
    description = {
        "method": "gptq, 3:4 sparse" if args.sparse else "gptq",
        "source": graph.name,
        "calibration_tokens": int(tokens.size),
        "losses": [loss.as_dict() for loss in losses],
    }
    writer.finish(model, description)
    seconds = time.monotonic() - started
    bits = _bits(graph, args.trits, group, args.sparse)
    if args.json:
        weights, device = (*description["losses"], None, None)[:2]
        print(
            json.dumps(
                {
                    "folder": str(writer.path), "model": graph.name, "trits": args.trits,
                    "group_size": group, "bits_per_weight": bits,
                    "calibration_tokens": int(tokens.size),
                    "float_activations": weights, "int8_activations": device,
                    "layers": errors, "seconds": seconds,
                }
            )
        )  # fmt: skip
        return
    group_text = "whole rows" if group == 0 else f"groups of {group}"
    unit = "trit" if args.trits == 1 else "trits"
    print(
        f"{writer.path}: {graph.name}, {args.trits} {unit}{', 3:4 sparse,' if args.sparse else ''} "
        f"in {group_text}, {bits:.2f} bits a weight, {seconds:.0f} s"
    )
    if losses:
        print(
            f"  perplexity of {held_out.size:,} held-out tokens: float "
            f"{np.exp(losses[0].float_xent):.2f}, quantised {losses[0].perplexity:.2f}, with int8 "
            f"activations {losses[1].perplexity:.2f}"
        )
        print(
            f"  KL {losses[0].kl:.4f} nats ({losses[1].kl:.4f} with int8 activations), likeliest "
            f"token the same for {losses[0].argmax:.1%} ({losses[1].argmax:.1%})"
        )


def _bits(graph, trits, group, sparse=False):
    """Bits of a weight at 1.6 bits a trit, 1.25 where one in four is zero, and 16 bits a scale."""
    shapes = readers.graphs.shapes(graph).values()
    weights = sum(rows * k for rows, k in shapes)
    scales = sum(rows * (-(-k // group) if group else 1) for rows, k in shapes)
    return (1.25 if sparse else 1.6) * trits + 16 * scales / weights


def _report(args, model):
    graph, group = model.graph, _GROUPS[args.group]
    tokens, held_out = _sequences(args, model)
    methods = report.sparse_baselines(group) if args.sparse else {}
    if not args.sparse or isinstance(model.layers[0].q, FloatLinear):
        methods |= report.baselines(args.report or ([1] if args.sparse else [1, 2, 3, 4, 5]), group)
    progress, rows = _Progress(graph.layers, args.json), []
    try:
        for label, method, losses in report.compare(
            model, tokens, held_out, methods, progress=progress
        ):
            bits = 4 + 16 / group if label.startswith("INT4") and group else None
            rows.append(
                {
                    "label": label, "planes": method.planes, "aware": method.aware,
                    "levels": method.levels.high - method.levels.low + 1,
                    "bits_per_weight": bits or _bits(graph, method.planes, group, method.sparse),
                    "float_activations": losses[0].as_dict(),
                    "int8_activations": losses[1].as_dict(),
                }
            )  # fmt: skip
    finally:
        progress.close()
    if args.json:
        result = {
            "model": graph.name, "group_size": group, "calibration_tokens": int(tokens.size),
            "held_out_tokens": int(held_out.size), "methods": rows,
        }  # fmt: skip
        print(json.dumps(result))
        return
    console = Console()
    first = rows[0]["float_activations"]
    console.print(
        f"{graph.name}: {held_out.size:,} held-out tokens, float perplexity "
        f"{first['float_perplexity']:.2f}, groups of {group or 'whole rows'}"
    )
    table = Table()
    for column in ("weights", "bits", "perplexity", "xent +", "KL", "argmax", "with int8 act.: KL",
                   "argmax"):  # fmt: skip
        table.add_column(column, justify="left" if column == "weights" else "right")
    for row in rows:
        loss, device = row["float_activations"], row["int8_activations"]
        table.add_row(
            row["label"], f"{row['bits_per_weight']:.2f}", f"{loss['perplexity']:.2f}",
            f"{loss['xent'] - loss['float_xent']:.3f}", f"{loss['kl']:.4f}",
            f"{loss['argmax']:.1%}", f"{device['kl']:.4f}", f"{device['argmax']:.1%}",
        )  # fmt: skip
    console.print(table)
