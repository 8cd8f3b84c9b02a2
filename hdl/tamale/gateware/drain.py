"""From the array's finished accumulators to the scratchpad or the candidate lists."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tamale.gateware.adders import Delay, multiply, select_add, select_next
from tamale.gateware.interfaces import (
    SCRATCH_LATENCY,
    CandidateLayout,
    ScratchRead,
    ScratchWrite,
)
from tamale.isa import FIELDS, Op

__all__ = ["ADDING_SPACING", "SCALES_WAITING", "Drain", "JobLayout", "LandingLayout"]

#: What holds for a whole command.
#:   dst, stride     elements of the scratchpad, multiples of vu_width
#:   last            number of vectors less one
#:   scaled, aux, to_candidates   as in the command; aux only where they are drained
JobLayout = data.StructLayout(
    {
        "dst": unsigned(17),
        "stride": unsigned(17),
        "last": unsigned(4),
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

#: Exponent of the 16-bit float of 1.0 in units of 2**-8: with it and no fraction, a scaled
#: accumulator is the accumulator.
_UNITY_EXPONENT = 12

#: An accumulator of this value gives an auxiliary scale in units of 2**-20 instead of 2**-8.
_AUX_ACCUMULATOR = 1 << 12

#: Cycles from the choice of a word to its write, and to the registers of the sums so far.
_STAGES, _EARLIER = 9, 7

#: Cycles from the choice of a word to the request for the sum so far, which arrives a cycle before
#: it is registered.
_ASK = _EARLIER - 1 - SCRATCH_LATENCY

#: Least cycles between two sets that add to the same words of the scratchpad: the second one asks
#: for them when the first has written.
ADDING_SPACING = _STAGES - _ASK + 1

#: Bits of a product's part that a multiplier shifts: unsigned operands of 18 signed bits.
_PART = 17

#: Scales, or auxiliary scales, of a tile that wait for its sums at most.
SCALES_WAITING = 16


class Drain(wiring.Component):
    """Scale, round, saturate and store one set of tile_rows x vectors accumulators.

    ``land`` copies ``accumulators`` in one cycle; then a word of min(tile_rows, vu_width) results
    leaves per cycle, vector by vector, 9 cycles from choice to write. A set may land in the very
    cycle in which the previous one's last word is chosen (``taken``) or later, never earlier. To
    the candidate lists, a word waits until the one before has left; nothing else makes it wait. Two
    sets that add to the same scratchpad words must land `ADDING_SPACING` cycles apart or more:
    reads do not wait for writes in flight.

    Multipliers scale, and shift: a product times a power of two is a barrel shifter.

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
        ``accumulators`` of the first four vectors and ``landing`` are valid; those of every four
        more a cycle later.
    landing : In(LandingLayout)
        Where the set stands in the command.
    accumulators : In(ArrayLayout(ArrayLayout(signed, tile_rows), vectors))
        The finished sums.
    scales : In(min(bus_width, 16 * tile_rows)), scales_valid : In(1)
        16-bit floats; those of a set, perhaps in several beats, then its auxiliary ones if they are
        drained. They come before the set lands and at most `SCALES_WAITING` wait.
    taken : Out(1)
        The last word of the set is chosen in this cycle.
    finished : Out(1)
        The last effect of the command is in place.
    saturated : Out(1)
        A result was clipped in this cycle.
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
        super().__init__(
            {
                "start": In(1),
                "job": In(JobLayout),
                "land": In(1),
                "landing": In(LandingLayout),
                "accumulators": In(data.ArrayLayout(row, config.vectors)),
                "scales": In(min(config.bus_width, 16 * config.tile_rows)),
                "scales_valid": In(1),
                "taken": Out(1),
                "finished": Out(1),
                "saturated": Out(1),
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
        place_bits, shift = exact_log2(places), exact_log2(config.vu_width)

        # Which word of which vector comes next.
        held = Signal.like(self.accumulators, reset_less=True)
        landing = Signal(LandingLayout)
        active, is_aux = Signal(), Signal()
        vector = Signal(range(max(config.vectors, 2)))
        word = Signal(range(words)) if words > 1 else Const(0)
        address_bits = (config.scratchpad_elements - 1).bit_length()
        address, base = Signal(address_bits), Signal(address_bits)
        word_last, vector_last, last = Signal(), Signal(), Signal()
        go, quiet, sending = Signal(), Signal(), Signal()
        m.d.comb += [
            word_last.eq(word == words - 1),
            vector_last.eq(vector == job.last),
            last.eq(is_aux | (vector_last & ~job.aux)),
            go.eq(active & (~job.to_candidates | quiet)),
            self.taken.eq(go & word_last & last),
        ]
        with m.If(go):
            if words > 1:
                m.d.sync += word.eq(word + 1)
            with m.If(word_last):
                m.d.sync += [vector.eq(vector + 1), is_aux.eq(vector_last & job.aux)]
                # The stride is a multiple of the scratchpad's word, so low bits never change here.
                m.d.sync += address[shift:].eq(address[shift:] + job.stride[shift:])
        with m.If(self.taken):
            m.d.sync += active.eq(0)
        with m.If(self.land):
            m.d.sync += [
                landing.eq(self.landing),
                active.eq(1),
                is_aux.eq(0),
                vector.eq(0),
                address.eq(base),
            ]
        # Tiles begin at multiples of their rows.
        again, row_bits = Signal(), exact_log2(config.tile_rows)
        m.d.comb += again.eq(self.start | (self.land & self.landing.block_end))
        following = select_next(
            m, platform, again, job.dst[row_bits:], base[row_bits:], address_bits - row_bits,
            carry=~again, name="following",
        )  # fmt: skip
        with m.If(again | (self.land & self.landing.tile_end)):
            m.d.sync += base[row_bits:].eq(following)
        # Every four vectors are a cycle later than those before, and needed later still.
        lands = Delay(m, self.land, "land")
        for v in range(config.vectors):
            with m.If(lands[v // 4]):
                m.d.sync += held[v].eq(self.accumulators[v])

        # What travels with a word.
        layout = data.StructLayout(
            {
                "address": self.scratch_read.addr.shape(),
                "place": place_bits,
                "add": 1,
                "emit": 1,
                "final": 1,
                "vector": 4 if config.group_size else 0,
                "word": exact_log2(words) if config.group_size else 0,
            }
        )
        tags = [Signal(layout, name=f"tag{n}", reset_less=n > 0) for n in range(_STAGES + 1)]
        valid = [Signal(name=f"valid{n}") for n in range(_STAGES + 1)]
        m.d.comb += [
            valid[0].eq(go),
            tags[0].address.eq((address >> shift) + word),
            tags[0].add.eq(~landing.overwrite & ~is_aux),
            tags[0].emit.eq(job.to_candidates & landing.tile_end),
            tags[0].final.eq(landing.final & word_last & last),
        ]
        if config.group_size:
            m.d.comb += [tags[0].vector.eq(vector), tags[0].word.eq(word)]
        if places > 1:
            m.d.comb += tags[0].place.eq(address[shift - place_bits : shift])
        for n in range(_STAGES):
            m.d.sync += [valid[n + 1].eq(valid[n]), tags[n + 1].eq(tags[n])]
        m.d.comb += quiet.eq(~Cat(valid[1:]).any() & ~sending)

        # The earlier groups' and blocks' sum. Ports that do not speak are silent, so these are
        # registers with a reset, not gates.
        asks = _ASK - 1
        adds = valid[asks] & tags[asks].add & ~job.to_candidates
        m.d.sync += [self.scratch_read.en.eq(adds), self.scratch_read.addr.eq(0)]
        with m.If(adds):
            m.d.sync += self.scratch_read.addr.eq(tags[asks].address)
        # What is not wanted is reset, so that a plain or joins the rest: cheaper than multiplexers.
        # It is known a cycle before, for it goes to many.
        unwanted, unwanted_partial = Signal(places), Signal()
        earlier = [0] * lanes
        adding = tags[_EARLIER - 2]
        for place in range(places):
            here = adding.add & ~job.to_candidates
            if places > 1:
                here &= adding.place == place
            m.d.sync += unwanted[place].eq(~here)
            for n in range(lanes):
                part = Signal(32, name=f"earlier{n}_{place}", reset_less=True)
                m.d.sync += part.eq(self.scratch_read.data[place * lanes + n])
                with m.If(unwanted[place]):
                    m.d.sync += part.eq(0)
                earlier[n] |= part
        results = [Signal(signed(32), name=f"result{n}") for n in range(lanes)]
        if config.group_size:
            # On the way to the candidate lists, the sum over groups lives here.
            partial = memory.Memory(
                shape=unsigned(32 * lanes), depth=max(config.vectors * words, 2), init=[]
            )
            m.submodules.partial = partial
            m.d.sync += unwanted_partial.eq(~(adding.add & job.to_candidates))
            partial_write, partial_read = partial.write_port(), partial.read_port()
            m.d.comb += [
                partial_read.addr.eq(tags[5].vector * words + tags[5].word),
                partial_write.addr.eq(tags[9].vector * words + tags[9].word),
                partial_write.en.eq(valid[9] & job.to_candidates),
                partial_write.data.eq(Cat(results)),
            ]
            for n in range(lanes):
                part = Signal(32, name=f"earlier{n}_partial", reset_less=True)
                m.d.sync += part.eq(partial_read.data.word_select(n, 32))
                with m.If(unwanted_partial):
                    m.d.sync += part.eq(0)
                earlier[n] |= part

        codes = self._scales(m, lanes, words, word, go & word_last & (is_aux | vector_last), is_aux)
        # Again no multiplexer: what is not chosen is reset.
        aux_chosen = Signal()
        m.d.sync += aux_chosen.eq(is_aux)
        chosen, clipped = [0] * lanes, []
        for n in range(lanes):
            for v in range(config.vectors):
                rows = Array(held[v][w * lanes + n] for w in range(words))
                part = Signal(signed(self.width), name=f"chosen{n}_{v}", reset_less=True)
                m.d.sync += part.eq(rows[word])
                if config.vectors > 1:
                    with m.If(vector != v):
                        m.d.sync += part.eq(0)
                chosen[n] |= part
            total, minus, carry, clip = self._scaled(
                m, platform, chosen[n], codes[n], aux_chosen, n
            )
            # Cut off above, the total is all ones below its sign: 0, inverted by the adder.
            new = Signal(signed(33), name=f"new{n}")
            m.d.sync += new.eq(
                select_add(
                    m, platform, earlier[n].as_signed(), total, 33, nonzero=Const(1),
                    negative=minus, carry=(carry, Const(1)), name=f"new{n}_next",
                )
            )  # fmt: skip
            m.d.sync += results[n].eq(_saturate(new, 32))
            with m.If(~valid[8]):
                m.d.sync += results[n].eq(0)
            clipped += [clip & valid[7], (new[32] ^ new[31]) & valid[8]]
        m.d.sync += self.saturated.eq(Cat(clipped).any())

        # One word to the scratchpad, ...
        stores = valid[8] & ~job.to_candidates
        m.d.sync += [self.scratch_write.addr.eq(0), self.scratch_write.en.eq(0)]
        m.d.sync += self.finished.eq(self._emit(m, lanes, words, results, valid, tags, sending))
        with m.If(stores):
            m.d.sync += self.scratch_write.addr.eq(tags[8].address)
        for place in range(places):
            here = tags[8].place == place if places > 1 else 1
            for n in range(lanes):
                m.d.sync += self.scratch_write.en[place * lanes + n].eq(stores & here)
                m.d.comb += self.scratch_write.data[place * lanes + n].eq(results[n])
        return m

    def _scales(self, m, lanes, words, word, used, is_aux):
        """Return the 16-bit scale of each lane for the word that is chosen; ``used`` ends a set."""
        config, job = self.config, self.job
        width, beats = len(self.scales), config.scale_beats
        queue = memory.Memory(shape=unsigned(width * beats), depth=SCALES_WAITING, init=[])
        m.submodules.queue = queue
        write = queue.write_port(granularity=width)
        read = queue.read_port(domain="comb")
        part = Signal(range(max(beats, 2)))
        m.d.comb += [
            write.data.eq(self.scales.replicate(beats)),
            write.en.eq(Cat(self.scales_valid & (part == n) for n in range(beats))),
        ]
        with m.If(self.scales_valid):
            m.d.sync += part.eq(part + 1)
            with m.If(part == beats - 1):
                m.d.sync += [part.eq(0), write.addr.eq(write.addr + 1)]
        with m.If(used & job.scaled):
            m.d.sync += read.addr.eq(read.addr + 1)
        with m.If(self.start):
            m.d.sync += [write.addr.eq(0), read.addr.eq(0)]
        rows = [read.data.word_select(r, 16) for r in range(config.tile_rows)]
        return [Array(rows[w * lanes + n] for w in range(words))[word] for n in range(lanes)]

    def _emit(self, m, lanes, words, results, valid, tags, sending):
        """Send one value after the other to the candidate lists; return whether the command ends.

        Values come in order, so vector and row are counted here.
        """
        config = self.config
        queue = Signal(data.ArrayLayout(signed(32), lanes))
        left = Signal(range(max(lanes, 2)))
        ending = Signal()
        word = Signal(range(words)) if words > 1 else Const(0)
        payload = self.candidates.payload
        row_bits = exact_log2(config.tile_rows)
        # As many as MATVEC can have.
        tile = Signal(min(len(payload.row) - row_bits, FIELDS[Op.MATVEC]["tiles"][1]))
        m.d.comb += [
            self.candidates.valid.eq(sending),
            payload.value.eq(queue[0]),
            payload.row.eq(
                Cat((lanes - 1 - left)[: exact_log2(lanes)], word[: exact_log2(words)], tile)
            ),
        ]
        done = sending & self.candidates.ready & (left == 0)
        with m.If(sending & self.candidates.ready):
            m.d.sync += left.eq(left - 1)
            if lanes > 1:
                m.d.sync += queue.eq(queue.as_value() >> 32)
            with m.If(left == 0):
                m.d.sync += sending.eq(0)
                if words > 1:
                    m.d.sync += word.eq(word + 1)
                with m.If(word == words - 1):
                    m.d.sync += payload.vector.eq(payload.vector + 1)
                    with m.If(payload.vector == self.job.last):
                        m.d.sync += [payload.vector.eq(0), tile.eq(tile + 1)]
        with m.If(valid[9] & tags[9].emit):
            m.d.sync += [
                sending.eq(1),
                queue.eq(Cat(results)),
                left.eq(lanes - 1),
                ending.eq(tags[9].final),
            ]
        with m.If(self.start):
            m.d.sync += [tile.eq(0), payload.vector.eq(0)]
        return (valid[9] & ~self.job.to_candidates & tags[9].final) | (done & ending)

    def _scaled(self, m, platform, accumulator, code, is_aux, lane):
        """Scale an accumulator as ``scaled_accumulator`` of the integer specification does.

        Returns
        -------
        total, minus, carry, clip : Value
            After 6 cycles: the result is ``(minus ? ~total : total) + carry``, which fits 32
            bits; ``clip`` says that it was clipped. So the addition that follows rounds.
        """
        prefix, width = f"lane{lane}_", self.width
        value = Signal(signed(width), name=prefix + "value")
        scale = Signal(16, name=prefix + "scale")
        significand = Signal(12, name=prefix + "significand")
        exponents = [Signal(5, name=f"{prefix}exponent{n}") for n in range(1, 5)]
        # Code 0 is zero: for it, the one above the fraction is left out.
        m.d.sync += [
            value.eq(accumulator),
            scale.eq(code),
            significand.eq(Cat(scale[:11], scale.any())),
            exponents[0].eq(scale[11:]),
        ]
        m.d.sync += [b.eq(a) for a, b in zip(exponents, exponents[1:], strict=False)]
        with m.If(is_aux):
            m.d.sync += value.eq(_AUX_ACCUMULATOR)
        with m.If(~self.job.scaled):
            m.d.sync += [significand.eq(1 << 11), exponents[0].eq(_UNITY_EXPONENT)]

        # Two narrow products, each of a size that a DSP block has.
        low = multiply(m, platform, value[:_PART], significand, prefix + "low")[: _PART + 12]
        high = multiply(m, platform, value[_PART:].as_signed(), significand, prefix + "high")[
            : width - _PART + 13
        ].as_signed()
        product = Signal(signed(width + 12), name=prefix + "product")
        powers = Signal(_PART, name=prefix + "powers")
        m.d.sync += [
            product.eq((high << _PART) + low),
            powers.eq(Cat(Const(0, 1), Const(1) << exponents[1][:4])),
        ]

        # The scale's exponent E means 2**(E - 31), and units are 2**-8. So the product moves by
        # E - 23: left by 1 to 16 in the multipliers, then right by 24 or by 8.
        shifted = []
        for at in range(0, width + 12, _PART):
            last = at + _PART >= width + 12
            part = product[at:].as_signed() if last else product[at : at + _PART]
            moved = multiply(m, platform, part, powers, f"{prefix}moved{at}")
            shifted.append(moved if last else moved[: 2 * _PART])
        size = width + 12 + 16
        # The parts of a shifted number do not overlap: or-ed, not added.
        joined = 0
        for n, moved in enumerate(shifted):
            extended = Signal(size, name=f"{prefix}joined{n}")
            m.d.comb += extended.eq(Cat(Const(0, n * _PART), moved)[:size])
            joined |= extended
        near = exponents[3][4]  # right by 8, else by 24
        fine, half = Signal(signed(32), name=prefix + "fine"), Signal(name=prefix + "half")
        beyond = Signal(name=prefix + "beyond")
        sign = Signal(name=prefix + "sign")
        whole = Signal(signed(size))
        m.d.comb += whole.eq(joined)
        upper = whole[39:]
        m.d.sync += [
            fine.eq(Mux(near, whole >> 8, whole >> 24)),
            half.eq(Mux(near, whole[7], whole[23])),
            beyond.eq(near & upper.any() & ~upper.all()),
            sign.eq(whole[-1]),
        ]
        total, carry = Signal(signed(32), name=prefix + "total"), Signal(name=prefix + "carry")
        minus, clip = Signal(name=prefix + "minus"), Signal(name=prefix + "clip")
        largest = fine[:31].all() & ~sign & half
        m.d.sync += [
            total.eq(fine),
            minus.eq(beyond & ~sign),
            carry.eq(half & ~beyond & ~largest),
            clip.eq(beyond | largest),
        ]
        with m.If(beyond):
            # A reset, not a multiplexer: the smallest number, of which the largest is the inverse.
            m.d.sync += total.eq(-(1 << 31))
        return total, minus, carry, clip


def _saturate(value, width):
    """Clamp a signed value of one bit more to ``width`` bits."""
    sign = value[width]
    fits = value[width - 1] == sign
    return Mux(fits, value[:width].as_signed(), Cat((~sign).replicate(width - 1), sign).as_signed())
