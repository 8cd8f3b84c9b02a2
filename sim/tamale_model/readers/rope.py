"""Rotary frequencies under the scalings that checkpoints name.

Sources: transformers ``modeling_rope_utils.py``; llama.cpp ``convert_hf_to_gguf.py`` (llama3
factors) and ``ggml_rope_yarn`` of ``ggml-cpu/ops.cpp``.
"""

import math

import numpy as np

from .arrays import check_finite
from .errors import CheckpointError

__all__ = ["base", "linear", "llama3", "scale_gain", "yarn"]


def base(theta, head_size):
    """Radians per position of each rotation without scaling, float64 [head_size / 2]."""
    half = head_size // 2
    return float(theta) ** (-np.arange(half) / half)


def linear(theta, head_size, factor):
    """All frequencies lower by one factor."""
    return base(theta, head_size) / factor


def llama3(theta, head_size, factor, low, high, context):
    """Llama 3.1: wavelengths beyond ``context / low`` are stretched, below ``context / high`` not.

    Parameters
    ----------
    factor, low, high : float
        ``factor``, ``low_freq_factor`` and ``high_freq_factor`` of the checkpoint.
    context : int
        ``original_max_position_embeddings``.
    """
    frequency = base(theta, head_size)
    if high == low:
        raise CheckpointError("rope scaling 'llama3' needs high_freq_factor above low_freq_factor")
    turns = context * frequency / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return frequency * ((1 - smooth) / factor + smooth)


def yarn(theta, head_size, factor, context, *, fast=32.0, slow=1.0, attention=None):
    """Return (frequencies, factor of cosines and sines) of YaRN (https://arxiv.org/abs/2309.00071).

    Parameters
    ----------
    factor : float
        By which the context is longer than ``context``.
    context : int
        Positions of the original training.
    fast, slow : float
        Rotations over ``context`` between which the scaling sets in.
    attention : float, optional
        Replaces 0.1 ln(factor) + 1.
    """
    half = head_size // 2
    if attention is None:
        attention = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    given = {"theta": theta - 1, "factor": factor, "context": context, "beta_fast": fast,
             "beta_slow": slow, "attention_factor": attention}  # fmt: skip
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise CheckpointError(f"rope scaling 'yarn' with {name} = {value}; the file is damaged")

    def pair(rotations):
        return head_size * math.log(context / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair(fast)), 0)
    high = min(math.ceil(pair(slow)), head_size - 1)
    ramp = np.clip((np.arange(half) - low) / max(high - low, 0.001), 0, 1)
    frequency = base(theta, head_size)
    return frequency / factor * ramp + frequency * (1 - ramp), attention


def scale_gain(name, gain, attention):
    """Return the gain of a norm of heads times YaRN's factor of cosines and sines.

    The rotated vectors are linear in both, so the factor may move from one to the other.
    """
    with np.errstate(over="ignore"):
        gain = gain * np.float32(attention)
    check_finite(name, gain)
    return gain
