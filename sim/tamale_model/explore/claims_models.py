"""Claims about models: what they read, what they keep."""

import math

from tamale_model.explore.verdict import Check, Verdict, near, pick, register
from tamale_model.explore.workload import Storage

__all__ = []


@register("ternary-addition")
def _ternary_addition(world):
    card = world.workloads["bitnet-2b-4t"]
    count = world["measured.multipliers_on_trits"].value
    # One multiplication per row of a matrix scales its finished sum.
    rows = sum(n * r for entries in card.matrices().values() for n, r, _ in entries)
    macs = card.active()
    yield Check(
        ("1", "0", "1"),
        f"{count:g} multipliers on trits in the generated array (the trit selects add, subtract or "
        f"skip); {macs / 1e9:.2f} G additions a token of {card.title} against {rows / 1e6:.2f} M "
        f"multiplications of finished sums by a scale, one in {macs / rows:,.0f}. -1, 0, +1 carry "
        f"log2 3 = {math.log2(3):.3f} bits, {world['measured.bits_per_weight'].value} in memory",
        pick(count == 0),
        uses=("measured.multipliers_on_trits", "measured.bits_per_weight", card.name),
    )
    vectors = card.layers * (6 * card.hidden + 3 * card.feed_forward["size"])
    yield Check(
        (),
        f"beside the weights: norms, gains, SwiGLU or squared ReLU, softmax and rotary take about "
        f"{vectors / 1e6:.1f} M multiplications a token, {vectors / macs:.2%} of the additions",
        Verdict.IF,
        "`integer addition only` is meant of the weights; element-wise work still multiplies",
        (card.name,),
    )


@register("matmul-free")
def _matmul_free(world):
    card = world.workloads["matmulfree-2.7b"]
    moved = sum(card.token_bytes(card.storage, 2048).values())
    other = world.workloads["bitnet-2b-4t"]
    cache = other.cache_bytes(other.storage, 4096)
    yield Check(
        (),
        f"{card.parameters() / 1e9:.2f} B parameters, {moved / 1e6:.0f} MB a token at any context; "
        f"its state is {card.cache_bytes(Storage.uniform(16), 0) / 1e3:.0f} kB, where "
        f"{other.title} reads {cache / 1e6:.0f} MB of cache at 4,096 positions",
        Verdict.IF,
        "the recurrence is compiled: array and vector unit have the operations (ternary products, "
        "sigmoid, element-wise multiply), the compiler does not emit them yet",
        (card.name, other.name),
    )


@register("mixture-of-experts")
def _experts(world):
    card = world.workloads["deepseek-v3"]
    total, active = card.parameters(), card.active()
    embedded = active + card.vocabulary * card.hidden
    share = active / total
    yield Check(
        ("37", "671", "5.5"),
        f"{total / 1e9:.1f} B in all; {active / 1e9:.1f} B are multiplied with, "
        f"{embedded / 1e9:.1f} B with the embedding: {share:.2%} to {embedded / total:.2%}",
        pick(near(total, 671e9, 0.01) and near(active, 37e9, 0.03)),
        uses=(card.name,),
    )
    one, many = (sum(card.token_bytes(card.storage, 4096, n).values()) for n in (1, 8))
    yield Check(
        (),
        f"bytes a token: {one / 1e9:.2f} GB alone; eight sequences together need "
        f"{card._share(8):.0%} of the experts, {many / 8 / 1e9:.2f} GB each",
        Verdict.IF,
        "the DMA fetches routed experts only: descriptors indexed by an expert are not built yet",
        (card.name,),
    )


@register("latent-attention")
def _latent(world):
    card = world.workloads["deepseek-v3"]
    values = sum(card.cache_values()) / card.layers
    size = card.cache_bytes(Storage.uniform(16), 131072)
    yield Check(
        ("128", "8.6", "576", "61", "2", "131,072", "8.58"),
        f"{values:.0f} values x {card.layers} layers x 2 bytes x 131,072 = {size:,.0f} bytes = "
        f"{size / 2**30:.2f} GiB = {size / 1e9:.2f} GB",
        pick(near(size / 2**30, 8.58, 0.001)),
        uses=(card.name,),
    )
    heads = card.attention["heads"]
    full = heads * (card.attention["key_size"] + card.attention["value_size"])
    grouped = 2 * 8 * 128
    against_full, against_grouped = 1 - values / full, 1 - values / grouped
    # DeepSeek-V2's 93.3 % is against DeepSeek 67B (95 layers of 8 KV heads), with 6-bit values.
    quoted = 1 - (60 * 576 * 6) / (95 * 2 * 8 * 128 * 16)
    yield Check(
        ("93", "98"),
        f"against every head's own keys and values ({full:,} a layer) {against_full:.1%} smaller; "
        f"against 8 grouped heads ({grouped:,}) {against_grouped:.0%}. The 93.3 % of "
        "DeepSeek-V2 are "
        f"against DeepSeek 67B and count 6-bit values: {quoted:.1%}",
        pick(False, against_full > 0.93),
        "compared with full multi-head attention; models with grouped queries, the usual ones, "
        "gain less",
        (card.name,),
    )


@register("cache-quantization")
def _cache(world):
    bits = {n: n * 1.6 for n in (2, 3)}
    loss = {n: world[f"measured.cache_loss_{n}"].value for n in (2, 3)}
    same = {n: world[f"measured.cache_argmax_{n}"].value for n in (2, 3)}
    yield Check(
        ("3",),
        f"2 trits = {bits[2]:.1f} bits: {same[2]:.1%} of the tokens as in floats, "
        f"{loss[2]:.3f} nats; "
        f"3 trits = {bits[3]:.1f} bits: {same[3]:.1%}, {loss[3]:.4f} nats (demonstration model, "
        "1,536 tokens)",
        pick(same[2] > 0.99, loss[3] < 0.01),
        f"{bits[3]:.1f} bits are allowed; at {bits[2]:.1f} bits the loss on our small model is not "
        "negligible, and no large one was measured here",
        ("measured.cache_loss_2", "measured.cache_argmax_2", "measured.cache_loss_3"),
    )


@register("post-training")
def _post_training(world):
    base = world["measured.perplexity_float"].value
    kept = {
        name: base / world[f"measured.perplexity_{key}"].value
        for name, key in (("INT4 by GPTQ", "int4"), ("3 trits", "3"), ("4 trits", "4"))
    }
    text = ", ".join(f"{name} {share:.1%}" for name, share in kept.items())
    yield Check(
        ("98", "99"),
        f"perplexity kept by SmolLM2-135M on held-out text: {text}",
        pick(kept["INT4 by GPTQ"] >= 0.98, kept["4 trits"] >= 0.98),
        "the model is large, or has four trits (6.4 bits): a model of 135 M loses more at four "
        "bits, "
        "and three trits (4.8 bits) keep more than INT4 does",
        ("measured.perplexity_int4", "measured.perplexity_3", "measured.perplexity_4"),
    )


@register("llama-70b")
def _llama(world):
    card = world.workloads["llama-70b"]
    full = card.parameters() * 2 + card.cache_bytes(Storage.uniform(16), 128000)
    small = card.parameters() * 1.58 / 8 + card.cache_bytes(Storage.uniform(1.58, 3), 128000)
    yield Check(
        ("70", "1.58", "3", "181", "21", "8.6"),
        f"{card.parameters() / 1e9:.1f} B x 2 bytes + cache of 128,000 x 16 bits = "
        f"{full / 1e9:.0f} GB; x 1.58 bits + cache x 3 bits = {small / 1e9:.1f} GB; "
        f"{full / small:.1f} times",
        pick(near(full, 181e9) and near(small, 21e9)),
        uses=(card.name,),
    )
    ours = card.memory_bytes(card.storage, 128000)
    yield Check(
        (),
        f"as our image with a head of five trits and a cache of three: {ours / 1e9:.1f} GB",
        Verdict.IF,
        "somebody trains it: rounding a float 70 B model to ternary loses its quality, and no "
        "ternary model of that size exists",
        (card.name,),
    )


@register("deepseek-size")
def _deepseek_size(world):
    card = world.workloads["deepseek-v3"]
    full, small = card.parameters() * 2, card.parameters() * 1.58 / 8
    yield Check(
        ("1.58", "1.4", "131"),
        f"{card.parameters() / 1e9:.0f} B x 16 bits = {full / 1e12:.2f} TB; x 1.58 bits = "
        f"{small / 1e9:.0f} GB; as our image {card.memory_bytes(card.storage, 0) / 1e9:.0f} GB",
        pick(near(full, 1.4e12) and near(small, 131e9)),
        uses=(card.name,),
    )
