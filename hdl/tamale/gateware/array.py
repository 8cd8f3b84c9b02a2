"""The ternary array: MATVEC of the command format, a beat of trits per cycle."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from tamale.gateware.activation import (
    ENTRY_BITS,
    ActivationMemory,
    ActivationRead,
    ReadPlaces,
    pair_places,
)
from tamale.gateware.adders import Counter, Delay, select_add, select_next
from tamale.gateware.drain import ADDING_SPACING, SCALES_WAITING, Drain, LandingLayout
from tamale.gateware.interfaces import CandidateLayout, ScratchRead, ScratchWrite, UnitSignature
from tamale.gateware.sparse import Gearbox, RowDecoder
from tamale.gateware.trits import PairDecoder, PairLayout, join_trits
from tamale.isa import FIELDS, Op, Source

__all__ = [
    "ActivationMemory",
    "ActivationRead",
    "TernaryArray",
    "chains_of",
    "few_tiles",
    "FIRST_BEAT",
    "group_latency",
    "group_spacing",
]

#: What a beat of trits means to the accumulators.
#:   keep    add to what is there (else the group begins)
#:   triple  a plane begins: three times what is there
#:   land    the group ends, and `landing` says where
_StepLayout = data.StructLayout(
    {"valid": 1, "keep": 1, "triple": 1, "land": 1, "landing": LandingLayout}
)


#: Longest chain of additions; a row of more pairs has several chains and a tree above them.
_CHAIN = 16

#: Cycles from an address to the sums of the first vectors.
_LOOK_UP = 3


def chains_of(config):
    """Return lists of the pairs of a row that one chain adds, in its order; as even as possible."""
    pairs = len(pair_places(config))
    count = -(-pairs // _CHAIN)
    bounds = [pairs * n // count for n in range(count + 1)]
    return [list(range(a, b)) for a, b in zip(bounds, bounds[1:], strict=False)]


def group_latency(config):
    """Return the cycles from a group's last beat to the choice of its drain's first word."""
    chains = chains_of(config)
    # Beat, pairs, look-up, the chain, the tree, accumulation, copy to the drain.
    return 2 + _LOOK_UP + max(map(len, chains)) + ceil_log2(len(chains)) + 2


def group_spacing(config):
    """Return the least cycles between two groups that have scales or add to the same words.

    `ADDING_SPACING`, for reads of the scratchpad do not wait for writes. And of the scales, two for
    each group, no more may wait than the drain has room for.
    """
    return max(ADDING_SPACING, -(-(group_latency(config) + 2) // (SCALES_WAITING // 2 - 1)))


def few_tiles(config):
    """Return the tiles from which on blocks need no spacing to add to the same words."""
    return 1 << ceil_log2(group_spacing(config))


#: Cycles in SETTLE. The vector unit says that it is done when its last codes are on their way to
#: activation memory; their sums can be read `ActivationMemory`'s write latency later.
_SETTLE_CYCLES = 8

#: Cycles from the issue of a command to its first beat.
FIRST_BEAT = _SETTLE_CYCLES + 2


class _Phase(enum.Enum, shape=7):
    """What the walk over a command does; a bit each, for many ask for one of them."""

    IDLE = 1
    SETUP = 2
    WEIGHTS = 4
    SCALES = 8
    AUX = 16
    FLUSH = 32
    SETTLE = 64  # sums of the last codes are still being written

    def now(self, phase):
        """Return whether a signal has this value."""
        return Value.cast(phase)[exact_log2(self.value)]


class TernaryArray(wiring.Component):
    """Multiply a ternary matrix from the stream with the vectors of activation memory.

    Performs MATVEC as ``tamale.isa`` defines it. Pairs of trits look their sums up in activation
    memory, a systolic chain of adders (a register per pair) sums a K step, Horner's rule joins the
    planes, and `Drain` scales and stores the sums while the next tiles stream.

    Throughput: a beat per cycle; where trits are in the sparse code, whose beats hold more than a K
    step, a K step per cycle. A group of T beats that drains D words
    ((vectors + aux) x max(1, tile_rows / vu_width)) takes max(T, D) cycles, and at least
    `group_spacing` where there are scales or several groups, or several blocks of fewer than 8
    tiles. To the candidate lists, the last beat of a group waits until the drain of the group
    before has ended: such a group takes at least about `group_latency` + D * (11 + min(tile_rows,
    vu_width)).
    Latency: 10 cycles from the issue to the first beat, `group_latency` from a group's last beat to
    the choice of the first word of its drain, 9 more to its write; ``done_valid`` one cycle after
    the last effect.

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
    saturated : Out(1)
        A result was clipped to 32 bits in this cycle.
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
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.drain = drain = Drain(self.config)
        m.d.comb += self.saturated.eq(drain.saturated)
        wiring.connect(m, wiring.flipped(self.candidates), drain.candidates)
        wiring.connect(m, wiring.flipped(self.scratch_read), drain.scratch_read)
        wiring.connect(m, wiring.flipped(self.scratch_write), drain.scratch_write)
        step, address, waiting, trits, sparse = self._sequence(m, platform, drain)
        self._compute(m, platform, drain, step, address, waiting, trits, sparse)
        return m

    def _sequence(self, m, platform, drain):
        """Walk the loops of the command; return what the beat of this cycle means.

        Returns
        -------
        step, address, waiting : Signal
            What the trits are, their K step, and whether they wait for scales.
        trits : Value
            The beat, or in its low bits a K step of the sparse code.
        sparse : Signal or None
            Whether it is that; holds during the command.
        """
        config, job = self.config, drain.job
        issue = self.unit.issue.payload
        offsets = FIELDS[Op.MATVEC]

        def field(name):
            offset, width = offsets[name]
            return issue.command[offset : offset + width]

        phase = Signal(_Phase, init=_Phase.IDLE)
        step = Signal(_StepLayout)
        # Activation memory's regions bound them; a region is visited at most once.
        bound = config.act_steps.bit_length()
        step_bits, block_bits = (
            max(2, (-(-size // config.tile_k)).bit_length())
            for size in (max(config.max_k, 256), config.max_context)
        )
        steps, planes, groups, tiles = (
            Counter(m, platform, name, width)
            for name, width in (
                ("step", step_bits),
                ("plane", 3),
                ("group", config.max_groups.bit_length()),
                ("tile", 16),
            )
        )
        blocks = Counter(m, platform, "block", block_bits, further=True)

        # Cycles from the issue to the first beat, so that no path crosses both of these.
        vectors, empty, nothing = Signal(range(config.vectors + 1)), Signal(), Signal()
        scaled, aux = Signal(), Signal()
        words = max(1, config.tile_rows // config.vu_width)
        longest = (config.vectors + 1) * words
        spacing = Signal(range(max(longest, group_spacing(config))))
        address, group_base, block_base = (Signal(bound - 1) for _ in range(3))
        # Not inside the If below: Icarus leaves such an output unknown until its condition changes.
        m.d.comb += self.unit.issue.ready.eq(_Phase.IDLE.now(phase))
        settle, starting = Signal(range(_SETTLE_CYCLES)), Signal()
        # A register, for it goes far: high in SETUP.
        m.d.comb += drain.start.eq(starting)
        m.d.sync += starting.eq(_Phase.SETTLE.now(phase) & (settle == 0))
        keys = field("source") == Source.KEYS.value
        values = field("source") == Source.VALUES.value
        position = issue.position >> exact_log2(config.tile_rows)
        tile_count = select_next(
            m, platform, keys, position, field("tiles"), 16, carry=keys, name="tile_count"
        )
        depth = field("planes")
        if config.sparse:
            depth = Mux(field("sparse"), 1, depth)
        with m.If(_Phase.IDLE.now(phase)):
            m.d.sync += [
                vectors.eq(Mux(field("vectors_slot"), issue.slots, field("vectors"))),
                empty.eq(
                    (field("steps") == 0)
                    | (depth == 0)
                    | (field("groups") == 0)
                    | (~keys & (field("tiles") == 0))
                ),
                scaled.eq(field("scaled")),
                aux.eq(field("scaled") & field("aux")),
                job.dst.eq(field("dst")),
                job.stride.eq(
                    Mux(field("vectors_slot"), issue.slot_stride, field("vector_stride"))
                ),
                job.scaled.eq(field("scaled")),
                job.aux.eq(field("scaled") & field("aux") & ~field("to_candidates")),
                job.to_candidates.eq(field("to_candidates")),
                block_base.eq(field("act")),
            ]
            steps.load(field("steps"))
            planes.load(depth)
            groups.load(field("groups"))
            tiles.load(tile_count)
            blocks.load(issue.blocks)
            with m.If(~values):
                blocks.load(0)
            m.d.sync += settle.eq(_SETTLE_CYCLES - 1)
            with m.If(self.unit.issue.valid):
                m.d.sync += phase.eq(_Phase.SETTLE)
        with m.If(_Phase.SETTLE.now(phase)):
            m.d.sync += settle.eq(settle - 1)
            with m.If(settle == 0):
                for counter in (steps, planes, groups, tiles, blocks):
                    counter.advance()
                m.d.sync += phase.eq(_Phase.SETUP)
        with m.If(_Phase.SETUP.now(phase)):
            # The counters are at their first pass.
            # A drain starts when its sums land and never waits. So it is enough to keep two groups
            # as far apart as a drain is long; or a few cycles, where the queue of scales is short
            # or groups, or blocks of few tiles, come back to words that are not written yet.
            busy = Signal(range(longest))
            few = ~blocks.last & (tiles.size[exact_log2(few_tiles(config)) :] == 0)
            m.d.comb += busy.eq(((vectors + job.aux) << exact_log2(words)) - 1)
            m.d.sync += [
                job.last.eq(vectors - 1),
                spacing.eq(busy),
                nothing.eq(empty | (vectors == 0)),
                phase.eq(Mux(empty | (vectors == 0), _Phase.FLUSH, _Phase.WEIGHTS)),
            ]
            with m.If((scaled | ~groups.last | few) & (busy < group_spacing(config) - 1)):
                m.d.sync += spacing.eq(group_spacing(config) - 1)

        # The last beat of a group may come only if the drain will have room when its sums arrive.
        # The candidate lists may hold the drain up: then it must have ended.
        outstanding, closing, pause = Signal(), Signal(), Signal.like(spacing)
        over = Signal(init=1)  # the pause
        group_end, room, taking = Signal(), Signal(), Signal()
        wanted, drained = ~group_end | room, self.i.ready
        trits, sparse = self.i.payload, None
        there = self.beat
        if config.sparse:
            m.submodules.gearbox = gearbox = Gearbox(config.gearing)
            sparse = Signal()
            with m.If(_Phase.IDLE.now(phase)):
                m.d.sync += sparse.eq(field("sparse"))
            drained, there = wanted, (self.i.valid | gearbox.full) & wanted
            wanted, trits = wanted & ~gearbox.full, gearbox.step
            m.d.comb += [
                gearbox.beat.eq(self.i.payload),
                gearbox.take.eq(taking & sparse),
                gearbox.last.eq(group_end),
            ]
        m.d.comb += [
            group_end.eq(steps.last & planes.last),
            room.eq(Mux(job.to_candidates, ~outstanding, over)),
            self.i.ready.eq(
                Mux(
                    _Phase.WEIGHTS.now(phase),
                    wanted,
                    _Phase.SCALES.now(phase) | _Phase.AUX.now(phase),
                )
            ),
            self.beat.eq(self.i.ready & self.i.valid),
            self.stall_input.eq(self.i.ready & ~self.i.valid),
            self.stall_drain.eq(_Phase.WEIGHTS.now(phase) & ~drained & self.i.valid),
            taking.eq(there & _Phase.WEIGHTS.now(phase)),
        ]
        with m.If(~over):
            m.d.sync += [pause.eq(pause - 1), over.eq(pause == 1)]
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
        ]

        def next_phase():
            m.d.sync += phase.eq(Mux(finishing, _Phase.FLUSH, _Phase.WEIGHTS))

        # The last beat of a group waits for its scales, so that the drain need not.
        waiting = Signal()
        with m.If(closing):
            m.d.sync += [pause.eq(spacing), over.eq(spacing == 0), waiting.eq(0)]

        # Scales come in a beat of their own, or are there since one of the groups before.
        fetch, turn = Signal(), Signal(range(max(config.scale_share, 2)))
        with m.If(_Phase.SETUP.now(phase)):
            m.d.sync += [fetch.eq(scaled), turn.eq(0)]
        if config.scale_share > 1:
            with m.If(taking & group_end):
                following = scaled & (aux | (turn == config.scale_share - 1))
                m.d.sync += [turn.eq(turn + 1), fetch.eq(following)]

        # `finishing` outlives the counters, which go on with the last beat of trits.
        finishing = Signal()
        again, back = Signal(), Signal()
        m.d.comb += [
            again.eq(_Phase.SETUP.now(phase) | (group_end & groups.last & ~tiles.last)),
            back.eq(again | (steps.last & ~planes.last)),
        ]
        # Go on, or back to the beginning of the group or of the block.
        following = select_next(
            m, platform, back, Mux(again, block_base, group_base), address, len(address),
            carry=~back, name="following",
        )  # fmt: skip
        with m.If(taking | _Phase.SETUP.now(phase)):
            m.d.sync += address.eq(following)
            with m.If(group_end | again):
                m.d.sync += group_base.eq(following)
        with m.If(taking):
            steps.advance()
            with m.If(steps.last):
                planes.advance()
            with m.If(group_end):
                m.d.sync += [
                    outstanding.eq(1),
                    waiting.eq(fetch),
                    finishing.eq(all_done),
                    phase.eq(
                        Mux(
                            fetch,
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
                        m.d.sync += block_base.eq(following)

        kept = taking & group_end & ~fetch
        scales_done = self._collect_scales(m, drain, phase, aux, next_phase, kept & scaled, turn)
        m.d.comb += closing.eq(kept | scales_done)

        m.d.comb += self.unit.done_valid.eq(_Phase.FLUSH.now(phase) & (drain.finished | nothing))
        with m.If(self.unit.done_valid):
            m.d.sync += phase.eq(_Phase.IDLE)
        return step, address, waiting, trits, sparse

    def _collect_scales(self, m, drain, phase, aux, next_phase, kept, turn):
        """Give the scales to the drain; return whether this beat is the last one of a group's.

        Those of a group that ends in this cycle with ``kept`` are number ``turn`` of the last beat.
        """
        config, width = self.config, len(drain.scales)
        index, done = Signal(range(max(config.scale_beats, 2))), Signal()
        auxiliary = _Phase.AUX.now(phase)
        here = _Phase.SCALES.now(phase) | auxiliary
        # Auxiliary scales are dropped on the way to the candidate lists.
        fresh = self.beat & here & (~auxiliary | drain.job.aux)
        scales = self.i.payload[:width]
        if config.scale_share > 1:
            rest = Signal(config.bus_width - width, name="kept_scales", reset_less=True)
            with m.If(here):
                m.d.sync += rest.eq(self.i.payload[width:])
            parts = [rest.word_select(n, width) for n in range(config.scale_share - 1)]
            scales = Mux(here, scales, Array([parts[0], *parts])[turn])
        # From registers: the drain comes to a group's scales long after it has got them.
        m.d.sync += [drain.scales.eq(scales), drain.scales_valid.eq(fresh | kept)]
        m.d.comb += done.eq(
            self.beat & here & (index == config.scale_beats - 1) & (auxiliary | ~aux)
        )
        with m.If(self.beat & here):
            m.d.sync += index.eq(index + 1)
            with m.If(index == config.scale_beats - 1):
                m.d.sync += [index.eq(0), phase.eq(_Phase.AUX)]
        with m.If(done):
            next_phase()
        return done

    def _compute(self, m, platform, drain, step, address, hold, trits, sparse):
        """Decode, look up, sum, accumulate; ``step`` travels beside the data.

        The chain of a row adds a pair of trits per cycle and register, so the wires of each pair
        are as many cycles late as its place in the chain says, and those of every four vectors one
        more: nothing in the array reaches further than its neighbours.
        """
        config = self.config
        # The beat may come late in its cycle, out of a block RAM.
        beat, first, at = Signal(config.bus_width), Signal(_StepLayout), Signal.like(address)
        with m.If(~hold):
            m.d.sync += [beat.eq(trits), first.eq(step), at.eq(address)]
        moved = Signal(_StepLayout)
        m.d.comb += moved.eq(first)
        m.d.comb += moved.valid.eq(first.valid & ~hold)
        m.d.comb += moved.land.eq(first.land & ~hold)
        travel = Delay(m, moved, "step")

        chains = chains_of(config)
        longest, levels = max(map(len, chains)), ceil_log2(len(chains))
        late = {}  # pair -> cycles that it is behind the first of its row
        for chain in chains:
            for n, pair in enumerate(chain):
                late[pair] = longest - len(chain) + n
        where, place = ReadPlaces(config), Delay(m, at, "address")
        for pair, cycles in late.items():
            m.d.comb += where.step(self.activation.step, pair).eq(place[1 + cycles])

        for r in range(config.tile_rows):
            pairs = [
                Delay(m, pair, f"row{r}_pair{n}")
                for n, pair in enumerate(self._pairs(m, beat, r, sparse))
            ]
            for n, pair in enumerate(pairs):
                choice = where.choice(self.activation.choice, r, n)
                m.d.comb += choice.eq(pair[late[n]].choice)
            for v in range(config.vectors):
                group = v // 4
                now = travel[1 + _LOOK_UP + longest + levels + group]
                total, carry = self._sum(m, platform, r, v, pairs, late)
                self._accumulate(m, platform, drain, r, v, now, total, carry)
        end = travel[2 + _LOOK_UP + longest + levels]
        m.d.comb += [drain.land.eq(end.land), drain.landing.eq(end.landing)]

    def _pairs(self, m, beat, r, sparse):
        """Return registers of the pairs of a row's trits, in the order of `pair_places`."""
        config, singles, pairs = self.config, [], []
        for c in range(config.tile_columns):
            m.submodules[f"decoder{r}_{c}"] = decoder = PairDecoder(config.trit_code)
            m.d.comb += decoder.byte.eq(beat.word_select(r * config.tile_columns + c, 8))
            pairs += list(decoder.pairs)
            if config.trit_code.trits_per_byte % 2:
                singles.append((decoder.last_nonzero, decoder.last_negative))
                if len(singles) == 1 and c == config.tile_columns - 1:
                    singles.append((Const(0, 1), Const(0, 1)))
                if len(singles) == 2:
                    nonzero, negative = (Cat(bits) for bits in zip(*singles, strict=True))
                    pairs.append(join_trits(nonzero, negative))
                    singles = []
        if sparse is not None:
            m.submodules[f"sparse{r}"] = row = RowDecoder(config)
            m.d.comb += row.points.eq(beat.word_select(r, len(row.points)))
            pairs = [Mux(sparse, few, pair) for few, pair in zip(row.pairs, pairs, strict=True)]
        registers = []
        for n, pair in enumerate(pairs):
            registers.append(Signal(PairLayout, name=f"row{r}_pair{n}", reset_less=True))
            m.d.sync += registers[-1].eq(pair)
        return registers

    def _sum(self, m, platform, r, v, pairs, late):
        """Return (sum of a row's K step, the two factors of a one that it still lacks)."""
        name = f"row{r}_vector{v}_"
        places = ReadPlaces(self.config)
        sums = [places.sum(self.activation.sums, v, r, n) for n in range(places.pairs)]
        ends = []
        for c, chain in enumerate(chains_of(self.config)):
            for n, number in enumerate(chain):
                # -x is ~x + 1: the one goes into the carry chain's first cell, which is idle.
                pair = pairs[number][late[number] + _LOOK_UP + v // 4]
                total = Signal(
                    signed(ENTRY_BITS + ceil_log2(n + 1)),
                    name=f"{name}chain{c}_{n}", reset_less=True,
                )  # fmt: skip
                if n == 0:
                    # No chain and no carry yet: this one's one comes later.
                    term = sums[number].as_unsigned() ^ pair.negative.replicate(ENTRY_BITS)
                    m.d.sync += total.eq(term & pair.nonzero.replicate(ENTRY_BITS))
                    lacking = (pairs[number], _LOOK_UP + v // 4 + late[number] + len(chain))
                else:
                    m.d.sync += total.eq(
                        select_add(
                            m, platform, ends[-1][0], sums[number], len(total),
                            nonzero=pair.nonzero, negative=pair.negative,
                            carry=(pair.negative, pair.nonzero), name=f"{name}chain{c}_{n}_next",
                        )
                    )  # fmt: skip
                    ends.pop()
                ends.append((total, lacking))
        levels = ceil_log2(len(ends))
        # A tree of the chains; each addition has room for the one that a chain lacks.
        cycles = 0
        for level in range(levels):
            joined = []
            for n in range(0, len(ends) - 1, 2):
                (left, lacking), (right, pending) = ends[n], ends[n + 1]
                width = max(len(left), len(right)) + 1
                total = Signal(signed(width), name=f"{name}level{level}_{n // 2}", reset_less=True)
                pair = lacking[0][lacking[1] + cycles]
                m.d.sync += total.eq(
                    select_add(
                        m, platform, left, right, width, nonzero=Const(1),
                        carry=(pair.negative, pair.nonzero),
                        name=f"{name}level{level}_{n // 2}_next",
                    )
                )  # fmt: skip
                joined.append((total, pending))
            if len(ends) % 2:
                total = Signal.like(ends[-1][0], name=f"{name}level{level}_rest", reset_less=True)
                m.d.sync += total.eq(ends[-1][0])
                joined.append((total, ends[-1][1]))
            ends = joined
            cycles += 1
        ((total, (delay, at)),) = ends
        return total, delay[at + cycles]

    def _accumulate(self, m, platform, drain, r, v, now, total, pair):
        """Horner's rule: keep, triple or forget what is there, and add."""
        name = f"row{r}_vector{v}_"
        accumulator = Signal(signed(drain.width), name=name + "accumulator", reset_less=True)
        doubled = Cat(Const(0, 1), accumulator).as_signed()
        fresh = select_add(
            m, platform, total, doubled[: drain.width].as_signed(), drain.width,
            nonzero=now.triple, carry=(pair.negative, pair.nonzero), name=name + "fresh",
        )  # fmt: skip
        kept = select_add(
            m, platform, fresh, accumulator, drain.width, nonzero=now.keep, name=name + "next"
        )
        with m.If(now.valid):
            m.d.sync += accumulator.eq(kept)
        m.d.comb += drain.accumulators[v][r].eq(accumulator)
