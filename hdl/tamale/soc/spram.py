"""Single-port memory of an iCE40 UltraPlus: 128 KiB without initial contents."""

from amaranth import Cat, ClockSignal, Const, Instance, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In

from . import wishbone

__all__ = ["SPRAM_BYTES", "Spram"]

#: Four blocks of 16,384 words of 16 bits.
SPRAM_BYTES = 131072

#: What simulations find in it, for nobody may count on zeros.
_GARBAGE = 0xA5C3_96E1


class Spram(wiring.Component):
    """Memory of 32-bit words with byte lanes in two pairs of blocks.

    A single access ends one cycle after it began. An incrementing burst of reads gives a word in
    every cycle after the first. For another target it is a memory that holds garbage at first.

    Members
    -------
    bus : ``In(wishbone.target(SPRAM_BYTES))``
        Accesses.

    Source: Lattice FPGA-TN-02022, "iCE40 SPRAM Usage Guide".
    """

    def __init__(self):
        super().__init__({"bus": In(wishbone.target(SPRAM_BYTES))})

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        request, burst, address, write = Signal(), Signal(), Signal(15), Signal(4)
        m.d.comb += [
            # In a burst, the word after the one that is being delivered is fetched already.
            burst.eq((bus.cti == wishbone.CycleType.INCR_BURST) & ~bus.we & bus.ack),
            address.eq(bus.adr + burst),
            request.eq(bus.cyc & bus.stb & (burst | ~bus.ack)),
            write.eq((request & bus.we).replicate(4) & bus.sel),
        ]
        m.d.sync += bus.ack.eq(request)
        if not getattr(platform, "device", "").startswith("iCE40"):
            depth = SPRAM_BYTES // 4
            m.submodules.memory = storage = memory.Memory(
                shape=32, depth=depth, init=[_GARBAGE] * depth
            )
            read, port = storage.read_port(), storage.write_port(granularity=8)
            m.d.comb += [
                read.addr.eq(address), read.en.eq(request & ~bus.we), bus.dat_r.eq(read.data),
                port.addr.eq(address), port.data.eq(bus.dat_w), port.en.eq(write),
            ]  # fmt: skip
            return m
        upper = Signal()
        with m.If(request):
            m.d.sync += upper.eq(address[-1])
        words = []
        for bank in range(2):
            halves = []
            for half in range(2):
                data = Signal(16, name=f"bank{bank}_{half}")
                lanes = write[2 * half : 2 * half + 2]
                m.submodules[f"bank{bank}_{half}"] = Instance(
                    "SB_SPRAM256KA",
                    i_CLOCK=ClockSignal(),
                    i_ADDRESS=address[:14],
                    i_DATAIN=bus.dat_w[16 * half : 16 * half + 16],
                    i_MASKWREN=Cat(lanes[0], lanes[0], lanes[1], lanes[1]),
                    i_WREN=request & bus.we,
                    i_CHIPSELECT=request & (address[-1] == bank),
                    i_STANDBY=Const(0),
                    i_SLEEP=Const(0),
                    i_POWEROFF=Const(1),
                    o_DATAOUT=data,
                )
                halves.append(data)
            words.append(Cat(halves))
        m.d.comb += bus.dat_r.eq(Mux(upper, words[1], words[0]))
        return m
