"""What travels through the vector unit's pipeline, and in which cycle each part of it is.

An *item* is one word on its way from the scratchpad to the scratchpad. An item that leaves the
sequencer's register in cycle 0 is read in cycle 0, its operands are prepared from cycle 2 on, it is
multiplied in cycles 5 and 6, added in cycle 12, written in cycle 14. (One cycle more per doubling
of the width beyond 8: the transform within a word takes a cycle per level.)
"""

from amaranth.hdl import unsigned
from amaranth.lib import data

from tamale.isa import Destination, Reduce

__all__ = ["ControlLayout", "ItemLayout", "Timing", "log2_width"]


def log2_width(config):
    """Return the binary logarithm of ``vu_width``."""
    return config.vu_width.bit_length() - 1


class Timing:
    """Cycles in which an item passes the stages; cycle 0 is when it addresses operand a.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        self.prepare = 2  #: first cycle in which operand a is at hand
        late = max(0, log2_width(config) - 3)
        self.read_factor = late  #: operand b is addressed as a factor
        self.factor = 4 + late  #: factor is rounded and clipped
        self.multiply = 5 + late  #: both operands are at the multiplier
        self.combine = 7 + late  #: product is added to the product before it
        self.read_addend = 10 + late  #: operand b is addressed as an addend
        self.product = 11 + late  #: shifted product is clipped
        self.add = 12 + late  #: addend is added
        self.sum = 13 + late  #: sum is clipped
        self.result = 14 + late  #: result is written to the scratchpad, or
        self.code = 15 + late  #: to activation memory
        self.exponential = 17 + late  #: result of EXP is written


def ItemLayout(config):
    """One word of a command.

    ``valid``; ``mask``: elements before n; ``write``: elements to write; ``a``, ``b``, ``dst``:
    word addresses; ``step``, ``offset``: place in activation memory; ``partial``: product that only
    the next item completes; ``minus``, ``plus``: take this product from the last one, or add it;
    ``add``, ``subtract``: what to do with the addend; ``in_word``: transform within the word;
    ``reduce``: takes part in the reduction.
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
            "plus": 1,
            "add": 1,
            "subtract": 1,
            "in_word": 1,
            "reduce": 1,
        }
    )


#: What stays the same during a command.
#:   exp         the command is EXP
#:   sigmoid     its function is SIGMOID
#:   relu        negative elements of a become zero
#:   by_vector   the factor is operand b, shifted right by ``pre``; else it is ``factor``
#:   shift       right shift of the product
#:   limited     results are clamped to +-``limit``
#:   levels      log2 of the transform's block
#:   vector      of activation memory
ControlLayout = data.StructLayout(
    {
        "exp": 1,
        "sigmoid": 1,
        "relu": 1,
        "by_vector": 1,
        "pre": 5,
        "factor": 16,
        "shift": 6,
        "limited": 1,
        "limit": 7,
        "levels": 4,
        "destination": Destination,
        "vector": 4,
        "reduce": Reduce,
    }
)
