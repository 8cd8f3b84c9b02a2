"""Measures what the device's integer arithmetic costs: golden machine against the float reference.

``python -m tamale_model.fidelity MODEL [--tokens N] [--json]`` feeds the same text to both, token
by token, and prints agreement of the logits for several precisions of the cache, and how many int8
activation codes differ before every linear layer. The text is drawn from the model itself (float
reference, temperature 0.8) unless a file is given.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from tamale import config as configuration
from tamale import isa

from tamale_model import checkpoint, imagefile
from tamale_model.machine import Job, Slot
from tamale_model.program import Compiler
from tamale_model.reference import LINEARS, FloatSession, Reference
from tamale_model.tokenizer import Tokenizer

__all__ = [
    "GATES",
    "Agreement",
    "device_config",
    "device_pass",
    "draw_text",
    "log_softmax",
    "measure",
    "reference_pass",
]

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
        Part of the int8 activation codes that differ, per linear layer, mean over layers.
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
        reference, device = (
            log_softmax(np.concatenate(expected)),
            log_softmax(np.concatenate(actual)),
        )
        here = np.cumsum([0] + [len(s) for s in segments])
        inside = np.concatenate(
            [np.arange(a, b - 1) for a, b in zip(here[:-1], here[1:], strict=True)]
        )
        following = np.concatenate([np.asarray(s)[1:] for s in segments])
        xent = -reference[inside, following].mean()
        return cls(
            tokens=len(reference),
            argmax=float((reference.argmax(1) == device.argmax(1)).mean()),
            kl=float((np.exp(reference) * (reference - device)).sum(axis=1).mean()),
            xent=float(xent),
            delta_xent=float(-device[inside, following].mean() - xent),
            codes=codes or {},
        )

    @property
    def met(self):
        """Whether `GATES` are met."""
        return (
            self.argmax >= GATES["argmax"]
            and self.kl <= GATES["kl"]
            and abs(self.delta_xent) <= GATES["delta_xent"]
        )


def log_softmax(logits):
    """Return the float64 logarithms of the probabilities of logits [n, vocabulary]."""
    logits = np.asarray(logits, dtype=np.float64)
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def draw_text(model, tokens, *, segment=256, seed=1, temperature=0.8):
    """Return segments (lists of tokens, ``tokens`` in all) that the float reference wrote."""
    start = model.graph.bos if model.graph.bos is not None else 0
    sizes = [min(segment, tokens - first) for first in range(0, tokens, segment)]
    segments = []
    for i, size in enumerate(sizes):
        session = FloatSession(
            model, temperature=temperature, seed=seed + i, context=size, stop_tokens=()
        )
        made = [step.token for step in session.generate([[start]], size - 1)]
        segments.append([start, *made][:size])
    return segments


def reference_pass(model, segments):
    """Return (logits, codes) of the float reference.

    Returns
    -------
    logits : list of float32 array [n, vocabulary]
        One per segment.
    codes : dict of (int, str) to int8 array [tokens, k]
        Activation codes before every linear layer, by (layer, name).
    """
    codes = {}

    def observe(layer, name, values, sums):
        codes.setdefault((layer, name), []).append(values.astype(np.int8))

    reference, logits = Reference(model, observe), []
    for tokens in segments:
        cache = reference.cache(len(tokens))
        for first in range(0, len(tokens), 64):
            x = reference.forward(tokens[first : first + 64], cache, first)
            logits.append(reference.logits(x))
    # Chunks of a segment follow each other, so that the order is that of the text either way.
    lengths = np.cumsum([len(tokens) for tokens in segments])[:-1]
    logits = np.split(np.concatenate(logits), lengths)
    return logits, {key: np.concatenate(parts) for key, parts in codes.items()}


def device_config(model, base, context, *, key_planes, value_planes, head_planes):
    """Return ``base`` with other precisions and as many vectors and sizes as ``model`` allows.

    Vectors, context and buffer sizes change how many tokens a pass takes, not the numbers.
    """
    graph = model.graph
    planes = max(getattr(layer, name).planes for layer in model.layers for name in LINEARS)
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
    """Return the device's float32 logits [n, vocabulary] of each segment.

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

    def trace(pc, op, fields, layer, slot):
        if pc not in names:
            return
        linear = getattr(model.layers[layer], names[pc])
        k = linear.shape[1]
        groups, width = fields["groups"], fields["steps"] * config.tile_k
        first = fields["act"] * config.tile_k
        codes = machine.activation[: len(machine_job.slots), first : first + groups * width]
        codes = codes.reshape(-1, groups, width)[:, :, : linear.group_size or k]
        observe(layer, names[pc], codes.reshape(len(codes), -1)[:, :k].copy())

    result = []
    for tokens in segments:
        rows = []
        for first in range(0, len(tokens), config.vectors):
            part = tokens[first : first + config.vectors]
            slots = [Slot(t, first + i, image.kv_base) for i, t in enumerate(part)]
            machine_job = Job(slots, True)
            logits = machine.run(machine_job, trace if observe else None)
            for i, row in enumerate(logits):
                unit = float(machine.scalar(image.fields["logit_scalar"], i))
                rows.append((row * unit).astype(np.float32))
        result.append(np.stack(rows))
    return result


def measure(model, config, segments, expected=None):
    """Return the `Agreement` of the device of ``config`` with the float reference on a text.

    Parameters
    ----------
    model : Model
    config : Config
    segments : list of list of int
        Each starts a sequence.
    expected : tuple, optional
        What `reference_pass` returned for the same segments, to save its time.
    """
    logits, codes = expected or reference_pass(model, segments)
    context = max(len(tokens) for tokens in segments)
    wrong, seen = dict.fromkeys(LINEARS, 0), dict.fromkeys(LINEARS, 0)
    done = {}

    def observe(layer, name, values):
        first = done.get((layer, name), 0)
        want = codes[layer, name][first : first + len(values)]
        done[layer, name] = first + len(values)
        wrong[name] += int((values != want).sum())
        seen[name] += want.size

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        imagefile.build(config, model, path, context)
        image = imagefile.load(path)
    actual = device_pass(image, config, model, segments, observe)
    return Agreement.of(
        segments, logits, actual, {name: wrong[name] / seen[name] for name in LINEARS}
    )


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
    for name in LINEARS:
        table.add_row(
            f"codes that differ: {name}", *(f"{r.codes[name]:.2%}" for r in results.values())
        )
    Console().print(table)


def main(arguments=None):
    """Run the command; return 0 if the gates of five trits are met, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m tamale_model.fidelity", description=__doc__)
    parser.add_argument("model", help="folder of a Hugging Face BitNet checkpoint")
    parser.add_argument("--tokens", type=int, default=1536, help="length of the text")
    parser.add_argument("--segment", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--text", type=Path, help="file to read instead of drawing from the model")
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (code, tile)")
    parser.add_argument(
        "--cache", type=int, nargs="+", default=[5, 3, 2], help="trits of the cache"
    )
    parser.add_argument("--head", type=int, default=5, help="trits of embedding and head")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.tokens < 2 or options.segment < 2:
        parser.error("--tokens and --segment must be 2 or more")
    try:
        model = checkpoint.read(options.model)
        base = configuration.load(options.config)
        if options.text:
            if model.tokenizer is None:
                parser.error("the model has no tokenizer.json, which --text needs")
            tokens = Tokenizer(model.tokenizer).encode(options.text.read_text())[: options.tokens]
            segments = [
                tokens[i : i + options.segment] for i in range(0, len(tokens), options.segment)
            ]
        else:
            segments = draw_text(model, options.tokens, segment=options.segment)
        segments = [s for s in segments if len(s) > 1]
        expected = reference_pass(model, segments)
        results = {}
        for planes in options.cache:
            config = device_config(
                model, base, max(map(len, segments)),
                key_planes=planes, value_planes=planes, head_planes=options.head,
            )  # fmt: skip
            results[planes] = measure(model, config, segments, expected)
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
