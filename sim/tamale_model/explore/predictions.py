"""The cycle model's predictions beside what the RTL took: cases, recorded results, errors.

The cases are data (``data/predictions.toml``). `tamale_sim.bench.predictions` runs them; what it
measured is recorded in ``data/predictions.json``, cycles only: the prediction is made anew each
time, so a change of the cycle model shows at once.
"""

import dataclasses
import functools
import json
import tomllib
from importlib import resources
from pathlib import Path

from tamale import config as configuration

from tamale_model import cycles, readers
from tamale_model.explore import sample
from tamale_model.machine import Job, Slot
from tamale_model.program import Compiler

__all__ = ["Case", "Compared", "RECORDED", "cases", "compare", "recorded"]

_DATA = resources.files(__package__) / "data"

#: Where `recorded` reads and the measuring command writes.
RECORDED = Path(str(_DATA)) / "predictions.json"


@dataclasses.dataclass(frozen=True)
class Case:
    """One run.

    Parameters
    ----------
    config : Config
    model : str
        Key of the models in ``predictions.toml``.
    shape : tuple
        Sorted items of its table; empty for the demonstration model.
    context : int
        Positions in the cache before the decoded tokens.
    cached : bool
        Whether the golden model fills the cache; otherwise the board reads a prompt.
    tokens : int
        Tokens to decode; the first is not measured.
    """

    config: configuration.Config
    model: str
    shape: tuple
    context: int
    cached: bool
    tokens: int

    @property
    def name(self):
        """For people and files."""
        return f"{self.config.name}.{self.model}.{self.context}"

    def build(self):
        """Return the `Model`."""
        return _model(self.model, self.shape)

    @property
    def positions(self):
        """Positions of the measured tokens."""
        return [self.context + self.cached + i for i in range(self.tokens - 1)]


@functools.cache
def _model(name, shape):
    if shape:
        return sample.make(name, **dict(shape))
    return readers.read(Path(str(resources.files("tamale_model") / "data" / "demo")))


def cases():
    """Return the list of `Case`."""
    data = tomllib.loads((_DATA / "predictions.toml").read_text())
    configs = {}
    for name, changes in data["configurations"].items():
        preset = changes.pop("preset", None)
        base = configuration.load(preset) if preset else configuration.Config(**data["base"])
        configs[name] = base.replace(**changes, name=name)
    models = {name: tuple(sorted(shape.items())) for name, shape in data["models"].items()}
    return [
        Case(
            config=configs[entry["configuration"]],
            model=entry["model"],
            shape=models[entry["model"]],
            context=entry["context"],
            cached=entry["context"] > data["prompt_limit"],
            tokens=data["tokens"],
        )
        for entry in data["cases"]
    ]


@functools.lru_cache(maxsize=32)
def _program(config, name, shape):
    """Program of a model: nothing is packed, for only the commands matter."""
    model = _model(name, shape)
    context = min(model.graph.context, config.max_context)
    return list(Compiler(config, model, context).compile().program)


def predict(case):
    """Return the predicted cycles of a token, the mean over the measured positions."""
    program = _program(case.config, case.model, case.shape)
    jobs = [Job([Slot(0, position, 0)]) for position in case.positions]
    return sum(cycles.predict(case.config, program, job).cycles for job in jobs) / len(jobs)


@dataclasses.dataclass(frozen=True)
class Compared:
    """A case, what was measured and what is predicted, in cycles of a token.

    ``measured`` is None where nothing is recorded.
    """

    case: Case
    predicted: float
    measured: float | None
    equal_tokens: int = 0

    @property
    def error(self):
        """Relative error of the prediction, or None."""
        return None if self.measured is None else self.predicted / self.measured - 1


def recorded():
    """Return {name of a case: recorded result}; a result has the configuration it was run with."""
    return json.loads(RECORDED.read_text())["results"] if RECORDED.is_file() else {}


def _same(result, case):
    """Whether a result was measured with a case's configuration and model.

    Fields that configurations did not have then must have their default; names do not matter.
    """
    mine = dataclasses.asdict(case.config)
    then = dataclasses.asdict(configuration.Config()) | result["configuration"]
    for name in ("name", "board"):
        mine[name] = then[name] = ""
    return mine == then and (result["tokens"], result["shape"]) == (case.tokens, dict(case.shape))


def compare(results=None):
    """Return a `Compared` for every case.

    Parameters
    ----------
    results : dict, optional
        As `recorded` returns. A result of another configuration or context is left out.
    """
    results = recorded() if results is None else results
    compared = []
    for case in cases():
        result = results.get(case.name)
        if result and not _same(result, case):
            result = None
        compared.append(
            Compared(case, predict(case), result and result["cycles"],
                     result["equal_tokens"] if result else 0)
        )  # fmt: skip
    return compared
