"""The one error that a reader raises, and JSON that cannot raise another."""

import json
import math

__all__ = ["CheckpointError", "parse_json", "positive"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file, the value and the mend."""


def _once(pairs):
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} occurs twice")
    return result


def parse_json(data):
    """Return what JSON bytes or text hold.

    Raises
    ------
    ValueError
        For text that is not JSON, is nested too deeply, or names a member twice.
    """
    try:
        return json.loads(data, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def positive(name, value):
    """Return a scale as a float; CheckpointError unless it is finite and above zero."""
    value = float(value)
    if not math.isfinite(value) or value <= 0:
        raise CheckpointError(f"{name} is {value}, it must be positive; the checkpoint is damaged")
    return value
