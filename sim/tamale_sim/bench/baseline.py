"""The recorded figures: what this version reached when it was last measured."""

import json
from importlib import resources
from pathlib import Path

__all__ = ["load", "save"]

_NAME = "baseline.json"


def load():
    """Return the recorded figures, a dict by name; empty if there are none."""
    file = resources.files(__package__) / _NAME
    return json.loads(file.read_text()) if file.is_file() else {}


def save(figures):
    """Record figures, in the source tree that this module was loaded from."""
    path = Path(__file__).parent / _NAME
    path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
