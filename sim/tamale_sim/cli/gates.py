"""`tamale gates`: tests of the blocks, run on the netlists that Yosys makes of them."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .test import checkout

__all__ = ["BLOCKS", "add", "run"]

#: What the marker ``gates`` of a test may name, and its meaning.
BLOCKS = {
    "accelerator": "all of it, against the golden machine",
    "activation": "activation memory",
    "adders": "carry cells that select, delay lines",
    "array": "array, drain and activation memory",
    "axi-bridge": "Wishbone to AXI4",
    "axi-mux": "managers on one memory port",
    "board": "the netlist that a board gets, to its first tokens",
    "candidates": "largest logits",
    "checksum": "checksum of the stream",
    "counters": "performance counters",
    "cpu": "CPU system with a program",
    "crossing": "bridges between clocks",
    "decoder": "codes of trits",
    "encoder": "trits of codes",
    "executor": "executor of the program",
    "fifo": "FIFO of beats",
    "kv-writer": "writer of the key-value cache",
    "loader": "LOAD and SLOAD",
    "peripherals": "bus, UART, timer, system control",
    "queue": "job queue and program memory",
    "reader": "stream reader",
    "registers": "register files",
    "scalar": "scalar unit",
    "sdram": "SDRAM controller",
    "sparse": "gearbox and decoder of the sparse code",
    "vector": "vector unit, scratchpad, scalar unit",
    "walker": "stream walker",
}


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "gates",
        help="run the tests of the blocks on their netlists",
        description="Synthesises each block alone for ECP5, simulates the netlist in place of the "
        "block under the block's tests, and prints the tests that ran, the simulated cycles and "
        "the seconds. Block board is the whole system with its pads. Needs a checkout; an hour "
        "or two for all.",
        epilog="blocks:\n" + "\n".join(f"  {name:12} {what}" for name, what in BLOCKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("block", nargs="*", help="blocks (default: all)")
    parser.add_argument("-n", "--jobs", default=str(os.cpu_count() or 1), help="processes")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
    for name in args.block:
        if name not in BLOCKS:
            raise ValueError(f"unknown block {name!r}; known: {', '.join(BLOCKS)}")
    with tempfile.TemporaryDirectory(prefix="tamale.") as folder:
        report = Path(folder) / "report.json"
        # Nothing but the object on standard output.
        result = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-n", args.jobs,
                f"--gates={','.join(args.block) or 'all'}", f"--gates-report={report}",
            ],
            cwd=checkout(),
            stdout=sys.stderr,
        )  # fmt: skip
        blocks = json.loads(report.read_text()) if report.exists() else {}
    if args.json:
        print(json.dumps({"passed": not result.returncode, "blocks": blocks}))
        return result.returncode
    table = Table()
    for column in ("block", "tests", "failed", "cycles", "seconds"):
        table.add_column(column, justify="left" if column == "block" else "right")
    for name, block in sorted(blocks.items()):
        table.add_row(
            name, f"{block['tests']}", f"{len(block['failed'])}", f"{block['cycles']:,}",
            f"{block['seconds']:.0f}",
        )  # fmt: skip
    Console().print(table)
    return result.returncode
