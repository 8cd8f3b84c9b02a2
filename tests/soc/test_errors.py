"""Bad input and faults: the board names the value, the host adds the mend, and nothing hangs."""

import re

import pytest
import systems
from systems import ERRORS, FOUR, ONE, golden, patch, patch_program
from tamale import isa
from tamale.gateware.interfaces import Fault
from tamale.image import VERSION
from tamale_sim import board as boards
from tamale_sim.board import BoardError, BoardTop
from tamale_sim.messages import ERRORS as MESSAGES
from tamale_sim.messages import FAULTS, explain, explain_end
from tamale_sim.protocol import Record, RecordParser, Text


def refused(executable, config, path, message):
    """Assert that the firmware does not start with an image; ``message`` says why."""
    with pytest.raises(BoardError, match=message) as info:
        boards.Board(executable, config, path)
    return info.value.record


def fails(board, line, message):
    """Assert that a command is answered by an error that matches ``message``."""
    with pytest.raises(BoardError, match=message) as info:
        board.send(line)
        board.expect("idle")
    return info.value.record


def same_as_golden(board, image, prompts=((1, 2, 3),), tokens=3):
    """Assert that a board still works."""
    prompts = [list(prompt) for prompt in prompts]
    own, other = systems.run(board, prompts, tokens), golden(image, FOUR, prompts, tokens)
    assert own.tokens == other.tokens


# Images -------------------------------------------------------------------------------------------


def test_no_image(four, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    refused(four, FOUR, path, "the memory starts with 0x0, an image with 0x4c4d4154; load an image")


def test_version(four, images, tmp_path):
    path = patch(images["four"][0], tmp_path / "image", version=VERSION + 6)
    message = f"the image has version {VERSION + 6}, this firmware reads {VERSION}; pack it again"
    refused(four, FOUR, path, message)


def test_damaged_header(four, images, tmp_path):
    data = bytearray(images["four"][0].read_bytes())
    data[1000] ^= 4
    (tmp_path / "image").write_bytes(data)
    record = refused(four, FOUR, tmp_path / "image", "header_checksum: .* damaged, pack it again")
    assert int(record["wants"]) == images["four"][1].fields["header_crc"] != int(record["has"])


@pytest.mark.parametrize("at", [1024, 12345, -1])
def test_damaged_payload(four, images, tmp_path, at):
    data = bytearray(images["four"][0].read_bytes())
    data[at] ^= 0x80
    (tmp_path / "image").write_bytes(data)
    record = refused(four, FOUR, tmp_path / "image", "image_checksum: .* is damaged, load it again")
    assert int(record["wants"]) == images["four"][1].fields["payload_crc"] != int(record["has"])


def test_other_configuration(four, one, images, tmp_path):
    refused(
        four, FOUR, images["one"][0],
        "the image was packed for bus_width = 64, the hardware has 32; pack it again for this",
    )  # fmt: skip
    refused(one, ONE, images["four"][0], "bus_width = 32, the hardware has 64")


@pytest.mark.parametrize(
    ("field", "value", "has"),
    [
        ("code", 2, 3),
        ("tile_rows", 2, 4),
        ("tile_k", 10, 5),
        ("vectors", 5, 4),
        ("scratch_elements", 8193, 8192),
        ("program_commands", 257, 256),
        ("context", 65, 64),
        ("vu_width", 6, 4),
    ],
)
def test_does_not_fit(four, images, tmp_path, field, value, has):
    path = patch(images["four"][0], tmp_path / "image", **{field: value})
    record = refused(four, FOUR, path, f"packed for {field} = {value}, the hardware has {has};")
    assert record["field"] == field


@pytest.mark.parametrize(
    "fields",
    [{"image_bytes": 1 << 20}, {"image_bytes": 0xFFFFFFC0}, {"kv_sequence_bytes": 1 << 20}],
)
def test_larger_than_memory(four, images, tmp_path, fields):
    path = patch(images["four"][0], tmp_path / "image", **fields)
    refused(four, FOUR, path, f"need [0-9]+ bytes, the memory has {1 << 20}; lower the context")


def test_fewer_sequences(four, images, tmp_path):
    """Where the memory holds the caches of two sequences, two run."""
    image = images["four"][1]
    path = patch(images["four"][0], tmp_path / "image", kv_sequence_bytes=400_000)
    with boards.Board(four, FOUR, path) as board:
        assert board.ready["sequences"] == "2"
        fails(board, "prompt 2 1", "sequence 2 is not among the 2 .* run fewer in parallel")
        fails(board, "generate 3 1 0 0 1 0", "sequence 2 is not among the 2")
        same_as_golden(board, image, ([1, 2], [3]))


# Commands -----------------------------------------------------------------------------------------


def test_bad_commands(four, images):
    path, image = images["four"]
    with boards.Board(four, FOUR, path) as board:
        for line, message in (
            (
                "fly",
                "unknown_command: .* commands are clear, prompt, text, generate, stats, hello",
            ),
            ("Halt", "unknown_command"),
            ("generatefarmoreprompts", "unknown_command"),
            ("x" * 300, "unknown_command"),
            ("stats\x7f", "unknown_command"),
            ("prompt", "bad_number"),
            ("prompt x", "bad_number"),
            ("prompt 0 1 2 x", "bad_number"),
            ("prompt 0 1 -2", "bad_number"),
            ("prompt 0 4294967296", "bad_number"),
            ("prompt 0 99999999999999999999", "bad_number"),
            ("prompt 0 12\x07", "bad_number"),
            ("prompt 4 1", "sequence 4 is not among the 4"),
            ("prompt 0 1 70", "token 70 is outside the vocabulary of 70 tokens; use the"),
            ("prompt 0 4294967295", "token 4294967295 is outside the vocabulary of 70"),
            ("generate", "bad_request: generate takes six numbers"),
            ("generate 1 5 0 0", "bad_request"),
            ("generate 1 0 0 0 1 0", "bad_request"),
            ("generate 1 5 0 0 1 0 9", "bad_request"),
            ("generate 1 5 0 0 1 0 x", "bad_request"),
            ("generate 0 5 0 0 1 0", "sequence .* is not among the 4"),
            ("generate 5 5 0 0 1 0", "sequence 4 is not among the 4"),
        ):
            fails(board, line, message)
        board.send("clear")
        board.expect("idle")
        fails(board, "generate 1 5 0 0 1 0", "sequence 0 has no prompt; send one of at least one")
        fails(board, "prompt 0 " + " ".join(["1"] * 49), "longer than the context of 48 positions")
        same_as_golden(board, image)
        # After an error the next command's answer is its own.
        with pytest.raises(BoardError, match="token 99 is outside"):
            list(board.run([[1, 99]], 3))
        same_as_golden(board, image)
    assert board.summary["exit_code"] == 0


def test_garbage(four, images):
    """Noise on the line is one error, and ends with the line."""
    path, image = images["four"]
    noise = bytes(byte for byte in range(256) if byte not in b"\n\r")
    with boards.Board(four, FOUR, path) as board:
        for piece in (noise * 3, b"\xff" * 500, b"\x00", b"prompt 0 1\x00", b"\x1eidle"):
            board.send_bytes(piece + b"\n")
            with pytest.raises(BoardError, match="unknown_command|bad_number"):
                board.expect("idle")
        same_as_golden(board, image)


def test_trailing_space(four, images):
    """The end of a line belongs to its command, also where the command takes long."""
    path, _ = images["four"]
    with boards.Board(four, FOUR, path) as board:
        board.send("prompt 0 1 2 ")
        board.expect("idle")
        board.send("generate 1 2 0 0 1 0  ")
        assert board.expect("done")["reason"] == "length"
        board.expect("idle")
        assert board.stats()["jobs"] == 2


# Faults -------------------------------------------------------------------------------------------


def fault(board, prompts, tokens, code, info=None):
    """Assert that a generation ends with a fault, whose name the host knows."""
    with pytest.raises(BoardError, match=f"the accelerator stopped with {code.name}: ") as raised:
        list(board.run(prompts, tokens))
    record = raised.value.record
    assert record.kind == "fault" and int(record["code"]) == code.value
    if info is not None:
        assert int(record["info"]) in info
    return raised.value


def test_read_bounds(four, images, tmp_path):
    """A descriptor that leaves the image, for some tokens only: the others still work."""
    image = images["four"][1]
    stride = 0x100000
    path = patch(images["four"][0], tmp_path / "image", embedding_stride=stride)
    address = image.fields["embedding_base"] + 7 * stride
    with boards.Board(four, FOUR, path) as board:
        same_as_golden(board, image, [[0, 0]], 1)
        error = fault(board, [[0, 7]], 1, Fault.READ_BOUNDS, [address])
        assert f"{address:#010x}" in str(error) and "pack it again" in str(error)
        same_as_golden(board, image, [[0, 0, 0, 0, 0]], 1)
        fault(board, [[0, 0, 0, 0, 7, 0]], 1, Fault.READ_BOUNDS, [address])
        assert board.stats()["jobs"] >= 0
        same_as_golden(board, image, [[0, 0]], 1)
    assert board.summary["reason"] == "halted"


def test_cache_bounds(four, images, tmp_path):
    """The cache of the last sequence ends too early: fewer sequences work."""
    image = images["four"][1]
    half = image.fields["kv_sequence_bytes"] // 2
    path = patch(images["four"][0], tmp_path / "image", kv_sequence_bytes=half)
    limit = image.kv_base + 4 * half
    with boards.Board(four, FOUR, path) as board:
        same_as_golden(board, image)
        # The stream walker runs ahead, so a read leaves the cache before a write does.
        beyond = range(limit - 16, limit + 2 * half)
        fault(board, [[1], [2], [3], [4, 5]], 4, Fault.READ_BOUNDS, beyond)
        same_as_golden(board, image)


def test_write_bounds(four, images, tmp_path):
    """The second layer's cache lies in the image, where reads are allowed and writes are not."""
    path, image = images["four"]
    stride = (1 << 32) - 8192
    path = patch(path, tmp_path / "image", kv_layer_stride=stride)
    with boards.Board(four, FOUR, path) as board:
        wrong = range(image.kv_base - 8192, image.kv_base)
        for _ in range(2):
            fault(board, [[1, 2]], 2, Fault.WRITE_BOUNDS, wrong)


def test_bad_command(four, images, tmp_path):
    """An operation that does not exist, in the head's part of the program."""
    path, image = images["four"]
    operations = [isa.decode(word)[0] for word in image.program]
    at = operations.index(isa.Op.END) - 1
    broken = patch_program(path, tmp_path / "image", at, image.program[at] & ~0xF | 15)
    with boards.Board(four, FOUR, broken) as board:
        for _ in range(2):
            fault(board, [[1, 2]], 2, Fault.BAD_COMMAND, [at])
        assert board.stats()["jobs"] >= 0


def test_bad_program(four, images, tmp_path):
    """A program without end."""
    path, image = images["four"]
    at = [isa.decode(word)[0] for word in image.program].index(isa.Op.END)
    # The rest of program memory: the same command up to its end.
    data = patch(path, tmp_path / "full", program_commands=FOUR.program_commands)
    skip = isa.encode(isa.Op.SCALAR)
    broken = data
    for index in range(at, FOUR.program_commands):
        broken = patch_program(broken, tmp_path / "image", index, skip)
    # Vocabulary, embedding and so on lie behind the program: only the fault counts here.
    with boards.Board(four, FOUR, broken) as board:
        fault(board, [[1]], 1, Fault.BAD_PROGRAM, [FOUR.program_commands])


def test_memory_errors(one, images, tmp_path):
    """A hole in the memory: a fault where it is touched, work as usual where not."""
    path, image = images["one"]
    with boards.Board(one, ONE, path, patience=300_000) as board:
        prompts = [[1, 2, 3]]
        own = systems.run(board, prompts, 10)
        assert own.tokens == golden(image, ONE, prompts, 10).tokens
        error = fault(board, [list(range(40))], 2, Fault.WRITE_ERROR, ERRORS)
        assert "the memory answered a write at 0x000086" in str(error)
        fault(board, [list(range(30))], 10, Fault.WRITE_ERROR, ERRORS)
        again = systems.run(board, prompts, 10)
        assert again.tokens == own.tokens
    # An image that reaches over the hole cannot be read.
    path = tmp_path / "image"
    assert systems.pack(ONE, path, vocabulary=200).fields["image_bytes"] > ERRORS.stop
    refused(one, ONE, path, "stopped with READ_ERROR: the memory answered a read at 0x")


# Dead boards --------------------------------------------------------------------------------------


def test_limit(four, images):
    with pytest.raises(BoardError, match="ended after 5,000 cycles: the cycle limit was reached"):
        boards.Board(four, FOUR, images["four"][0], limit=5000)


def test_silence(four, images):
    """A board that owes an answer while nothing moves is dead; here patience is short."""
    with pytest.raises(BoardError, match="the board hangs: no byte from it and no beat of memory"):
        boards.Board(four, FOUR, images["four"][0], patience=50)


def test_closing_a_busy_board(four, images):
    board = boards.Board(four, FOUR, images["four"][0])
    board.start([[1, 2, 3]], 40)
    board.expect("token")
    board.close()
    assert board.summary["reason"] == "terminated"
    with pytest.raises(BoardError, match="the board is closed; boot another one"):
        board.stats()


def test_expected_record_that_never_comes(four, images):
    with (
        boards.Board(four, FOUR, images["four"][0]) as board,
        pytest.raises(BoardError, match="waits for a command where a record 'done' was due"),
    ):
        board.send("clear")
        board.expect("done")


# Host ---------------------------------------------------------------------------------------------


def test_every_message():
    """Every error of the firmware and every fault has its sentence."""
    folder = boards.Path(__file__).resolve().parents[2] / "firmware"
    pattern = r'(?:error|fails)\("(\w+)"[,)]'
    used = {what for file in folder.glob("*.c") for what in re.findall(pattern, file.read_text())}
    assert used == set(MESSAGES)
    assert set(FAULTS) == set(Fault) - {Fault.NONE}
    for code in FAULTS:
        text = explain(Record("fault", (("code", str(code.value)), ("info", "64"))))
        assert text.startswith(f"the accelerator stopped with {code.name}: ") and "{" not in text


def test_unknown_messages():
    assert explain(Record("error", (("what", "rain"), ("has", "3")))) == (
        "the board reports error: what rain, has 3"
    )
    assert explain(Record("fault", (("code", "99"), ("info", "1")))) == (
        "the board reports fault: code 99, info 1"
    )
    assert explain(Record("error", (("what", "bad_sequence"),))) == (
        "the board reports error: what bad_sequence"
    )


def test_ends():
    summary = {"reason": "halted", "cycles": 1234567, "violation": 0, "exit_code": 258}
    assert explain_end(summary, "exception 00000002 at 00000100") == (
        "the simulation ended after 1,234,567 cycles: the firmware ended with code 258, saying "
        "'exception 00000002 at 00000100'"
    )
    summary |= {"reason": "timing rule of the memory broken", "violation": 5}
    assert "timing rule 5 of sdr_sdram.v" in explain_end(summary)


def test_errors_need_the_ideal_memory():
    with pytest.raises(ValueError, match="errors must be None with memory 'sdram'; use the ideal"):
        BoardTop(FOUR, None, errors=range(4))


def test_parser():
    """Records are found wherever the bytes are cut."""
    data = b"one\x1etoken sequence=0 id=17\ntwo\n\x1e\x1edone\n\x1eerror what=a=b has=1\n"
    whole = list(RecordParser().feed(data))
    assert whole == [
        Text(b"one"),
        Record("token", (("sequence", "0"), ("id", "17"))),
        Text(b"two\n"),
        Record("done", ()),
        Record("error", (("what", "a=b"), ("has", "1"))),
    ]
    for cut in range(len(data)):
        parser = RecordParser()
        parts = [*parser.feed(data[:cut]), *parser.feed(data[cut:])]
        text = b"".join(e.data for e in parts if isinstance(e, Text))
        assert text == b"onetwo\n"
        assert [e for e in parts if isinstance(e, Record)] == [
            e for e in whole if isinstance(e, Record)
        ]
    record = whole[1]
    assert record["id"] == "17" and record.numbers("id") == [17]
    with pytest.raises(KeyError, match="record 'token' has no field 'x'"):
        record["x"]
