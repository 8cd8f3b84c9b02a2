"""Tokens on the simulated board: cycles, useful bytes, and what every cycle was spent on."""

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
from tamale_model import integer, machine, packing, sampling
from tamale_model import session as golden
from tamale_model.cycles import predict
from tamale_model.session import GoldenSession

from .. import activity
from .. import board as boards
from ..activity import IDLE_CAUSES, UNITS, Activity
from ..generation import peak_bytes_per_cycle
from ..protocol import Record
from . import kept

__all__ = ["Decode", "measure"]


@dataclasses.dataclass
class Decode:
    """Means over decoded tokens, one sequence.

    A token's time is from the end of one head to the end of the next, so that what the firmware
    needs for sampling is in it.

    Parameters
    ----------
    context : int
        Positions in the cache, of the last token.
    cycles, head_cycles : float
        Of a token, and of its head.
    predicted : float
        Cycles of the job by the cycle model, ``job_cycles`` those that the hardware counted.
    job_cycles : float
    useful_bytes, useful_head_bytes : float
        Each tensor once at its stated code, scales included.
    peak : float
        Bytes that the memory can move in a cycle.
    shares : dict of str to float
        Share of the token's time: ``data``, ``refresh``, each cause of idling, each unit.
    prefill_cycles : float
        Per prompt token, heads excluded; 0 if there was no prompt of more than one token.
    tokens : int
        How many were compared with the golden model, all equal.
    bins : array [n, len(Activity)]
        Recording of the last token.
    """

    context: int
    cycles: float
    head_cycles: float
    predicted: float
    job_cycles: float
    useful_bytes: float
    useful_head_bytes: float
    peak: float
    shares: dict
    prefill_cycles: float
    tokens: int
    bins: np.ndarray = dataclasses.field(repr=False)

    def save(self, path):
        """Write it to a file."""
        values = dataclasses.asdict(self)
        part = Path(path).with_suffix(".part.npz")
        bins = values.pop("bins")
        np.savez_compressed(part, bins=bins, values=json.dumps(values))
        part.replace(path)

    @classmethod
    def load(cls, path):
        """Read it again."""
        with np.load(path) as found:
            return cls(**json.loads(str(found["values"])), bins=found["bins"])

    @property
    def roofline(self):
        """Useful bytes over what the memory could have moved."""
        return self.useful_bytes / (self.cycles * self.peak)

    @property
    def layers_roofline(self):
        """The same without the head."""
        size = self.useful_bytes - self.useful_head_bytes
        return size / ((self.cycles - self.head_cycles) * self.peak)

    @property
    def head_roofline(self):
        """The same of the head alone."""
        return self.useful_head_bytes / (self.head_cycles * self.peak)

    @property
    def idle(self):
        """Share of the token's time in which the memory is idle for any cause but refresh."""
        return 1 - self.shares["data"] - self.shares["refresh"]

    @property
    def stream(self):
        """Words per cycle while the stream runs: refreshes and waits for the executor aside."""
        runs = 1 - self.shares["refresh"] - self.shares["idle_fifo_full"]
        return self.shares["data"] / (runs - self.shares["between_jobs"])

    @property
    def prediction_error(self):
        """Relative error of the cycle model."""
        return self.predicted / self.job_cycles - 1

    @property
    def prefill_gain(self):
        """How much faster a prompt token is than a decoded one; None without a prompt."""
        return self.cycles / self.prefill_cycles if self.prefill_cycles else None


def measure(config, image, file, *, start=0, prompt=33, tokens=4, progress=None):
    """Decode a few tokens on the simulated board, comparing each with the golden model.

    Parameters
    ----------
    config : Config
    image : Image
    file : path
        Its file.
    start : int
        Positions that the cache holds from the golden model when the board starts; 0: the board
        reads a prompt by itself.
    prompt : int
        Tokens of that prompt.
    tokens : int
        New tokens; the first is not measured, for it ends the prompt.
    progress : callable, optional
        Called with lines of text.

    Returns
    -------
    Decode

    Raises
    ------
    RuntimeError
        If a token differs from the golden model's.
    """
    if tokens < 2:
        raise ValueError(f"tokens must be 2 or more, for the first ends the prompt, not {tokens}")
    vocabulary = image.fields["vocabulary"]
    size = start or prompt
    if size + tokens > image.fields["context"]:
        raise ValueError(
            f"{size} positions and {tokens} new tokens exceed the context of "
            f"{image.fields['context']}; pack the model with a larger one or measure fewer"
        )
    text = [int(t) for t in np.random.default_rng(1).integers(0, vocabulary, size)]
    executable = boards.build(config, progress=progress)
    session = GoldenSession(image, config, 1)
    with tempfile.TemporaryDirectory(prefix="tamale.") as folder:
        memory, recording = Path(folder) / "memory.bin", Path(folder) / "activity.bin"
        if start:
            cache, first = _cache(config, image, file, text, progress)
            at = image.kv_base
            session.machine.memory[at : at + len(cache)] = cache
            session.machine.memory.tofile(memory)
            text = [first]
        else:
            memory = file
        steps = session.generate([text], tokens, cached=[start])
        expected = [step.token for step in steps if step.token is not None]
        if progress:
            progress(f"board decodes {tokens} tokens at {size} positions")
        with boards.Board(executable, config, memory, activity=recording) as board:
            events = [e for e in board.run([text], tokens, cached=[start]) if isinstance(e, Record)]
        bins = activity.jobs(activity.read(recording))
    made = [int(e["id"]) for e in events if e.kind == "token"]
    if made != expected[: len(made)] or len(made) < 2:
        raise RuntimeError(f"the board made the tokens {made}, the golden model {expected}")
    return _summary(config, image, events, bins, size, start, len(made))


def _cache(config, image, file, text, progress):
    """Return (bytes of the cache, next token) after the golden model has read a text.

    They are kept: two thousand tokens take minutes.
    """
    modules = (integer, machine, packing, sampling, golden)
    path = kept.path(
        "cache", image.name, config, text, Path(file).read_bytes(),
        sources=[module.__file__ for module in modules],
    )  # fmt: skip
    path = path.with_suffix(".npz")
    if not path.is_file():
        session = GoldenSession(image, config, 1)
        token = None
        for n, step in enumerate(session.generate([text], 1)):
            if progress and n % 64 == 0:
                progress(f"golden model has read {n * config.vectors} of {len(text)} tokens")
            token = step.token
        at, size = image.kv_base, image.fields["kv_sequence_bytes"]
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, cache=session.machine.memory[at : at + size], token=token)
        part.replace(path)
    with np.load(path) as found:
        return found["cache"], int(found["token"])


def _summary(config, image, events, bins, size, start, made):
    fields = image.fields
    jobs = [e for e in events if e.kind == "job"]
    # The first job with a head ends the prompt; the others decode, at positions size, ...
    decoded = jobs[1:]
    total = np.concatenate(bins[1:]).sum(axis=0, dtype=np.int64)
    cycles = sum(len(b) for b in bins[1:]) * activity.BIN_CYCLES / len(decoded)
    positions = [size + bool(start) + i for i in range(len(decoded))]
    slots = [machine.Job([machine.Slot(0, position, 0)]) for position in positions]
    predicted = [predict(config, image.program, job).cycles for job in slots]
    cache = np.mean(positions) + 1
    shares = {
        "data": total[Activity.MEMORY_DATA], "refresh": total[Activity.MEMORY_REFRESH],
        **{cause.name.lower(): total[cause] for cause in IDLE_CAUSES},
        **{unit.name.lower(): total[unit] for unit in UNITS},
    }  # fmt: skip
    shares["between_jobs"] = cycles * len(decoded) - total[Activity.JOB]
    prefill = 0.0
    if not start and size > 1:
        prefill = (int(jobs[0]["cycles"]) - int(jobs[0]["head_cycles"])) / size
    return Decode(
        context=positions[-1] + 1,
        cycles=cycles,
        head_cycles=float(np.mean([int(e["head_cycles"]) for e in decoded])),
        predicted=float(np.mean(predicted)),
        job_cycles=float(np.mean([int(e["cycles"]) for e in decoded])),
        useful_bytes=image.useful_bytes(cache),
        useful_head_bytes=fields["useful_head_bytes"],
        peak=peak_bytes_per_cycle(config),
        shares={name: float(value) / (cycles * len(decoded)) for name, value in shares.items()},
        prefill_cycles=prefill,
        tokens=made,
        bins=bins[-1],
    )
