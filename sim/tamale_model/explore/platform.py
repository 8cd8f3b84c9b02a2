"""Platforms: boards, chips and systems that people buy, as data."""

import dataclasses

from tamale_model.explore.quantity import DataError, Quantity, quantity

__all__ = ["KINDS", "Platform", "parse"]

#: What a platform is: an FPGA board, a chip of ours in a system, or a system that people buy.
KINDS = ("fpga", "chip", "system")

#: Figures by kind; those with a star may be left out.
_FIGURES = {
    "fpga": ("bandwidth", "memory", "price", "watts", "efficiency", "clock", "lut4", "ebr", "dsp"),
    "chip": ("bandwidth", "memory", "efficiency", "channels", "*price", "*watts", "*area",
             "*elements", "*tops"),
    "system": ("bandwidth", "memory", "price", "watts", "efficiency", "weight_bits",
               "cache_bits", "*head_bits", "*tops"),
}  # fmt: skip
_TEXTS = ("title", "kind", "memory_type", "process", "preset", "part", "note", "availability")


@dataclasses.dataclass(frozen=True)
class Platform:
    """Where a model may run.

    Parameters
    ----------
    name, title, kind : str
    memory_type : str
        A key of the energies of constants.toml: sdr, ddr, lpddr, hbm2, gddr, flash.
    figures : dict of str to Quantity
        ``bandwidth`` GB/s, ``memory`` GB, ``price`` $ of a complete system, ``watts`` while it
        decodes, ``efficiency`` of the bandwidth that decoding reaches; of FPGAs ``lut4``, ``ebr``,
        ``dsp``, ``clock`` MHz; of chips ``channels`` of 16 bits; ``tops`` a limit of arithmetic.
    process : str
        Key of the processes, for chips.
    preset : str
        Configuration to start sizing from.
    part, note, availability : str
    """

    name: str
    title: str
    kind: str
    memory_type: str
    figures: dict
    process: str = ""
    preset: str = "ulx3s"
    part: str = ""
    note: str = ""
    availability: str = ""

    def __getattr__(self, name):
        figures = self.__dict__.get("figures", {})
        if name in figures:
            return figures[name]
        raise AttributeError(f"platform {self.__dict__.get('name')!r} has no {name!r}")

    def get(self, name, default=None):
        """A figure, or the default."""
        return self.figures.get(name, default)


def parse(name, data, *, file, user=False):
    """Return the `Platform` of a TOML file's tables.

    Raises
    ------
    DataError
    """
    kind = data.get("kind")
    if kind not in KINDS:
        raise DataError(f"{file}: {name}: kind = {kind!r}; use one of {', '.join(KINDS)}")
    known = [figure.lstrip("*") for figure in _FIGURES[kind]]
    for key in data:
        if key not in (*known, *_TEXTS):
            raise DataError(
                f"{file}: {name} has the unknown key {key!r}; known: {', '.join((*known, *_TEXTS))}"
            )
    figures: dict[str, Quantity] = {}
    for figure in _FIGURES[kind]:
        key = figure.lstrip("*")
        if key in data:
            entry = data[key]
            figures[key] = quantity(entry, f"{name}.{key}", file=file, user=user)
        elif not figure.startswith("*"):
            raise DataError(
                f"{file}: {name} lacks {key}; add {key} = {{value = ..., source = ...}}"
            )
    efficiency = figures["efficiency"]
    if efficiency.high > 1:
        raise DataError(
            f"{file}: {name}.efficiency reaches {efficiency.high}; it is a share of the bandwidth, "
            "so use at most 1"
        )
    texts = {key: data[key] for key in _TEXTS if key in data}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise DataError(f"{file}: {name}.{key} = {value!r}; write a text in quotes")
    texts.setdefault("title", name)
    if "memory_type" not in texts:
        raise DataError(f'{file}: {name} lacks memory_type; add memory_type = "lpddr" or another')
    if kind == "chip" and "process" not in texts:
        raise DataError(f'{file}: {name} lacks process; add process = "28nm" or another')
    return Platform(name=name, figures=figures, **texts)
