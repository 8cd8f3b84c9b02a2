"""BitNet b1.58 2B-4T itself against values that transformers' tests publish.

Opt-in: ``TAMALE_BITNET_2B4T=PATH ./tamale test --long tests/model/test_bitnet_2b4t.py``, PATH being
the folder of ``microsoft/bitnet-b1.58-2B-4T`` (or -bf16), or its GGUF file. Whoever wrote this did
not have the file: tolerances are stated, not measured. It takes 2 GB and about a minute.

The values are of transformers' ``tests/models/bitnet/test_modeling_bitnet.py``, class
``BitNetIntegrationTest``, as of commit 052b1dcdbe751ed16e8da95261021318f170a130.
"""

import os

import numpy as np
import pytest
from tamale_model import readers
from tamale_model.reference import Reference
from tamale_model.tokenizer import Tokenizer

PATH = os.environ.get("TAMALE_BITNET_2B4T")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not PATH, reason="TAMALE_BITNET_2B4T names no checkpoint"),
]

PROMPT = "<|begin_of_text|><|begin_of_text|>User: {}<|eot_id|>Assistant: "

#: ``input_ids`` of test_model_logits, the text "How are you?".
TOKENS = [128000, 128000, 1502, 25, 2650, 527, 499, 30, 128009, 72803, 25, 220]
#: Mean logit of each position, to 1e-2 of its value or absolute, whichever is more.
MEANS = [
    -1.8665, -1.7681, -1.7043, 3.7446, 2.7730, 4.7133, 0.9768, -3.5018, -12.2812, -8.1477, -10.2571,
    -8.7610,
]  # fmt: skip
#: The first logits of the first position, float32.
FIRST = [
    5.5815, 4.9154, 1.0478, 4.3869, 3.0112, 0.8235, 3.8412, 2.9233, 8.1140, 1.9406, 1.7973, 10.5025,
    4.7796, 8.5926, 4.5196, 3.1549, 3.2656, 3.2588, 2.7356, 2.6032, 2.1454, 1.5683, 1.3465, 1.5329,
    1.1886, 7.7902, 5.9326, 1.4737, 3.3319, 1.6291,
]  # fmt: skip
#: test_model_generation: 20 tokens, greedy, in bfloat16.
QUESTION = "What is your favourite food?"
ANSWER = "As an AI, I don't have personal preferences or the ability to eat food. However, I"


@pytest.fixture(scope="module")
def model():
    return readers.read(PATH)


@pytest.fixture(scope="module")
def tokenizer(model):
    if model.tokenizer is None:
        pytest.skip(f"{PATH} has no tokenizer.json")
    return Tokenizer(model.tokenizer)


def logits(model, tokens):
    reference = Reference(model)
    return reference.logits(reference.forward(tokens, reference.cache(len(tokens))))


def test_graph(model):
    graph = model.graph
    assert (graph.hidden, graph.layers, graph.heads, graph.kv_heads) == (2560, 30, 20, 5)
    assert (graph.feed_forward, graph.vocabulary, graph.context) == (6912, 128256, 4096)
    assert (graph.activation, graph.tied, graph.rope_theta) == ("relu2", True, 500000)
    assert np.isclose(graph.norm_epsilon, 1e-5)


def test_tokens(tokenizer):
    assert tokenizer.encode(PROMPT.format("How are you?")) == TOKENS


def test_published_logits(model):
    got = logits(model, TOKENS)
    means = got.mean(axis=1, dtype=np.float64)
    print("means", means.round(4), "first", got[0, : len(FIRST)].round(4))
    assert np.allclose(means, MEANS, rtol=1e-2, atol=1e-2)
    # transformers asks for 1e-4 of its own arithmetic; a code on the other side of a rounding
    # boundary, by the order of additions in a norm, moves a logit by more.
    assert np.allclose(got[0, : len(FIRST)], FIRST, rtol=0, atol=5e-2)


def test_published_answer(model, tokenizer):
    """The published tokens, fed back, are those that the reference would choose too."""
    prompt, answer = tokenizer.encode(PROMPT.format(QUESTION)), tokenizer.encode(ANSWER)
    assert len(answer) == 20
    got = logits(model, prompt + answer)[len(prompt) - 1 : -1]
    rank = (got > got[np.arange(20), answer][:, None]).sum(axis=1)
    print("ranks", rank)
    # bfloat16 against float32: where two tokens are near, the other may come first.
    assert (rank == 0).sum() >= 18 and rank.max() <= 2
