"""What the blocks of the accelerator say to each other.

One command is in execution at a time. The executor resolves what depends on slot, position and
scalars, hands an `Issue` to the one unit that performs the operation, and waits for that unit's
`Done`. A unit that is idle drives zeros on its scratchpad and activation ports, so the ports of all
units are simply ORed together.
"""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from tamale.isa import COMMAND_BITS

__all__ = [
    "ADDRESS_BITS",
    "ActivationWrite",
    "Addresses",
    "CandidateLayout",
    "Descriptor",
    "DoneLayout",
    "Fault",
    "FaultLayout",
    "IssueLayout",
    "ScalarLayout",
    "ScratchRead",
    "ScratchWrite",
    "UnitSignature",
]

#: Bits of a byte address in memory.
ADDRESS_BITS = 32


class Fault(enum.Enum, shape=8):
    """Causes of a stop; the register keeps the first one until it is cleared."""

    NONE = 0
    READ_ERROR = 1  # AXI answered a read with an error; info: address of the burst
    WRITE_ERROR = 2  # AXI answered a write with an error; info: address of the burst
    READ_BOUNDS = 3  # a read descriptor leaves the readable regions; info: its address
    WRITE_BOUNDS = 4  # a write leaves the writable region; info: its address
    BAD_COMMAND = 5  # unknown operation; info: program counter
    BAD_PROGRAM = 6  # program counter past program memory; info: program counter
    BAD_JOB = 7  # no slots, more slots than vectors, or a position past max_context; info: slot


#: A non-negative number mantissa * 2**exponent, see ``tamale_model.integer.Scalar``.
ScalarLayout = data.StructLayout({"mantissa": unsigned(16), "exponent": signed(11)})

FaultLayout = data.StructLayout({"code": Fault, "info": unsigned(32)})

#: A command on its way to a unit.
#:   command    the 128 bits, fields placed by ``tamale.isa.FIELDS``
#:   slot       index of the slot loop
#:   slot_base  slot * slot_stride, to be added to operands marked ``*_slot`` (elements)
#:   slot_stride  elements between the scratchpads of two slots
#:   slots      active slots
#:   position   position[slot]
#:   blocks     position // tile_k
#:   digit      position % tile_k
#:   layer      index of the layer loop
#:   kv_base    byte address of the slot's cache
#:   p, q       scalars that the command names: VEC m, x; EXP m; KVWRITE scale, aux
IssueLayout = data.StructLayout(
    {
        "command": unsigned(COMMAND_BITS),
        "slot": unsigned(4),
        "slot_base": unsigned(17),
        "slot_stride": unsigned(17),
        "slots": unsigned(5),
        "position": unsigned(14),
        "blocks": unsigned(14),
        "digit": unsigned(8),
        "layer": unsigned(16),
        "kv_base": unsigned(ADDRESS_BITS),
        "p": ScalarLayout,
        "q": ScalarLayout,
    }
)

#: What a unit says at the end of a command.
#:   result   the reduction as an unsigned integer, zero where the command has none
DoneLayout = data.StructLayout({"result": unsigned(48)})

#: A linear read: ``beats`` beats from byte address ``address``; inside the readable regions or a
#: fault.
Descriptor = data.StructLayout({"address": unsigned(ADDRESS_BITS), "beats": unsigned(32)})

#: One logit on its way to the candidate lists.
CandidateLayout = data.StructLayout(
    {"vector": unsigned(4), "row": unsigned(20), "value": signed(32)}
)

#: Base addresses and strides, in bytes, that firmware sets from the image header.
Addresses = data.StructLayout(
    {
        "sweep_base": unsigned(ADDRESS_BITS),
        "embedding_base": unsigned(ADDRESS_BITS),
        "embedding_stride": unsigned(24),
        "rope_base": unsigned(ADDRESS_BITS),
        "rope_stride": unsigned(16),
        "kv_layer_stride": unsigned(ADDRESS_BITS),
        "key_head_stride": unsigned(ADDRESS_BITS),
        "value_base": unsigned(ADDRESS_BITS),
        "value_head_stride": unsigned(ADDRESS_BITS),
        "read_base": unsigned(ADDRESS_BITS),
        "read_limit": unsigned(ADDRESS_BITS),
        "kv_base": unsigned(ADDRESS_BITS),
        "kv_limit": unsigned(ADDRESS_BITS),
    }
)


def UnitSignature():
    """Port by which the executor drives a unit: an issue stream in, a done pulse out.

    The unit takes an issue when it is idle and raises ``done_valid`` for one cycle when every
    effect of the command is in place (memories written, stream consumed). Directions as the unit
    sees them.
    """
    return wiring.Signature(
        {
            "issue": In(stream.Signature(IssueLayout)),
            "done": Out(DoneLayout),
            "done_valid": Out(1),
        }
    )


#: Attribute of a memory of which nobody uses a word that is read while it is written; else Yosys
#: builds logic that orders the two. It heeds this where it makes a block RAM out of an asynchronous
#: read port and a register.
NO_COLLISIONS = {"no_rw_check": 1}


#: Cycles from ``en`` of a read port of the scratchpad to its data.
SCRATCH_LATENCY = 5


def ScratchRead(config):
    """Read port of the scratchpad, as its user sees it; data `SCRATCH_LATENCY` after ``en``.

    ``addr`` counts words of ``vu_width`` elements. Data hold for one cycle only.
    """
    words = config.scratchpad_elements // config.vu_width
    return wiring.Signature(
        {
            "en": Out(1),
            "addr": Out(range(words)),
            "data": In(data.ArrayLayout(signed(32), config.vu_width)),
        }
    )


def ScratchWrite(config):
    """Write port of the scratchpad; one ``en`` bit per element; reads see it in the next cycle."""
    words = config.scratchpad_elements // config.vu_width
    return wiring.Signature(
        {
            "en": Out(config.vu_width),
            "addr": Out(range(words)),
            "data": Out(data.ArrayLayout(signed(32), config.vu_width)),
        }
    )


def ActivationWrite(config):
    """Write port of activation memory.

    Up to ``vu_width`` consecutive codes of one vector: element i goes to code ``offset + i``
    counted from the first code of K step ``step`` (carrying into the following steps); ``en`` has a
    bit per element, contiguous from bit 0.
    """
    return wiring.Signature(
        {
            "en": Out(config.vu_width),
            "vector": Out(4),
            "step": Out(range(config.act_steps)),
            "offset": Out(range(config.tile_k)),
            "data": Out(data.ArrayLayout(signed(8), config.vu_width)),
        }
    )
