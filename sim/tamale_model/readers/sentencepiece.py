"""A SentencePiece ``tokenizer.model`` in the terms of a GGUF vocabulary.

Source: https://github.com/google/sentencepiece ``src/sentencepiece_model.proto``. Only what a
vocabulary needs is taken from the protocol buffer: pieces, and settings that must be neutral.
"""

import struct

import numpy as np

from .vocabulary import Inexpressible

__all__ = ["vocabulary"]

_BPE = 2


def _varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Inexpressible("tokenizer.model is damaged")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _fields(data):
    """Yield (number, value) of a message: integers, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value, at = data[at : at + size], at + size
        elif kind == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise Inexpressible("tokenizer.model is damaged")
        if at > len(data):
            raise Inexpressible("tokenizer.model is damaged")
        yield key >> 3, value


def _message(data):
    """{number: last value} of an embedded message."""
    if not isinstance(data, bytes):
        raise Inexpressible("tokenizer.model is damaged")
    return dict(_fields(data))


def vocabulary(data):
    """Return entries as `vocabulary.tokenizer_json` takes them.

    Parameters
    ----------
    data : bytes
        Of the file.

    Raises
    ------
    Inexpressible
        For a damaged file, another model than BPE, or normalisation.
    """
    tokens, scores, kinds = [], [], []
    trainer, normaliser = {}, {}
    for number, value in _fields(data):
        if number == 1:
            piece = _message(value)
            text, score = piece.get(1, b""), piece.get(2, bytes(4))
            if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
                raise Inexpressible("tokenizer.model is damaged")
            tokens.append(text.decode(errors="surrogateescape"))
            scores.append(struct.unpack("<f", score)[0])
            kind = piece.get(3, 1)
            kinds.append(kind if isinstance(kind, int) and 1 <= kind <= 6 else 1)
        elif number == 2:
            trainer = _message(value)
        elif number == 3:
            normaliser = _message(value)
    if trainer.get(3, 1) != _BPE:
        raise Inexpressible("tokenizer.model is not of the kind BPE")
    # Rewriting of characters, and of several spaces, has no place in what is made of this.
    if normaliser.get(2) or normaliser.get(4, 1):
        raise Inexpressible("tokenizer.model normalises its text")
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(scores, dtype=np.float32),
        "tokenizer.ggml.token_type": np.array(kinds, dtype=np.int32),
        "tokenizer.ggml.add_space_prefix": bool(normaliser.get(3, 1)),
    }
