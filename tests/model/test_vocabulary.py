"""Sections of the vocabulary: which tokenizers the firmware can follow, and what the tables say."""

import json
import unicodedata

import numpy as np
import pytest
from device_tokenizer import Model
from tamale import image
from tamale_model import vocabulary
from tamale_model.tokenizer import Tokenizer
from tokenizer_cases import train
from tokenizers import Regex, pre_tokenizers

TEXT = ["some words, and some more words; 12345 numbers"] * 3


@pytest.fixture(scope="module")
def descriptions():
    return {
        kind: train(kind, TEXT, 320) for kind in ("gpt-2", "llama-3", "none", "llama-2")
    }  # fmt: skip


def words(section):
    """The named words at the start of a section."""
    values = np.frombuffer(section[: 4 * len(image.TOKENIZER_FIELDS)], "<u4").tolist()
    return dict(zip((name for name, _ in image.TOKENIZER_FIELDS), values, strict=True))


def refused(description, size=400):
    """The reason why there are no tables."""
    section, reason = vocabulary.tokenizer_section(Model(json.dumps(description), size))
    assert section == b""
    return reason


def test_no_tokenizer():
    model = Model(None, 10)
    assert vocabulary.tokenizer_section(model) == (b"", "the model has no tokenizer.json")
    assert vocabulary.text_section(model) == b""


def test_text(descriptions):
    """Offsets and bytes are those of every token."""
    for description in descriptions.values():
        host = Tokenizer(description)
        data = vocabulary.text_section(Model(description, 700))
        offsets = np.frombuffer(data[: 4 * 701], "<u4")
        for number in range(700):
            piece = data[4 * 701 :][offsets[number] : offsets[number + 1]]
            assert piece == host.token_bytes(number)


def test_characters_of_sentencepiece(descriptions):
    """A letter of Latin-1 is itself, not the byte that it stands for in byte-level files."""
    description = json.loads(descriptions["llama-2"])
    number = len(description["model"]["vocab"])
    description["model"]["vocab"] |= {"\u00e9": number, "\u2581\u00e9": number + 1}
    host = Tokenizer(json.dumps(description))
    assert host.token_bytes(number) == "\u00e9".encode()
    assert host.token_bytes(number + 1) == " \u00e9".encode()
    assert host.token_bytes(description["model"]["vocab"]["<0xE9>"]) == b"\xe9"


def test_merges(descriptions):
    """Every merge is in its bucket, once."""
    description = json.loads(descriptions["gpt-2"])
    section, _ = vocabulary.tokenizer_section(Model(descriptions["gpt-2"], 400))
    table, vocab = words(section), description["model"]["vocab"]
    data = np.frombuffer(section, "<u4")
    at = table["merges"] // 4
    entries = data[at : at + 3 * len(description["model"]["merges"])].reshape(-1, 3)
    index = data[table["merge_index"] // 4 :][: (1 << table["merge_bits"]) + 1]
    assert index[0] == 0 and index[-1] == len(entries) and (np.diff(index.astype(int)) >= 0).all()
    found = {}
    for a, b, c in entries.tolist():
        made = a >> 24 | b >> 24 << 8 | c >> 24 << 16
        found[a & 0xFFFFFF, b & 0xFFFFFF] = c & 0xFFFFFF, made
    for rank, pair in enumerate(description["model"]["merges"]):
        left, right = pair if isinstance(pair, list) else pair.split(" ")
        assert found.pop((vocab[left], vocab[right])) == (rank, vocab[left + right])
    assert not found


def test_classes():
    """Every character has the class that the library's own patterns give it, one by one."""
    patterns = {"LETTER": r"\p{L}", "NUMBER": r"\p{N}", "SPACE": r"\s"}
    section, _ = vocabulary.tokenizer_section(Model(train("gpt-2", TEXT, 300), 300))
    table = words(section)
    ranges = np.frombuffer(section, "<u4")[table["ranges"] // 4 :][: table["range_count"]]
    first, kinds = ranges >> 8, ranges & 0xFF
    assert first[0] == 0 and (np.diff(first.astype(int)) > 0).all()
    assert table["range_count"] < 2000
    splitters = {
        name: pre_tokenizers.Split(Regex(regex), "removed", invert=True)
        for name, regex in patterns.items()
    }
    classes = {value: name for name, value in image.TOKENIZER_CLASSES.items()}
    # Both sides of every boundary, and a sample of the rest.
    codes = {int(c) + d for c in first for d in (-1, 0, 1)} | set(range(0, 0x110000, 257))
    for code in sorted(c for c in codes if 0 <= c < 0x110000 and not 0xD800 <= c < 0xE000):
        own = classes[int(kinds[np.searchsorted(first, code, "right") - 1])]
        names = [n for n, s in splitters.items() if s.pre_tokenize_str(chr(code))]
        assert [own] == (names or ["OTHER"]), hex(code)


def test_normal_kinds():
    """What the check lets through cannot change: single characters, and any two of them."""
    kinds = vocabulary._normal_kinds().tobytes()
    for code in (*range(0xD800), *range(0xF900, 0x12000), *range(0x1D000, 0x1E000, 3)):
        if not kinds[code]:
            assert unicodedata.normalize("NFC", chr(code)) == chr(code)
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            pair = "".join(chr(int(part, 16)) for part in parts)
            if unicodedata.normalize("NFC", pair) != pair:
                assert kinds[ord(pair[1])] & image.TOKENIZER_KIND_UNSTABLE


def change(text, **changes):
    return json.loads(text) | changes


def test_refused(descriptions):
    """Whatever the firmware cannot follow exactly is refused, with the reason."""
    gpt2 = descriptions["gpt-2"]
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    split = {
        "type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False,
    }  # fmt: skip

    def chain(*parts):
        return {"type": "Sequence", "pretokenizers": list(parts)}

    for changes, reason in (
        ({"pre_tokenizer": None}, "it has no pre-tokenizer, so it is no byte-level one"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "its last pre-tokenizer is Whitespace, not"),
        ({"pre_tokenizer": chain(split, level)}, r'the pattern {"Regex": "\\w+"}'),
        ({"pre_tokenizer": chain(split, split, level)}, "Split, Split, ByteLevel with"),
        (
            {"pre_tokenizer": chain(split, level | {"add_prefix_space": True})},
            "it puts a space before every word",
        ),
        ({"normalizer": {"type": "Lowercase"}}, "its normalizer is Lowercase, not NFC or none"),
    ):
        assert reason in refused(change(gpt2, **changes))
    for name, value in (
        ("type", "Unigram"), ("dropout", 0.1), ("continuing_subword_prefix", "##"),
        ("end_of_word_suffix", "</w>"),
    ):  # fmt: skip
        description = json.loads(gpt2)
        description["model"][name] = value
        assert str(value) in refused(description)
    for name in ("single_word", "lstrip", "rstrip"):
        description = json.loads(gpt2)
        description["added_tokens"][0][name] = True
        assert refused(description) == f"its added token '<|begin|>' has {name}"
    description = json.loads(gpt2)
    description["added_tokens"][1] |= {"normalized": True, "content": "x<|be"}
    assert refused(description) == "its added tokens '<|begin|>' and 'x<|be' may overlap"
    description = json.loads(descriptions["none"])
    description["model"]["ignore_merges"] = True
    assert "is special and a word as well" in refused(description)
    description = json.loads(descriptions["llama-2"])
    del description["model"]["vocab"]["<0x00>"]
    assert refused(description, 700) == "byte 0x00 is no token"
    description = json.loads(gpt2)
    description["model"]["unk_token"] = "<|end|>"
    del description["model"]["vocab"]["!"]
    assert refused(description) == "byte 0x21 is no token and becomes '<|end|>'"
    description = json.loads(gpt2)
    description["model"]["merges"].insert(0, ["Q", "Q"])
    assert "its merge 'Q' 'Q' needs the token 'QQ'" in refused(description)


def test_same_input_same_bytes(descriptions):
    for text in descriptions.values():
        first, second = (vocabulary.tokenizer_section(Model(text, 700)) for _ in range(2))
        assert first == second and len(first[0]) % 4 == 0
