"""The command format: every field of every operation, alone and together."""

import random

import pytest
from tamale.generate import commands
from tamale.isa import COMMAND_BITS, FIELDS, SIGNED, Op, decode, encode

CASES = [(op, name) for op, fields in FIELDS.items() for name in fields if name != "op"]


def bounds(name, width):
    return (-(1 << width - 1), (1 << width - 1) - 1) if name in SIGNED else (0, (1 << width) - 1)


def test_every_operation_has_a_format():
    assert set(FIELDS) == set(Op)


@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_fields_fit_and_do_not_overlap(op):
    taken = 0
    for offset, width in FIELDS[op].values():
        mask = (1 << width) - 1 << offset
        assert not taken & mask and mask < 1 << COMMAND_BITS
        taken |= mask


@pytest.mark.parametrize(("op", "name"), CASES)
def test_round_trip_of_a_field(op, name):
    offset, width = FIELDS[op][name]
    for value in bounds(name, width):
        word = encode(op, **{name: value})
        assert word == int(op) | (value & (1 << width) - 1) << offset
        again, values = decode(word)
        assert again is op and values.pop(name) == value
        assert not any(values.values())


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("op", Op, ids=lambda op: op.name)
def test_round_trip_of_a_command(op, seed):
    rng = random.Random(seed)
    values = {
        name: rng.randint(*bounds(name, width))
        for name, (_, width) in FIELDS[op].items()
        if name != "op"
    }
    assert decode(encode(op, **values)) == (op, values)


@pytest.mark.parametrize(("op", "name"), CASES)
def test_out_of_range(op, name):
    low, high = bounds(name, FIELDS[op][name][1])
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError) as error:
            encode(op, **{name: value})
        assert f"{op.name}.{name} holds {low} to {high}, not {value}" in str(error.value)


def test_unknown_field():
    with pytest.raises(ValueError, match="NEXT has no field 'count'; it has op, level"):
        encode(Op.NEXT, count=1)


def test_document():
    text = commands.generate()
    assert text == commands.generate()
    for op, fields in FIELDS.items():
        section = text.split(f"\n## {op.name}\n")[1].split("\n## ")[0]
        assert all(f"| `{name}` |" in section for name in fields)
    # Every entry is in use, so that none outlives its field; aux has two meanings.
    assert set(commands.FIELD_DOCS) - {"aux_scalar"} == {n for f in FIELDS.values() for n in f}
