"""From a command to the words that it works on."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tamale.codes import PLANES_MAX, limit
from tamale.gateware.interfaces import IssueLayout
from tamale.gateware.vector.layout import ControlLayout, ItemLayout, Timing, log2_width
from tamale.isa import FIELDS, SIGNED, Bound, Destination, Op, Reduce

__all__ = ["Sequencer"]

_OPERATIONS = (Op.VEC, Op.HADAMARD, Op.ROPE, Op.EXP)


class Sequencer(wiring.Component):
    """Takes a command and sends an item per word of it, one a cycle.

    The first item follows two cycles after the command is taken. Items of HADAMARD come in passes:
    the transform within words, then one pass per stride of a word and more, in which the two items
    of a pair follow each other. A pass begins as soon as its first operand is written, which
    for long vectors is at once (one cycle between passes). ROPE sends four items per pair of words:
    a c, b s, b c, a s, of which the second and fourth are written.

    Parameters
    ----------
    config : Config

    Members
    -------
    issue : In(stream.Signature(IssueLayout))
        Commands; read for two cycles before ``ready`` is raised for one.
    control : Out(ControlLayout)
        Valid from the first item's cycle until ``done``.
    item : Out(ItemLayout(config))
        All zero between items.
    clear : Out(1)
        A command has begun: forget the reduction of the one before.
    fold : Out(max(1, log2 vu_width))
        The lanes' reductions are complete and shall be merged, see `Reducer`.
    done : Out(1)
        Everything is written, the reduction merged.
    busy : Out(1)
        From the cycle in which an idle sequencer sees a command until ``done``.
    """

    def __init__(self, config):
        self._config = config
        self._levels = log2_width(config)
        self._timing = Timing(config)
        super().__init__(
            {
                "issue": In(stream.Signature(IssueLayout)),
                "control": Out(ControlLayout),
                "item": Out(ItemLayout(config)),
                "clear": Out(1),
                "fold": Out(max(1, self._levels)),
                "done": Out(1),
                "busy": Out(1),
            }
        )

    def _fields(self, m):
        """Return the command's fields by name, zero where its operation has none of that name."""
        command = self.issue.payload.command
        widths = {}
        for op in _OPERATIONS:
            for name, (_, width) in FIELDS[op].items():
                widths[name] = max(width, widths.get(name, 0))
        signals = {
            name: Signal(signed(width) if name in SIGNED else width, name=f"field_{name}")
            for name, width in widths.items()
        }
        with m.Switch(command[:4]):
            for op in _OPERATIONS:
                with m.Case(int(op)):
                    for name, (offset, width) in FIELDS[op].items():
                        value = command[offset : offset + width]
                        if name in SIGNED:
                            value = value.as_signed()
                        m.d.comb += signals[name].eq(value)
        return signals

    def elaborate(self, platform):
        m = Module()
        config, levels, timing = self._config, self._levels, self._timing
        width = config.vu_width
        payload = self.issue.payload
        field = self._fields(m)
        op = field["op"]
        is_hadamard, is_rope, is_exp = op == Op.HADAMARD, op == Op.ROPE, op == Op.EXP

        item = Signal.like(self.item)
        m.d.sync += self.item.eq(item)  # zero unless a state below sends one
        # One cycle behind the setting, for the neutral element depends on it.
        m.d.sync += self.clear.eq(self.issue.ready)

        def send(**values):
            m.d.comb += item.valid.eq(1)
            m.d.comb += [getattr(item, name).eq(value) for name, value in values.items()]

        # Prepared while the command waits, used in the next cycle.
        shift_sum, pre_sum = Signal(signed(13)), Signal(signed(13))
        n, left = Signal(15), Signal(15)
        word_a, word_b, word_dst = (Signal.like(self.item.a) for _ in range(3))
        step, offset = Signal.like(self.item.step), Signal.like(self.item.offset)
        half, levels_left = Signal(10), Signal(4)

        def base(name):
            return (field[name] + Mux(field[f"{name}_slot"], payload.slot_base, 0)) >> levels

        # HADAMARD: word within the pass, stride in words, cycles until the next pass starts: when
        # the first word of this one is written. From then on item i of the next finds its operand
        # a written by an item no later than i of this one, and its addend, which items up to i + 2
        # strides have written, is read late; where that is not enough, the 4 strides of items that
        # this pass has at least have taken the time.
        index, stride, block = Signal(14), Signal(14), Signal(15)
        wait = Signal(range(timing.result + 1))
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        # ROPE: item of the pair; words of a, b, c, s; words of a half that are left.
        phase, rest = Signal(2), Signal(10)
        second, sine = Signal.like(self.item.a), Signal.like(self.item.a)
        drain = Signal(range(timing.exponential + 4))

        setting = Signal(data.StructLayout({"to_codes": 1, "add": 1, "transform": 1}))
        start = Signal.like(self.item.a)
        # All ones below the stride; last word; whether this pass is the last.
        below, final = Signal(14), Signal(14)
        last_pass = Signal()
        m.d.comb += last_pass.eq(stride == block[1:])

        with m.FSM():
            with m.State("IDLE"):
                is_in_place = is_hadamard | is_rope
                m.d.sync += [
                    shift_sum.eq(
                        field["shift"]
                        - Mux(field["by_m"] | is_exp, payload.p.exponent, 0)
                        + Mux(field["by_x"], payload.q.exponent, 0)
                    ),
                    pre_sum.eq(field["b_shift"] + Mux(field["b_by_x"], payload.q.exponent, 0)),
                    n.eq(Mux(field["bound"] == Bound.POSITION, payload.position + 1, field["n"])),
                    word_a.eq(base("a")),
                    word_b.eq(base("b")),
                    word_dst.eq(Mux(is_in_place, base("a"), base("dst"))),
                    self.control.vector.eq(
                        field["vector"] + Mux(field["vector_slot"], payload.slot, 0)
                    ),
                ]
                with m.If(self.issue.valid):
                    m.d.comb += self.busy.eq(1)
                    m.next = "SETUP"

            with m.State("SETUP"):
                plane_limits = Array([0] + [limit(i) for i in range(1, PLANES_MAX + 1)] + [0, 0])
                m.d.comb += [self.issue.ready.eq(1), self.busy.eq(1)]
                m.d.sync += [
                    self.control.exp.eq(is_exp),
                    self.control.sigmoid.eq(field["function"]),
                    self.control.relu.eq(field["relu"]),
                    self.control.by_vector.eq(field["by_vector"] | is_rope),
                    self.control.pre.eq(
                        Mux(pre_sum < 0, 0, Mux(pre_sum > 31, 31, pre_sum)),
                    ),
                    self.control.shift.eq(
                        Mux(shift_sum < 0, 0, Mux(shift_sum > 63, 63, shift_sum))
                    ),
                    self.control.factor.eq(Mux(is_hadamard, 1, payload.p.mantissa)),
                    self.control.limited.eq(field["planes"] != 0),
                    self.control.limit.eq(plane_limits[field["planes"]]),
                    self.control.levels.eq(field["log2_block"]),
                    self.control.destination.eq(field["destination"]),
                    setting.to_codes.eq(
                        (field["destination"] != Destination.SCRATCH)
                        & (field["destination"] != Destination.NONE)
                    ),
                    setting.add.eq(field["add"]),
                    setting.transform.eq(is_hadamard),
                    start.eq(word_a),
                    self.control.reduce.eq(
                        Mux(is_hadamard, Reduce.ABSMAX, Mux(is_exp, Reduce.SUM, field["reduce"]))
                    ),
                    left.eq(n),
                    step.eq(field["dst"]),
                    offset.eq(0),
                    half.eq(field["size"] >> 1 + levels),
                    rest.eq(field["size"] >> 1 + levels),
                    second.eq(word_a + (field["size"] >> 1 + levels)),
                    sine.eq(word_b + (field["size"] >> 1 + levels)),
                    phase.eq(0),
                    stride.eq(1),
                    below.eq(0),
                    final.eq((n >> levels) - 1),
                    block.eq((1 << field["log2_block"]) >> levels),
                    wait.eq(timing.result),
                    drain.eq(Mux(is_exp, timing.exponential + 1, timing.code)),
                ]
                with m.If(n == 0):
                    m.next = "DRAIN"
                with m.Elif(is_rope):
                    m.next = "ROTATE"
                with m.Elif(is_hadamard & (field["log2_block"] > 0) & (levels == 0)):
                    m.d.sync += wait.eq(0)
                    m.next = "PASS"
                with m.Else():
                    m.next = "STREAM"

            with m.State("STREAM"):
                m.d.comb += self.busy.eq(1)
                words = {"a": word_a, "b": word_b, "dst": word_dst}
                self._stream(m, send, setting, left, block, words, (step, offset))
                with m.If(left <= width):
                    m.next = "DRAIN"
                    with m.If(block > 1):
                        # The passes count from the beginning of the vector.
                        m.d.sync += word_a.eq(start)
                        m.next = "PASS"
                    with m.If(setting.to_codes):
                        m.next = "PAD"

            with m.State("PAD"):
                # Zeros from the last code to the end of its K step.
                m.d.comb += self.busy.eq(1)
                self._pad(m, send, step, offset)
                with m.If((offset == 0) | (offset >= max(0, config.tile_k - width))):
                    m.next = "DRAIN"

            with m.State("PASS"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += index.eq(0)
                with m.If(wait == 0):
                    m.d.sync += wait.eq(timing.result)
                    m.next = "CROSS"

            with m.State("CROSS"):
                m.d.comb += self.busy.eq(1)
                self._cross(m, send, index, stride, below, last_pass, word_a)
                m.d.sync += index.eq(index + 1)
                with m.If(index == final):
                    m.d.sync += [stride.eq(stride << 1), below.eq(Cat(1, below))]
                    m.next = "PASS"
                    with m.If(last_pass):
                        m.next = "DRAIN"

            with m.State("ROTATE"):
                m.d.comb += self.busy.eq(1)
                self._rotate(m, send, phase, word_a, second, word_b, sine)
                m.d.sync += phase.eq(phase + 1)
                with m.If(phase == 3):
                    m.d.sync += [
                        left.eq(left - 2 * width),
                        rest.eq(rest - 1),
                        word_a.eq(word_a + 1),
                        second.eq(second + 1),
                        word_b.eq(word_b + 1),
                        sine.eq(sine + 1),
                    ]
                    with m.If(rest == 1):
                        # The next head begins behind this one's second half, with the first angle.
                        m.d.sync += [
                            rest.eq(half),
                            word_a.eq(second + 1),
                            second.eq(second + 1 + half),
                            word_b.eq(word_b + 1 - half),
                            sine.eq(word_b + 1),
                        ]
                    with m.If(left <= 2 * width):
                        m.next = "DRAIN"

            with m.State("DRAIN"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += [drain.eq(drain - 1), levels_left.eq(max(levels - 1, 0))]
                with m.If(drain == 0):
                    m.next = "DONE"
                    if levels:
                        with m.If(self.control.reduce != Reduce.NONE):
                            m.next = "FOLD"

            with m.State("FOLD"):
                m.d.comb += [self.busy.eq(1), self.fold.bit_select(levels_left, 1).eq(1)]
                m.next = "FOLDED"

            with m.State("FOLDED"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += levels_left.eq(levels_left - 1)
                m.next = "FOLD"
                with m.If(levels_left == 0):
                    m.next = "DONE"

            with m.State("DONE"):
                m.d.comb += [self.busy.eq(1), self.done.eq(1)]
                m.next = "IDLE"

        return m

    def _first(self, count):
        """Return a mask of the first ``count`` elements of a word."""
        return Cat(count > i for i in range(self._config.vu_width))

    def _advance(self, m, step, offset, count):
        """Move a place in activation memory on by up to a word."""
        tile_k, width = self._config.tile_k, self._config.vu_width
        after = Signal(range(tile_k + width))
        m.d.comb += after.eq(offset + count)
        m.d.sync += offset.eq(after)
        for wraps in range(1, (tile_k - 1 + width) // tile_k + 1):
            with m.If(after >= wraps * tile_k):
                m.d.sync += [offset.eq(after - wraps * tile_k), step.eq(step + wraps)]

    def _stream(self, m, send, setting, left, block, words, place):
        """Send the next word of VEC, EXP or of the transform within words."""
        width = self._config.vu_width
        step, offset = place
        mask, last = Signal(width), left <= width
        m.d.comb += mask.eq(self._first(left))
        send(
            mask=mask,
            write=Mux(self.control.destination == Destination.NONE, 0, mask),
            **words,
            step=step,
            offset=offset,
            add=setting.add,
            in_word=setting.transform,
            reduce=block <= 1,
        )
        m.d.sync += [word.eq(word + 1) for word in words.values()]
        m.d.sync += left.eq(left - width)
        self._advance(m, step, offset, Mux(last, left[: self._levels + 1], width))

    def _pad(self, m, send, step, offset):
        """Send zeros for the next word of the last K step, if anything of it is left."""
        tile_k, width = self._config.tile_k, self._config.vu_width
        with m.If(offset != 0):
            write = Cat(offset < max(0, tile_k - i) for i in range(width))
            send(write=write, step=step, offset=offset)
        m.d.sync += offset.eq(offset + width)

    def _cross(self, m, send, index, stride, below, last_pass, base):
        """Send the next item of a pass of HADAMARD over whole words: a sum, then its difference."""
        pair = index >> 1
        first, second = Signal.like(base), Signal.like(base)
        m.d.comb += [
            first.eq(base + (((pair & ~below) << 1) | (pair & below))),
            second.eq(base + (((pair & ~below) << 1) | (pair & below) | stride)),
        ]
        send(
            mask=~0,
            write=~0,
            a=first,
            b=second,
            dst=Mux(index[0], second, first),
            add=1,
            subtract=index[0],
            reduce=last_pass,
        )

    def _rotate(self, m, send, phase, first, second, cosine, sine):
        """Send the next item of ROPE: a c, b s, b c, a s."""
        send(
            mask=~0,
            write=Mux(phase[0], ~0, 0),
            a=Mux(phase[0] ^ phase[1], second, first),
            b=Mux(phase[0], sine, cosine),
            dst=Mux(phase[1], second, first),
            partial=~phase[0],
            minus=phase == 1,
            plus=phase == 3,
        )
