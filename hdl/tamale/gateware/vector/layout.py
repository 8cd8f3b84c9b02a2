"""What travels through the vector unit's pipeline, and in which cycle each part of it is.

An *item* is one word on its way from the scratchpad to the scratchpad, through the stages of
`Timing`.
"""

import functools

from amaranth.hdl import Signal, unsigned
from amaranth.lib import data

from tamale.gateware.interfaces import SCRATCH_LATENCY
from tamale.isa import Destination, Reduce

__all__ = ["ControlLayout", "Data", "ItemLayout", "Timing", "log2_width"]

#: A register of the pipeline's data. A reset need not reach it: what is in it when a reset begins
#: leaves the pipeline with no item that would write it.
Data = functools.partial(Signal, reset_less=True)


def log2_width(config):
    """Return the binary logarithm of ``vu_width``."""
    return config.vu_width.bit_length() - 1


class Timing:
    """Cycles in which an item passes the stages; in cycle 0 it leaves the sequencer."""

    read_factor = 0  #: operand b is addressed as a factor
    read_a = 1  #: operand a is addressed
    prepare = read_a + SCRATCH_LATENCY + 1  #: operand a is at hand
    factor = read_factor + SCRATCH_LATENCY + 3  #: factor is rounded and clipped
    multiply = factor + 1  #: both operands are at the multiplier
    combine = multiply + 2  #: product is added to the product before it
    product = combine + 4  #: shifted product is clipped; the addend is at hand
    read_addend = product - SCRATCH_LATENCY - 1  #: operand b is addressed as an addend
    add = product + 1  #: addend is added
    sum = add + 1  #: sum is clipped
    result = sum + 2  #: result is reduced
    write = result + 1  #: result is on its way to the scratchpad or to activation memory
    complement = write + 2  #: result of SIGMOID is mirrored for elements that are not negative
    exponential = complement + 3  #: result of EXP is reduced; it is written one cycle later


def ItemLayout(config):
    """One word of a command.

    ``valid``; ``mask``: elements before n; ``write``: elements to write; ``a``, ``b``, ``dst``:
    word addresses; ``step``, ``offset``: place in activation memory; ``partial``: product that only
    the next item completes; ``minus``: take this product from the partial one; ``add``,
    ``subtract``: what to do with the addend (subtract only together with add); ``in_word``: bit j
    makes sums and differences of elements 2**j apart within the word; ``reduce``: takes part in the
    reduction.
    """
    words = config.scratchpad_elements // config.vu_width
    address = unsigned((words - 1).bit_length())
    return data.StructLayout(
        {
            "valid": 1,
            "mask": config.vu_width,
            "write": config.vu_width,
            "a": address,
            "b": address,
            "dst": address,
            "step": range(config.act_steps),
            "offset": range(config.tile_k),
            "partial": 1,
            "minus": 1,
            "add": 1,
            "subtract": 1,
            "in_word": log2_width(config),
            "reduce": 1,
        }
    )


#: What stays the same during a command.
#:   exp         the command is EXP
#:   sigmoid     its function is SIGMOID
#:   relu        negative elements of a become zero
#:   by_vector   the factor is operand b, shifted right by ``pre``; else it is ``factor``
#:   pre_reach   bit k: bit 17 + k of operand b, shifted, does not fit the factor
#:   shift       right shift of the product
#:   reach       bit k: bit 31 + k of the product, shifted, does not fit the result
#:   limited     results are clamped to +-``limit``; ``floor`` is 128 - ``limit``
#:   vector      of activation memory
ControlLayout = data.StructLayout(
    {
        "exp": 1,
        "sigmoid": 1,
        "relu": 1,
        "by_vector": 1,
        "pre": 5,
        "pre_reach": 14,
        "factor": 16,
        "shift": 6,
        "reach": 19,
        "limited": 1,
        "limit": 7,
        "floor": 7,
        "destination": Destination,
        "vector": 4,
        "reduce": Reduce,
    }
)
