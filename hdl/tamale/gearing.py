"""How K steps of a sparse code, which are shorter than a beat, lie in beats without a gap.

A beat of `beat` symbols brings `surplus` symbols more than a step of `step` symbols takes, and
these must find their place in a later step. A shifter could put any symbol anywhere, and would cost
more than the decoder. So the order of the symbols in memory is such that a symbol moves in one way
only: what a lane keeps is what the lane itself did not need, or the one surplus symbol that belongs
to it.

Rule
----
``held`` symbols are kept, in the lanes from 0 on; at first none.

- If a step is among them, it is taken from lanes 0 to step - 1, the lanes behind move down by
  ``step``, and no beat is used.
- Else a beat comes. Kept lanes give what they keep and keep the beat's symbol of their lane; the
  other lanes give the beat's symbol. Of the beat's symbols from ``step`` on, lane n from ``held``
  to held + surplus - 1 keeps number step + n mod surplus: of so many lanes in a row, each has
  another remainder.

At the end of a group what is kept is forgotten.
"""

import functools
import math

__all__ = ["Gearing"]


class Gearing:
    """The order of symbols in beats, see the module.

    Parameters
    ----------
    beat_bits, step_bits : int
        Bits of a beat, and of a K step, which are fewer.

    Raises
    ------
    ValueError
        If a step is not shorter than a beat.
    """

    def __init__(self, beat_bits, step_bits):
        if not 0 < step_bits < beat_bits:
            raise ValueError(
                f"a step of {step_bits!r} bits must be shorter than a beat of {beat_bits!r}"
            )
        #: Bits of a symbol: the largest that beats and steps are whole numbers of.
        self.symbol_bits = math.gcd(beat_bits, step_bits)
        #: Symbols of a beat, of a step, and by how many a beat is longer.
        self.beat, self.step = beat_bits // self.symbol_bits, step_bits // self.symbol_bits
        self.surplus = self.beat - self.step
        #: Lanes that may keep a symbol.
        self.lanes = self.beat - 1

    def beats(self, steps):
        """Return the beats of a group of ``steps`` K steps."""
        return -(-steps * self.step // self.beat)

    def sources(self, steps):
        """Return a tuple: for each symbol of ``steps`` steps, in order, its number in the beats."""
        return _sources(self.beat, self.step, steps)


@functools.cache
def _sources(beat_symbols, step, steps):
    surplus = beat_symbols - step
    result, kept, beat = [], [], 0
    for _ in range(steps):
        if len(kept) >= step:
            result += kept[:step]
            kept = kept[step:]
            continue
        first, held = beat * beat_symbols, len(kept)
        result += kept + list(range(first + held, first + step))
        behind = range(held, held + surplus)
        kept = list(range(first, first + held))
        kept += [first + step + lane % surplus for lane in behind]
        beat += 1
    return tuple(result)
