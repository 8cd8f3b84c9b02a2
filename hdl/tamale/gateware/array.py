"""The ternary array: MATVEC of the command format, a beat of trits per cycle."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tamale.gateware.activation import ActivationMemory, ActivationRead
from tamale.gateware.drain import Drain, LandingLayout
from tamale.gateware.interfaces import CandidateLayout, ScratchRead, ScratchWrite, UnitSignature
from tamale.gateware.trits import TritDecoder
from tamale.isa import FIELDS, Op, Source

__all__ = ["ActivationMemory", "ActivationRead", "TernaryArray"]

#: What a beat of trits means to the accumulators.
#:   keep    add to what is there (else the group begins)
#:   triple  a plane begins: three times what is there
#:   land    the group ends, and `landing` says where
_StepLayout = data.StructLayout(
    {"valid": 1, "keep": 1, "triple": 1, "land": 1, "landing": LandingLayout}
)


class _Phase(enum.Enum, shape=3):
    IDLE = 0
    SETUP = 1
    WEIGHTS = 2
    SCALES = 3
    AUX = 4
    FLUSH = 5


class _Counter:
    """A loop of ``size`` passes whose end is known in a register.

    Parameters
    ----------
    m : Module
        Where the registers live.
    name : str
        Their name.
    width : int
        Bits of ``size``.
    """

    def __init__(self, m, name, width):
        self._m = m
        self._top = Signal(width, name=name + "_top")
        self._left = Signal(width, name=name + "_left")
        self._single = Signal(name=name + "_single")
        #: The current pass is the last one; the first one.
        self.last, self.first = Signal(name=name + "_last"), Signal(name=name + "_first")

    def load(self, size):
        """Start the loop; ``size`` is 1 or more."""
        self._m.d.sync += [
            self._top.eq(size - 1),
            self._left.eq(size - 1),
            self._single.eq(size == 1),
            self.last.eq(size == 1),
            self.first.eq(1),
        ]

    def advance(self):
        """Go to the next pass, or back to the first after the last."""
        self._m.d.sync += self.first.eq(self.last)
        with self._m.If(self.last):
            self._m.d.sync += [self._left.eq(self._top), self.last.eq(self._single)]
        with self._m.Else():
            self._m.d.sync += [self._left.eq(self._left - 1), self.last.eq(self._left == 1)]


class TernaryArray(wiring.Component):
    """Multiply a ternary matrix from the stream with the vectors of activation memory.

    Performs MATVEC as ``tamale.isa`` defines it. Trits select activations (one's complement; the
    number of negatives is counted once per row for all vectors), an adder tree with a register per
    level sums a K step, Horner's rule joins the planes, and `Drain` scales and stores the sums
    while the next tile streams.

    Throughput: a beat per cycle. Without scales, a tile of T beats that drains D words
    (vectors x max(1, tile_rows / vu_width)) takes max(T, D) cycles. With scales, with several
    groups, with fewer than 8 tiles in several blocks, or to the candidate lists, the last beat of a
    group waits until the drain of the group before has ended: such a group takes at least about
    ``latency`` + D cycles, to the candidate lists about ``latency`` + D * (9 + min(tile_rows,
    vu_width)).
    Latency: 2 cycles from the issue to the first beat, ``latency`` from a group's last beat to the
    first word of its drain, 8 more to its write; ``done_valid`` one cycle after the last effect.

    ``dst`` must be a multiple of max(vu_width, tile_rows) and the vector stride of vu_width;
    ``vectors`` at most ``config.vectors``; several groups go to the candidate lists only where the
    configuration's ``group_size`` is not zero, several blocks never. ``aux`` needs ``scaled``;
    auxiliary scales overwrite, and are dropped on the way to the candidate lists. A command with a
    count of zero is done at once and takes no beat.

    Parameters
    ----------
    config : Config
        The configuration.

    Members
    -------
    unit : Out(UnitSignature())
        Issue and done.
    i : In(stream.Signature(bus_width))
        Beats of trits and scales.
    activation : Out(ActivationRead(config))
        Codes, a K step per cycle.
    scratch_read, scratch_write : Out(ScratchRead(config)), Out(ScratchWrite(config))
        Ports of the scratchpad.
    candidates : Out(stream.Signature(CandidateLayout))
        Results of ``to_candidates``, in units of 2**-8 as everywhere.
    beat : Out(1)
        A beat is taken in this cycle.
    stall_input : Out(1)
        A beat is wanted and none is there.
    stall_drain : Out(1)
        A beat is there and waits for the drain.
    """

    def __init__(self, config):
        self.config = config
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "i": In(stream.Signature(config.bus_width)),
                "activation": Out(ActivationRead(config)),
                "scratch_read": Out(ScratchRead(config)),
                "scratch_write": Out(ScratchWrite(config)),
                "candidates": Out(stream.Signature(CandidateLayout)),
                "beat": Out(1),
                "stall_input": Out(1),
                "stall_drain": Out(1),
            }
        )

    @property
    def levels(self):
        """Levels of the adder tree: tile_k activations and the count of negatives."""
        return self.config.tile_k.bit_length()

    @property
    def latency(self):
        """Cycles from a group's last beat of trits to the choice of its drain's first word."""
        # Beat, trits, selection, the tree, accumulation, copy to the drain.
        return 3 + self.levels + 2

    def elaborate(self, platform):
        m = Module()
        m.submodules.drain = drain = Drain(self.config)
        wiring.connect(m, wiring.flipped(self.candidates), drain.candidates)
        wiring.connect(m, wiring.flipped(self.scratch_read), drain.scratch_read)
        wiring.connect(m, wiring.flipped(self.scratch_write), drain.scratch_write)
        step = self._sequence(m, drain)
        self._compute(m, drain, step)
        return m

    def _sequence(self, m, drain):
        """Walk the loops of the command; return what the beat of this cycle means."""
        config, job = self.config, drain.job
        issue = self.unit.issue.payload
        offsets = FIELDS[Op.MATVEC]

        def field(name):
            offset, width = offsets[name]
            return issue.command[offset : offset + width]

        phase = Signal(_Phase)
        step = Signal(_StepLayout)
        steps, planes = _Counter(m, "step", 12), _Counter(m, "plane", 3)
        groups, tiles, blocks = (
            _Counter(m, "group", 8),
            _Counter(m, "tile", 16),
            _Counter(m, "block", 15),
        )

        # Two cycles from the issue to the first beat, so that no path crosses both of these.
        vectors, tile_count, block_count = Signal(5), Signal(16), Signal(15)
        empty, scaled, aux = Signal(), Signal(), Signal()
        by_time = Signal()  # the drain keeps pace by itself, see below
        spacing = Signal(range(17 * max(1, config.tile_rows // config.vu_width) + 1))
        address, group_base, block_base = Signal(12), Signal(12), Signal(12)
        # Not inside the If below: Icarus leaves such an output unknown until its condition changes.
        m.d.comb += [
            self.unit.issue.ready.eq(phase == _Phase.IDLE),
            drain.start.eq(phase == _Phase.SETUP),
        ]
        with m.If(phase == _Phase.IDLE):
            keys = field("source") == Source.KEYS.value
            values = field("source") == Source.VALUES.value
            m.d.sync += [
                vectors.eq(Mux(field("vectors_slot"), issue.slots, field("vectors"))),
                tile_count.eq(
                    Mux(keys, (issue.position >> exact_log2(config.tile_rows)) + 1, field("tiles"))
                ),
                block_count.eq(Mux(values, issue.blocks + 1, 1)),
                scaled.eq(field("scaled")),
                aux.eq(field("scaled") & field("aux")),
                job.dst.eq(field("dst")),
                job.stride.eq(
                    Mux(field("vectors_slot"), issue.slot_stride, field("vector_stride"))
                ),
                job.scaled.eq(field("scaled")),
                job.aux.eq(field("scaled") & field("aux") & ~field("to_candidates")),
                job.to_candidates.eq(field("to_candidates")),
                address.eq(field("act")),
                group_base.eq(field("act")),
                block_base.eq(field("act")),
            ]
            with m.If(self.unit.issue.valid):
                steps.load(field("steps"))
                planes.load(field("planes"))
                groups.load(field("groups"))
                m.d.sync += [
                    phase.eq(_Phase.SETUP),
                    empty.eq(
                        (field("steps") == 0) | (field("planes") == 0) | (field("groups") == 0)
                    ),
                ]
        with m.If(phase == _Phase.SETUP):
            tiles.load(tile_count)
            blocks.load(block_count)
            words = max(1, config.tile_rows // config.vu_width)
            m.d.sync += [
                job.vectors.eq(vectors),
                job.last.eq(vectors - ~job.aux),
                spacing.eq((vectors << exact_log2(words)) - 1),
                # Without scales, a drain starts when its sums land and never waits: then it is
                # enough to keep the last beats of two groups as far apart as a drain is long.
                # Groups, and blocks of few tiles, come back to words that are not written yet.
                by_time.eq(
                    ~scaled
                    & ~job.to_candidates
                    & groups.last
                    & ((block_count == 1) | (tile_count >= 8))
                ),
                phase.eq(
                    Mux(empty | (tile_count == 0) | (vectors == 0), _Phase.FLUSH, _Phase.WEIGHTS)
                ),
            ]

        # The last beat of a group may come only if the drain will have room when its sums arrive.
        outstanding, pause = Signal(), Signal.like(spacing)
        group_end, room, taking = Signal(), Signal(), Signal()
        m.d.comb += [
            group_end.eq(steps.last & planes.last),
            room.eq(Mux(by_time, pause == 0, ~outstanding)),
            self.i.ready.eq(
                Mux(
                    phase == _Phase.WEIGHTS,
                    ~group_end | room,
                    (phase == _Phase.SCALES) | (phase == _Phase.AUX),
                )
            ),
            self.beat.eq(self.i.ready & self.i.valid),
            self.stall_input.eq(self.i.ready & ~self.i.valid),
            self.stall_drain.eq((phase == _Phase.WEIGHTS) & ~self.i.ready & self.i.valid),
            taking.eq(self.beat & (phase == _Phase.WEIGHTS)),
        ]
        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.If(drain.taken):
            m.d.sync += outstanding.eq(0)

        group_done, tile_done, block_done, all_done = (Signal() for _ in range(4))
        m.d.comb += [
            group_done.eq(group_end),
            tile_done.eq(groups.last),
            block_done.eq(groups.last & tiles.last),
            all_done.eq(groups.last & tiles.last & blocks.last),
            step.valid.eq(taking),
            step.keep.eq(~(steps.first & planes.first)),
            step.triple.eq(steps.first & ~planes.first),
            step.land.eq(taking & group_end),
            step.landing.overwrite.eq(groups.first & blocks.first),
            step.landing.tile_end.eq(tile_done),
            step.landing.block_end.eq(block_done),
            step.landing.final.eq(all_done),
            self.activation.step.eq(address),
        ]

        def next_phase():
            m.d.sync += phase.eq(Mux(finishing, _Phase.FLUSH, _Phase.WEIGHTS))

        # `finishing` outlives the counters, which go on with the last beat of trits.
        finishing = Signal()
        with m.If(taking):
            m.d.sync += address.eq(address + 1)
            steps.advance()
            with m.If(steps.last):
                planes.advance()
                with m.If(~planes.last):
                    m.d.sync += address.eq(group_base)
            with m.If(group_end):
                m.d.sync += [
                    group_base.eq(address + 1),
                    outstanding.eq(1),
                    pause.eq(spacing),
                    finishing.eq(all_done),
                    phase.eq(
                        Mux(
                            scaled,
                            _Phase.SCALES,
                            Mux(all_done, _Phase.FLUSH, _Phase.WEIGHTS),
                        )
                    ),
                ]
                groups.advance()
                with m.If(groups.last):
                    tiles.advance()
                    with m.If(tiles.last):
                        blocks.advance()
                        m.d.sync += block_base.eq(address + 1)
                    with m.Else():
                        m.d.sync += [address.eq(block_base), group_base.eq(block_base)]

        self._collect_scales(m, drain, phase, aux, next_phase)

        nothing = empty | (tile_count == 0) | (vectors == 0)
        m.d.comb += self.unit.done_valid.eq((phase == _Phase.FLUSH) & (drain.finished | nothing))
        with m.If(self.unit.done_valid):
            m.d.sync += phase.eq(_Phase.IDLE)
        with m.If((phase == _Phase.IDLE) & self.unit.issue.valid):
            m.d.sync += phase.eq(_Phase.SETUP)
        return step

    def _collect_scales(self, m, drain, phase, aux, next_phase):
        """Keep the scales for the drain. A group's scales follow trits that waited for the drain of
        the group before, so one set of registers is enough."""
        config = self.config
        index, size = Signal(range(max(config.scale_beats, 2))), config.bus_width // 16
        scales, aux_scales = Signal.like(drain.scales), Signal.like(drain.aux_scales)
        complete = Signal()
        m.d.comb += [
            drain.scales.eq(scales),
            drain.aux_scales.eq(aux_scales),
            drain.scales_valid.eq(complete),
        ]
        with m.If(drain.taken):
            m.d.sync += complete.eq(0)
        for wanted, registers in ((_Phase.SCALES, scales), (_Phase.AUX, aux_scales)):
            with m.If(self.beat & (phase == wanted)):
                m.d.sync += index.eq(index + 1)
                for r in range(config.tile_rows):
                    with m.If(index == r // size):
                        m.d.sync += registers[r].eq(self.i.payload.word_select(r % size, 16))
                with m.If(index == config.scale_beats - 1):
                    m.d.sync += index.eq(0)
                    if wanted is _Phase.SCALES:
                        with m.If(aux):
                            m.d.sync += phase.eq(_Phase.AUX)
                        with m.Else():
                            m.d.sync += complete.eq(1)
                            next_phase()
                    else:
                        m.d.sync += complete.eq(1)
                        next_phase()

    def _compute(self, m, drain, step):
        """Decode, select, sum, accumulate; ``step`` travels beside the data."""
        config = self.config
        size = config.trit_code.trits_per_byte
        travel = [step]
        for n in range(3 + self.levels + 1):
            travel.append(Signal(_StepLayout, name=f"step{n + 1}"))
            m.d.sync += travel[-1].eq(travel[-2])

        # The beat may come late in its cycle, out of a block RAM; so may the activations.
        beat = Signal(config.bus_width)
        codes = Signal.like(self.activation.codes)
        m.d.sync += [beat.eq(self.i.payload), codes.eq(self.activation.codes)]

        sums = []
        for r in range(config.tile_rows):
            nonzero, negative = (
                Signal(config.tile_k, name=f"row{r}_nonzero"),
                Signal(config.tile_k, name=f"row{r}_negative"),
            )
            for c in range(config.tile_columns):
                m.submodules[f"decoder{r}_{c}"] = decoder = TritDecoder(config.trit_code)
                m.d.comb += decoder.byte.eq(beat.word_select(r * config.tile_columns + c, 8))
                here = slice(c * size, (c + 1) * size)
                m.d.sync += [nonzero[here].eq(decoder.nonzero), negative[here].eq(decoder.negative)]
            # -x is ~x + 1: the ones of a row are counted once, for all vectors.
            count = Signal(range(config.tile_k + 1), name=f"row{r}_count")
            m.d.sync += count.eq(sum(negative))
            for v in range(config.vectors):
                name = f"row{r}_vector{v}_"
                terms = [count]
                for k in range(config.tile_k):
                    term = Signal(signed(8), name=f"{name}term{k}")
                    code = codes[v][k].as_unsigned()
                    m.d.sync += term.eq((code ^ negative[k].replicate(8)) & nonzero[k].replicate(8))
                    terms.append(term)
                sums.append(self._tree(m, terms, name))

        width = drain.width
        now = travel[3 + self.levels]
        for n, total in enumerate(sums):
            r, v = divmod(n, config.vectors)
            accumulator = Signal(signed(width), name=f"row{r}_vector{v}_accumulator")
            # One expression, which synthesis turns into a carry-save level and one carry chain.
            kept = Mux(now.keep, accumulator, 0)
            doubled = Mux(now.triple, accumulator << 1, 0)
            with m.If(now.valid):
                m.d.sync += accumulator.eq(kept + doubled + total)
            m.d.comb += drain.accumulators[v][r].eq(accumulator)
        m.d.comb += [drain.land.eq(travel[-1].land), drain.landing.eq(travel[-1].landing)]

    def _tree(self, m, terms, name):
        """Return the sum of the terms, `levels` cycles later."""
        for level in range(self.levels):
            total = []
            for n in range(0, len(terms), 2):
                value = terms[n] + terms[n + 1] if n + 1 < len(terms) else terms[n]
                register = Signal(value.shape(), name=f"{name}level{level}_{n // 2}")
                m.d.sync += register.eq(value)
                total.append(register)
            terms = total
        (result,) = terms
        return result
