"""Bytes of a weight code to trits and back, generated from the code's table.

A trit is two bits: ``nonzero`` and ``negative``, and ``negative`` is zero where ``nonzero`` is. A
pair of trits (s, t) says what it takes of a pair of activations (a, b): one of a, a + b, a - b and
b, negated or not, or nothing. The array looks these sums up, so it wants pairs; the KV writer
changes single trits. No multiplier is needed for either.
"""

import itertools

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from tamale.codes import PAIRS, QUAD, SparseCode, TritCode

__all__ = [
    "PairDecoder", "PairLayout", "SparseDecoder", "TritDecoder", "TritEncoder", "join_trits",
]  # fmt: skip

#: What a pair of trits takes of a pair of activations (a, b).
#:   choice    0: a, 1: a + b, 2: a - b, 3: b; any where ``nonzero`` is 0
#:   negative  negated; any where ``nonzero`` is 0
#:   nonzero   anything at all
PairLayout = data.StructLayout({"choice": 2, "negative": 1, "nonzero": 1})


def _decision_diagram(variables, tables):
    """Return an expression for each truth table, all of one shared decision diagram.

    Equal sub-tables become one multiplexer, which shows the structure of a code to the technology
    mapper better than a flat list of cases does.

    Parameters
    ----------
    variables : list of Value
        One-bit inputs, least significant bit of a table's index first.
    tables : list of tuple of int
        Outputs, 0 or 1, for each value of the inputs; None where it does not matter.
    """
    known = {}

    def build(table, depth):
        values = set(table) - {None}
        if len(values) < 2:
            return Const(values.pop() if values else 0, 1)
        key = (table, depth)
        if key not in known:
            low, high = table[: len(table) // 2], table[len(table) // 2 :]
            if all(a is None or b is None or a == b for a, b in zip(low, high, strict=True)):
                merged = tuple(b if a is None else a for a, b in zip(low, high, strict=True))
                known[key] = build(merged, depth - 1)
            else:
                known[key] = Mux(
                    variables[depth - 1], build(high, depth - 1), build(low, depth - 1)
                )
        return known[key]

    return [build(tuple(table), len(variables)) for table in tables]


def _check(code):
    if not isinstance(code, TritCode):
        raise TypeError(f"code must be a TritCode such as CODES['t5'], not {code!r}")


def _pair_tables(pairs):
    """Return the truth tables of a `PairLayout`, lowest bit first, for pairs by code point."""
    numbers = [PAIRS.index(pair) if any(pair) else None for pair in pairs]
    tables = [[None if n is None else n >> bit & 1 for n in numbers] for bit in range(3)]
    return [*tables, [int(n is not None) for n in numbers]]


def join_trits(nonzero, negative):
    """Return the `PairLayout` value of two trits, each given by two bits.

    Parameters
    ----------
    nonzero, negative : Value of two bits
        Bit 0 belongs to the first trit.
    """
    both, differ = nonzero.all(), negative[0] ^ negative[1]
    choice = Cat(Mux(both, ~differ, ~nonzero[0]), Mux(both, differ, ~nonzero[0]))
    sign = Mux(nonzero[0], negative[0], negative[1])
    return data.View(PairLayout, Cat(choice, sign, nonzero.any()))


class PairDecoder(wiring.Component):
    """Decode one byte into pairs of trits, and the last trit alone where their number is odd.

    Combinational.

    Parameters
    ----------
    code : TritCode
        The weight code.

    Members
    -------
    byte : In(8)
        A byte of weights.
    pairs : Out(ArrayLayout(PairLayout, trits_per_byte // 2))
        The trits 2n and 2n + 1.
    last_nonzero, last_negative : Out(trits_per_byte % 2)
        The last trit; ``last_negative`` is any where it is zero.

    Raises
    ------
    TypeError
        If ``code`` is not a `TritCode`.
    """

    def __init__(self, code):
        _check(code)
        self.code = code
        last = code.trits_per_byte % 2
        super().__init__(
            {
                "byte": In(8),
                "pairs": Out(data.ArrayLayout(PairLayout, code.trits_per_byte // 2)),
                "last_nonzero": Out(last),
                "last_negative": Out(last),
            }
        )

    def elaborate(self, platform):
        m = Module()
        tables = []
        for n in range(self.code.trits_per_byte // 2):
            tables += _pair_tables([trits[2 * n : 2 * n + 2] for trits in self.code.decode])
        if self.code.trits_per_byte % 2:
            last = [trits[-1] for trits in self.code.decode]
            tables.append([abs(trit) for trit in last])
            tables.append([int(trit < 0) if trit else None for trit in last])
        outputs = _decision_diagram(list(self.byte), tables)
        ends = Cat(self.pairs, self.last_nonzero, self.last_negative)
        m.d.comb += ends.eq(Cat(outputs))
        return m


class SparseDecoder(wiring.Component):
    """Decode one code point of a sparse code into trits, and into pairs of neighbours.

    Combinational. Of three pairs and four trits a user takes what its own pairs need; the rest
    costs nothing.

    Parameters
    ----------
    code : SparseCode
        The sparse code.

    Members
    -------
    point : In(5)
        A code point.
    pairs : Out(ArrayLayout(PairLayout, 3))
        The trits n and n + 1.
    nonzero, negative : Out(4)
        A bit per trit; ``negative`` is any where the trit is zero.

    Raises
    ------
    TypeError
        If ``code`` is not a `SparseCode`.
    """

    def __init__(self, code):
        if not isinstance(code, SparseCode):
            raise TypeError(f"code must be a SparseCode such as SPARSE_CODES['s34'], not {code!r}")
        self.code = code
        super().__init__(
            {
                "point": In(code.bits),
                "pairs": Out(data.ArrayLayout(PairLayout, QUAD - 1)),
                "nonzero": Out(QUAD),
                "negative": Out(QUAD),
            }
        )

    def elaborate(self, platform):
        m = Module()
        points, tables = self.code.decode, []
        for n in range(QUAD - 1):
            tables += _pair_tables([trits[n : n + 2] for trits in points])
        tables += [[abs(trits[n]) for trits in points] for n in range(QUAD)]
        tables += [
            [int(trits[n] < 0) if trits[n] else None for trits in points] for n in range(QUAD)
        ]
        outputs = _decision_diagram(list(self.point), tables)
        m.d.comb += Cat(self.pairs, self.nonzero, self.negative).eq(Cat(outputs))
        return m


class TritDecoder(wiring.Component):
    """Decode one byte into trits.

    Combinational. Bytes that are no code point decode as the golden model decodes them.

    Parameters
    ----------
    code : TritCode
        The weight code.

    Members
    -------
    byte : In(8)
        A byte of weights.
    nonzero, negative : Out(trits_per_byte)
        A bit per trit, the first along K in bit 0. ``negative`` implies ``nonzero``.

    Raises
    ------
    TypeError
        If ``code`` is not a `TritCode`.
    """

    def __init__(self, code):
        _check(code)
        self.code = code
        super().__init__(
            {
                "byte": In(8),
                "nonzero": Out(code.trits_per_byte),
                "negative": Out(code.trits_per_byte),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size, points = self.code.trits_per_byte, self.code.decode
        tables = [tuple(int(trits[n] != 0) for trits in points) for n in range(size)]
        tables += [tuple(int(trits[n] < 0) for trits in points) for n in range(size)]
        outputs = _decision_diagram(list(self.byte), tables)
        m.d.comb += [self.nonzero.eq(Cat(outputs[:size])), self.negative.eq(Cat(outputs[size:]))]
        return m


class TritEncoder(wiring.Component):
    """Encode trits as one byte, the inverse of `TritDecoder`.

    Combinational. ``negative`` must be zero where ``nonzero`` is; other inputs give any byte.

    Parameters
    ----------
    code : TritCode
        The weight code.

    Members
    -------
    nonzero, negative : In(trits_per_byte)
        A bit per trit, the first along K in bit 0.
    byte : Out(8)
        The code point.

    Raises
    ------
    TypeError
        If ``code`` is not a `TritCode`.
    """

    def __init__(self, code):
        _check(code)
        self.code = code
        super().__init__(
            {
                "nonzero": In(code.trits_per_byte),
                "negative": In(code.trits_per_byte),
                "byte": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size = self.code.trits_per_byte
        # The two bits of a trit side by side keep the diagram narrow.
        variables = [bit for n in range(size) for bit in (self.nonzero[n], self.negative[n])]
        value = {(0, 0): 0, (1, 0): 1, (1, 1): -1}
        points = []
        for bits in itertools.product((0, 1), repeat=2 * size):
            bits = bits[::-1]  # product counts with its last element, an index with its first
            trits = tuple(value.get(bits[2 * n : 2 * n + 2]) for n in range(size))
            points.append(self.code.encode.get(trits))
        tables = [tuple(None if p is None else p >> n & 1 for p in points) for n in range(8)]
        m.d.comb += self.byte.eq(Cat(_decision_diagram(variables, tables)))
        return m
