"""Bridge from the CPU's Wishbone bus to the AXI4 memory port."""

from amaranth import Array, Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..gateware import axi
from . import wishbone

__all__ = ["AxiBridge"]

#: Words of a cache line.
LINE_WORDS = 8


class AxiBridge(wiring.Component):
    """Turns Wishbone accesses into AXI4 transactions, one at a time.

    A single access is one beat. An incrementing read burst becomes one AXI burst up to the end of
    the line of eight words; a longer one continues with a new transaction. Read beats go into a
    line buffer at the pace of the memory, so that the CPU never holds the read channel that it
    shares with the accelerator. Nothing stays in the buffer after the access.

    Measured through `AxiMux` with cocotbext-axi's memory without stalls, for beats of 32, 128 and
    512 bits: 6 cycles for a single read, 13 for a line, 7 for a single write. A write ends with the
    memory's response; a response other than OKAY ends the access with ``err``.

    An initiator may drop ``cyc`` at any time (a CPU that is reset does); the transaction is then
    finished and its data forgotten.

    Parameters
    ----------
    size : int
        Bytes of the memory, a power of two.
    data_width : int
        Bits of an AXI beat, from 32.

    Members
    -------
    bus : ``In(wishbone.target(size))``
        Accesses.
    axi : ``Out(axi.Signature(addr_width=32, data_width=data_width, id_width=1))``
        Transactions, all with identifier 0; addresses count from the start of the memory.

    Raises
    ------
    ValueError
        If ``data_width`` is below 32.
    """

    def __init__(self, size, data_width=32):
        signature = axi.Signature(addr_width=32, data_width=data_width, id_width=1)
        if data_width < 32:
            raise ValueError(
                f"the CPU's bridge needs AXI beats of 32 bits or more, not {data_width!r}"
            )
        super().__init__({"bus": In(wishbone.target(size)), "axi": Out(signature)})

    def elaborate(self, platform):
        m = Module()
        bus, port = self.bus, self.axi
        beat_bytes = len(port.wstrb)
        lanes = beat_bytes // 4
        lane_bits = lanes.bit_length() - 1
        line_beats = max(1, LINE_WORDS // lanes)
        size_code = beat_bytes.bit_length() - 1

        # Which word the CPU is to get next, and which beats of the line have come.
        address = Signal(len(bus.adr))
        word_bits = (LINE_WORDS - 1).bit_length()
        beat_of = (lambda word: word[lane_bits:word_bits]) if line_beats > 1 else (lambda word: 0)
        first = Signal(len(bus.adr))
        arriving = Signal(range(max(2, line_beats)))
        came, failed = Signal(line_beats), Signal(line_beats)
        receiving, answering, write_failed = Signal(), Signal(), Signal()
        m.submodules.line = line = memory.Memory(
            shape=port.rdata.shape(), depth=line_beats, init=[]
        )
        store = line.write_port()
        fetch = line.read_port(domain="comb")
        burst = Signal()
        m.d.comb += burst.eq(bus.cti == wishbone.CycleType.INCR_BURST)

        aligned = Cat(first[lane_bits:])
        m.d.comb += [
            port.araddr.eq(aligned << size_code),
            port.awaddr.eq(aligned << size_code),
            port.arsize.eq(size_code),
            port.awsize.eq(size_code),
            port.arburst.eq(axi.Burst.INCR),
            port.awburst.eq(axi.Burst.INCR),
            port.awlen.eq(0),
            port.wlast.eq(1),
            store.addr.eq(arriving),
            store.data.eq(port.rdata),
            fetch.addr.eq(beat_of(address)),
        ]
        if lane_bits:
            m.d.comb += bus.dat_r.eq(fetch.data.word_select(address[:lane_bits], 32))
        else:
            m.d.comb += bus.dat_r.eq(fetch.data)

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [
                    address.eq(bus.adr),
                    first.eq(bus.adr),
                    port.wdata.eq(bus.dat_w.replicate(lanes)),
                    port.wstrb.eq(bus.sel << 4 * bus.adr[:lane_bits] if lane_bits else bus.sel),
                    port.arlen.eq(
                        0
                        if line_beats == 1
                        else (line_beats - 1 - beat_of(bus.adr)) & burst.replicate(8)
                    ),
                    arriving.eq(beat_of(bus.adr)),
                    came.eq(0),
                ]
                with m.If(bus.cyc & bus.stb):
                    m.d.sync += [
                        answering.eq(1),
                        receiving.eq(1),
                        port.awvalid.eq(bus.we),
                        port.wvalid.eq(bus.we),
                        port.arvalid.eq(~bus.we),
                    ]
                    with m.If(bus.we):
                        m.next = "WRITE"
                    with m.Else():
                        m.next = "READ"

            with m.State("READ"):
                with m.If(port.arready):
                    m.d.sync += port.arvalid.eq(0)
                m.d.comb += port.rready.eq(1)
                with m.If(port.rvalid):
                    m.d.comb += store.en.eq(1)
                    m.d.sync += arriving.eq(arriving + 1)
                    for beat in range(line_beats):
                        with m.If(arriving == beat):
                            m.d.sync += [
                                came[beat].eq(1),
                                failed[beat].eq(port.rresp.as_value()[1]),
                            ]
                    with m.If(port.rlast):
                        m.d.sync += receiving.eq(0)
                with m.If(answering):
                    with m.If(~bus.cyc):
                        m.d.sync += answering.eq(0)
                    with m.Elif(bus.stb & Array(came)[beat_of(address)]):
                        bad = Array(failed)[beat_of(address)]
                        m.d.comb += [bus.ack.eq(~bad), bus.err.eq(bad)]
                        m.d.sync += address[:word_bits].eq(address[:word_bits] + 1)
                        with m.If(~burst | bad | address[:word_bits].all()):
                            m.d.sync += answering.eq(0)
                with m.If(~receiving & ~answering):
                    m.next = "IDLE"

            with m.State("WRITE"):
                with m.If(port.awready):
                    m.d.sync += port.awvalid.eq(0)
                with m.If(port.wready):
                    m.d.sync += port.wvalid.eq(0)
                with m.If(~bus.cyc):
                    m.d.sync += answering.eq(0)
                m.d.comb += port.bready.eq(1)
                with m.If(port.bvalid):
                    m.d.sync += write_failed.eq(port.bresp.as_value()[1])
                    m.next = "WRITTEN"

            with m.State("WRITTEN"):
                with m.If(answering & bus.cyc):
                    m.d.comb += [bus.ack.eq(~write_failed), bus.err.eq(write_failed)]
                m.next = "IDLE"
        return m
