"""Cycle model: predicts the cycles of a job from configuration, program and positions alone.

Two agents meet at the stream FIFO, as in the hardware: the DMA delivers beats at the rate of the
memory as long as there is room and no fence holds it back; the executor performs commands one after
the other and takes beats as they come. Everything is a maximum over earlier times, computed in
pieces of at most `_PIECE` beats; no register is simulated. The latencies are those that the blocks'
docstrings state.
"""

import collections
import dataclasses
import math

from tamale import isa
from tamale.gateware.array import FIRST_BEAT, few_tiles, group_latency, group_spacing
from tamale.gateware.bursts import burst_beats
from tamale.gateware.interfaces import SCRATCH_LATENCY
from tamale.gateware.vector.layout import Timing
from tamale.isa import Bound, Destination, Op, ScalarOp, Source

__all__ = ["Memory", "Prediction", "memory_of", "predict"]

#: Beats that are treated as one event.
_PIECE = 64
#: From an idle reader's descriptor to its first beat: walker's hand-over, address, memory, FIFO.
_READER_LATENCY = 9
#: Cycles from the end of one command to the issue of the next, by the registers that it reads.
_ISSUE = {Op.ROPE: 2, Op.LOAD: 3, Op.MATVEC: 3, Op.SCALAR: 4, Op.KVWRITE: 4}
_ISSUE_SCALARS = 3
#: Cycles from one issue to the next that the prefetch takes, and for a loop command between them.
_PREFETCH, _PREFETCH_LOOP = 7, 3
#: From the end of a command with a reduction to the next issue that reads scalars.
_NORMALISE = 8
#: Cycles of the walker for a command without a descriptor.
_WALK = 4
_SCALAR = {
    ScalarOp.MUL: 8,
    ScalarOp.ADD: 8,
    ScalarOp.SQRT: 22,
    ScalarOp.DIV: 23,
    ScalarOp.SHIFT: 8,
    ScalarOp.SCALE: 8,
}


#: Clocks that LiteDRAM loses from one row to the next, and from an address to its first beat, as
#: `tamale_sim.ddr3` measures them.
_DDR3_ROW, _DDR3_LATENCY = 8, 24


@dataclasses.dataclass(frozen=True)
class Memory:
    """What the model knows of a memory.

    Parameters
    ----------
    cycles_per_beat : float
        At full speed, between refreshes.
    latency : int
        From an address to its first beat.
    refresh : float
        Fraction of time that refreshes take.
    """

    cycles_per_beat: float
    latency: int
    refresh: float


def memory_of(config):
    """Return the `Memory` of a configuration."""
    per_beat = config.bus_width / config.memory_width
    if config.memory == "ideal":
        return Memory(per_beat, 8, 0.0)
    if config.memory == "ddr3":
        return _ddr3(config, per_beat)
    from tamale.gateware.sdram import PARTS

    part = PARTS[config.sdram_part]
    # Eight refreshes in a row, then the rows in use are closed and opened again once.
    one = part.cycles(part.t_rfc, config.clock_hz)
    again = part.cycles(part.t_rp, config.clock_hz) + part.cycles(part.t_rcd, config.clock_hz) + 10
    every = part.t_refi * config.clock_hz / 1e9
    return Memory(per_beat, 16, (one + again / 8) / every)


def _ddr3(config, per_beat):
    from tamale.gateware import litedram

    part = litedram.PARTS[config.ddr3_part]
    row = (part.data_bits << part.column_bits) / config.memory_width
    # Each refresh closes all rows first.
    one = math.ceil(part.clocks("t_rp", config.clock_hz) / litedram.PHASES)
    one += math.ceil(part.clocks("t_rfc", config.clock_hz) / litedram.PHASES) + 1
    every = part.t_refi * config.clock_hz / 1e9
    return Memory(per_beat * (1 + _DDR3_ROW / row), _DDR3_LATENCY, one / every)


@dataclasses.dataclass
class Prediction:
    """Cycles of one job.

    Parameters
    ----------
    cycles, head_cycles : float
        The whole job, and its part from the head on.
    units : dict of str to float
        Cycles by operation, waiting for beats included.
    """

    cycles: float
    head_cycles: float
    units: dict


class _Stream:
    """The DMA: when beats arrive, given when room appears."""

    def __init__(self, config, memory):
        self._rate = memory.cycles_per_beat / (1 - memory.refresh)
        self._latency = memory.latency + _READER_LATENCY
        # A burst is asked for only when all of it fits, so half a burst's room is empty on average.
        burst = min(burst_beats(config), config.fifo_beats // 2)
        self._capacity = max(_PIECE, config.fifo_beats - burst // 2)
        self._taken = collections.deque()  # (beats up to here, time at which they have left)
        self._room_from = 0.0
        self._delivered = 0
        self._busy_until = 0.0
        self.walker = 0.0

    def request(self, walk, fence):
        """A descriptor is walked to in ``walk`` cycles and may not start before ``fence``."""
        ready = max(self.walker + walk, fence)
        # The walker goes on when the reader has asked for the descriptor's last burst, which is
        # about the memory's latency before its data.
        self._start = ready
        self.walker = ready

    def arrive(self, beats):
        """Return the time at which the next ``beats`` beats of the descriptor are there."""
        self._delivered += beats
        while self._taken and self._taken[0][0] <= self._delivered - self._capacity:
            self._room_from = self._taken.popleft()[1]
        start = max(self._busy_until, self._start + self._latency, self._room_from)
        self._busy_until = start + beats * self._rate
        self.walker = max(self.walker, self._busy_until - self._latency - beats * self._rate)
        return self._busy_until

    def take(self, total, time):
        """The executor has taken all beats up to ``total`` at ``time``."""
        self._taken.append((total, time))


def _vector_cycles(config, op, f, position):
    """Cycles of a vector-unit command."""
    width = config.vu_width
    fixed, tree = Timing.write + 4, 2 * int(math.log2(width))
    n = position + 1 if f.get("bound") == Bound.POSITION else f["n"]
    words = -(-n // width)
    if op is Op.ROPE:
        return fixed + 2 * n // width
    if op is Op.EXP:
        return fixed + 6 + tree + words
    if op is Op.HADAMARD:
        # A pass for each doubling of the block waits for the writes of the one before.
        passes = max(1, f["log2_block"])
        fixed += int(width == 1 and f["log2_block"] > 0)
        return fixed + tree + (passes - 1) * max(words + 1, Timing.write) + words
    if f["reduce"] != isa.Reduce.NONE:
        fixed += tree
    if f["destination"] in (Destination.ACTIVATION, Destination.HIGH, Destination.LOW):
        words = -(-(-(-n // config.tile_k) * config.tile_k) // width)
    return fixed + words


def predict(config, program, job, memory=None):
    """Predict a job on an otherwise idle system.

    Parameters
    ----------
    config : Config
    program : list of int
        128-bit commands.
    job : machine.Job
        Only positions and the number of slots matter.
    memory : Memory, optional
        That of the configuration when left out.

    Returns
    -------
    Prediction
    """
    memory = memory or memory_of(config)
    commands = [isa.decode(word) for word in program]
    stream = _Stream(config, memory)
    units = collections.Counter()
    now = previous_end = 0.0
    fetched = 0.0  # when the prefetch has the next command
    written = 0.0  # when the last KVWRITE is complete
    pending = 0.0  # when the last reduction is in its register
    head_from = None
    total = 0
    # Commands that are read in pieces come later.
    later = isa.COMMAND_BITS // config.program_width - 1
    pc, start, index, last = 0, [0, 0], [0, 0], [0, 0]
    while True:
        op, f = commands[pc]
        pc += 1
        slot = job.slots[index[1]]
        if op is Op.END:
            break
        if op in (Op.LOOP, Op.NEXT, Op.SKIP_UNLESS_HEAD):
            stream.walker += _WALK + later
            fetched += _PREFETCH_LOOP + later
            if op is Op.LOOP:
                level = f["level"]
                start[level], index[level] = pc, 0
                last[level] = (len(job.slots) if level else f["count"]) - 1
            elif op is Op.NEXT:
                level = f["level"]
                if index[level] < last[level]:
                    index[level], pc = index[level] + 1, start[level]
                else:
                    index[level] = 0
            elif job.want_head:
                head_from = now
            else:
                pc = f["target"]
            continue
        begin = max(
            now + _ISSUE.get(op, _ISSUE_SCALARS),
            fetched,
        )
        if op not in (Op.LOAD, Op.MATVEC, Op.ROPE):
            begin = max(begin, pending)
        fetched = begin + _PREFETCH + later
        if op in (Op.LOAD, Op.SLOAD, Op.MATVEC):
            beats, walk, rate, tail = _stream_shape(config, op, f, slot.position, len(job.slots))
            stream.request(walk, written if f["fence"] else 0.0)
            time = begin + (FIRST_BEAT - 1 if op is Op.MATVEC else 2)
            while beats > 0:
                piece = min(_PIECE, beats)
                time = max(stream.arrive(piece) + 3, time + piece * rate)
                total += piece
                stream.take(total, time)
                beats -= piece
            now = time + tail
        elif op is Op.SCALAR:
            now = begin + _SCALAR[ScalarOp(f["operation"])] - 1
            stream.walker += _WALK
        elif op is Op.KVWRITE:
            now, written = _kvwrite(config, f, begin, memory)
            stream.walker += _WALK
        else:
            now = begin + _vector_cycles(config, op, f, slot.position)
            stream.walker += _WALK
            if op is Op.HADAMARD or op is Op.EXP or f.get("reduce") in (1, 2):
                pending = now + _NORMALISE
        units[op.name] += now - previous_end
        previous_end = now
    return Prediction(now, now - head_from if head_from is not None else 0.0, dict(units))


def _stream_shape(config, op, f, position, slots):
    """Return (beats, walker cycles, consumer's cycles per beat, cycles after the last beat)."""
    products = {
        Source.EMBEDDING: 1,
        Source.ROPE: 1,
        Source.KEYS: 2,
        Source.VALUES: 2,
        Source.VALUE_BLOCK: 3,
    }
    source = Source(f["source"])
    if op is Op.LOAD:
        elements = config.beat_bytes >> f["format"]
        words = max(1, elements / config.vu_width)
        return f["beats"], 11 + 4 * products.get(source, 0), words + 1, 3
    if op is Op.SLOAD:
        beats = -(-4 * f["count"] // config.beat_bytes)
        return beats, 11 + 4 * products.get(source, 0), config.beat_bytes // 4 + 1, 3
    vectors = slots if f["vectors_slot"] else f["vectors"]
    tiles, blocks = f["tiles"], 1
    if source is Source.KEYS:
        tiles = position // config.tile_rows + 1
    if source is Source.VALUES:
        blocks = position // config.tile_k + 1
    # Of the sparse code, a group has more K steps than beats, and the array takes a step a cycle.
    steps = trits = f["planes"] * f["steps"]
    if f["sparse"]:
        trits = config.gearing.beats(f["steps"])
    sets = blocks * tiles * f["groups"]
    beats = sets * trits
    if f["scaled"]:
        beats += config.scale_beats_of(sets, f["aux"])
    drain = (vectors + f["aux"]) * max(1, config.tile_rows // config.vu_width)
    latency, least = group_latency(config), drain
    if f["to_candidates"]:
        drain *= 11 + min(config.tile_rows, config.vu_width)
        least = latency + drain
    elif f["scaled"] or f["groups"] > 1 or (blocks > 1 and tiles < few_tiles(config)):
        least = max(least, group_spacing(config))
    walk = {Source.KEYS: 27, Source.VALUES: 31}.get(source, 19)
    # Groups that bring scales take longer, but the array waits for those that do not.
    cycles = max(sets * (steps - trits) + beats, sets * least)
    return beats, walk, cycles / beats, 1 + latency + drain + 10


def _kvwrite(config, f, begin, memory):
    """Return (end of the command, completion in memory)."""
    steps = -(-f["size"] // config.tile_k)
    if f["kind"] == isa.Kind.KEY:
        beats = f["planes"] * steps + 2 * config.scale_beats
        pack = f["planes"] * (steps * max(1, -(-config.tile_k // config.vu_width)) + 1)
    else:
        beats = pack = f["size"] // config.tile_rows * f["planes"]
    address = max(f["planes"], steps) + 30
    done = begin + max(address, pack + SCRATCH_LATENCY - 1) + 17
    return done, done + beats * memory.cycles_per_beat + memory.latency + 10
