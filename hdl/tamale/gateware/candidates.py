"""The largest logits of every vector, kept for the sampler."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, enum, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware.interfaces import CandidateLayout

__all__ = ["Candidates"]

#: A candidate as an unsigned number that grows with its rank: value first, then the smaller row.
_KEY_BITS = 32 + 20


class _Phase(enum.Enum, shape=3):
    IDLE = 0
    FETCH = 1
    COMPARE = 2
    DECIDE = 3
    SCAN = 4


class Candidates(wiring.Component):
    """Keep the ``config.candidates`` largest logits of each vector.

    The order is total: the larger value first, then the smaller row. A list is unsorted; the place
    of its smallest entry is remembered, and whatever replaces that entry costs a scan for the next
    smallest one.

    Throughput: 1 cycle for a dropped row, 4 for a value that is too small or fits a list that is
    not full, ``config.candidates`` + 7 for a replacement; back-pressure meanwhile.

    Parameters
    ----------
    config : Config
        ``candidates`` and ``vectors``.

    Members
    -------
    i : In(stream.Signature(CandidateLayout))
        Logits; ``vector`` below ``config.vectors``, a row at most once per vector.
    rows : In(20)
        Rows from this one on are padding and dropped.
    clear : In(1)
        Empty all lists. The insertion under way is given up.
    idle : Out(1)
        Nothing is under way: the read port may be used.
    vector : In(4), index : In(range(config.candidates))
        What to read. Entries come in no particular order.
    value : Out(signed(32)), row : Out(20)
        Entry ``index`` of ``vector``, one cycle later; meaningless from ``count`` on.
    count : Out(range(config.candidates + 1))
        Entries of ``vector``, in the same cycle.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(CandidateLayout)),
                "rows": In(20),
                "clear": In(1),
                "idle": Out(1),
                "vector": In(4),
                "index": In(range(max(config.candidates, 2))),
                "value": Out(signed(32)),
                "row": Out(20),
                "count": Out(range(config.candidates + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        size, vectors = self.config.candidates, self.config.vectors
        index_bits = len(self.index)
        # Smallest entry of each list, and where it lies.
        state_layout = data.StructLayout({"key": _KEY_BITS, "index": index_bits})
        m.submodules.entries = entries = memory.Memory(
            shape=unsigned(_KEY_BITS), depth=max(vectors, 1) << index_bits, init=[]
        )
        m.submodules.smallest = smallest = memory.Memory(
            shape=unsigned(_KEY_BITS + index_bits), depth=max(vectors, 2), init=[]
        )
        write, read = entries.write_port(), entries.read_port()
        state_write, state_read = smallest.write_port(), smallest.read_port()
        counts = Array(Signal(range(size + 1), name=f"count{v}") for v in range(vectors))

        phase = Signal(_Phase)
        vector, count = Signal(4), Signal(range(size + 1))
        key = Signal(_KEY_BITS)
        least = Signal(state_layout)  # smallest entry: as stored, then as the scan finds it
        better, full = Signal(), Signal()
        place, found = Signal(index_bits), Signal(_KEY_BITS)
        reading, read_index, read_valid = Signal(index_bits + 2), Signal(index_bits), Signal()
        found_index, found_valid = Signal(index_bits), Signal()

        value = self.i.payload.value
        incoming = Cat(~self.i.payload.row, value[:31], ~value[31])
        decide = phase == _Phase.DECIDE
        scanned = (phase == _Phase.SCAN) & (reading == size + 2)
        m.d.comb += [
            self.idle.eq(phase == _Phase.IDLE),
            self.i.ready.eq(phase == _Phase.IDLE),
            self.count.eq(counts[self.vector]),
            read.addr.eq(
                Mux(self.idle, Cat(self.index, self.vector), Cat(reading[:index_bits], vector))
            ),
            self.row.eq(~read.data[:20]),
            self.value.eq(Cat(read.data[20:51], ~read.data[51]).as_signed()),
            state_read.addr.eq(vector),
            state_write.addr.eq(vector),
            state_write.data.eq(Mux(decide, Cat(key, place), least.as_value())),
            write.addr.eq(Cat(place, vector)),
            write.en.eq(decide & (~full | better)),
            state_write.en.eq((decide & ~full & ((count == 0) | ~better)) | scanned),
            write.data.eq(key),
        ]

        with m.Switch(phase):
            with m.Case(_Phase.IDLE):
                m.d.sync += [vector.eq(self.i.payload.vector), key.eq(incoming)]
                with m.If(self.i.valid & (self.i.payload.row < self.rows)):
                    m.d.sync += phase.eq(_Phase.FETCH)
            with m.Case(_Phase.FETCH):
                m.d.sync += [count.eq(counts[vector]), phase.eq(_Phase.COMPARE)]
            with m.Case(_Phase.COMPARE):
                m.d.sync += [
                    least.eq(state_read.data),
                    better.eq(key > state_read.data[:_KEY_BITS]),
                    full.eq(count == size),
                    phase.eq(_Phase.DECIDE),
                ]
                m.d.sync += place.eq(
                    Mux(count == size, state_read.data[_KEY_BITS:], count[:index_bits])
                )
            with m.Case(_Phase.DECIDE):
                m.d.sync += phase.eq(_Phase.IDLE)
                with m.If(~full):
                    m.d.sync += counts[vector].eq(count + 1)
                with m.Elif(better):
                    m.d.sync += [
                        phase.eq(_Phase.SCAN),
                        reading.eq(0),
                        read_valid.eq(0),
                        found_valid.eq(0),
                        least.key.eq(~0),
                    ]
            with m.Case(_Phase.SCAN):
                # An address, an entry, a registered entry: three places of a pipeline.
                m.d.sync += [
                    reading.eq(reading + 1),
                    read_index.eq(reading),
                    read_valid.eq(reading < size),
                    found.eq(read.data),
                    found_index.eq(read_index),
                    found_valid.eq(read_valid),
                ]
                with m.If(found_valid & (found <= least.key)):
                    m.d.sync += [least.key.eq(found), least.index.eq(found_index)]
                with m.If(scanned):
                    m.d.sync += phase.eq(_Phase.IDLE)
        with m.If(self.clear):
            m.d.sync += phase.eq(_Phase.IDLE)
            for entry in counts:
                m.d.sync += entry.eq(0)
        return m
