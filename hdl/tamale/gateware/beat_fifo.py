"""Queue of beats in block RAM, between a memory that cannot be stopped and a consumer that can."""

from amaranth.hdl import Module, Shape, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["BeatFifo"]


class BeatFifo(wiring.Component):
    """First-in first-out queue whose payload leaves from a register.

    The storage is read one cycle ahead into the RAM's own output latch and from there into a
    register, so that the slow clock-to-output path of a block RAM stays inside the queue, and no
    read ever meets a write of the same word (no bypass logic).

    Throughput is one word per cycle on both sides at once. A word comes out three cycles after it
    went in. The two words behind the storage count as room: ``i.ready`` goes low only at
    ``depth`` words in storage.

    Parameters
    ----------
    shape : Shape-castable
        Shape of a word.
    depth : int
        Words of storage; a power of two from 4.

    Members
    -------
    i : ``In(stream.Signature(shape))``
        Words in.
    o : ``Out(stream.Signature(shape))``
        Words out.
    level : ``Out(range(depth + 3))``
        Words that went in and did not come out yet.
    clear : ``In(1)``
        Forgets every word, and a word that goes in during the same cycle.

    Raises
    ------
    ValueError
        For a depth that is not a power of two.
    """

    def __init__(self, shape, depth):
        if not isinstance(depth, int) or depth < 4 or depth & (depth - 1):
            raise ValueError(f"FIFO depth must be a power of two from 4, not {depth!r}")
        self._shape, self._depth = shape, depth
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 3)),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # The storage holds plain bits, so that a structured word needs no initial value.
        width = Shape.cast(self._shape).width
        m.submodules.storage = storage = Memory(shape=width, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port(transparent_for=())
        written, taken = Signal(range(self._depth)), Signal(range(self._depth))
        stored = Signal(range(self._depth + 1))

        latched, valid = Signal(), Signal()
        payload = Signal(width)
        push, fetch, pop = Signal(), Signal(), Signal()
        move = Signal()
        m.d.comb += [
            self.i.ready.eq(stored != self._depth),
            push.eq(self.i.valid & self.i.ready),
            write.en.eq(push),
            write.addr.eq(written),
            write.data.eq(self.i.payload),
            self.o.valid.eq(valid),
            self.o.payload.eq(payload),
            pop.eq(valid & self.o.ready),
            move.eq(latched & (~valid | self.o.ready)),
            fetch.eq((stored != 0) & (~latched | move)),
            read.en.eq(fetch),
            read.addr.eq(taken),
        ]
        m.d.sync += [
            written.eq(written + push),
            taken.eq(taken + fetch),
            stored.eq(stored + push - fetch),
            self.level.eq(self.level + push - pop),
            latched.eq(fetch | (latched & ~move)),
            valid.eq(move | (valid & ~self.o.ready)),
        ]
        with m.If(move):
            m.d.sync += payload.eq(read.data)
        with m.If(self.clear):
            m.d.sync += [
                written.eq(0),
                taken.eq(0),
                stored.eq(0),
                self.level.eq(0),
                latched.eq(0),
                valid.eq(0),
            ]
        return m
