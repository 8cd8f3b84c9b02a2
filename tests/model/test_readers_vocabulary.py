"""Vocabularies of GGUF files: against llama.cpp's cases, `tokenizers` and a slow twin."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf_files import Spec, gguf_entries, write_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from tamale_model import readers
from tamale_model.readers import huggingface, sentencepiece
from tamale_model.readers.gguf_file import GgufFile
from tamale_model.readers.vocabulary import Inexpressible, tokenizer_json
from tamale_model.tokenizer import Tokenizer
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers, trainers

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and "
    "void; and darkness was upon the face of the deep. 1234567 and 89, it's we'll THEY'RE  two  "
    "spaces\n\n\tand tabs   . \u00c4pfel \u4f60\u597d \U0001f680 (x + y) -> z\r\n"
)
ALPHABET = "abcdehlorstv ETWO'.,;!?()12345\n\t\r -\u00e9\u00df\u4f60\u0300\U0001f680"

#: Folder of llama.cpp's models/ggml-vocab-*.gguf with .inp and .out, which its source holds.
CASES = os.environ.get("TAMALE_LLAMA_CPP_VOCABULARIES")
EXPRESSIBLE = (
    "command-r", "falcon", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35",
    "refact", "starcoder",
)  # fmt: skip


@pytest.mark.skipif(not CASES, reason="TAMALE_LLAMA_CPP_VOCABULARIES names no folder")
@pytest.mark.parametrize("name", EXPRESSIBLE)
def test_cases_of_llama_cpp(name):
    file = Path(CASES) / f"ggml-vocab-{name}.gguf"
    library = Library.from_str(tokenizer_json(GgufFile(file).metadata))
    library.encode_special_tokens = True  # llama.cpp's test does not parse special tokens
    texts = Path(f"{file}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{file}.out").read_text().split("\n")
    assert len(texts) == len(lines) > 40
    for text, line in zip(texts, lines, strict=True):
        expected = [int(number) for number in line.split()]
        assert library.encode(text, add_special_tokens=False).ids == expected, repr(text)


def train(pre_tokenizer, ignore_merges):
    """(library tokenizer, metadata of a GGUF file) of a small byte-level vocabulary."""
    library = Library(models.BPE(ignore_merges=ignore_merges))
    library.pre_tokenizer = pre_tokenizer
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>", "<|start|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    library.train_from_iterator([TEXT] * 3, trainer)
    parts = json.loads(library.to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    return library, {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3, 3] + [1] * (len(tokens) - 2)),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in parts["merges"]],
    }


BYTE_LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split(expression):
    from tokenizers import Regex

    return pre_tokenizers.Split(Regex(expression), "isolated")


#: As the libraries of the models' authors have them.
PRE = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), False),
    "smollm": (
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        ),
        False,
    ),
    "llama-bpe": (pre_tokenizers.Sequence([split(LLAMA3), BYTE_LEVEL]), True),
    "qwen2": (pre_tokenizers.Sequence([split(LLAMA3.replace("{1,3}", "")), BYTE_LEVEL]), False),
}


@pytest.mark.parametrize("pre", PRE)
def test_byte_level(pre):
    """Byte-level BPE by name equals the tokenizer that the name stands for."""
    library, metadata = train(*PRE[pre])
    text = tokenizer_json(metadata | {"tokenizer.ggml.pre": pre})
    ours = Tokenizer(text)

    @given(st.text(ALPHABET, max_size=60))
    @settings(max_examples=60, deadline=None)
    def check(sample):
        expected = library.encode(sample, add_special_tokens=False).ids
        assert ours.encode(sample) == expected
        assert ours.decode(expected) == sample

    check()
    assert ours.encode(TEXT) == library.encode(TEXT).ids
    assert ours.encode("a<|end|>") == [*library.encode("a").ids, 0]
    assert ours.token_bytes(0) == b""


@pytest.mark.parametrize(("pre", "numbers"), [("llama-bpe", [3]), ("gpt-2", [0, 1])])
def test_whole_words(pre, numbers):
    """In Llama 3's way a word of the vocabulary is a token, though no merge makes it."""
    metadata = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.merges": [],
        "tokenizer.ggml.tokens": ["a", "b", "c", "ab"],
    }  # fmt: skip
    assert Tokenizer(tokenizer_json(metadata)).encode("ab") == numbers


# SentencePiece ------------------------------------------------------------------------------------

SPACE = "\u2581"


def pieces():
    """(tokens, scores, kinds) of a vocabulary in the manner of Llama 2."""
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    kinds = [2, 3, 3] + [6] * 256
    words = ["th", "the", SPACE + "t", SPACE + "the", "an", "and", SPACE + "a", SPACE + "and", "re",
             "er", "her", SPACE + "h", "in", "ing", "ea", "ear", "tt", "ttt", "ss", SPACE + "s",
             "es", "ess", "le", "ll", "hello", "he", "hel", "lo", "el"]  # fmt: skip
    runs = [SPACE * n for n in (2, 4, 8, 3, 5, 6, 7)]
    letters = sorted(set("abcdehlnorstvi.,") | {SPACE, "\u00e9"})
    scores = [0.0] * len(tokens)
    # Scores in another order than numbers: merges go by scores.
    for i, word in enumerate(words):
        tokens.append(word)
        scores.append(-float((i * 7 + 3) % len(words)))
    tokens += runs + letters
    scores += [-1e9] * len(runs) + [-100.0 - i for i in range(len(letters))]
    kinds += [1] * (len(tokens) - len(kinds))
    tokens.append("<|user|>")
    scores.append(-1000.0)
    kinds.append(4)
    return tokens, scores, kinds


def merge_slowly(text, tokens, scores):
    """llama.cpp's algorithm: of all neighbours that join to a piece the best, the leftmost first.

    ``text`` has its spaces replaced already.
    """
    score = {t: s for t, s in zip(tokens, scores, strict=True)}
    symbols = list(text)
    while True:
        best = None
        for i in range(len(symbols) - 1):
            joined = symbols[i] + symbols[i + 1]
            if joined in score and (best is None or score[joined] > best[0]):
                best = score[joined], i
        if best is None:
            break
        i = best[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    numbers = {t: i for i, t in enumerate(tokens)}
    result = []
    for symbol in symbols:
        if symbol in numbers:
            result.append(numbers[symbol])
        else:
            result += [numbers[f"<0x{byte:02X}>"] for byte in symbol.encode()]
    return result


def metadata_of(tokens, scores, kinds, **more):
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": np.array(scores, np.float32),
        "tokenizer.ggml.token_type": np.array(kinds),
        **{f"tokenizer.ggml.{key}": value for key, value in more.items()},
    }


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece(prefix):
    """Merges by score, bytes for characters without a piece, runs of spaces of any length."""
    tokens, scores, kinds = pieces()
    more = {} if prefix else {"add_space_prefix": False}
    ours = Tokenizer(tokenizer_json(metadata_of(tokens, scores, kinds, **more)))
    plain = [
        t if k in (1, 5) else f"\0{i}" for i, (t, k) in enumerate(zip(tokens, kinds, strict=True))
    ]
    plain[3:259] = tokens[3:259]

    @given(st.text("abehlnorst.   \u00e9\u4f60", max_size=50))
    @settings(max_examples=300, deadline=None)
    def check(sample):
        escaped = (SPACE if prefix and sample else "") + sample.replace(" ", SPACE)
        assert ours.encode(sample) == merge_slowly(escaped, plain, scores)

    check()
    for length in range(1, 40):
        check_text = "the" + " " * length + "end"
        escaped = (SPACE if prefix else "") + check_text.replace(" ", SPACE)
        assert ours.encode(check_text) == merge_slowly(escaped, plain, scores)
    user = tokens.index("<|user|>")
    assert ours.encode("<|user|>")[-1] == user


def model_file(tokens, scores, kinds, *, kind=2, prefix=1, extra=0, charsmap=b""):
    """Bytes of a tokenizer.model, after the text of sentencepiece_model.proto."""

    def field(number, value):
        if isinstance(value, int):
            return bytes([number << 3, value])
        if isinstance(value, float):
            return bytes([number << 3 | 5]) + struct.pack("<f", value)
        size, head = len(value), bytearray([number << 3 | 2])
        while size > 127:
            head.append(size & 127 | 128)
            size >>= 7
        return bytes([*head, size]) + value

    data = b"".join(
        field(1, field(1, token.encode()) + field(2, score) + field(3, number))
        for token, score, number in zip(tokens, scores, kinds, strict=True)
    )
    normaliser = field(1, b"identity") + field(3, prefix) + field(4, extra)
    return (
        data + field(2, field(3, kind)) + field(3, normaliser + (charsmap and field(2, charsmap)))
    )


def test_tokenizer_model(tmp_path):
    """A folder without tokenizer.json: SentencePiece's file, and tokens added to it."""
    tokens, scores, kinds = pieces()
    data = model_file(tokens, scores, kinds)
    (tmp_path / "tokenizer.model").write_bytes(data)
    text = readers.read_tokenizer(tmp_path)
    assert text == tokenizer_json(metadata_of(tokens, scores, kinds))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": len(tokens), "</s>": 2}))
    ours = Tokenizer(readers.read_tokenizer(tmp_path))
    assert ours.encode("the<pad>")[-1] == len(tokens)
    for changes, message in (
        ({"kind": 1}, "tokenizer.model is not of the kind BPE"),
        ({"extra": 1}, "tokenizer.model normalises its text"),
        ({"charsmap": b"x"}, "tokenizer.model normalises its text"),
    ):
        (tmp_path / "tokenizer.model").write_bytes(model_file(tokens, scores, kinds, **changes))
        assert huggingface.read_tokenizer(tmp_path) == (
            None, [f"no tokenizer: {message}; give prompts as token numbers"],
        )  # fmt: skip
    (tmp_path / "tokenizer.model").write_bytes(data)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<pad>": len(tokens) + 1}))
    assert "do not follow" in huggingface.read_tokenizer(tmp_path)[1][0]
    (tmp_path / "added_tokens.json").write_text("{")
    with pytest.raises(readers.CheckpointError, match="added_tokens.json: not JSON"):
        readers.read_tokenizer(tmp_path)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_damaged_tokenizer_model(data):
    """Any bytes are a vocabulary or none, never another error."""
    whole = model_file(*pieces())
    for part in (data, whole[: len(data) * 20], data[:9] + whole[9 : 9 + len(data)]):
        try:
            tokenizer_json(sentencepiece.vocabulary(part))
        except Inexpressible:
            pass


def test_the_sentencepiece_library(tmp_path):
    """What the library trains and encodes, where it is installed."""
    library = pytest.importorskip("sentencepiece")
    text = tmp_path / "text"
    text.write_text(TEXT * 20, encoding="utf-8")
    library.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "tokenizer"), model_type="bpe",
        vocab_size=420, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, hard_vocab_limit=False,
    )  # fmt: skip
    theirs = library.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    ours = Tokenizer(readers.read_tokenizer(tmp_path))

    @given(st.text(ALPHABET.replace("\n", "").replace("\r", ""), min_size=1, max_size=60))
    @settings(max_examples=300, deadline=None)
    def check(sample):
        assert ours.encode(sample) == theirs.encode(sample)

    check()


def test_llama_2_pieces_of_equal_score():
    tokens, scores, kinds = pieces()
    scores[tokens.index("the")] = scores[tokens.index("and")]
    with pytest.raises(Inexpressible, match="'the' and 'and' have one score|'and' and 'the'"):
        tokenizer_json(metadata_of(tokens, scores, kinds))


REFUSED = {
    "no vocabulary": ({}, "the file has no vocabulary"),
    "kind": ({"tokenizer.ggml.model": "bert"}, "the kind of vocabulary 'bert' is not"),
    "pre": ({"tokenizer.ggml.pre": "kimi-k2"}, "the pre-tokenizer 'kimi-k2' is not known"),
    "merges": ({"tokenizer.ggml.merges": 5}, "it has no merges"),
    "merge": ({"tokenizer.ggml.merges": ["a b"]}, "the merge 'a b' makes no token"),
    "kinds": ({"tokenizer.ggml.token_type": np.zeros(3)}, "it has no kind for each token"),
    "bytes": ({"tokenizer.ggml.tokens": ["\udcff", "b"]}, "token 0 is not UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    changes, message = REFUSED[case]
    metadata = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": ["a", "b"],
                "tokenizer.ggml.merges": []}  # fmt: skip
    with pytest.raises(Inexpressible, match=message):
        tokenizer_json(metadata | changes if changes else {})


def test_in_a_file(tmp_path):
    """A model brings its tokenizer; one that cannot be expressed leaves a note."""
    _, vocabulary = train(*PRE["gpt-2"])
    vocabulary["tokenizer.ggml.token_type"] = vocabulary["tokenizer.ggml.token_type"].tolist()
    vocabulary["tokenizer.ggml.pre"] = "gpt-2"
    spec = Spec(1, vocabulary=len(vocabulary["tokenizer.ggml.tokens"]))
    metadata, tensors = gguf_entries(spec, "TQ2_0")
    path = write_raw(tmp_path / "a.gguf", metadata | vocabulary, tensors)
    model = readers.read(path)
    assert Tokenizer(model.tokenizer).decode([*Tokenizer(model.tokenizer).encode(TEXT)]) == TEXT
    assert readers.read_tokenizer(path) == model.tokenizer
    assert model.graph.bos == 0 and model.graph.eos == (1,)

    metadata |= vocabulary | {"tokenizer.ggml.pre": "kimi-k2"}
    path = write_raw(tmp_path / "b.gguf", metadata, tensors)
    skeleton = readers.open_skeleton(path)
    assert skeleton.tokenizer is None
    assert skeleton.notes == [
        "no tokenizer: the pre-tokenizer 'kimi-k2' is not known; give prompts as token numbers"
    ]
    few = gguf_entries(Spec(1), "TQ2_0")
    path = write_raw(tmp_path / "c.gguf", few[0] | vocabulary, few[1])
    with pytest.raises(readers.CheckpointError, match="tokens for an embedding of 96 rows"):
        readers.read(path)
