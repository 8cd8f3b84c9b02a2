"""On-chip memory with the firmware in it."""

from amaranth import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from . import wishbone

__all__ = ["Ram"]


class Ram(wiring.Component):
    """Memory of 32-bit words with byte lanes, which may hold an image from the start.

    A single access ends one cycle after it began. An incrementing burst of reads gives a word in
    every cycle after the first. Accesses beyond the memory end with ``err``.

    Parameters
    ----------
    size : int
        Bytes, a multiple of 4.
    init : bytes
        Contents from address 0; the rest is zero.

    Members
    -------
    bus : ``In(wishbone.target(size, rounded up to a power of two))``
        Accesses.

    Raises
    ------
    ValueError
        If ``size`` is not such a number or the image is larger.
    """

    def __init__(self, size, init=b""):
        if not isinstance(size, int) or size < 8 or size % 4:
            raise ValueError(f"RAM size must be a multiple of 4 from 8, not {size!r} bytes")
        self._size = size
        self._words = []
        self.load(init)
        super().__init__({"bus": In(wishbone.target(1 << (size - 1).bit_length()))})

    @property
    def size(self):
        """Bytes."""
        return self._size

    def load(self, image):
        """Replace the contents from the start; possible until the design is elaborated.

        Raises
        ------
        ValueError
            If the image is larger than the memory.
        """
        if len(image) > self._size:
            raise ValueError(
                f"an image of {len(image)} bytes does not fit a RAM of {self._size} bytes; enlarge "
                "the RAM or shrink the firmware"
            )
        image = bytes(image) + bytes(-len(image) % 4)
        self._words = [
            int.from_bytes(image[at : at + 4], "little") for at in range(0, len(image), 4)
        ]

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.submodules.memory = storage = memory.Memory(
            shape=32, depth=self._size // 4, init=self._words
        )
        read = storage.read_port()
        write = storage.write_port(granularity=8)
        inside, request, burst, address = Signal(), Signal(), Signal(), Signal(len(bus.adr))
        m.d.comb += [
            # In a burst, the word after the one that is being delivered is fetched already.
            burst.eq((bus.cti == wishbone.CycleType.INCR_BURST) & ~bus.we & bus.ack),
            address.eq(bus.adr + burst),
            inside.eq(address < self._size // 4),
            request.eq(bus.cyc & bus.stb & (burst | ~(bus.ack | bus.err))),
            read.addr.eq(address),
            read.en.eq(request & ~bus.we),
            write.addr.eq(bus.adr),
            write.data.eq(bus.dat_w),
            write.en.eq((request & bus.we & inside).replicate(4) & bus.sel),
            bus.dat_r.eq(read.data),
        ]
        m.d.sync += [bus.ack.eq(request & inside), bus.err.eq(request & ~inside)]
        return m
