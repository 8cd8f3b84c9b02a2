"""Tables of constants that RTL, firmware and golden model share."""

__all__ = ["EXP2_BITS", "EXP2_DELTA", "EXP2_FRACTION_BITS", "EXP2_TABLE"]

#: Fraction bits of the argument of exp2.
EXP2_FRACTION_BITS = 16

#: The upper EXP2_BITS of the fraction index the table, the others interpolate.
EXP2_BITS = 6

_nodes = [round(2 ** (-i / 2**EXP2_BITS) * 2**16) for i in range(2**EXP2_BITS + 1)]

#: 2**(-i/64) in units of 2**-16, i = 0 to 63.
EXP2_TABLE = tuple(_nodes[:-1])

#: Fall from each node to the next, same units.
EXP2_DELTA = tuple(a - b for a, b in zip(_nodes, _nodes[1:], strict=False))
