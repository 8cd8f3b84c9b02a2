"""The two agents that walk the program: the stream walker asks for data, the executor performs.

The walker runs ahead of the executor by as much as the stream FIFO allows, into the next job where
one
is queued, so that memory never waits for a dependent vector phase.
"""

import functools
import operator

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tamale.gateware.interfaces import (
    ADDRESS_BITS,
    Addresses,
    Descriptor,
    Fault,
    FaultLayout,
    IssueLayout,
    UnitSignature,
)
from tamale.gateware.jobs import JobPort
from tamale.gateware.program import Cursor, ProgramRead, field
from tamale.gateware.scalar import NormaliseLayout, ScalarRead
from tamale.isa import Op, Reduce, Source

__all__ = ["Activity", "Executor", "StreamWalker"]

_STREAMED = (Op.LOAD, Op.SLOAD, Op.MATVEC)


class Activity(enum.Enum, shape=3):
    """What the executor waits for, cycle by cycle."""

    IDLE = 0  # no job
    SEQUENCER = 1  # between two commands
    LOADER = 2
    ARRAY = 3
    VECTOR = 4
    SCALAR = 5  # includes the normalisation of a reduction
    KV_WRITER = 6


class StreamWalker(wiring.Component):
    """Emits one descriptor for each LOAD, SLOAD and MATVEC, in program order.

    Addresses and lengths are those of `tamale.isa.Source`. There is one multiplier, of four cycles
    a product. From one descriptor to the next pass 10 cycles without products (LOAD and SLOAD of
    the sweep), else 9 and 4 for each product: EMBEDDING and ROPE 1, KEYS and VALUES 2, VALUE_BLOCK
    3; 2 more for MATVEC, 3 more for MATVEC of VALUES. Commands between without descriptors take 4
    cycles each. A command without beats emits nothing. A ``fence`` holds the descriptor back until
    every KVWRITE that the walker has passed is complete.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : Out(JobPort)
        Jobs.
    memory : Out(ProgramRead(config))
    addresses : In(Addresses)
        Stable while a job runs; beat-aligned.
    completed : In(1)
        Pulse for each KVWRITE whose writes memory has acknowledged.
    halt : In(1)
        Emit nothing and begin no job.
    o : ``Out(stream.Signature(Descriptor))``
        Reads to make.
    fenced : Out(1)
        A descriptor waits for KVWRITEs.
    idle : Out(1)
        Between jobs.
    fault : Out(FaultLayout)
        BAD_COMMAND or BAD_PROGRAM while ``code`` is not NONE; only reset ends it.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "job": Out(JobPort),
                "memory": Out(ProgramRead(config)),
                "addresses": In(Addresses),
                "completed": In(1),
                "halt": In(1),
                "o": Out(stream.Signature(Descriptor)),
                "fenced": Out(1),
                "idle": Out(1),
                "fault": Out(FaultLayout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, addresses = self._config, self.addresses
        beat_shift = config.beat_bytes.bit_length() - 1
        m.submodules.cursor = cursor = Cursor(config)
        wiring.connect(m, cursor.memory, wiring.flipped(self.memory))
        step = cursor.o.p
        command, op = step.command, step.command[:4]
        # What block RAM and multiplier return goes no further than a register; see SORT.
        entry, body = Signal.like(self.job.entry), Signal(15)
        planes, steps = (field(command, Op.MATVEC, name) for name in ("planes", "steps"))
        m.d.comb += [
            cursor.slots.eq(self.job.slots),
            cursor.want_head.eq(self.job.want_head),
            self.job.slot.eq(step.slot),
        ]
        trits = planes * steps
        if config.sparse:
            gearing = config.gearing
            # Steps, less what the surplus of the beats saves. It is 2**n - 1 for every code of
            # bytes, so that a subtraction multiplies, where Yosys would take a DSP block.
            surplus = (steps << exact_log2(gearing.surplus + 1)) - steps
            saved = surplus >> exact_log2(gearing.beat)
            whole = (steps - saved)[: len(steps)]
            trits = Mux(field(command, Op.MATVEC, "sparse"), whole, trits)
        m.d.sync += [entry.eq(self.job.entry), body.eq(trits)]

        # What kind of command it is, and fields that the three streamed operations place
        # differently: in registers from SORT on.
        lost, streamed, writes, ends = Signal(Fault), Signal(), Signal(), Signal()
        m.d.sync += [
            lost.eq(step.fault),
            streamed.eq(functools.reduce(operator.or_, (op == case for case in _STREAMED))),
            writes.eq(op == Op.KVWRITE),
            ends.eq(op == Op.END),
        ]
        source, head, fence = Signal(3), Signal(8), Signal()
        # Beats are counted in parts of which a group has one for its scales, until ROUND.
        share_shift = exact_log2(config.scale_share)
        offset, beats = Signal(14), Signal(ADDRESS_BITS)
        words_a_beat = config.beat_bytes // 4
        rows_shift = config.tile_rows.bit_length() - 1
        matvec = Signal()
        m.d.sync += matvec.eq(op == Op.MATVEC)
        with m.Switch(op):
            for case in _STREAMED:
                with m.Case(case):
                    m.d.sync += [
                        source.eq(field(command, case, "source")),
                        head.eq(field(command, case, "head")),
                        fence.eq(field(command, case, "fence")),
                    ]
                    m.d.sync += offset.eq(
                        0 if case is Op.MATVEC else field(command, case, "offset")
                    )
                    if case is Op.LOAD:
                        m.d.sync += beats.eq(field(command, case, "beats") << share_shift)
                    elif case is Op.SLOAD:
                        count = field(command, case, "count")
                        whole = (count + words_a_beat - 1) >> words_a_beat.bit_length() - 1
                        m.d.sync += beats.eq(whole << share_shift)
                    else:
                        aux = field(command, case, "aux")
                        scaled = field(command, case, "scaled")
                        alone = 2 * config.scale_beats << share_shift
                        scales = Mux(scaled, Mux(aux, alone, config.scale_beats), 0)
                        m.d.sync += beats.eq((body << share_shift) + scales)

        # Products, one after another: (what it adds to or replaces, operands, whether it is
        # needed).
        address, length = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        pointer = Signal(ADDRESS_BITS)
        values = (source == Source.VALUES) | (source == Source.VALUE_BLOCK)
        cached = (source == Source.KEYS) | values
        # Operands that do not wait for a product come from registers, in time for OPERANDS.
        near, index = Signal(ADDRESS_BITS), Signal(20)
        head_stride, tiles, all_blocks = Signal(ADDRESS_BITS), Signal(20), Signal(15)
        m.d.sync += [
            near.eq(addresses.rope_stride),
            index.eq(entry.position),
            head_stride.eq(Mux(values, addresses.value_head_stride, addresses.key_head_stride)),
            tiles.eq(field(command, Op.MATVEC, "tiles")),
            all_blocks.eq(entry.blocks + 1),
        ]
        with m.If(source == Source.KEYS):
            m.d.sync += tiles.eq((entry.position >> rows_shift) + 1)
        with m.If(cached):
            m.d.sync += [near.eq(addresses.kv_layer_stride), index.eq(step.layer)]
        with m.Elif(source == Source.EMBEDDING):
            m.d.sync += [near.eq(addresses.embedding_stride), index.eq(entry.token)]
        products = [
            (address, near, index, source != Source.LINEAR),
            (address, head_stride, head, cached),
            (length, length, field(command, Op.MATVEC, "groups"), matvec),
            (length, length, tiles, matvec),
            # A block's length is known by now; LOAD asks for one block, MATVEC for all.
            (
                address,
                (length >> share_shift) << beat_shift,
                entry.blocks,
                source == Source.VALUE_BLOCK,
            ),
            (length, length, all_blocks, matvec & (source == Source.VALUES)),
        ]
        # What is left to do, and of it the next one alone.
        needed, todo, turn = (Signal(len(products), name=n) for n in ("needed", "todo", "turn"))
        m.d.comb += needed.eq(Cat(product[3] for product in products))

        def go_on(rest):
            m.d.sync += [todo.eq(rest), turn.eq(rest & ~(rest - 1))]

        left, right = Signal(ADDRESS_BITS), Signal(20)
        # By parts that fit a multiplier each, added in a cycle of their own.
        result = Signal(ADDRESS_BITS)
        parts = [Signal(36, name=f"part_{i}") for i in range(3)]
        m.d.sync += [
            parts[0].eq(left[:16] * right[:16]),
            parts[1].eq(left[16:] * right[:16]),
            parts[2].eq(left[:16] * right[16:]),
            result.eq(
                Cat(parts[0][:16], (parts[0][16:32] + parts[1] + parts[2])[: ADDRESS_BITS - 16])
            ),
        ]

        # That writes are pending is seen a cycle late; the last that counts passed long before.
        m.d.comb += [self.o.p.address.eq(address), self.o.p.beats.eq(length)]
        pending = Signal(16)
        passed, behind, empty = Signal(), Signal(), Signal()
        m.d.sync += [pending.eq(pending + passed - self.completed), behind.eq(pending != 0)]

        base = Signal(ADDRESS_BITS)
        with m.Switch(source):
            with m.Case(Source.LINEAR):
                m.d.comb += base.eq(pointer)
            with m.Case(Source.EMBEDDING):
                m.d.comb += base.eq(addresses.embedding_base)
            with m.Case(Source.ROPE):
                m.d.comb += base.eq(addresses.rope_base)
            with m.Case(Source.KEYS):
                m.d.comb += base.eq(entry.kv_base)
            with m.Default():
                m.d.comb += base.eq(entry.kv_base + addresses.value_base)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.idle.eq(1)
                m.d.sync += pointer.eq(addresses.sweep_base)
                with m.If(self.job.available & ~self.halt):
                    m.d.comb += cursor.start.eq(1)
                    m.next = "NEXT"
            with m.State("NEXT"):
                # The entry of the slot arrives at the end of this cycle.
                with m.If(cursor.o.valid):
                    m.next = "SORT"
            with m.State("SORT"):
                m.next = "NEXT"
                with m.If(lost != Fault.NONE):
                    m.d.comb += [self.fault.code.eq(lost), self.fault.info.eq(step.pc)]
                    m.next = "SORT"
                with m.Elif(streamed):
                    m.next = "BEGIN"
                with m.Else():
                    m.d.comb += [cursor.o.ready.eq(1), passed.eq(writes), self.job.finish.eq(ends)]
                    with m.If(ends):
                        m.next = "FINISHED"
            with m.State("FINISHED"):
                # The queue's `available` still tells of the job that ended.
                m.next = "IDLE"
            with m.State("BEGIN"):
                m.d.sync += [address.eq(base), length.eq(beats)]
                go_on(needed)
                m.next = "OPERANDS"
            with m.State("OPERANDS"):
                m.next = "PRODUCT"
                with m.If(todo == 0):
                    m.next = "ROUND"
                for i, (_, a, b, _) in enumerate(products):
                    with m.If(turn[i]):
                        m.d.sync += [left.eq(a), right.eq(b)]
            with m.State("PRODUCT"):
                m.next = "SUM"
            with m.State("SUM"):
                m.next = "ADD"
            with m.State("ADD"):
                go_on(todo & ~turn)
                for i, (target, *_) in enumerate(products):
                    with m.If(turn[i]):
                        added = target + result if target is address else result
                        m.d.sync += target.eq(added)
                m.next = "OPERANDS"
                with m.If(todo == turn):
                    m.next = "ROUND"
            with m.State("ROUND"):
                m.d.sync += length.eq((length + config.scale_share - 1) >> share_shift)
                m.next = "OFFSET"
            with m.State("OFFSET"):
                m.d.sync += address.eq(address + (offset << beat_shift))
                with m.If(source == Source.LINEAR):
                    m.d.sync += pointer.eq(pointer + (length << beat_shift))
                m.d.sync += empty.eq(length == 0)
                m.next = "EMIT"
            with m.State("EMIT"):
                blocked = fence & behind
                m.d.comb += [self.fenced.eq(blocked), cursor.o.ready.eq(empty)]
                with m.If(empty):
                    m.next = "NEXT"
                with m.Elif(~blocked & ~self.halt):
                    m.d.sync += self.o.valid.eq(1)
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += cursor.o.ready.eq(self.o.ready)
                with m.If(self.o.ready):
                    m.d.sync += self.o.valid.eq(0)
                    m.next = "NEXT"
        return m


class Executor(wiring.Component):
    """Performs commands one by one: resolves, issues, waits, writes reductions back.

    While a unit works, the next command is read and resolved. The next issue is valid 2 cycles
    after ``done_valid`` (ROPE), 3 (LOAD, MATVEC; and commands of the vector unit, which read the
    scalars) or 4 (SCALAR, KVWRITE, which do too), and 3 the end of the job. A unit that is faster
    than the prefetch waits for it: 7 cycles from one issue to the next, 3 more for each loop
    command or branch between. A reduction is normalised (5 cycles) while LOAD, MATVEC or ROPE
    follow; the others wait for it.

    Parameters
    ----------
    config : Config

    Members
    -------
    job : Out(JobPort)
        Jobs.
    memory : Out(ProgramRead(config))
    slot_stride : In(17)
        Elements between the scratchpads of two slots.
    halt : In(1)
        Begin no job and issue nothing more.
    loader, array, vector, scalar, kv_writer : ``Out(UnitSignature())`` as the executor sees them
        The units.
    read : Out(ScalarRead())
        Scalar registers.
    settled : In(1)
        What earlier commands set off is over; the end of a job waits for it.
    normalise : ``Out(stream.Signature(NormaliseLayout))``
        Reductions for the scalar registers; ``ready`` says that all earlier ones are stored.
    activity : Out(Activity)
        What this cycle went to.
    head : Out(1)
        The job is past SKIP_UNLESS_HEAD.
    complete : Out(1)
        A job ended, for one cycle.
    unit : Out(Activity)
        Whose command is in execution, to route the stream; holds until the next issue.
    pc : Out(13)
        Of the command in execution, for faults.
    idle : Out(1)
        Between jobs.
    fault : Out(FaultLayout)
        BAD_COMMAND or BAD_PROGRAM while ``code`` is not NONE; only reset ends it.
    """

    def __init__(self, config):
        self._config = config
        unit = UnitSignature().flip()
        super().__init__(
            {
                "job": Out(JobPort),
                "memory": Out(ProgramRead(config)),
                "slot_stride": In(17),
                "halt": In(1),
                "loader": Out(unit),
                "array": Out(unit),
                "vector": Out(unit),
                "scalar": Out(unit),
                "kv_writer": Out(unit),
                "read": Out(ScalarRead()),
                "settled": In(1, init=1),
                "normalise": Out(stream.Signature(NormaliseLayout)),
                "activity": Out(Activity),
                "head": Out(1),
                "complete": Out(1),
                "unit": Out(Activity),
                "pc": Out(13),
                "idle": Out(1),
                "fault": Out(FaultLayout),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.cursor = cursor = Cursor(self._config)
        wiring.connect(m, cursor.memory, wiring.flipped(self.memory))
        m.d.comb += [
            cursor.slots.eq(self.job.slots),
            cursor.want_head.eq(self.job.want_head),
            self.job.slot.eq(cursor.o.p.slot),
        ]

        # Prefetch: what the cursor offers, resolved.
        issue = Signal(IssueLayout)
        fault, pc = Signal(Fault), Signal(13)
        ready, take, taken = Signal(), Signal(), Signal()
        step, entry = cursor.o.p, self.job.entry
        units = {
            Activity.LOADER: (self.loader, (Op.LOAD, Op.SLOAD)),
            Activity.ARRAY: (self.array, (Op.MATVEC,)),
            Activity.VECTOR: (self.vector, (Op.VEC, Op.HADAMARD, Op.ROPE, Op.EXP)),
            Activity.SCALAR: (self.scalar, (Op.SCALAR,)),
            Activity.KV_WRITER: (self.kv_writer, (Op.KVWRITE,)),
        }
        # What the operation says, so that issuing need not look at it: whose it is, and whether it
        # may be issued whatever the scalar registers are doing.
        chosen = Signal(len(units))
        ends, skips, direct = Signal(), Signal(), Signal()
        sound = Signal()
        m.d.sync += sound.eq(step.fault == Fault.NONE)
        with m.FSM(name="prefetch"):
            with m.State("LOOK"):
                # The entry of the slot arrives at the end of this cycle.
                with m.If(cursor.o.valid):
                    m.next = "RESOLVE"
            with m.State("RESOLVE"):
                m.d.sync += [
                    issue.command.eq(step.command),
                    issue.slot.eq(step.slot),
                    issue.slot_base.eq(step.slot * self.slot_stride),
                    issue.position.eq(entry.position),
                    issue.blocks.eq(entry.blocks),
                    issue.digit.eq(entry.digit),
                    issue.layer.eq(step.layer),
                    issue.kv_base.eq(entry.kv_base),
                    issue.slots.eq(self.job.slots),
                    issue.slot_stride.eq(self.slot_stride),
                    fault.eq(step.fault),
                    pc.eq(step.pc),
                    ends.eq(step.command[:4] == Op.END),
                    skips.eq(step.command[:4] == Op.SKIP_UNLESS_HEAD),
                    direct.eq(0),
                    chosen.eq(0),
                ]
                with m.Switch(step.command[:4]):
                    for number, (_unit, operations) in enumerate(units.values()):
                        with m.Case(*operations):
                            m.d.sync += chosen.eq(1 << number)
                with m.Switch(step.command[:4]):
                    with m.Case(Op.LOAD, Op.MATVEC, Op.ROPE):
                        # Need not wait for a normalisation.
                        m.d.sync += direct.eq(sound)
                m.d.comb += cursor.o.ready.eq(sound)
                m.next = "HOLD"
            with m.State("HOLD"):
                m.d.comb += ready.eq(~taken)
                m.d.sync += taken.eq(take)
                with m.If(taken):
                    m.d.sync += taken.eq(0)
                    m.next = "LOOK"

        op = issue.command[:4]

        def named(op_, name):
            return field(issue.command, op_, name)

        # Scalars that a command names, and where its reduction goes.
        rd, reduces = Signal(6), Signal()
        m.d.comb += self.read.slot.eq(issue.slot)

        def names(op_, p, q=None):
            m.d.comb += self.read.p_name.eq(named(op_, p))
            if q:
                m.d.comb += self.read.q_name.eq(named(op_, q))

        with m.Switch(op):
            with m.Case(Op.VEC):
                names(Op.VEC, "m", "x")
                reduce = named(Op.VEC, "reduce")
                m.d.comb += [
                    rd.eq(named(Op.VEC, "rd")),
                    reduces.eq((reduce == Reduce.ABSMAX) | (reduce == Reduce.SUM)),
                ]
            with m.Case(Op.EXP):
                names(Op.EXP, "m")
                m.d.comb += [rd.eq(named(Op.EXP, "rd")), reduces.eq(1)]
            with m.Case(Op.HADAMARD):
                m.d.comb += [rd.eq(named(Op.HADAMARD, "rd")), reduces.eq(1)]
            with m.Case(Op.KVWRITE):
                names(Op.KVWRITE, "scale", "aux")

        # A unit that was ready is ready until it gets something; it is looked at the cycle before.
        # The vector unit looks at the command first, and is ready, from a register, when it has
        # seen enough.
        send, sent, done, free = Signal(), Signal(), Signal(), Signal()
        readies = [
            unit.issue.ready & (activity != Activity.VECTOR)
            for activity, (unit, _operations) in units.items()
        ]
        m.d.sync += free.eq((Cat(readies) & chosen).any() & ready & ~sent)
        result = Signal(48)
        for number, (activity, (unit, _operations)) in enumerate(units.items()):
            is_vector = activity is Activity.VECTOR
            if is_vector:
                m.d.comb += unit.issue.valid.eq(send & chosen[number])
            else:
                # The command stays where it is for a cycle more.
                m.d.sync += unit.issue.valid.eq(send & chosen[number] & free)
            m.d.comb += [
                unit.issue.p.eq(issue),
                unit.issue.p.p.eq(self.read.p),
                unit.issue.p.q.eq(self.read.q),
            ]
            with m.If(chosen[number]):
                m.d.comb += sent.eq(send & (unit.issue.ready if is_vector else free))
                with m.If(send):
                    m.d.sync += [self.unit.eq(activity), self.pc.eq(pc)]
            with m.If(self.unit == activity):
                m.d.sync += [done.eq(unit.done_valid), result.eq(unit.done.result)]

        # A reduction goes to the normaliser while the next command may already run.
        reduction = Signal(NormaliseLayout)
        unwritten, scalars_settled, stored = Signal(), Signal(), Signal()
        will_reduce = Signal()
        m.d.comb += [
            self.normalise.p.eq(reduction),
            self.normalise.valid.eq(unwritten),
            # Found out the cycle before; nobody but this agent begins a normalisation.
            scalars_settled.eq(stored & ~unwritten),
            take.eq(sent),
            self.activity.eq(Activity.SEQUENCER),
        ]
        m.d.sync += stored.eq(self.normalise.ready & ~unwritten)
        with m.If(self.normalise.ready):
            m.d.sync += unwritten.eq(0)
        with m.If(sent):
            m.d.sync += [
                reduction.name.eq(rd),
                reduction.slot.eq(issue.slot),
                will_reduce.eq(reduces),
            ]

        with m.FSM(name="issue"):
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.activity.eq(Activity.IDLE)]
                m.d.sync += self.head.eq(0)
                with m.If(self.job.available & ~self.halt):
                    m.d.comb += cursor.start.eq(1)
                    m.next = "SELECT"
            with m.State("SELECT"):
                with m.If(~scalars_settled):
                    m.d.comb += self.activity.eq(Activity.SCALAR)
                m.d.comb += send.eq(ready & direct & ~self.halt)
                with m.If(sent):
                    m.next = "WAIT"
                with m.If(ready & ~direct & ~self.halt & scalars_settled):
                    with m.If(fault != Fault.NONE):
                        m.d.comb += [self.fault.code.eq(fault), self.fault.info.eq(pc)]
                    with m.Elif(ends):
                        with m.If(self.settled):
                            m.d.comb += [take.eq(1), self.job.finish.eq(1), self.complete.eq(1)]
                            m.next = "FINISHED"
                    with m.Elif(skips):
                        m.d.comb += take.eq(1)
                        m.d.sync += self.head.eq(1)
                    with m.Else():
                        # The registers answer in the next cycle.
                        m.next = "ISSUE"
            with m.State("ISSUE"):
                # A reset lets the writer of the cache drain by itself: it must not begin a command
                # that a fault has ended, whose completion nobody expects.
                m.d.comb += send.eq(~self.halt)
                with m.If(sent):
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.comb += self.activity.eq(self.unit)
                with m.If(done):
                    m.d.sync += [reduction.value.eq(result), unwritten.eq(will_reduce)]
                    m.next = "SELECT"
            with m.State("FINISHED"):
                # The queue's `available` still tells of the job that ended.
                m.next = "IDLE"
        return m
