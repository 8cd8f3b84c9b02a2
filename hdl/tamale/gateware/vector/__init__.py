"""The vector unit: VEC, HADAMARD, ROPE and EXP on the scratchpad.

`unit` puts the parts together: `sequence` walks the words of a command, `operands` and `lane`
compute, `reduce` gathers the lanes' results. Only what these commands need lives here.
"""

from tamale.gateware.vector.unit import VectorUnit

__all__ = ["VectorUnit"]
