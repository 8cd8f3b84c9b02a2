"""Bits of memory that a ternary weight takes: ``python -m tamale_model.bits``.

Counts the beats that `packing` writes for every linear layer of BitNet b1.58 2B-4T, whose sizes are
public, so no checkpoint is needed. Code, padding (rows and K steps that are not full) and scales
are told apart, for scales of whole rows and of groups along K; and, where the configuration has a
sparse code, for weights in that code.
"""

import argparse
import dataclasses
import json

import numpy as np
from tamale import config as configuration

from tamale_model import packing
from tamale_model.model import Linear

__all__ = ["GEOMETRY", "GROUP_SIZES", "Bits", "main", "measure"]

#: (rows, K) of the linear layers of a decoder layer of BitNet b1.58 2B-4T: hidden 2560, 20 query
#: and 5 KV heads of 128, feed-forward 6912. Source: config.json of microsoft/bitnet-b1.58-2B-4T.
GEOMETRY = (
    (2560, 2560),
    (640, 2560),
    (640, 2560),
    (2560, 2560),
    (6912, 2560),
    (6912, 2560),
    (2560, 6912),
)

#: Weights along K that share a scale; 0: the whole row.
GROUP_SIZES = (0, 64, 128, 256)


@dataclasses.dataclass(frozen=True)
class Bits:
    """Bits a weight.

    Parameters
    ----------
    code : float
        Of the weight code itself.
    padding : float
        Of rows and K steps beyond the matrix, and of scale beats that are not full.
    scales : float
        Of 16-bit scales.
    """

    code: float
    padding: float
    scales: float

    @property
    def total(self):
        """All of memory, per weight."""
        return self.code + self.padding + self.scales


def measure(config, *, group_size=0, geometry=GEOMETRY, sparse=False):
    """Return the `Bits` of matrices as they lie in the sweep.

    Every row, or group of a row, has a scale of its own. (A checkpoint with one scale for a whole
    matrix has none in the stream, and takes less.)

    Parameters
    ----------
    config : Config
        Its code and tile matter.
    group_size : int
        Weights that share a scale; 0: the whole row.
    geometry : sequence of (int, int)
        Rows and K of each matrix.
    sparse : bool
        In the configuration's sparse code.
    """
    weights = beats = scales = 0
    for rows, k in geometry:
        groups = -(-k // group_size) if group_size else 1
        # Without memory behind them: only the shapes matter.
        values = np.broadcast_to(np.int8(0), (rows, k))
        ones = np.broadcast_to(np.float32(1), (rows, groups))
        packed = packing.describe(config, Linear(values, 1, 1.0, ones, group_size), sparse=sparse)
        sets = packed.tiles * packed.groups
        weights += rows * k
        beats += sets * packed.beats + config.scale_beats_of(sets)
        scales += 16 * rows * groups
    code = (config.sparse if sparse else config.trit_code).bits_per_trit
    return Bits(
        code=code,
        padding=beats * config.bus_width / weights - code - scales / weights,
        scales=scales / weights,
    )


def main(arguments=None):
    """Print a line for each group size."""
    parser = argparse.ArgumentParser(prog="python -m tamale_model.bits", description=__doc__)
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("--json", action="store_true", help="print one object")
    options = parser.parse_args(arguments)
    config = configuration.load(options.config)
    codes = {config.code: False}
    if config.sparse:
        codes[config.sparse_code] = True
    results = {
        code: {size: measure(config, group_size=size, sparse=sparse) for size in GROUP_SIZES}
        for code, sparse in codes.items()
    }
    if options.json:
        found = {
            code: {
                size or "row": dataclasses.asdict(bits) | {"total": bits.total}
                for size, bits in sizes.items()
            }
            for code, sizes in results.items()
        }
        print(json.dumps(found.pop(config.code) | found))
        return
    for code, sizes in results.items():
        print(
            "bits per ternary weight, BitNet b1.58 2B-4T geometry, configuration "
            f"{config.name}, code {code}"
        )
        print(f"{'scale of':>12} {'code':>8} {'padding':>8} {'scales':>8} {'total':>8}")
        for size, bits in sizes.items():
            name = f"{size} weights" if size else "a row"
            print(
                f"{name:>12} {bits.code:8.4f} {bits.padding:8.4f} {bits.scales:8.4f} "
                f"{bits.total:8.4f}"
            )


if __name__ == "__main__":
    main()
