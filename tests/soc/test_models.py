"""Random small models on the demonstration's board: planes, groups, head sharing, graphs."""

import pytest
import systems
from random_models import GRAPHS
from systems import golden, same_logits
from tamale import config as configuration
from tamale_sim import board as boards

CONFIG = configuration.load("ulx3s")

#: Arguments of `random_model`, by what they exercise.
SHAPES = {
    "one plane, group 256, 1:1": {
        "planes": 1, "group_size": 256, "heads": 2, "kv_heads": 2, "head_size": 40, "hidden": 300,
        "feed_forward": 516,
    },
    "two planes, group 128, 3:1": {
        "planes": 2, "group_size": 128, "heads": 6, "kv_heads": 2, "head_size": 16, "hidden": 140,
        "feed_forward": 260,
    },
    "three planes, 8:1": {
        "planes": 3, "heads": 8, "kv_heads": 1, "head_size": 8, "hidden": 52, "feed_forward": 100,
    },
    "five planes, group 64, 4:1": {
        "planes": 5, "group_size": 64, "heads": 4, "kv_heads": 1, "head_size": 24, "hidden": 132,
        "feed_forward": 196,
    },
    "row scales, own head": {
        "row_scales": True, "tied": False, "heads": 4, "kv_heads": 2, "head_size": 8, "hidden": 36,
        "feed_forward": 68,
    },
}  # fmt: skip

# The graphs of published checkpoints, on sizes that leave nothing even.
SHAPES |= {
    name: {
        "planes": 2, "heads": 6, "kv_heads": 2, "head_size": 16, "hidden": 52, "feed_forward": 76,
        **arguments,
    }
    for name, arguments in GRAPHS.items()
    if name != "bitnet"
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_shape(demo, tmp_path, name):
    """Prompt and new tokens, greedy: every token and every logit equal."""
    path = tmp_path / "model.img"
    image = systems.pack(CONFIG, path, seed=len(name), **SHAPES[name])
    prompts = [[5, 17, 3, 60, 8, 8, 41, 2, 33], [1, 2]]
    with boards.Board(demo, CONFIG, path) as board:
        own = systems.run(board, prompts, 8, all_logits=True)
    other = golden(image, CONFIG, prompts, 8, all_logits=True)
    assert own.tokens == other.tokens and own.reasons == other.reasons
    same_logits(board, image, [own], [other])
