"""From the array's finished accumulators to the scratchpad or the candidate lists."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tamale.gateware.interfaces import CandidateLayout, ScratchRead, ScratchWrite

__all__ = ["Drain", "JobLayout", "LandingLayout"]

#: What holds for a whole command.
#:   dst, stride     elements of the scratchpad, multiples of vu_width
#:   last            number of vectors to drain (auxiliary scales included) less one
#:   vectors         number of vectors, the place of the auxiliary scales
#:   scaled, aux, to_candidates   as in the command; aux only where they are drained
JobLayout = data.StructLayout(
    {
        "dst": unsigned(17),
        "stride": unsigned(17),
        "last": unsigned(5),
        "vectors": unsigned(5),
        "scaled": unsigned(1),
        "aux": unsigned(1),
        "to_candidates": unsigned(1),
    }
)

#: Where a set of accumulators stands in the command.
#:   overwrite   it is the first of its results: group 0 of block 0
#:   tile_end    last group of its tile
#:   block_end   last group of the last tile of its block
#:   final       last set of the command
LandingLayout = data.StructLayout({"overwrite": 1, "tile_end": 1, "block_end": 1, "final": 1})

#: The 16-bit float of 1.0 in units of 2**-8: with it, a scaled accumulator is the accumulator.
_UNITY = 12 << 11

#: An accumulator of this value gives an auxiliary scale in units of 2**-20 instead of 2**-8.
_AUX_ACCUMULATOR = 1 << 12

#: Cycles from the choice of a word to its write.
_STAGES = 8


class Drain(wiring.Component):
    """Scale, round, saturate and store one set of tile_rows x vectors accumulators.

    ``land`` copies ``accumulators`` in one cycle; then a word of min(tile_rows, vu_width) results
    leaves per cycle, vector by vector, 8 cycles from choice to write. A set may land in the very
    cycle in which the previous one's last word is chosen (``taken``) or later, never earlier. To
    the candidate lists, a word waits until the one before has left. Two sets that add to the same
    scratchpad words must land 5 cycles apart or more: reads do not wait for writes in flight.

    Parameters
    ----------
    config : Config
        ``tile_rows``, ``vectors``, ``vu_width``, ``group_size`` and the accumulators' width.

    Members
    -------
    start : In(1)
        A command begins; ``job`` is valid from here to ``finished``.
    job : In(JobLayout)
        The command.
    land : In(1)
        ``accumulators`` and ``landing`` are valid.
    landing : In(LandingLayout)
        Where the set stands in the command.
    accumulators : In(ArrayLayout(ArrayLayout(signed, tile_rows), vectors))
        The finished sums.
    scales_valid : In(1)
        ``scales`` and ``aux_scales`` belong to the set that landed last; they hold until ``taken``.
    scales, aux_scales : In(ArrayLayout(16, tile_rows))
        16-bit floats.
    taken : Out(1)
        The last word of the set is chosen in this cycle.
    finished : Out(1)
        The last effect of the command is in place.
    scratch_read, scratch_write
        Ports of the scratchpad.
    candidates : Out(stream.Signature(CandidateLayout))
        Results of ``to_candidates``, one at a time.
    """

    def __init__(self, config):
        self.config = config
        #: Bits of an accumulator; wide enough for the constant of auxiliary scales and for the two
        #: halves of the multiplication.
        self.width = max(config.accumulator_width, 18)
        row = data.ArrayLayout(signed(self.width), config.tile_rows)
        scales = data.ArrayLayout(unsigned(16), config.tile_rows)
        super().__init__(
            {
                "start": In(1),
                "job": In(JobLayout),
                "land": In(1),
                "landing": In(LandingLayout),
                "accumulators": In(data.ArrayLayout(row, config.vectors)),
                "scales_valid": In(1),
                "scales": In(scales),
                "aux_scales": In(scales),
                "taken": Out(1),
                "finished": Out(1),
                "scratch_read": Out(ScratchRead(config)),
                "scratch_write": Out(ScratchWrite(config)),
                "candidates": Out(stream.Signature(CandidateLayout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, job = self.config, self.job
        lanes = min(config.tile_rows, config.vu_width)
        words = config.tile_rows // lanes
        # Where a tile is shorter than a word of the scratchpad, several tiles share the word.
        places = config.vu_width // lanes
        place_bits = exact_log2(places)

        # Which word of which vector comes next.
        held = Signal.like(self.accumulators)
        landing = Signal(LandingLayout)
        active = Signal()
        vector, word = Signal(range(config.vectors + 1)), Signal(range(max(words, 2)))
        address, base = Signal(17), Signal(17)
        row, row_base = Signal(20), Signal(20)
        word_last, vector_last = Signal(), Signal()
        go, quiet, sending = Signal(), Signal(), Signal()
        m.d.comb += [
            word_last.eq(word == words - 1),
            vector_last.eq(vector == job.last),
            go.eq(active & (self.scales_valid | ~job.scaled) & (~job.to_candidates | quiet)),
            self.taken.eq(go & word_last & vector_last),
        ]
        with m.If(go):
            m.d.sync += word.eq(word + 1)
            with m.If(word_last):
                m.d.sync += [word.eq(0), vector.eq(vector + 1), address.eq(address + job.stride)]
        with m.If(self.taken):
            m.d.sync += active.eq(0)
        with m.If(self.land):
            m.d.sync += [
                held.eq(self.accumulators),
                landing.eq(self.landing),
                active.eq(1),
                vector.eq(0),
                word.eq(0),
                address.eq(base),
                row.eq(row_base),
            ]
            with m.If(self.landing.tile_end):
                m.d.sync += [
                    base.eq(base + config.tile_rows),
                    row_base.eq(row_base + config.tile_rows),
                ]
            with m.If(self.landing.block_end):
                m.d.sync += [base.eq(job.dst), row_base.eq(0)]
        with m.If(self.start):
            m.d.sync += [base.eq(job.dst), row_base.eq(0)]

        # What travels with a word.
        layout = data.StructLayout(
            {
                "address": self.scratch_read.addr.shape(),
                "place": place_bits,
                "add": 1,
                "emit": 1,
                "final": 1,
                "vector": 4,
                "word": exact_log2(words),
                "row": 20,
            }
        )
        tags = [Signal(layout, name=f"tag{n}") for n in range(_STAGES + 1)]
        valid = [Signal(name=f"valid{n}") for n in range(_STAGES + 1)]
        is_aux = Signal()
        shift = exact_log2(config.vu_width)
        m.d.comb += [
            valid[0].eq(go),
            is_aux.eq(job.aux & (vector == job.vectors)),
            tags[0].address.eq((address >> shift) + word),
            tags[0].add.eq(~landing.overwrite & ~is_aux),
            tags[0].emit.eq(job.to_candidates & landing.tile_end),
            tags[0].final.eq(landing.final & word_last & vector_last),
            tags[0].vector.eq(vector),
            tags[0].word.eq(word),
            tags[0].row.eq(row + word * lanes),
        ]
        if places > 1:
            m.d.comb += tags[0].place.eq(address[shift - place_bits : shift])
        for n in range(_STAGES):
            m.d.sync += [valid[n + 1].eq(valid[n]), tags[n + 1].eq(tags[n])]
        m.d.comb += quiet.eq(~Cat(valid[1:]).any() & ~sending)

        # The earlier groups' and blocks' sum: asked for in cycle 4, registered in cycle 6.
        m.d.comb += [
            self.scratch_read.en.eq(valid[4] & tags[4].add & ~job.to_candidates),
            self.scratch_read.addr.eq(Mux(self.scratch_read.en, tags[4].address, 0)),
        ]
        earlier = [
            Array(self.scratch_read.data[place * lanes + n] for place in range(places))[
                tags[5].place if places > 1 else 0
            ]
            for n in range(lanes)
        ]
        results = [Signal(signed(32), name=f"result{n}") for n in range(lanes)]
        if config.group_size:
            # On the way to the candidate lists, the sum over groups lives here.
            partial = memory.Memory(
                shape=unsigned(32 * lanes), depth=max(config.vectors * words, 2), init=[]
            )
            m.submodules.partial = partial
            partial_write, partial_read = partial.write_port(), partial.read_port()
            m.d.comb += [
                partial_read.addr.eq(tags[4].vector * words + tags[4].word),
                partial_write.addr.eq(tags[8].vector * words + tags[8].word),
                partial_write.en.eq(valid[8] & job.to_candidates),
                partial_write.data.eq(Cat(results)),
            ]
            earlier = [
                Mux(
                    job.to_candidates,
                    partial_read.data.word_select(n, 32).as_signed(),
                    earlier[n],
                )
                for n in range(lanes)
            ]

        for n in range(lanes):
            choices = [
                Array(self._row(held, vector)[w * lanes + n] for w in range(words)),
                Array(self.scales[w * lanes + n] for w in range(words)),
                Array(self.aux_scales[w * lanes + n] for w in range(words)),
            ]
            accumulator, scale, aux_scale = (choice[word] for choice in choices)
            code = Signal(16, name=f"code{n}")
            m.d.comb += code.eq(Mux(job.scaled, Mux(is_aux, aux_scale, scale), _UNITY))
            total = self._scaled(m, Mux(is_aux, _AUX_ACCUMULATOR, accumulator), code, n)
            old = Signal(signed(32), name=f"old{n}")
            new = Signal(signed(33), name=f"new{n}")
            m.d.sync += [
                old.eq(Mux(tags[5].add, earlier[n], 0)),
                new.eq(total + old),
                results[n].eq(_saturate(new, 32)),
            ]

        # One word to the scratchpad, ...
        store = Signal()
        m.d.comb += store.eq(valid[8] & ~job.to_candidates)
        m.d.comb += self.scratch_write.addr.eq(Mux(store, tags[8].address, 0))
        for place in range(places):
            here = tags[8].place == place if places > 1 else 1
            for n in range(lanes):
                m.d.comb += [
                    self.scratch_write.en[place * lanes + n].eq(store & here),
                    self.scratch_write.data[place * lanes + n].eq(Mux(store, results[n], 0)),
                ]

        # ... or one value after the other to the candidate lists.
        queue = Signal(data.ArrayLayout(signed(32), lanes))
        left = Signal(range(max(lanes, 2)))
        ending = Signal()
        payload = self.candidates.payload
        m.d.comb += [self.candidates.valid.eq(sending), payload.value.eq(queue[0])]
        m.d.sync += self.finished.eq(store & tags[8].final)
        with m.If(sending & self.candidates.ready):
            m.d.sync += [
                queue.eq(queue.as_value() >> 32),
                payload.row.eq(payload.row + 1),
                left.eq(left - 1),
            ]
            with m.If(left == 0):
                m.d.sync += [sending.eq(0), self.finished.eq(ending)]
        with m.If(valid[8] & tags[8].emit):
            m.d.sync += [
                sending.eq(1),
                queue.eq(Cat(results)),
                left.eq(lanes - 1),
                payload.vector.eq(tags[8].vector),
                payload.row.eq(tags[8].row),
                ending.eq(tags[8].final),
            ]
        return m

    def _row(self, held, vector):
        """Return the accumulators of the chosen vector, one multiplexer per row."""
        return [
            Array(held[v][r] for v in range(self.config.vectors))[vector]
            for r in range(self.config.tile_rows)
        ]

    def _scaled(self, m, accumulator, code, lane):
        """Return ``scaled_accumulator`` of the integer specification, 6 cycles later."""
        prefix, width = f"lane{lane}_", self.width
        value = Signal(signed(width), name=prefix + "value")
        significand = Signal(12, name=prefix + "significand")
        exponents = [Signal(5, name=f"{prefix}exponent{n}") for n in range(1, 5)]
        m.d.sync += [
            value.eq(accumulator),
            significand.eq(Mux(code == 0, 0, code[:11] | 1 << 11)),
            exponents[0].eq(code[11:]),
        ]
        m.d.sync += [b.eq(a) for a, b in zip(exponents, exponents[1:], strict=False)]
        # Two narrow products, each of a size that a DSP block has.
        low = Signal(28, name=prefix + "low")
        high = Signal(signed(width - 16 + 13), name=prefix + "high")
        product = Signal(signed(width + 12), name=prefix + "product")
        m.d.sync += [
            low.eq(value[:16] * significand),
            high.eq(value[16:].as_signed() * significand),
            product.eq((high << 16) + low),
        ]
        # A bit more than the result is kept and rounds it: floor(v + 1/2) = (floor(2 v) + 1) >> 1.
        coarse = Signal(signed(width + 12 + 9), name=prefix + "coarse")
        fine = Signal.like(coarse, name=prefix + "fine")
        total = Signal(signed(32), name=prefix + "total")
        m.d.sync += [
            coarse.eq((product << 9) >> Cat(Const(0, 3), ~exponents[2][3:])),
            fine.eq(coarse >> ~exponents[3][:3]),
            total.eq(_saturate((fine + 1) >> 1, 32)),
        ]
        return total


def _saturate(value, width):
    """Clamp a signed value to ``width`` bits."""
    upper = value[width - 1 :]
    fits = upper.all() | ~upper.any()
    sign = value[-1]
    return Mux(fits, value[:width].as_signed(), Cat((~sign).replicate(width - 1), sign).as_signed())
