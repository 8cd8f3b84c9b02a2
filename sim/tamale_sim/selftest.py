"""Known answers of a board: memory, tokens, and one digest that the golden model has too."""

import dataclasses
import hashlib

import numpy as np
from tamale_model.session import GoldenSession

from .conversation import BoardError
from .protocol import Record

__all__ = [
    "Answers", "KnownRun", "MemoryResult", "board_answers", "check_memory", "golden_answers",
    "runs",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class KnownRun:
    """A generation whose outcome is known.

    Attributes
    ----------
    name : str
    prompts : list of list of int
    tokens : int
    sampling : tuple of (float, int, int)
        Temperature, top-k, seed.
    """

    name: str
    prompts: list
    tokens: int
    sampling: tuple = (0.0, 0, 0)


@dataclasses.dataclass
class Answers:
    """What a board, or the golden model, made of the runs.

    Attributes
    ----------
    tokens : dict of str to list of list of int
        New tokens of each sequence, by run.
    units : dict of str to list of (int, int)
        Value of a logit unit, mantissa and exponent, of each slot of each job with a head.
    cycles : dict of str to int
        Clock cycles of the accelerator, where they were measured.
    """

    tokens: dict = dataclasses.field(default_factory=dict)
    units: dict = dataclasses.field(default_factory=dict)
    cycles: dict = dataclasses.field(default_factory=dict)

    def lines(self, image, config):
        """Return what the digest is made of, as lines of text."""
        lines = [
            "tamale selftest 1",
            f"configuration {config.name}",
            f"model {image.name} {image.fields['payload_crc']:08x}",
        ]
        for name in self.tokens:
            for sequence, tokens in enumerate(self.tokens[name]):
                lines.append(f"{name} sequence {sequence} tokens {' '.join(map(str, tokens))}")
            units = " ".join(f"{m}*2^{e}" for m, e in self.units[name])
            lines.append(f"{name} units {units}")
        return lines

    def digest(self, image, config):
        """Return the SHA-256 of the lines, each ended by a newline, in hexadecimal digits."""
        text = "".join(f"{line}\n" for line in self.lines(image, config))
        return hashlib.sha256(text.encode()).hexdigest()


def runs(image, config, tokens=6):
    """Return the runs for an image: they use every vector, prefill, sampling and parallel decode.

    Parameters
    ----------
    image : Image
    config : Config
    tokens : int
        New tokens of a sequence.
    """
    fields = image.fields
    rng = np.random.default_rng(2026)
    room = fields["context"] - tokens
    sequences = max(1, min(config.vectors, 4))
    lengths = [min(room, 2 * config.vectors + 1)] + [min(room, 3 + s) for s in range(sequences)]
    prompts = [rng.integers(0, fields["vocabulary"], n).tolist() for n in lengths]
    return [
        KnownRun("greedy", prompts[:1], tokens),
        KnownRun("parallel", prompts[1:], tokens, (1.0, 0, 7)),
    ]


def golden_answers(image, config, known):
    """Return the golden model's `Answers`."""
    answers = Answers()
    for run in known:
        temperature, top_k, seed = run.sampling
        session = GoldenSession(
            image, config, len(run.prompts), temperature=temperature, top_k=top_k, seed=seed
        )
        tokens, units = [[] for _ in run.prompts], []
        compute = session.machine.run

        def record(job, units=units, session=session, compute=compute):
            logits = compute(job)
            if logits is not None:
                for slot in range(len(job.slots)):
                    unit = session.machine.scalar(image.fields["logit_scalar"], slot)
                    units.append((unit.mantissa, unit.exponent))
            return logits

        session.machine.run = record
        for step in session.generate(run.prompts, run.tokens):
            if step.token is not None:
                tokens[step.sequence].append(step.token)
        answers.tokens[run.name], answers.units[run.name] = tokens, units
    return answers


def board_answers(board, known, progress=None):
    """Return a board's `Answers`.

    Parameters
    ----------
    board : Conversation
        Idle, with the image.
    known : list of KnownRun
    progress : callable, optional
        Called with (tokens so far, tokens at most).
    """
    answers, count = Answers(), 0
    most = sum(run.tokens * len(run.prompts) for run in known)
    for run in known:
        tokens, units, cycles = [[] for _ in run.prompts], [], 0
        for event in board.run(run.prompts, run.tokens, sampling=run.sampling):
            if not isinstance(event, Record):
                continue
            if event.kind == "job":
                units += zip(event.numbers("m"), event.numbers("e"), strict=True)
                cycles += int(event["cycles"])
            elif event.kind == "token":
                tokens[int(event["sequence"])].append(int(event["id"]))
                count += 1
                if progress:
                    progress(count, most)
        answers.tokens[run.name], answers.units[run.name] = tokens, units
        answers.cycles[run.name] = cycles
    return answers


@dataclasses.dataclass
class MemoryResult:
    """What the board's memory test found.

    Attributes
    ----------
    bytes : int
        That were tested cell by cell; the lines are those of the whole memory.
    errors : int
    first : dict of str to int or None
        ``address``, ``has``, ``wants`` of the first error.
    """

    bytes: int
    errors: int
    first: dict | None

    def sentence(self):
        """Return what it means."""
        if not self.errors:
            return f"{self.bytes:,} bytes, no error"
        address, has, wants = (self.first[name] for name in ("address", "has", "wants"))
        bits = [i for i in range(32) if (has ^ wants) >> i & 1]
        return (
            f"{self.errors:,} words are wrong, the first at {address:#010x}: {has:#010x} where "
            f"{wants:#010x} was written (data bits {', '.join(map(str, bits))})"
        )


def check_memory(board, size, seed=1, progress=None):
    """Run the board's memory test; the board is without an image afterwards.

    Parameters
    ----------
    board : Conversation
    size : int
        Bytes to test cell by cell, a multiple of 4.
    seed : int
        Of the patterns.
    progress : callable, optional
        Called with (bytes so far, bytes in all), four walks through the memory.

    Returns
    -------
    MemoryResult
    """
    board.send(f"memtest {size} {seed}")
    result = None
    for event in board.events_to_idle():
        if not isinstance(event, Record):
            continue
        if event.kind == "waiting":
            board.state = event
        elif event.kind == "testing" and progress:
            progress(int(event["walk"]) * size + int(event["bytes"]), 4 * size)
        elif event.kind == "tested":
            errors = int(event["errors"])
            first = None
            if errors:
                first = {name: int(event[name]) for name in ("address", "has", "wants")}
            result = MemoryResult(int(event["bytes"]), errors, first)
    if result is None or result.bytes != size:
        raise BoardError("the memory test was interrupted")
    return result
