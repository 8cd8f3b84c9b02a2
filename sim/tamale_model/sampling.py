"""Sampling from the candidates, in the integers of its twin, firmware/sample.c."""

import numpy as np

from tamale_model import integer

__all__ = ["LOG2_E", "Sampler", "candidates"]

#: log2(e) in units of 2**-16.
LOG2_E = 94548


def candidates(logits, count):
    """Return [(value, row)] of the largest logits, larger value first, then smaller row."""
    order = np.lexsort((np.arange(len(logits)), -logits))[:count]
    return [(int(logits[row]), int(row)) for row in order]


class Sampler:
    """Greedy, or by temperature among the candidates.

    Parameters
    ----------
    temperature : float
        0 is greedy; otherwise rounded to units of 2**-16.
    top_k : int
        Candidates to draw from; 0: all that the hardware keeps.
    seed : int
        32-bit state of the generator (xorshift32); 0 stands for 0x9E3779B9.
    """

    def __init__(self, temperature=0.0, top_k=0, seed=0):
        if not 0 <= temperature < 65536:
            raise ValueError(f"temperature must be 0 to 65535, not {temperature!r}")
        if top_k < 0:
            raise ValueError(f"top-k must be 0 or more, not {top_k!r}")
        self.temperature = round(temperature * 65536)
        self.top_k = top_k
        self.state = (seed & 0xFFFFFFFF) or 0x9E3779B9

    def random(self):
        """Return the next 32 random bits (Marsaglia, Xorshift RNGs, 2003: 13, 17, 5)."""
        x = self.state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.state = x
        return x

    def weights(self, values, unit):
        """Return the weights, in units of 2**-15, of logits relative to the first, the largest."""
        factor = (unit.mantissa * LOG2_E << 16) // self.temperature
        exponent = unit.exponent
        while factor >= 1 << 32:
            factor >>= 1
            exponent += 1
        result = []
        for value in values:
            z = (values[0] - value) * factor
            z = z << exponent if exponent >= 0 else z >> -exponent
            result.append(int(integer.exp2_negative(min(z, 2**21 - 1))))
        return result

    def pick(self, best, unit):
        """Return the row to go on with.

        Parameters
        ----------
        best : list of (int, int)
            Candidates, see `candidates`.
        unit : Scalar
            Real value of one unit of the values.
        """
        if self.top_k:
            best = best[: self.top_k]
        if not self.temperature:
            return best[0][1]
        weights = self.weights([value for value, _ in best], unit)
        threshold = self.random() * sum(weights) >> 32
        for weight, (_, row) in zip(weights, best, strict=True):
            if threshold < weight:
                return row
            threshold -= weight
        raise AssertionError("threshold is below the sum of the weights")
