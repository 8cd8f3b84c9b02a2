"""Controller for single-data-rate SDRAM, made for long linear reads.

Source: JEDEC 21-C, section 3.11.5 (SDRAM commands and timing); AMBA AXI (ARM IHI 0022).
"""

from dataclasses import dataclass
from fractions import Fraction

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from . import axi

__all__ = [
    "GW2AR_18", "IS42S16160G_7", "TINY", "PARTS", "SdramController", "SdramPart", "SdramPins",
]  # fmt: skip


@dataclass(frozen=True)
class SdramPart:
    """Geometry and timing of one SDRAM chip.

    Attributes
    ----------
    name : str
        Marking of the chip.
    banks : int
        Number of banks: 2 or 4.
    row_bits, column_bits, data_bits : int
        Bits of a row address, of a column address, and of the data bus.
    t_rp, t_rcd, t_rfc, t_ras, t_rc, t_wr, t_rrd, t_mrd : float
        Nanoseconds: precharge, activate to read or write, refresh, activate to precharge, activate
        to activate in one bank, last word written to precharge, activate to activate in different
        banks, mode register set to any command.
    t_refi : float
        Nanoseconds between two refreshes on average.
    t_ck : tuple of (int, float)
        CAS latency, and the shortest clock period in nanoseconds that allows it.
    t_ras_max : float
        Nanoseconds for which a row may stay open.

    Raises
    ------
    ValueError
        If a value cannot be that of an SDRAM, or the timings contradict each other.
    """

    name: str
    banks: int
    row_bits: int
    column_bits: int
    data_bits: int
    t_rp: float
    t_rcd: float
    t_rfc: float
    t_ras: float
    t_rc: float
    t_wr: float
    t_rrd: float
    t_mrd: float
    t_refi: float
    t_ck: tuple
    t_ras_max: float = 100_000

    def __post_init__(self):
        def check(field, low, high):
            value = getattr(self, field)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(
                    f"{field} of {self.name} must be an integer from {low} to {high}, not {value!r}"
                )

        if self.banks not in (2, 4):
            raise ValueError(f"banks of {self.name} must be 2 or 4, not {self.banks!r}")
        check("row_bits", 2, 14)
        check("column_bits", 3, 10)
        if self.data_bits not in (8, 16, 32):
            raise ValueError(
                f"data_bits of {self.name} must be 8, 16 or 32, not {self.data_bits!r}"
            )
        for field in ("t_rp", "t_rcd", "t_rfc", "t_ras", "t_rc", "t_wr", "t_rrd", "t_mrd"):
            if not 0 < getattr(self, field) <= 1000:
                raise ValueError(
                    f"{field} of {self.name} must be more than 0 and at most 1000 ns, not "
                    f"{getattr(self, field)!r}: times are in nanoseconds"
                )
        if self.t_refi <= 2 * (self.t_rfc + self.t_rc):
            raise ValueError(
                f"t_refi of {self.name} is {self.t_refi!r} ns, which leaves no time besides "
                f"refreshing: state the interval per row in nanoseconds"
            )
        if not self.t_ck or any(latency not in (2, 3) for latency, _ in self.t_ck):
            raise ValueError(
                f"t_ck of {self.name} must be pairs of a CAS latency of 2 or 3 and a period, not "
                f"{self.t_ck!r}"
            )

    @property
    def size(self):
        """Bytes in the chip."""
        return self.banks << (self.row_bits + self.column_bits + exact_log2(self.data_bits // 8))

    @property
    def page(self):
        """Bytes in one row of one bank."""
        return self.data_bits // 8 << self.column_bits

    @property
    def address_bits(self):
        """Width of the address pins: rows, or A10 that says "all banks"."""
        return max(self.row_bits, 11)

    def cycles(self, nanoseconds, clock_hz):
        """Return the clock cycles that last at least so many nanoseconds."""
        return -(-Fraction(str(nanoseconds)) * clock_hz // 10**9)

    def refresh_interval(self, clock_hz, postponed):
        """Return the cycles from one refresh to the next.

        With ``postponed`` refreshes outstanding a row waits so many intervals longer than usual;
        the interval is shortened by as much, so that no row ever waits for longer than it may.
        """
        rows = 1 << self.row_bits
        return int(Fraction(str(self.t_refi)) * clock_hz * rows // (rows + postponed) // 10**9)

    def cas_latency(self, clock_hz):
        """Return the smallest CAS latency that the clock allows."""
        for latency, period in sorted(self.t_ck):
            if Fraction(str(period)) * clock_hz <= 10**9:
                return latency
        fastest = min(period for _, period in self.t_ck)
        raise ValueError(
            f"{self.name} cannot be clocked at {clock_hz!r} Hz; its limit is "
            f"{int(10**9 / fastest)} Hz: lower the clock or choose a faster part"
        )


#: 32 MB chip of the ULX3S boards.
IS42S16160G_7 = SdramPart(
    name="IS42S16160G-7",
    banks=4,
    row_bits=13,
    column_bits=9,
    data_bits=16,
    t_rp=15,
    t_rcd=15,
    t_rfc=60,
    t_ras=37,
    t_rc=60,
    t_wr=14,
    t_rrd=14,
    t_mrd=14,
    t_refi=7812.5,  # 8192 rows in 64 ms
    t_ck=((2, 10), (3, 7)),
)

#: 8 MB chip in the package of Gowin's GW2AR-18. Gowin says its geometry and that it takes 166 MHz
#: (DS226), not which chip it is. LiteX takes it for an M12L64322A, whose figures in LiteDRAM are
#: nowhere slower than these.
GW2AR_18 = SdramPart(
    name="GW2AR-18",
    banks=4,
    row_bits=11,
    column_bits=8,
    data_bits=32,
    t_rp=20,
    t_rcd=20,
    t_rfc=70,
    t_ras=49,
    t_rc=70,
    t_wr=15,
    t_rrd=15,
    t_mrd=15,
    t_refi=15625,  # 2048 rows in 32 ms
    t_ck=((2, 10), (3, 7)),
)

#: 8 KB chip that exists in tests only: every bank and row is met within a short simulation.
TINY = SdramPart(
    name="tiny",
    banks=4,
    row_bits=5,
    column_bits=5,
    data_bits=16,
    t_rp=20,
    t_rcd=20,
    t_rfc=70,
    t_ras=45,
    t_rc=70,
    t_wr=15,
    t_rrd=15,
    t_mrd=15,
    t_refi=1500,
    t_ck=((2, 10), (3, 7)),
    t_ras_max=20_000,
)

#: Parts by name.
PARTS = {part.name: part for part in (IS42S16160G_7, GW2AR_18, TINY)}


class SdramPins(wiring.Signature):
    """Pins of an SDRAM as its controller sees them.

    The clock pin is not among them: it belongs to the board, which also chooses its phase.

    Parameters
    ----------
    part : SdramPart
        Chip whose pins these are.

    Members
    -------
    cke, cs_n, ras_n, cas_n, we_n : Out(1)
        Clock enable and command; ``_n`` pins are active low.
    ba, a : Out
        Bank and address.
    dqm : Out
        Byte masks, one bit per byte of the data bus.
    dq_o, dq_oe, dq_i
        Data to the chip, its output enable, and data from the chip.
    """

    def __init__(self, part):
        self._part = part
        super().__init__(
            {
                "cke": Out(1, init=1),
                "cs_n": Out(1, init=1),
                "ras_n": Out(1, init=1),
                "cas_n": Out(1, init=1),
                "we_n": Out(1, init=1),
                "ba": Out(exact_log2(part.banks)),
                "a": Out(part.address_bits),
                "dqm": Out(part.data_bits // 8),
                "dq_o": Out(part.data_bits),
                "dq_oe": Out(1),
                "dq_i": In(part.data_bits),
            }
        )

    def __eq__(self, other):
        return isinstance(other, SdramPins) and self._part == other._part

    def __repr__(self):
        return f"SdramPins({self._part.name})"


class SdramController(wiring.Component):
    """AXI4 subordinate that reads an SDRAM at one word a clock for as long as addresses follow.

    Every AXI beat is one READ or WRITE command with a burst of ``data_width / data_bits`` words,
    so nothing is fetched in vain, and the command bus has room for the rows that come next.
    Consecutive pages lie in consecutive banks: an address is, from low to high, column, bank, row.
    Transactions are cut into pieces within a page; while one piece streams, the rows of the next
    pieces are opened, so that the data of consecutive bursts follow each other without a gap if
    the next address was accepted early enough: some 20 clocks before the last word.

    Reads are answered in the order of their addresses, identifiers being returned as they came;
    so are writes. Reads and writes take turns, a read burst against a piece of a write of at most
    ``write_fifo // 2`` beats. A write is begun only when its data is there, so a manager may send
    an address long before the data. A read whose address is accepted after a write's ``bvalid``
    sees the write.

    Beats beyond the end of the chip answer DECERR; bursts that are not INCR, or not of full-width
    beats, answer SLVERR; neither touches the chip. Read data wait in a FIFO; a READ is not issued
    before there is room for its answer, so ``rready`` may stay low without limit, and refreshes
    go on meanwhile.

    Refreshes are owed until `postpone` of them are due or nothing else is to be done, then they are
    made up for one after the other. The rows in use are opened again afterwards.

    Parameters
    ----------
    part : SdramPart
        The chip.
    clock_hz : int
        Frequency of the ``sync`` domain and of the chip.
    cas_latency : int or None
        2 or 3; None chooses the smallest that the clock allows.
    data_width : int
        Bits of an AXI beat: 1, 2, 4 or 8 words of the chip.
    addr_width, id_width : int
        Bits of AXI addresses and identifiers.
    read_fifo, write_fifo : int
        Beats that the FIFOs hold.
    queue : int
        Read addresses, and write addresses, that wait.
    postpone : int
        Refreshes that are done together when the memory is busy, 1 to 8.
    read_delay : int
        Clocks by which data arrive later than from a chip that is clocked by the same edge: 0 to 3.
        Registers in the pads count here.
    power_up_us : int or float
        Microseconds to wait before the first command; simulations shorten it.

    Members
    -------
    axi : In(axi.Signature)
        Memory port.
    pins : Out(SdramPins)
        The chip; all outputs come from registers.
    read_word, write_word : Out(1)
        A word of data was taken from, or is on, the pins (observation only).
    refreshing : Out(1)
        In this clock no word was read because of refreshes or the rows that they closed; in step
        with `read_word`.
    initialised : Out(1)
        The chip has been set up; addresses are accepted, but wait, before.

    Raises
    ------
    ValueError
        If the part cannot run at the clock, or a parameter is out of its range.
    """

    def __init__(
        self,
        part,
        clock_hz,
        *,
        cas_latency=None,
        data_width=32,
        addr_width=32,
        id_width=1,
        read_fifo=32,
        write_fifo=32,
        queue=4,
        postpone=8,
        read_delay=0,
        power_up_us=200,
    ):
        if not isinstance(part, SdramPart):
            raise TypeError(f"part must be an SdramPart, not {part!r}; known ones are in PARTS")
        if not isinstance(clock_hz, int) or clock_hz < 1_000_000:
            raise ValueError(
                f"clock_hz must be an integer of at least 1000000 Hz, not {clock_hz!r}"
            )
        smallest = part.cas_latency(clock_hz)
        if cas_latency is None:
            cas_latency = smallest
        allowed = [latency for latency, _ in part.t_ck if latency >= smallest]
        if cas_latency not in allowed:
            raise ValueError(
                f"cas_latency of {part.name} at {clock_hz} Hz must be one of {allowed}, not "
                f"{cas_latency!r}"
            )
        words = [part.data_bits * count for count in (1, 2, 4, 8)]
        if data_width not in words:
            raise ValueError(
                f"data_width with the {part.data_bits}-bit {part.name} must be one of {words}, not "
                f"{data_width!r}: put a width converter before the controller"
            )
        signature = axi.Signature(addr_width=addr_width, data_width=data_width, id_width=id_width)
        for name, value, low, high in (
            ("read_fifo", read_fifo, 4, 4096),
            ("write_fifo", write_fifo, 4, 4096),
            ("queue", queue, 2, 64),
            ("postpone", postpone, 1, 8),
            ("read_delay", read_delay, 0, 3),
        ):
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be an integer from {low} to {high}, not {value!r}")
        if not 0 < power_up_us <= 10_000:
            raise ValueError(
                f"power_up_us must be more than 0 and at most 10000 us, not {power_up_us!r}"
            )

        self.part = part
        self.clock_hz = clock_hz
        self.cas_latency = cas_latency
        self.data_width = data_width
        self.id_width = id_width
        self.read_fifo = read_fifo
        self.write_fifo = write_fifo
        self.queue = queue
        self.postpone = postpone
        self.read_delay = read_delay
        self.power_up = max(1, part.cycles(1000 * power_up_us, clock_hz))
        super().__init__(
            {
                "axi": In(signature),
                "pins": Out(SdramPins(part)),
                "read_word": Out(1),
                "write_word": Out(1),
                "refreshing": Out(1),
                "initialised": Out(1),
            }
        )

    @property
    def burst(self):
        """Words of the chip in an AXI beat."""
        return self.data_width // self.part.data_bits

    @property
    def timing(self):
        """Timings of the part in clock cycles, by name."""
        names = ("t_rp", "t_rcd", "t_rfc", "t_ras", "t_rc", "t_wr", "t_rrd", "t_mrd")
        timing = {
            name: int(self.part.cycles(getattr(self.part, name), self.clock_hz)) for name in names
        }
        # A row that stays open for tRC - tRP needs no separate count of tRC.
        timing["t_ras"] = max(timing["t_ras"], timing["t_rc"] - timing["t_rp"])
        return timing

    @property
    def refresh_interval(self):
        """Clock cycles from one refresh to the next."""
        return self.part.refresh_interval(self.clock_hz, self.postpone)

    def elaborate(self, platform):
        m = Module()
        m.submodules.front = front = _Front(self)
        m.submodules.back = back = _Back(self)
        wiring.connect(m, wiring.flipped(self.axi), front.axi)
        wiring.connect(m, wiring.flipped(self.pins), back.pins)
        for name in ("piece", "write_data", "write_done", "read_data"):
            wiring.connect(m, getattr(front, name), getattr(back, name))
        m.d.comb += [
            back.read_room.eq(front.read_room),
            self.read_word.eq(back.read_word),
            self.write_word.eq(back.write_word),
            self.refreshing.eq(back.refreshing),
            self.initialised.eq(back.initialised),
        ]
        return m


class _Layouts:
    """What travels between the two halves of a controller.

    A *piece* is a run of beats within one page, of one transaction.
    """

    def __init__(self, controller):
        part = controller.part
        #: Bits of the number of a beat within its page.
        self.beat_bits = part.column_bits - exact_log2(controller.burst)
        self.page_beats = 1 << self.beat_bits
        self.piece = data.StructLayout(
            {
                "write": 1,
                "response": axi.Response,
                "bank": exact_log2(part.banks),
                "row": part.row_bits,
                "beat": self.beat_bits,
                "count": range(min(axi.MAX_BURST_BEATS, self.page_beats) + 1),
                "last": 1,
                "id": controller.id_width,
            }
        )
        self.write_data = data.StructLayout(
            {"data": controller.data_width, "strobe": controller.data_width // 8}
        )
        self.write_done = data.StructLayout({"response": axi.Response, "id": controller.id_width})
        self.read_data = data.StructLayout(
            {
                "data": controller.data_width,
                "response": axi.Response,
                "last": 1,
                "id": controller.id_width,
            }
        )


class _Front(wiring.Component):
    """AXI side: queues, and cutting of transactions into pieces.

    `write_done` and `read_data` are always ready: a write is begun, and a read issued, only when
    there is room for the answer; `read_room` pulses when a beat of room comes free.
    """

    def __init__(self, controller):
        self._controller = controller
        self._layouts = layouts = _Layouts(controller)
        super().__init__(
            {
                "axi": In(controller.axi.signature.flip()),
                "piece": Out(stream.Signature(layouts.piece)),
                "write_data": Out(stream.Signature(layouts.write_data)),
                "write_done": In(stream.Signature(layouts.write_done, always_ready=True)),
                "read_data": In(stream.Signature(layouts.read_data, always_ready=True)),
                "read_room": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, layouts, controller = self.axi, self._layouts, self._controller
        chunk = controller.write_fifo // 2
        reads = self._transactions(m, "ar", axi.MAX_BURST_BEATS)
        writes = self._transactions(m, "aw", min(chunk, axi.MAX_BURST_BEATS))

        # Answers wait here until the manager takes them.
        m.submodules.r_fifo = r_fifo = SyncFIFOBuffered(
            width=layouts.read_data.size, depth=controller.read_fifo
        )
        answer = data.View(layouts.read_data, r_fifo.r_data)
        m.d.comb += [
            r_fifo.w_data.eq(self.read_data.payload),
            r_fifo.w_en.eq(self.read_data.valid),
            bus.rvalid.eq(r_fifo.r_rdy),
            bus.rdata.eq(answer.data),
            bus.rresp.eq(answer.response),
            bus.rlast.eq(answer.last),
            r_fifo.r_en.eq(bus.rready),
            self.read_room.eq(r_fifo.r_rdy & bus.rready),
        ]
        m.submodules.b_fifo = b_fifo = SyncFIFOBuffered(
            width=layouts.write_done.size, depth=controller.queue
        )
        done = data.View(layouts.write_done, b_fifo.r_data)
        m.d.comb += [
            b_fifo.w_data.eq(self.write_done.payload),
            b_fifo.w_en.eq(self.write_done.valid),
            bus.bvalid.eq(b_fifo.r_rdy),
            bus.bresp.eq(done.response),
            b_fifo.r_en.eq(bus.bready),
        ]
        if controller.id_width:
            m.d.comb += [bus.rid.eq(answer.id), bus.bid.eq(done.id)]
        b_room = Signal(range(controller.queue + 1), init=controller.queue)

        m.submodules.w_fifo = w_fifo = SyncFIFOBuffered(
            width=layouts.write_data.size, depth=controller.write_fifo
        )
        m.d.comb += [
            w_fifo.w_data.eq(Cat(bus.wdata, bus.wstrb)),
            w_fifo.w_en.eq(bus.wvalid & bus.wready),
            self.write_data.payload.eq(w_fifo.r_data),
            self.write_data.valid.eq(w_fifo.r_rdy),
            w_fifo.r_en.eq(self.write_data.ready),
        ]
        # From a register: a beat may come in this cycle, and one in the next.
        m.d.sync += bus.wready.eq(w_fifo.level <= controller.write_fifo - 3)
        # Beats that have arrived and that no piece counts on yet.
        unclaimed = Signal(range(controller.write_fifo + 1))
        enough = Signal()

        # Reads and writes take turns, so that neither waits for ever.
        write_next = Signal()
        can_read, can_write, choose_write = Signal(), Signal(), Signal()
        read_chosen, write_chosen = Signal(), Signal()
        emit_read, emit_write = Signal(), Signal()
        out = self.piece
        m.d.comb += [
            can_read.eq(reads.busy & reads.counted),
            can_write.eq(writes.busy & writes.counted & enough & (b_room != 0)),
            choose_write.eq(can_write & (write_next | ~can_read)),
            emit_write.eq(write_chosen & ~out.valid),
            emit_read.eq(read_chosen & ~out.valid),
        ]
        # What may be emitted stays so until it is.
        with m.If(emit_read | emit_write):
            m.d.sync += [read_chosen.eq(0), write_chosen.eq(0)]
        with m.Elif(~read_chosen & ~write_chosen):
            m.d.sync += [read_chosen.eq(can_read & ~choose_write), write_chosen.eq(choose_write)]
        with m.If(out.ready):
            m.d.sync += out.valid.eq(0)
        for transaction, emit in ((reads, emit_read), (writes, emit_write)):
            beat, bank, row, beyond = _split(
                transaction.address,
                layouts.beat_bits,
                len(out.payload.bank),
                controller.part.row_bits,
            )
            response = Signal(axi.Response)
            with m.If(transaction.odd):
                m.d.comb += response.eq(axi.Response.SLVERR)
            with m.Elif(beyond.any()):
                m.d.comb += response.eq(axi.Response.DECERR)
            with m.If(emit):
                m.d.sync += [
                    out.valid.eq(1),
                    out.payload.write.eq(emit is emit_write),
                    out.payload.response.eq(response),
                    out.payload.beat.eq(beat),
                    out.payload.bank.eq(bank),
                    out.payload.row.eq(row),
                    out.payload.count.eq(transaction.count),
                    out.payload.last.eq(transaction.last),
                    out.payload.id.eq(transaction.id),
                    transaction.address.eq(transaction.address + transaction.count),
                    transaction.left.eq(transaction.left - transaction.count),
                    transaction.busy.eq(~transaction.last),
                    transaction.counted.eq(0),
                    write_next.eq(0 if emit is emit_write else transaction.last),
                ]

        w_taken = bus.wvalid & bus.wready
        m.d.sync += [
            unclaimed.eq(unclaimed + w_taken - Mux(emit_write, writes.count, 0)),
            b_room.eq(b_room + (bus.bvalid & bus.bready) - (emit_write & writes.last)),
            # The comparison is a clock late; after a piece it would still see what that one took.
            enough.eq(writes.counted & ~emit_write & (unclaimed >= writes.count)),
        ]
        return m

    def _transactions(self, m, channel, limit):
        """Queue the addresses of a channel, and cut one after the other into pieces.

        A piece has at most `limit` beats. Returns the registers of the transaction at work.
        """
        bus, controller = self.axi, self._controller
        bytes_log2 = exact_log2(controller.data_width // 8)
        shape = data.StructLayout(
            {
                "address": controller.axi.signature.addr_width - bytes_log2,
                "len": 8,
                "odd": 1,
                "id": controller.id_width,
            }
        )
        m.submodules[f"{channel}_fifo"] = fifo = SyncFIFOBuffered(
            width=shape.size, depth=controller.queue
        )
        entry = Signal(shape)
        head = data.View(shape, fifo.r_data)
        m.d.comb += [
            entry.address.eq(getattr(bus, channel + "addr")[bytes_log2:]),
            entry.len.eq(getattr(bus, channel + "len")),
            entry.odd.eq(
                (getattr(bus, channel + "burst") != axi.Burst.INCR)
                | (getattr(bus, channel + "size") != bytes_log2)
            ),
            fifo.w_data.eq(entry),
            fifo.w_en.eq(getattr(bus, channel + "valid")),
            getattr(bus, channel + "ready").eq(fifo.w_rdy),
        ]
        if controller.id_width:
            m.d.comb += entry.id.eq(getattr(bus, channel + "id"))
        now = _Transaction(channel, shape, self._layouts)

        # The beats of the next piece are counted in a clock of their own: what is left of the
        # transaction, of the page or of the limit, whichever is least.
        page = self._layouts.page_beats
        beat = Mux(now.busy, now.address, head.address)[: self._layouts.beat_bits]
        left = Mux(now.busy, now.left, head.len + 1)
        ends_here = (left + beat <= page) & (left <= limit)
        with m.If(~now.counted):
            m.d.sync += [
                now.counted.eq(now.busy | fifo.r_rdy),
                now.last.eq(ends_here),
                now.count.eq(Mux(ends_here, left, Mux(beat + limit <= page, limit, page - beat))),
            ]
        with m.If(~now.busy):
            m.d.comb += fifo.r_en.eq(1)
            m.d.sync += [
                now.busy.eq(fifo.r_rdy),
                now.address.eq(head.address),
                now.left.eq(head.len + 1),
                now.odd.eq(head.odd),
                now.id.eq(head.id),
            ]
        return now


class _Transaction:
    """Registers of the transaction that is being cut into pieces."""

    def __init__(self, channel, shape, layouts):
        most = min(axi.MAX_BURST_BEATS, layouts.page_beats)
        self.busy = Signal(name=f"{channel}_busy")
        self.address = Signal(shape["address"].shape, name=f"{channel}_address")
        self.left = Signal(range(axi.MAX_BURST_BEATS + 1), name=f"{channel}_left")
        self.odd = Signal(name=f"{channel}_odd")
        self.id = Signal(shape["id"].shape, name=f"{channel}_id")
        # The next piece: its beats, and whether it is the last; valid if counted.
        self.counted = Signal(name=f"{channel}_counted")
        self.count = Signal(range(most + 1), name=f"{channel}_count")
        self.last = Signal(name=f"{channel}_last")


def _split(value, *widths):
    """Cut a value into fields from the lowest bit up; the last one is what remains."""
    fields, start = [], 0
    for width in widths:
        fields.append(value[start : start + width])
        start += width
    return *fields, value[start:]


class _Timer:
    """Clocks until a command may follow another; `done` comes from a register.

    Started with n by a command that is decided in this clock, it is done for one that is decided
    n clocks later. Whoever starts it does so after creating it, so that the start prevails. One
    that is `begun` is counting after reset.
    """

    def __init__(self, m, name, most, *, begun=False):
        self.left = Signal(range(most + 1), name=name, init=most if begun else 0)
        self.done = Signal(name=f"{name}_done", init=not begun)
        with m.If(~self.done):
            m.d.sync += [self.left.eq(self.left - 1), self.done.eq(self.left == 1)]

    def start(self, m, clocks):
        """Add the statements that start the timer, where `m` stands."""
        m.d.sync += [self.left.eq(clocks - 1), self.done.eq(clocks <= 1)]


class _Back(wiring.Component):
    """SDRAM side: opens rows ahead, issues a READ or WRITE per beat, refreshes.

    A piece is *prepared* first: its row is opened, if need be after closing another. Prepared
    pieces wait in a FIFO and are served in order. ``pending`` counts, bank by bank, the prepared
    pieces that are not finished: their row stays open, and is opened again after a refresh.
    """

    #: Prepared pieces that can wait.
    AHEAD = 4

    def __init__(self, controller):
        self._controller = controller
        self._layouts = layouts = _Layouts(controller)
        super().__init__(
            {
                "pins": Out(SdramPins(controller.part)),
                "piece": In(stream.Signature(layouts.piece)),
                "write_data": In(stream.Signature(layouts.write_data)),
                "write_done": Out(stream.Signature(layouts.write_done, always_ready=True)),
                "read_data": Out(stream.Signature(layouts.read_data, always_ready=True)),
                "read_room": In(1),
                "read_word": Out(1),
                "write_word": Out(1),
                "refreshing": Out(1),
                "initialised": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        controller, layouts, pins = self._controller, self._layouts, self.pins
        part, timing = controller.part, controller.timing
        burst, latency = controller.burst, controller.cas_latency
        banks = range(part.banks)

        # The longer one of what a read and what a write needs.
        after_access = max(burst, burst - 1 + timing["t_wr"])
        opened = Signal(part.banks)
        rows = Array(Signal(part.row_bits, name=f"row_{bank}") for bank in banks)
        pending = Array(Signal(range(self.AHEAD + 4), name=f"pending_{bank}") for bank in banks)
        # A bank is opening (tRCD) or closing (tRP), never both.
        moving = [_Timer(m, f"moving_{b}", max(timing["t_rcd"], timing["t_rp"])) for b in banks]
        young = [_Timer(m, f"young_{b}", timing["t_ras"]) for b in banks]
        used = [_Timer(m, f"used_{b}", after_access) for b in banks]
        settled = Signal(part.banks)
        closable = Signal(part.banks)
        needed = Signal(part.banks)
        m.d.comb += [
            settled.eq(Cat(moving[b].done for b in banks)),
            closable.eq(Cat(young[b].done & used[b].done for b in banks)),
        ]
        # A clock late: a new piece is looked at no earlier, and an old one may keep its row longer.
        m.d.sync += needed.eq(Cat(pending[b] != 0 for b in banks))
        between_rows = _Timer(m, "between_rows", timing["t_rrd"])

        hold = Signal(init=1)  # neither rows nor beats: the chip is being refreshed or set up
        activate, precharge, access = Signal(), Signal(), Signal()
        precharge_all, refresh, set_mode = Signal(), Signal(), Signal()

        # Preparing.
        p, p_valid = Signal(layouts.piece), Signal()
        c, c_valid, c_done = Signal(layouts.piece), Signal(), Signal()
        m.submodules.prepared = prepared = SyncFIFOBuffered(
            width=layouts.piece.size, depth=self.AHEAD
        )
        # What is known of the bank of `p` is a clock old, that it is needed three: it counts from
        # `p_checked` on, and anew after every command to a row.
        p_touches, p_open, p_same = Signal(), Signal(), Signal()
        p_needed, p_closable = Signal(), Signal()
        p_age, p_checked = Signal(range(4)), Signal()
        p_done = Signal()
        m.d.comb += [
            p_done.eq(p_valid & p_checked & ~hold & (~p_touches | p_same) & prepared.w_rdy),
            prepared.w_en.eq(p_done),
            prepared.w_data.eq(p),
            self.piece.ready.eq(~p_valid | p_done),
        ]
        m.d.sync += [
            p_touches.eq(p.response == axi.Response.OKAY),
            p_open.eq(opened.bit_select(p.bank, 1)),
            p_same.eq(opened.bit_select(p.bank, 1) & (rows[p.bank] == p.row)),
            p_needed.eq(needed.bit_select(p.bank, 1)),
            p_closable.eq(closable.bit_select(p.bank, 1)),
        ]
        with m.If(self.piece.ready):
            m.d.sync += [p.eq(self.piece.payload), p_valid.eq(self.piece.valid)]
        with m.If(self.piece.ready | activate | precharge | hold):
            m.d.sync += [p_age.eq(0), p_checked.eq(0)]
        with m.Else():
            m.d.sync += [p_age.eq(p_age + ~p_age.all()), p_checked.eq(p_age >= 1)]

        # Rows that a refresh closed, the one that is waited for first, go before new ones. Chosen a
        # clock ahead; `opened` tells whether the choice has been carried out meanwhile.
        lost = Signal(part.banks)
        lost_bank, lost_any = Signal(range(part.banks)), Signal()
        m.d.comb += lost.eq(needed & ~opened)
        m.d.sync += lost_any.eq(lost.any())
        for bank in reversed(banks):
            with m.If(lost[bank]):
                m.d.sync += lost_bank.eq(bank)
        with m.If(c_valid & lost.bit_select(c.bank, 1)):
            m.d.sync += lost_bank.eq(c.bank)

        # The next command to a row waits here, chosen from registers, until it may be given.
        row_valid, row_closes = Signal(), Signal()
        row_settled = Signal()
        row_bank, row = Signal(range(part.banks)), Signal(part.row_bits)
        row_go = Signal()
        m.d.sync += row_settled.eq(row_valid & settled.bit_select(row_bank, 1))
        with m.If(hold | row_go):
            m.d.sync += [row_valid.eq(0), row_settled.eq(0)]
        with m.Elif(~row_valid & lost_any):
            m.d.sync += [
                row_valid.eq(~opened.bit_select(lost_bank, 1)),
                row_closes.eq(0),
                row_bank.eq(lost_bank),
                row.eq(rows[lost_bank]),
            ]
        with m.Elif(~row_valid):
            m.d.sync += [
                row_valid.eq(
                    p_valid & p_checked & p_touches & ~p_needed & ~p_same & (p_closable | ~p_open)
                ),
                row_closes.eq(p_open),
                row_bank.eq(p.bank),
                row.eq(p.row),
            ]

        # Serving: one access per beat.
        c_touches, follow = Signal(), Signal()
        c_ready = opened.bit_select(c.bank, 1) & settled.bit_select(c.bank, 1)
        if burst > 1:
            # For the next clock.
            soon = Cat(moving[b].done | (moving[b].left == 1) for b in banks)
            c_ready = opened.bit_select(c.bank, 1) & soon.bit_select(c.bank, 1)
        room = Signal(range(controller.read_fifo + 1), init=controller.read_fifo)
        spacing = _Timer(m, "spacing", burst)
        # The chip drives the pins until a clock after the last word; then it is our turn.
        turnaround = _Timer(m, "turnaround", latency + burst + 1)
        has_room = Signal()
        # Seen a clock late, one beat of room may be gone by now.
        m.d.sync += has_room.eq(room > 1)
        may_access, issue = Signal(), Signal()
        c_final = Signal()
        # The next beat to write. A beat of several words leaves time to fetch it, so that the queue
        # need not know of an access in its cycle.
        to_write, to_write_valid = Signal(layouts.write_data), Signal()
        to_write_soon = to_write_valid | self.write_data.valid
        if burst > 1:
            with m.If(~to_write_valid):
                m.d.sync += [
                    to_write.eq(self.write_data.payload),
                    to_write_valid.eq(self.write_data.valid),
                ]
            with m.If(issue & c.write):
                m.d.sync += to_write_valid.eq(0)
            m.d.comb += self.write_data.ready.eq(~to_write_valid)
        else:
            m.d.comb += [
                to_write.eq(self.write_data.payload),
                to_write_valid.eq(self.write_data.valid),
                self.write_data.ready.eq(issue & c.write),
            ]
        # Between two accesses the command bus is free; where it is not, and an access waits for its
        # row or for data, the row's command goes first.
        waiting = Signal()
        row_slot = ~hold & row_settled & between_rows.done
        if burst > 1:
            row_slot = row_slot & (~spacing.done | waiting)
        m.d.sync += waiting.eq(spacing.done & ~may_access)
        able = Signal()
        could = (
            c_valid
            & (~c_touches | c_ready)
            & Mux(c.write, to_write_soon & turnaround.done, has_room)
        )
        if burst > 1:
            # Found out the clock before: what can be accessed stays so until it is, and behind an
            # access there is time.
            m.d.sync += able.eq(could & ~issue & ~follow)
        else:
            m.d.comb += able.eq(could)
        m.d.comb += [
            row_go.eq(row_slot),
            activate.eq(row_slot & ~row_closes),
            precharge.eq(row_slot & row_closes),
            may_access.eq(able & ~hold & spacing.done),
            issue.eq(may_access & ~row_go),
            c_done.eq(issue & c_final),
            access.eq(issue & c_touches),
        ]
        # The next piece lies in a register, for the FIFO is too far away from here.
        upcoming, upcoming_valid = Signal(layouts.piece), Signal()
        upcoming_touches, upcoming_final = Signal(), Signal()
        fetched = data.View(layouts.piece, prepared.r_data)
        m.d.comb += [
            follow.eq(~c_valid | c_done),
            prepared.r_en.eq(~upcoming_valid),
        ]
        with m.If(~upcoming_valid):
            m.d.sync += [
                upcoming.eq(fetched),
                upcoming_valid.eq(prepared.r_rdy),
                upcoming_touches.eq(fetched.response == axi.Response.OKAY),
                upcoming_final.eq(fetched.count == 1),
            ]
        with m.Elif(follow):
            m.d.sync += upcoming_valid.eq(0)
        with m.If(follow):
            m.d.sync += [
                c.eq(upcoming),
                c_valid.eq(upcoming_valid),
                c_touches.eq(upcoming_touches),
                c_final.eq(upcoming_final),
            ]
        with m.Elif(issue):
            m.d.sync += [
                c.beat.eq(c.beat + 1),
                c.count.eq(c.count - 1),
                c_final.eq(c.count == 2),
            ]
        with m.If(issue):
            spacing.start(m, burst)
        with m.If(access & ~c.write):
            turnaround.start(m, latency + burst + 1)
        m.d.sync += room.eq(room + self.read_room - (issue & ~c.write))

        # A transaction's response is the union of its pieces'; DECERR contains SLVERR's bits.
        errors = Signal(2)
        with m.If(issue & c.write):
            m.d.sync += errors.eq(Mux(c_done & c.last, 0, errors | c.response.as_value()))
        m.d.sync += [
            self.write_done.valid.eq(c_done & c.write & c.last),
            self.write_done.payload.response.eq(errors | c.response.as_value()),
            self.write_done.payload.id.eq(c.id),
        ]

        # What the commands do to the banks.
        for bank in banks:
            begun = p_done & p_touches & (p.bank == bank)
            ended = c_done & c_touches & (c.bank == bank)
            m.d.sync += pending[bank].eq(pending[bank] + begun - ended)
            with m.If(activate & (row_bank == bank)):
                m.d.sync += [
                    opened[bank].eq(1),
                    rows[bank].eq(row),
                ]
                moving[bank].start(m, timing["t_rcd"])
                young[bank].start(m, timing["t_ras"])
            with m.If(precharge_all | precharge & (row_bank == bank)):
                m.d.sync += opened[bank].eq(0)
                moving[bank].start(m, timing["t_rp"])
            with m.If(access & (c.bank == bank)):
                used[bank].start(m, after_access)
        with m.If(activate):
            between_rows.start(m, timing["t_rrd"])

        busy = c_valid | upcoming_valid | p_valid
        self._refresh(m, hold, closable, precharge_all, refresh, set_mode, busy)
        # Clocks without an access because of a refresh, shifted to the words that are missing then.
        hindered, recovering = Signal(), Signal()
        away = hold | recovering & (lost_any | c_valid & c_touches & ~c_ready)
        m.d.sync += recovering.eq(away)
        m.d.comb += hindered.eq(self.initialised & away & spacing.done & ~issue)
        for _ in range(latency + 2 + controller.read_delay):
            delayed = Signal()
            m.d.sync += delayed.eq(hindered)
            hindered = delayed
        m.d.comb += self.refreshing.eq(hindered)

        # Command pins.
        all_banks = 1 << 10
        mode = latency << 4 | exact_log2(burst)
        m.d.sync += [
            pins.cs_n.eq(~(activate | precharge | access | precharge_all | refresh | set_mode)),
            pins.ras_n.eq(~(activate | precharge | precharge_all | refresh | set_mode)),
            pins.cas_n.eq(~(access | refresh | set_mode)),
            pins.we_n.eq(~(precharge | precharge_all | set_mode | access & c.write)),
            # Without a command they are of no matter, so an access need not be known here.
            pins.ba.eq(Mux(set_mode, 0, Mux(row_go, row_bank, c.bank))),
            pins.a.eq(Cat(Const(0, exact_log2(burst)), c.beat)),
        ]
        with m.If(set_mode):
            m.d.sync += pins.a.eq(mode)
        with m.Elif(precharge_all):
            m.d.sync += pins.a.eq(all_banks)
        with m.Elif(row_go):
            m.d.sync += pins.a.eq(Mux(row_closes, 0, row))

        self._data(m, issue, access, c, c_final, to_write)
        return m

    def _refresh(self, m, hold, closable, precharge_all, refresh, set_mode, busy):
        """Set the chip up, then count the refreshes that are owed and give it its time for them."""
        controller, timing = self._controller, self._controller.timing
        wait = _Timer(m, "wait", controller.power_up, begun=True)

        # Initialisation asks for eight refreshes: they are owed from the start.
        owed = Signal(range(16), init=8)
        interval = Signal(range(controller.refresh_interval))
        due = Signal()
        m.d.comb += due.eq(interval == 0)
        with m.If(self.initialised):
            m.d.sync += interval.eq(Mux(due, controller.refresh_interval - 1, interval - 1))
        with m.Else():
            m.d.sync += interval.eq(controller.refresh_interval - 1)
        m.d.sync += owed.eq(owed + (due & self.initialised) - refresh)

        idle = Signal(3)
        with m.If(busy | self.piece.valid | hold):
            m.d.sync += idle.eq(0)
        with m.Elif(~idle.all()):
            m.d.sync += idle.eq(idle + 1)

        with m.FSM(init="CLOSE"):
            with m.State("RUN"):
                with m.If((owed >= controller.postpone) | idle.all() & (owed != 0)):
                    m.d.sync += hold.eq(1)
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                # `hold` is seen from the first clock of this state on: no row is opened meanwhile.
                with m.If(closable.all() & wait.done):
                    m.d.comb += precharge_all.eq(1)
                    wait.start(m, timing["t_rp"])
                    m.next = "REFRESH"
            with m.State("REFRESH"):
                with m.If(wait.done):
                    with m.If(owed != 0):
                        m.d.comb += refresh.eq(1)
                        wait.start(m, timing["t_rfc"])
                    with m.Elif(~self.initialised):
                        m.d.comb += set_mode.eq(1)
                        wait.start(m, timing["t_mrd"])
                        m.next = "MODE"
                    with m.Else():
                        m.d.sync += hold.eq(0)
                        m.next = "RUN"
            with m.State("MODE"):
                with m.If(wait.done):
                    m.d.sync += [self.initialised.eq(1), hold.eq(0)]
                    m.next = "RUN"

    def _data(self, m, issue, access, c, c_final, to_write):
        """Move words between the pins and beats."""
        controller, pins = self._controller, self.pins
        burst, word = controller.burst, controller.part.data_bits

        # Written beats leave lowest word first; a mask of ones protects bytes.
        leaving = Signal(controller.data_width)
        masks = Signal(controller.data_width // 8, init=-1)
        driving = Signal(burst)
        with m.If(access & c.write):
            m.d.sync += [
                leaving.eq(to_write.data),
                masks.eq(~to_write.strobe),
                driving.eq(-1),
            ]
        with m.Else():
            m.d.sync += [
                leaving.eq(leaving >> word),
                masks.eq(masks >> (word // 8)),
                driving.eq(driving >> 1),
            ]
        m.d.comb += [
            pins.dq_o.eq(leaving),
            pins.dqm.eq(masks),
            pins.dq_oe.eq(driving[0]),
            self.write_word.eq(driving[0]),
        ]

        # An access that is decided now is on the pins in 1 clock, sampled by the chip at the end
        # of that clock, and answered so that the word is in our register CAS latency clocks later.
        first = controller.cas_latency + 2 + controller.read_delay
        token = data.StructLayout(
            {"valid": 1, "response": axi.Response, "last": 1, "id": controller.id_width}
        )
        tokens = [Signal(token, name=f"token_{index}") for index in range(first + burst - 1)]
        m.d.sync += [
            tokens[0].valid.eq(issue & ~c.write),
            tokens[0].response.eq(c.response),
            tokens[0].last.eq(c.last & c_final),
            tokens[0].id.eq(c.id),
        ]
        for earlier, later in zip(tokens, tokens[1:], strict=False):
            m.d.sync += later.eq(earlier)
        words = [Signal(word, name=f"word_{index}") for index in range(burst)]
        for earlier, later in zip([pins.dq_i, *words], words, strict=False):
            m.d.sync += later.eq(earlier)
        m.d.comb += [
            self.read_data.valid.eq(tokens[-1].valid),
            self.read_data.payload.data.eq(Cat(reversed(words))),
            self.read_data.payload.response.eq(tokens[-1].response),
            self.read_data.payload.last.eq(tokens[-1].last),
            self.read_data.payload.id.eq(tokens[-1].id),
            self.read_word.eq(
                Cat(
                    token.valid & (token.response == axi.Response.OKAY)
                    for token in tokens[first - 1 :]
                ).any()
            ),
        ]
