"""Vocabulary of an image: what tokens print, and tables with which the firmware takes text apart.

The tables say what ``tokenizer.json`` says, in the form that `firmware/tokenizer.c` reads; see
"Tokenizer" in docs/reference/image.md. Classes of characters are those of the library `tokenizers`
itself, which is asked, so that its version of Unicode cannot differ from ours.
"""

import functools
import itertools
import json
import struct
import unicodedata

import numpy as np
from tamale import image

from tamale_model.tokenizer import Tokenizer, byte_alphabet

__all__ = ["Refused", "text_section", "tokenizer_section", "tokenizer_tables"]

_NONE = 0xFFFFFFFF
_ID_LIMIT = 1 << 24

#: What SentencePiece writes for a space.
_SPACE = "\u2581"

#: Patterns of the pre-tokenizer ``Split``: name of the matcher, class of letters, most digits.
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_MODERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PATTERNS = {
    _GPT2: ("GPT2", r"\p{L}", _NONE, False),
    _MODERN + r"|\p{N}{1,3}" + _REST: ("CL100K", r"\p{L}", 3, True),
    _MODERN + r"|\p{N}" + _REST: ("CL100K", r"\p{L}", 1, True),
    _MODERN + r"|\p{N}+" + _REST: ("CL100K", r"\p{L}", _NONE, True),
    # Marks count as letters; nothing else is different.
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": (
        "CL100K", r"[\p{L}\p{M}]", 1, True,
    ),
}  # fmt: skip


class Refused(ValueError):
    """A tokenizer that the firmware cannot follow; prompts must come as tokens."""


def text_section(model):
    """Return the bytes of the vocabulary section: offsets, then the text of every token.

    Parameters
    ----------
    model : Model
        Its ``tokenizer`` is the text of ``tokenizer.json`` or None, which gives no bytes.
    """
    if model.tokenizer is None:
        return b""
    tokenizer = Tokenizer(model.tokenizer)
    pieces = [tokenizer.token_bytes(i) for i in range(model.graph.vocabulary)]
    offsets = np.cumsum([0] + [len(piece) for piece in pieces]).astype("<u4")
    return offsets.tobytes() + b"".join(pieces)


def tokenizer_section(model):
    """Return (bytes of the tokenizer section, None), or (b"", reason) where there can be none.

    Parameters
    ----------
    model : Model
    """
    if model.tokenizer is None:
        return b"", "the model has no tokenizer.json"
    try:
        return tokenizer_tables(model.tokenizer, model.graph.vocabulary), None
    except Refused as reason:
        return b"", str(reason)


def tokenizer_tables(text, vocabulary):
    """Return the tokenizer section of a ``tokenizer.json``.

    Parameters
    ----------
    text : str
    vocabulary : int
        Tokens that the model knows.

    Raises
    ------
    Refused
        For a kind of tokenizer that the firmware cannot follow exactly; the message says why.
    """
    description = json.loads(text)
    model = description["model"]
    _check_model(model)
    vocab = model["vocab"]
    if model.get("byte_fallback"):
        pattern, letters, numbers, digits = "NONE", "", _NONE, None
        flags = {"CHARACTERS"} | _spaces(description)
        bytes_ = [vocab.get(f"<0x{byte:02X}>", _NONE) for byte in range(256)]
        if _NONE in bytes_:
            raise Refused(f"byte {bytes_.index(_NONE):#04x} is no token")
        tokens = {p.replace(_SPACE, " ").encode(): n for p, n in vocab.items() if len(p) == 1}
    else:
        pattern, letters, numbers, digits, flags = _pattern(description.get("pre_tokenizer"))
        flags = flags | _normalizer(description.get("normalizer"))
        alphabet = byte_alphabet()
        tokens = {
            bytes(alphabet[character] for character in piece): number
            for piece, number in vocab.items()
            if piece and all(character in alphabet for character in piece)
        }
        bytes_ = [tokens.get(bytes([byte]), _NONE) for byte in range(256)]
        if model.get("unk_token") is not None and _NONE in bytes_:
            raise Refused(
                f"byte {bytes_.index(_NONE):#04x} is no token and becomes {model['unk_token']!r}"
            )
        if model.get("ignore_merges"):
            flags = flags | {"IGNORE_MERGES"}
    merge_bits, merge_index, merges = _merges(model["merges"], vocab)
    if flags & {"IGNORE_MERGES", "CHARACTERS"}:
        lookup_bits, lookup_index, lookup = _lookup(tokens, text, vocabulary)
    else:
        lookup_bits, lookup_index, lookup = 1, np.zeros(3, "<u4"), np.zeros(0, "<u4")
    # Where the file and the library give an added token different numbers, the library's count.
    added = _added(Tokenizer(text).added_tokens)
    if "CHARACTERS" in flags:
        for content, _ in added:
            if b" " in content or _SPACE.encode() in content:
                raise Refused(f"its added token {content.decode()!r} has a space")
    ranges = _ranges(letters, digits, pattern != "NONE", "NFC" in flags)

    out = bytearray(4 * len(image.TOKENIZER_FIELDS))
    words = {
        "pattern": image.TOKENIZER_PATTERNS[pattern],
        "numbers": numbers,
        "flags": sum(image.TOKENIZER_FLAGS[name] for name in flags),
        "merge_bits": merge_bits,
        "lookup_bits": lookup_bits,
        "added_count": len(added),
        "range_count": len(ranges),
    }

    def place(name, array):
        words[name] = len(out)
        out.extend(np.ascontiguousarray(array, "<u4").tobytes())

    place("bytes", bytes_)
    place("merge_index", merge_index)
    place("merges", merges)
    place("lookup_index", lookup_index)
    place("lookup", lookup)
    place("ranges", ranges)
    words["added"] = len(out)
    at = len(out) + 12 * len(added)
    for content, number in added:
        out.extend(struct.pack("<3I", at, len(content), number))
        at += len(content)
    out.extend(b"".join(content for content, _ in added))
    out.extend(bytes(-len(out) % 4))
    struct.pack_into(
        f"<{len(words)}I", out, 0, *(words[name] for name, _ in image.TOKENIZER_FIELDS)
    )
    return bytes(out)


# What tokenizer.json may say --------------------------------------------------------------------


def _check_model(model):
    if model.get("type", "BPE") != "BPE":
        raise Refused(f"its model is {model['type']}, not BPE")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise Refused(f"its model has {name} = {model[name]!r}")
    if max(model["vocab"].values(), default=0) >= _ID_LIMIT or len(model["merges"]) >= _ID_LIMIT:
        raise Refused(f"it has more than {_ID_LIMIT} tokens or merges")


def _normalizer(normalizer):
    """Flags of the normalizer, which can only be form NFC."""
    if normalizer and normalizer["type"] == "Sequence":
        parts = normalizer["normalizers"]
        normalizer = parts[0] if len(parts) == 1 else normalizer if parts else None
    if normalizer is None:
        return set()
    if normalizer["type"] != "NFC":
        raise Refused(f"its normalizer is {normalizer['type']}, not NFC or none")
    return {"NFC"}


def _spaces(description):
    """Flags of a tokenizer that writes U+2581 for spaces and merges a whole text."""
    if description["model"].get("ignore_merges"):
        raise Refused("its model has byte_fallback and ignore_merges")
    normalizer, splitter = description.get("normalizer"), description.get("pre_tokenizer")
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepend = {"type": "Prepend", "prepend": _SPACE}
    parts = [normalizer] if normalizer else []
    if normalizer and normalizer["type"] == "Sequence":
        parts = normalizer["normalizers"]
    if splitter is None and parts == [prepend, replace]:
        return {"PREFIX", "PREFIX_ALWAYS"}
    if splitter is None and parts == [replace]:
        return set()
    if not parts and splitter and splitter["type"] == "Metaspace":
        if splitter["replacement"] == _SPACE and not splitter.get("split", True):
            schemes = {"first": {"PREFIX", "PREFIX_FIRST"}, "always": {"PREFIX"}, "never": set()}
            return schemes[splitter["prepend_scheme"]]
    kinds = ", ".join(part["type"] for part in [*parts, splitter] if part) or "nothing"
    raise Refused(f"it has byte_fallback, and before its merges {kinds}")


def _pattern(description):
    """Return (matcher, class of letters, most numbers, kind of single digits or None, flags)."""
    if description is None:
        raise Refused("it has no pre-tokenizer, so it is no byte-level one")
    parts = [description]
    if description["type"] == "Sequence":
        parts = description["pretokenizers"]
    *before, last = parts or [{"type": "nothing"}]
    if last["type"] != "ByteLevel":
        raise Refused(f"its last pre-tokenizer is {last['type']}, not ByteLevel")
    regex, prefix = last.get("use_regex", True), last["add_prefix_space"]
    if not before:
        return "GPT2" if regex else "NONE", r"\p{L}", _NONE, None, {"PREFIX"} if prefix else set()
    if prefix:
        raise Refused("it puts a space before every word of a text")
    digits = None
    if before[0]["type"] == "Digits" and before[0].get("individual_digits"):
        digits, *before = "Digits", *before[1:]
    elif len(before) + regex == 2 and _is_split(before[0], r"\p{N}", invert=False):
        digits, *before = r"\p{N}", *before[1:]
    if digits and regex and not before:
        return "GPT2", r"\p{L}", _NONE, digits, set()
    if len(before) == 1 and before[0]["type"] == "Split" and not regex:
        split = before[0]
        expression = split["pattern"].get("Regex")
        name, letters, numbers, either = _PATTERNS.get(expression, (None, None, None, None))
        # Every character is part of a match, so that both ways to keep the matches are the same.
        keeps = _is_split(split, expression, invert=False) or _is_split(split, expression, True)
        if name and keeps and (name == "GPT2" or not digits):
            return name, letters, numbers, digits, {"EITHER_CASE"} if either else set()
        raise Refused(f"its pre-tokenizer has the pattern {json.dumps(split['pattern'])}")
    kinds = ", ".join(part["type"] for part in parts)
    raise Refused(f"its pre-tokenizer is {kinds} with ByteLevel.use_regex {regex}")


def _is_split(part, expression, invert):
    """Whether a pre-tokenizer gives the matches of an expression, or what lies between them."""
    return part == part | {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Removed" if invert else "Isolated",
        "invert": invert,
    }


def _added(tokens):
    """Return [(content, number with the special bit)], the longest first."""
    result = {}
    for token in tokens:
        content = token["content"].encode()
        if not content:
            continue
        for name in ("single_word", "lstrip", "rstrip"):
            if token.get(name):
                raise Refused(f"its added token {token['content']!r} has {name}")
        if token["id"] >= _ID_LIMIT:
            raise Refused(f"its added token {token['content']!r} has number {token['id']}")
        special = image.TOKENIZER_ADDED_SPECIAL if token.get("special") else 0
        result[content] = (token["id"] | special, bool(token.get("normalized")))
    # The library looks for those without `normalized` first, in the whole text; here one search
    # does it, which gives the same unless a later one may begin before an earlier one and reach it.
    first = [content for content, (_, normalized) in result.items() if not normalized]
    second = [content for content, (_, normalized) in result.items() if normalized]
    for late in second:
        for early in first:
            cut = min(len(early), len(late))
            if early in late or any(late.endswith(early[:n]) for n in range(1, cut)):
                raise Refused(
                    f"its added tokens {early.decode()!r} and {late.decode()!r} may overlap"
                )
    ordered = sorted(result.items(), key=lambda item: (-len(item[0]), item[0]))
    return [(content, number) for content, (number, _) in ordered]


# Tables -----------------------------------------------------------------------------------------


def _buckets(hashes, least_bits=1):
    """Return (bits, index, order) that put entries into about half as many buckets."""
    count = len(hashes)
    bits = max(least_bits, (count // 2).bit_length())
    number = hashes >> np.uint32(32 - bits)
    order = np.argsort(number, kind="stable")
    index = np.searchsorted(number[order], np.arange((1 << bits) + 1))
    return bits, index.astype("<u4"), order


def _merges(merges, vocab):
    """Return (bits, index, uint32 [merges, 3])."""
    table = {}
    for rank, pair in enumerate(merges):
        left, right = pair.split(" ", 1) if isinstance(pair, str) else pair
        try:
            key = vocab[left], vocab[right]
            # Of a pair that is there twice, the last one counts, as in the library's table.
            table[key] = rank, vocab[left + right]
        except KeyError as missing:
            raise Refused(f"its merge {left!r} {right!r} needs the token {missing}") from None
    entries = np.array(
        [(left, right, rank, made) for (left, right), (rank, made) in table.items()], "u4"
    ).reshape(-1, 4)
    left, right, rank, made = entries.T
    with np.errstate(over="ignore"):
        hashes = left * np.uint32(0x9E3779B1) ^ right * np.uint32(0x85EBCA6B)
        hashes = hashes * np.uint32(0x9E3779B1)
    bits, index, order = _buckets(hashes)
    packed = np.stack([left | made << 24, right | made >> 8 << 24, rank | made >> 16 << 24], axis=1)
    return bits, index, packed[order]


def _lookup(tokens, text, vocabulary):
    """Return (bits, index, tokens) of the words that need no merges."""
    tokenizer = Tokenizer(text)
    table = {}
    for piece, number in tokens.items():
        if number >= vocabulary:
            raise Refused(f"its token {number} is beyond the model's {vocabulary}")
        if tokenizer.token_bytes(number) == piece:
            table[piece] = number
        elif len(tokenizer.words(piece.decode(errors="replace"))) == 1:
            # The vocabulary section, where the firmware compares, has no bytes of special tokens.
            raise Refused(f"its token {number}, {piece!r}, is special and a word as well")
    hashes = np.array([_fnv(piece) for piece in table], dtype=np.uint32)
    with np.errstate(over="ignore"):
        hashes = hashes * np.uint32(0x9E3779B1)
    bits, index, order = _buckets(hashes)
    return bits, index, np.array(list(table.values()), "<u4")[order]


def _fnv(data):
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


# Unicode ----------------------------------------------------------------------------------------


def _code_points():
    """Yield (start, characters from there on) for everything that a text can have."""
    bounds = [0, 0xD800, 0xE000, *range(0x10000, 0x110001, 0x10000)]
    for start, end in itertools.pairwise(bounds):
        if start != 0xD800:  # surrogates are no characters
            yield start, "".join(map(chr, range(start, end)))


def _pieces(regex, texts):
    """Yield (start, end) of everything that a pattern of the library finds."""
    from tokenizers import Regex, pre_tokenizers

    splitter = pre_tokenizers.Split(Regex(regex), "removed", invert=True)
    for start, text in texts:
        for _, (begin, end) in splitter.pre_tokenize_str(text):
            yield start + begin, start + end


@functools.cache
def _classes(letters):
    """uint32 [0x110000]: classes of all characters, letters by the given pattern."""
    patterns = {"SPACE": r"\s", "NUMBER": r"\p{N}", "LETTER": letters}
    runs = list(_pieces("|".join(f"{regex}+" for regex in patterns.values()), _code_points()))
    heads = "".join(chr(start) for start, _ in runs)
    kinds = np.zeros(0x110000, dtype=np.uint32)
    for name, regex in patterns.items():
        for first, last in _pieces(f"{regex}+", [(0, heads)]):
            for start, end in runs[first:last]:
                kinds[start:end] = image.TOKENIZER_CLASSES[name]
    return kinds


@functools.cache
def _digits():
    from tokenizers import pre_tokenizers

    # The library's own idea of digits has no "removed": digits are the pieces of one character,
    # found by putting a letter between any two characters.
    result = np.zeros(0x110000, dtype=bool)
    splitter = pre_tokenizers.Digits(individual_digits=True)
    for start, text in _code_points():
        spaced = "x" + "x".join(text) + "x"
        for piece, (begin, _) in splitter.pre_tokenize_str(spaced):
            if len(piece) == 1 and piece != "x":
                result[start + begin // 2] = True
    return result


@functools.cache
def _normal_kinds():
    """uint8 [0x110000]: what the check of form NFC has to know of each character."""
    kinds = np.zeros(0x110000, dtype=np.uint8)
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.combining(character):
            kinds[code] |= image.TOKENIZER_KIND_MARK
        if unicodedata.category(character) == "Cn":
            # Younger than these tables: the library may know more of it.
            kinds[code] |= image.TOKENIZER_KIND_UNSTABLE
        parts = unicodedata.decomposition(character)
        if parts and not parts.startswith("<"):
            if unicodedata.normalize("NFC", character) != character:
                kinds[code] |= image.TOKENIZER_KIND_UNSTABLE
            # What may join the character before it.
            for part in parts.split()[1:]:
                kinds[int(part, 16)] |= image.TOKENIZER_KIND_UNSTABLE
    # Vowels and final consonants of Hangul join by arithmetic.
    kinds[0x1161:0x1176] |= image.TOKENIZER_KIND_UNSTABLE
    kinds[0x11A8:0x11C3] |= image.TOKENIZER_KIND_UNSTABLE
    return kinds


@functools.cache
def _ranges(letters, digits, classes, nfc):
    """Return uint32 [ranges]: first code point << 8 | kind."""
    kinds = np.zeros(0x110000, dtype=np.uint32)
    if classes:
        kinds |= _classes(letters)
    if digits:
        alone = _digits() if digits == "Digits" else kinds == image.TOKENIZER_CLASSES["NUMBER"]
        kinds[alone] = image.TOKENIZER_CLASSES["DIGIT"]
    if nfc:
        kinds |= _normal_kinds()
    # Text has no surrogates; they belong to the range before.
    kinds[0xD800:0xE000] = kinds[0xD7FF]
    first = np.flatnonzero(np.diff(kinds, prepend=kinds[0] ^ 1))
    return (first.astype(np.uint32) << 8) | kinds[first]
