"""Text as a prompt: the board's own tokens are the library's, and the generation follows them."""

import json
import random
import re

import pytest
import systems
from systems import FOUR, golden, run
from tamale_model.tokenizer import Tokenizer
from tamale_sim import board as boards
from tamale_sim.board import BoardError
from tamale_sim.protocol import TextOption, text_lines
from tokenizer_cases import train, unicode_text

VOCABULARY = 900
SEED = 20261122
PLAIN = TextOption(0)


@pytest.fixture(scope="module")
def text_image(tmp_path_factory):
    """(path, `Image`, library's tokenizer) of a random model with a trained vocabulary."""
    print(f"seed {SEED}")
    description = train("qwen-2", [unicode_text(random.Random(SEED), 60_000)], VOCABULARY)
    path = tmp_path_factory.mktemp("text") / "image"
    image = systems.pack(FOUR, path, seed=6, vocabulary=VOCABULARY, tokenizer=description)
    # Real memory holds anything at first, and the firmware merges words where the caches lie.
    noise = random.Random(SEED).randbytes(4 * image.fields["kv_sequence_bytes"])
    image_bytes = path.read_bytes()
    path.write_bytes(image_bytes + bytes(image.kv_base - len(image_bytes)) + noise)
    return path, image, Tokenizer(description)


def fails(board, line, message):
    """Assert that a command is answered by an error that matches ``message``."""
    with pytest.raises(BoardError, match=message):
        board.send(line)
        board.expect("idle")


def test_prompts(four, text_image):
    """Prompts of every kind of character, in one line and in several; then tokens follow."""
    path, image, library = text_image
    random_ = random.Random(SEED + 1)
    texts = [
        "My dear Emma's 1234 words.",
        "",
        " \n",
        "<|begin|>x<|begin",
        "\\n\\x41\r\n\x1e\x03\x00",
    ]
    texts += [unicode_text(random_, random_.randint(20, 90)) for _ in range(6)]
    with boards.Board(four, FOUR, path) as board:
        assert int(board.ready["text"]) >= 512
        used = characters = 0
        for text in texts:
            text = library.normalize(text)
            for special in (True, False):
                options = TextOption.NORMALISED | (TextOption.SPECIAL if special else 0)
                expected = library.encode(text, special=special)
                if len(expected) > image.fields["context"]:
                    continue
                board.send("clear")
                board.expect("idle")
                before = board.text_cycles
                assert board.tokenise(text, options=options) == expected, (text, special)
                used += board.text_cycles - before
                characters += len(text)
        print(f"{used / characters:.0f} cycles a character of {characters}")
        # The same prompt as text and as tokens, beside another.
        text = library.normalize(texts[5])
        tokens = library.encode(text)[:40]
        text = library.decode(tokens)
        tokens = library.encode(text)
        own = run(board, [[3, text], [1, 2, 3]], 5, text_options=5)
        other = golden(image, FOUR, [[3, *tokens], [1, 2, 3]], 5)
        assert own.tokens == other.tokens
    systems.same_logits(board, image, [own], [other])


def test_pieces(four, text_image):
    """A text that comes in many lines, cut anywhere, is one text."""
    path, _, library = text_image
    random_ = random.Random(SEED + 2)
    texts = (f"'{unicode_text(random_, 50)}  \n don'T  " for _ in range(50))
    text = next(t for t in map(library.normalize, texts) if len(library.encode(t)) < 48)
    data = text.encode()
    with boards.Board(four, FOUR, path) as board:
        got, at, more = [], 0, TextOption.SPECIAL | TextOption.NORMALISED | TextOption.MORE
        while at < len(data):
            size = random_.randint(1, 9)
            got += board.tokenise(data[at : at + size], options=more)
            at += size
            if at == size:
                fails(board, "prompt 0 1", "text for sequence 0 was to go on; send its end first")
                fails(board, "generate 1 1 0 0 1 0", "text_unfinished")
                fails(board, "text 1 0 x", "text_unfinished")
        got += board.tokenise("", options=more & ~TextOption.MORE)
        assert got == library.encode(text)
        # What was begun can be dropped.
        board.tokenise("Wor", options=more)
        board.send("clear")
        board.expect("idle")
        assert board.tokenise("ld") == library.encode("ld")


def test_bytes(four, text_image):
    """Any bytes are tokens that stand for them; nothing crashes."""
    path, image, library = text_image
    random_ = random.Random(SEED + 4)
    with boards.Board(four, FOUR, path) as board:
        for _ in range(12):
            data = random_.randbytes(random_.randint(1, 40))
            board.send("clear")
            board.expect("idle")
            tokens = board.tokenise(data, options=TextOption.NORMALISED)
            assert b"".join(map(library.token_bytes, tokens)) == data
        board.send("clear")
        board.expect("idle")
        # As a person types it: the token that starts a text comes first.
        start = [] if image.fields["bos"] == 0xFFFFFFFF else [image.fields["bos"]]
        board.send("text 0 9 Hello there")
        assert board.expect("tokens").numbers("id") == start + library.encode("Hello there")
        board.expect("idle")


def test_errors(four, images, text_image):
    path, image, library = text_image
    with boards.Board(four, FOUR, path) as board:
        for line, message in (
            ("text", "bad_number"),
            ("text 0", "bad_number"),
            ("text 0 16 x", "bad_number"),
            ("text 4 0 x", "sequence 4 is not among the 4"),
            (r"text 0 0 \y", r"bad_text: a backslash .* than n, r, \\\\ or x and two"),
            (r"text 0 0 \x4", "bad_text"),
            ("text 0 0 \\", "bad_text"),
            ("text 0 1 e\u0301", "text_not_normalised: .* form NFC.* option 4"),
            ("text 0 1 " + "0" * 49, "prompt is longer than the context of 48 positions"),
        ):
            fails(board, line, message)
        # The error was all of it: the next text is not its continuation.
        board.send("clear")
        board.expect("idle")
        assert board.tokenise("e") == library.encode("e")
        word = "=" * (int(board.ready["text"]) + 1)
        with pytest.raises(BoardError, match="word of the text, or a line, is longer than the"):
            board.tokenise(word)
        board.send("clear")
        board.expect("idle")
        assert board.tokenise("e") == library.encode("e")
    with boards.Board(four, FOUR, images["four"][0]) as board:
        assert board.ready["text"] == "0"
        fails(board, "text 0 0 x", "no_tokenizer: the image has no tables for taking text apart")


def test_lines():
    """Lines carry any bytes, in pieces that are not longer than what the board takes."""
    data = bytes(range(256)) * 9
    lines = list(text_lines(2, data, TextOption.SPECIAL))
    assert all(len(line) <= 270 and b"\n" not in line and b"\r" not in line for line in lines)
    assert all(line.startswith(b"text 2 3 ") for line in lines[:-1])
    assert lines[-1].startswith(b"text 2 1 ")
    payload = b"".join(line[9:] for line in lines)
    plain = re.sub(
        rb"\\(n|r|\\|x(..))",
        lambda m: bytes([int(m[2], 16)]) if m[2] else {b"n": b"\n", b"r": b"\r"}.get(m[1], b"\\"),
        payload,
        flags=re.DOTALL,
    )
    assert plain == data


def test_mismatch_is_an_error():
    """A board that disagrees with the library is found out."""
    from tamale_sim.generation import Generation

    generation = Generation(None, FOUR, [[1, 2, 3]], 5)
    generation.take_prompt(0, [1, 2, 3], True)
    assert generation.prompt_mismatch is None and generation.prompt_tokens == 3
    generation.take_prompt(0, [1, 2, 4, 4], True)
    assert generation.prompt_mismatch == ("prompt 0, token 2: board 4, library 3 (4 and 3 tokens)")
    assert generation.prompts == [[1, 2, 4, 4]]
    json.dumps(generation.prompt_mismatch)
