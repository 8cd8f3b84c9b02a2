"""The stream reader: linear reads from memory, as fast as the bus delivers them."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import crc, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale.gateware import axi
from tamale.gateware.beat_fifo import BeatFifo
from tamale.gateware.bursts import BurstSplitter, burst_beats, inside
from tamale.gateware.interfaces import ADDRESS_BITS, Addresses, Descriptor, Fault, FaultLayout

__all__ = ["StreamChecksum", "StreamReader"]


class StreamReader(wiring.Component):
    """Turns descriptors into one gapless stream of beats.

    A descriptor is cut into the longest bursts, at multiples of the longest burst, so that a long
    sweep meets the fewest turnarounds in the memory. A burst is asked for only when the FIFO has
    room for all of it (credits), hence ``rready`` is always 1. Bursts of one descriptor follow
    those of the one before without a bubble, up to one burst every other cycle; data come in order,
    under one identifier.

    The first ``arvalid`` rises six cycles after a descriptor was taken by an idle reader; a beat
    leaves three cycles after it arrived. One beat per cycle is sustained when the memory has
    ``max_outstanding`` bursts to cover its latency.

    A descriptor that leaves the readable regions, wraps round, or is not aligned to a beat is a
    fault: nothing of it is read, everything before it still is. An error response is a fault: its
    beat and all that follow are dropped, no further burst is asked for. In both cases the
    remaining descriptors are forgotten, bursts in flight are drained, and the reader takes nothing
    until ``clear``. Zero beats are no operation, whatever the address.

    Parameters
    ----------
    config : Config
        ``bus_width``, ``fifo_beats`` and ``max_outstanding`` matter.

    Members
    -------
    descriptors : ``In(stream.Signature(Descriptor))``
        What to read.
    o : ``Out(stream.Signature(bus_width))``
        The beats.
    memory : ``Out(axi.Signature(data_width=bus_width))``
        Only the read channels are used; the write channels stay silent.
    addresses : ``In(Addresses)``
        Readable are [read_base, read_limit) and [kv_base, kv_limit), in bytes.
    clear : ``In(1)``
        Pulse: forgets descriptors, beats and the fault. Bursts in flight are drained and dropped
        before the next descriptor is taken.
    fault, fault_valid : ``Out(FaultLayout)``, ``Out(1)``
        The first fault, from its detection until ``clear``.
    idle : ``Out(1)``
        No descriptor is in work and no burst is in flight; the FIFO may still hold beats.
    beat : ``Out(1)``
        For the counters: a beat arrived in this cycle.
    fifo_full : ``Out(1)``
        A burst waits for room in the FIFO.
    waiting : ``Out(1)``
        A burst is in flight, and no beat arrived in this cycle.

    Source: AMBA AXI Protocol Specification (ARM IHI 0022), issue H, A3.4.1.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "descriptors": In(stream.Signature(Descriptor)),
                "o": Out(stream.Signature(config.bus_width)),
                "memory": Out(axi.Signature(addr_width=ADDRESS_BITS, data_width=config.bus_width)),
                "addresses": In(Addresses),
                "clear": In(1),
                "fault": Out(FaultLayout),
                "fault_valid": Out(1),
                "idle": Out(1),
                "beat": Out(1),
                "fifo_full": Out(1),
                "waiting": Out(1),
            }
        )

    @property
    def burst_beats(self):
        """Beats of the longest burst; at least two of them fit into the FIFO."""
        return min(burst_beats(self._config), self._config.fifo_beats // 2)

    def elaborate(self, platform):
        m = Module()
        config, memory = self._config, self.memory
        beat_shift = config.beat_bytes.bit_length() - 1
        m.submodules.splitter = splitter = BurstSplitter(config, self.burst_beats)
        m.submodules.fifo = fifo = BeatFifo(config.bus_width, config.fifo_beats)

        # A fault stops the reader until `clear`; after `clear` it waits for the bursts in flight.
        stopped, flushing = Signal(), Signal()
        # What was in flight before a bounds fault is good; what follows an error response is not.
        spoilt = Signal()
        m.d.comb += [
            stopped.eq(self.fault_valid | flushing),
            splitter.clear.eq(self.clear | stopped),
            fifo.clear.eq(self.clear | flushing),
        ]

        # Two stages before the splitter: the last beat's index, then the comparisons.
        summed, checked = Signal(), Signal()
        sum_address, check_address = Signal(ADDRESS_BITS), Signal(ADDRESS_BITS)
        sum_last, check_last = Signal(ADDRESS_BITS + 1), Signal(ADDRESS_BITS + 1)
        sum_empty, check_empty, allowed = Signal(), Signal(), Signal()
        check_free, refused = Signal(), Signal()
        descriptor, addresses = self.descriptors.payload, self.addresses
        m.d.comb += [
            # A refused descriptor waits until everything before it has been asked for.
            refused.eq(checked & ~check_empty & ~allowed & splitter.idle),
            splitter.i.valid.eq(checked & ~check_empty & allowed),
            splitter.i.payload.first.eq(check_address[beat_shift:]),
            splitter.i.payload.last.eq(check_last),
            check_free.eq(~checked | check_empty | (allowed & splitter.i.ready)),
        ]
        # From a register, for the one who offers them is far away. What is taken during `clear`, or
        # in the cycle in which a fault shows, is forgotten, too.
        taken = self.descriptors.valid & self.descriptors.ready
        m.d.sync += self.descriptors.ready.eq(~summed & ~taken & ~stopped & ~self.clear)
        with m.If(check_free):
            m.d.sync += [
                checked.eq(summed),
                check_address.eq(sum_address),
                check_last.eq(sum_last),
                check_empty.eq(sum_empty),
                allowed.eq(
                    (sum_address[:beat_shift] == 0)
                    & (
                        inside(
                            config, sum_address, sum_last, addresses.read_base, addresses.read_limit
                        )
                        | inside(
                            config, sum_address, sum_last, addresses.kv_base, addresses.kv_limit
                        )
                    )
                ),
                summed.eq(0),
            ]
        with m.If(taken):
            m.d.sync += [
                summed.eq(1),
                sum_address.eq(descriptor.address),
                sum_last.eq(descriptor.address[beat_shift:] + descriptor.beats - 1),
                sum_empty.eq(descriptor.beats == 0),
            ]
        with m.If(self.clear | stopped):
            m.d.sync += [summed.eq(0), checked.eq(0)]

        # A burst goes to the address register when its beats have room in the FIFO and a slot is
        # free. Both are found out the cycle before: until the burst is issued, they only grow.
        credit = Signal(range(config.fifo_beats + 1), init=config.fifo_beats)
        in_flight = Signal(range(config.max_outstanding + 1))
        burst = splitter.o.payload
        slot_free, room, issue, ended, popped = Signal(), Signal(), Signal(), Signal(), Signal()
        issued_before, spent = Signal(), Signal(range(self.burst_beats + 1))
        compared, offered, full = Signal(), Signal(), Signal()
        m.d.sync += [
            compared.eq(offered & ~issue & ~issued_before),
            room.eq(offered & ~issue & ~issued_before & (credit > burst.length)),
            full.eq(in_flight == config.max_outstanding),
        ]
        m.d.comb += [
            # Cycles are lost between two bursts, which costs nothing while one has many beats.
            slot_free.eq(~full & ~memory.arvalid),
            offered.eq(splitter.o.valid & ~stopped & ~self.clear),
            issue.eq(room & slot_free & offered),
            splitter.o.ready.eq(room & slot_free & ~stopped),
            self.fifo_full.eq(compared & slot_free & ~room & offered),
            ended.eq(memory.rvalid & memory.rlast),
            memory.arsize.eq(beat_shift),
            memory.arburst.eq(axi.Burst.INCR),
            memory.rready.eq(1),
        ]
        m.d.sync += [
            popped.eq(self.o.valid & self.o.ready),
            issued_before.eq(issue),
            spent.eq(Mux(issue, burst.length + 1, 0)),
            credit.eq(credit + popped - spent),
            in_flight.eq(in_flight + issue - ended),
        ]
        with m.If(issue):
            m.d.sync += [
                memory.arvalid.eq(1),
                memory.araddr.eq(burst.address),
                memory.arlen.eq(burst.length),
            ]
        with m.Elif(memory.arready):
            m.d.sync += memory.arvalid.eq(0)

        # Addresses of the bursts in flight, to name the one that fails.
        depth = max(2, 1 << (config.max_outstanding - 1).bit_length())
        m.submodules.issued = issued = Memory(shape=ADDRESS_BITS - beat_shift, depth=depth, init=[])
        entry, oldest = issued.write_port(), issued.read_port(domain="comb")
        m.d.comb += [
            entry.en.eq(issue),
            entry.data.eq(burst.address[beat_shift:]),
        ]
        m.d.sync += [
            entry.addr.eq(entry.addr + issue),
            oldest.addr.eq(oldest.addr + ended),
        ]

        failed = Signal()
        m.d.comb += [
            failed.eq(
                memory.rvalid
                & ((memory.rresp == axi.Response.SLVERR) | (memory.rresp == axi.Response.DECERR))
            ),
            fifo.i.valid.eq(memory.rvalid & ~failed & ~spoilt),
            fifo.i.payload.eq(memory.rdata),
            self.beat.eq(memory.rvalid),
            self.waiting.eq((in_flight != 0) & ~memory.rvalid),
            self.idle.eq(~summed & ~checked & splitter.idle & (in_flight == 0) & ~flushing),
        ]
        wiring.connect(m, wiring.flipped(self.o), fifo.o)

        with m.If(self.clear):
            m.d.sync += [self.fault_valid.eq(0), flushing.eq(1), spoilt.eq(0)]
        with m.Elif(flushing):
            with m.If(in_flight == 0):
                m.d.sync += [flushing.eq(0), credit.eq(config.fifo_beats)]
        with m.Else():
            with m.If(failed):
                m.d.sync += spoilt.eq(1)
            with m.If(self.fault_valid):
                pass  # the first fault stays
            with m.Elif(failed):
                m.d.sync += [
                    self.fault_valid.eq(1),
                    self.fault.code.eq(Fault.READ_ERROR),
                    self.fault.info.eq(oldest.data << beat_shift),
                ]
            with m.Elif(refused):
                m.d.sync += [
                    self.fault_valid.eq(1),
                    self.fault.code.eq(Fault.READ_BOUNDS),
                    self.fault.info.eq(check_address),
                ]
        return m


class StreamChecksum(wiring.Component):
    """CRC-32 of a stream of beats, to check a region of memory as fast as it can be read.

    The result is that of ``zlib.crc32`` over the bytes, lowest byte of a beat first. One beat per
    cycle; ``crc`` is final, and ``done`` rises, in the cycle after the last beat was taken.

    Parameters
    ----------
    config : Config
        ``bus_width`` matters.

    Members
    -------
    start : ``In(1)``
        Pulse: forgets the last sum and takes the next ``beats`` beats.
    beats : ``In(32)``
        How many; read with ``start``.
    i : ``In(stream.Signature(bus_width))``
        The beats; none is taken while ``done`` is high, and one of the cycle of ``start`` is lost.
    crc : ``Out(32)``
        The sum of the beats so far.
    done : ``Out(1)``
        All beats were taken; also before the first ``start``.

    Source: ISO/IEC 13239 frame check sequence (CRC-32/ISO-HDLC of the RevEng catalogue).
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "beats": In(32),
                "i": In(stream.Signature(config.bus_width)),
                "crc": Out(32),
                "done": Out(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width = self._config.bus_width
        # A CRC is linear: each bit of the next remainder is the parity of some bits of this one and
        # of the beat. Which bits, the software of the same library says. (Its hardware builds a
        # chain of operators as long as the beat is wide, too deep for wide buses.)
        standard = crc.catalog.CRC32_ISO_HDLC
        remainder = Signal(32, init=standard.initial_crc)
        taken, following = Signal(), Signal(32)
        sources = []
        for bit in range(32):
            sources.append((remainder[bit], self._remainder(1 << bit, 0)))
        for bit in range(width):
            # Lowest bit of the beat first, as the standard's reflected input demands.
            sources.append((self.i.payload[bit], self._remainder(0, 1 << (width - 1 - bit))))
        for bit in range(32):
            operands = [source for source, effect in sources if effect >> bit & 1]
            m.d.comb += following[bit].eq(Cat(operands).xor())
        left = Signal(32)
        m.d.comb += [
            self.i.ready.eq(~self.done),
            taken.eq(self.i.valid & self.i.ready),
            self.crc.eq(remainder[::-1] ^ standard.xor_output),
        ]
        with m.If(taken):
            m.d.sync += remainder.eq(following)
        with m.If(self.start):
            m.d.sync += remainder.eq(standard.initial_crc)
        with m.If(self.start):
            m.d.sync += [left.eq(self.beats), self.done.eq(self.beats == 0)]
        with m.Elif(taken):
            m.d.sync += [left.eq(left - 1), self.done.eq(left == 1)]
        return m

    def _remainder(self, remainder, beat):
        """Return what a remainder becomes with a beat, both most significant bit first."""
        plain = crc.Algorithm(
            crc_width=32,
            polynomial=crc.catalog.CRC32_ISO_HDLC.polynomial,
            initial_crc=remainder,
            reflect_input=False,
            reflect_output=False,
            xor_output=0,
        )
        return plain(self._config.bus_width).compute([beat])
