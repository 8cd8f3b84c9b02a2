"""Figures of the world: a value with its range, its unit, and where it comes from.

In TOML a quantity is a table::

    wafer = {value = 2891, low = 2000, high = 3500, unit = "$", source = "CSET 2020, table 9"}

It has a ``source``, or ``assumption`` says why there is none. In a user's file a bare number will
do: the file is the source.
"""

import dataclasses
import math
import tomllib

__all__ = ["DataError", "Quantity", "merge", "quantity", "read_toml"]

_KEYS = ("value", "low", "high", "unit", "source", "assumption")


class DataError(ValueError):
    """A file of figures says what cannot be; the message names file, figure and mend."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A figure.

    Parameters
    ----------
    value, low, high : float
        Best guess and range; all equal where nothing else is known.
    unit : str
    source : str
        Where the figure comes from; empty for an assumption.
    assumption : str
        Why it is assumed; empty for a figure with a source.
    """

    value: float
    low: float
    high: float
    unit: str = ""
    source: str = ""
    assumption: str = ""

    def __float__(self):
        return float(self.value)

    @property
    def range(self):
        """(low, value, high)."""
        return self.low, self.value, self.high

    @property
    def origin(self):
        """The source, or the assumption marked as such."""
        return self.source or f"assumed: {self.assumption}"


def quantity(entry, name, *, file, positive=True, user=False):
    """Return the `Quantity` of a TOML entry.

    Parameters
    ----------
    entry : dict or number
    name : str
        For messages.
    file : str
        For messages, and the source of a user's bare number.
    positive : bool
        Whether it must be above zero; otherwise it must not be below.
    user : bool
        Whether a source may be missing.

    Raises
    ------
    DataError
    """
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        entry = {"value": entry}
        if not user:
            raise DataError(
                f"{file}: {name} = {entry['value']} has no source; write "
                f'{name} = {{value = {entry["value"]}, source = "..."}} or assumption = "..."'
            )
    if not isinstance(entry, dict):
        raise DataError(f"{file}: {name} = {entry!r} is no figure; write a number or a table")
    for key in entry:
        if key not in _KEYS:
            raise DataError(
                f"{file}: {name} has the unknown key {key!r}; known: {', '.join(_KEYS)}"
            )
    if "value" not in entry:
        raise DataError(f"{file}: {name} lacks its value; add value = ...")
    value = entry["value"]
    bounds = [entry.get("low", value), value, entry.get("high", value)]
    for bound in bounds:
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise DataError(f"{file}: {name} = {bound!r} is no number; write one without quotes")
        if not math.isfinite(bound) or bound < 0 or (positive and bound == 0):
            least = "above zero" if positive else "zero or above"
            raise DataError(f"{file}: {name} = {bound} {entry.get('unit', '')} must be {least}")
    if bounds != sorted(bounds):
        raise DataError(
            f"{file}: {name} is {value}, outside its range {bounds[0]} to {bounds[2]}; "
            "mend low and high"
        )
    source, assumption = entry.get("source", ""), entry.get("assumption", "")
    if not source and not assumption:
        if not user:
            raise DataError(
                f'{file}: {name} has no source; add source = "..." or assumption = "..."'
            )
        source = f"user: {file}"
    return Quantity(*map(float, (value, bounds[0], bounds[2])), entry.get("unit", ""),
                    source, assumption)  # fmt: skip


def read_toml(path, text=None):
    """Return the tables of a file, or of ``text`` that comes from it."""
    try:
        return tomllib.loads(path.read_text() if text is None else text)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a TOML file with figures") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid TOML: {error}") from error


def merge(base, changes):
    """Return ``base`` with the entries of ``changes``, table by table; a number replaces a value.

    A user's value takes over everything of the figure: range and source go with the old value.
    """
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "value" not in value:
            result[key] = merge(old, value)
        elif isinstance(old, dict) and "value" in old and not isinstance(value, dict):
            result[key] = {"value": value, "unit": old.get("unit", "")}
        elif isinstance(old, dict) and isinstance(value, dict):
            result[key] = {"unit": old.get("unit", ""), **value} if "value" in old else value
        else:
            result[key] = value
    return result
