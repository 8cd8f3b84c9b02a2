"""`tamale selftest`: does a board compute what the golden model computes?"""

import contextlib
import json
import sys

from .. import board as boards
from ..conversation import BoardError
from ..models_cache import open_image
from ..selftest import board_answers, check_memory, golden_answers, runs
from .attach import add_board_options, attached, load_config
from .load import transfer

__all__ = ["add", "run"]

#: Bytes that the simulated board tests cell by cell: simulations are slow.
_SIMULATED_BYTES = 1 << 14


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "selftest",
        help="memory, tokens and one digest of a board",
        description="Tests a board, or the simulated one: every data and address line and every "
        "cell of its memory, then known answers of the demonstration model. Every token and the "
        "scale of every logit go into one digest, which must be the one that the golden model "
        "gives on this machine. The report is text that can be pasted into a mail. The board "
        "loses what its memory held; afterwards the demonstration model is in it.",
    )
    parser.add_argument(
        "model", nargs="?", help="another image or checkpoint (default: the demonstration model)"
    )
    add_board_options(parser)
    parser.add_argument(
        "--tokens", type=int, default=6, metavar="N", help="of each sequence (default: 6)"
    )
    parser.add_argument(
        "--memory", type=int, metavar="BYTES", help="test so many bytes cell by cell, 0 for no "
        f"memory test (default: all; simulated: {_SIMULATED_BYTES})",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=1, help="of the memory's patterns")
    parser.add_argument("--baud", type=int, metavar="N", help="as for tamale load")
    parser.add_argument("--json", action="store_true", help="print one object instead of text")
    parser.set_defaults(run=run)


@contextlib.contextmanager
def _bar(what, quiet):
    """Give a function that draws progress."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(f"tamale: {what}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _memory(board, args, config, quiet):
    """Return the `MemoryResult`, None if it was not wanted or the firmware has no such test."""
    whole = int(board.state["memory"]) if not board.ready else config.memory_bytes
    size = args.memory
    if size is None:
        size = min(whole, _SIMULATED_BYTES) if args.simulated else whole
    if size == 0:
        return None
    try:
        with _bar("testing the memory", quiet) as progress:
            return check_memory(board, size, args.seed, progress)
    except BoardError as error:
        if error.record is not None and error.record["what"] == "unknown_command":
            return None
        raise


def _with_image(stack, board, args, config, file, quiet):
    """Return (board with the image in its memory, or None if that is bad; its `MemoryResult`)."""
    if config.memory == "flash":
        # Which is not written from here, and of which the board checks every byte when it starts.
        if board is None:
            executable = boards.build(config, progress=None if quiet else _note)
            board = stack.enter_context(boards.Board(executable, config, file))
        return board, None
    if board is None:
        executable = boards.build(config, progress=None if quiet else _note)
        with boards.Board(executable, config, None) as fresh:
            memory = _memory(fresh, args, config, quiet)
        # Loading over the simulated port takes hours; a fresh memory holds the image at once.
        return stack.enter_context(boards.Board(executable, config, file)), memory
    memory = _memory(board, args, config, quiet)
    if memory is not None and memory.errors:
        return None, memory
    transfer(board, file, args.baud, quiet)
    return board, memory


def _note(line):
    print(f"tamale: {line}", file=sys.stderr)


def _text(report):
    """Return the report as text."""
    memory = report["memory"]
    rows = [
        ("board", report["board"]),
        ("configuration", report["configuration"]),
        ("memory", "not tested" if memory is None else memory["text"]),
        ("model", report["model"]),
        ("tokens", report["tokens"]),
        ("digest", report["digest"]),
        ("golden model", report["golden_digest"]),
        ("result", "PASSED" if report["passed"] else "FAILED"),
    ]
    body = [f"{name:13} {value}" for name, value in rows if value is not None]
    return "\n".join(["---- tamale selftest ----", *body, "-------------------------"])


def _first_difference(own, other):
    """Return the first line of two lists that differs, as a sentence."""
    for a, b in zip(own, other, strict=True):
        if a != b:
            pairs = list(zip(a.split(), b.split(), strict=False))
            at = next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs))
            return (
                f"board: {' '.join(a.split()[: at + 1])}; golden: {' '.join(b.split()[: at + 1])}"
            )
    return None


def run(args):
    """Run the command."""
    config = load_config(args)
    if args.tokens < 1:
        raise ValueError(f"--tokens must be 1 or more, not {args.tokens}")
    if args.memory is not None and (args.memory < 0 or args.memory % 4):
        raise ValueError(f"--memory must be a multiple of 4 from 0, not {args.memory}")
    quiet = args.json
    note = None if quiet else _note
    with contextlib.ExitStack() as stack:
        # Whether there is a board shows before anything takes long.
        board = None if args.simulated else stack.enter_context(attached(args, config, note))
        image, file = open_image(args.model, config, None, note)
        image.check(config)
        known = runs(image, config, args.tokens)
        golden = golden_answers(image, config, known)
        board, memory = _with_image(stack, board, args, config, file, quiet)
        report = {
            "board": "simulated" if args.simulated else args.port or "serial port",
            "configuration": config.name,
            "model": f"{image.name} {image.fields['payload_crc']:08x}",
            "memory": None,
            "tokens": None,
            "digest": None,
            "golden_digest": golden.digest(image, config),
            "difference": None,
            "cycles": None,
        }
        if memory is not None:
            report["memory"] = {
                "bytes": memory.bytes, "errors": memory.errors, "first": memory.first,
                "text": memory.sentence(),
            }  # fmt: skip
        if board is not None:
            with _bar("known answers", quiet) as progress:
                answers = board_answers(board, known, progress)
            # The board says of itself what it is.
            config = config.replace(name=board.ready["configuration"])
            report |= {
                "configuration": config.name,
                "digest": answers.digest(image, config),
                "golden_digest": golden.digest(image, config),
                "tokens": sum(len(t) for run in answers.tokens.values() for t in run),
                "difference": _first_difference(
                    answers.lines(image, config), golden.lines(image, config)
                ),
                "cycles": answers.cycles,
            }
    good_memory = memory is None or not memory.errors
    report["passed"] = good_memory and report["digest"] == report["golden_digest"]
    if args.json:
        print(json.dumps(report))
    else:
        print(_text(report))
        if report["difference"]:
            print(f"first difference: {report['difference']}")
    return 0 if report["passed"] else 1
