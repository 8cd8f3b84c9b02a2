"""Registers of the accelerator, as firmware sees them."""

from tamale.gateware.counters import COUNTER_BITS, Counter
from tamale.gateware.interfaces import Addresses, Fault
from tamale.soc.registers import Block, Field, Register

__all__ = ["ID", "QUEUE_DEPTH", "VERSION", "address_names", "block"]

#: What the first register reads: the letters "TAMA".
ID = 0x414D4154

#: Changes with every incompatible change of registers or commands.
VERSION = 1

#: Jobs that the queue holds, the running one included.
QUEUE_DEPTH = 4

_ADDRESS_DOCS = {
    "sweep_base": "Byte address of the sweep.",
    "embedding_base": "Byte address of the embedding of token 0.",
    "embedding_stride": "Bytes between the embeddings of two tokens.",
    "rope_base": "Byte address of the rotary table of position 0.",
    "rope_stride": "Bytes between the rotary tables of two positions.",
    "kv_layer_stride": "Bytes between the caches of two layers.",
    "key_head_stride": "Bytes between the keys of two heads.",
    "value_base": "Bytes from a layer's cache to its values.",
    "value_head_stride": "Bytes between the values of two heads.",
    "read_base": "First byte of the region that may be read.",
    "read_limit": "First byte behind the region that may be read.",
    "kv_base": "First byte of the cache: the region that may be written, and read.",
    "kv_limit": "First byte behind the cache.",
}


def address_names():
    """Return the names of the address registers: the members of `Addresses`."""
    return tuple(name for name, _ in Addresses)


def block(config):
    """Return the register block of a configuration.

    Constants come first, so that firmware can check an image against the hardware before it does
    anything else.
    """
    constants = [
        ("id", "Identifies the accelerator: 0x414D4154.", ID),
        ("version", "Version of registers and commands.", VERSION),
        ("bus_width", "Bits of a memory beat.", config.bus_width),
        ("code", "Numbers of the weight codes, as in image headers.", config.code_ident),
        ("tile_rows", "Matrix rows in a beat.", config.tile_rows),
        ("tile_k", "Weights of a row in a beat.", config.tile_k),
        ("lanes", "Trits that the array takes per cycle.", config.lanes),
        ("vectors", "Most slots of a job, and activation vectors.", config.vectors),
        ("vu_width", "Elements of a vector-unit word.", config.vu_width),
        ("planes", "Most trit planes of a weight.", config.max_planes),
        ("groups", "Weights that share a scale along K, 0 for whole rows.", config.group_size),
        ("max_k", "Longest row of a matrix, in weights.", config.max_k),
        ("max_context", "Most positions of a sequence.", config.max_context),
        ("scratchpad", "Elements of the scratchpad.", config.scratchpad_elements),
        ("act_steps", "K steps of activation memory.", config.act_steps),
        ("program", "Commands of program memory.", config.program_commands),
        ("candidates", "Candidates that are kept per slot.", config.candidates),
        ("queue_depth", "Jobs that the queue holds, the running one included.", QUEUE_DEPTH),
    ]
    items = [Register(name, doc, access="const", init=value) for name, doc, value in constants]
    items += [
        Register(
            "control",
            "Starts what is not a job.",
            [
                Field(
                    "reset",
                    1,
                    "Abandon all jobs and clear the fault; over when resetting reads 0.",
                    access="pulse",
                ),
                Field("clear_counters", 1, "Set all counters to zero.", access="pulse"),
                Field(
                    "checksum",
                    1,
                    "Sum up checksum_beats beats from checksum_address; ignored while busy.",
                    access="pulse",
                ),
            ],
        ),
        Register(
            "status",
            "What goes on.",
            [
                Field("busy", 1, "High while a job runs or is queued.", access="ro"),
                Field("resetting", 1, "High while a reset is under way.", access="ro"),
                Field("checksum_busy", 1, "High while a checksum is under way.", access="ro"),
                Field("faulted", 1, "High while the accelerator stands still.", access="ro"),
                Field("submit_busy", 1, "High while a job is being copied.", access="ro"),
                Field("queue_full", 1, "High while no job can be submitted.", access="ro"),
                Field("queue_level", 4, "Jobs that are not complete.", access="ro", offset=8),
            ],
        ),
        Register(
            "fault",
            "Why the accelerator stands still: the first fault since reset.",
            [Field("code", 8, "Cause.", access="ro", values=Fault)],
        ),
        Register(
            "fault_info",
            "Address of the fault, program counter or slot, as the cause says.",
            access="ro",
        ),
        Register(
            "interrupt_enable",
            "Which events raise the interrupt.",
            [
                Field("job", 1, "A job ended."),
                Field("fault", 1, "A fault stopped the accelerator."),
                Field("checksum", 1, "A checksum is complete."),
            ],
        ),
        Register(
            "interrupt_pending",
            "Events since they were last cleared; write 1 to clear.",
            [
                Field("job", 1, "A job ended.", access="w1c"),
                Field("fault", 1, "A fault stopped the accelerator.", access="w1c"),
                Field("checksum", 1, "A checksum is complete.", access="w1c"),
            ],
        ),
    ]
    for name, shape in Addresses:
        width = shape.shape if isinstance(shape.shape, int) else shape.shape.width
        items.append(Register(name, _ADDRESS_DOCS[name], width=width))
    items += [
        Register("slot_stride", "Elements between the scratchpads of two slots.", width=17),
        Register("vocabulary", "Rows of the head; rows from here on are padding.", width=20),
        Register(
            "program_index",
            "Word of program memory that the next write of program_word goes to, 4 per command.",
            width=14,
            access="wo",
        ),
        Register(
            "program_word",
            "Writes a word of program memory, lowest of a command first, and goes to the next.",
            access="wo",
        ),
        Register(
            "job_token", "Token of each slot of the next job.", access="wo", count=config.vectors
        ),
        Register(
            "job_position",
            "Position of each slot of the next job.",
            access="wo",
            count=config.vectors,
        ),
        Register(
            "job_kv_base",
            "Byte address of the cache of each slot of the next job.",
            access="wo",
            count=config.vectors,
        ),
        Register(
            "submit",
            "Queues a job; staging keeps its values and may be written when submit_busy is 0.",
            [
                Field("slots", 5, "Slots of the job, from slot 0.", access="wo"),
                Field("want_head", 1, "Compute logits.", access="wo", offset=8),
            ],
        ),
        Register("jobs_done", "Jobs complete since power-up, modulo 2**32.", access="ro"),
        Register(
            "candidate_select",
            "Candidate to read; lists hold from the end of a job to the head of the next.",
            [
                Field("vector", 4, "Slot."),
                Field("index", 8, "Entry of its list, in no particular order.", offset=8),
            ],
        ),
        Register(
            "candidate_count", "Entries of the selected slot's list.", width=8, access="ro"
        ),
        Register("candidate_value", "Logit of the selected entry, signed.", access="ro"),
        Register("candidate_row", "Token of the selected entry.", width=20, access="ro"),
        Register(
            "scalar_select",
            "Scalar register to read.",
            [
                Field("name", 6, "Register."),
                Field("slot", 4, "Slot, for registers from 32 on.", offset=8),
            ],
        ),
        Register(
            "scalar",
            "The selected scalar register, mantissa * 2**exponent; not defined while busy.",
            [
                Field("mantissa", 16, "Mantissa, unsigned.", access="ro"),
                Field("exponent", 16, "Exponent, signed.", access="ro"),
            ],
        ),
        Register(
            "scratch_index",
            "Element of the scratchpad that scratch_value reads next.",
            width=17,
            access="wo",
        ),
        Register(
            "scratch_value",
            "An element, signed; reading goes to the next. Not defined while busy.",
            access="ro",
        ),
        Register("peak", "Result of the last maximum, signed, for diagnosis.", access="ro"),
        Register("checksum_address", "Byte address of the region to sum up, beat-aligned."),
        Register("checksum_beats", "Beats of the region to sum up."),
        Register(
            "checksum", "CRC-32 of the region, as of zlib, once checksum_busy is 0.", access="ro"
        ),
        Register(
            "counter_select",
            "Performance counter to read.",
            [
                Field("index", 5, "Which one.", values=Counter),
                Field(
                    "live", 1,
                    "1: as it is now, up to 40 cycles old; 0: as it was when the last job ended.",
                    offset=8,
                ),
            ],
        ),
        Register("counter", "The selected counter.", width=COUNTER_BITS, access="ro"),
    ]  # fmt: skip
    return Block("accelerator", "Runs jobs of the ternary accelerator.", items)
