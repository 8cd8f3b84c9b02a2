"""The board whose core performs the commands equals the golden model: tokens and logits."""

import subprocess

import pytest
import systems
from systems import golden, same_logits
from tamale import config as configuration
from tamale_sim import board as boards
from tamale_sim.models_cache import open_image
from test_board import compare

CORE = configuration.load("icebreaker")


@pytest.fixture(scope="module")
def core():
    """Executable of the board."""
    return boards.build(CORE)


def test_random_model(core, tmp_path):
    """A prompt across a block of values, sampling, and a context that becomes full."""
    image = systems.pack(CORE, tmp_path / "image", context=28)
    runs = {
        "long prompt": ([21], 2, (0.0, 0, 0), False),
        "sampled": ([2], 3, (1.0, 0, 5), False),
        "every logit": ([3], 2, (0.0, 0, 0), True),
        "context": ([26], 9, (2.0, 3, 7), False),
    }
    done = compare(core, CORE, (tmp_path / "image", image), runs)
    assert done[-1].reasons == {0: "context"}


def test_groups(core, tmp_path):
    """Matrices with a scale for every group of weights."""
    image = systems.pack(CORE, tmp_path / "image", seed=7, hidden=128, group_size=64)
    assert image.fields["group_size"] == 64
    runs = {"every logit": ([3], 2, (0.0, 0, 0), True)}
    compare(core, CORE, (tmp_path / "image", image), runs)


@pytest.mark.long
def test_demonstration(core):
    """The demonstration model: 25 million cycles."""
    cycles = systems.same_demonstration(core, open_image(None, CORE), CORE)
    # 6.2 million when this was written, without prompts to wait for.
    assert cycles < 8_000_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tile_rows": 2}, "tile_rows"),
        ({"max_context": 200}, "context"),
    ],
)
def test_image_of_another_configuration(core, tmp_path, change, message):
    other = configuration.load("smallest").replace(**change)
    systems.pack(other, tmp_path / "image", context=other.max_context)
    with pytest.raises(boards.BoardError, match=message):
        boards.Board(core, CORE, tmp_path / "image").close()


def test_damaged_image(core, tmp_path):
    path = tmp_path / "image"
    systems.pack(CORE, path)
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(boards.BoardError, match="checksum"):
        boards.Board(core, CORE, path).close()


def test_model_whose_cache_is_too_large(core, tmp_path):
    path = tmp_path / "image"
    image = systems.pack(CORE, path, layers=8, head_size=64, context=96)
    assert image.fields["kv_sequence_bytes"] > 100_000
    with pytest.raises(boards.BoardError, match="memory"):
        boards.Board(core, CORE, path).close()


def test_no_firmware(core):
    """The boot program says what is missing, and waits for ever."""
    process = subprocess.run(
        [core, "--divisor", str(round(CORE.clock_hz / CORE.uart_baud)), "--limit", "400000"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
    )  # fmt: skip
    assert process.stdout.startswith(b"no firmware in the flash; write it with: tamale flash\r\n")


@pytest.mark.long
def test_whole_context(core):
    """The demonstration model until its context is full."""
    image, path = open_image(None, CORE)
    prompt = [0]
    with boards.Board(core, CORE, path) as board:
        own = systems.run(board, [prompt], 200, sampling=(1.0, 0, 5))
    expected = golden(image, CORE, [prompt], 200, sampling=(1.0, 0, 5))
    assert own.tokens == expected.tokens and own.reasons == expected.reasons
    same_logits(board, image, [own], [expected])
