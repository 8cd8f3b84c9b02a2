"""The conversation with a board over its serial port; docs/user/protocol.md has the grammar."""

import dataclasses
import enum
import itertools

__all__ = [
    "MAX_LINE_BYTES", "MAX_LINE_TOKENS", "PROTOCOL", "Record", "RecordParser", "Text", "TextOption",
    "commands", "prompt_lines", "text_lines",
]  # fmt: skip

_RECORD, _END = 0x1E, 0x0A

#: Version that `ready` and `waiting` report.
PROTOCOL = "3"

#: Prompt tokens that one command line carries.
MAX_LINE_TOKENS = 64

#: Bytes of text that one command line carries.
MAX_LINE_BYTES = 256


class TextOption(enum.IntFlag):
    """Options of the command ``text``."""

    #: Names of special tokens in the text are those tokens.
    SPECIAL = 1
    #: The text goes on in another line.
    MORE = 2
    #: The text is in the form that the tokenizer's normalizer makes.
    NORMALISED = 4
    #: An empty prompt begins with the token that starts a text, if the model has one.
    START = 8


@dataclasses.dataclass(frozen=True)
class Text:
    """Bytes of generated text."""

    data: bytes


@dataclasses.dataclass(frozen=True)
class Record:
    """A record: a kind, and fields in order (names may repeat)."""

    kind: str
    fields: tuple[tuple[str, str], ...]

    def __getitem__(self, name):
        for key, value in self.fields:
            if key == name:
                return value
        raise KeyError(f"record {self.kind!r} has no field {name!r}: {dict(self.fields)!r}")

    def numbers(self, name):
        """Return every value of a repeated field as integers."""
        return [int(value) for key, value in self.fields if key == name]


class RecordParser:
    """Takes bytes from a board apart into `Text` and `Record`; a record that is cut off is lost."""

    def __init__(self):
        self._record = None

    def feed(self, data):
        """Yield what is complete after ``data``."""
        text = bytearray()
        for byte in data:
            if self._record is not None and byte != _RECORD:
                if byte == _END:
                    yield self._parse(bytes(self._record))
                    self._record = None
                else:
                    self._record.append(byte)
            elif byte == _RECORD:
                if text:
                    yield Text(bytes(text))
                    text.clear()
                self._record = bytearray()
            else:
                text.append(byte)
        if text:
            yield Text(bytes(text))

    @staticmethod
    def _parse(line):
        kind, *fields = line.decode(errors="replace").split(" ")
        return Record(kind, tuple(tuple(f.split("=", 1)) for f in fields if "=" in f))


def _escape(byte):
    if byte in b"\n\r\\":
        return {0x0A: b"\\n", 0x0D: b"\\r", 0x5C: b"\\\\"}[byte]
    return b"\\x%02x" % byte if byte < 0x20 else bytes([byte])


def text_lines(sequence, text, options=TextOption.SPECIAL):
    """Yield the command lines, as bytes, that append a text to the prompt of a sequence.

    Parameters
    ----------
    sequence : int
    text : str or bytes
    options : TextOption
    """
    data = text.encode() if isinstance(text, str) else text
    pieces, size = [], 0
    for byte in data:
        pieces.append(_escape(byte))
        size += len(pieces[-1])
        if size > MAX_LINE_BYTES - 4:
            yield b"text %d %d %s" % (sequence, options | TextOption.MORE, b"".join(pieces))
            pieces, size = [], 0
    yield b"text %d %d %s" % (sequence, options, b"".join(pieces))


def prompt_lines(sequence, tokens):
    """Yield the command lines, as bytes, that append tokens to the prompt of a sequence."""
    for i in range(0, len(tokens), MAX_LINE_TOKENS):
        numbers = " ".join(map(str, tokens[i : i + MAX_LINE_TOKENS]))
        yield f"prompt {sequence} {numbers}".encode()


def commands(prompts, tokens, sampling, all_logits, text_options=TextOption.SPECIAL, cached=()):
    """Yield the command lines, as bytes, that run prompts.

    Parameters
    ----------
    prompts : list of list of int or str
        Tokens, and texts that the board makes tokens of.
    tokens : int
        Most new tokens of each sequence.
    sampling : tuple of (float, int, int)
        Temperature, top-k, seed.
    all_logits : bool
    text_options : TextOption
    cached : sequence of int
        Positions that the cache of each sequence holds already; its prompt comes after them.
    """
    temperature, top_k, seed = sampling
    yield b"clear"
    for sequence, positions in enumerate(cached):
        if positions:
            yield b"cached %d %d" % (sequence, positions)
    for sequence, prompt in enumerate(prompts):
        for is_text, parts in itertools.groupby(prompt, lambda part: isinstance(part, str | bytes)):
            if is_text:
                for text in parts:
                    yield from text_lines(sequence, text, text_options)
                continue
            yield from prompt_lines(sequence, list(parts))
    yield (
        f"generate {len(prompts)} {tokens} {round(temperature * 65536)} {top_k} "
        f"{seed & 0xFFFFFFFF} {int(all_logits)}"
    ).encode()
