"""Performance counters: many wide counters in one small memory."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import enum, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["COUNTER_BITS", "Counter", "Counters"]

#: Bits of a counter.
COUNTER_BITS = 48


class Counter(enum.Enum, shape=5):
    """What is counted; every counter counts cycles unless it says otherwise.

    While a job runs, each cycle is one of layers_cycles and head_cycles, and one of loader, array,
    vector, scalar, kv_writer, sequencer.
    """

    CYCLES = 0  # a job runs
    LAYERS_CYCLES = 1  # before the head
    LAYERS_BEATS = 2  # beats of the stream that were consumed before the head
    HEAD_CYCLES = 3  # from the head on
    HEAD_BEATS = 4  # beats of the stream that were consumed from the head on
    LOADER_CYCLES = 5  # the loader executes
    ARRAY_CYCLES = 6  # the array executes
    VECTOR_CYCLES = 7  # the vector unit executes
    SCALAR_CYCLES = 8  # the scalar unit executes or normalises
    KV_WRITER_CYCLES = 9  # the writer of the cache executes
    SEQUENCER_CYCLES = 10  # no unit executes
    ARRAY_STARVED = 11  # the array would take a beat and there is none
    ARRAY_DRAINING = 12  # the array keeps a beat waiting, because results must leave first
    FENCE_WAIT = 13  # the walker waits for writes to the cache
    FIFO_FULL = 14  # the DMA waits for room in the stream FIFO
    MEMORY_WAIT = 15  # bursts are under way and no beat arrives
    WALKER_IDLE = 16  # the DMA has nothing to do
    SATURATIONS = 17  # events: a result was clamped to its range
    QUEUE_EMPTY = 18  # no job runs, since the counters were cleared
    JOBS = 19  # events: a job ended


class Counters(wiring.Component):
    """Counts events, one bit per counter and cycle, without losing any.

    Each event has a short counter; in turn, one in three cycles, they are added into a memory and
    cleared. What ``value`` shows is therefore up to 61 cycles old. At ``snapshot`` the short
    counters are set aside, and the next turn fills a second memory with the exact state of that
    cycle, which holds until the next snapshot.

    Members
    -------
    events : In(len(Counter))
        Bit i counts into ``Counter(i)``.
    clear : In(1)
        Pulse: all counters to zero, snapshot included; what happens until ``busy`` falls is not
        counted.
    snapshot : In(1)
        Pulse: remember the state, events of this cycle included; of a later cycle if ``busy``.
    busy : Out(1)
        A clear or a snapshot is under way: 61 cycles.
    select : In(Counter), live : In(1)
        Counter to show, of the snapshot or of the present.
    value : Out(48)
        The counter, from the second cycle after ``select``.
    """

    def __init__(self):
        super().__init__(
            {
                "events": In(len(Counter)),
                "clear": In(1),
                "snapshot": In(1),
                "busy": Out(1),
                "select": In(5),
                "live": In(1),
                "value": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = len(Counter)
        memories = [Memory(shape=unsigned(COUNTER_BITS), depth=32, init=[]) for _ in range(2)]
        m.submodules.present, m.submodules.snapshot = memories
        writes = [memory.write_port() for memory in memories]
        shown = [memory.read_port() for memory in memories]
        old = memories[0].read_port()
        m.d.comb += [port.addr.eq(self.select) for port in shown]
        m.d.comb += self.value.eq(Mux(self.live, shown[0].data, shown[1].data))

        # Three cycles a visit: a short counter is looked up, in two steps, and added. 7 bits hold
        # two turns of events.
        turn, taking, writing = Signal(5), Signal(init=1), Signal()
        short = [Signal(7, name=f"short_{i}") for i in range(count)]
        aside = [Signal(7, name=f"aside_{i}") for i in range(count)]
        clearing, copying = Signal(), Signal()
        # Everything a cycle late, for what is decided here reaches all the short counters.
        events, clear = Signal.like(self.events), Signal()
        snapshot, postponed, take = Signal(), Signal(), Signal()
        m.d.comb += take.eq((self.snapshot | postponed) & ~self.busy)
        m.d.sync += [events.eq(self.events), clear.eq(self.clear), snapshot.eq(take)]
        with m.If(self.snapshot & self.busy):
            m.d.sync += postponed.eq(1)
        with m.Elif(take):
            m.d.sync += postponed.eq(0)
        remaining = Signal(range(count + 1))
        amount = Signal(7)
        fours = [Signal(7, name=f"four_{i}") for i in range(-(-count // 4))]
        for number, four in enumerate(fours):
            with m.Switch(turn[:2]):
                for i in range(4 * number, min(4 * number + 4, count)):
                    with m.Case(i & 3):
                        m.d.sync += four.eq(Mux(copying, aside[i], short[i]))
        with m.Switch(turn[2:]):
            for number, four in enumerate(fours):
                with m.Case(number):
                    m.d.sync += amount.eq(four)
        added = Mux(clearing, 0, old.data + amount)
        m.d.comb += [old.addr.eq(turn), self.busy.eq(clearing | copying | clear | snapshot)]
        for port in writes:
            m.d.comb += [port.addr.eq(turn), port.data.eq(added)]
        m.d.comb += [
            writes[0].en.eq(writing),
            writes[1].en.eq(writing & (copying | clearing)),
        ]
        m.d.sync += [taking.eq(writing), writing.eq(~taking & ~writing)]
        with m.If(writing):
            m.d.sync += turn.eq(Mux(turn == count - 1, 0, turn + 1))
            with m.If(clearing | copying):
                m.d.sync += remaining.eq(remaining - 1)
                with m.If(remaining == 1):
                    m.d.sync += [clearing.eq(0), copying.eq(0)]
        # The turn stays for three cycles, so whose it is may be known a cycle late.
        whose = Signal(count)
        m.d.sync += whose.eq(Cat(turn == i for i in range(count)))
        for i in range(count):
            visited = writing & whose[i] & ~copying
            now = Mux(visited, short[i] - amount, short[i]) + events[i]
            m.d.sync += short[i].eq(now)
            with m.If(snapshot):
                m.d.sync += [aside[i].eq(now), short[i].eq(0)]
            with m.If(clearing | clear):
                m.d.sync += short[i].eq(0)
        with m.If(snapshot):
            m.d.sync += [copying.eq(1), remaining.eq(count)]
        with m.If(clear):
            m.d.sync += [clearing.eq(1), copying.eq(0), remaining.eq(count)]
        # A visit that has not written yet begins anew, so that each mode sees whole visits.
        with m.If(snapshot | clear):
            m.d.sync += [taking.eq(1), writing.eq(0)]
        return m
