"""The firmware's tokenizer, compiled for this machine, gives the library's tokens: every one."""

import itertools
import json
import os
import random
from pathlib import Path

import device_tokenizer
import pytest
import tokenizer_cases
from device_tokenizer import DeviceTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tamale_model.readers.gguf_file import GgufFile
from tamale_model.readers.vocabulary import tokenizer_json
from tamale_model.recipe import texts
from tamale_sim.models_cache import demonstration
from tokenizer_cases import KINDS, SENTENCEPIECE, documents, train, unicode_text

SEED = 3

#: Folder of llama.cpp's models/ggml-vocab-*.gguf with .inp and .out, which its source holds.
CASES = os.environ.get("TAMALE_LLAMA_CPP_VOCABULARIES")
SIZE = 1_000_000
ALL = (*KINDS, *SENTENCEPIECE)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return device_tokenizer.build(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def text():
    return unicode_text(tokenizer_cases.seeded(SEED), SIZE)


@pytest.fixture(scope="module")
def novels():
    """The Bible and Austen's novels in one, where they are installed."""
    try:
        return "\n\n".join(chapter.text for chapter in texts.gather())
    except (FileNotFoundError, RuntimeError) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def devices(library, text):
    """Makes tokenizers of a kind, each once."""
    made = {}

    def make(kind):
        if kind not in made:
            parts = documents(text[:120_000], random.Random(SEED))
            made[kind] = DeviceTokenizer(library, train(kind, parts))
            assert made[kind].reason is None
        return made[kind]

    return make


def same(device, parts, random_):
    """Assert that every token of every text is the library's; return their number."""
    count = 0
    for i, part in enumerate(parts):
        part = device.host.normalize(part)
        special = i % 4 > 0
        expected = device.host.encode(part, special=special)
        # 4: the text is in form NFC.
        own = device.encode(part, options=4 + special, line=random_.randint(1, 400))
        if own != expected:
            pairs = zip(own, expected, strict=False)
            at = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(own), len(expected)))
            near = slice(max(at - 3, 0), at + 3)
            raise AssertionError(
                f"text {i}, token {at}: own {own[near]}, library {expected[near]}: "
                f"{device.host.decode(expected[near])!r} in {part[:80]!r}..."
            )
        count += len(own)
    return count


@pytest.mark.parametrize("kind", ALL)
def test_unicode(devices, text, kind):
    """A megabyte of all scripts, in texts of up to 6,000 characters that come in lines."""
    device, random_ = devices(kind), random.Random(SEED + 1)
    count = same(device, documents(text, random_), random_)
    print(f"{kind}: {count} tokens of {len(text.encode())} bytes")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "roberta"])
def test_words(devices, kind):
    """Words end where the library's do, which tokens show only where a merge could cross."""
    device, random_ = devices(kind), tokenizer_cases.seeded(SEED + 7)
    for part in documents(unicode_text(random_, 200_000), random_, 3000):
        part = device.host.normalize(part)
        sizes = [len(word) for word in device.host.words(part)]
        assert device.words(part) == list(itertools.accumulate(sizes))


def test_word_in_the_vocabulary(library):
    """With `ignore_merges` a word that is a token is this token, also where no merge makes it."""
    description = json.loads(train("llama-3", ["some words and others"], 300))
    vocab = description["model"]["vocab"]
    number = len(vocab)
    vocab |= {"\u0120someone": number, "so": number + 1, "\u00c3\u00a9t": number + 2}
    for ignore in (True, False):
        description["model"]["ignore_merges"] = ignore
        device = DeviceTokenizer(library, json.dumps(description))
        own = device.encode("so someone \u00e9t")
        assert own == device.host.encode("so someone \u00e9t")
        assert (number in own) == ignore


@pytest.mark.skipif(not CASES, reason="TAMALE_LLAMA_CPP_VOCABULARIES names no folder")
@pytest.mark.parametrize(
    "name",
    (
        "command-r", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact",
        "starcoder",
    ),
)  # fmt: skip
def test_vocabularies_of_people(library, text, name):
    """Real vocabularies: the tokens that llama.cpp's tests have on record, and the library's."""
    file = Path(CASES) / f"ggml-vocab-{name}.gguf"
    device = DeviceTokenizer(library, tokenizer_json(GgufFile(file).metadata))
    assert device.reason is None
    cases = Path(f"{file}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{file}.out").read_text().split("\n")
    assert len(cases) == len(lines) > 40
    for case, line in zip(cases, lines, strict=True):
        assert device.encode(case, options=4) == [int(number) for number in line.split()]
    random_ = random.Random(SEED)
    same(device, documents(text, random_), random_)


def demo_text():
    return (demonstration() / "tokenizer.json").read_text()


def test_demonstration(library, text):
    """The tokenizer of the demonstration model."""
    device = DeviceTokenizer(library, demo_text(), 1024)
    assert device.reason is None
    random_ = random.Random(SEED + 2)
    print(same(device, documents(text, random_), random_), "tokens")


def test_novels(library, novels):
    """Its own kind of text, part of it."""
    device, random_ = DeviceTokenizer(library, demo_text(), 1024), random.Random(SEED + 3)
    at = random_.randrange(len(novels) - SIZE)
    print(same(device, documents(novels[at : at + SIZE], random_, 100_000), random_), "tokens")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["demonstration", *ALL])
def test_whole_novels(library, devices, novels, kind):
    if kind == "demonstration":
        device = DeviceTokenizer(library, demo_text(), 1024)
        parts = [novels]
    else:
        device = devices(kind)
        parts = documents(novels, random.Random(SEED + 4), 20_000)
    count = same(device, parts, random.Random(SEED + 5))
    print(f"{kind}: {count} tokens of {len(novels.encode())} bytes")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 105))
@pytest.mark.parametrize("kind", ALL)
def test_more_unicode(devices, kind, seed):
    random_ = tokenizer_cases.seeded(seed)
    same(devices(kind), documents(unicode_text(random_, SIZE), random_), random_)


#: Characters at which patterns decide, and some of every class.
_CHARACTERS = " \t\n\r\u3000\u2028'\u017fsStTrReEvVlLmMdD09\u0663\u00bd\u216b\U0001d7d8,=.\u2019" \
    "aZ\u00e9\u0416\u4e2d\u0301\u093e\u200d\u0085\u2581<|>begin\U0001f600\x00"  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=80, deadline=None)
@given(
    parts=st.lists(st.text(st.sampled_from(_CHARACTERS), max_size=12) | st.text(max_size=8)),
    line=st.integers(1, 50),
    special=st.booleans(),
)
def test_random_strings(devices, kind, parts, line, special):
    device = devices(kind)
    text = device.host.normalize("".join(parts))
    expected = device.host.encode(text, special=special)
    assert device.encode(text, options=4 + special, line=line) == expected


@pytest.mark.parametrize("kind", ["gpt-2", "llama-3", "qwen-3.5", "none"])
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60) | st.text(max_size=30).map(str.encode), line=st.integers(1, 20))
def test_random_bytes(devices, kind, data, line):
    """Bytes that are no UTF-8 give tokens that stand for them, however they are cut."""
    device = devices(kind)
    own = device.encode(data, options=4, line=line)
    assert b"".join(map(device.host.token_bytes, own)) == data
    assert own == device.encode(data, options=4, line=1000)


def test_bad_bytes_are_signs(devices):
    """Each byte that is no part of valid UTF-8 is a character that is no letter."""
    device = devices("gpt-2")
    for bad in (
        b"\xff", b"\x80", b"\xc1\xa1", b"\xe0\x81\xa1", b"\xf0\x80\x81\xa1", b"\xe2\x82",
        b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    ):  # fmt: skip
        words = [b"ab", b" " + bad, b"cd"]
        pieces = [device.encode(word, options=0) for word in words]
        assert device.encode(b"".join(words), options=0) == sum(pieces, [])
        assert device.words(b"".join(words)) == list(itertools.accumulate(map(len, words)))


@pytest.mark.parametrize("kind", ["gpt-2", "none"])
def test_long_words(library, devices, kind):
    """A word is merged exactly up to the work memory's end, and refused beyond."""
    description = train(kind, [unicode_text(random.Random(SEED), 30_000)])
    work = 17 * 2048 + 4 * 2048 // 64
    device = DeviceTokenizer(library, description, work=work)
    for character in "=a":
        for count in (47, 48, 49, 64, 65, 2000, 2048):
            text = character * count
            assert device.encode(text, line=97) == device.host.encode(text), count
        assert device.encode(character * 2049, line=97) == "word too long"
    mixed = "".join(random.Random(SEED).choices("abc", k=2048))
    assert device.encode(mixed) == device.host.encode(mixed)
    full = devices(kind)
    mixed = "".join(random.Random(SEED).choices("ab", k=30_000))
    assert full.encode(mixed) == full.host.encode(mixed)
    assert DeviceTokenizer(library, description, work=1000).encode("x") == "no work memory"


def test_normalisation(library, devices):
    """Without the host's word that a text is in form NFC, it is, or it is refused."""
    device = devices("qwen-2")
    text = unicode_text(random.Random(SEED + 6), 60_000)
    taken = 0
    for part in documents(text, random.Random(SEED), 12):
        own = device.encode(part, line=3)
        if own != "not normalised":
            assert own == device.host.encode(part)
            taken += 1
        if part.isascii():
            assert own != "not normalised"
    assert taken > 1000
    for changed in ("e\u0301", "\u212b", "\u1112\u1161\u11ab", "a\u0323\u0302", "\u0340"):
        assert device.host.normalize(changed) != changed
        assert device.encode("x" + changed) == "not normalised"
    # Other kinds do not care.
    plain = devices("gpt-2")
    assert plain.encode("e\u0301") == plain.host.encode("e\u0301")


def test_added_tokens(library):
    """The longest that begins first counts; special ones only when asked."""
    description = json.loads(train("gpt-2", ["some text about <tool> and <tools>"], 300))
    numbers = iter(range(1000, 1100))
    for content, special in (
        ("<tool>", False), ("<tools", True), ("<tool>s<", True), ("s<too", False), ("  ", False),
        ("\u00e9t\u00e9", True),
    ):  # fmt: skip
        description["added_tokens"].append(
            {
                "id": next(numbers), "content": content, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": special,
            }
        )  # fmt: skip
    device = DeviceTokenizer(library, json.dumps(description))
    assert device.reason is None
    random_ = tokenizer_cases.seeded(SEED)
    parts = (
        "<tool>",
        "<tools",
        "s",
        "<",
        "too",
        "l",
        ">",
        " ",
        "  ",
        "\u00e9",
        "t",
        "<|begin|>",
        "x",
    )
    for _ in range(3000):
        text = "".join(random_.choices(parts, k=random_.randint(1, 10)))
        for special in (False, True):
            own = device.encode(text, options=special, line=random_.randint(1, 9))
            assert own == device.host.encode(text, special=special), text
