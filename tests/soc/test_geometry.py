"""BitNet b1.58 2B-4T at its real sizes: a decoder layer and a slice of the head, on SDRAM."""

import pytest
import systems
from systems import golden, same_logits
from tamale import config as configuration
from tamale_model import imagefile, readers, synthetic
from tamale_sim import board as boards

CONFIG = configuration.load("ulx3s").replace(
    name="ulx3s-2b", max_k=8192, max_context=512, scratchpad_elements=1 << 17
)


@pytest.mark.long
def test_layer(tmp_path):
    """Three prompt tokens at once, then decoding: every token and every logit equal."""
    synthetic.write(tmp_path / "2b", "2b-4t", seed=3, num_hidden_layers=1, vocab_size=2048)
    path = tmp_path / "2b.img"
    imagefile.build(CONFIG, readers.read(tmp_path / "2b"), path)
    image = imagefile.load(path)
    prompt = systems.random_tokens(3, 2048, 3)
    with boards.Board(boards.build(CONFIG), CONFIG, path) as board:
        own = systems.run(board, [prompt], 3, all_logits=True)
    other = golden(image, CONFIG, [prompt], 3, all_logits=True)
    assert own.tokens == other.tokens
    same_logits(board, image, [own], [other])
    assert board.summary["violation"] == 0
    print(f"tokens {own.tokens}, {board.summary}")
