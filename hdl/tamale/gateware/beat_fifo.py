"""Queue of beats in block RAM, between a memory that cannot be stopped and a consumer that can."""

from amaranth.hdl import Module, Mux, Shape, Signal
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
    went in. The three words behind the storage count as room: ``i.ready`` goes low only at
    ``depth`` words in storage. Neither ``ready`` depends on the other side's signals of the cycle.

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
    level : ``Out(range(depth + 4))``
        Words that went in before the last cycle, less those that came out before it.
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
                "level": Out(range(depth + 4)),
                "clear": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # The storage holds plain bits, so that a structured word needs no initial value.
        width = Shape.cast(self._shape).width
        m.submodules.storage = storage = Memory(shape=width, depth=self._depth, init=[])
        write, read = storage.write_port(), storage.read_port(transparent_for=())
        # A bit more than addresses need tells a full storage from an empty one.
        written, taken = Signal(range(2 * self._depth)), Signal(range(2 * self._depth))

        # Word of the storage's output register, word that is offered, and one behind it for the
        # cycle in which the taker has said no and the storage does not know it yet.
        latched, valid, kept = Signal(), Signal(), Signal()
        payload, spare = Signal(width), Signal(width)
        push, pushed, fetch, move, popped = (Signal() for _ in range(5))
        m.d.comb += [
            self.i.ready.eq((written ^ taken) != self._depth),
            push.eq(self.i.valid & self.i.ready),
            write.en.eq(push),
            write.addr.eq(written),
            write.data.eq(self.i.payload),
            self.o.valid.eq(valid),
            self.o.payload.eq(payload),
            move.eq(latched & ~kept),
            fetch.eq((written != taken) & (~latched | move)),
            read.en.eq(fetch),
            read.addr.eq(taken),
        ]
        with m.If(push):
            m.d.sync += written.eq(written + 1)
        with m.If(fetch):
            m.d.sync += taken.eq(taken + 1)
        m.d.sync += [
            popped.eq(valid & self.o.ready),
            pushed.eq(push),
            self.level.eq(self.level + pushed - popped),
            latched.eq(fetch | (latched & ~move)),
        ]
        with m.If(self.o.ready | ~valid):
            m.d.sync += [
                valid.eq(kept | move),
                payload.eq(Mux(kept, spare, read.data)),
                kept.eq(0),
            ]
        with m.Elif(move):
            m.d.sync += kept.eq(1)
        with m.If(move):
            m.d.sync += spare.eq(read.data)
        with m.If(self.clear):
            m.d.sync += [
                written.eq(0),
                taken.eq(0),
                self.level.eq(0),
                pushed.eq(0),
                popped.eq(0),
                latched.eq(0),
                valid.eq(0),
                kept.eq(0),
            ]
        return m
