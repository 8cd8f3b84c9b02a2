"""Text of many scripts, and tokenizers of the kinds that people have, trained on it."""

import json
import random

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = ["KINDS", "SENTENCEPIECE", "documents", "train", "unicode_text"]

_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_MARKS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(**options):
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False, "use_regex": False} | options)


def _split(pattern, behavior="isolated", invert=False):
    split = pre_tokenizers.Split(Regex(pattern), behavior, invert)
    return pre_tokenizers.Sequence([split, _byte_level()])


#: name: (pre-tokenizer, whether NFC, whether words that are tokens ignore the merges)
KINDS = {
    "gpt-2": (_byte_level(use_regex=True), False, False),
    "roberta": (_byte_level(use_regex=True, add_prefix_space=True), False, False),
    "llama-3": (_split(_CL100K), False, True),
    "gpt-4": (_split(_CL100K, "removed", True), False, False),
    "qwen-2": (_split(_CL100K.replace("{1,3}", "")), True, False),
    "qwen-3.5": (_split(_MARKS), True, False),
    "smollm-2": (
        pre_tokenizers.Sequence([pre_tokenizers.Digits(True), _byte_level(use_regex=True)]),
        False,
        False,
    ),
    "starcoder": (
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
                pre_tokenizers.Split(Regex(_GPT2), "isolated"),
                _byte_level(),
            ]
        ),
        False,
        False,
    ),
    "none": (_byte_level(), False, False),
}

#: name: (normalizers, Metaspace's scheme); a space is U+2581, unknown characters are bytes.
SENTENCEPIECE = {
    "llama-2": ([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")], None),
    "llama-2, no prefix": ([normalizers.Replace(" ", "\u2581")], None),
    "llama-2, first": (None, "first"),
    "llama-2, always": (None, "always"),
}

#: Ranges of characters: scripts, marks, digits, spaces, signs, and corners of UTF-8.
_SCRIPTS = (
    (0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x531, 0x58F),
    (0x5D0, 0x5EA), (0x620, 0x6D3), (0x904, 0x950), (0x985, 0x9B9), (0xE01, 0xE5B),
    (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x3041, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0x10400, 0x1044F), (0x1D400, 0x1D7FF), (0x20000, 0x2A6DF),
)  # fmt: skip
_MARKS_RANGES = ((0x300, 0x36F), (0x591, 0x5BD), (0x64B, 0x65F), (0x93A, 0x94F), (0x20D0, 0x20F0))
_NUMBERS = (
    (0x30, 0x39), (0xB2, 0xB3), (0xBC, 0xBE), (0x660, 0x669), (0x966, 0x96F), (0x2150, 0x2189),
    (0x2460, 0x249B), (0x3021, 0x3029), (0xFF10, 0xFF19), (0x1D7CE, 0x1D7FF), (0x11DE0, 0x11DE9),
)  # fmt: skip
_SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2002\u200a\u2028\u2029\u202f\u205f\u3000"
_NEARLY = "\u200b\u200d\u180e\ufeff\x00\x1c\x1e\x7f"
_SIGNS = (
    (0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E), (0xA1, 0xBF), (0x2010, 0x2027),
    (0x20A0, 0x20BF), (0x2190, 0x21FF), (0x2600, 0x26FF), (0x1F300, 0x1F64F), (0x1F900, 0x1F9FF),
    (0xE000, 0xE010), (0xFFF0, 0xFFFF), (0x10FFF0, 0x10FFFF), (0xFE00, 0xFE0F), (0x7FE, 0x801),
)  # fmt: skip
_TAILS = ("s", "t", "re", "ve", "m", "ll", "d", "S", "T", "RE", "Ve", "vE", "M", "LL", "lL", "D",
          "\u017f", "r", "v", "l", "e", "x", "", "\u212a", "sS")  # fmt: skip


def unicode_text(random_, size):
    """Return text of about ``size`` UTF-8 bytes: words, marks, numbers, spaces, signs, in all
    the neighbourhoods that a pattern may care for."""
    pieces, made = [], 0

    def run(ranges, most):
        low, high = random_.choice(ranges)
        count = min(random_.randint(1, most), random_.randint(1, most))
        return "".join(chr(random_.randint(low, high)) for _ in range(count))

    while made < size:
        kind = random_.random()
        if kind < 0.30:
            piece = run(_SCRIPTS[:2] if random_.random() < 0.5 else _SCRIPTS, 12)
        elif kind < 0.36:
            piece = run(_SCRIPTS, 3) + run(_MARKS_RANGES, 3)
        elif kind < 0.50:
            piece = run(_NUMBERS[:1] if random_.random() < 0.6 else _NUMBERS, 8)
        elif kind < 0.74:
            piece = " "
        elif kind < 0.83:
            piece = "".join(random_.choices(_SPACES, k=random_.randint(1, 5)))
        elif kind < 0.86:
            piece = random_.choice((" ", "\n", "\r\n", "\t", "\n ", "=", "-")) * random_.randint(
                1, 90
            )
        elif kind < 0.92:
            piece = "'" + random_.choice(_TAILS)
        elif kind < 0.925:
            piece = random_.choice(_NEARLY + "\u2581")
        elif kind < 0.93:
            piece = random_.choice(("<|begin|>", "<|begin", "<|begi", "<<|end|>", "<|", "<|end|"))
        elif kind < 0.94:
            piece = chr(
                random_.choice((random_.randrange(0xD800), random_.randrange(0xE000, 0x110000)))
            )
        else:
            piece = run(_SIGNS, 5)
        pieces.append(piece)
        made += len(piece.encode())
    return "".join(pieces)


def documents(text, random_, most=6000):
    """Cut a text into documents of random length; return the list of them."""
    result, at = [], 0
    while at < len(text):
        size = random_.randint(1, most)
        result.append(text[at : at + size])
        at += size
    return result


_SPECIAL = ["<|begin|>", "<|end|>", "<|begin"]


def train(kind, texts, size=2000):
    """Train a tokenizer of a kind; return its ``tokenizer.json``."""
    if kind in SENTENCEPIECE:
        return _train_sentencepiece(kind, texts, size)
    splitter, nfc, ignore_merges = KINDS[kind]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=_SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    description = json.loads(tokenizer.to_str())
    description["model"]["ignore_merges"] = ignore_merges
    return json.dumps(description)


def _train_sentencepiece(kind, texts, size):
    normalizer, splitter = SENTENCEPIECE[kind]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer:
        tokenizer.normalizer = normalizers.Sequence(normalizer)
    # Merges of words only, or the training would take one whole text for a word.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=size, limit_alphabet=600, special_tokens=["<unk>", *_SPECIAL],
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    description = json.loads(tokenizer.to_str())
    vocab = description["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    if splitter:
        description["pre_tokenizer"]["split"] = False
        description["pre_tokenizer"]["prepend_scheme"] = splitter
    else:
        description["pre_tokenizer"] = None
    return json.dumps(description)


def seeded(seed):
    """Return a random.Random, and say its seed."""
    print(f"seed {seed}")
    return random.Random(seed)
