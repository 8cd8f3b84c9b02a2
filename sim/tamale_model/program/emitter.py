"""Commands and the stream beside them."""

import math

import numpy as np
from tamale import isa
from tamale.isa import Destination, Op, Source

from tamale_model import packing

__all__ = ["HEADS", "LOGIT_SCALAR", "ROPE_BITS", "Emitter", "gain_bits"]

#: Fraction bits of the rotary factors.
ROPE_BITS = 14

# Scalars of a slot.
_PRIVATE = (
    "residual_peak",
    "sigma",
    "sigma_first",
    "head_sigma",
    "head_epsilon",
    "peak",
    "ratio",
    "square",
    "root",
    "key_scale",
    "value_scale",
    "unit",
    "scratch",
    "weight_peak",
    "total",
    "logit_unit",
)
_PRIVATE_NUMBERS = {name: isa.SHARED_SCALARS + i for i, name in enumerate(_PRIVATE)}
#: First of the registers that hold one scalar per query head of a sweep over keys.
HEADS = isa.SHARED_SCALARS + len(_PRIVATE)
#: Register of the slot that holds the real value of one logit unit after a job.
LOGIT_SCALAR = _PRIVATE_NUMBERS["logit_unit"]


def gain_bits(gain):
    """Return the fraction bits of a gain: 14 below the power of two above its largest element."""
    return 14 - math.ceil(math.log2(float(np.abs(gain).max()) or 1.0))


class Emitter:
    """Collects commands, and hands the bytes that they read to a callable.

    Operands of vectors are elements of the slot; ("shared", element) is one for all slots. Scalars
    go by name: those of `load_scalars` are shared by all slots and get their registers in the order
    of their first loading, the others belong to the slot.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        self.config = config
        self.commands = []
        self.out = None
        self._numbers = dict(_PRIVATE_NUMBERS)
        self._shared = 0

    def number(self, name):
        """Return the register of a scalar."""
        return name if isinstance(name, int) else self._numbers[name]

    def emit(self, op, **fields):
        """Append a command."""
        self.commands.append(isa.encode(op, **fields))

    def scalar(self, operation, rd, a, b=0, imm=0):
        """Append a SCALAR."""
        self.emit(
            Op.SCALAR, operation=operation, rd=self.number(rd), a=self.number(a),
            b=self.number(b), imm=imm,
        )  # fmt: skip

    def vec(self, a, n, *, dst=None, b=None, m=None, x=None, rd=None, **fields):
        """Append a VEC."""
        fields |= {
            key: self.number(name)
            for key, name in {"m": m, "x": x, "rd": rd}.items()
            if name is not None
        }
        for key, place in (("a", a), ("b", b), ("dst", dst)):
            if place is not None:
                shared = isinstance(place, tuple)
                fields[key] = place[1] if shared else place
                fields[key + "_slot"] = not shared
        fields.setdefault("destination", Destination.NONE if dst is None else Destination.SCRATCH)
        self.emit(Op.VEC, n=n, **fields)

    def load_scalars(self, values):
        """Stream scalars, a dict of non-negative floats by name, to consecutive registers."""
        names = list(values)
        if names[0] not in self._numbers:
            for name in names:
                self._numbers[name] = self._shared
                self._shared += 1
            if self._shared > isa.SHARED_SCALARS:
                raise ValueError(
                    f"the graph needs {self._shared} shared scalars, the hardware has "
                    f"{isa.SHARED_SCALARS}; it combines too many kinds of norms and biases"
                )
        self.emit(Op.SLOAD, rd=self._numbers[names[0]], count=len(names), source=Source.LINEAR)
        if self.out is not None:
            self.out(packing.pack_scalars(self.config, list(values.values())))

    def _load(self, dst, values, format, dtype):
        data = packing.pack_beats(self.config, values, dtype)
        self.emit(
            Op.LOAD, dst=dst, beats=len(data) // self.config.beat_bytes, format=format,
            source=Source.LINEAR,
        )  # fmt: skip
        if self.out is not None:
            self.out(data)

    def load_gain(self, dst, gain, bits):
        """Stream a norm's gain to the scratchpad of all slots, in units of 2**-bits."""
        self._load(dst, np.rint(np.ldexp(gain.astype(np.float64), bits)), isa.Format.INT16, "<i2")

    def load_bias(self, dst, bias, bits):
        """Stream a bias to the scratchpad of all slots, in units of 2**-bits."""
        values = np.rint(np.ldexp(bias.astype(np.float64), bits))
        self._load(dst, np.clip(values, -(2**31), 2**31 - 1), isa.Format.INT32, "<i4")

    def matvec(self, packed, pieces, dst, **fields):
        """Append a MATVEC of a matrix, whose bytes come in ``pieces``."""
        if packed.groups > self.config.max_groups:
            raise ValueError(
                f"a matrix has {packed.groups} groups along K, the array counts "
                f"{self.config.max_groups}; raise max_k, or use larger groups"
            )
        self.emit(
            Op.MATVEC, dst=dst, tiles=packed.tiles, groups=packed.groups, planes=packed.planes,
            steps=packed.steps, scaled=packed.scaled, sparse=packed.sparse, vectors_slot=1,
            source=Source.LINEAR, **fields,
        )  # fmt: skip
        if self.out is not None:
            for piece in pieces:
                self.out(piece)
