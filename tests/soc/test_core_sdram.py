"""The board whose core performs the commands, with SDRAM, equals the golden model."""

import pytest
import systems
from systems import golden, same_logits
from tamale import config as configuration
from tamale_sim import board as boards
from tamale_sim import loading
from tamale_sim.models_cache import open_image
from test_board import compare

CORE = configuration.load("tang-nano-20k")


@pytest.fixture(scope="module")
def core():
    """Executable of the board."""
    return boards.build(CORE)


def test_random_model(core, tmp_path):
    """Sampling, groups' scales, every logit; blocks of values are in test_core_board.py."""
    image = systems.pack(CORE, tmp_path / "image", hidden=128, group_size=64, context=28)
    assert image.fields["group_size"] == 64
    runs = {
        "sampled": ([2], 3, (1.0, 0, 5), False),
        "every logit": ([3], 2, (0.0, 0, 0), True),
    }
    compare(core, CORE, (tmp_path / "image", image), runs)


def test_load(core, tmp_path):
    """A board without image takes one over the serial port; what is there is not sent again."""
    path = tmp_path / "image"
    image = systems.pack(CORE, path)
    size = path.stat().st_size
    with boards.Board(core, CORE, None) as board:
        assert board.state.kind == "waiting"
        result = loading.load(board, path)
        assert (result.sent, result.held, result.repeated) == (size, 0, 0)
        own = systems.run(board, [[1, 2, 3]], 3)
        result = loading.load(board, path)
        assert (result.sent, result.held) == (0, size)
    expected = golden(image, CORE, [[1, 2, 3]], 3)
    assert own.tokens == expected.tokens
    same_logits(board, image, [own], [expected])


@pytest.mark.long
def test_demonstration(core):
    """The demonstration model with all 2,048 positions."""
    image, path = open_image(None, CORE)
    assert image.fields["context"] == 2048
    systems.same_demonstration(core, (image, path), CORE)
