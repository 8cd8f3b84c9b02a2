"""The KV writer: quantised keys and values into the cache in memory."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware import axi
from tamale.gateware.beat_fifo import BeatFifo
from tamale.gateware.bursts import BurstSplitter, burst_beats, inside
from tamale.gateware.interfaces import (
    ADDRESS_BITS,
    Addresses,
    Fault,
    FaultLayout,
    IssueLayout,
    ScratchRead,
    UnitSignature,
)
from tamale.gateware.kvpack import KVPacker, StrobedBeat
from tamale.gateware.program import field
from tamale.isa import Kind, Op

__all__ = ["KVWriter"]


def _encode_scale(scalar):
    """Return the 16-bit float of a scalar, as ``tamale_model.integer.encode_scale`` does."""
    significand = (scalar.mantissa + 8) >> 4
    exponent = Signal(signed(13))
    code = Mux(
        (scalar.mantissa == 0) | (exponent < 0),
        0,
        Mux(exponent > 31, 0xFFFF, Cat(significand[:11], exponent[:5])),
    )
    # Rounding up to the next power of two leaves zeros in the low bits, so only the exponent moves.
    return exponent.eq(scalar.exponent + 35 + significand[12]), code


class KVWriter(wiring.Component):
    """Performs KVWRITE: one head's key or value of one position, packed and written.

    A KEY goes to ``kv_base[slot] + layer * kv_layer_stride + head * key_head_stride + tile *
    record_bytes``; only bytes of its row and its scales are written. A VALUE goes to ``... +
    value_base + head * value_head_stride + block * block_bytes``; the whole block is written.

    The command is done (``done_valid``) when the scratchpad has been read and the range has been
    found inside the cache. Memory is written meanwhile and afterwards; ``completed`` tells when it
    has acknowledged everything, never before done. The next command is taken after that. A burst
    is asked for when all its beats are at hand, so the memory never waits for data; one burst is
    in flight.

    Computing the address takes max(planes, steps) + bits(layer) + bits(head) + bits(tile or block)
    + 10 cycles beside the packing, whose speed `KVPacker` states.

    A range outside the cache is a fault and nothing is written; an error response is a fault and
    nothing more is written. Neither is followed by ``completed``, nor by ``done_valid`` if that has
    not been yet; the unit takes no command until ``clear``.

    Parameters
    ----------
    config : Config

    Members
    -------
    unit : ``Out(UnitSignature())``
        Issue and done; ``result`` is zero. ``p`` is the scale, ``q`` the auxiliary scale.
    a, b : ``Out(ScratchRead(config))``
        New values, old block.
    memory : ``Out(axi.Signature(data_width=bus_width))``
        Only the write channels are used; the read channels stay silent.
    addresses : ``In(Addresses)``
        Written is only [kv_base, kv_limit).
    clear : ``In(1)``
        Pulse: forgets the command in work and the fault; a burst on the bus is finished first.
    completed : ``Out(1)``
        Pulse for each command whose writes have all been acknowledged.
    fault, fault_valid : ``Out(FaultLayout)``, ``Out(1)``
        From its detection until ``clear``.
    idle : ``Out(1)``
        No command is in work, nothing is in flight.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "a": Out(ScratchRead(config)),
                "b": Out(ScratchRead(config)),
                "memory": Out(axi.Signature(addr_width=ADDRESS_BITS, data_width=config.bus_width)),
                "addresses": In(Addresses),
                "clear": In(1),
                "completed": Out(1),
                "fault": Out(FaultLayout),
                "fault_valid": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, memory, addresses = self._config, self.memory, self.addresses
        beat_shift = config.beat_bytes.bit_length() - 1
        row_bits = config.tile_rows.bit_length() - 1
        longest = burst_beats(config)
        # Room for a burst that is being written, one that is being made, and the packer's margin.
        depth = max(128, 2 * longest)
        m.submodules.packer = packer = KVPacker(config)
        m.submodules.fifo = fifo = BeatFifo(StrobedBeat(config), depth)
        m.submodules.splitter = splitter = BurstSplitter(config, longest)
        wiring.connect(m, wiring.flipped(self.a), packer.scratch_a)
        wiring.connect(m, wiring.flipped(self.b), packer.scratch_b)
        m.d.sync += [packer.room.eq(fifo.level < depth - packer.MARGIN), packer.start.eq(0)]
        m.d.sync += splitter.i.valid.eq(0)

        issue = Signal(IssueLayout)
        is_value = Signal()
        kind = field(issue.command, Op.KVWRITE, "kind")
        planes = field(issue.command, Op.KVWRITE, "planes")
        size = field(issue.command, Op.KVWRITE, "size")
        m.d.comb += is_value.eq(kind == Kind.VALUE)

        def operand(name):
            by_slot = field(issue.command, Op.KVWRITE, f"{name}_slot")
            return field(issue.command, Op.KVWRITE, name) + Mux(by_slot, issue.slot_base, 0)

        set_scale, scale = _encode_scale(issue.p)
        set_aux, aux = _encode_scale(issue.q)
        m.d.comb += [
            set_scale,
            set_aux,
            packer.kind.eq(kind),
            packer.a.eq(operand("a")),
            packer.b.eq(operand("b")),
            packer.size.eq(size),
            packer.planes.eq(planes),
            packer.row.eq(issue.position[:row_bits]),
            packer.digit.eq(issue.digit),
            packer.scale.eq(scale),
            packer.aux.eq(aux),
            fifo.i.valid.eq(packer.beat_valid),
            fifo.i.payload.eq(packer.beat),
        ]

        # Address: sums of products, each by shift and add. It is ready long before the data are.
        address = Signal(ADDRESS_BITS)
        term, factor = Signal(ADDRESS_BITS), Signal(16)
        beats, left = Signal(13), Signal(signed(11))
        last, allowed = Signal(ADDRESS_BITS + 1), Signal()

        multiplied = Signal()

        def multiply(a, b):
            return [term.eq(a), factor.eq(b), multiplied.eq(0)]

        cancelled, unfinished, checked, sent = (Signal() for _ in range(4))
        to_send = Signal(8)
        stop = Signal()
        # Whether a burst's beats are there, known a cycle later; a burst lasts longer than that.
        final, gathered, taken = Signal(), Signal(), Signal()
        m.d.sync += gathered.eq(splitter.o.valid & (fifo.level > splitter.o.payload.length) & ~stop)
        m.d.sync += taken.eq(0)
        m.d.comb += [
            memory.awsize.eq(beat_shift),
            memory.awburst.eq(axi.Burst.INCR),
            splitter.i.payload.first.eq(address[beat_shift:]),
            splitter.i.payload.last.eq(last),
            splitter.o.ready.eq(taken),
        ]
        # Write data leave from registers.
        sending, may_send = Signal(), Signal()
        m.d.comb += [
            may_send.eq(~memory.wvalid | memory.wready),
            fifo.o.ready.eq(sending & may_send),
        ]
        with m.If(may_send):
            m.d.sync += [
                memory.wvalid.eq(sending & fifo.o.valid),
                memory.wdata.eq(fifo.o.payload.data),
                memory.wstrb.eq(fifo.o.payload.strobe),
                memory.wlast.eq(to_send == 0),
            ]
        with m.If(memory.awready):
            m.d.sync += memory.awvalid.eq(0)

        # The bursts of the range, beside the walk to it: a burst on the bus must be finished,
        # everything else can stop.
        with m.FSM(name="bus") as bus:
            with m.State("GATHER"):
                burst = splitter.o.payload
                with m.If(gathered & ~self.clear & ~self.fault_valid):
                    m.d.sync += [
                        taken.eq(1),
                        memory.awaddr.eq(burst.address),
                        memory.awlen.eq(burst.length),
                        final.eq(burst.final),
                        to_send.eq(burst.length),
                        memory.awvalid.eq(1),
                        sending.eq(1),
                    ]
                    m.next = "WRITE"
            with m.State("WRITE"):
                with m.If(fifo.o.valid & fifo.o.ready):
                    m.d.sync += [to_send.eq(to_send - 1), sending.eq(to_send != 0)]
                with m.If(~memory.awvalid & ~sending & ~memory.wvalid):
                    m.next = "RESPONSE"
            with m.State("RESPONSE"):
                m.d.comb += memory.bready.eq(1)
                with m.If(memory.bvalid):
                    m.next = "GATHER"
                    failed = (memory.bresp == axi.Response.SLVERR) | (
                        memory.bresp == axi.Response.DECERR
                    )
                    with m.If(~cancelled & ~self.clear):
                        with m.If(failed):
                            m.d.sync += [
                                unfinished.eq(0),
                                self.fault_valid.eq(1),
                                self.fault.code.eq(Fault.WRITE_ERROR),
                                self.fault.info.eq(memory.awaddr),
                            ]
                        with m.Else():
                            m.d.sync += sent.eq(final)

        with m.FSM() as fsm:

            def stoppable():
                with m.If(self.clear):
                    m.next = "FLUSH"

            with m.State("IDLE"):
                m.d.comb += self.unit.issue.ready.eq(~self.clear)
                with m.If(self.unit.issue.valid & self.unit.issue.ready):
                    m.d.sync += [
                        issue.eq(self.unit.issue.payload),
                        unfinished.eq(1),
                        checked.eq(0),
                        sent.eq(0),
                    ]
                    m.next = "START"
                stoppable()
            with m.State("START"):
                m.d.sync += packer.start.eq(1)
                m.d.sync += [
                    address.eq(issue.kv_base),
                    beats.eq(Mux(is_value, 0, 2 * config.scale_beats)),
                    left.eq(Mux(is_value, planes, size)),
                ]
                m.next = "COUNT"
                stoppable()
            with m.State("COUNT"):
                # Beats of a tile or block: (size / tile_rows) a plane, or planes a K step.
                with m.If(left > 0):
                    m.d.sync += [
                        beats.eq(beats + Mux(is_value, size >> row_bits, planes)),
                        left.eq(left - Mux(is_value, 1, config.tile_k)),
                    ]
                with m.Else():
                    m.d.sync += address.eq(address + Mux(is_value, addresses.value_base, 0))
                    m.d.sync += multiply(addresses.kv_layer_stride, issue.layer)
                    m.next = "LAYER"
                stoppable()
            products = {
                "LAYER": (
                    "HEAD",
                    Mux(is_value, addresses.value_head_stride, addresses.key_head_stride),
                    field(issue.command, Op.KVWRITE, "head"),
                ),
                "HEAD": (
                    "RECORD",
                    beats << beat_shift,
                    Mux(is_value, issue.blocks, issue.position >> row_bits),
                ),
                "RECORD": ("LAST", 0, 0),
            }
            for state, (following, next_term, next_factor) in products.items():
                with m.State(state):
                    with m.If(~multiplied):
                        m.d.sync += [
                            address.eq(address + Mux(factor[0], term, 0)),
                            term.eq(term << 1),
                            factor.eq(factor >> 1),
                            multiplied.eq(factor[1:] == 0),
                        ]
                    with m.Else():
                        m.d.sync += multiply(next_term, next_factor)
                        m.next = following
                    stoppable()
            with m.State("LAST"):
                m.d.sync += last.eq(address[beat_shift:] + beats - 1)
                m.next = "COMPARE"
                stoppable()
            with m.State("COMPARE"):
                m.d.sync += allowed.eq(
                    (address[:beat_shift] == 0)
                    & (beats != 0)
                    & inside(config, address, last, addresses.kv_base, addresses.kv_limit)
                )
                m.next = "CHECK"
                stoppable()
            with m.State("CHECK"):
                with m.If(allowed):
                    # It is ready: the ranges before are through.
                    m.d.sync += [splitter.i.valid.eq(1), checked.eq(1)]
                    m.next = "DATA"
                with m.Else():
                    m.d.sync += [
                        self.fault_valid.eq(1),
                        self.fault.code.eq(Fault.WRITE_BOUNDS),
                        self.fault.info.eq(address),
                        unfinished.eq(0),
                    ]
                    m.next = "FLUSH"
                stoppable()
            with m.State("DATA"):
                # A short command can be written before the packer knows that it is through.
                with m.If(sent & ~unfinished):
                    m.d.comb += self.completed.eq(~self.clear)
                    m.next = "IDLE"
                with m.If(self.fault_valid):
                    m.next = "FLUSH"
                stoppable()
            with m.State("FLUSH"):
                with m.If(bus.ongoing("GATHER")):
                    m.d.comb += [fifo.clear.eq(1), splitter.clear.eq(1)]
                    m.d.sync += cancelled.eq(0)
                    with m.If(~self.fault_valid):
                        m.next = "IDLE"

        # The packer's reset reaches far, so it comes from a register: a beat may still leave it.
        flushed = Signal()
        m.d.sync += [packer.abort.eq(stop), flushed.eq(splitter.clear)]
        with m.If(flushed):
            m.d.comb += fifo.clear.eq(1)
        m.d.comb += [
            stop.eq(self.clear | cancelled | fsm.ongoing("FLUSH")),
            self.unit.done_valid.eq(unfinished & checked & ~packer.busy & ~self.clear),
            self.idle.eq(fsm.ongoing("IDLE") & ~unfinished),
        ]
        with m.If(self.unit.done_valid):
            m.d.sync += unfinished.eq(0)
        with m.If(self.clear):
            m.d.sync += [self.fault_valid.eq(0), unfinished.eq(0)]
            with m.If(~bus.ongoing("GATHER")):
                m.d.sync += cancelled.eq(1)
        return m
