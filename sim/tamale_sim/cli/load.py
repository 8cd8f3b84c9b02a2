"""`tamale load`: a memory image to a board over its serial port."""

import contextlib
import json
import sys

from ..loading import load
from ..models_cache import open_image
from .attach import add_board_options, attached, load_config, simulated

__all__ = ["add", "run", "transfer"]


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "load",
        help="a model to a board over its serial port",
        description="Brings a memory image to a board over the serial port and starts it. The "
        "memory keeps it until the power goes: an image that is there already is not sent again, "
        "and after an interruption the same command goes on where it stopped. Every block has a "
        "checksum, and the board checks the whole image at the end. To start without a computer, "
        "write the image to the flash (`tamale flash`) or copy it to an SD card as TAMALE.IMG.",
    )
    parser.add_argument(
        "model", nargs="?", help="image of `tamale pack`, or a checkpoint, which is packed first "
        "(default: the demonstration model)",
    )  # fmt: skip
    add_board_options(parser)
    parser.add_argument(
        "--baud", type=int, metavar="N", help="bits per second of the transfer; 0: that of the "
        "commands (default: the fastest that works, up to 3000000)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one object instead of text")
    parser.set_defaults(run=run)


@contextlib.contextmanager
def _bar(quiet):
    """Give a function that draws the progress of a load."""
    if quiet:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )  # fmt: skip

    columns = (
        TextColumn("tamale: loading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = None

        def draw(right, size):
            nonlocal task
            if task is None:
                # What is there already says nothing about the speed.
                task = progress.add_task("", total=size, completed=right)
            progress.update(task, completed=right)

        yield draw


def transfer(board, file, baud, quiet=False):
    """Load an image with a progress bar; return the `Loaded`."""
    with _bar(quiet) as progress:
        return load(board, file, baud=baud, progress=progress)


def run(args):
    """Run the command."""
    if args.baud is not None and not 0 <= args.baud <= 12_000_000:
        raise ValueError(f"--baud must be 0 to 12000000, not {args.baud}")
    config = load_config(args)
    if config.memory == "flash":
        raise ValueError(
            f"configuration {config.name} has its image in the flash, which a programmer writes: "
            "tamale flash --image FILE, of `tamale pack`"
        )
    note = None if args.json else lambda line: print(f"tamale: {line}", file=sys.stderr)
    if args.simulated:
        board, image, file = simulated(args, config, args.model, note, loaded=False)
    else:
        board = attached(args, config, note)
    with board:
        try:
            if not args.simulated:
                image, file = open_image(args.model, config, None, note)
                image.check(config)
            result = transfer(board, file, args.baud, quiet=args.json)
        except KeyboardInterrupt:
            if note:
                note("interrupted; the same command goes on where this one stopped")
            return 130
        ready = {name: value for name, value in board.state.fields}
    if args.json:
        print(
            json.dumps(
                {
                    "model": ready["model"],
                    "configuration": ready["configuration"],
                    "bytes": result.bytes,
                    "sent": result.sent,
                    "held": result.held,
                    "repeated_blocks": result.repeated,
                    "baud": result.baud,
                    "seconds": round(result.seconds, 3),
                    "bytes_per_second": round(result.rate),
                }
            )
        )
        return 0
    if not result.sent:
        note(f"the board held all {result.bytes:,} bytes of {ready['model']} already")
    else:
        line = (
            f"{result.sent:,} bytes in {result.seconds:.1f} s: {result.rate / 1e6:.2f} MB/s at "
            f"{result.baud:,} bits per second"
        )
        if result.held:
            line += f"; {result.held:,} bytes were there already"
        if result.repeated:
            line += f"; {result.repeated} blocks were sent again"
        note(line)
    note(f"{ready['model']} runs; talk with it: tamale console")
    return 0
