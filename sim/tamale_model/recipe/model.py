"""BitNet b1.58 in plain torch, for training: the graph of transformers' BitNetForCausalLM.

Straight-through estimators stand for the two quantisers: activations to int8 by the absolute
maximum of each token, weights to ternary by the mean absolute value of each matrix. Both factors
of a product are small integers, which bfloat16 holds exactly, so the fast bfloat16 product is the
exact one up to the rounding of its result; the scales are applied afterwards.

Source: arXiv:2402.17764; arXiv:2504.12285 for the sub-norms and the squared ReLU.
"""

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .packing import SCALE_MINIMUM


@dataclass(frozen=True)
class Geometry:
    """Sizes of the model; the defaults are those of the demonstration model (3.4 M parameters)."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    head_size: int = 64
    ffn: int = 768
    vocabulary: int = 1024
    context: int = 2048
    theta: float = 10000.0
    epsilon: float = 1e-5

    def __post_init__(self):
        if self.heads * self.head_size != self.hidden:
            raise ValueError(
                f"heads * head_size is {self.heads * self.head_size!r}: make it hidden "
                f"({self.hidden!r})"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads!r} must be a multiple of kv_heads")

    asdict = asdict


class Frozen(NamedTuple):
    """A quantised matrix that takes the place of a master: codes float32 [out, in], scale []."""

    codes: torch.Tensor
    scale: torch.Tensor


def ternary(master):
    """Return (codes in float32 that pass the gradient straight on to `master`, scale [])."""
    if isinstance(master, Frozen):
        return master
    scale = master.detach().abs().mean().clamp(min=SCALE_MINIMUM)
    ratio = master * (1.0 / scale)
    return ratio + (ratio.round().clamp(-1, 1) - ratio).detach(), scale


def int8(x):
    """Quantise x [..., features] per token; return (integers in float32, factor [..., 1])."""
    x = x.float()
    factor = 127.0 / x.detach().abs().amax(-1, keepdim=True).clamp(min=SCALE_MINIMUM)
    ratio = x * factor
    return ratio + (ratio.round().clamp(-128, 127) - ratio).detach(), factor


def bit_linear(x, *masters, fast=True):
    """Apply each master matrix [out, in] to the same quantised x [..., in].

    Sharing the quantised activation among the matrices of one input (query, key and value; gate
    and up) changes no result. `fast` multiplies in bfloat16, else in float32.
    """
    codes, factor = int8(x)
    kind = torch.bfloat16 if fast else torch.float32
    codes = codes.to(kind)
    outputs = []
    for master in masters:
        weight, scale = ternary(master)
        outputs.append(F.linear(codes, weight.to(kind)).float() * (scale / factor))
    return outputs


def rms_norm(x, weight, epsilon):
    """Root-mean-square norm over the last axis, in float32."""
    x = x.float()
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon))


def rotary(length, head_size, theta):
    """Return (cos, sin), float32 [length, head_size], for the half-rotation convention."""
    frequency = theta ** -(torch.arange(0, head_size, 2).float() / head_size)
    angle = torch.outer(torch.arange(length).float(), frequency)
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Rotate x [batch, heads, length, head_size] by position."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Layer(nn.Module):
    """One decoder layer; parameter names follow the checkpoint files."""

    def __init__(self, geometry):
        super().__init__()
        g = self.geometry = geometry

        def matrix(rows, columns, gain=1.0):
            return nn.Parameter(torch.randn(rows, columns) * gain / math.sqrt(columns))

        calm = 1.0 / math.sqrt(2 * g.layers)  # the residual stream sums 2 * layers branches
        self.q_proj = matrix(g.heads * g.head_size, g.hidden)
        self.k_proj = matrix(g.kv_heads * g.head_size, g.hidden)
        self.v_proj = matrix(g.kv_heads * g.head_size, g.hidden)
        self.o_proj = matrix(g.hidden, g.heads * g.head_size, calm)
        self.gate_proj = matrix(g.ffn, g.hidden)
        self.up_proj = matrix(g.ffn, g.hidden)
        self.down_proj = matrix(g.hidden, g.ffn, calm)
        self.input_layernorm = nn.Parameter(torch.ones(g.hidden))
        self.post_attention_layernorm = nn.Parameter(torch.ones(g.hidden))
        self.attn_sub_norm = nn.Parameter(torch.ones(g.hidden))
        self.ffn_sub_norm = nn.Parameter(torch.ones(g.ffn))

    def forward(self, x, cos, sin, fast):
        g = self.geometry
        batch, length, _ = x.shape
        kind = torch.bfloat16 if fast else torch.float32

        normed = rms_norm(x, self.input_layernorm, g.epsilon)
        q, k, v = bit_linear(normed, self.q_proj, self.k_proj, self.v_proj, fast=fast)
        q = q.view(batch, length, g.heads, g.head_size).transpose(1, 2)
        k = k.view(batch, length, g.kv_heads, g.head_size).transpose(1, 2)
        v = v.view(batch, length, g.kv_heads, g.head_size).transpose(1, 2)
        q, k, v = rotate(q, cos, sin).to(kind), rotate(k, cos, sin).to(kind), v.to(kind)
        shared = g.heads // g.kv_heads
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(batch, length, g.hidden)
        mixed = rms_norm(mixed, self.attn_sub_norm, g.epsilon)
        x = x + bit_linear(mixed, self.o_proj, fast=fast)[0]

        normed = rms_norm(x, self.post_attention_layernorm, g.epsilon)
        gate, up = bit_linear(normed, self.gate_proj, self.up_proj, fast=fast)
        inner = rms_norm(F.relu(gate).square() * up, self.ffn_sub_norm, g.epsilon)
        return x + bit_linear(inner, self.down_proj, fast=fast)[0]


class BitNet(nn.Module):
    """Causal language model with tied embeddings."""

    def __init__(self, geometry):
        super().__init__()
        self.geometry = g = geometry
        self.embedding = nn.Parameter(torch.randn(g.vocabulary, g.hidden) * 0.02)
        self.layers = nn.ModuleList(Layer(g) for _ in range(g.layers))
        self.norm = nn.Parameter(torch.ones(g.hidden))
        cos, sin = rotary(g.context, g.head_size, g.theta)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids, fast=False):
        """Return float32 logits [batch, length, vocabulary] for ids int64 [batch, length]."""
        length = ids.shape[1]
        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length], fast)
        x = rms_norm(x, self.norm, self.geometry.epsilon)
        kind = torch.bfloat16 if fast else torch.float32
        return F.linear(x.to(kind), self.embedding.to(kind)).float()

    def loss(self, ids, fast=False):
        """Return the mean cross-entropy in nats of ids [batch, length + 1], each from its past."""
        logits = self(ids[:, :-1], fast=fast)
        return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
