"""What the explorer's commands share: tables on the terminal, notes for people who wait."""

import sys

from rich.console import Console

__all__ = ["note", "show", "triple"]


def show(*sheets):
    """Print tables; where nobody reads them on a terminal, they keep their columns."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    for sheet in sheets:
        console.print(sheet.rich())
        console.print()


def note(args):
    """Return what prints a line to people who wait, or None for programs."""
    return None if args.json else lambda line: print(f"tamale: {line}", file=sys.stderr)


def triple(values):
    """Return a range as an object."""
    return dict(zip(("low", "value", "high"), values, strict=True))
