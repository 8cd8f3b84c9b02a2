"""`tamale console`: a terminal with the model on a board."""

import codecs
import contextlib
import sys
import time

from ..conversation import BoardError
from ..interrupts import stopping
from ..protocol import Record, Text, TextOption
from .attach import add_board_options, attached, load_config, simulated

__all__ = ["Console", "add", "run"]

_HELP = """\
Type a text and the model goes on with it; Ctrl-C stops it. An empty line lets it go on.
  /tokens N        most new tokens of an answer (now {tokens})
  /temperature T   0 always takes the likeliest token (now {temperature:g})
  /top-k K         draw from the K likeliest, 0 for all (now {top_k})
  /seed S          of the draws (now {seed})
  /stats           performance counters since the board started
  /board           what the board is and runs
  /help            this text
  /quit            leave; so does Ctrl-D. The board stays as it is
A text that begins with a slash: put a space before it."""


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "console",
        help="a terminal with the model on a board",
        description="Talks with a board that runs a model: type a text, and the model goes on with "
        "it as fast as it makes tokens. A board without a model needs one first: tamale load. "
        "Lines may also come from a pipe.",
        epilog="The text goes to the board as it is, which takes it apart with the model's own "
        "vocabulary. Commands begin with a slash; /help lists them.",
    )
    parser.add_argument(
        "model", nargs="?", help="checkpoint or image for --simulated (default: the demonstration "
        "model)",
    )  # fmt: skip
    add_board_options(parser)
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="of an answer, at most")
    parser.add_argument("--temperature", type=float, default=0.6, metavar="T", help="0 is greedy")
    parser.add_argument("--top-k", type=int, default=16, metavar="K", help="0: all candidates")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.set_defaults(run=run)


class Console:
    """Reads lines, obeys commands, shows what the model writes.

    Parameters
    ----------
    board : Conversation
        Idle, with a model.
    settings : dict
        ``tokens``, ``temperature``, ``top_k``, ``seed``.
    output, notes : text files, optional
        Where the model's text goes, and everything else: standard output and error.
    """

    #: Name of a setting, its type, what it may be.
    _SETTINGS = {
        "tokens": (int, lambda n: 1 <= n < 1 << 32, "1 or more"),
        "temperature": (float, lambda t: 0 <= t <= 65535, "0 to 65535"),
        "top_k": (int, lambda k: 0 <= k < 1 << 32, "0 or more"),
        "seed": (int, lambda s: 0 <= s < 1 << 32, "0 to 4294967295"),
    }

    def __init__(self, board, settings, output=None, notes=None):
        self._board = board
        self._output, self._notes = output or sys.stdout, notes or sys.stderr
        self._last = []  # new tokens that the prompt on the board does not have yet
        self._begun = False
        self._settings = {}
        for name, value in settings.items():
            self._set(name, str(value))

    def _note(self, text):
        print(text, file=self._notes)

    def _set(self, name, text):
        kind, good, values = self._SETTINGS[name]
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not good(value):
            raise ValueError(f"{name.replace('_', '-')} must be {values}, not {text!r}")
        self._settings[name] = value

    def obey(self, line):
        """Perform a line; return False if it ends the conversation."""
        command, _, rest = line.partition(" ")
        name = command[1:].replace("-", "_")
        if command == "/quit":
            return False
        if command == "/help":
            self._note(_HELP.format(**self._settings))
        elif command == "/board":
            self._note("  ".join(f"{k}={v}" for k, v in self._board.state.fields))
        elif command == "/stats":
            for key, value in self._board.stats().items():
                self._note(f"{key:18} {value:>15,}")
        elif command.startswith("/") and name in self._SETTINGS:
            try:
                self._set(name, rest.strip())
            except ValueError as error:
                self._note(f"tamale: {error}")
        elif command.startswith("/"):
            self._note(f"tamale: unknown command {command}; /help lists the commands")
        else:
            try:
                self._answer(line)
            except BoardError as error:
                if error.record is None:
                    raise
                self._note(f"tamale: {error}")
        return True

    def _answer(self, line):
        board, settings = self._board, self._settings
        if line:
            board.command_done("clear")
            board.tokenise(line, options=TextOption.SPECIAL | TextOption.START)
        elif not self._begun:
            self._note("tamale: type a text for the model to go on with; /help says more")
            return
        elif self._last:
            board.prompt(0, self._last)
        self._last, self._begun = [], True
        started, cycles, reason = time.monotonic(), 0, ""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        with stopping(board.interrupt):
            board.send(
                f"generate 1 {settings['tokens']} {round(settings['temperature'] * 65536)} "
                f"{settings['top_k']} {settings['seed']} 0"
            )
            self._output.write(line)
            for event in board.events_to_idle():
                if isinstance(event, Text):
                    self._output.write(decoder.decode(event.data))
                    self._output.flush()
                elif isinstance(event, Record) and event.kind == "token":
                    self._last.append(int(event["id"]))
                elif event.kind == "job":
                    cycles = int(event["cycles"])
                elif event.kind == "done":
                    reason = event["reason"]
        self._output.write(decoder.decode(b"", final=True) + "\n")
        self._output.flush()
        seconds, count = time.monotonic() - started, len(self._last)
        speed = (
            f"{cycles:,} cycles for the last one"
            if board.link.simulated
            else f"{count / max(seconds, 1e-9):.1f} a second"
        )
        self._note(f"[{count} tokens, {speed}, ended by {reason}]")

    def loop(self, lines):
        """Obey lines up to the end of the input."""
        for line in lines:
            if not self.obey(line.rstrip("\n")):
                return


def _lines():
    """Lines that are typed, or come from a pipe."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (history and editing of input())
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return


def run(args):
    """Run the command."""
    config = load_config(args)
    settings = {name: getattr(args, name) for name in Console._SETTINGS}

    def note(line):
        print(f"tamale: {line}", file=sys.stderr)

    if args.simulated:
        board, _, _ = simulated(args, config, args.model, note)
    elif args.model:
        raise ValueError(
            "a real board runs what was loaded: tamale load MODEL, then tamale console"
        )
    else:
        board = attached(args, config, note)
    with board:
        if not board.ready:
            raise BoardError("the board has no model yet; bring one: tamale load")
        if board.ready["text"] == "0":
            raise BoardError(
                "the board cannot take text apart: the image has no vocabulary for it, or "
                "cpu_ram_bytes of its configuration is too small (docs/user/protocol.md)"
            )
        console = Console(board, settings)
        note(
            f"{board.ready['model']} on {board.ready['configuration']}, "
            f"context {board.ready['context']}; /help lists commands"
        )
        try:
            console.loop(_lines())
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return 0
