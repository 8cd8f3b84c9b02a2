"""Images over the serial port, from flash and from a card; what goes wrong on the way."""

import pytest
import systems
import volumes
from systems import FOUR, golden
from tamale_sim import board as boards
from tamale_sim import loading
from tamale_sim.board import BoardError
from tamale_sim.link import LinkError

#: Small, so that it boots in a second.
SMALL = {
    "layers": 1, "hidden": 16, "heads": 2, "kv_heads": 1, "head_size": 8, "feed_forward": 24,
    "vocabulary": 32, "context": 16,
}  # fmt: skip
#: Speeds that the CPU's clock of 57 MHz makes, a divisor of 12 and 14.
FAST, SLOWER = 4_750_000, 4_071_429
OFFSET = FOUR.flash_image_offset
FILE = b"TAMALE  IMG"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Contents, and `Image`, of a small model."""
    path = tmp_path_factory.mktemp("small") / "image"
    return path, systems.pack(FOUR, path, **SMALL)


def works(board, image):
    """Assert that a board runs an image as the golden model does."""
    assert board.ready["model"] == image.name
    own = systems.run(board, [[1, 2, 3]], 3)
    assert own.tokens == golden(image, FOUR, [[1, 2, 3]], 3).tokens


def told(board):
    """What the board said about images that it does not use."""
    return [error.record["what"] for error in board.errors]


# Serial port --------------------------------------------------------------------------------------


def test_load(four, small):
    """A board without image waits; loading starts the model; what is there is not sent again."""
    path, image = small
    with boards.Board(four, FOUR, None) as board:
        assert told(board) == ["no_image"] and board.state.kind == "waiting"
        assert int(board.state["memory"]) == FOUR.memory_bytes
        for line in ("prompt 0 1", "text 0 0 a", "cached 0 1", "generate 1 1 0 0 1 0"):
            with pytest.raises(BoardError, match="no_image: .* load an image that `tamale pack`"):
                board.send(line)
                board.expect("idle")
        seen = []
        size = path.stat().st_size
        result = loading.load(board, path, baud=FAST, progress=lambda *counts: seen.append(counts))
        assert (result.sent, result.held, result.repeated) == (size, 0, 0)
        assert seen[0] == (0, size) and seen[-1] == (size, size) and seen == sorted(seen)
        assert board.ready["source"] == "host" and not board.errors
        works(board, image)
        result = loading.load(board, path)
        assert (result.sent, result.held) == (0, size)
        works(board, image)
        board.greet()
        assert board.ready["source"] == "host"


class Mangler:
    """Changes what is written through a link: ``faults`` maps the number of a frame to a
    function of its bytes."""

    def __init__(self, link, faults):
        self.write, self.faults, self.frames = link.write, faults, 0
        link.write = self

    def __call__(self, data):
        if len(data) >= 16 + 64:
            data = self.faults.get(self.frames, lambda d: d)(data)
            self.frames += 1
        self.write(data)


def flip(at, mask=0x10):
    return lambda data: data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_bad_line(four, small):
    """A damaged byte, a lost one, a damaged header, a doubled byte: only these blocks, and what
    followed at once, are sent again."""
    path, image = small
    faults = {
        0: flip(700),
        1: lambda data: data[:900] + data[901:],
        3: flip(1, 8),  # block 1 says that it is block 0
        6: lambda data: data[:50] + data[49:],
    }
    with boards.Board(four, FOUR, None) as board:
        mangler = Mangler(board.link, faults)
        result = loading.load(board, path, baud=FAST)
        assert mangler.frames == -(-path.stat().st_size // 2048) + result.repeated
        assert 4 <= result.repeated <= 4 * 8 and max(faults) < mangler.frames
        works(board, image)


def test_interrupted(four, small):
    """Ctrl-C in the middle leaves the board in order; the next load goes on."""
    path, image = small
    size = path.stat().st_size

    def stop(right, _):
        if right:
            raise KeyboardInterrupt

    with boards.Board(four, FOUR, None) as board:
        with pytest.raises(KeyboardInterrupt):
            loading.load(board, path, baud=FAST, progress=stop)
        assert board.state.kind == "waiting" and told(board) == ["image_checksum"]
        assert board.link.baud == FOUR.uart_baud
        result = loading.load(board, path, baud=SLOWER)
        assert (result.held, result.sent, result.baud) == (2048, size - 2048, SLOWER)
        works(board, image)


def test_host_dies(four, small):
    """A board whose host is gone in the middle of a block listens at the usual speed again."""
    path, image = small
    data = path.read_bytes()
    with boards.Board(four, FOUR, None) as board:
        board.send(f"load {len(data)} {SLOWER} 10")
        board.expect("loading")
        board.link.set_baud(SLOWER)
        board.send_bytes(loading.frame(0, data[:2048]) + loading.frame(2048, data[2048:4096])[:99])
        kinds = []
        while "error" not in kinds:
            kinds.append(board.next_record(60).kind)
        assert kinds == ["got", "again", "error"]
        board.link.set_baud(FOUR.uart_baud)
        board.greet()
        assert board.state.kind == "waiting"
        # The whole block is kept.
        assert loading.load(board, path, baud=FAST).held == 2048
        works(board, image)


def test_wrong_images(four, small, tmp_path):
    """What the hardware cannot run is refused with the reason; a good image mends it."""
    path, image = small
    large = tmp_path / "large"
    large.write_bytes(bytes(FOUR.memory_bytes + 64))
    with boards.Board(four, FOUR, path) as board:
        with pytest.raises(BoardError, match="has 1,048,640 bytes, the board's memory 1,048,576"):
            loading.load(board, large)
        works(board, image)
        # An image for other hardware: of this one only its first block differs.
        other = systems.patch(path, tmp_path / "other", bus_width=64)
        with pytest.raises(BoardError, match="packed for bus_width = 64, the hardware has 32"):
            loading.load(board, other, baud=FAST)
        assert board.state.kind == "waiting" and board.ready is None
        bad = systems.patch(path, tmp_path / "bad", version=1)
        with pytest.raises(BoardError, match="the image has version 1, this firmware reads"):
            loading.load(board, bad, baud=FAST)
        loading.load(board, path, baud=FAST)
        works(board, image)


def test_bad_requests(four, small):
    path, image = small
    with boards.Board(four, FOUR, path) as board:
        for line, message in (
            ("load", "bad_load: load takes three numbers"),
            ("load 64 0 0", "bad_load"),
            ("load 64 0 10001", "bad_load"),
            ("load 65 0 100", "bad_range: 65 bytes"),
            ("load 0 0 100", "bad_range"),
            ("load 2097152 0 100", "bad_range: .* the memory has 1048576"),
            ("load 64 40000000 100", "bad_baud: .* 40000000 bits per second"),
            ("load 64 4294967295 100", "bad_baud"),
            ("load 64 100 100", "bad_baud"),
            ("load 64 9000000 100", "bad_baud"),
            ("sums 0 64", "bad_number"),
            ("sums 0 0 1", "bad_range"),
            ("sums 32 64 1", "bad_range"),
            ("sums 0 1048576 2", "bad_range"),
            ("sums 4294967232 64 4294967295", "bad_range"),
        ):
            with pytest.raises(BoardError, match=message):
                board.send(line)
                board.expect("idle")
        # The accelerator still reads the image, whose bounds the sums changed.
        assert len(board.command("sums 1024 64 3", "sums").numbers("c")) == 3
        works(board, image)


def test_too_fast(four, small, monkeypatch):
    """Speeds that the clock, or the port, cannot make are passed over."""
    path, image = small
    with boards.Board(four, FOUR, None) as board:
        change = board.link.set_baud

        def set_baud(speed):
            if speed == SLOWER:
                raise LinkError("the port does not do this")
            change(speed)

        monkeypatch.setattr(board.link, "set_baud", set_baud)
        monkeypatch.setattr(loading, "SPEEDS", (30_000_000, 9_000_000, SLOWER, FAST))
        monkeypatch.setattr(board.link, "patience", 20.0)
        assert loading.load(board, path, patience_ms=20).baud == FAST
        works(board, image)


# Flash and card -----------------------------------------------------------------------------------


def flash(tmp_path, contents, offset=OFFSET):
    path = tmp_path / "flash"
    with open(path, "wb") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(contents)
    return path


def test_flash(four, small, tmp_path):
    path, image = small
    with boards.Board(four, FOUR, None, flash=flash(tmp_path, path.read_bytes())) as board:
        assert board.ready["source"] == "flash" and not board.errors
        works(board, image)
        # What is in the memory goes before the flash; a new start finds it there.
        board.send("boot")
        board.listen()
        assert board.ready["source"] == "memory"
        works(board, image)


@pytest.mark.parametrize(
    ("options", "capacity"),
    [
        ({"kind": 16}, "high"),
        (
            {"kind": 16, "partition": 7, "cluster_sectors": 4, "scatter": 3, "before": 20},
            "standard",
        ),
        ({"kind": 32, "partition": 63, "scatter": 2, "before": 40}, "high"),
    ],
    ids=["fat16", "fat16-partition-standard-capacity", "fat32-partition"],
)
def test_card(four, small, tmp_path, options, capacity):
    path, image = small
    files = {b"README  TXT": b"no model" * 300, FILE: path.read_bytes()}
    card = tmp_path / "card"
    card.write_bytes(volumes.card(files, **options))
    with boards.Board(
        four, FOUR, None, card=card, card_capacity=capacity, flash=flash(tmp_path, b"")
    ) as board:
        assert board.ready["source"] == "card" and not board.errors
        works(board, image)


def damaged(data, at=-1):
    data = bytearray(data)
    data[at] ^= 1
    return bytes(data)


def test_flash_before_card(four, small, tmp_path):
    """A damaged image in the flash is reported, then the card's runs."""
    path, image = small
    card = tmp_path / "card"
    card.write_bytes(volumes.card({FILE: path.read_bytes()}))
    bad = flash(tmp_path, damaged(path.read_bytes()))
    with boards.Board(four, FOUR, None, card=card, flash=bad) as board:
        assert told(board) == ["image_checksum"]
        assert board.errors[0].record["source"] == "flash"
        assert board.ready["source"] == "card"
        works(board, image)


@pytest.mark.parametrize(
    ("card", "what"),
    [
        (lambda image: bytes(512), "card_no_volume"),
        (lambda image: volumes.card({b"TAMALE  TXT": image}), "card_no_file"),
        (lambda image: volumes.card({FILE: image[:-600]}), "card_file_short"),
        (lambda image: volumes.card({FILE: damaged(image, 8)}), "header_checksum"),
        (lambda image: volumes.card({FILE: image}, partition=8)[:5000], "card_unreadable"),
    ],
)
def test_bad_cards(four, small, tmp_path, card, what):
    path = tmp_path / "card"
    path.write_bytes(card(small[0].read_bytes()))
    with boards.Board(four, FOUR, None, card=path) as board:
        assert board.state.kind == "waiting" and told(board)[0] == what


# Memory test --------------------------------------------------------------------------------------


def test_memory(four, small):
    path, _ = small
    with boards.Board(four, FOUR, path) as board:
        board.send("memtest 4096 7")
        events = list(board.events_to_idle())
        kinds = [event.kind for event in events]
        assert kinds == ["testing"] * 32 + ["tested", "waiting"]
        assert [int(e["bytes"]) for e in events[:8]] == [512 * i for i in range(1, 9)]
        assert [int(e["walk"]) for e in events[:32]] == [i // 8 for i in range(32)]
        assert events[-2].fields == (("walk", "4"), ("bytes", "4096"), ("errors", "0"))
        for line in ("memtest 0 1", "memtest 6 1", "memtest 2097152 1"):
            with pytest.raises(BoardError, match="bad_range"):
                board.send(line)
                board.expect("idle")
