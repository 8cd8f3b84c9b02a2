"""Linear layers in the arithmetics of the programs that a model is compared with.

- ``hf``: int8 codes, one factor per token; exact integer sums per group of weights.
- ``ggml``: Q8_K codes, a factor per 256 activations, as for TQ1_0 and TQ2_0; where scales of the
  weights are finer than that, Q8_0 codes. Exact integer sums per block; blocks are added in float32
  in order.
- ``ggml-q8_0``: Q8_0 codes, a factor per 32 activations, as for Q2_0, whatever the scales, and as
  for Q4_0, Q4_1 and Q8_0, which are a `FloatLinear` here.
- ``float``: float32 activations and sums.

A `FloatLinear` is a float32 product in each of them, in ``ggml-q8_0`` of the codes' values. Norms
of matrices and biases are float32.

Sources: transformers ``integrations/bitnet.py``; llama.cpp ``ggml/src/ggml-quants.c``
(``quantize_row_q8_K_ref``), ``ggml/src/ggml-cpu/quants.c`` (``ggml_vec_dot_tq2_0_q8_K_generic``,
``ggml_vec_dot_q2_0_q8_0_generic``) and ``ggml/src/ggml-cpu/arch/x86/quants.c``
(``quantize_row_q8_0``, whose rounding differs from the portable one).
"""

import numpy as np

from tamale_model.model import FloatLinear

__all__ = [
    "ARITHMETICS",
    "accumulate",
    "prepare",
    "quantise_activation",
    "quantise_q8_0",
    "quantise_q8_k",
    "rms_norm",
]

#: Names of the arithmetics.
ARITHMETICS = ("hf", "ggml", "ggml-q8_0", "float")

#: Activations of a block of llama.cpp's Q8_K and Q8_0.
Q8_K_BLOCK, Q8_0_BLOCK = 256, 32

# Weights that share a scale in TQ1_0 and TQ2_0, and in Q2_0.
_TQ_GROUP, _Q2_0_GROUP = 256, 64


def rms_norm(x, gain, epsilon, mean=np.float32):
    """Return gain * x / sqrt(mean of x**2 + epsilon) over the last axis, float32.

    Parameters
    ----------
    x : float32 array [..., n]
    gain : float32 array [n]
    epsilon : float
    mean : type
        In which the squares are added.
    """
    square = np.mean(x * x, axis=-1, keepdims=True, dtype=mean).astype(np.float32)
    return gain * (x * (np.float32(1) / np.sqrt(square + np.float32(epsilon))))


def quantise_activation(x):
    """Return (codes, factor): the int8 codes of each row and the factor that made them.

    Parameters
    ----------
    x : float32 array [..., k]

    Returns
    -------
    codes : float32 array [..., k]
        Integers -128 to 127.
    factor : float32 array [..., 1]
        127 / absmax as torch evaluates a number over a tensor: the reciprocal, rounded, times 127.
    """
    x = np.asarray(x, dtype=np.float32)
    peak = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(1e-5))
    factor = np.float32(1) / peak * np.float32(127)
    return np.clip(np.rint(x * factor), -128, 127), factor


def quantise_q8_k(x):
    """Return (codes, scale) of llama.cpp's Q8_K: the element of largest magnitude becomes -127.

    Parameters
    ----------
    x : float32 array [..., k]
        k a multiple of 256.

    Returns
    -------
    codes : float32 array [..., k]
        Integers -127 to 127.
    scale : float32 array [..., k / 256]
        Value of a code, negative where the largest element is positive; 0 for a block of zeros.
    """
    blocks = _blocks(x, Q8_K_BLOCK)
    largest = np.abs(blocks).argmax(axis=-1)[..., None]
    peak = np.take_along_axis(blocks, largest, axis=-1)
    inverse = np.float32(-127) / np.where(peak == 0, np.float32(1), peak)
    codes = np.minimum(np.rint(inverse * blocks), 127)
    scale = np.where(peak == 0, np.float32(0), np.float32(1) / inverse)[..., 0]
    return codes.reshape(x.shape), scale


def quantise_q8_0(x):
    """Return (codes, scale) of llama.cpp's Q8_0, as its x86 kernels make them.

    Parameters
    ----------
    x : float32 array [..., k]
        k a multiple of 32.

    Returns
    -------
    codes : float32 array [..., k]
        Integers -127 to 127.
    scale : float32 array [..., k / 32]
        Value of a code, rounded to float16.
    """
    blocks = _blocks(x, Q8_0_BLOCK)
    peak = np.abs(blocks).max(axis=-1, keepdims=True)
    inverse = np.where(peak == 0, 0, np.float32(127) / np.where(peak == 0, np.float32(1), peak))
    scale = (peak[..., 0] / np.float32(127)).astype(np.float16).astype(np.float32)
    return np.rint(blocks * inverse).reshape(x.shape), scale


def _blocks(x, size):
    x = np.asarray(x, dtype=np.float32)
    if x.shape[-1] % size:
        raise ValueError(f"{x.shape[-1]} activations are no whole blocks of {size}; use 'hf'")
    return x.reshape(*x.shape[:-1], -1, size)


def _group_matrices(linear, size):
    """Return float [groups, size, rows] of a `Linear`'s integers, the last group padded with zeros.

    Products with int8 codes are summed by BLAS, in a format that holds every partial sum exactly.
    """
    rows, k = linear.shape
    groups = -(-k // size)
    largest = max(-int(linear.values.min(initial=0)), int(linear.values.max(initial=0)))
    dtype = np.float32 if 128 * largest * size < 1 << 24 else np.float64
    if groups * size == k:
        padded = linear.values.astype(dtype)
    else:
        padded = np.zeros((rows, groups * size), dtype=dtype)
        padded[:, :k] = linear.values
    return padded.reshape(rows, groups, size).transpose(1, 2, 0)


def accumulate(linear, codes, matrices=None):
    """Return the sums int64 [groups, n, rows] of codes [n, k] times a matrix, group by group."""
    if matrices is None:
        matrices = _group_matrices(linear, linear.group_size or linear.shape[1])
    groups, size, _ = matrices.shape
    padded = np.zeros((len(codes), groups * size), dtype=matrices.dtype)
    padded[:, : codes.shape[1]] = codes
    sums = padded.reshape(-1, groups, size).transpose(1, 0, 2) @ matrices
    return sums.astype(np.int64)


class _Product:
    """A linear layer, ready to be evaluated many times.

    ``elements`` says how many numbers it keeps.
    """

    def __init__(self, linear, epsilon):
        self.bias, self.norm, self.epsilon = linear.bias, linear.norm, epsilon

    def __call__(self, x, observe=None):
        """Return float32 [n, rows] of inputs [n, k]; see `reference.Reference` for ``observe``."""
        if self.norm is not None:
            x = rms_norm(x, self.norm, self.epsilon)
        result = self.multiply(x, observe)
        return result if self.bias is None else result + self.bias


class _Float(_Product):
    def __init__(self, linear, epsilon):
        super().__init__(linear, epsilon)
        self.weights = linear.dequantised()
        self.elements = self.weights.size

    def multiply(self, x, observe):
        return x @ self.weights.T


class _FloatOfCodes(_Float):
    def multiply(self, x, observe):
        codes, unit = quantise_q8_0(x)
        return super().multiply(codes * np.repeat(unit, Q8_0_BLOCK, axis=-1), observe)


class _PerToken(_Product):
    def __init__(self, linear, epsilon):
        super().__init__(linear, epsilon)
        self.matrices = _group_matrices(linear, linear.group_size or linear.shape[1])
        self.scale, self.scales = np.float32(linear.scale), linear.scales
        self.elements = self.matrices.size

    def multiply(self, x, observe):
        codes, factor = quantise_activation(x)
        sums = accumulate(None, codes, self.matrices)
        if observe:
            observe(codes.astype(np.int64), sums)
        if self.scales is None:
            total = sums[0].astype(np.float32)
        else:
            total = np.einsum("gnr,rg->nr", sums.astype(np.float32), self.scales)
        return total * self.scale / factor


class _PerBlock(_Product):
    """Blocks of activations; ``inner`` of them share a scale of the weights."""

    def __init__(self, linear, epsilon, q8_0):
        super().__init__(linear, epsilon)
        rows, k = linear.shape
        size = linear.group_size or k
        q8_0 = q8_0 or size % _TQ_GROUP != 0
        group = _Q2_0_GROUP if q8_0 else _TQ_GROUP
        if size % group or k % group:
            raise ValueError(
                f"llama.cpp has no ternary type for rows of {k} weights with a scale per {size}: "
                f"both must be multiples of {_Q2_0_GROUP}; use the arithmetic 'hf'"
            )
        self.quantise, block = (quantise_q8_0, Q8_0_BLOCK) if q8_0 else (quantise_q8_k, Q8_K_BLOCK)
        self.inner = group // block
        self.matrices = _group_matrices(linear, block)
        scales = np.ones((rows, 1), np.float32) if linear.scales is None else linear.scales
        # A scale of a longer group stands for equal scales of its blocks.
        self.scales = np.repeat(scales, size // group, axis=1)[:, : k // group].T
        self.scale = np.float32(linear.scale)
        self.elements = self.matrices.size

    def multiply(self, x, observe):
        codes, unit = self.quantise(x)
        sums = accumulate(None, codes, self.matrices)
        if observe:
            observe(codes.astype(np.int64), sums)
        total = np.zeros(sums.shape[1:], dtype=np.float32)
        for group, scale in enumerate(self.scales):
            if self.inner == 1:
                total += sums[group].astype(np.float32) * (unit[:, group, None] * scale)
                continue
            part = np.zeros_like(total)
            for i in range(group * self.inner, (group + 1) * self.inner):
                part += unit[:, i, None] * sums[i].astype(np.float32)
            total += scale * part
        return total * self.scale


def prepare(linear, arithmetic, epsilon=1e-6):
    """Return a linear layer that can be called with float32 inputs [n, k].

    Parameters
    ----------
    linear : Linear or FloatLinear
    arithmetic : str
        One of `ARITHMETICS`.
    epsilon : float
        Of the matrix's own norm, see `model.Graph.linear_norm_epsilon`.

    Raises
    ------
    ValueError
        For an arithmetic that does not exist, or that has no such matrix.
    """
    if arithmetic not in ARITHMETICS:
        raise ValueError(f"arithmetic {arithmetic!r} is unknown; use {', '.join(ARITHMETICS)}")
    if isinstance(linear, FloatLinear) and arithmetic == "ggml-q8_0":
        return _FloatOfCodes(linear, epsilon)
    if isinstance(linear, FloatLinear) or arithmetic == "float":
        return _Float(linear, epsilon)
    if arithmetic == "hf":
        return _PerToken(linear, epsilon)
    return _PerBlock(linear, epsilon, arithmetic == "ggml-q8_0")
