"""The host's side of a conversation with a board, whatever the bytes go through."""

import secrets
import time

from .link import LinkError
from .messages import explain
from .protocol import (
    PROTOCOL,
    Record,
    RecordParser,
    Text,
    TextOption,
    commands,
    prompt_lines,
    text_lines,
)  # fmt: skip

__all__ = ["BoardError", "Conversation"]

#: Seconds for an answer to the greeting, one try after the other. A board that was left in the
#: middle of a load listens at its usual speed again after two seconds without a byte.
_GREETINGS = (0.3, 0.5, 4.5, 0.5, 5.5, 1.0)

#: Seconds without a byte after which a board that owes an answer counts as dead; the checksum of an
#: image of a gigabyte takes six.
_SILENCE = 60


class BoardError(LinkError):
    """The board reported a fault or an error, or is gone; the message says which.

    Parameters
    ----------
    message : str
    record : Record, optional
        What the board said.
    """

    def __init__(self, message, record=None):
        super().__init__(message)
        self.record = record


class Conversation:
    """Talks with a board.

    Parameters
    ----------
    link : Link

    Attributes
    ----------
    state : Record or None
        Last record ``ready`` or ``waiting``.
    errors : list of BoardError
        Why an image that was found while booting or after loading is not used.
    text_cycles : int
        Clock cycles that the firmware took to make tokens of texts.

    Raises
    ------
    BoardError
        From any method, when the board reports an error or stops. After an error or fault of a
        running board it waits for the next command.
    """

    def __init__(self, link):
        self.link = link
        self._parser = RecordParser()
        self._pending = []
        self._said = b""
        self._idle = False
        self.state, self.errors = None, []
        self.text_cycles = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def ready(self):
        """The record ``ready`` of a board with a model, else None."""
        return self.state if self.state is not None and self.state.kind == "ready" else None

    def listen(self):
        """Take the records of a board that boots, or ends a load, up to its ``idle``."""
        self.errors = []
        for event in self._events():
            if isinstance(event, Text):
                continue
            if event.kind in ("error", "fault"):
                self.errors.append(BoardError(explain(event), event))
            elif event.kind in ("ready", "waiting"):
                self.state = event
            elif event.kind == "idle":
                return

    def greet(self, note=None):
        """Find out what a board that runs already is about, whatever it was doing.

        Parameters
        ----------
        note : callable, optional
            Called with a line when the board takes long to answer.
        """
        first = secrets.randbelow(1 << 30)
        for attempt, seconds in enumerate(_GREETINGS):
            if attempt == 2 and note:
                note("no answer yet; the board may still wait for the rest of an image")
            # Ctrl-C ends a generation, the newline what was left of a line. The number tells the
            # answer to this greeting from late ones to those before.
            self.send_bytes(b"\x03\nhello %d\n" % (first + attempt))
            limit = time.monotonic() + seconds * (60 if self.link.simulated else 1)
            known = False
            for event in self._events(limit):
                if event is None:
                    break
                if isinstance(event, Text):
                    continue
                fields = dict(event.fields)
                if fields.get("hello") == str(first + attempt):
                    self.state, known = event, True
                    if fields["protocol"] != PROTOCOL:
                        raise BoardError(
                            f"the board speaks protocol {fields['protocol']}, this program "
                            f"{PROTOCOL}; build its bitstream with this version (`tamale build`)"
                        )
                elif event.kind == "idle" and known:
                    return
        raise BoardError(
            f"no answer from the board at {self.link.baud} bits per second: is it the right port, "
            "has the FPGA the Tamale bitstream (`tamale flash`), and was that built with this "
            "uart_baud (--baud)?"
        )

    def send(self, line):
        """Send a command line, str or bytes."""
        self._idle = False
        self.send_bytes((line.encode() if isinstance(line, str) else line) + b"\n")

    def send_bytes(self, data):
        """Send bytes as they are."""
        try:
            self.link.write(data)
        except LinkError as error:
            raise BoardError(str(error)) from None

    def interrupt(self):
        """Send Ctrl-C: generation ends after the current job."""
        self.send_bytes(b"\x03")

    def _events(self, limit=None):
        """Yield `Text` and `Record` as they come; None once ``limit`` (monotonic) is reached."""
        while True:
            while self._pending:
                event = self._pending.pop(0)
                if isinstance(event, Text):
                    # The last words of a firmware that dies are text.
                    self._said = (self._said + event.data)[-200:]
                self._idle = isinstance(event, Record) and event.kind == "idle"
                yield event
            left = None if limit is None else limit - time.monotonic()
            if left is not None and left <= 0:
                yield None
                continue
            # A simulation ends by itself when nothing moves.
            data = self.link.read(
                None if left is None and self.link.simulated else left or _SILENCE
            )
            if data == b"" and left is None:
                raise BoardError(
                    f"the board has not said a word for {_SILENCE} seconds; "
                    "press its reset button or load the bitstream again (`tamale flash`)"
                )
            if data is None:
                said = self._said.decode(errors="replace").strip()
                raise BoardError(str(self.link.ended(said)))
            self._pending.extend(self._parser.feed(data))

    def next_record(self, seconds):
        """Return the next record, whatever its kind, None if none comes within that time."""
        for event in self._events(time.monotonic() + seconds):
            if not isinstance(event, Text):
                return event

    def events(self):
        """Yield `Text` and `Record` as they come; errors and faults raise BoardError."""
        for event in self._events():
            if isinstance(event, Record) and event.kind in ("error", "fault"):
                error = BoardError(explain(event), event)
                # What follows belongs to the command that failed.
                for rest in self._events():
                    if isinstance(rest, Record) and rest.kind == "idle":
                        break
                raise error
            yield event

    def expect(self, kind):
        """Return the next record of a kind; text and other records before it are dropped."""
        for event in self.events():
            if isinstance(event, Record) and event.kind == kind:
                return event
            if isinstance(event, Record) and event.kind == "idle":
                raise BoardError(f"the board waits for a command where a record {kind!r} was due")

    def run(self, prompts, tokens, **options):
        """Start a generation and yield its events up to the end; options are those of `start`.

        Yields
        ------
        Text, or Record of kind ``job``, ``token``, ``done``
        """
        self.start(prompts, tokens, **options)
        yield from self.events_to_idle()

    def start(
        self, prompts, tokens, *, sampling=(0.0, 0, 0), all_logits=False,
        text_options=TextOption.SPECIAL, cached=(),
    ):  # fmt: skip
        """Start a generation; its events are `events_to_idle`.

        Parameters
        ----------
        prompts : list of list of int or str
            Tokens, and texts that the board makes tokens of.
        cached : sequence of int
            Positions that the caches hold already, see `protocol.commands`.

        Returns
        -------
        list of list of int
            What the board made of each prompt's texts.
        """
        made = [[] for _ in prompts]
        for line in commands(prompts, tokens, sampling, all_logits, text_options, cached):
            self.send(line)
            if not line.startswith(b"generate"):
                self._tokens(made)
        return made

    def tokenise(self, text, sequence=0, options=TextOption.SPECIAL):
        """Append a text to the prompt of a sequence; return its tokens."""
        made = {sequence: []}
        for line in text_lines(sequence, text, options):
            self.send(line)
            self._tokens(made)
        return made[sequence]

    def _tokens(self, made):
        """Add the tokens that a command's answer has to those of their sequence."""
        for event in self.events_to_idle():
            if isinstance(event, Record) and event.kind == "tokens":
                made[int(event["sequence"])] += event.numbers("id")
                self.text_cycles += int(event["cycles"])

    def events_to_idle(self):
        """Yield the events up to the end of a command."""
        for event in self.events():
            if isinstance(event, Record) and event.kind == "idle":
                return
            yield event

    def command_done(self, line):
        """Send a line and wait for the end of the command; what it answers is dropped."""
        self.send(line)
        for _ in self.events_to_idle():
            pass

    def prompt(self, sequence, tokens):
        """Append tokens to the prompt of a sequence."""
        for line in prompt_lines(sequence, tokens):
            self.command_done(line)

    def command(self, line, kind):
        """Send a line that is answered by one record of a kind; return that."""
        self.send(line)
        record = self.expect(kind)
        self.expect("idle")
        return record

    def stats(self):
        """Return the performance counters, a dict of name to number."""
        return {name: int(value) for name, value in self.command("stats", "stats").fields}

    def close(self):
        """End the conversation; the board stays as it is."""
        self.link.close()
