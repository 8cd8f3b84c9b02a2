"""The demonstration model on the simulated board: every token, every logit, the memory's use."""

import json
import os

import pytest
import systems
from systems import golden, same_logits
from tamale import config as configuration
from tamale_model import imagefile, readers
from tamale_model.tokenizer import Tokenizer
from tamale_sim import board as boards
from tamale_sim.generation import peak_bytes_per_cycle
from tamale_sim.models_cache import demonstration
from tamale_sim.protocol import Record

CONFIG = configuration.load("ulx3s")

TEXT = (
    "In the beginning God created the heaven and the earth. And the earth was without form, and "
    "void; and darkness was upon the face of the deep. And the Spirit of God moved upon the face "
    "of the waters."
)

#: Least share of the memory's peak for useful bytes, of layers and of the head.
ROOFLINE = 0.70


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """Path and `Image` of the demonstration model."""
    path = tmp_path_factory.mktemp("demo") / "demo.img"
    imagefile.build(CONFIG, readers.read(demonstration()), path)
    return path, imagefile.load(path)


@pytest.fixture(scope="session")
def prompt():
    """The first 32 tokens of a text."""
    tokens = Tokenizer((demonstration() / "tokenizer.json").read_text()).encode(TEXT)
    assert len(tokens) >= 32
    return tokens[:32]


def rooflines(image, own, start):
    """Share of the memory's peak, of layers and of head, over the jobs that decode."""
    fields, peak = image.fields, peak_bytes_per_cycle(CONFIG)
    jobs = [e for e in own.events if isinstance(e, Record) and e.kind == "job"][1:]
    layers = head = layer_cycles = head_cycles = 0
    for i, job in enumerate(jobs):
        cycles, cycles_of_head = int(job["cycles"]), int(job["head_cycles"])
        cache = (start + i + 1) * fields["useful_kv_centibytes"] / 100
        layers += fields["useful_layer_bytes"] + cache
        head += fields["useful_head_bytes"]
        layer_cycles += cycles - cycles_of_head
        head_cycles += cycles_of_head
    return layers / (layer_cycles * peak), head / (head_cycles * peak)


def check(demo, image, prompt, tokens, sampling):
    """Run on the board and on the golden model; compare everything."""
    path, image = image
    with boards.Board(demo, CONFIG, path) as board:
        own = systems.run(board, [prompt], tokens, sampling=sampling)
    other = golden(image, CONFIG, [prompt], tokens, sampling=sampling)
    assert own.tokens == other.tokens and own.reasons == other.reasons
    same_logits(board, image, [own], [other])
    assert board.summary["violation"] == 0 and board.summary["reason"] == "halted"
    layers, head = rooflines(image, own, len(prompt))
    made = len(own.tokens[0])
    rate = board.summary["cycles"] / board.summary["seconds"]
    print(
        f"{made} tokens, ended by {own.reasons[0]}: layers {layers:.1%}, head {head:.1%} of the "
        f"peak; {json.dumps(board.summary)}, {rate / 1e3:.0f} kHz"
    )
    assert layers >= ROOFLINE and head >= ROOFLINE
    # A stop token may end the text, but not so early that nothing is tested.
    assert own.reasons[0] == "length" and made == tokens or made >= 16
    return own


def test_greedy(demo, image, prompt):
    check(demo, image, prompt, int(os.environ.get("TAMALE_DEMO_TOKENS", "200")), (0.0, 0, 0))


def test_sampled(demo, image, prompt):
    own = check(demo, image, prompt, 24, (0.8, 20, 7))
    assert len(set(own.tokens[0])) > 4


@pytest.mark.long
def test_sampled_long(demo, image, prompt):
    check(demo, image, prompt, 200, (0.8, 20, 7))


@pytest.mark.long
def test_thousand(demo, image, prompt):
    """1,000 tokens; several texts where stop tokens end them earlier."""
    made, seed = 0, 1
    while made < 1000:
        own = check(demo, image, prompt, 1000 - made, (0.8, 40, seed))
        made += len(own.tokens[0])
        seed += 1
