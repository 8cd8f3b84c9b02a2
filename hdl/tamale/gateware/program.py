"""Program memory, and the cursor that steps through a program's loops and branches.

The stream walker and the executor each own a `Cursor`; both see the same program, so both meet the
same
commands in the same order, each at its own time.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale.gateware.interfaces import NO_COLLISIONS, Fault
from tamale.isa import COMMAND_BITS, FIELDS, Op

__all__ = ["Cursor", "ProgramMemory", "ProgramRead", "StepLayout", "field"]

#: A command that the cursor reached.
#:   command  the 128 bits
#:   pc       its place in the program
#:   layer    index of the layer loop, zero outside it
#:   slot     index of the slot loop, zero outside it
#:   fault    BAD_COMMAND or BAD_PROGRAM where there is no command to perform; the cursor stays
#:          there
StepLayout = data.StructLayout(
    {
        "command": unsigned(COMMAND_BITS),
        "pc": unsigned(13),
        "layer": unsigned(16),
        "slot": unsigned(4),
        "fault": Fault,
    }
)


def field(command, op, name):
    """Return the bits of a field of a 128-bit command, unsigned."""
    offset, width = FIELDS[op][name]
    return command[offset : offset + width]


def ProgramRead(config):
    """Read port of program memory, as its user sees it; data one cycle after ``en``, held.

    ``address`` counts pieces of ``program_width`` bits, the lowest piece of a command first.
    """
    width = config.program_width
    return wiring.Signature(
        {
            "en": Out(1),
            "address": Out(range(config.program_commands * (COMMAND_BITS // width))),
            "data": In(width),
        }
    )


class ProgramMemory(wiring.Component):
    """Commands in on-chip memory: written by the processor, read by walker and executor.

    Command i is the four words from word 4 * i on, lowest word first. A write while a job runs
    changes
    that job; writes past the last command are ignored.

    Block RAM is as wide as a command, and there is a copy for each reader. Where ``program_width``
    is 32 bits, there is one memory, whose two ports are read in pieces; the processor's writes take
    the first one from the walker, which must not read meanwhile.

    Parameters
    ----------
    config : Config
        ``program_commands`` is the depth, ``program_width`` the width.

    Members
    -------
    write : ``en`` In(1), ``word`` In(14), ``data`` In(32)
        Write port.
    read : array of 2 of In(ProgramRead(config))
        Read ports.
    """

    def __init__(self, config):
        self._depth, self._width = config.program_commands, config.program_width
        write = wiring.Signature({"en": In(1), "word": In(14), "data": In(32)})
        super().__init__({"write": Out(write), "read": In(ProgramRead(config)).array(2)})

    def elaborate(self, platform):
        m = Module()
        if self._width < COMMAND_BITS:
            self._narrow(m)
            return m
        m.submodules.memory = memory = Memory(
            shape=unsigned(COMMAND_BITS), depth=self._depth, init=[]
        )
        write, command = memory.write_port(granularity=32), self.write.word[2:]
        m.d.comb += [
            write.addr.eq(command),
            write.data.eq(self.write.data.replicate(COMMAND_BITS // 32)),
            write.en.eq((self.write.en & (command < self._depth)) << self.write.word[:2]),
        ]
        for port in self.read:
            read = memory.read_port()
            m.d.comb += [read.en.eq(port.en), read.addr.eq(port.address), port.data.eq(read.data)]
        return m

    def _narrow(self, m):
        """Make a memory of two ports; the address of a write is that of the first."""
        words = self._depth * COMMAND_BITS // self._width
        m.submodules.memory = memory = Memory(
            shape=unsigned(self._width), depth=words, init=[], attrs=NO_COLLISIONS
        )
        address = Signal(range(words))
        write = memory.write_port()
        m.d.comb += [
            address.eq(Mux(self.write.en, self.write.word, self.read[0].address)),
            write.addr.eq(address),
            write.data.eq(self.write.data),
            write.en.eq(self.write.en & (self.write.word < words)),
        ]
        for port, place in zip(self.read, (address, self.read[1].address), strict=True):
            read = memory.read_port(domain="comb")
            word = Signal(self._width, reset_less=True)
            with m.If(port.en):
                m.d.sync += word.eq(read.data)
            m.d.comb += [read.addr.eq(place), port.data.eq(word)]


class Cursor(wiring.Component):
    """Steps through a program: performs LOOP, NEXT and branches, hands everything else on.

    Handed on, in program order: LOAD, SLOAD, MATVEC, VEC, HADAMARD, ROPE, EXP, SCALAR, KVWRITE;
    END, after which the cursor rests; and SKIP_UNLESS_HEAD where it is not taken, because the
    head begins there. Each command takes three cycles (two to read, one to decide), loops and
    branches included, and one more for each further piece of ``program_width`` bits; the next
    command is read while its taker works. A loop has at least one pass. Loop level 1 runs slots 0
    to slots - 1.

    A program counter past the memory, or an unknown operation, is handed on with its fault; only
    reset moves the cursor from there.

    Parameters
    ----------
    config : Config
        ``program_commands`` bounds the program counter.

    Members
    -------
    start : In(1)
        Pulse while ``idle``: begin at the first command.
    idle : Out(1)
        No program is being walked.
    slots : In(5)
        Active slots; stable while not idle.
    want_head : In(1)
        Whether SKIP_UNLESS_HEAD falls through; stable while not idle.
    memory : Out(ProgramRead(config))
    o : ``Out(stream.Signature(StepLayout))``
        Commands.
    """

    def __init__(self, config):
        self._depth, self._width = config.program_commands, config.program_width
        super().__init__(
            {
                "start": In(1),
                "idle": Out(1),
                "slots": In(5),
                "want_head": In(1),
                "memory": Out(ProgramRead(config)),
                "o": Out(stream.Signature(StepLayout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # Block RAM is slow, so that its output goes no further than this register.
        command = Signal(COMMAND_BITS)
        op = command[:4]
        # Pieces shift through the command; `piece` is the one that is asked for.
        pieces = COMMAND_BITS // self._width
        piece, coming = Signal(range(pieces)), Signal()
        pc = Signal(13)
        following = Signal(13)
        indices = [Signal(16, name="layer"), Signal(16, name="slot")]
        starts = [Signal(13, name=f"start_{level}") for level in range(2)]
        count = Signal(16)
        # What NEXT of each level would do, found out while commands pass.
        successors = [Signal(16, name=f"successor_{level}") for level in range(2)]
        lasts = Signal(2)
        for level, bound in enumerate((count, self.slots)):
            m.d.comb += successors[level].eq(indices[level] + 1)
            m.d.sync += lasts[level].eq(successors[level] >= bound)
        # A signal of its own: Icarus leaves the other bits of a payload undefined until they change
        # where one of its fields is assigned under a condition.
        fault = Signal(Fault)
        m.d.comb += [
            following.eq(pc + 1),
            self.memory.en.eq(0),
            self.memory.address.eq(Cat(piece, pc) if pieces > 1 else pc),
            self.o.p.command.eq(command),
            self.o.p.pc.eq(pc),
            self.o.p.layer.eq(indices[0]),
            self.o.p.slot.eq(indices[1]),
            self.o.p.fault.eq(fault),
        ]

        if pieces > 1:
            with m.If(coming):
                m.d.sync += command.eq(Cat(command[self._width :], self.memory.data))

        def present():
            m.d.comb += self.o.valid.eq(1)
            with m.If(self.o.ready):
                m.d.sync += pc.eq(following)
                m.next = "READ"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += [pc.eq(0)] + [index.eq(0) for index in indices]
                with m.If(self.start):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.memory.en.eq(1)
                if pieces == 1:
                    m.next = "LATCH"
                else:
                    m.d.sync += [piece.eq(piece + 1), coming.eq(1)]
                    with m.If(piece == pieces - 1):
                        m.next = "LATCH"
                with m.If(pc >= self._depth):
                    if pieces > 1:
                        m.d.sync += coming.eq(0)
                    m.next = "LOST"
            with m.State("LATCH"):
                if pieces == 1:
                    m.d.sync += command.eq(self.memory.data)
                else:
                    m.d.sync += coming.eq(0)
                m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.Switch(op):
                    with m.Case(Op.END):
                        m.d.comb += self.o.valid.eq(1)
                        with m.If(self.o.ready):
                            m.next = "IDLE"
                    with m.Case(Op.LOOP):
                        m.d.sync += pc.eq(following)
                        m.next = "READ"
                        with m.If(field(command, Op.LOOP, "level")):
                            m.d.sync += [indices[1].eq(0), starts[1].eq(following)]
                        with m.Else():
                            m.d.sync += [indices[0].eq(0), starts[0].eq(following)]
                            m.d.sync += count.eq(field(command, Op.LOOP, "count"))
                    with m.Case(Op.NEXT):
                        m.next = "READ"
                        level = field(command, Op.NEXT, "level")
                        last = Mux(level, lasts[1], lasts[0])
                        m.d.sync += pc.eq(Mux(last, following, Mux(level, starts[1], starts[0])))
                        with m.If(level):
                            m.d.sync += indices[1].eq(Mux(last, 0, successors[1]))
                        with m.Else():
                            m.d.sync += indices[0].eq(Mux(last, 0, successors[0]))
                    with m.Case(Op.SKIP_UNLESS_HEAD):
                        with m.If(self.want_head):
                            present()
                        with m.Else():
                            m.d.sync += pc.eq(field(command, Op.SKIP_UNLESS_HEAD, "target"))
                            m.next = "READ"
                    with m.Case(*(op for op in Op if op > Op.SKIP_UNLESS_HEAD)):
                        present()
                    with m.Default():
                        m.d.comb += [self.o.valid.eq(1), fault.eq(Fault.BAD_COMMAND)]
            with m.State("LOST"):
                m.d.comb += [self.o.valid.eq(1), fault.eq(Fault.BAD_PROGRAM)]
        return m
