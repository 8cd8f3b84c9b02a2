"""`tamale gates`: tests of the blocks, run on the netlists that Yosys makes of them."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .test import checkout

__all__ = ["add", "run"]


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "gates",
        help="run the tests of the blocks on their netlists",
        description="Synthesises each block alone for ECP5, simulates the netlist in place of the "
        "block under the block's tests, and prints the tests that ran, the simulated cycles and "
        "the seconds. The block soc is the whole system. Needs a checkout; an hour for all.",
    )
    parser.add_argument("block", nargs="*", help="blocks (default: all)")
    parser.add_argument("-n", "--jobs", default=str(os.cpu_count() or 1), help="processes")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
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
