"""The table of figures: what is counted, and what it is compared with."""

import dataclasses

__all__ = ["FIGURES", "Figure"]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A row of the table.

    Parameters
    ----------
    number : int
        Of the design's table.
    key : str
        Name in ``bench --json``.
    title : str
    unit : str
        "%" for shares.
    peer : str
        Best published peer.
    reach, beyond : float
        Goals.
    larger : bool
        Whether larger is better.
    """

    number: int
    key: str
    title: str
    unit: str
    peer: str
    reach: float
    beyond: float
    larger: bool = True

    def reached(self, value):
        """Return "beyond", "reached" or "not reached"."""
        for goal, word in ((self.beyond, "beyond"), (self.reach, "reached")):
            if value >= goal if self.larger else value <= goal:
                return word
        return "not reached"

    def show(self, value):
        """Return the value as text."""
        if value is None:
            return "not measured"
        if self.unit == "%":
            return f"{value:.1%}"
        return f"{value:,.4g} {self.unit}".strip()


#: The figures that `tamale bench` prints.
FIGURES = (
    Figure(1, "roofline", "decode, useful bytes of the memory's peak", "%", "93-94 % (INT4)",
           0.85, 0.95),
    Figure(2, "roofline_2k", "the same at 2k context, over short", "%", "70 %", 0.80, 0.90),
    Figure(3, "stream", "weight stream between refreshes, of beat rate", "%", "99.5 % (long)",
           0.98, 0.995),
    Figure(4, "bits_per_weight", "memory for a ternary weight, row scales", "bits", "1.603",
           1.61, 1.25, False),
    Figure(5, "decoder_lut4_per_weight", "trit decoder", "LUT4/weight", "28.8", 10, 6, False),
    Figure(6, "lut4_per_mac", "engine of the preset, int8", "LUT4/MAC", "50.8", 20, 15, False),
    Figure(6, "lut4_per_mac_1", "engine, 1 vector", "LUT4/MAC", "63.6", 28, 22, False),
    Figure(7, "gmacs_per_klut4", "engine speed for its area", "GMAC/s/kLUT4", "1.74", 6, 10),
    Figure(8, "engine_mhz", "engine clock, worst of the seeds", "MHz", "75-92", 125, 160),
    Figure(10, "outside_stream", "token time with the memory idle, but for refresh", "%", "38 %",
           0.10, 0.03, False),
    Figure(11, "vectors", "vectors per pass at the sweep's speed", "", "2-4", 4, 16),
    Figure(13, "prediction_error", "cycle model against simulation", "%", "none", 0.05, 0.01,
           False),
    Figure(14, "multipliers_on_trits", "multipliers on trits", "", "0", 0, 0, False),
)  # fmt: skip
