"""On-chip memory of the activation codes, as the array wants them: as sums of pairs.

Codes are written once and read by every row of a matrix. So the work that all rows share is done at
the write: for two codes a and b of a K step the memory holds a, a + b, a - b and b, and a pair of
trits is one look-up and one addition for two multiplications.
"""

from amaranth.hdl import Array, Cat, Const, Module, Signal, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from tamale.gateware.adders import Delay, select_add
from tamale.gateware.interfaces import NO_COLLISIONS, ActivationWrite

__all__ = [
    "ENTRY_BITS", "ActivationMemory", "ActivationRead", "ReadPlaces", "interleave", "pair_places",
]  # fmt: skip

#: Bits of a sum of two codes.
ENTRY_BITS = 9

#: Sums that the memory holds for a pair; their order is that of ``tamale.codes.PAIRS``.
_SUMS = 4

#: Vectors that lie side by side in a word: a block RAM of 36 bits.
_VECTORS_PER_WORD = 4


def pair_places(config):
    """Return the pairs of a K step: a list of (first code, second code or None).

    The trits of a byte are paired among themselves; where their number is odd, the last trits of
    two bytes are a pair, and that of the last byte may be left alone.
    """
    size = config.trit_code.trits_per_byte
    places = []
    for column in range(config.tile_columns):
        first = column * size
        places += [(first + n, first + n + 1) for n in range(0, size - 1, 2)]
        if size % 2 and column % 2:
            places.append((first - 1, first + size - 1))
        elif size % 2 and column == config.tile_columns - 1:
            places.append((first + size - 1, None))
    return places


def interleave(config):
    """Return the banks over which the K steps of a configuration's memory are dealt out."""
    # All words of the vector unit are alike if they divide the K step; else take them all.
    phases = range(1 if config.tile_k % config.vu_width == 0 else config.vu_width)
    banks = 1
    while not all(
        (first + banks * config.tile_k + p) // config.vu_width
        >= ((first if second is None else second) + p) // config.vu_width + _SUMS
        for first, second in pair_places(config)
        for p in phases
    ):
        banks *= 2
    return banks


def ActivationRead(config):
    """Read port of activation memory, as its user sees it.

    ``choice`` and ``step`` say for each row and pair which sum is wanted; ``sums`` of vector v come
    3 + v // 4 cycles later. All three are plain bits, taken apart by `ReadPlaces`: an array's
    elements get names in the netlist that Yosys may take for those of single bits.
    """
    places = ReadPlaces(config)
    return wiring.Signature(
        {
            "step": Out(places.pairs * places.step_bits),
            "choice": Out(config.tile_rows * places.pairs * 2),
            "sums": In(config.vectors * config.tile_rows * places.pairs * ENTRY_BITS),
        }
    )


class ReadPlaces:
    """Where the parts of an `ActivationRead` lie.

    Parameters
    ----------
    config : Config
    """

    def __init__(self, config):
        self._rows = config.tile_rows
        #: Pairs of a K step.
        self.pairs = len(pair_places(config))
        #: Bits of the number of a K step.
        self.step_bits = (config.act_steps - 1).bit_length()

    def step(self, bits, pair):
        """Return the K step of a pair."""
        return bits.word_select(pair, self.step_bits)

    def choice(self, bits, row, pair):
        """Return the choice of a row's pair."""
        return bits.word_select(row * self.pairs + pair, 2)

    def sum(self, bits, vector, row, pair):
        """Return the signed sum of a vector for a row's pair."""
        number = (vector * self._rows + row) * self.pairs + pair
        return bits.word_select(number, ENTRY_BITS).as_signed()


class ActivationMemory(wiring.Component):
    """Sums of pairs of activation codes, a K step of every vector per cycle.

    The two codes of a pair stay in registers until four cycles have written its four sums.
    Meanwhile the next codes of the same pair must not come: where ``vu_width`` is large for a K
    step, steps are dealt out over a power of two of banks. If a word of ``vu_width`` codes divides
    the K step, words are aligned, and each code has a register that takes it straight from the bus.

    Latency: 3 + v // 4 cycles from ``read.step`` to the sums of vector v, which keeps the wires of
    many vectors short; a write is seen by reads whose step is put 8 cycles later or more.
    Throughput: one write and one read of a whole K step per cycle, but no reads of what is being
    written. Contents after reset are zero; writes at the end of the memory wrap around.

    Codes must come in order, from the first of a K step on, whole K steps, in words that are full
    where ``vu_width`` divides the K step; between the last word of a command and the first one of
    the next, four cycles must pass.

    Parameters
    ----------
    config : Config
        ``act_steps``, ``tile_k``, ``tile_rows``, ``vectors`` and ``vu_width`` size it.

    Members
    -------
    write : In(ActivationWrite(config))
        Codes from the vector unit; vectors from ``config.vectors`` are ignored.
    read : In(ActivationRead(config))
        Sums for the array.
    """

    def __init__(self, config):
        self.config = config
        super().__init__({"write": In(ActivationWrite(config)), "read": In(ActivationRead(config))})

    @property
    def aligned(self):
        """Whether words of the vector unit divide the K step."""
        return self.config.tile_k % self.config.vu_width == 0

    @property
    def interleave(self):
        """Banks over which K steps are dealt out."""
        return interleave(self.config)

    def elaborate(self, platform):
        m = Module()
        config, tile_k = self.config, self.config.tile_k
        interleave, places = self.interleave, pair_places(config)
        low = exact_log2(interleave)
        rows = config.act_steps // interleave
        arrive = self._aligned if self.aligned and interleave == 1 else self._rotated
        code, hit, row, vector = arrive(m, interleave)

        writes = {}  # by what arrives together
        words = range(0, config.vectors, _VECTORS_PER_WORD)
        at = ReadPlaces(config)
        steps = [Delay(m, at.step(self.read.step, n), f"step{n}") for n in range(at.pairs)]
        selects = [[] for _ in places]
        if interleave > 1:
            selects = [Delay(m, step[0][:low], f"select{n}") for n, step in enumerate(steps)]
        choices = [
            [
                Delay(m, at.choice(self.read.choice, r, n), f"row{r}_choice{n}")
                for n in range(at.pairs)
            ]
            for r in range(config.tile_rows)
        ]
        for n, (first, second) in enumerate(places):
            found = [[[] for _ in words] for _ in range(config.tile_rows)]
            for bank in range(interleave):
                base = bank * tile_k
                a, b = base + first, None if second is None else base + second
                last = a if b is None else b
                key = (id(hit[last]), id(row[last]))
                if key not in writes:
                    writes[key] = self._writer(m, hit[last], row[last], vector, len(writes))
                phases, address, enable = writes[key]
                entry = self._expand(m, platform, code, hit, a, b, phases, f"bank{bank}_{n}")
                for r in range(config.tile_rows):
                    for w, base in enumerate(words):
                        size = min(_VECTORS_PER_WORD, config.vectors - base)
                        cells = memory.Memory(
                            shape=unsigned(ENTRY_BITS * size),
                            depth=_SUMS * rows,
                            init=[],
                            attrs=NO_COLLISIONS,
                        )
                        m.submodules[f"bank{bank}_pair{n}_row{r}_word{w}"] = cells
                        write_port = cells.write_port(granularity=ENTRY_BITS)
                        read_port = cells.read_port(domain="comb")
                        data_out = Signal.like(
                            read_port.data,
                            name=f"bank{bank}_pair{n}_row{r}_data{w}", reset_less=True,
                        )  # fmt: skip
                        m.d.sync += data_out.eq(read_port.data)
                        m.d.comb += [
                            write_port.en.eq(enable[base : base + size]),
                            write_port.addr.eq(address),
                            write_port.data.eq(entry.replicate(size)),
                            read_port.addr.eq(Cat(choices[r][n][w], steps[n][w][low:])),
                        ]
                        found[r][w].append(data_out)
            for r in range(config.tile_rows):
                for w, base in enumerate(words):
                    value = found[r][w][0]
                    if interleave > 1:
                        value = Array(found[r][w])[selects[n][w + 1]]
                    read = Signal(value.shape(), name=f"row{r}_pair{n}_word{w}", reset_less=True)
                    # Block RAM is slow and far away: the wire from it has a cycle of its own.
                    near = Signal.like(read, name=f"row{r}_pair{n}_near{w}", reset_less=True)
                    m.d.sync += [near.eq(value), read.eq(near)]
                    for v in range(base, min(base + _VECTORS_PER_WORD, config.vectors)):
                        here = read.word_select(v - base, ENTRY_BITS)
                        m.d.comb += at.sum(self.read.sums, v, r, n).as_unsigned().eq(here)
        return m

    def _aligned(self, m, interleave):
        """Return (codes, whether they arrive, their rows, the vector one-hot), by code."""
        config = self.config
        width = config.vu_width
        codes = Signal(self.write.signature.members["data"].shape)
        row, vector = Signal(range(config.act_steps)), Signal(config.vectors)
        m.d.sync += [codes.eq(self.write.data), row.eq(self.write.step)]
        m.d.sync += vector.eq(self._one_hot(self.write.vector))
        hits = []
        for word in range(config.tile_k // width):
            hits.append(Signal(name=f"word{word}"))
            here = self.write.offset[exact_log2(width) :] == word
            m.d.sync += hits[-1].eq(self.write.en[0] & here)
        return (
            [codes[k % width].as_unsigned() for k in range(config.tile_k)],
            [hits[k // width] for k in range(config.tile_k)],
            [row] * config.tile_k,
            vector,
        )

    def _one_hot(self, vector):
        """Return a bit per vector."""
        return Cat(vector == v for v in range(self.config.vectors))

    def _rotated(self, m, interleave):
        """Return the same, by bank, for words that begin anywhere."""
        config, tile_k = self.config, self.config.tile_k
        low = exact_log2(interleave)
        banks, rows = interleave * tile_k, config.act_steps // interleave
        # One register after the port, one before the codes: the rotation has a cycle of its own.
        write = Signal(self.write.signature.members["data"].shape)
        enable = Signal(config.vu_width)
        vector, late = Signal(config.vectors), Signal(config.vectors)
        row = Signal(range(rows))
        start = Signal(banks)  # one-hot: the bank of element 0
        m.d.sync += [
            write.eq(self.write.data),
            enable.eq(self.write.en),
            vector.eq(self._one_hot(self.write.vector)),
            late.eq(vector),
            row.eq(self.write.step >> low),
        ]
        for bank in range(banks):
            here = self.write.offset == bank % tile_k
            if interleave > 1:
                here &= self.write.step[:low] == bank // tile_k
            m.d.sync += start[bank].eq(here)
        codes, hits, bank_rows = [], [], []
        for bank in range(banks):
            # Element i lies in this bank if element 0 lies i banks before; before bank 0 comes the
            # last bank of the row above.
            code, hit, carry = 0, 0, 0
            for i in range(config.vu_width):
                match = start[(bank - i) % banks]
                code |= write[i].as_unsigned() & match.replicate(8)
                hit |= match & enable[i]
                if i > bank:
                    carry |= match
            codes.append(Signal(8, name=f"code{bank}"))
            hits.append(Signal(name=f"hit{bank}"))
            bank_rows.append(Signal(range(rows), name=f"row{bank}"))
            m.d.sync += [codes[-1].eq(code), hits[-1].eq(hit), bank_rows[-1].eq(row + carry)]
        return codes, hits, bank_rows, late

    def _writer(self, m, hit, row, vector, number):
        """Return (phases, address, enable by vector) for pairs that are complete with ``hit``.

        The phases say which sum is in the making, a bit for each: codes of the same pair are as
        many cycles apart. Address and enable are a cycle behind them.
        """
        prefix = f"write{number}_"
        phases = Signal(_SUMS, name=prefix + "phases")
        active = Signal(self.config.vectors, name=prefix + "active")
        place = Signal(row.shape(), name=prefix + "place")
        address = Signal(len(row) + 2, name=prefix + "address")
        enable = Signal(self.config.vectors, name=prefix + "enable")
        m.d.sync += phases.eq(Cat(hit, phases[:-1]))
        with m.If(hit):
            m.d.sync += [place.eq(row), active.eq(vector)]
        with m.If(phases[-1] & ~hit):
            m.d.sync += active.eq(0)
        phase = Cat(phases[1] | phases[3], phases[2] | phases[3])
        m.d.sync += [address.eq(Cat(phase, place)), enable.eq(active)]
        return phases, address, enable

    def _expand(self, m, platform, code, hit, a, b, phases, name):
        """Return the register of a pair's sums, one per phase."""
        first, second = Signal(signed(8), name=name + "_a"), Signal(signed(8), name=name + "_b")
        with m.If(hit[a]):
            m.d.sync += first.eq(code[a])
        with m.If(phases[-2]):
            # The last sum is 0 + b. No code comes now; so this is the registers' reset input.
            m.d.sync += first.eq(0)
        if b is not None:
            with m.If(hit[b]):
                m.d.sync += second.eq(code[b])
        entry = Signal(ENTRY_BITS, name=name + "_sum")
        minus, plus = phases[2], ~phases[0]
        m.d.sync += entry.eq(
            select_add(
                m, platform, first, second, ENTRY_BITS,
                nonzero=plus, negative=minus, carry=(minus, Const(1)), name=name + "_next",
            )
        )  # fmt: skip
        return entry
