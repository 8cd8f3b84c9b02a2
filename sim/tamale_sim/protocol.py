"""The conversation with a board over its serial port; docs/user/protocol.md has the grammar."""

import dataclasses

__all__ = ["MAX_LINE_TOKENS", "Record", "RecordParser", "Text", "commands"]

_RECORD, _END = 0x1E, 0x0A

#: Prompt tokens that one command line carries.
MAX_LINE_TOKENS = 64


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


def commands(prompts, tokens, sampling, all_logits):
    """Yield the command lines that run prompts.

    Parameters
    ----------
    prompts : list of list of int
    tokens : int
        Most new tokens of each sequence.
    sampling : tuple of (float, int, int)
        Temperature, top-k, seed.
    all_logits : bool
    """
    temperature, top_k, seed = sampling
    yield "clear"
    for sequence, prompt in enumerate(prompts):
        for i in range(0, len(prompt), MAX_LINE_TOKENS):
            yield f"prompt {sequence} {' '.join(map(str, prompt[i : i + MAX_LINE_TOKENS]))}"
    yield (
        f"generate {len(prompts)} {tokens} {round(temperature * 65536)} {top_k} "
        f"{seed & 0xFFFFFFFF} {int(all_logits)}"
    )
