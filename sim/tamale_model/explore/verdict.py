"""What the audit is made of: checks, their verdicts, and the functions that answer claims."""

import dataclasses
import enum

__all__ = ["AUDITS", "Check", "Verdict", "near", "pick", "register", "span"]


class Verdict(enum.StrEnum):
    """How a claim fares."""

    HOLDS = "holds"
    IF = "holds only if"
    NOT = "does not hold"


@dataclasses.dataclass(frozen=True)
class Check:
    """One computation.

    Parameters
    ----------
    covers : tuple of str
        Numbers of the claim that it is about, as they are written there.
    computed : str
        The arithmetic, with its result.
    verdict : Verdict
    because : str
        Condition of "holds only if", reason of "does not hold".
    uses : tuple of str
        Constants and cards behind it.
    """

    covers: tuple
    computed: str
    verdict: Verdict
    because: str = ""
    uses: tuple = ()


#: Functions by claim: each takes a `World` and yields checks.
AUDITS = {}


def register(name):
    """Decorate the function that answers a claim."""

    def keep(function):
        AUDITS[name] = function
        return function

    return keep


def pick(main, alternative=False):
    """Return the verdict: whether it holds as it is said, else whether under a condition."""
    return Verdict.HOLDS if main else Verdict.IF if alternative else Verdict.NOT


def near(value, target, tolerance=0.05):
    """Whether a value is a figure, as far as the figure was rounded."""
    return abs(value / target - 1) <= tolerance


def span(values, form="{:.3g}"):
    """Return a value with its range as text."""
    low, middle, high = values
    return f"{form} ({form} to {form})".format(middle, low, high)
