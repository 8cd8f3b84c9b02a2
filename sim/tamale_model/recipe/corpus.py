"""Tokenised texts: streams of token numbers, and the windows that training and evaluation read."""

import numpy as np

from . import texts
from .tokenizer import BOS, EOS, train_tokenizer

WITHOUT_BOS = 0.1
"""Share of training windows that do not begin with `<s>`, so that its absence is not a shock."""
ALIGNED = 0.5
"""Share of training windows moved on to the next start of a line (paragraph, verse, heading)."""


class Stream:
    """Chapters in their order, each closed by `</s>`, as one run of token numbers.

    Members: `ids` uint16 [tokens]; `lines` int64, positions at which a line begins; `bytes`, length
    of the text; `source` uint8 [tokens], 0 for the Bible and 1 for the novels.
    """

    def __init__(self, chapters, tokenizer):
        parts = [tokenizer.encode(chapter.text).ids + [EOS] for chapter in chapters]
        self.ids = np.concatenate([np.array(part, dtype=np.uint16) for part in parts])
        self.source = np.concatenate(
            [
                np.full(len(part), chapter.source == "austen", dtype=np.uint8)
                for part, chapter in zip(parts, chapters, strict=True)
            ]
        )
        self.bytes = sum(len(chapter.text.encode()) for chapter in chapters)
        entries = range(tokenizer.get_vocab_size())
        breaks = [i for i in entries if "Ċ" in (tokenizer.id_to_token(i) or "") or i == EOS]
        self.lines = np.flatnonzero(np.isin(self.ids, breaks)) + 1

    def __len__(self):
        return len(self.ids)

    def window(self, start, length, bos=True):
        """Return int64 [length + 1] from `start`; with `bos` the first entry is `<s>`."""
        if bos:
            taken = self.ids[start : start + length]
            return np.concatenate(([BOS], taken)).astype(np.int64)
        return self.ids[start : start + length + 1].astype(np.int64)


def batches(stream, length, rows, rng):
    """Yield int64 [rows, length + 1] without end: every epoch a new cut, a new order."""
    last = len(stream) - length - 1
    pending = []
    while True:
        while len(pending) < rows:
            starts = np.arange(rng.integers(length), last, length)
            pending.extend(rng.permutation(starts))
        chosen, pending = pending[:rows], pending[rows:]
        windows = []
        for start in chosen:
            if rng.random() < ALIGNED:
                at = np.searchsorted(stream.lines, start)
                if at < len(stream.lines):
                    start = min(stream.lines[at], last)
            windows.append(stream.window(start, length, rng.random() >= WITHOUT_BOS))
        yield np.stack(windows)


def load():
    """Gather, split, train the tokenizer; return (tokenizer, training and held-out streams)."""
    train, held_out = texts.split(texts.gather())
    tokenizer = train_tokenizer(chapter.text for chapter in train)
    return tokenizer, Stream(train, tokenizer), Stream(held_out, tokenizer)
