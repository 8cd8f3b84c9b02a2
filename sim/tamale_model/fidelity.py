"""Measures what the device's integer arithmetic costs: golden machine against the float reference.

``python -m tamale_model.fidelity MODEL [--text FILE] [--tokens N] [--json]`` feeds the same text to
both, token by token, and prints agreement of the logits for several precisions of the cache, and
how many int8 activation codes differ before every linear layer. MODEL is anything that the readers
take; the text is drawn from the model itself (float reference, temperature 0.8) unless a file is
given. Logits are compared as they come, so that memory does not grow with text times vocabulary.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from tamale import config as configuration
from tamale import isa

from tamale_model import imagefile, readers, sampling
from tamale_model.machine import Job, Slot
from tamale_model.model import LINEARS
from tamale_model.program import Compiler
from tamale_model.program.survey import survey
from tamale_model.reference import ARITHMETICS, FloatSession, Reference
from tamale_model.tokenizer import Tokenizer

__all__ = [
    "GATES",
    "Agreement",
    "ReferencePass",
    "Tally",
    "device_config",
    "device_pass",
    "draw_text",
    "log_softmax",
    "measure",
    "reference_pass",
]

# Tokens of whole segments that the float reference takes in one walk over the layers.
_WALK_TOKENS = 1024

#: What a cache of five trits must reach: least argmax agreement, most KL and |delta xent| in nats.
GATES = {"argmax": 0.97, "kl": 2e-3, "delta_xent": 2e-3}


@dataclasses.dataclass
class Agreement:
    """How far the device's logits are from the reference's.

    Parameters
    ----------
    tokens : int
        Positions compared.
    argmax : float
        Part of them whose largest logit is the same token.
    kl : float
        Mean Kullback-Leibler divergence of the device's distribution from the reference's, nats.
    xent, delta_xent : float
        Reference's cross entropy of the next token of the text, nats; the device's minus it.
    codes : dict of str to float
        Part of the int8 activation codes that differ, per linear layer, mean over layers; empty
        where they were not compared.
    """

    tokens: int
    argmax: float
    kl: float
    xent: float
    delta_xent: float
    codes: dict

    @classmethod
    def of(cls, segments, expected, actual, codes=None):
        """Compare logits [n, vocabulary] of each segment of n tokens."""
        tally = Tally()
        for tokens, want, got in zip(segments, expected, actual, strict=True):
            tally.add(want, got, tokens[1:])
        return tally.agreement(codes)

    @property
    def met(self):
        """Whether `GATES` are met."""
        return (
            self.argmax >= GATES["argmax"]
            and self.kl <= GATES["kl"]
            and abs(self.delta_xent) <= GATES["delta_xent"]
        )


class Tally:
    """Sums of an `Agreement`, a few rows of logits at a time."""

    def __init__(self):
        self._tokens = self._same = self._pairs = 0
        self._kl = self._xent = self._device_xent = 0.0

    def add(self, expected, actual, following):
        """Add the logits [n, vocabulary] of n positions.

        Parameters
        ----------
        expected, actual : float array [n, vocabulary]
        following : sequence of int
            The tokens that follow the first positions: n of them, or n - 1 at a text's end.
        """
        reference, device = log_softmax(expected), log_softmax(actual)
        self._tokens += len(reference)
        self._same += int((reference.argmax(1) == device.argmax(1)).sum())
        self._kl += float((np.exp(reference) * (reference - device)).sum())
        rows, following = np.arange(len(following)), np.asarray(following, dtype=np.int64)
        self._pairs += len(rows)
        self._xent -= float(reference[rows, following].sum())
        self._device_xent -= float(device[rows, following].sum())

    def agreement(self, codes=None):
        """Return the `Agreement` of what was added."""
        xent = self._xent / self._pairs
        return Agreement(
            tokens=self._tokens,
            argmax=self._same / self._tokens,
            kl=self._kl / self._tokens,
            xent=xent,
            delta_xent=self._device_xent / self._pairs - xent,
            codes=codes or {},
        )


def log_softmax(logits):
    """Return the float64 logarithms of the probabilities of logits [n, vocabulary]."""
    logits = np.asarray(logits, dtype=np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def draw_text(
    model, tokens, *, segment=256, seed=1, temperature=0.8, arithmetic="hf", progress=None
):
    """Return segments (lists of tokens, ``tokens`` in all) that the float reference wrote.

    Parameters
    ----------
    model : Model
    tokens, segment : int
        Tokens in all, and of a segment.
    seed, temperature
        Of the sampler.
    arithmetic : str
        See `Reference`.
    progress : callable, optional
        Called as progress(done, total) with numbers of tokens.
    """
    start = model.graph.bos if model.graph.bos is not None else 0
    sizes = [min(segment, tokens - first) for first in range(0, tokens, segment)]
    sessions = FloatSession(
        model, len(sizes), temperature=temperature, context=max(sizes), stop_tokens=(),
        arithmetic=arithmetic,
    )  # fmt: skip
    # Sequence i of a session has seeds of its own; here they follow each other.
    sessions.samplers = [sampling.Sampler(temperature, 0, seed + i) for i in range(len(sizes))]
    segments = [[start] for _ in sizes]
    for done, step in enumerate(sessions.generate([[start]] * len(sizes), max(sizes) - 1)):
        segments[step.sequence].append(step.token)
        if progress:
            progress(min(done + 1 + len(sizes), tokens), tokens)
    return [made[:size] for made, size in zip(segments, sizes, strict=True)]


@dataclasses.dataclass
class ReferencePass:
    """What the float reference makes of a text.

    Parameters
    ----------
    reference : Reference
    residuals : list of float32 array [n, hidden]
        After the last layer, one per segment.
    codes : dict of (int, str) to int8 array [tokens, k]
        Activation codes before every linear layer, by (layer, name); arrays may be shared. Empty
        where they were not asked for, or where activations are not quantised per token.
    """

    reference: Reference
    residuals: list
    codes: dict

    def logits(self, segment, first=0, last=None):
        """Return the float32 logits of positions ``first`` to ``last`` of a segment."""
        return self.reference.logits(self.residuals[segment][first:last])


def reference_pass(model, segments, *, arithmetic="hf", codes=True, progress=None):
    """Feed a text to the float reference, many segments in one walk over the layers.

    Parameters
    ----------
    model : Model
    segments : list of list of int
        Each starts a sequence.
    arithmetic : str
        See `Reference`.
    codes : bool
        Keep the activation codes, which take as many bytes as all inputs of all linear layers.
    progress : callable, optional
        Called as progress(done, total) with numbers of layers.

    Returns
    -------
    ReferencePass
    """
    kept = {}

    def observe(layer, name, values, sums):
        values = values.astype(np.int8)
        # q, k and v read the same codes, as gate and up do.
        for other in ("q", "gate"):
            same = kept.get((layer, other), [None])[-1]
            if other != name and same is not None and np.array_equal(same, values):
                values = same
        kept.setdefault((layer, name), []).append(values)

    reference = Reference(model, observe if codes and arithmetic == "hf" else None, arithmetic)
    batches, size = [], 0
    for tokens in segments:
        if not batches or size + len(tokens) > _WALK_TOKENS:
            batches.append([])
            size = 0
        batches[-1].append(tokens)
        size += len(tokens)
    residuals, layers = [], model.graph.layers
    for number, batch in enumerate(batches):

        def note(done, _, number=number):
            if progress:
                progress(number * layers + done, len(batches) * layers)

        parts = [(tokens, reference.cache(len(tokens)), 0) for tokens in batch]
        residuals += reference.forward_all(parts, note)
    joined = {
        key: parts[0] if len(parts) == 1 else np.concatenate(parts) for key, parts in kept.items()
    }
    return ReferencePass(reference, residuals, joined)


def device_config(model, base, context, *, key_planes, value_planes, head_planes):
    """Return ``base`` with other precisions and as many vectors and sizes as ``model`` allows.

    Vectors, context and buffer sizes change how many tokens a pass takes, not the numbers.
    """
    graph = model.graph
    planes = survey(graph, model.layers).planes[1]
    config = base.replace(
        key_planes=key_planes,
        value_planes=value_planes,
        head_planes=head_planes,
        max_planes=max(key_planes, value_planes, head_planes, planes),
        max_k=max(base.max_k, graph.hidden, graph.feed_forward, graph.query_size),
        max_context=max(16, context),
        scratchpad_elements=1 << 17,
        program_commands=4096,
        memory="ideal",
        memory_bytes=1 << 30,
    )
    for vectors in (16, 8, 4, 2):
        try:
            Compiler(config.replace(vectors=vectors), model, context)
        except ValueError:
            continue
        return config.replace(vectors=vectors)
    return config.replace(vectors=1)


def _linear_names(program):
    """Map the address of every linear layer's command to its name, by the order in the program."""
    order = ("k", "v", "q", "o", "gate", "up", "down")
    decoded = [isa.decode(word) for word in program]
    found = [
        pc
        for pc, (op, fields) in enumerate(decoded)
        if op is isa.Op.MATVEC
        and fields["source"] == isa.Source.LINEAR
        and not fields["to_candidates"]
    ]
    return dict(zip(found, order, strict=True))


def device_pass(image, config, model, segments, observe=None):
    """Yield (segment, first position, float32 logits [n, vocabulary]) of each of the device's jobs.

    Parameters
    ----------
    image : Image
    config : Config
    model : Model
        What the image was packed from; says the shapes of the linear layers.
    segments : list of list of int
    observe : callable, optional
        Called as observe(layer, name, codes) before every linear layer, codes int64 [slots, k].
    """
    machine = image.machine(config)
    names = _linear_names(image.program)
    shapes = {}
    if observe:
        roles = survey(model.graph, model.layers).roles
        first_layer = model.layers[0]
        shapes = {
            name: (role.group_size, getattr(first_layer, name).shape[1])
            for name, role in roles.items()
        }

    def trace(pc, op, fields, layer, slot):
        if pc not in names:
            return
        size, k = shapes[names[pc]]
        groups, width = fields["groups"], fields["steps"] * config.tile_k
        first = fields["act"] * config.tile_k
        codes = machine.activation[: len(machine_job.slots), first : first + groups * width]
        codes = codes.reshape(-1, groups, width)[:, :, : size or k]
        observe(layer, names[pc], codes.reshape(len(codes), -1)[:, :k].copy())

    for number, tokens in enumerate(segments):
        for first in range(0, len(tokens), config.vectors):
            part = tokens[first : first + config.vectors]
            slots = [Slot(t, first + i, image.kv_base) for i, t in enumerate(part)]
            machine_job = Job(slots, True)
            logits = machine.run(machine_job, trace if observe else None)
            units = [
                float(machine.scalar(image.fields["logit_scalar"], i)) for i in range(len(part))
            ]
            rows = np.asarray(logits) * np.array(units)[:, None]
            yield number, first, rows.astype(np.float32)


def measure(model, config, segments, expected=None, progress=None):
    """Return the `Agreement` of the device of ``config`` with the float reference on a text.

    Parameters
    ----------
    model : Model
    config : Config
    segments : list of list of int
        Each starts a sequence.
    expected : ReferencePass, optional
        What `reference_pass` returned for the same segments, to save its time.
    progress : callable, optional
        Called as progress(done, total) with numbers of tokens.
    """
    expected = expected or reference_pass(model, segments)
    context = max(len(tokens) for tokens in segments)
    wrong, seen = dict.fromkeys(LINEARS, 0), dict.fromkeys(LINEARS, 0)
    done = {}

    def observe(layer, name, values):
        first = done.get((layer, name), 0)
        want = expected.codes[layer, name][first : first + len(values)]
        done[layer, name] = first + len(values)
        wrong[name] += int((values != want).sum())
        seen[name] += want.size

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        imagefile.build(config, model, path, context)
        image = imagefile.load(path)
    tally, total, count = Tally(), sum(map(len, segments)), 0
    passes = device_pass(image, config, model, segments, observe if expected.codes else None)
    for segment, first, logits in passes:
        last = first + len(logits)
        tally.add(
            expected.logits(segment, first, last), logits, segments[segment][first + 1 : last + 1]
        )
        count += len(logits)
        if progress:
            progress(count, total)
    codes = {name: wrong[name] / seen[name] for name in LINEARS if seen[name]}
    return tally.agreement(codes)


def _print(model, results):
    from rich.console import Console
    from rich.table import Table

    columns = [f"{planes} trits" for planes in results]
    first = next(iter(results.values()))
    table = Table(
        title=f"{model.graph.name}: device against float reference, {first.tokens} tokens, "
        f"reference xent {first.xent:.4f}"
    )
    table.add_column("cache of")
    for column in columns:
        table.add_column(column, justify="right")
    for label, text in (
        ("argmax agreement", lambda r: f"{r.argmax:.4f}"),
        ("KL, nats", lambda r: f"{r.kl:.2e}"),
        ("delta xent, nats", lambda r: f"{r.delta_xent:+.5f}"),
    ):
        table.add_row(label, *(text(r) for r in results.values()))
    for name in first.codes:
        table.add_row(
            f"codes that differ: {name}", *(f"{r.codes[name]:.2%}" for r in results.values())
        )
    Console().print(table)


def _segments(model, options, progress):
    """The text, cut into sequences."""
    if not options.text:
        return draw_text(
            model, options.tokens, segment=options.segment, arithmetic=options.arithmetic,
            progress=progress,
        )  # fmt: skip
    if model.tokenizer is None:
        raise ValueError(f"{options.model}: has no tokenizer, which --text needs; leave --text out")
    tokens = Tokenizer(model.tokenizer).encode(options.text.read_text(encoding="utf-8"))
    if len(tokens) < 2:
        raise ValueError(f"{options.text}: has {len(tokens)} tokens; use a text of 2 or more")
    start = [] if model.graph.bos is None else [model.graph.bos]
    size = options.segment - len(start)
    tokens = tokens[: options.tokens - -(-options.tokens // options.segment) * len(start)]
    return [start + tokens[i : i + size] for i in range(0, len(tokens), size)]


@contextlib.contextmanager
def _bar(title):
    """A progress bar on standard error, where that is a terminal; gives progress(done, total)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def main(arguments=None):
    """Run the command; return 0 if the gates of five trits are met, 1 if not, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m tamale_model.fidelity", description=__doc__)
    parser.add_argument("model", help="checkpoint: Hugging Face folder, .safetensors or GGUF file")
    parser.add_argument("--tokens", type=int, default=1536, help="length of the text")
    parser.add_argument("--segment", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--text", type=Path, help="file to read instead of drawing from the model")
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (code, tile)")
    parser.add_argument(
        "--cache", type=int, nargs="+", default=[5, 3, 2], help="trits of the cache"
    )
    parser.add_argument("--head", type=int, default=5, help="trits of embedding and head")
    parser.add_argument(
        "--arithmetic", choices=ARITHMETICS, default="hf",
        help="of the float reference; codes are compared with hf only",
    )  # fmt: skip
    parser.add_argument(
        "--no-codes", action="store_true", help="do not compare activation codes, to save memory"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.tokens < 2 or options.segment < 2:
        parser.error("--tokens and --segment must be 2 or more")
    try:
        model = readers.read(options.model)
        options.segment = min(options.segment, model.graph.context)
        base = configuration.load(options.config)
        # First of all, so that a model that the device cannot have is refused at once.
        context = min(options.segment, options.tokens)
        configs = {
            planes: device_config(
                model, base, context,
                key_planes=planes, value_planes=planes, head_planes=options.head,
            )
            for planes in options.cache
        }  # fmt: skip
        with _bar("text") as progress:
            segments = _segments(model, options, progress)
        segments = [s for s in segments if len(s) > 1]
        with _bar("float reference") as progress:
            expected = reference_pass(
                model, segments, arithmetic=options.arithmetic, codes=not options.no_codes,
                progress=progress,
            )  # fmt: skip
        results = {}
        for planes, config in configs.items():
            with _bar(f"device, {planes} trits") as progress:
                results[planes] = measure(model, config, segments, expected, progress)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(
            json.dumps({planes: dataclasses.asdict(r) for planes, r in results.items()}, indent=2)
        )
    else:
        _print(model, results)
    failed = 5 in results and not results[5].met
    if failed:
        print(f"error: five trits miss the gates {GATES}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
