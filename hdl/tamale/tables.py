"""Tables of constants that RTL, firmware and golden model share."""

import math

__all__ = [
    "EXP2_BITS",
    "EXP2_DELTA",
    "EXP2_FRACTION_BITS",
    "EXP2_TABLE",
    "SIGMOID_BITS",
    "SIGMOID_DELTA",
    "SIGMOID_RANGE_BITS",
    "SIGMOID_TABLE",
]

#: Fraction bits of the argument of exp2.
EXP2_FRACTION_BITS = 16

#: The upper EXP2_BITS of the fraction index the table, the others interpolate.
EXP2_BITS = 6


def _falling(nodes):
    """(values, falls to the next value) of a table's nodes, the last of which only ends a fall."""
    return tuple(nodes[:-1]), tuple(a - b for a, b in zip(nodes, nodes[1:], strict=False))


#: 2**(-i/64) in units of 2**-16, i = 0 to 63, and the fall from each to the next.
EXP2_TABLE, EXP2_DELTA = _falling(
    [round(2 ** (-i / 2**EXP2_BITS) * 2**16) for i in range(2**EXP2_BITS + 1)]
)

#: The tail of the sigmoid is zero from 2**SIGMOID_RANGE_BITS on.
SIGMOID_RANGE_BITS = 4

#: Bits that index its table; the other bits of the argument interpolate.
SIGMOID_BITS = 8

#: 1 / (1 + exp(i/16)) in units of 2**-16, i = 0 to 255, and the fall from each to the next.
SIGMOID_TABLE, SIGMOID_DELTA = _falling(
    [
        round(2**16 / (1 + math.exp(i / 2 ** (SIGMOID_BITS - SIGMOID_RANGE_BITS))))
        for i in range(2**SIGMOID_BITS)
    ]
    + [0]
)
