"""Calibration text: sequences spread over a text, some of them held out for the report."""

import pydoc_data.topics

import numpy as np

from tamale_model.tokenizer import Tokenizer

__all__ = ["SEQUENCE", "default_texts", "random_sequences", "sequences"]

#: Tokens of a sequence.
SEQUENCE = 512

# Characters that are looked at for one token; even plain prose of rare words stays below.
_CHARACTERS = 16


def default_texts():
    """Return texts that are there without a download.

    Chapters of the training recipe's books where they are installed (see `recipe.texts`), and
    CPython's own description of its language, modern technical English.
    """
    topics = pydoc_data.topics.topics
    result = ["\n\n".join(topics[key] for key in sorted(topics))]
    from tamale_model.recipe import texts

    try:
        chapters = texts.gather()
    except (OSError, RuntimeError, ValueError):
        return result
    for source in ("austen", "kjv"):
        result.append("\n\n".join(c.text for c in chapters if c.source == source))
    return result


def sequences(tokenizer, texts, tokens, *, length=SEQUENCE, held_out=0, bos=None):
    """Return (calibration, held-out) token numbers, int64 [n, length] each.

    The sequences lie evenly spread over each text and do not overlap; every text gives as many.
    Those that are held out lie evenly among the others.

    Parameters
    ----------
    tokenizer : str
        Text of a ``tokenizer.json``.
    texts : list of str
    tokens, held_out : int
        Tokens of each part, rounded up to whole sequences.
    length : int
    bos : int, optional
        Put in front of every sequence, as `tamale run` does with a prompt.

    Raises
    ------
    ValueError
        If the texts are too short; the message says how many tokens they have.
    """
    if tokens < 1 or length < 2:
        raise ValueError(f"{tokens} tokens in sequences of {length}; use 1 or more, of 2 or more")
    tool = Tokenizer(tokenizer)
    counts = [-(-tokens // length), -(-held_out // length)]
    total = sum(counts)
    rows = []
    for number, text in enumerate(texts):
        share = (total * (number + 1)) // len(texts) - (total * number) // len(texts)
        rows.extend(_cut(tool, text, share, length, bos))
    # Marks spread evenly, so that every text is in both parts as far as the numbers allow.
    marks = np.diff(np.arange(total + 1) * counts[1] // total).astype(bool)
    rows = np.array(rows, dtype=np.int64).reshape(total, length)
    return rows[~marks], rows[marks]


def _cut(tool, text, count, length, bos):
    """Lists of ``length`` tokens from ``count`` places of a text."""
    front = [] if bos is None else [bos]
    slot = len(text) // max(1, count)
    rows = []
    for i in range(count):
        piece = text[i * slot : i * slot + min(slot, _CHARACTERS * length)]
        # Do not begin within a word.
        space = 0 if i == 0 else max(piece.find(" "), 0)
        row = front + tool.encode(piece[space:])[: length - len(front)]
        if len(row) < length:
            raise ValueError(
                f"a text of {len(text):,} characters gives no {count} sequences of {length} "
                f"tokens; pass more text with --text, or use fewer --tokens"
            )
        rows.append(row)
    return rows


def random_sequences(vocabulary, tokens, *, length=SEQUENCE, held_out=0, seed=0):
    """Return sequences of random tokens, for a model without tokenizer."""
    rng = np.random.default_rng(seed)
    counts = [-(-tokens // length), -(-held_out // length)]
    return tuple(rng.integers(0, vocabulary, (count, length)) for count in counts)
