"""Estimated paths of a netlist."""

import json

from tamale_fpga.paths import longest


def cell(kind, inputs, outputs):
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    connections = {pin: [bit] for pin, bit in (inputs | outputs).items()}
    return {
        "type": kind, "parameters": {}, "port_directions": directions, "connections": connections,
    }  # fmt: skip


def netlist(tmp_path, **cells):
    names = {"soc.a": 2, "soc.b": 3, "soc.sum": 4, "soc.c": 5, "clk": 100, "cpu_clk": 101}
    design = {
        "attributes": {"top": "1"},
        "cells": cells,
        "netnames": {name: {"bits": [bit]} for name, bit in names.items()},
    }
    path = tmp_path / "top.json"
    path.write_text(json.dumps({"modules": {"top": design}}))
    return path


def flip_flop(d, q, clock=100):
    return cell("TRELLIS_FF", {"DI": d, "CLK": clock}, {"Q": q})


def test_slowest_input_counts(tmp_path):
    """Block RAM is slower than a register, and two look-up tables than one."""
    path = netlist(
        tmp_path,
        register=flip_flop(9, 2),
        ram=cell("DP16KD", {"CLKA": 100, "CLKB": 100}, {"DOB3": 3}),
        first=cell("LUT4", {"A": 2, "B": 3}, {"Z": 4}),
        second=cell("LUT4", {"A": 4}, {"Z": 5}),
        end=flip_flop(5, 6),
    )
    (found,) = longest(path)
    assert found.nets == ("soc.b", "soc.sum", "soc.c") and found.end == "end.DI"
    assert found.clock == "clk"
    # Three wires of one cell each, two tables, a block RAM and the set-up.
    assert found.ns == round(5.8 + 3 * 0.77 + 2 * 0.24 + 0.2, 1)


def test_between_clocks_nothing_is_counted(tmp_path):
    path = netlist(tmp_path, start=flip_flop(9, 2, clock=101), end=flip_flop(2, 6))
    assert longest(path) == []


def test_carry_chain_is_faster_than_wires(tmp_path):
    chain = {
        f"carry{i}": cell("CCU2C", {"A0": 2, "CIN": 20 + i}, {"S0": 40 + i, "COUT": 21 + i})
        for i in range(8)
    }
    path = netlist(tmp_path, start=flip_flop(9, 2), end=flip_flop(47, 6), **chain)
    (found,) = longest(path)
    assert len(found.nets) == 9 and found.ns < 4


def test_loop_ends(tmp_path):
    path = netlist(
        tmp_path,
        start=flip_flop(9, 2),
        one=cell("LUT4", {"A": 2, "B": 4}, {"Z": 5}),
        two=cell("LUT4", {"A": 5}, {"Z": 4}),
        end=flip_flop(4, 6),
    )
    assert longest(path)[0].end == "end.DI"


def test_alike_paths_are_one(tmp_path):
    ends = {f"end_{i}": flip_flop(2, 60 + i) for i in range(5)}
    path = netlist(tmp_path, start=flip_flop(9, 2), **ends)
    assert len(longest(path)) == 1
