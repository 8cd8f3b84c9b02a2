"""Small float models whose activations have structure, as those of trained models have."""

import dataclasses

import numpy as np
from random_models import random_model, random_tokens
from tamale_model.model import LINEARS, FloatLinear

__all__ = ["float_model", "float_tokens", "inputs"]


def inputs(rng, count, k, rank=0.3):
    """Return vectors [count, k] of which few directions, and few elements, have most of the power.

    Parameters
    ----------
    rng : numpy.random.Generator
    count, k : int
    rank : float
        Decay of the directions' deviations, as a part of k.
    """
    directions = rng.normal(0, 1, (k, k)) * np.exp(-np.arange(k) / (rank * k))[:, None]
    x = rng.normal(0, 1, (count, k)) @ directions * rng.lognormal(0, 0.7, k)
    return (x / x.std()).astype(np.float32)


def float_model(seed, **shape):
    """Return a `Model` of `FloatLinear` matrices.

    Parameters
    ----------
    seed : int
    shape
        See `random_models.random_model`.
    """
    rng = np.random.default_rng([seed, 4])
    model = random_model(seed, **{"activation": "silu", "sub_norms": False, "planes": 5} | shape)
    for layer in model.layers:
        for name in LINEARS:
            linear = getattr(layer, name)
            weights = linear.dequantised()
            # Integers became what they were not: 243 levels are fewer than a float has.
            weights *= rng.uniform(0.9, 1.1, weights.shape).astype(np.float32)
            setattr(layer, name, FloatLinear(weights, linear.bias, linear.norm))
    embedding = inputs(rng, model.graph.vocabulary, model.graph.hidden, 0.15) * np.float32(0.7)
    head = embedding if model.graph.tied else model.head
    return dataclasses.replace(model, embedding=embedding, head=head)


def float_tokens(seed, vocabulary, sequences, length):
    """Return token numbers [sequences, length]."""
    return np.array([random_tokens([seed, i], vocabulary, length) for i in range(sequences)])
