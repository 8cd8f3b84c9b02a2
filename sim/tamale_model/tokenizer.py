"""Tokenizer on the host: text to numbers by the `tokenizers` library, back by a table."""

import json

from tokenizers import Tokenizer as _Tokenizer

__all__ = ["Tokenizer", "TokenizerError", "byte_alphabet"]


class TokenizerError(ValueError):
    """A tokenizer file that cannot be used."""


def byte_alphabet():
    """Return the dict of characters of byte-level BPE to bytes (GPT-2's printable stand-ins)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


class Tokenizer:
    """Vocabulary of a model.

    Parameters
    ----------
    text : str
        Contents of a Hugging Face ``tokenizer.json``.
    """

    def __init__(self, text):
        try:
            self._tokenizer = _Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"tokenizer.json cannot be read: {error}") from error
        # A file may carry what it was trained with; a prompt is taken as it is.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        description = json.loads(text)
        self._byte_level = any(
            part is not None and '"ByteLevel"' in json.dumps(part)
            for part in (description.get("pre_tokenizer"), description.get("decoder"))
        )
        normalizer = description.get("normalizer") or {}
        parts = normalizer.get("normalizers", [normalizer])
        self._nfc = [part.get("type") for part in parts] == ["NFC"]
        self._special = {
            number
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
            if token.special
        }

    @property
    def added_tokens(self):
        """Tokens that are found in text before anything else, as dicts with their numbers."""
        names = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
        return [
            {"id": number} | {name: getattr(token, name) for name in names}
            for number, token in self._tokenizer.get_added_tokens_decoder().items()
        ]

    def encode(self, text, *, special=True):
        """Return the list of token numbers of a text; none is put before or behind it.

        Parameters
        ----------
        text : str
        special : bool
            Whether a special token's name in the text is that token, not its letters.
        """
        self._tokenizer.encode_special_tokens = not special
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def start(self, default):
        """Return the number of the token that a text starts with, or None.

        Parameters
        ----------
        default : int or None
            The answer where the file has no post-processor, which would say so.
        """
        if self._tokenizer.post_processor is None:
            return default
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        plain = self.encode("a")
        before = whole[: len(whole) - len(plain)]
        return before[0] if before and whole[len(before) :][: len(plain)] == plain else None

    def normalize(self, text):
        """Return a text in Unicode's form NFC if the vocabulary is for that form."""
        return self._tokenizer.normalizer.normalize_str(text) if self._nfc else text

    def words(self, text):
        """Return the parts of a text that are merged on their own, in the vocabulary's alphabet."""
        splitter = self._tokenizer.pre_tokenizer
        return [text] if splitter is None else [w for w, _ in splitter.pre_tokenize_str(text)]

    def decode(self, numbers):
        """Return the text of tokens; bytes that are no UTF-8 become replacement characters."""
        return b"".join(map(self.token_bytes, numbers)).decode(errors="replace")

    def token_bytes(self, number):
        """Return the bytes that a token prints; none for special and unknown tokens."""
        piece = None if number in self._special else self._tokenizer.id_to_token(number)
        if piece is None:
            return b""
        alphabet = _ALPHABET
        if self._byte_level and all(character in alphabet for character in piece):
            return bytes(alphabet[character] for character in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()


_ALPHABET = byte_alphabet()
