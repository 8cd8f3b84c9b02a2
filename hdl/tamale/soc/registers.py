"""Registers described once: hardware, C header, SVD, Markdown all come from the same description.

A peripheral states its registers as a :class:`Block` of :class:`Register` and :class:`Window`
items, and puts a :class:`RegisterFile` of that block between the bus and its logic::

    BLOCK = Block("engine", "Runs command lists.", [
        Register("control", "Starts and configures the engine.", [
            Field("start", 1, "Write 1 to start.", access="pulse"),
            Field("planes", 3, "Trit planes per weight.", access="rw", init=1, offset=4),
        ]),
        Register("status", "What happened.", [
            Field("busy", 1, "High while a list runs.", access="ro"),
            Field("fault", 1, "A bus error; write 1 to clear.", access="w1c"),
        ]),
        Register("entry_index", "Table entry that entry_word writes.", width=8, access="rw"),
        Register("entry_word", "Words of the entry.", access="wo", count=2),
        Register("cycles", "Clock cycles since reset.", width=64, access="ro"),
        Window("scratchpad", "Activations, one word each.", size=4096),
    ])

    class Engine(wiring.Component):
        block = BLOCK
        bus: In(BLOCK.bus_signature())
        def elaborate(self, platform):
            m = Module()
            m.submodules.registers = registers = RegisterFile(BLOCK)
            wiring.connect(m, wiring.flipped(self.bus), registers.bus)
            with m.If(registers.control.start):                  # one cycle
                ...
            m.d.comb += registers.status.fault_set.eq(error)     # sticky until the CPU clears it
            m.d.comb += registers.cycles.value.eq(counter)       # no field list: one field "value"
            with m.If(registers.entry_word[1].write_strobe):     # .value holds the written word
                ...
            wiring.connect(m, registers.scratchpad, memory.bus)  # Wishbone target of one's own
            return m

Access of a field, and what the hardware sees of it (``registers.<register>.<field>``):

========= ============================ ==========================================================
access    CPU                          hardware
========= ============================ ==========================================================
``rw``    reads back what it wrote     output, starts at ``init``
``ro``    reads                        input
``wo``    writes; reads 0              output, meaningful while ``write_strobe`` is high
``pulse`` writes 1; reads 0            output, high for the one cycle of ``write_strobe``
``w1c``   reads, clears by writing 1   output ``<field>``, input ``<field>_set`` (setting wins)
``const`` reads ``init``               nothing
========= ============================ ==========================================================

Each register has two more outputs: ``write_strobe``, high for one cycle, the first in which the
outputs have their new value, and ``read_strobe``, high in the one cycle whose inputs the CPU gets
to see (pop a FIFO with it). They follow each other at least two cycles apart.

Words are 32 bits. A register of more than 32 bits takes several words, least significant first; its
words are read live, and the generated C accessor reads high, low, high until both high words agree,
which needs no holding register and is safe against interrupts. ``write_strobe`` of such a register
marks its last word.
"""

import copy
import dataclasses
import keyword
import re

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import wishbone

__all__ = ["Block", "Field", "Register", "RegisterFile", "Window"]

ACCESSES = ("rw", "ro", "wo", "pulse", "w1c", "const")
#: Names that C, the generated header or `RegisterFile` need for themselves.
RESERVED = frozenset(
    """
    auto break case char const continue default do double else enum extern float for goto if inline
    int long register restrict return short signed sizeof static struct switch typedef union
    unsigned void volatile while bool true false bus signature write_strobe read_strobe block
    elaborate
""".split()
)


def _check_name(kind, name):
    if (
        not isinstance(name, str)
        or not re.fullmatch(r"[a-z][a-z0-9_]*", name)
        or name in RESERVED
        or keyword.iskeyword(name)
    ):
        raise ValueError(
            f"{kind} name {name!r} must be lower-case letters, digits and underscores, and no word "
            "that C, Python or the register file reserves"
        )


def _check_doc(kind, name, doc):
    if not isinstance(doc, str) or not doc.endswith(".") or "\n" in doc or "*/" in doc:
        raise ValueError(
            f"{kind} {name!r} needs a sentence on one line that ends with a full stop, not {doc!r}"
        )


def _at(item, offset):
    """Give a copy of an item with its place; `dataclasses.replace` would check it anew."""
    item = copy.copy(item)
    object.__setattr__(item, "offset", offset)
    return item


@dataclasses.dataclass(frozen=True)
class Field:
    """Bits of a register.

    Parameters
    ----------
    name : str
        Lower-case identifier.
    width : int
        Bits.
    doc : str
        One sentence: meaning and unit.
    access : str
        One of the accesses in the table of this module.
    init : int
        Value after reset of ``rw``, ``w1c`` and ``const`` fields.
    offset : int or None
        Lowest bit in the register; None places it above the field before.
    values : dict of str to int, or an enum class
        Names of values, for the documents and the C header.

    Raises
    ------
    TypeError, ValueError
        If any of these is not so.
    """

    name: str
    width: int
    doc: str
    _: dataclasses.KW_ONLY
    access: str = "rw"
    init: int = 0
    offset: int | None = None
    values: dict | type = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _check_name("field", self.name)
        _check_doc("field", self.name, self.doc)
        if not isinstance(self.width, int) or self.width < 1:
            raise TypeError(
                f"width of field {self.name!r} must be a positive int, not {self.width!r}"
            )
        if self.access not in ACCESSES:
            raise ValueError(
                f"access of field {self.name!r} must be one of {', '.join(ACCESSES)}, "
                f"not {self.access!r}"
            )
        if not isinstance(self.init, int) or not 0 <= self.init < 1 << self.width:
            raise ValueError(
                f"initial value {self.init!r} of field {self.name!r} does not fit {self.width} bits"
            )
        if self.init and self.access in ("ro", "wo", "pulse"):
            raise ValueError(
                f"field {self.name!r} is {self.access!r} and holds nothing, so it has no "
                f"initial value {self.init!r}; drop it"
            )
        values = self.values
        if isinstance(values, type):
            values = {member.name.lower(): member.value for member in values}
            object.__setattr__(self, "values", values)
        for value_name, value in values.items():
            _check_name("value", value_name)
            if not isinstance(value, int) or not 0 <= value < 1 << self.width:
                raise ValueError(
                    f"value {value_name!r} = {value!r} of field {self.name!r} does not "
                    f"fit {self.width} bits"
                )

    @property
    def mask(self):
        """The field's bits in the register."""
        return ((1 << self.width) - 1) << self.offset

    @property
    def readable(self):
        """Whether a read shows anything but zero."""
        return self.access not in ("wo", "pulse")

    @property
    def writable(self):
        """Whether a write has an effect."""
        return self.access not in ("ro", "const")


@dataclasses.dataclass(frozen=True)
class Register:
    """One register, or an array of equal ones.

    Parameters
    ----------
    name : str
        Lower-case identifier.
    doc : str
        One sentence.
    fields : sequence of Field
        In ascending order of bits. Left out: one field ``value`` of ``width`` bits with ``access``
        and ``init``, whose sentence is the register's.
    width : int
        Bits of that one field; above 32 the register takes several words.
    access, init
        As for :class:`Field`.
    offset : int or None
        Byte offset in the block; None places it behind the item before.
    count : int or None
        Number of equal registers in a row; None for a single one.

    Raises
    ------
    TypeError, ValueError
        If names repeat, fields overlap, leave the register or disagree with ``width``.
    """

    name: str
    doc: str
    fields: tuple = ()
    _: dataclasses.KW_ONLY
    width: int = 32
    access: str = "rw"
    init: int = 0
    offset: int | None = None
    count: int | None = None

    def __post_init__(self):
        _check_name("register", self.name)
        _check_doc("register", self.name, self.doc)
        if self.count is not None and (not isinstance(self.count, int) or self.count < 1):
            raise TypeError(
                f"count of register {self.name!r} must be a positive int or None, not "
                f"{self.count!r}"
            )
        given = tuple(self.fields)
        if given and (self.width != 32 or self.access != "rw" or self.init):
            raise ValueError(
                f"register {self.name!r} has fields; state width, access and initial value there"
            )
        if not given:
            given = (Field("value", self.width, self.doc, access=self.access, init=self.init),)
        placed, next_bit = [], 0
        for field in given:
            if not isinstance(field, Field):
                raise TypeError(f"register {self.name!r} takes Field objects, not {field!r}")
            start = next_bit if field.offset is None else field.offset
            if start < next_bit:
                raise ValueError(
                    f"field {field.name!r} of register {self.name!r} starts at bit "
                    f"{start}, below bit {next_bit} where the one before it ends"
                )
            if field.name in (other.name for other in placed):
                raise ValueError(f"register {self.name!r} has two fields {field.name!r}")
            placed.append(_at(field, start))
            next_bit = start + field.width
        if next_bit > 32 and len(placed) > 1:
            raise ValueError(
                f"register {self.name!r} has fields up to bit {next_bit - 1}; only a "
                "register of one field may be wider than 32 bits: split it"
            )
        object.__setattr__(self, "fields", tuple(placed))
        object.__setattr__(self, "width", next_bit)

    @property
    def words(self):
        """32-bit words of one register."""
        return -(-self.width // 32)

    @property
    def size(self):
        """Bytes of all registers of the array."""
        return 4 * self.words * (self.count or 1)

    @property
    def readable(self):
        """Whether any field can be read."""
        return any(field.readable for field in self.fields)

    @property
    def writable(self):
        """Whether any field can be written."""
        return any(field.writable for field in self.fields)

    @property
    def init_word(self):
        """The whole register after reset; fields that the hardware drives count as zero."""
        return sum(field.init << field.offset for field in self.fields)

    def signature(self):
        """Give what the hardware sees of one register: fields and strobes, seen by the register
        file."""
        members = {"write_strobe": Out(1), "read_strobe": Out(1)}
        for field in self.fields:
            if field.access == "ro":
                members[field.name] = In(field.width)
            elif field.access != "const":
                members[field.name] = Out(field.width, init=field.init)
            if field.access == "w1c":
                members[field.name + "_set"] = In(field.width)
        return wiring.Signature(members)


@dataclasses.dataclass(frozen=True)
class Window:
    """Addresses that a Wishbone target of the block's own answers.

    Parameters
    ----------
    name : str
        Lower-case identifier.
    doc : str
        One sentence: what a word is.
    size : int
        Bytes, a power of two from 8.
    access : str
        ``rw``, ``ro`` or ``wo``, for the documents; the target itself refuses what it does not
        take.
    offset : int or None
        Byte offset in the block, a multiple of ``size``; None takes the next such one.

    Raises
    ------
    ValueError
        If ``size``, ``access`` or ``offset`` is not so.
    """

    name: str
    doc: str
    _: dataclasses.KW_ONLY
    size: int
    access: str = "rw"
    offset: int | None = None

    def __post_init__(self):
        _check_name("window", self.name)
        _check_doc("window", self.name, self.doc)
        wishbone.target(self.size)
        if self.access not in ("rw", "ro", "wo"):
            raise ValueError(
                f"access of window {self.name!r} must be rw, ro or wo, not {self.access!r}"
            )
        if self.offset is not None and self.offset % self.size:
            raise ValueError(
                f"offset {self.offset!r} of window {self.name!r} must be a multiple of "
                f"its {self.size} bytes"
            )


@dataclasses.dataclass(frozen=True)
class Block:
    """The registers and windows of one peripheral, with their offsets.

    Parameters
    ----------
    name : str
        Lower-case identifier; with a capital it is the C type, in capitals the prefix of C
        constants.
    doc : str
        One sentence.
    items : sequence of Register and Window
        In ascending order of offsets.
    size : int or None
        Bytes of address space, a power of two; None takes the smallest that fits.

    Raises
    ------
    TypeError, ValueError
        If items overlap, names repeat or ``size`` is too small.
    """

    name: str
    doc: str
    items: tuple
    _: dataclasses.KW_ONLY
    size: int | None = None

    def __post_init__(self):
        _check_name("block", self.name)
        _check_doc("block", self.name, self.doc)
        placed, end = [], 0
        for item in self.items:
            if not isinstance(item, Register | Window):
                raise TypeError(
                    f"block {self.name!r} takes Register and Window objects, not {item!r}"
                )
            alignment = item.size if isinstance(item, Window) else 4
            offset = -(-end // alignment) * alignment if item.offset is None else item.offset
            if offset < end or offset % 4:
                raise ValueError(
                    f"{item.name!r} of block {self.name!r} at offset {offset:#x} must lie "
                    f"on a word at or above {end:#x}, where the item before it ends"
                )
            if item.name in (other.name for other in placed):
                raise ValueError(f"block {self.name!r} has two items {item.name!r}")
            placed.append(_at(item, offset))
            end = offset + item.size
        if not placed:
            raise ValueError(f"block {self.name!r} is empty; give it a register")
        fitting = max(8, 1 << (end - 1).bit_length())
        size = fitting if self.size is None else self.size
        wishbone.target(size)
        if size < end:
            raise ValueError(
                f"block {self.name!r} needs {end:#x} bytes and has {size:#x}; give it "
                f"{fitting:#x} or more"
            )
        object.__setattr__(self, "items", tuple(placed))
        object.__setattr__(self, "size", size)

    @property
    def registers(self):
        """The items that are registers."""
        return tuple(item for item in self.items if isinstance(item, Register))

    @property
    def windows(self):
        """The items that are windows."""
        return tuple(item for item in self.items if isinstance(item, Window))

    def __getitem__(self, name):
        """Give the item called ``name``."""
        for item in self.items:
            if item.name == name:
                return item
        raise KeyError(
            f"block {self.name!r} has no {name!r}; it has "
            f"{', '.join(item.name for item in self.items)}"
        )

    def bus_signature(self):
        """Give the signature of the bus that reaches this block, as the initiator sees it."""
        return wishbone.target(self.size)


class RegisterFile(wiring.Component):
    """Hardware of a :class:`Block`: storage, strobes, read multiplexer, windows.

    A write ends two cycles after it began, a read three, and between two accesses is a cycle at
    least. What a read gives is the state of the second cycle. The access ends with ``err``, without
    effect, if there is nothing at the address, if it writes less than a word (a register has no
    byte lanes), or if it writes a register that has nothing to write. Accesses to a window pass
    through combinationally, with their byte lanes.

    Parameters
    ----------
    block : Block
        The description.

    Members
    -------
    bus : ``In(block.bus_signature())``
        Where the CPU's accesses arrive.
    <register> : ``Out(register.signature())``, an array if the register has a count
        What the hardware sees.
    <window> : ``Out(wishbone.target(window.size))``
        Accesses to the window, addresses counted from its start.
    """

    def __init__(self, block):
        if not isinstance(block, Block):
            raise TypeError(f"a register file is made from a Block, not {block!r}")
        self._block = block
        members = {"bus": In(block.bus_signature())}
        for item in block.items:
            if isinstance(item, Window):
                members[item.name] = Out(wishbone.target(item.size))
            else:
                member = Out(item.signature())
                members[item.name] = member if item.count is None else member.array(item.count)
        super().__init__(members)

    @property
    def block(self):
        """The description."""
        return self._block

    def _present(self):
        """Return masks of the word addresses that are registers, and that can be written."""
        present = writable = 0
        for register in self._block.registers:
            words = register.words * (register.count or 1)
            mask = ((1 << words) - 1) << register.offset // 4
            present |= mask
            writable |= mask if register.writable else 0
        return present, writable

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        request = Signal()
        done, refused, reading = Signal(), Signal(), Signal()
        word_read, word_written = Signal(32), Signal(32)
        # Whether there is something at the address is looked up in the first cycle of an access,
        # which takes effect in the second.
        seen, readable, writable, elsewhere = Signal(), Signal(), Signal(), Signal()
        present, stored = self._present()
        bits = max(1, present.bit_length() - 1).bit_length()
        near, low = bus.adr >> bits == 0, bus.adr[:bits]
        windows = [
            bus.adr >> len(getattr(self, window.name).adr) == window.offset // window.size
            for window in self._block.windows
        ]
        m.d.sync += [
            seen.eq(bus.cyc & bus.stb & ~seen & ~done & ~refused & ~reading),
            readable.eq(near & Const(present, 1 << bits).bit_select(low, 1)),
            writable.eq(near & Const(stored, 1 << bits).bit_select(low, 1) & bus.sel.all()),
            elsewhere.eq(Cat(windows).any()),
        ]
        m.d.comb += [
            request.eq(bus.cyc & bus.stb & seen),
            bus.dat_r.eq(word_read),
            bus.ack.eq(done),
            bus.err.eq(refused),
        ]
        m.d.sync += [done.eq(reading & bus.cyc & bus.stb), refused.eq(0), reading.eq(0)]

        def partial(interface, field, word):
            """Give the bits of a field that lie in one word, and the width of that part."""
            signal = (
                Const(field.init, field.width)
                if field.access == "const"
                else (getattr(interface, field.name))
            )
            return signal[32 * word : min(32 * word + 32, field.width)]

        def write(interface, register, word):
            if word == register.words - 1:
                m.d.sync += interface.write_strobe.eq(1)
            for field in register.fields:
                if not field.writable:
                    continue
                stored = partial(interface, field, word)
                written = bus.dat_w[field.offset : field.offset + len(stored)]
                if field.access == "w1c":
                    m.d.sync += stored.eq(
                        stored & ~written | getattr(interface, field.name + "_set")
                    )
                elif field.access in ("rw", "pulse"):
                    m.d.sync += stored.eq(written)

        with m.If(request & ~elsewhere):
            m.d.sync += [
                reading.eq(~bus.we & readable),
                done.eq(bus.we & writable),
                refused.eq(~Mux(bus.we, writable, readable)),
            ]
        with m.If(request & bus.we):
            # Fields that store nothing show the written word while the strobe is high.
            m.d.sync += word_written.eq(bus.dat_w)

        for register in self._block.registers:
            interfaces = getattr(self, register.name)
            for interface in [interfaces] if register.count is None else interfaces:
                m.d.sync += interface.write_strobe.eq(0)
                for field in register.fields:
                    signal = getattr(interface, field.name, None)
                    if field.access == "wo":
                        if register.words == 1:
                            m.d.comb += signal.eq(word_written[field.offset :])
                        else:
                            raise ValueError(
                                f"register {register.name!r} is write-only and wider "
                                "than 32 bits; make it an array of words"
                            )
                    elif field.access == "pulse":
                        m.d.sync += signal.eq(0)
                    elif field.access == "w1c":
                        m.d.sync += signal.eq(signal | getattr(interface, field.name + "_set"))

        # What is read, in two cycles: among four words, then among those. Which word it is, is
        # known from registers when the access takes effect.
        fours = {}
        for register in self._block.registers:
            interfaces = getattr(self, register.name)
            for index in range(register.count or 1):
                interface = interfaces if register.count is None else interfaces[index]
                for word in range(register.words):
                    address = register.offset // 4 + index * register.words + word
                    here = Signal(name=f"at_{address}")
                    m.d.sync += here.eq(bus.adr == address)
                    with m.If(request & here & ~bus.we):
                        m.d.comb += interface.read_strobe.eq(1)
                    parts = fours.setdefault(address >> 2, {})[address & 3] = []
                    for field in register.fields:
                        if field.readable:
                            part = partial(interface, field, word)
                            parts.append((field.offset, part))
                    if register.writable:
                        with m.If(request & here & bus.we & bus.sel.all()):
                            write(interface, register, word)
        with m.Switch(bus.adr):
            for window in self._block.windows:
                target = getattr(self, window.name)
                low_bits = len(target.adr)
                high_bits = len(bus.adr) - low_bits
                high = format(window.offset // window.size, "b").zfill(high_bits)
                with m.Case((high if high_bits else "") + "-" * low_bits):
                    m.d.comb += [
                        target.cyc.eq(bus.cyc),
                        target.stb.eq(bus.stb),
                        bus.dat_r.eq(target.dat_r),
                        bus.ack.eq(target.ack),
                        bus.err.eq(target.err),
                    ]
        registers = {number: Signal(32, name=f"four_{number}") for number in fours}
        for number, words in fours.items():
            four = registers[number]
            m.d.sync += four.eq(0)
            with m.Switch(bus.adr[:2]):
                for word, parts in words.items():
                    with m.Case(word):
                        for offset, part in parts:
                            m.d.sync += four[offset : offset + len(part)].eq(part)
        with m.Switch(bus.adr >> 2):
            for number, four in registers.items():
                with m.Case(number):
                    m.d.sync += word_read.eq(four)
        for window in self._block.windows:
            target = getattr(self, window.name)
            m.d.comb += [
                target.adr.eq(bus.adr),
                target.dat_w.eq(bus.dat_w),
                target.sel.eq(bus.sel),
                target.we.eq(bus.we),
                target.cti.eq(bus.cti),
                target.bte.eq(bus.bte),
            ]
        return m
