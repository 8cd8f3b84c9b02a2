"""From quantised keys and values in the scratchpad to the beats of the cache."""

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale.codes import PLANES_MAX, limit
from tamale.gateware.interfaces import SCRATCH_LATENCY, ScratchRead
from tamale.gateware.trits import TritDecoder, TritEncoder
from tamale.isa import Kind

__all__ = ["KVPacker", "StrobedBeat"]

_TRIT_BITS = 2  # nonzero, negative


def StrobedBeat(config):
    """Layout of a beat with one write strobe per byte."""
    return data.StructLayout({"data": config.bus_width, "strobe": config.beat_bytes})


def _digit_rom():
    """Digits of each byte, a signed number, weight 1 first, as ``nonzero | negative << 1`` each.

    The digits of a smaller number of planes are the lower ones of the same entry. Bytes beyond the
    limit of all planes have none.
    """
    words = [0] * 256
    for number in range(-limit(PLANES_MAX), limit(PLANES_MAX) + 1):
        value, word = number, 0
        for plane in range(PLANES_MAX):
            digit = (value + 1) % 3 - 1
            value = (value - digit) // 3
            word |= {0: 0, 1: 1, -1: 3}[digit] << _TRIT_BITS * plane
        words[number & 0xFF] = word
    return words


class KVPacker(wiring.Component):
    """Makes the beats of one KVWRITE, with their strobes, in the order of memory.

    KEY: for each plane (most significant first) and K step a beat in which every row holds the same
    trits, those of the vector; the strobes choose the row. Then the beats of scales and those of
    auxiliary scales. VALUE: for each tile of rows and each plane the old beat, in which one trit of
    every row is replaced. See ``tamale.isa`` for the layouts.

    The scratchpad is read by a pipeline that never stalls: a word is asked for only while ``room``
    is high, and up to `KVPacker.MARGIN` beats may follow after it fell. KEY reads a word every
    max(1, ceil(vu_width / tile_k)) cycles and pauses one cycle more between planes; VALUE makes a
    beat a cycle where a beat's old bytes and a tile's elements lie in one word each, else it takes
    a cycle for each word. The first beat of VALUE leaves 8 + `SCRATCH_LATENCY` cycles after
    ``start`` (plus the digit's byte column), that of KEY 10 + `SCRATCH_LATENCY`, plus one for each
    further word that it needs.

    Parameters
    ----------
    config : Config

    Members
    -------
    start : ``In(1)``
        Pulse, while ``busy`` is low: takes all inputs below.
    kind : ``In(Kind)``
        KEY or VALUE.
    a, b : ``In(17)``
        Elements of the new values and of the old beats; multiples of vu_width.
    size : ``In(10)``
        Elements of the vector; for VALUE a multiple of tile_rows.
    planes : ``In(3)``
        Digits of an element.
    row : ``In(range(tile_rows))``
        KEY: row of the tile.
    digit : ``In(8)``
        VALUE: digit in the block; 0 makes all other digits zero.
    scale, aux : ``In(16)``
        KEY: 16-bit floats.
    room : ``In(1)``
        The taker of the beats has room for MARGIN of them.
    abort : ``In(1)``
        Forgets everything, in the next cycle and as long as it is high.
    scratch_a, scratch_b : ``Out(ScratchRead(config))``
        New values and old beats; silent while nothing is read.
    busy : ``Out(1)``
        High from the cycle after ``start`` until every beat has left.
    beat, beat_valid : ``Out(StrobedBeat(config))``, ``Out(1)``
        The beats; there is no way to refuse one.
    """

    #: Beats that may still leave after ``room`` fell.
    MARGIN = 32

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "kind": In(Kind),
                "a": In(17),
                "b": In(17),
                "size": In(10),
                "planes": In(3),
                "row": In(range(config.tile_rows)),
                "digit": In(8),
                "scale": In(16),
                "aux": In(16),
                "room": In(1),
                "abort": In(1),
                "scratch_a": Out(ScratchRead(config)),
                "scratch_b": Out(ScratchRead(config)),
                "busy": Out(1),
                "beat": Out(StrobedBeat(config)),
                "beat_valid": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config, code = self._config, self._config.trit_code
        width, rows, columns = config.vu_width, config.tile_rows, config.tile_columns
        beat_bytes, tile_k, trits_per_byte = config.beat_bytes, config.tile_k, code.trits_per_byte
        word_bits = width.bit_length() - 1

        # Words of a tile's elements and of a beat's old bytes; or tiles and beats of a word.
        words_a, words_b = max(1, rows // width), max(1, beat_bytes // (4 * width))
        tiles_in_word, beats_in_word = max(1, width // rows), max(1, 4 * width // beat_bytes)
        reads = max(words_a, words_b)
        # Beats that a word may complete (KEY), one a cycle.
        interval = -(-width // tile_k)

        # Walk over the words.
        kind, size, planes = Signal(Kind), Signal(10), Signal(3)
        strobe_row, column, digit = Signal.like(self.row), Signal(8), Signal(8)
        fresh = Signal()
        scales = Signal(32)
        word_shape = unsigned(17 - word_bits)
        base_a, at_a, at_b = Signal(word_shape), Signal(word_shape), Signal(word_shape)
        plane, left, wait = Signal(3), Signal(10), Signal(range(interval + SCRATCH_LATENCY + 10))
        part_a, part_b = Signal(range(tiles_in_word)), Signal(range(beats_in_word))
        read = Signal(range(max(2, reads)))
        read_key, read_value, scale_beat = Signal(), Signal(), Signal()
        scale_index = Signal(range(2 * config.scale_beats))
        final_plane, final_word = Signal(), Signal()
        m.d.comb += [
            final_plane.eq(plane == planes - 1),
            final_word.eq(left <= width),
        ]
        # From registers, for all units' requests are ORed on the way to block RAM.
        m.d.sync += [
            self.scratch_a.en.eq(read_key | read_value),
            self.scratch_a.addr.eq(0),
            self.scratch_b.en.eq(read_value & ~fresh),
            self.scratch_b.addr.eq(0),
        ]
        with m.If(read_key):
            m.d.sync += self.scratch_a.addr.eq(at_a)
        with m.If(read_value):
            m.d.sync += self.scratch_a.addr.eq(at_a + read[: (words_a - 1).bit_length()])
            with m.If(~fresh):
                m.d.sync += self.scratch_b.addr.eq(at_b + read[: (words_b - 1).bit_length()])

        with m.FSM() as fsm:
            with m.State("IDLE"):
                with m.If(self.start):
                    m.d.sync += [
                        kind.eq(self.kind),
                        size.eq(self.size),
                        planes.eq(self.planes),
                        strobe_row.eq(self.row),
                        column.eq(0),
                        digit.eq(self.digit),
                        fresh.eq(self.digit == 0),
                        scales.eq(Cat(self.scale, self.aux)),
                        base_a.eq(self.a >> word_bits),
                        at_a.eq(self.a >> word_bits),
                        at_b.eq(self.b >> word_bits),
                        plane.eq(0),
                        left.eq(self.size),
                        part_a.eq(0),
                        part_b.eq(0),
                        read.eq(0),
                        scale_index.eq(0),
                        wait.eq(0),
                    ]
                    m.next = "DIVIDE"
            with m.State("DIVIDE"):
                # The digit's byte column and its place in the byte; there are few columns.
                with m.If((kind == Kind.VALUE) & (digit >= trits_per_byte)):
                    m.d.sync += [digit.eq(digit - trits_per_byte), column.eq(column + 1)]
                with m.Elif(kind == Kind.KEY):
                    m.next = "KEY"
                with m.Else():
                    m.next = "VALUE"
            with m.State("KEY"):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Elif(self.room):
                    m.d.comb += read_key.eq(1)
                    m.d.sync += [
                        at_a.eq(at_a + 1),
                        left.eq(left - width),
                        # As many cycles as the word may complete beats.
                        wait.eq(interval - 1),
                    ]
                    with m.If(final_word):
                        # The gearbox must be empty before the next plane comes.
                        m.d.sync += [
                            at_a.eq(base_a),
                            left.eq(size),
                            plane.eq(plane + 1),
                            wait.eq(interval),
                        ]
                        with m.If(final_plane):
                            m.d.sync += wait.eq(interval + 8 + SCRATCH_LATENCY)
                            m.next = "SCALE"
            with m.State("SCALE"):
                with m.If(wait != 0):
                    m.d.sync += wait.eq(wait - 1)
                with m.Else():
                    m.d.comb += scale_beat.eq(1)
                    m.d.sync += scale_index.eq(scale_index + 1)
                    with m.If(scale_index == 2 * config.scale_beats - 1):
                        m.d.sync += wait.eq(2)
                        m.next = "DRAIN"
            with m.State("VALUE"):
                with m.If(self.room):
                    m.d.comb += read_value.eq(1)
                    m.d.sync += read.eq(read + 1)
                    with m.If(read == reads - 1):
                        m.d.sync += [read.eq(0), part_b.eq(part_b + 1), plane.eq(plane + 1)]
                        with m.If(part_b == beats_in_word - 1):
                            m.d.sync += [part_b.eq(0), at_b.eq(at_b + words_b)]
                        with m.If(final_plane):
                            m.d.sync += [
                                plane.eq(0),
                                left.eq(left - rows),
                                part_a.eq(part_a + 1),
                            ]
                            with m.If(part_a == tiles_in_word - 1):
                                m.d.sync += [part_a.eq(0), at_a.eq(at_a + words_a)]
                            with m.If(left <= rows):
                                m.d.sync += wait.eq(8 + SCRATCH_LATENCY)
                                m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 0):
                    m.next = "IDLE"
        m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))

        # What is known of a word when it is in its register (0), while its digits are looked up (1)
        # and when they are in theirs (2). Block RAM is slow, its output goes no further.
        tag = data.StructLayout(
            {
                "key": 1,
                "value": 1,  # the last word of a VALUE beat
                "final": 1,  # the last word of a plane
                "count": range(width + 1),
                "digit": 3,  # the plane as the index of a digit, least significant first
                "tile": range(tiles_in_word),
                "beat": range(beats_in_word),
            }
        )
        asked = Signal(tag)
        coming = [Signal(tag, name=f"coming_{i}") for i in range(SCRATCH_LATENCY)]
        tag_0, tag_1, tag_2, tag_3 = (Signal(tag, name=f"tag_{i}") for i in range(4))
        m.d.sync += [
            asked.key.eq(read_key),
            asked.value.eq(read_value & (read == reads - 1)),
            asked.final.eq(final_word),
            asked.count.eq(Mux(final_word, left, width)),
            asked.digit.eq(planes - 1 - plane),
            asked.tile.eq(part_a),
            asked.beat.eq(part_b),
            *(later.eq(tag) for tag, later in zip([asked, *coming], coming, strict=False)),
            tag_0.eq(coming[-1]),
            tag_1.eq(tag_0),
            tag_2.eq(tag_1),
            tag_3.eq(tag_2),
        ]

        # Stage 1: new values look up their digits, old bytes are kept.
        m.submodules.digits = digits = Memory(
            shape=_TRIT_BITS * PLANES_MAX,
            depth=256,
            init=_digit_rom(),
            attrs={"ram_style": "block"},  # in logic it is eight look-up tables deep
        )
        # Data need no reset: what is not asked for goes nowhere.
        old = Signal(config.bus_width, reset_less=True)
        trits = []
        for lane in range(width):
            port = digits.read_port()
            element = Signal(8, name=f"element_{lane}", reset_less=True)
            m.d.sync += element.eq(self.scratch_a.data[lane][:8])
            m.d.comb += port.addr.eq(element)
            trit = Signal(_TRIT_BITS, name=f"trit_{lane}", reset_less=True)
            m.d.sync += trit.eq(port.data.word_select(tag_1.digit, _TRIT_BITS))
            trits.append(trit)
        old_words = [Signal(32 * width, name=f"old_word_{i}", reset_less=True) for i in range(2)]
        old_word = old_words[1]
        m.d.sync += [old_words[0].eq(self.scratch_b.data.as_value()), old_word.eq(old_words[0])]
        next_old = Signal.like(old)
        if words_b == 1:
            m.d.comb += next_old.eq(old_word.word_select(tag_1.beat, config.bus_width))
        else:
            m.d.comb += next_old.eq(Cat(old[len(old_word) :], old_word))
        old_base = Signal.like(old)
        m.d.sync += [old.eq(next_old), old_base.eq(old)]

        # Stage 2, KEY: a gearbox from words to K steps. It never holds a whole step and a word.
        # How full it will be is known a cycle before the trits are there.
        held = Signal(_TRIT_BITS * (tile_k + width))
        fill, rest = Signal(range(tile_k + width + 1)), Signal(range(tile_k + width + 1))
        kept = Signal.like(held)
        ended, full, some = Signal(), Signal(), Signal()
        later, ahead, emit = Signal(), Signal(), Signal()
        placed, masked = Signal.like(held), Signal(_TRIT_BITS * width)
        offset, place = (Signal((tile_k - 1).bit_length()) for _ in range(2))
        arrived = Cat(Mux(lane < tag_2.count, trit, 0) for lane, trit in enumerate(trits))
        m.d.comb += [
            full.eq(fill >= tile_k),
            some.eq(full | (ended & (fill != 0))),
            rest.eq(Mux(full, fill - tile_k, Mux(some, 0, fill))),
            kept.eq(Mux(emit, held[_TRIT_BITS * tile_k :], held)),
        ]
        m.d.sync += [
            fill.eq(rest),
            offset.eq(rest),
            place.eq(offset),
            later.eq(some),
            ahead.eq(later),
            emit.eq(ahead),
            masked.eq(0),
            placed.eq(masked << Cat(Const(0, 1), place)),
            held.eq(kept | placed),
        ]
        with m.If(rest == 0):
            m.d.sync += ended.eq(0)
        with m.If(tag_1.key):
            m.d.sync += [fill.eq(rest + tag_1.count), ended.eq(tag_1.final)]
        with m.If(tag_2.key):
            m.d.sync += masked.eq(arrived)

        # Stage 2, VALUE: the new trit of each row of the tile.
        row_trits = Signal(_TRIT_BITS * rows, reset_less=True)
        if words_a == 1:
            m.d.sync += row_trits.eq(Cat(trits).word_select(tag_2.tile, _TRIT_BITS * rows))
        else:
            m.d.sync += row_trits.eq(Cat(row_trits[_TRIT_BITS * width :], *trits))

        # Stage 3: bytes. KEY needs an encoder per byte column, VALUE one per row.
        encoders = [TritEncoder(code) for _ in range(max(rows, columns))]
        decoders = []
        source = Signal(_TRIT_BITS * trits_per_byte * len(encoders), reset_less=True)
        base, strobe = (
            Signal(config.bus_width, reset_less=True),
            Signal(beat_bytes, reset_less=True),
        )
        from_key, from_scale, valid = Signal(), Signal(), Signal()
        zeros = Const(code.encode[(0,) * trits_per_byte], 8).replicate(beat_bytes)
        row_strobe = Cat((strobe_row == row).replicate(columns) for row in range(rows))
        scale_strobe = Signal(beat_bytes * config.scale_beats)
        m.d.comb += scale_strobe.eq(Cat((strobe_row == row).replicate(2) for row in range(rows)))
        for row in range(rows):
            m.submodules[f"decoder_{row}"] = decoder = TritDecoder(code)
            row_bytes = next_old.word_select(row, 8 * columns)
            old_byte = Signal(8, name=f"old_byte_{row}", reset_less=True)
            m.d.sync += [
                old_byte.eq(row_bytes.word_select(column, 8)),
                decoder.byte.eq(old_byte),
            ]
            decoders.append(decoder)

        m.d.sync += [
            valid.eq(emit | tag_3.value | scale_beat),
            from_key.eq(emit),
            from_scale.eq(scale_beat),
        ]
        with m.If(emit):
            m.d.sync += [source.eq(held[: _TRIT_BITS * tile_k]), strobe.eq(row_strobe)]
        with m.Elif(scale_beat):
            # Scales, then auxiliary scales, each in `scale_beats` beats.
            auxiliary = scale_index >= config.scale_beats
            number = scale_index[: (config.scale_beats - 1).bit_length()]
            m.d.sync += [
                base.eq(Mux(auxiliary, scales[16:], scales[:16]).replicate(beat_bytes // 2)),
                strobe.eq(scale_strobe.word_select(number, beat_bytes)),
            ]
        with m.Else():
            m.d.sync += [base.eq(Mux(fresh, zeros, old_base)), strobe.eq(-1)]
            for row, decoder in enumerate(decoders):
                for n in range(trits_per_byte):
                    place = _TRIT_BITS * (row * trits_per_byte + n)
                    kept_trit = Mux(fresh, 0, Cat(decoder.nonzero[n], decoder.negative[n]))
                    new_trit = row_trits.word_select(row, _TRIT_BITS)
                    m.d.sync += source[place : place + _TRIT_BITS].eq(
                        Mux(digit == n, new_trit, kept_trit)
                    )

        for number, encoder in enumerate(encoders):
            m.submodules[f"encoder_{number}"] = encoder
            for n in range(trits_per_byte):
                trit = source.word_select(number * trits_per_byte + n, _TRIT_BITS)
                m.d.comb += [encoder.nonzero[n].eq(trit[0]), encoder.negative[n].eq(trit[1])]
        for row in range(rows):
            for byte in range(columns):
                place = row * columns + byte
                keep = from_scale | (column != byte)
                m.d.comb += self.beat.data.word_select(place, 8).eq(
                    Mux(
                        from_key,
                        encoders[byte].byte,
                        Mux(keep, base.word_select(place, 8), encoders[row].byte),
                    )
                )
        m.d.comb += [self.beat.strobe.eq(strobe), self.beat_valid.eq(valid)]
        return ResetInserter(self.abort)(m)
