"""Small systems and models for the tests of whole boards, and the golden model to compare with."""

import dataclasses
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from tamale.config import Config
from tamale.image import FIELDS, HEADER_BYTES
from tamale_model import imagefile, tokenizer
from tamale_model.session import GoldenSession
from tamale_sim import board as boards

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))

from random_models import random_model, random_tokens  # noqa: E402

__all__ = [
    "ERRORS", "FOUR", "MODEL", "ONE", "Run", "byte_tokenizer", "collect", "golden", "pack", "patch",
    "patch_program", "random_tokens", "run", "same_logits",
]  # fmt: skip

#: Four vectors, SDRAM with its timing, a CPU with its own clock.
FOUR = Config(
    name="four", vectors=4, vu_width=4, max_k=256, max_context=64, scratchpad_elements=8192,
    program_commands=256, fifo_beats=256, candidates=8, cpu_ram_bytes=36864, uart_baud=3_800_000,
    cpu_clock_hz=57_000_000, storage=True, memory_bytes=1 << 20,
)  # fmt: skip

#: One vector, so that values are swept twice; a wider beat, the other code, the sparse code beside
#: it, the ideal memory.
ONE = Config(
    name="one", bus_width=64, code="t4", sparse_code="s34", tile_rows=2, vectors=1,
    vu_width=2, max_k=256, max_context=64, key_planes=5, value_planes=2, scratchpad_elements=4096,
    program_commands=256, fifo_beats=128, candidates=32, cpu_ram_bytes=32768, uart_baud=5_000_000,
    memory="ideal", memory_bytes=1 << 20,
)  # fmt: skip

#: Byte addresses at which the ideal memory of configuration ONE gives errors; with `MODEL`, these
#: are the keys of positions 32 and 33 in the last layer; in a larger image they are weights.
ERRORS = range(0x8640, 0x8678)

#: Arguments of `random_model` for both.
MODEL = {
    "hidden": 44, "layers": 2, "heads": 4, "kv_heads": 2, "head_size": 16, "feed_forward": 72,
    "vocabulary": 70, "context": 48,
}  # fmt: skip

_BYTES = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def byte_tokenizer(count):
    """Return the text of a ``tokenizer.json`` in which token n is the byte n."""
    alphabet = {byte: character for character, byte in tokenizer._ALPHABET.items()}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "ByteLevel", **_BYTES},
            "decoder": {"type": "ByteLevel", **_BYTES},
            "model": {
                "type": "BPE", "vocab": {alphabet[n]: n for n in range(count)}, "merges": [],
            },
        }
    )  # fmt: skip


_WORD = {name: 4 * i for i, (name, _) in enumerate(FIELDS)}


def pack(config, path, *, seed=1, stop=(), **changes):
    """Pack a random model into ``path``; return the `Image`."""
    model = random_model(seed, **(MODEL | changes))
    if stop:
        model = dataclasses.replace(model, graph=dataclasses.replace(model.graph, eos=tuple(stop)))
    imagefile.build(config, model, path)
    return imagefile.load(path)


def _seal(data):
    """Make both checksums of an image right."""
    struct.pack_into("<I", data, _WORD["payload_crc"], zlib.crc32(data[HEADER_BYTES:]))
    struct.pack_into("<I", data, _WORD["header_crc"], 0)
    struct.pack_into("<I", data, _WORD["header_crc"], zlib.crc32(data[:HEADER_BYTES]))


def patch(source, path, **fields):
    """Write a copy of an image with other header fields and valid checksums."""
    data = bytearray(Path(source).read_bytes())
    for name, value in fields.items():
        struct.pack_into("<I", data, _WORD[name], value)
    _seal(data)
    path.write_bytes(data)
    return path


def patch_program(source, path, index, word):
    """Write a copy of an image with another command and valid checksums."""
    data = bytearray(Path(source).read_bytes())
    at = struct.unpack_from("<I", data, _WORD["program_offset"])[0] + 16 * index
    data[at : at + 16] = word.to_bytes(16, "little")
    _seal(data)
    path.write_bytes(data)
    return path


@dataclasses.dataclass
class Run:
    """What a generation gave.

    ``jobs`` has (slots, integer logits or None) of each job with a head.
    """

    tokens: list
    jobs: list
    reasons: dict
    events: list = dataclasses.field(default_factory=list)


def golden(image, config, prompts, tokens, *, sampling=(0.0, 0, 0), all_logits=False):
    """Return the `Run` of the golden machine."""
    temperature, top_k, seed = sampling
    session = GoldenSession(
        image, config, len(prompts), temperature=temperature, top_k=top_k, seed=seed,
        all_logits=all_logits,
    )  # fmt: skip
    result = Run([[] for _ in prompts], [], {})
    compute = session.machine.run

    def record(job):
        logits = compute(job)
        if logits is not None:
            result.jobs.append((len(job.slots), logits.copy()))
        return logits

    session.machine.run = record
    for step in session.generate(prompts, tokens):
        if step.token is not None:
            result.tokens[step.sequence].append(step.token)
    for s, made in enumerate(result.tokens):
        if made[-1] in image.stop_tokens:
            result.reasons[s] = "stop"
        else:
            result.reasons[s] = "length" if len(made) == tokens else "context"
    return result


def run(board, prompts, tokens, *, after=None, **options):
    """Return the `Run` of a board; its logits come from `Board.logits` after the board's end.

    ``after`` is called with the number of tokens so far, after each.
    """
    return collect(board.run(prompts, tokens, **options), len(prompts), after)


def collect(events, sequences, after=None):
    """Return the `Run` of a generation's events."""
    result = Run([[] for _ in range(sequences)], [], {})
    for event in events:
        result.events.append(event)
        if isinstance(event, boards.Text):
            continue
        if event.kind == "job" and event["head"] == "1":
            result.jobs.append((int(event["slots"]), None))
        elif event.kind == "token":
            result.tokens[int(event["sequence"])].append(int(event["id"]))
            if after:
                after(sum(map(len, result.tokens)))
        elif event.kind == "done":
            result.reasons[int(event["sequence"])] = event["reason"]
            assert int(event["tokens"]) == len(result.tokens[int(event["sequence"])])
    return result


def same_logits(board, image, runs, expected):
    """Assert that every logit of a closed board's runs equals those of the golden runs.

    A run that was interrupted may have fewer jobs.
    """
    vocabulary = image.fields["vocabulary"]
    recorded = board.logits([slots for r in runs for slots, _ in r.jobs], vocabulary)
    wanted = [job for r, e in zip(runs, expected, strict=True) for job in e.jobs[: len(r.jobs)]]
    for i, (own, (_, other)) in enumerate(zip(recorded, wanted, strict=True)):
        np.testing.assert_array_equal(own, other, err_msg=f"logits of job {i} with a head")
    # Nothing was recorded that no job reported.
    assert (board.recorded_rows < vocabulary).sum() == vocabulary * sum(len(j) for j in recorded)


def same_demonstration(executable, packed, config):
    """Compare three tokens of a packed model on a board with golden ones; return a token's cycles.

    ``packed`` is the image and its path.
    """
    image, path = packed
    prompt = np.random.default_rng(3).integers(0, image.fields["vocabulary"], 3).tolist()
    with boards.Board(executable, config, path) as board:
        own = run(board, [prompt], 3)
        counters = board.stats()
    expected = golden(image, config, [prompt], 3)
    assert own.tokens == expected.tokens
    same_logits(board, image, [own], [expected])
    assert board.summary["violation"] == 0
    cycles = counters["cycles"] / counters["jobs"]
    print(f"{cycles:,.0f} cycles a token, {config.clock_hz / cycles:.2f} a second")
    return cycles
