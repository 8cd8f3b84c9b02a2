"""Measure an exported model: bits per byte on held-out text, loss by position, samples."""

import math

import numpy as np
import torch

from .corpus import Stream
from .tokenizer import BOS, EOS

PROMPTS = (
    "In the beginning",
    "And it came to pass",
    "Psalms 151\n\n",
    "It is a truth universally acknowledged, that",
    "Emma, Chapter 60\n\n",
    '"My dear Mr. Darcy,"',
)


@torch.no_grad()
def token_losses(logits_of, stream, starts, length):
    """Return float64 [windows, length]: nats of each target in windows of `stream`.

    `logits_of` maps ids int64 [1, length] to float32 logits [1, length, vocabulary]. Every window
    begins with `<s>`, so its target at position p is the stream's token start + p.
    """
    rows = []
    for start in starts:
        ids = torch.from_numpy(stream.window(start, length))
        scores = torch.log_softmax(logits_of(ids[None, :-1])[0].double(), -1)
        rows.append(-scores.gather(1, ids[1:, None])[:, 0].numpy())
    return np.stack(rows)


def held_out(logits_of, stream: Stream, length=2048, stride=512):
    """Return figures of `stream` as a dictionary.

    Windows of `length` begin every `stride` tokens, so that (but for the ends) each token is met
    once in every part of the context; the parts therefore differ by context, not by content.
    Keys: `nats` and `bits_per_byte` over all windows, `kjv_nats`, `austen_nats`, and `parts`, the
    nats by quarter of the context over tokens that every quarter has met.
    """
    starts = np.arange(0, len(stream) - length, stride)
    losses = token_losses(logits_of, stream, starts, length)
    places = starts[:, None] + np.arange(length)
    source = stream.source[places]
    common = (places >= length - stride) & (places < starts[-1] + stride)
    parts = {}
    for first in range(0, length, stride):
        chosen = common[:, first : first + stride]
        parts[f"{first}-{first + stride - 1}"] = float(
            losses[:, first : first + stride][chosen].mean()
        )
    tokens_per_byte = len(stream) / stream.bytes
    nats = float(losses.mean())
    return {
        "windows": len(starts),
        "nats": nats,
        "bits_per_byte": nats * tokens_per_byte / math.log(2),
        "kjv_nats": float(losses[source == 0].mean()),
        "austen_nats": float(losses[source == 1].mean()),
        "parts": parts,
    }


@torch.no_grad()
def generate(logits_of, tokenizer, prompt, tokens=120, temperature=0.0, seed=0, context=2048):
    """Return the text that follows `prompt`, of at most `tokens` tokens, to `</s>` at the latest.

    `<s>` is put in front of the prompt. Temperature 0 takes the likeliest token each time.
    """
    rng = np.random.default_rng(seed)
    ids = [BOS, *tokenizer.encode(prompt).ids]
    fresh = []
    while len(fresh) < tokens and len(ids) < context:
        scores = logits_of(torch.tensor([ids]))[0, -1].double().numpy()
        if temperature:
            scores = np.exp((scores - scores.max()) / temperature)
            choice = int(rng.choice(len(scores), p=scores / scores.sum()))
        else:
            choice = int(scores.argmax())
        if choice == EOS:
            break
        ids.append(choice)
        fresh.append(choice)
    return tokenizer.decode(fresh)


def report(logits_of, tokenizer, stream):
    """Yield the lines of a report: figures first, then samples of every prompt."""
    figures = held_out(logits_of, stream)
    yield (
        f"held-out: {figures['nats']:.4f} nats a token, {figures['bits_per_byte']:.4f} bits a byte"
        f" ({figures['windows']} windows); kjv {figures['kjv_nats']:.4f},"
        f" austen {figures['austen_nats']:.4f} nats a token"
    )
    for part, nats in figures["parts"].items():
        yield f"  positions {part}: {nats:.4f} nats a token"
    for prompt in PROMPTS:
        for temperature in (0.0, 0.8):
            text = generate(logits_of, tokenizer, prompt, temperature=temperature)
            yield f"\n[temperature {temperature}] {prompt}|{text}"


@torch.no_grad()
def compare(ours, theirs, tokenizer, stream, windows=12, length=2048, tokens=100):
    """Yield the lines of a comparison of two `logits_of`, the second being the reference.

    Figures come from `windows` windows of `length` tokens spread over `stream`; greedy texts of
    `tokens` tokens should be the same ones. Texts drawn at temperature 0.8 are shown of the
    reference alone: a difference of one unit in the last place soon draws another token.
    """
    nats, divergence, agreed = np.zeros(2), 0.0, 0.0
    for start in np.linspace(0, len(stream) - length - 1, windows).astype(int):
        ids = torch.from_numpy(stream.window(start, length))[None]
        scores = [torch.log_softmax(run(ids[:, :-1]).double(), -1)[0] for run in (ours, theirs)]
        nats += [-s.gather(1, ids[0, 1:, None]).mean().item() / windows for s in scores]
        divergence += (scores[1].exp() * (scores[1] - scores[0])).sum(-1).mean().item() / windows
        agreed += (scores[0].argmax(-1) == scores[1].argmax(-1)).double().mean().item() / windows
    per_byte = len(stream) / stream.bytes / math.log(2)
    for name, value in zip(("recipe", "reference"), nats, strict=True):
        yield f"{name:9} {value:.5f} nats a token, {value * per_byte:.5f} bits a byte"
    yield (
        f"{windows * length} tokens: KL {divergence:.2e} nats, likeliest token the same for"
        f" {agreed:.4f}"
    )
    for prompt in PROMPTS:
        first, second = (generate(run, tokenizer, prompt, tokens=tokens) for run in (ours, theirs))
        same = "the same text" if first == second else f"OTHER TEXT {first!r}, not {second!r}"
        yield f"[greedy] {prompt!r}: {same}"
        drawn = generate(theirs, tokenizer, prompt, tokens=tokens, temperature=0.8)
        yield f"[temperature 0.8] {prompt}|{drawn}"


def transformers_logits(folder):
    """Return `logits_of` of transformers' BitNetForCausalLM, the independent reference."""
    import torch._dynamo

    torch._dynamo.config.disable = True  # its quantisers are compiled otherwise, very slowly
    from transformers import BitNetForCausalLM

    model = BitNetForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return lambda ids: model(ids).logits
