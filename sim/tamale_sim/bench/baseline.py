"""The recorded figures: what this version reached when it was last measured."""

from pathlib import Path

from tamale_fpga import records

__all__ = ["load", "save"]

_FILE = Path(__file__).with_name("baseline.json")


def load():
    """Return the recorded figures, a dict by name; empty if there are none."""
    return records.load(_FILE)


def save(figures):
    """Record figures, in the source tree that this module was loaded from."""
    records.save(_FILE, figures)
