"""Weight codes: how balanced-ternary digits (trits) are packed into bytes.

A code is a bijection between tuples of trits and code points of one byte. It is a table, so that
the cheapest assignment to decode can be chosen by measurement without touching anything else; the
decoder, the encoder, the image packer and the golden model are all derived from it.
"""

import itertools
from functools import cached_property

__all__ = ["CODES", "PLANES_MAX", "TritCode", "levels", "limit"]

#: Largest number of trit planes of a value: five trits reach 243 levels, the class of int8.
PLANES_MAX = 5


def limit(planes):
    """Largest magnitude that ``planes`` balanced-ternary digits hold: (3**planes - 1) / 2."""
    if not 1 <= planes <= PLANES_MAX:
        raise ValueError(f"trit planes must be 1 to {PLANES_MAX}, not {planes!r}")
    return (3**planes - 1) // 2


def levels(planes):
    """Number of values that ``planes`` digits hold."""
    return 2 * limit(planes) + 1


class TritCode:
    """One way to pack trits into a byte.

    Parameters
    ----------
    name : str
        Name in configurations.
    ident : int
        Number in image headers.
    encode : dict of tuple to int
        Byte for each tuple of trits; the first trit of the tuple is the first along K.
    """

    def __init__(self, name, ident, encode):
        sizes = {len(trits) for trits in encode}
        if len(sizes) != 1:
            raise ValueError(f"code {name!r} mixes tuples of different lengths: {sorted(sizes)}")
        self.name, self.ident, self.encode = name, ident, dict(encode)
        self.trits_per_byte = sizes.pop()
        if len(self.encode) != 3**self.trits_per_byte:
            raise ValueError(
                f"code {name!r} covers {len(encode)} of {3**self.trits_per_byte} trit tuples"
            )
        if len(set(self.encode.values())) != len(self.encode):
            raise ValueError(f"code {name!r} gives one byte to two trit tuples")

    @property
    def bits_per_trit(self):
        """Bits of memory for one trit, padding excluded."""
        return 8 / self.trits_per_byte

    @cached_property
    def decode(self):
        """List of 256 trit tuples; code points that no tuple uses decode to zeros."""
        inverse = {byte: trits for trits, byte in self.encode.items()}
        return [inverse.get(byte, (0,) * self.trits_per_byte) for byte in range(256)]

    @cached_property
    def used(self):
        """Set of the bytes that are code points."""
        return set(self.encode.values())

    def __repr__(self):
        return f"<TritCode {self.name}: {self.bits_per_trit:g} bits a trit>"


def _escaped(trits):
    """Five trits in a byte: three in the upper five bits, two in the lower three.

    Eight of the nine pairs have a code of their own; the ninth is an escape in which the upper bits
    27 to 30 and the lower bits together number the three other trits.
    """
    triple = sum((t + 1) * 3**i for i, t in enumerate(trits[:3]))
    pair = sum((t + 1) * 3**i for i, t in enumerate(trits[3:]))
    return triple << 3 | pair if pair < 8 else (27 << 3) + triple


def _two_bits(trits):
    """Four trits in a byte: bit 0 of each field says nonzero, bit 1 negative."""
    return sum({0: 0, 1: 1, -1: 3}[t] << 2 * i for i, t in enumerate(trits))


def _table(function, size):
    return {trits: function(trits) for trits in itertools.product((-1, 0, 1), repeat=size)}


#: The codes by name.
CODES = {
    code.name: code
    for code in (
        TritCode("t5", 1, _table(_escaped, 5)),
        TritCode("t4", 2, _table(_two_bits, 4)),
    )
}
