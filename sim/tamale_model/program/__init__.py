"""Compiles a model's graph to the accelerator's program, and says what the sweep holds, in order.

The order of the stream is the order of the commands: `Compiler` emits both side by side, so that
they cannot disagree. The arithmetic is that of docs/developer/arithmetic.md; every fixed-point
position is derived from sizes and scales.

======== ===============================================================================
survey   one walk over the layers: what all of them have in common
layout   places of vectors in scratchpad and activation memory
emitter  commands, the stream beside them, names of scalar registers
blocks   what several places need: norm, quantisation, bias
layer    attention and feed-forward of one layer
compiler the whole program: prologue, layers, head
======== ===============================================================================
"""

from tamale_model.program.compiler import Compiled, Compiler
from tamale_model.program.emitter import LOGIT_SCALAR, ROPE_BITS

__all__ = ["LOGIT_SCALAR", "ROPE_BITS", "Compiled", "Compiler"]
