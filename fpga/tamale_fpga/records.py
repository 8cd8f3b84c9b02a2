"""Figures that are kept in the source tree, beside the module that measures them."""

import json
from pathlib import Path

__all__ = ["load", "save"]


def load(path):
    """Return the figures of a file, a dict by name; empty if there is none."""
    path = Path(path)
    return json.loads(path.read_text()) if path.is_file() else {}


def save(path, figures):
    """Write figures so that a change of one is a change of its line."""
    Path(path).write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
