"""Weight codes: how balanced-ternary digits (trits) are packed into bytes.

A code is a bijection between tuples of trits and code points of one byte. It is a table, so that
the cheapest assignment to decode can be chosen by measurement without touching anything else; the
decoder, the encoder, the image packer and the golden model are all derived from it.

A sparse code holds fewer tuples in fewer bits. Weights of one plane can have one; the cache, the
head and other matrices keep the code of bytes.
"""

import itertools
from functools import cached_property

__all__ = [
    "CODES", "PAIRS", "PLANES_MAX", "QUAD", "SPARSE_CODES", "SparseCode", "TritCode", "levels",
    "limit",
]  # fmt: skip

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
    spare : dict of int to tuple, optional
        What bytes that are no code point decode to, where that makes the decoder cheaper; zeros
        for those that are left out.
    """

    def __init__(self, name, ident, encode, spare=None):
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
        self.spare = dict(spare or {})
        taken = sorted(self.used & set(self.spare))
        if taken:
            raise ValueError(f"code {name!r} uses bytes {taken} that it calls spare")

    @property
    def bits_per_trit(self):
        """Bits of memory for one trit, padding excluded."""
        return 8 / self.trits_per_byte

    @cached_property
    def decode(self):
        """List of 256 trit tuples, bytes that are no code point included."""
        inverse = {byte: trits for trits, byte in self.encode.items()} | self.spare
        return [inverse.get(byte, (0,) * self.trits_per_byte) for byte in range(256)]

    @cached_property
    def used(self):
        """Set of the bytes that are code points."""
        return set(self.encode.values())

    def __repr__(self):
        return f"<TritCode {self.name}: {self.bits_per_trit:g} bits a trit>"


#: The eight pairs of trits that are not both zero, by the three bits that stand for them: which of
#: a, a + b, a - b and b a pair of activations (a, b) contributes, and in bit 2 whether negated. The
#: array looks exactly this up, so that most of a byte needs no decoder at all.
PAIRS = tuple(
    (sign * a, sign * b) for sign in (1, -1) for a, b in ((1, 0), (1, 1), (1, -1), (0, 1))
)

#: One trit in two bits: bit 0 says nonzero, bit 1 negative. The value 2 stands for no trit.
_TRIT_FIELD = {0: 0, 1: 1, -1: 3}


def _paired(byte):
    """Five trits of a byte: two pairs in bits 2:0 and 5:3, one trit in bits 7:6.

    Pairs are numbered as in `PAIRS`, so neither of them can be zero. The free value of bits 7:6
    says that one is; then the trit lies in bits 5:4 and bit 3 tells which pair: the second one, or
    the first one, whose place the second one takes. With the free value in bits 5:4 too, both are
    zero and the trit lies in bits 1:0.
    """
    values = {field: trit for trit, field in _TRIT_FIELD.items()} | {2: 0}
    first, second, last = PAIRS[byte & 7], PAIRS[byte >> 3 & 7], byte >> 6
    if last == 2:
        last, first_zero = byte >> 4 & 3, byte >> 3 & 1
        second = first if first_zero and last != 2 else (0, 0)
        first = (0, 0) if first_zero else first
        if last == 2:
            last = byte & 3
    return first + second + (values[last],)


def _two_bits(byte):
    """Four trits of a byte, two bits each."""
    values = {field: trit for trit, field in _TRIT_FIELD.items()} | {2: 0}
    return tuple(values[byte >> 2 * i & 3] for i in range(4))


def _code(name, ident, decode):
    """Return the code whose decoder is ``decode``; of several bytes for a tuple it uses the
    smallest."""
    encode = {}
    for byte in range(256):
        encode.setdefault(decode(byte), byte)
    used = set(encode.values())
    return TritCode(name, ident, encode, {b: decode(b) for b in range(256) if b not in used})


#: The codes by name. Numbers in image headers are never used again: 1 was an earlier table of t5.
CODES = {code.name: code for code in (_code("t5", 3, _paired), _code("t4", 2, _two_bits))}

#: Trits that a code point of a sparse code stands for.
QUAD = 4


class SparseCode:
    """One way to hold four trits of which exactly one is zero.

    There are 4 places for the zero and 8 signs of the others, 32 in all, so that five bits hold
    them without a spare value: 1.25 bits a trit.

    Parameters
    ----------
    name : str
        Name in configurations.
    ident : int
        Number in image headers.
    decode : sequence of tuple
        The four trits of each code point, the first along K first.
    """

    #: Bits of a code point.
    bits = 5

    def __init__(self, name, ident, decode):
        self.name, self.ident, self.decode = name, ident, [tuple(trits) for trits in decode]
        wanted = [t for t in itertools.product((-1, 0, 1), repeat=QUAD) if t.count(0) == 1]
        if sorted(self.decode) != wanted:
            raise ValueError(
                f"code {name!r} must hold each of the {len(wanted)} tuples of {QUAD} trits with "
                "one zero once"
            )

    @cached_property
    def encode(self):
        """Code point of each tuple of trits."""
        return {trits: point for point, trits in enumerate(self.decode)}

    @property
    def bits_per_trit(self):
        """Bits of memory for one trit, padding excluded."""
        return self.bits / QUAD

    def __repr__(self):
        return f"<SparseCode {self.name}: {self.bits_per_trit:g} bits a trit>"


def _full_and_half(point):
    """Four trits of a code point: one pair is full, two trits, the other half, a trit and a zero.

    Bits 2:0 are the first pair's number as in `PAIRS`, of which 1, 2, 5 and 6 are full. The second
    pair's number has bit 3 as its bit 0 and bit 4 as its bit 2; the bit between follows from which
    of the two is full. So the decoder is one look-up table for four trits.
    """
    full, low = (point ^ point >> 1) & 1, point >> 3 & 1
    return PAIRS[point & 7] + PAIRS[low | (low ^ full ^ 1) << 1 | point >> 4 << 2]


#: The sparse codes by name.
SPARSE_CODES = {
    code.name: code for code in (SparseCode("s34", 1, [_full_and_half(n) for n in range(32)]),)
}
