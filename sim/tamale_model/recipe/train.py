"""Train the demonstration model within a budget of wall-clock minutes.

Every schedule (learning rate, weight decay, window length) is a function of the share of the budget
that has passed, so a run always ends annealed, on a fast machine or a slow one. The same seed gives
the same texts, tokenizer, initial weights and order of windows; how many steps fit into the budget
depends on the machine.
"""

import math
import os
import time

import numpy as np
import torch

from . import corpus
from .model import BitNet, Geometry

PHASES = ((0.0, 256), (0.50, 512), (0.78, 2048))
"""(share of the budget from which it holds, window length in tokens)."""
WARM_UP = 0.02
"""Share of the budget over which the learning rate rises."""


def rate(share):
    """Return the factor of the learning rate at `share` of the budget: up, then linearly to 0."""
    return min(share / WARM_UP, max(0.0, 1.0 - share) / (1.0 - WARM_UP))


def window_length(share):
    """Return the window length in tokens at `share` of the budget."""
    return max((start, length) for start, length in PHASES if start <= share)[1]


def orthogonalise(stack, steps=5):
    """Return the nearest semi-orthogonal matrices of stack [count, rows, columns], roughly.

    Newton-Schulz iteration with the quintic of the Muon optimiser (Jordan et al., 2024): singular
    values end between about 0.7 and 1.2, which is all that the update needs. rows <= columns.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = stack.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.float()


class Muon:
    """Momentum whose update is orthogonalised, for the ternary matrices.

    The update is scaled to a root mean square of 0.2 * rate, about that of AdamW, so both share one
    learning rate (arXiv:2502.16982, section 2.2).
    """

    def __init__(self, matrices, momentum=0.95):
        self.momentum = momentum
        shapes = {}
        for matrix in matrices:
            shapes.setdefault(tuple(sorted(matrix.shape)), []).append(matrix)
        self.groups = list(shapes.values())
        self.buffers = [torch.zeros(len(group), *sorted(group[0].shape)) for group in self.groups]

    @staticmethod
    def _wide(matrix):
        return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T

    @torch.no_grad()
    def step(self, rate, decay):
        for group, buffer in zip(self.groups, self.buffers, strict=True):
            gradient = torch.stack([self._wide(matrix.grad) for matrix in group])
            buffer.lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum))
            update *= 0.2 * math.sqrt(max(update.shape[-2:]))
            for matrix, change in zip(group, update, strict=True):
                self._wide(matrix).mul_(1 - rate * decay).add_(change, alpha=-rate)


@torch.no_grad()
def held_out_loss(model, stream, length=512, rows=24):
    """Return the mean cross-entropy in nats over `rows` windows spread over the stream."""
    starts = np.linspace(0, len(stream) - length - 1, rows).astype(int)
    ids = torch.from_numpy(np.stack([stream.window(start, length) for start in starts]))
    return sum(model.loss(part).item() * len(part) for part in ids.split(8)) / rows


def save(path, **state):
    """Write a checkpoint so that a cut-off leaves the old or the new file, never half of one."""
    torch.save(state, f"{path}.new")
    os.replace(f"{path}.new", path)


def train(
    folder,
    minutes,
    seed=0,
    peak=5e-3,
    decay=0.1,
    tokens_per_step=4096,
    optimiser="muon",
    compiled=True,
    geometry=None,
    threads=1,
    stop_after=None,
):
    """Train for `minutes` (resuming a checkpoint in `folder`) and return the model.

    Parameters: `peak` learning rate of matrices (embedding and norms take the same); `decay` weight
    decay of the first half (matrices only); `stop_after` minutes end the run early, to compare
    settings. Raises ValueError for an unknown `optimiser` or a checkpoint of another geometry.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(seed)
    tokenizer, stream, held_out = corpus.load()
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    per_byte = len(held_out) / held_out.bytes / math.log(2)
    geometry = geometry or Geometry()
    model = BitNet(geometry)

    matrices = [p for name, p in model.named_parameters() if name.endswith("_proj")]
    others = [p for name, p in model.named_parameters() if not name.endswith("_proj")]
    if optimiser == "muon":
        muon = Muon(matrices)
        adam = torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.95), weight_decay=0.0)
    elif optimiser == "adamw":
        muon = None
        adam = torch.optim.AdamW(
            [{"params": matrices}, {"params": others, "weight_decay": 0.0}],
            lr=peak,
            betas=(0.9, 0.95),
        )
    else:
        raise ValueError(f"optimiser {optimiser!r} is not one of 'muon', 'adamw'")

    path = os.path.join(folder, "checkpoint.pt")
    step, spent, seen = 0, 0.0, 0
    if os.path.exists(path):
        state = torch.load(path, weights_only=True)
        if state["geometry"] != geometry.asdict():
            raise ValueError(f"{path!r} has another geometry: train in another folder")
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        if muon:
            muon.buffers = state["muon"]
        step, spent, seen = state["step"], state["spent"], state["seen"]
        rng = np.random.default_rng((seed, step))
        print(f"resumed step {step}, {spent / 60:.1f} minutes spent", flush=True)

    def checkpoint():
        save(
            path,
            model=model.state_dict(),
            adam=adam.state_dict(),
            muon=muon.buffers if muon else [],
            step=step,
            spent=spent,
            seen=seen,
            seed=seed,
            geometry=geometry.asdict(),
        )

    loss_of = torch.compile(model.loss, dynamic=False) if compiled else model.loss
    began = time.monotonic() - spent
    budget = 60.0 * minutes
    length, source, running = 0, None, None
    next_save = next_line = 0.0
    limit = 60.0 * stop_after if stop_after else budget
    while True:
        spent = time.monotonic() - began
        if spent >= min(limit, budget):
            break
        share = spent / budget
        if window_length(share) != length:
            length = window_length(share)
            source = corpus.batches(stream, length, max(1, tokens_per_step // length), rng)
        ids = torch.from_numpy(next(source))
        loss = loss_of(ids, fast=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others if muon else model.parameters(), 1.0)
        now = peak * rate(share)
        fading = decay if share < 0.5 else 0.0
        for group in adam.param_groups:
            group["lr"] = now
        if muon:
            muon.step(now, fading)
        else:
            adam.param_groups[0]["weight_decay"] = fading
        adam.step()
        model.zero_grad(set_to_none=True)

        step += 1
        seen += ids.shape[0] * length
        value = loss.item()
        running = value if running is None else 0.95 * running + 0.05 * value
        spent = time.monotonic() - began
        if spent >= next_line:
            next_line = spent + 30
            print(
                f"{spent / 60:6.1f} of {minutes:g} min  step {step}  window {length}  "
                f"rate {now:.2e}  loss {running:.4f}  {seen / spent:,.0f} tokens/s",
                flush=True,
            )
        if spent >= next_save:
            next_save = spent + 300
            value = held_out_loss(model, held_out)
            print(
                f"        held-out: {value:.4f} nats a token, {value * per_byte:.4f} bits a byte",
                flush=True,
            )
            checkpoint()
    value = held_out_loss(model, held_out)
    print(
        f"end     held-out: {value:.4f} nats a token, {value * per_byte:.4f} bits a byte",
        flush=True,
    )
    checkpoint()
    return model
