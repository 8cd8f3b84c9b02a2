"""What travels through the vector unit's pipeline, and in which cycle each part of it is.

An *item* is one word on its way from the scratchpad to the scratchpad. An item that leaves the
sequencer's register in cycle 0 is multiplied in cycles 5 and 6, shifted in 8 to 10, added in cycle
12 and written in cycle 16.
"""

from amaranth.hdl import unsigned
from amaranth.lib import data

from tamale.isa import Destination, Reduce

__all__ = ["ControlLayout", "ItemLayout", "Timing", "log2_width"]


def log2_width(config):
    """Return the binary logarithm of ``vu_width``."""
    return config.vu_width.bit_length() - 1


class Timing:
    """Cycles in which an item passes the stages; in cycle 0 it leaves the sequencer."""

    read_factor = 0  #: operand b is addressed as a factor
    read_a = 1  #: operand a is addressed
    prepare = 5  #: operand a is at hand
    factor = 6  #: factor is rounded and clipped
    multiply = 7  #: both operands are at the multiplier
    combine = 9  #: product is added to the product before it
    read_addend = 9  #: operand b is addressed as an addend
    product = 13  #: shifted product is clipped; the addend is at hand
    add = 14  #: addend is added
    sum = 15  #: sum is clipped
    result = 17  #: result is reduced
    write = 18  #: result is on its way to the scratchpad or to activation memory
    complement = 20  #: result of SIGMOID is mirrored for elements that are not negative
    exponential = 23  #: result of EXP is reduced; it is written one cycle later


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
