"""`tamale inspect`: what is in a checkpoint or an image, and what would run it."""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tamale import config as configuration
from tamale.codes import CODES, SPARSE_CODES
from tamale_model import cycles, estimate, imagefile, readers
from tamale_model.machine import Job, Slot
from tamale_model.model import LINEARS, Linear
from tamale_model.packing import first_not_sparse
from tamale_model.readers import CheckpointError, blocks, structure
from tamale_model.readers.errors import parse_json
from tamale_model.readers.gguf_file import GgufFile

from ..models_cache import demonstration, is_image, source

__all__ = ["add", "run"]

_EPILOG = """\
Nothing is built or packed: sizes follow from the file's header, zeros are counted in a few layers.
A line for each configuration says whether it runs the model; if not, why, and what to change.

  weights   bytes of the ternary matrices that every token reads, padding included
  scales    one for a matrix is free; one for each row or group lies in the stream
  bound     tokens/s if the memory did nothing but deliver these bytes at its peak
  tokens/s  what the cycle model predicts (within 0.1 % of the simulated board where memory limits)

examples:
  tamale inspect                                   the demonstration model
  tamale inspect bitnet-b1.58-2B-4T/               a Hugging Face folder
  tamale inspect Ternary-Bonsai-1.7B-Q2_0.gguf     a GGUF file
  tamale inspect model.gguf --context 512          the cost of a shorter text
  tamale inspect model.img                         an image that `tamale pack` wrote
  tamale inspect model.gguf --config mine.toml     against a configuration of your own
  tamale inspect model.gguf --json | jq .traffic   for programs
"""

#: Layers whose zeros are counted, and the weights up to which all of them are.
_SAMPLED_LAYERS, _ALL_WEIGHTS = 3, 64 << 20


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "inspect",
        help="what is in a checkpoint or image, and what runs it",
        description="Tells what is in a checkpoint (Hugging Face folder, GGUF file) or a memory "
        "image: graph, sizes, how weights and scales are stored, bytes of a token, memory needed, "
        "which configurations run it and how fast.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", help="folder, GGUF file or image (default: the demonstration model)"
    )
    parser.add_argument(
        "--config", action="append", metavar="NAME",
        help="preset or TOML file; repeat for several (default: all presets)",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=int, metavar="N",
        help="positions in a token's context (default: the most that model and configuration have)",
    )  # fmt: skip
    parser.add_argument(
        "--trits", type=int, default=3, metavar="N",
        help="trits of a weight that float matrices are reckoned with (default: 3)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
    if args.context is not None and args.context < 1:
        raise ValueError(f"--context must be 1 or more, not {args.context}")
    if not 1 <= args.trits <= 5:
        raise ValueError(f"--trits must be 1 to 5, not {args.trits}")
    configs = [configuration.load(name) for name in args.config or configuration.preset_names()]
    if not args.config:
        configs = [config for config in configs if config.engine == "accelerator"]
    for config in configs:
        if config.engine != "accelerator":
            raise ValueError(
                f"configuration {config.name} has engine = {config.engine!r}, what is predicted "
                f"here is an accelerator; measure it: tamale run --config {config.name}"
            )
    if args.model is not None and is_image(args.model):
        result, show = _image(Path(args.model), configs, args.context), _show_image
    else:
        path = source(args.model or demonstration())
        try:
            result, show = _checkpoint(path, configs, args), _show_checkpoint
        except CheckpointError as error:
            result, show = _unsupported(path, error), _show_unsupported
    if args.json:
        print(json.dumps(result))
    else:
        show(result)
    return 1 if "unsupported" in result else 0


# Checkpoints --------------------------------------------------------------------------------------


def _note(text):
    """A line that goes away, for people who wait."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)


def _zeros(skeleton, plans):
    """Zeros in the ternary matrices of some layers, and which matrices are 3:4 sparse; or None."""
    if all(plan.level == structure.FLOAT for plan in plans.values()):
        return None
    graph = skeleton.graph
    weights = sum(rows * k for rows, k in (m.shape for m in skeleton.matrices[0].values()))
    count = graph.layers
    if weights * count > _ALL_WEIGHTS:
        count = min(count, _SAMPLED_LAYERS)
    numbers = sorted({round(i) for i in np.linspace(0, graph.layers - 1, count)})
    zeros, total, dense = Counter(), Counter(), set()
    for number in numbers:
        for name in LINEARS:
            _note(f"counting zeros: layer {number} of {graph.layers}, {name}")
            linear = skeleton.matrices[number][name].read(plans[name])
            if isinstance(linear, Linear):
                zeros[name] += linear.values.size - np.count_nonzero(linear.values)
                total[name] += linear.values.size
                if linear.planes > 1 or first_not_sparse(linear.values, linear.group_size):
                    dense.add(name)
    _note("")
    return {
        "share": sum(zeros.values()) / max(1, sum(total.values())),
        "by_matrix": {name: zeros[name] / total[name] for name in LINEARS if total[name]},
        "sparse": [name for name in LINEARS if total[name] and name not in dense],
        "layers": len(numbers),
    }


def _checkpoint(path, configs, args):
    _note(f"reading {path}")
    skeleton = readers.open_skeleton(path)
    graph = skeleton.graph
    _note("looking at scales")
    plans = skeleton.plans()
    floats = [name for name in LINEARS if plans[name].level == structure.FLOAT]
    # What is float is reckoned as what `tamale quantise` would make of it.
    reckoned = plans | {
        name: structure.Plan(structure.GROUP, _group(skeleton, name), args.trits) for name in floats
    }
    forms = Counter(m.form if hasattr(m, "form") else type(m).__name__
                    for layer in skeleton.matrices for m in layer.values())  # fmt: skip
    # The cost of a token is told for the configuration with the most memory.
    first = max(configs, key=lambda config: config.memory_bytes)
    positions = min(args.context or min(graph.context, first.max_context), graph.context)
    matrices = sum(m.shape[0] * m.shape[1] for layer in skeleton.matrices for m in layer.values())
    table = graph.vocabulary * graph.hidden
    others = sum(g.size for norms in skeleton.norms for g in norms.values() if g is not None)
    others += graph.hidden
    zeros = _zeros(skeleton, plans)
    for name in zeros["sparse"] if zeros else ():
        reckoned[name] = dataclasses.replace(reckoned[name], sparse=True)
    need = estimate.traffic(first, skeleton, reckoned, positions)
    fits = []
    for config in configs:
        _note(f"configuration {config.name}")
        fits.append(estimate.fit(config, skeleton, reckoned, args.context or graph.context))
    _note("")
    return {
        "file": str(path),
        "kind": "GGUF" if path.is_file() else "folder",
        "architecture": _architecture(path),
        "graph": {
            key: value
            for key, value in dataclasses.asdict(graph).items()
            if key != "rope_frequencies"
        },
        "rope_scaled": graph.rope_frequencies is not None,
        "norms": sorted(name for name, gain in skeleton.norms[0].items() if gain is not None),
        "biases": sorted(n for n, m in skeleton.matrices[0].items() if m.bias is not None),
        "own_norms": sorted(n for n, m in skeleton.matrices[0].items() if m.norm is not None),
        "parameters": {
            "matrices": matrices,
            "embedding": table,
            "head": 0 if graph.tied else table,
            "others": others,
            "total": matrices + table * (1 if graph.tied else 2) + others,
        },
        "forms": dict(forms),
        "float_matrices": floats,
        "scales": {
            name: {
                "level": ("matrix", "row", "group")[plan.level],
                "group_size": plan.group_size,
                "trits": plan.planes,
            }
            for name, plan in reckoned.items()
        },
        "zeros": zeros,
        "tokenizer": skeleton.tokenizer is not None,
        "bits": {
            "code": need.code_bits,
            "padding": need.padding_bits,
            "scales": need.scale_bits,
            "total": need.bits,
        },
        "traffic": {
            "configuration": first.name,
            "positions": positions,
            "weights": need.weights,
            "scales": need.scales,
            "norms": need.vectors,
            "head": need.head,
            "cache": need.cache,
            "total": need.total,
        },
        "configurations": [{**dataclasses.asdict(f), "runs": f.runs} for f in fits],
        "notes": skeleton.notes,
    }


def _group(skeleton, name):
    """Weights that share a scale when a matrix is quantised: 128, or fewer where rows are short."""
    return next((g for g in (128, 64, 32) if skeleton.matrices[0][name].shape[1] % g == 0),
                skeleton.matrices[0][name].shape[1])  # fmt: skip


def _architecture(path):
    """What a file calls its graph."""
    try:
        if path.is_file():
            return str(GgufFile(path).metadata.get("general.architecture"))
        return str(parse_json((path / "config.json").read_bytes()).get("model_type"))
    except (CheckpointError, OSError, ValueError, AttributeError):
        return "unknown"


def _scales(scales):
    """A sentence on scales and trits, alike matrices together."""
    groups = {}
    for name, entry in scales.items():
        group = f"one for every {entry['group_size']} weights"
        names = {"matrix": "one for each matrix", "row": "one for each row", "group": group}
        what = names[entry["level"]]
        groups.setdefault((what, entry["trits"]), []).append(name)
    return "; ".join(
        (f"{', '.join(names)}: " if len(groups) > 1 else "")
        + f"{what}, {trits} trit{'s' * (trits > 1)} a weight"
        for (what, trits), names in groups.items()
    )


def _size(count):
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000


def _show_checkpoint(result):
    graph, parameters = result["graph"], result["parameters"]

    def line(name, text):
        print(f"  {name:12} {text}")

    print(f"{result['file']}: {result['kind']}, architecture {result['architecture']}")
    ratio = graph["heads"] // graph["kv_heads"]
    heads = f"{graph['heads']} heads of {graph['head_size']}"
    heads += f", {ratio} to a KV head" if ratio > 1 else ""
    line(
        "graph",
        f"{graph['layers']} layers, hidden {graph['hidden']}, {heads}, "
        f"feed-forward {graph['feed_forward']} with {graph['activation']}",
    )
    extras = [
        text
        for text, present in (
            ("sub-norms", "attention_norm" in result["norms"]),
            ("norms of query and key", "query_norm" in result["norms"]),
            (f"biases of {', '.join(result['biases'])}", result["biases"]),
            ("a norm before each matrix", result["own_norms"]),
            ("scaled rotary frequencies", result["rope_scaled"]),
        )
        if present
    ]
    line("", ", ".join([f"context {graph['context']:,}", f"rotary base {graph['rope_theta']:,.0f}",
                        *extras]))  # fmt: skip
    line(
        "vocabulary",
        f"{graph['vocabulary']:,} tokens, {'tied' if graph['tied'] else 'untied'} head, "
        + ("with its tokenizer" if result["tokenizer"] else "without tokenizer"),
    )
    line(
        "parameters",
        f"{parameters['total']:,}: {parameters['matrices']:,} in matrices, "
        f"{parameters['embedding'] + parameters['head']:,} in embedding and head",
    )
    line("stored as", ", ".join(f"{name} ({count})" for name, count in result["forms"].items()))
    floats = result["float_matrices"]
    if floats:
        trits = result["scales"][floats[0]]["trits"]
        line(
            "FLOAT",
            f"{'all matrices are' if len(floats) == 7 else ', '.join(floats) + ' are'} not "
            f"ternary; `tamale quantise` makes trits of them (here reckoned: {trits} a weight)",
        )
    line("scales", _scales(result["scales"]))
    if result["zeros"]:
        where = "all layers" if result["zeros"]["layers"] == graph["layers"] else (
            f"sampled in {result['zeros']['layers']} of {graph['layers']} layers")  # fmt: skip
        line("zeros", f"{result['zeros']['share']:.1%} of the weights ({where})")
        if result["zeros"]["sparse"]:
            line("3:4 sparse", ", ".join(result["zeros"]["sparse"]))
    bits = result["bits"]
    line(
        "bits a trit",
        f"{bits['total']:.3f}: code {bits['code']:.3f}, padding {bits['padding']:.3f}, "
        f"scales {bits['scales']:.3f}",
    )
    traffic = result["traffic"]
    line(
        "a token",
        f"reads {_size(traffic['total'])} with {traffic['positions']:,} positions in its context "
        f"(configuration {traffic['configuration']}):",
    )
    parts = ", ".join(
        f"{name} {_size(traffic[name])}" for name in ("weights", "scales", "norms", "head", "cache")
    )
    line("", parts)
    for note in result["notes"]:
        line("note", note)
    _show_fits(result["configurations"])


def _show_fits(fits):
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("configuration", "left"), ("board", "left"), ("context", "right"), ("memory", "right"),
        ("bound", "right"), ("tokens/s", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True)
    for fit in fits:
        table.add_row(
            fit["configuration"],
            fit["board"],
            f"{fit['context']:,}",
            f"{_size(fit['memory'])} of {_size(fit['available'])}",
            f"{fit['bound']:,.2f}",
            f"{fit['tokens_per_second']:,.2f}" if fit["runs"] else "does not run",
        )
    print()
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    for fit in fits:
        if not fit["runs"]:
            print(f"{fit['configuration']} does not run it: {fit['reason']}")


# Images -------------------------------------------------------------------------------------------


def _image(path, configs, context):
    image = imagefile.load(path)
    f = image.fields
    position = min(context or f["context"], f["context"])
    fits = []
    for config in configs:
        reason = predicted = None
        try:
            image.check(config)
            if image.memory_bytes() > config.memory_bytes:
                reason = (
                    f"image and cache need {image.memory_bytes():,} bytes, the memory has "
                    f"{config.memory_bytes:,}; pack it with a lower context"
                )
            else:
                job = Job([Slot(0, position - 1, 0)])
                predicted = cycles.predict(config, image.program, job).cycles
        except ValueError as error:
            reason = str(error).removeprefix(f"{image.name}: ")
        peak = config.beat_bytes / cycles.memory_of(config).cycles_per_beat * config.clock_hz
        fit = estimate.Fit(
            config.name, config.board, f["context"], image.memory_bytes(), config.memory_bytes,
            reason, predicted, predicted and config.clock_hz / predicted,
            peak / image.useful_bytes(position),
        )  # fmt: skip
        fits.append({**dataclasses.asdict(fit), "runs": fit.runs})
    return {
        "file": str(path),
        "kind": "image",
        "model": image.name,
        "fields": f,
        "positions": position,
        "token_bytes": image.useful_bytes(position),
        "configurations": fits,
    }


def _codes(number):
    """Names of the codes of an image."""
    names = {code.ident: code.name for code in CODES.values()}
    sparse = {code.ident: code.name for code in SPARSE_CODES.values()}
    text = names.get(number & 0xFF, str(number & 0xFF))
    return text + (f" and {sparse.get(number >> 8, number >> 8)}" if number >> 8 else "")


def _show_image(result):
    f = result["fields"]
    print(f"{result['file']}: memory image of {result['model']}, {_size(f['image_bytes'])}")
    for name, text in (
        ("graph", f"{f['layers']} layers, hidden {f['hidden']}, {f['heads']} heads of "
                  f"{f['head_size']}, {f['kv_heads']} KV heads, feed-forward {f['feed_forward']}"),
        ("packed for", f"bus of {f['bus_width']} bits, code {_codes(f['code'])}, "
                       f"tile {f['tile_rows']} x {f['tile_k']}, {f['vectors']} vectors, "
                       f"context {f['context']:,}"),
        ("vocabulary", f"{f['vocabulary']:,} tokens, "
                       + ("with their texts" if f["text_bytes"] else "without texts")),
        ("a token", f"sweeps {_size(f['sweep_bytes'])}, {_size(f['head_bytes'])} of it the head; "
                    f"with {result['positions']:,} positions in its context "
                    f"{_size(result['token_bytes'])} are useful"),
        ("cache", f"{_size(f['kv_sequence_bytes'])} a sequence"),
    ):  # fmt: skip
        print(f"  {name:12} {text}")
    _show_fits(result["configurations"])


# What is not supported ----------------------------------------------------------------------------


def _unsupported(path, error):
    """What can be said of a file that the readers refuse."""
    result = {"file": str(path), "architecture": _architecture(path), "unsupported": str(error)}
    if path.is_file():
        try:
            tensors = GgufFile(path).tensors.values()
        except CheckpointError:
            return result
        result["forms"] = dict(Counter(blocks.type_name(info.kind) for info in tensors))
        result["tensors"] = len(tensors)
    return result


def _show_unsupported(result):
    print(f"{result['file']}: architecture {result['architecture']}")
    if "forms" in result:
        print("  tensors      " + ", ".join(f"{n} ({c})" for n, c in result["forms"].items()))
    print(f"tamale: {result['unsupported']}", file=sys.stderr)
