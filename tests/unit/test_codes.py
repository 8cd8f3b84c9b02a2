"""Weight codes: bijections, and what makes a table none."""

import itertools

import pytest
from tamale.codes import (
    CODES,
    PAIRS,
    PLANES_MAX,
    SPARSE_CODES,
    SparseCode,
    TritCode,
    levels,
    limit,
)  # fmt: skip


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_bijection(code):
    tuples = list(itertools.product((-1, 0, 1), repeat=code.trits_per_byte))
    assert sorted(code.encode) == sorted(tuples)
    assert all(0 <= byte < 256 for byte in code.encode.values())
    assert all(code.decode[code.encode[trits]] == trits for trits in tuples)
    assert len(code.used) == 3**code.trits_per_byte


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
def test_every_byte_decodes(code):
    assert len(code.decode) == 256
    assert set(code.spare) == set(range(256)) - code.used
    assert all(code.decode[byte] in code.encode for byte in range(256))


def test_unused_bytes_are_zeros_unless_told():
    code = TritCode("one", 9, {(t,): t + 1 for t in (-1, 0, 1)}, {7: (-1,)})
    assert [code.decode[byte] for byte in (0, 3, 7)] == [(-1,), (0,), (-1,)]


def test_pairs():
    """Eight numbers for eight pairs: a, a + b, a - b and b, then their opposites."""
    assert len(set(PAIRS)) == 8
    assert all(any(pair) for pair in PAIRS)
    assert all(PAIRS[n + 4] == (-a, -b) for n, (a, b) in enumerate(PAIRS[:4]))


def test_bits():
    assert {name: code.bits_per_trit for name, code in CODES.items()} == {"t5": 1.6, "t4": 2}
    assert len({code.ident for code in CODES.values()}) == len(CODES)


@pytest.mark.parametrize("code", SPARSE_CODES.values(), ids=SPARSE_CODES)
def test_sparse_bijection(code):
    wanted = {t for t in itertools.product((-1, 0, 1), repeat=4) if t.count(0) == 1}
    assert len(wanted) == 32 == 2**code.bits
    assert set(code.decode) == wanted and len(code.decode) == 32
    assert all(code.decode[code.encode[trits]] == trits for trits in wanted)
    assert code.bits_per_trit == 1.25


def test_sparse_pairs():
    """The first pair's number lies in the code point, the second's but for one bit."""
    for point, trits in enumerate(SPARSE_CODES["s34"].decode):
        first, second = PAIRS.index(trits[:2]), PAIRS.index(trits[2:])
        assert first == point & 7
        assert (second & 1, second >> 2) == (point >> 3 & 1, point >> 4)


def test_tables_that_are_no_sparse_code():
    points = SPARSE_CODES["s34"].decode
    for wrong in (points[:31], [*points[:31], points[0]], [*points[:31], (0, 0, 1, 1)]):
        with pytest.raises(ValueError, match="code 'bad' must hold each of the 32 tuples of 4"):
            SparseCode("bad", 9, wrong)


@pytest.mark.parametrize(
    ("planes", "values"), [(1, 3), (2, 9), (3, 27), (4, 81), (PLANES_MAX, 243)]
)
def test_levels(planes, values):
    assert levels(planes) == values == 2 * limit(planes) + 1
    largest = sum(3**i for i in range(planes))
    assert limit(planes) == largest


@pytest.mark.parametrize("planes", [0, PLANES_MAX + 1])
def test_planes_out_of_range(planes):
    with pytest.raises(ValueError, match=f"must be 1 to {PLANES_MAX}, not {planes}"):
        limit(planes)


def test_tables_that_are_no_code():
    table = {(t,): t + 1 for t in (-1, 0, 1)}
    assert TritCode("one", 9, table).trits_per_byte == 1
    with pytest.raises(ValueError, match="mixes tuples of different lengths"):
        TritCode("bad", 9, table | {(0, 0): 5})
    with pytest.raises(ValueError, match="covers 2 of 3"):
        TritCode("bad", 9, {(0,): 0, (1,): 1})
    with pytest.raises(ValueError, match="one byte to two"):
        TritCode("bad", 9, table | {(1,): 0})
    with pytest.raises(ValueError, match=r"uses bytes \[0\] that it calls spare"):
        TritCode("bad", 9, table, {0: (0,)})
