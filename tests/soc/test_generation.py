"""Figures and logits of a run, from events alone."""

from types import SimpleNamespace

import numpy as np
import pytest
from systems import FOUR
from tamale_sim.generation import Generation, Job, Token

IMAGE = SimpleNamespace(
    name="none",
    stop_tokens=[9],
    program=[],
    fields={
        "vocabulary": 10, "context": 12, "useful_layer_bytes": 1000, "useful_head_bytes": 100,
        "useful_kv_centibytes": 200,
    },
)  # fmt: skip


def generation(*prompts):
    result = Generation(IMAGE, FOUR, [[1] * n for n in prompts], 50)
    for sequence in range(len(prompts)):
        result.add(Job(cycles=500))
        result.add(Token(sequence, 2, b""))
    return result


def decode(result, *tokens):
    """A job of decoding, and its tokens by sequence."""
    result.add(Job(slots=len(tokens), cycles=1000, head_cycles=100))
    for sequence, number in tokens:
        result.add(Token(sequence, number, b""))


def test_bytes_count_the_caches_in_use():
    """A sequence that has ended reads no cache, whichever it is."""
    result = generation(3, 5)
    decode(result, (0, 9), (1, 2))  # positions 0..3 and 0..5: 10 of them
    assert result.figures(1)["layers"]["bytes"] == 1000 + 10 * 2
    decode(result, (1, 2))  # sequence 0 has stopped: positions 0..6
    assert result.figures(1)["layers"]["bytes"] == 1000 + 7 * 2
    assert result.figures(1)["slots"] == 1
    figures = result.figures()
    assert figures["whole"]["cycles"] == 1000
    assert figures["head"]["roofline"] == pytest.approx(100 / (100 * 2))


def test_a_full_context_reads_no_more():
    result = generation(11, 3)
    decode(result, (0, 2), (1, 2))  # position 11 is the last of 12
    decode(result, (1, 2))
    assert result.figures(1)["layers"]["bytes"] == 1000 + 5 * 2


def test_logits_of_an_interrupted_run():
    """A sequence that was not reached has no rows."""
    result = Generation(IMAGE, FOUR, [[1], [2]], 50)
    assert result.logits().shape == (2, 0, 10)
    result.add(Job(logits={0: np.ones((3, 10), dtype=np.float32)}))
    logits = result.logits()
    assert logits.shape == (2, 3, 10) and logits.dtype == np.float32
    assert (logits[0] == 1).all() and np.isnan(logits[1]).all()
