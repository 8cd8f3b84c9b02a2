"""The vocabulary in a GGUF file as the text of a Hugging Face ``tokenizer.json``.

Byte-level BPE (``gpt2``) and SentencePiece's BPE (``llama``); only what can be said exactly in the
terms of the `tokenizers` library. Source: llama.cpp ``src/llama-vocab.cpp``, whose cases
(``models/ggml-vocab-*.gguf.inp``) are the test.
"""

import json

import numpy as np

__all__ = ["Inexpressible", "extend", "tokenizer_json"]


class Inexpressible(ValueError):
    """A vocabulary that `tokenizers` cannot express; the message says why."""


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

#: ``tokenizer.ggml.pre``: (expressions that split one after the other, whether whole words of the
#: vocabulary need no merges).
_LLAMA3 = ([rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"], True)
_QWEN2 = ([rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_REST}"], False)
_DIGITS = ([r"\p{N}", _GPT2], False)
_PLAIN = ([_GPT2], False)
_PRE = {
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral"),
                    _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe"), (_LLAMA3[0], False)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), _QWEN2),
    "qwen35": (
        [
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}|"
            r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ],
        False,
    ),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone",
                     "minerva-7b"), _DIGITS),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat"), _PLAIN),
    "falcon": ([r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"], False),
    # As its authors have it; llama.cpp says it without marks (\p{M}), so texts with them differ.
    "tekken": (
        [
            rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|"
            r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ],
        True,
    ),
    "default": (
        [r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        False,
    ),
}  # fmt: skip

#: SentencePiece's space.
_SPACE = "\u2581"
#: Characters of a piece; longer ones (of hostile files) would take time by their square.
_LONGEST = 256

#: Kinds of tokens in ``tokenizer.ggml.token_type``.
_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = range(1, 7)


def _added(tokens, kinds):
    """Entries of tokens that are found in a text before anything else."""
    wanted = {_UNKNOWN: True, _CONTROL: True, _USER: False}
    return [
        {
            "id": number,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": wanted[kind],
        }
        for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
        if kind in wanted and token
    ]


def _byte_level(metadata, tokens, kinds, numbers):
    pre = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(pre, str) or pre not in _PRE:
        raise Inexpressible(f"the pre-tokenizer {pre!r} is not known")
    expressions, whole_words = _PRE[pre]
    merges = metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise Inexpressible("it has no merges")
    pairs = []
    for merge in merges:
        at = merge.find(" ", 1)
        left, right = merge[:at], merge[at + 1 :]
        if at < 0 or left not in numbers or right not in numbers or left + right not in numbers:
            raise Inexpressible(f"the merge {merge!r} makes no token")
        pairs.append([left, right])
    split = [
        {"type": "Split", "pattern": {"Regex": e}, "behavior": "Isolated", "invert": False}
        for e in expressions
    ]
    byte_level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False,
    }  # fmt: skip
    return {
        "added_tokens": _added(tokens, kinds),
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*split, byte_level]},
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": whole_words, "vocab": numbers, "merges": pairs,
        },
    }  # fmt: skip


def _merges(pieces):
    """Merges of pieces {text: score}, the first ones first, as SentencePiece performs them.

    Two neighbours merge where the vocabulary has them joined; of several pairs that with the best
    score, of equal scores the leftmost. Ranks can say that only if scores differ, or if equal ones
    are those of runs of spaces, the last of all: those end as the longest run and a rest, which
    doubling says too.
    """
    merges, owners, runs = [], {}, []
    for piece, score in pieces.items():
        pairs = [
            (piece[:at], piece[at:])
            for at in range(1, len(piece))
            if piece[:at] in pieces and piece[at:] in pieces
        ]
        if not pairs:
            continue
        if not np.isfinite(score):
            raise Inexpressible(f"the score of {piece!r} is {score}")
        if set(piece) == {_SPACE}:
            runs.append((score, piece))
            continue
        if owners.setdefault(score, piece) != piece:
            raise Inexpressible(
                f"{piece!r} and {owners[score]!r} have one score, so ranks cannot order them"
            )
        merges += [(-score, pair) for pair in pairs]
    merges.sort(key=lambda entry: entry[0])
    result = [list(pair) for _, pair in merges]
    if runs:
        top = len(runs) + 1
        doubling = top & (top - 1) == 0 and {len(run) for _, run in runs} == {*range(2, top + 1)}
        if not doubling or max(score for score, _ in runs) >= min(owners, default=np.inf):
            raise Inexpressible("its runs of spaces merge before words, or not by doubling")
        result += [[_SPACE * n, _SPACE * n] for n in (1 << i for i in range(top.bit_length() - 1))]
        result += [
            [_SPACE * a, _SPACE * b]
            for a in range(1, top)
            for b in range(1, top + 1 - a)
            if a != b  # equal runs meet only where doubling joins them
        ]
    return result


def _sentencepiece(metadata, tokens, kinds, numbers):
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, np.ndarray) or scores.shape != (len(tokens),):
        raise Inexpressible("it has no score for each token")
    # Tokens that are cut out of a text beforehand never come from merges.
    pieces = {
        token: float(score)
        for token, score, kind in zip(tokens, scores, kinds, strict=True)
        if kind in (_NORMAL, _UNUSED) and len(token) <= _LONGEST
    }
    merges = _merges(pieces)
    prefix = metadata.get("tokenizer.ggml.add_space_prefix", True)
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    unknown = metadata.get("tokenizer.ggml.unknown_token_id", 0)
    unknown = tokens[unknown] if type(unknown) is int and unknown < len(tokens) else None
    steps = [{"type": "Prepend", "prepend": _SPACE}] if prefix else []
    back = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "added_tokens": _added(tokens, kinds),
        "normalizer": {"type": "Sequence", "normalizers": [*steps, replace]},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": back},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": unknown,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
            "byte_fallback": True, "ignore_merges": False, "vocab": numbers,
            "merges": merges,
        },
    }  # fmt: skip


def extend(metadata, added):
    """Return a vocabulary with further tokens {text: number}, which a text is searched for first.

    Raises
    ------
    Inexpressible
        If their numbers do not follow those that are there.
    """
    tokens = list(metadata["tokenizer.ggml.tokens"])
    if not isinstance(added, dict) or not all(type(n) is int for n in added.values()):
        raise Inexpressible("added_tokens.json holds no numbers")
    new = sorted((n, text) for text, n in added.items() if n >= len(tokens))
    if [n for n, _ in new] != list(range(len(tokens), len(tokens) + len(new))):
        raise Inexpressible("the numbers in added_tokens.json do not follow the vocabulary's")
    scores, kinds = (metadata[f"tokenizer.ggml.{key}"] for key in ("scores", "token_type"))
    return metadata | {
        "tokenizer.ggml.tokens": tokens + [text for _, text in new],
        "tokenizer.ggml.scores": np.concatenate([scores, np.zeros(len(new), np.float32)]),
        "tokenizer.ggml.token_type": np.concatenate([kinds, np.full(len(new), _CONTROL)]),
    }


_MODELS = {"gpt2": _byte_level, "llama": _sentencepiece}


def tokenizer_json(metadata):
    """Return the text of the ``tokenizer.json`` that equals a GGUF file's vocabulary.

    Parameters
    ----------
    metadata : dict
        Of the file.

    Raises
    ------
    Inexpressible
        If the file has no vocabulary, or one that `tokenizers` cannot express exactly.
    """
    kind = metadata.get("tokenizer.ggml.model")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not isinstance(kind, str):
        raise Inexpressible("the file has no vocabulary")
    if kind not in _MODELS:
        raise Inexpressible(f"the kind of vocabulary {kind!r} is not 'gpt2' or 'llama'")
    for number, token in enumerate(tokens):
        try:
            token.encode()
        except UnicodeEncodeError:
            raise Inexpressible(f"token {number} is not UTF-8") from None
    kinds = metadata.get("tokenizer.ggml.token_type")
    if kinds is None:
        kinds = np.full(len(tokens), _NORMAL)
    if not isinstance(kinds, np.ndarray) or kinds.shape != (len(tokens),):
        raise Inexpressible("it has no kind for each token")
    numbers = {token: number for number, token in enumerate(tokens)}
    parts = _MODELS[kind](metadata, tokens, kinds.tolist(), numbers)
    head = {"version": "1.0", "truncation": None, "padding": None, "post_processor": None}
    return json.dumps(head | parts, ensure_ascii=False)
