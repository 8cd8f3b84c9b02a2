"""The audit: every claim of the essay, our computation, its assumptions, and a verdict.

Claims are data (``data/claims.toml``); for each there is one function in the modules ``claims_*``
that yields checks. A verdict is computed from figures, so another figure may change it.
"""

import dataclasses
import re
from importlib import resources
from pathlib import Path

from tamale_model.explore import claims_boxes, claims_models, claims_silicon
from tamale_model.explore.quantity import read_toml
from tamale_model.explore.verdict import AUDITS, Verdict

__all__ = ["Answer", "Claim", "Verdict", "answer", "audit", "claims", "numbers"]

_DATA = resources.files(__package__) / "data"

#: Modules whose functions answer claims.
_MODULES = (claims_models, claims_silicon, claims_boxes)


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim.

    Parameters
    ----------
    name, where, claim, figure : str
        As in ``claims.toml``.
    """

    name: str
    where: str
    claim: str
    figure: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """A claim with its checks; the verdict is that of the worst check."""

    claim: Claim
    checks: tuple

    @property
    def verdict(self):
        """The worst of the checks' verdicts."""
        return max((check.verdict for check in self.checks), key=list(Verdict).index)


def claims():
    """Return {name: Claim}."""
    table = read_toml(Path("claims.toml"), (_DATA / "claims.toml").read_text())
    return {name: Claim(name, **entry) for name, entry in table.items()}


def numbers(text):
    """Return the numbers in a text, as written; names such as arXiv's or FP16 are not numbers."""
    text = re.sub(r"arXiv:[0-9.]+|FP16|INT4|LPDDR5|DDR5|DeepSeek-V3|b1\.58|\d+ nm", " ", text)
    return re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)


def answer(name, world):
    """Return the `Answer` to one claim."""
    return Answer(claims()[name], tuple(AUDITS[name](world)))


def audit(world):
    """Return the list of `Answer`, in the order of the claims."""
    return [answer(name, world) for name in claims()]
