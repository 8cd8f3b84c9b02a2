"""From a command to the words that it works on."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tamale.codes import PLANES_MAX, limit
from tamale.gateware.interfaces import IssueLayout, ScalarLayout
from tamale.gateware.vector.layout import ControlLayout, ItemLayout, Timing, log2_width
from tamale.isa import FIELDS, SIGNED, Bound, Destination, Op, Reduce

__all__ = ["Sequencer"]

_OPERATIONS = (Op.VEC, Op.HADAMARD, Op.ROPE, Op.EXP)


def _in_place(op):
    """Return the operands of an operation that are its operand a again, as entries of FIELDS."""
    names = {Op.HADAMARD: ("b", "dst"), Op.ROPE: ("dst",)}.get(op, ())
    return [(name + end, FIELDS[op]["a" + end]) for name in names for end in ("", "_slot")]


class Sequencer(wiring.Component):
    """Takes a command and sends an item per word of it, one a cycle.

    The first item follows two cycles after the command is taken. Items of HADAMARD come in passes,
    one for each doubling of the stride: first those within words, then those over whole words, in
    which the two items of a pair follow each other. A pass begins as soon as its first operand is
    written, which for long vectors is at once (one cycle between passes). ROPE sends four items per
    pair of words: a c, b s, b c, a s, of which the second and fourth are written.

    Parameters
    ----------
    config : Config

    Members
    -------
    issue : In(stream.Signature(IssueLayout))
        Commands; read for three cycles, in the last of which ``ready`` is high.
    control : Out(ControlLayout)
        Valid from the first item's cycle until ``done``.
    item : Out(ItemLayout(config))
        All zero between items.
    clear : Out(1)
        A command has begun: forget the reduction of the one before.
    done : Out(1)
        Everything is written, the reduction complete.
    busy : Out(1)
        From the cycle in which an idle sequencer sees a command until ``done``.
    """

    def __init__(self, config):
        self._config = config
        self._levels = log2_width(config)
        super().__init__(
            {
                "issue": In(stream.Signature(IssueLayout)),
                "control": Out(ControlLayout),
                "item": Out(ItemLayout(config)),
                "clear": Out(1),
                "done": Out(1),
                "busy": Out(1),
            }
        )

    def _fields(self, m):
        """Return the command's fields by name, zero where its operation has none of that name.

        They are registers: choosing and computing do not fit into one cycle.
        """
        command = self.issue.payload.command
        widths = {}
        for op in _OPERATIONS:
            for name, (_, width) in FIELDS[op].items():
                widths[name] = max(width, widths.get(name, 0))
        signals = {
            name: Signal(signed(width) if name in SIGNED else width, name=f"field_{name}")
            for name, width in widths.items()
        }
        chosen = {
            name: Signal.like(signal, name=f"chosen_{name}") for name, signal in signals.items()
        }
        m.d.sync += [signals[name].eq(value) for name, value in chosen.items()]
        with m.Switch(command[:4]):
            for op in _OPERATIONS:
                with m.Case(int(op)):
                    for name, (offset, width) in [*FIELDS[op].items(), *_in_place(op)]:
                        value = command[offset : offset + width]
                        if name in SIGNED:
                            value = value.as_signed()
                        m.d.comb += chosen[name].eq(value)
        return signals

    def elaborate(self, platform):
        m = Module()
        config, levels = self._config, self._levels
        width = config.vu_width
        payload = self.issue.payload
        field = self._fields(m)
        op = payload.command[:4]
        is_hadamard, is_rope, is_exp = Signal(), Signal(), Signal()
        m.d.sync += [
            is_hadamard.eq(op == Op.HADAMARD),
            is_rope.eq(op == Op.ROPE),
            is_exp.eq(op == Op.EXP),
        ]

        item = Signal.like(self.item)
        m.d.sync += self.item.eq(item)  # zero unless a state below sends one

        def send(**values):
            m.d.comb += item.valid.eq(1)
            m.d.comb += [getattr(item, name).eq(value) for name, value in values.items()]

        # Prepared while the command waits, used in the next cycle.
        shift_sum, pre_sum = Signal(signed(13)), Signal(signed(13))
        p, q = Signal(ScalarLayout), Signal(ScalarLayout)
        # Of what shifts are made of, what the command wants.
        m_exponent, x_exponent, b_exponent = (
            Signal.like(p.exponent, name=f"{name}_exponent") for name in "mxb"
        )
        n, left = Signal(15), Signal(15)
        word_a, word_b, word_dst = (Signal.like(self.item.a) for _ in range(3))
        step, offset = Signal.like(self.item.step), Signal.like(self.item.offset)
        half = Signal(10)

        def base(name):
            return (field[name] + Mux(field[f"{name}_slot"], payload.slot_base, 0)) >> levels

        shift, pre = self.control.shift, self.control.pre
        m.d.sync += [
            self.clear.eq(self.issue.ready),
            # Behind the setting, one after another, but before the first item needs them.
            pre.eq(Mux(pre_sum < 0, 0, Mux(pre_sum > 31, 31, pre_sum))),
            shift.eq(Mux(shift_sum < 0, 0, Mux(shift_sum > 63, 63, shift_sum))),
            self.control.reach.eq(Cat(shift <= k for k in range(len(self.control.reach)))),
            self.control.pre_reach.eq(Cat(pre <= k for k in range(len(self.control.pre_reach)))),
        ]

        # HADAMARD: passes that are left; stride of a pass within words (bit j: 2**j elements), then
        # item within the pass, stride in words, all ones below the stride, last item.
        passes, inside = Signal(4), Signal(levels + 1)
        index, stride, below, final = Signal(14), Signal(14), Signal(14), Signal(14)
        # Cycles until the next pass starts: when the first word of this one is written. From then
        # on item i of the next finds its operand a written by an item no later than i of this one,
        # and its addend, which items up to i + 2 strides have written, is read 8 cycles later;
        # where that is not enough, the 4 strides of items that this pass has at least have taken
        # the time.
        wait, waited = Signal(range(Timing.write)), Signal()
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        m.d.sync += waited.eq(wait <= 1)
        # ROPE: item of the pair; words of a, b, c, s; words of a half that are left.
        phase, rest = Signal(2), Signal(10)
        second, sine = Signal.like(self.item.a), Signal.like(self.item.a)
        drain = Signal(range(Timing.exponential + 2 * levels + 2))

        setting = Signal(data.StructLayout({"to_codes": 1, "add": 1}))
        start = Signal.like(self.item.a)
        last_pass = Signal()
        m.d.comb += last_pass.eq(passes <= 1)
        # Of `left`, found out before it is needed: ROPE changes it every fourth cycle.
        last_word, last_pair, at_final = Signal(), Signal(), Signal()
        m.d.sync += last_pair.eq(left <= 2 * width)

        enough = Signal()  # of the command has been seen: SETUP
        m.d.comb += self.issue.ready.eq(enough)

        with m.FSM():
            with m.State("IDLE"):
                # They come from block RAM, which is slow.
                m.d.sync += [p.eq(payload.p), q.eq(payload.q)]
                with m.If(self.issue.valid):
                    m.d.comb += self.busy.eq(1)
                    m.next = "OPERANDS"

            with m.State("OPERANDS"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += enough.eq(1)
                m.next = "SETUP"
                m.d.sync += [
                    m_exponent.eq(Mux(field["by_m"] | is_exp, p.exponent, 0)),
                    x_exponent.eq(Mux(field["by_x"], q.exponent, 0)),
                    b_exponent.eq(Mux(field["b_by_x"], q.exponent, 0)),
                    n.eq(Mux(field["bound"] == Bound.POSITION, payload.position + 1, field["n"])),
                    word_a.eq(base("a")),
                    word_b.eq(base("b")),
                    word_dst.eq(base("dst")),
                    self.control.vector.eq(
                        field["vector"] + Mux(field["vector_slot"], payload.slot, 0)
                    ),
                ]

            with m.State("SETUP"):
                plane_limits = Array([0] + [limit(i) for i in range(1, PLANES_MAX + 1)] + [0, 0])
                m.d.comb += self.busy.eq(1)
                m.d.sync += enough.eq(0)
                m.d.sync += [
                    self.control.exp.eq(is_exp),
                    self.control.sigmoid.eq(field["function"]),
                    self.control.relu.eq(field["relu"]),
                    self.control.by_vector.eq(field["by_vector"] | is_rope),
                    shift_sum.eq(field["shift"] - m_exponent + x_exponent),
                    pre_sum.eq(field["b_shift"] + b_exponent),
                    self.control.factor.eq(Mux(is_hadamard, 1, p.mantissa)),
                    self.control.limited.eq(field["planes"] != 0),
                    self.control.limit.eq(plane_limits[field["planes"]]),
                    self.control.floor.eq(128 - plane_limits[field["planes"]]),
                    self.control.destination.eq(field["destination"]),
                    setting.to_codes.eq(
                        (field["destination"] != Destination.SCRATCH)
                        & (field["destination"] != Destination.NONE)
                    ),
                    setting.add.eq(field["add"]),
                    start.eq(word_a),
                    self.control.reduce.eq(
                        Mux(is_hadamard, Reduce.ABSMAX, Mux(is_exp, Reduce.SUM, field["reduce"]))
                    ),
                    left.eq(n),
                    last_word.eq(n <= width),
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
                    passes.eq(field["log2_block"]),
                    inside.eq(Mux(field["log2_block"] != 0, 1, 0)),
                    wait.eq(Timing.write - 1),
                    waited.eq(0),
                    drain.eq(
                        Timing.write
                        + Mux(is_exp, Timing.exponential - Timing.result, 0)
                        + Mux(
                            is_exp | is_hadamard | (field["reduce"] != Reduce.NONE), 2 * levels, 0
                        )
                    ),
                ]
                with m.If(n == 0):
                    m.next = "DRAIN"
                with m.Elif(is_rope):
                    m.next = "ROTATE"
                with m.Elif((field["log2_block"] != 0) & (levels == 0)):
                    m.d.sync += [wait.eq(0), waited.eq(1)]
                    m.next = "PASS"
                with m.Else():
                    m.next = "STREAM"

            with m.State("STREAM"):
                m.d.comb += self.busy.eq(1)
                words = {"a": word_a, "b": word_b, "dst": word_dst}
                self._stream(
                    m, send, setting, left, last_word, words, (step, offset), inside, last_pass
                )
                with m.If(last_word):
                    m.d.sync += [inside.eq(inside << 1), passes.eq(passes - 1)]
                    m.next = "DRAIN"
                    with m.If(~last_pass):
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
                # Every pass counts from the beginning of the vector.
                m.d.comb += self.busy.eq(1)
                m.d.sync += [
                    index.eq(0),
                    at_final.eq(final == 0),
                    left.eq(n),
                    last_word.eq(n <= width),
                    word_a.eq(start),
                    word_b.eq(start),
                    word_dst.eq(start),
                ]
                with m.If(waited):
                    m.d.sync += [wait.eq(Timing.write - 1), waited.eq(0)]
                    m.next = "CROSS"
                    if levels:
                        with m.If(~inside[-1]):
                            m.next = "STREAM"

            with m.State("CROSS"):
                m.d.comb += self.busy.eq(1)
                self._cross(m, send, index, stride, below, last_pass, word_a)
                m.d.sync += [index.eq(index + 1), at_final.eq(index + 1 == final)]
                with m.If(at_final):
                    m.d.sync += [
                        passes.eq(passes - 1),
                        stride.eq(stride << 1),
                        below.eq(Cat(1, below)),
                    ]
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
                    with m.If(last_pair):
                        m.next = "DRAIN"

            with m.State("DRAIN"):
                m.d.comb += self.busy.eq(1)
                m.d.sync += drain.eq(drain - 1)
                with m.If(drain == 0):
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

    def _stream(self, m, send, setting, left, last, words, place, inside, last_pass):
        """Send the next word of VEC, EXP or of a pass of HADAMARD within words."""
        width, levels = self._config.vu_width, self._levels
        step, offset = place
        mask = Signal(width)
        m.d.comb += mask.eq(self._first(left))
        # Where words divide the K step, activation memory takes them whole; what the mask leaves
        # out is zero, which is what the rest of the K step must become.
        whole = setting.to_codes if self._config.tile_k % width == 0 else Const(0, 1)
        send(
            mask=mask,
            write=Mux(
                self.control.destination == Destination.NONE, 0, mask | whole.replicate(width)
            ),
            **words,
            step=step,
            offset=offset,
            add=setting.add | inside[:levels].any(),
            in_word=inside[:levels],
            reduce=last_pass,
        )
        m.d.sync += [word.eq(word + 1) for word in words.values()]
        m.d.sync += [left.eq(left - width), last.eq(left <= 2 * width)]
        self._advance(m, step, offset, Mux(last & ~whole, left[: self._levels + 1], width))

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
        )
