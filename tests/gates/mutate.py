"""Deliberate bugs in netlists: which of them do the tests of a block see?

    python tests/gates/mutate.py BLOCK [--count 20] [--seed 1]

Prints each bug that survives. A bit of a look-up table may be one that no input reaches, so a few
survivors are no fault of the tests; the recorded vectors are those of the block's test in
Amaranth's simulator.
"""

import argparse
import random
import sys
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "unit")]

import test_gateware_activation  # noqa: E402
import test_gateware_candidates  # noqa: E402
import test_gateware_scalar  # noqa: E402
import test_gateware_trits  # noqa: E402
from tamale_sim import replay  # noqa: E402


def scalar():
    """Run every operation of the scalar unit."""
    for operation in test_gateware_scalar.ScalarOp:
        test_gateware_scalar.test_operation(operation)
    test_gateware_scalar.test_normalise()


#: Module and test of each block.
TESTS = {
    "decoder": (test_gateware_trits, lambda: test_gateware_trits.test_pair_decoder("t5")),
    "encoder": (test_gateware_trits, lambda: test_gateware_trits.test_encoder("t5")),
    "candidates": (
        test_gateware_candidates, lambda: test_gateware_candidates.test_candidates(5, 4),
    ),
    "activation": (
        test_gateware_activation, lambda: test_gateware_activation.test_activation_memory("preset"),
    ),
    "scalar": (test_gateware_scalar, scalar),
}  # fmt: skip


def flip(value, bit):
    """Return a string of bits with one of them flipped."""
    return value[:bit] + str(1 - int(value[bit])) + value[bit + 1 :]


def bugs(module):
    """Return the bugs that a netlist offers, by kind: lists of (cell, ...)."""
    cells = module["cells"]
    by_type = {}
    for name in sorted(cells):
        by_type.setdefault(cells[name]["type"], []).append(name)
    return {
        "bit of a look-up table": by_type.get("LUT4", []),
        "swapped inputs of a carry cell": by_type.get("CCU2C", []),
        "bit of block RAM": [
            name
            for name in by_type.get("DP16KD", [])
            if any("1" in v for k, v in cells[name]["parameters"].items() if k.startswith("INITV"))
        ],
        "swapped operand bits of a multiplier": by_type.get("MULT18X18D", []),
    }


def plant(module, kind, name, rng):
    """Change one cell; return what was changed."""
    cell = module["cells"][name]
    parameters, wires = cell["parameters"], cell["connections"]
    if kind == "bit of a look-up table":
        bit = rng.randrange(16)
        parameters["INIT"] = flip(parameters["INIT"], bit)
        return f"{name} INIT[{15 - bit}]"
    if kind == "swapped inputs of a carry cell":
        half = rng.choice("01")
        wires["A" + half], wires["D" + half] = wires["D" + half], wires["A" + half]
        return f"{name} A{half} D{half}"
    if kind == "bit of block RAM":
        rows = [key for key in parameters if key.startswith("INITVAL") and "1" in parameters[key]]
        key = rng.choice(rows)
        bit = rng.choice([n for n, digit in enumerate(parameters[key]) if digit == "1"])
        parameters[key] = flip(parameters[key], bit)
        return f"{name} {key}[{319 - bit}]"
    first, second = rng.sample(range(18), 2)
    one, two = f"A{first}", f"A{second}"
    wires[one], wires[two] = wires[two], wires[one]
    return f"{name} {one} {two}"


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("block", choices=TESTS)
    parser.add_argument("--count", type=int, default=20, help="bugs (default: 20)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    module, test = TESTS[args.block]
    recorders = []

    def recorder(toplevel):
        recorders.append(replay.Recorder(toplevel))
        return recorders[-1]

    module.Simulator = recorder
    test()
    seen = {}
    for number in range(args.count):
        planted = []

        def edit(netlist, number=number, planted=planted):
            # The same bug in every simulation of the block.
            rng = random.Random(f"{args.seed} {number}")
            offered = {kind: names for kind, names in bugs(netlist).items() if names}
            kind = rng.choice(list(offered))
            planted[:] = kind, plant(netlist, kind, rng.choice(offered[kind]), rng)

        try:
            for simulation in recorders:
                simulation.compare(edit)
            survived = True
        except AssertionError:
            survived = False
        kind, what = planted
        counts = seen.setdefault(kind, [0, 0])
        counts[0] += 1
        counts[1] += not survived
        if survived:
            print(f"survives: {kind}, {what}", flush=True)
    for kind, (count, found) in sorted(seen.items()):
        print(f"{args.block}: {kind}: {found} of {count} seen")


if __name__ == "__main__":
    main()
