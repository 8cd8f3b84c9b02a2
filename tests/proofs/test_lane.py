"""Decoder, adder cells and lanes of the array, for all weights and activations at once."""

from types import SimpleNamespace

import pytest
from amaranth.hdl import (
    Array,
    Assert,
    Assume,
    Cat,
    Const,
    Elaboratable,
    Fragment,
    Module,
    Mux,
    Signal,
    signed,
)
from amaranth.lib import data
from tamale import config as configuration
from tamale.codes import CODES
from tamale.gateware import adders, array
from tamale.gateware.activation import ENTRY_BITS, ActivationRead, ReadPlaces, pair_places
from tamale.gateware.adders import Counter, Delay, select_add, select_next
from tamale.gateware.trits import PairDecoder, TritDecoder, TritEncoder
from tamale_fpga import netlist
from tamale_sim.proof import ProofError, always, anything, internals, prove
from tamale_sim.runner import build_root


class Ecp5:
    device = "LFE5U-85F"


def ecp5():
    """The platform, and models of its cells."""
    root = build_root()
    root.mkdir(parents=True, exist_ok=True)
    # The first file has Yosys' models; lanes have no black boxes.
    return {"platform": Ecp5(), "sources": netlist.cell_sources(root)[:1]}


@pytest.fixture(params=["portable", "ecp5"])
def form(request):
    return ecp5() if request.param == "ecp5" else {}


def term(nonzero, negative, activation):
    """What a trit of two bits takes of an activation."""
    return Mux(nonzero, Mux(negative, -activation, activation), 0)


def looked_up(choice, a, b):
    """What activation memory holds for a pair (a, b): the order of `tamale.codes.PAIRS`."""
    entry = Signal(signed(ENTRY_BITS), name="entry")
    return entry, entry.eq(Mux(choice[1], Mux(choice[0], b, a - b), Mux(choice[0], a + b, a)))


class Decoder(Elaboratable):
    """Pairs of a byte, looked up and added, against the table of the code; and back again."""

    def __init__(self, code):
        self._code = code

    def elaborate(self, platform):
        m = Module()
        code = self._code
        size = code.trits_per_byte
        byte = anything(m, 8, "byte")
        activations = [anything(m, signed(8), f"activation{n}") for n in range(size)]
        m.submodules.pairs = pairs = PairDecoder(code)
        m.submodules.trits = trits = TritDecoder(code)
        m.submodules.back = back = TritEncoder(code)
        m.d.comb += [pairs.byte.eq(byte), trits.byte.eq(byte)]
        m.d.comb += [back.nonzero.eq(trits.nonzero), back.negative.eq(trits.negative)]
        total = 0
        for n in range(size // 2):
            pair = pairs.pairs[n]
            entry, lookup = looked_up(pair.choice, *activations[2 * n : 2 * n + 2])
            m.d.comb += lookup
            total += term(pair.nonzero, pair.negative, entry)
        if size % 2:
            total += term(pairs.last_nonzero, pairs.last_negative, activations[-1])
        table = [Array(Const(t[n], signed(2)) for t in code.decode)[byte] for n in range(size)]
        wanted = sum(term(t != 0, t < 0, a) for t, a in zip(table, activations, strict=True))
        points = Array(Const(byte in code.encode.values(), 1) for byte in range(256))
        m.d.comb += [
            Assert(total == wanted),
            Assert(trits.nonzero == Cat(trit != 0 for trit in table)),
            Assert(trits.negative == Cat(trit < 0 for trit in table)),
            Assert(~points[byte] | (back.byte == byte)),
        ]
        return m


@pytest.mark.parametrize("name", CODES)
def test_decoder(name, tmp_path):
    prove(Decoder(CODES[name]), tmp_path, steps=1)


class Adders(Elaboratable):
    """`select_add` and `select_next` against what their docstrings say."""

    def __init__(self, width):
        self._width = width

    def elaborate(self, platform):
        m = Module()
        width = self._width
        a, b = (anything(m, signed(width), name) for name in "ab")
        nonzero, negative, first, second, choose, carry = (
            anything(m, 1, f"bit{n}") for n in range(6)
        )
        total = select_add(
            m, platform, a, b, width, nonzero=nonzero, negative=negative, carry=(first, second)
        )
        wanted = a + Mux(nonzero, Mux(negative, -b - 1, b), 0) + (first & second)
        following = select_next(
            m, platform, choose, a.as_unsigned(), b.as_unsigned(), width, carry=carry, name="next"
        )
        following_wanted = Mux(choose, a.as_unsigned(), b.as_unsigned()) + carry
        m.d.comb += [
            Assert(total.as_unsigned() == wanted[:width]),
            Assert(following == following_wanted[:width]),
        ]
        return m


@pytest.mark.parametrize("width", [9, 14, 20])
def test_adders(width, form, tmp_path):
    prove(Adders(width), tmp_path, steps=1, **form)


class Loop(Elaboratable):
    """A `Counter` says of every pass whether it is the last, and of every first one that it is.

    It is loaded again and again, with any size, whenever it is not advanced.
    """

    def __init__(self, width, further):
        self._width, self._further = width, further

    def elaborate(self, platform):
        m = Module()
        width = self._width
        counter = Counter(m, platform, "loop", width, further=self._further)
        size, wanted = Signal(width), anything(m, width, "wanted")
        loads, advances = anything(m, 1, "loads"), anything(m, 1, "advances")
        loaded, running = Signal(), Signal()
        done, passes = Signal(width + 1), Signal(width + 1)
        m.d.comb += passes.eq(size + self._further)
        if not self._further:
            m.d.comb += Assume(wanted != 0)
        with m.If(loads):
            counter.load(wanted)
            m.d.sync += [size.eq(wanted), loaded.eq(1), running.eq(0), done.eq(0)]
        with m.Elif(loaded & advances):
            counter.advance()
            m.d.sync += running.eq(1)
            with m.If(running):
                m.d.sync += done.eq(Mux(done == passes - 1, 0, done + 1))
        # What the register counts, as the portable and the other form have it.
        following = Signal(width)
        m.d.comb += following.eq(done + 2 - passes)
        with m.If(loaded):
            m.d.comb += [Assert(counter.size == size), Assert(passes != 0), Assert(done < passes)]
            with m.If(running):
                m.d.comb += [
                    Assert(counter.first == (done == 0)),
                    Assert(counter.last == (done == passes - 1)),
                    Assert(counter.last | (counter._next == following)),
                ]
            with m.Else():
                m.d.comb += [Assert(counter.last), Assert(done == 0)]
        m.d.comb += Assert(loaded | ~running)
        return m


class Lane(Elaboratable):
    """A row and a vector: what has been added up when sums land, for any stream of beats.

    Activation memory is any function from the parity of a K step to codes, looked up as
    `ActivationMemory` promises; and the whole step is asked for. The beats and what they mean are
    arbitrary, and so are holds, but that none comes with a beat, which the walk promises.
    """

    def __init__(self, config, row, vector):
        self._config, self._row, self._vector = config, row, vector

    def elaborate(self, platform):
        m = Module()
        config = self._config
        code, places, pairs = config.trit_code, ReadPlaces(config), pair_places(config)
        columns = config.tile_columns * code.trits_per_byte
        width = config.accumulator_width
        rows = data.ArrayLayout(signed(width), config.tile_rows)
        drain = SimpleNamespace(
            width=width, land=Signal(), landing=Signal(4),
            accumulators=Signal(data.ArrayLayout(rows, config.vectors)),
        )  # fmt: skip
        activation = ActivationRead(config).flip().create()
        step, address = Signal(array._StepLayout), Signal(places.step_bits)
        beat = anything(m, config.bus_width, "beat")
        hold = anything(m, 1, "hold")
        m.d.comb += [
            step.as_value().eq(anything(m, len(step.as_value()), "step")),
            address.eq(anything(m, places.step_bits, "address")),
            Assume(~(hold & step.valid)),
            Assume(~step.triple | step.keep),
            Assume(~step.land | step.valid),
        ]
        # Of the array, the part between the walk over a command and the drain.
        lane, dut = Module(), SimpleNamespace(config=config, activation=activation)
        for name in ("_pairs", "_sum", "_accumulate"):
            setattr(dut, name, getattr(array.TernaryArray, name).__get__(dut))
        array.TernaryArray._compute(dut, lane, platform, drain, step, address, hold, beat, None)
        fragment = Fragment.get(lane, platform)
        m.submodules.lane, inner = fragment, internals(fragment)

        # Two K steps of codes; a look-up takes three cycles.
        codes = [
            [
                [always(m, signed(8), f"code{v}_{k}_{c}") for c in range(columns)]
                for k in range(2)
            ]
            for v in range(config.vectors)
        ]  # fmt: skip
        for r in range(config.tile_rows):
            for n, (first, second) in enumerate(pairs):
                choice = places.choice(activation.choice, r, n)
                at = places.step(activation.step, n)[0]
                for v in range(config.vectors):
                    a, b = (
                        Const(0) if c is None else Mux(at, codes[v][1][c], codes[v][0][c])
                        for c in (first, second)
                    )
                    entry, lookup = looked_up(choice, a, b)
                    m.d.comb += lookup
                    looked = Delay(m, entry, f"entry{v}_{r}_{n}")[3 + v // 4]
                    m.d.comb += places.sum(activation.sums, v, r, n).eq(looked)

        # The same in the words of the command format.
        late = array.group_latency(config) - 3
        held, where = Signal(config.bus_width), Signal.like(address)
        meaning = Signal.like(step)
        with m.If(~hold):
            m.d.sync += [held.eq(beat), meaning.eq(step), where.eq(address)]
        event = Signal.like(step)
        m.d.comb += event.eq(meaning)
        m.d.comb += [
            event.valid.eq(meaning.valid & ~hold), event.land.eq(meaning.land & ~hold)
        ]  # fmt: skip
        events = Delay(m, event, "event")
        m.d.comb += [
            # The registers of the beat and of its meaning have no names.
            Assert(inner["$signal"] == held),
            Assert(inner["$signal$1"] == meaning.as_value()),
            Assert(inner["at"] == where),
            Assert(drain.land == events[late + 1].land),
            Assert(~drain.land | (drain.landing == events[late + 1].landing.as_value())),
        ]
        r, terms = self._row, []
        for c in range(config.tile_columns):
            # `Decoder` is about these two.
            byte = held.word_select(r * config.tile_columns + c, 8)
            m.submodules[f"trits{r}_{c}"] = trits = TritDecoder(code)
            m.d.comb += trits.byte.eq(byte)
            terms += zip(trits.nonzero, trits.negative, strict=True)
        m.submodules[f"pairs{r}"] = head = PairDecoder(code)
        m.d.comb += head.byte.eq(held.word_select(r * config.tile_columns, 8))
        lacks = head.pairs[0].negative & head.pairs[0].nonzero
        v, asked = self._vector, Delay(m, where, "where")
        total, name = 0, f"row{r}_vector{v}_"
        for n, pair in enumerate(pairs):
            for c in pair:
                if c is not None:
                    nonzero, negative = terms[c]
                    activation_code = Mux(where[0], codes[v][1][c], codes[v][0][c])
                    total += term(nonzero, negative, activation_code)
            # A lemma for each adder: of the first term, a one comes at the end.
            so_far = Delay(m, total - lacks, f"{name}so_far{n}")
            at = late + v // 4 - len(pairs) + 1 + n
            m.d.comb += Assert(inner[f"{name}chain0_{n}"] == so_far[at])
            m.d.comb += Assert(places.step(activation.step, n) == asked[1 + n])
        total = Delay(m, total, name + "total")[late + v // 4]
        last = events[late + v // 4]
        wanted = Signal(signed(width), name=f"wanted{v}_{r}")
        doubled, single = Mux(last.triple, wanted << 1, 0), Mux(last.keep, wanted, 0)
        with m.If(last.valid):
            m.d.sync += wanted.eq(total + doubled + single)
        m.d.comb += Assert(drain.accumulators[v][r] == wanted)
        return m


#: Four rows of five weights; of ten, whose last ones are a pair; of four weights of two bits; with
#: vectors that are a cycle behind the first ones.
LANES = {
    "five": {"bus_width": 32},
    "ten": {"bus_width": 64},
    "two bits": {"bus_width": 32, "code": "t4"},
    "eight vectors": {"bus_width": 32, "vectors": 8},
}


def lane(name, row, vector=0):
    changes = {"vectors": 1, "tile_rows": 4} | LANES[name]
    return Lane(configuration.load("tiny").replace(**changes), row, vector)


@pytest.mark.parametrize("further", [False, True])
def test_counter(further, form, tmp_path):
    prove(Loop(6, further), tmp_path, steps=3, **form)


@pytest.mark.parametrize(
    "which",
    [
        ("five", 0), ("five", 3), ("two bits", 2), ("eight vectors", 1, 5),
        pytest.param(("ten", 1), marks=pytest.mark.long),
    ],
    ids=str,
)  # fmt: skip
def test_lane(which, form, tmp_path):
    prove(lane(*which), tmp_path, steps=16, **form)


def without_carry(*arguments, carry=(0, 0), **others):
    return select_add(*arguments, **others)


class LateDelay(Delay):
    def __getitem__(self, cycles):
        return super().__getitem__(cycles + (self._name == "row1_pair2"))


class Unable(Elaboratable):
    """A counter to nine that is asserted to stay below fifteen, which is no induction."""

    def elaborate(self, platform):
        m = Module()
        count = Signal(4)
        with m.If(anything(m, 1, "counts")):
            m.d.sync += count.eq(Mux(count == 9, 0, count + 1))
        m.d.comb += Assert(count != 15)
        return m


def test_what_is_not_proved(tmp_path):
    with pytest.raises(ProofError, match="not proved in 3 steps"):
        prove(Unable(), tmp_path, steps=3)


@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [
        (array, "select_add", without_carry),
        (array, "Delay", LateDelay),
        (adders, "_SELECT", 0x96AE),
    ],
)
def test_a_wrong_lane_is_found(place, name, wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(ProofError, match="^counterexample of .* cycles"):
        prove(lane("five", 1), tmp_path, steps=12, **ecp5())
    assert (tmp_path / "trace.vcd").exists()
