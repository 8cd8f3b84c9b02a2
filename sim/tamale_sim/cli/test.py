"""`tamale test`: the project's tests, from a checkout."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["add", "checkout", "run"]


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "test",
        help="run the tests",
        description="Runs the project's tests on all cores. SIM=verilator or SIM=icarus chooses "
        "the simulator where a test leaves it open, WAVES=1 records signals. What follows -- goes "
        "to pytest.",
    )
    parser.add_argument("--long", action="store_true", help="the long campaign too (hours)")
    parser.add_argument("-n", "--jobs", default=str(os.cpu_count() or 1), help="processes")
    parser.add_argument("arguments", nargs="*", help="files or pytest arguments (after --)")
    parser.set_defaults(run=run)


def checkout():
    """Return the folder of the repository.

    Raises
    ------
    FileNotFoundError
        If this is an installation without tests.
    """
    root = Path(__file__).absolute().parents[3]
    if not (root / "tests").is_dir():
        raise FileNotFoundError(
            "the tests are part of a checkout; clone the repository to run them"
        )
    return root


def run(args):
    """Run the command."""
    command = [sys.executable, "-m", "pytest", "-n", args.jobs, *args.arguments]
    if not args.long:
        command += ["-m", "not long"]
    return subprocess.run(command, cwd=checkout()).returncode
