"""The loader: from the stream to the scratchpad and to the scalar registers."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from tamale.gateware.interfaces import ScratchWrite, UnitSignature
from tamale.gateware.program import field
from tamale.gateware.scalar import ScalarWrite
from tamale.isa import Format, Op

__all__ = ["Loader"]

_FORMAT_BITS = {Format.INT8: 8, Format.INT16: 16, Format.INT32: 32}


class Loader(wiring.Component):
    """Performs LOAD and SLOAD.

    LOAD takes ``beats`` beats, sign-extends their elements and writes them to consecutive elements
    of the scratchpad from ``dst`` (plus the slot's base). A beat of e elements takes
    1 + max(1, e / vu_width) cycles; where e is smaller than vu_width, several beats fill one word
    through its enables. The destination must be a multiple of min(e, vu_width).

    SLOAD takes as many beats as hold ``count`` words, a cycle for each beat and each word; the
    words behind the last one are dropped.

    The first write happens three cycles after the issue was taken, if a beat is there;
    ``done_valid`` comes together with the last write. A command without beats is done two cycles
    after its issue. Anything but SLOAD is performed as LOAD: the executor sends nothing else.

    Parameters
    ----------
    config : Config
        ``bus_width``, ``vu_width`` and ``scratchpad_elements`` matter.

    Members
    -------
    unit : ``Out(UnitSignature())``
        Issue and done; ``result`` is zero.
    i : ``In(stream.Signature(bus_width))``
        The stream.
    write : ``Out(ScratchWrite(config))``
        Elements; zero when nothing is written.
    scalar_write : ``Out(ScalarWrite())``
        Scalars; zero when nothing is written.
    clear : ``In(1)``
        Pulse: forgets the command in work, without ``done_valid``.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "i": In(stream.Signature(config.bus_width)),
                "write": Out(ScratchWrite(config)),
                "scalar_write": Out(ScalarWrite()),
                "clear": In(1),
            }
        )

    def _chunks(self, bits):
        """Cycles that a beat of elements of ``bits`` bits takes."""
        return max(1, self._config.bus_width // bits // self._config.vu_width)

    def elaborate(self, platform):
        m = Module()
        config, width = self._config, self._config.vu_width
        words = config.bus_width // 32
        issue = self.unit.issue.payload

        steps = max([words, *(self._chunks(bits) for bits in _FORMAT_BITS.values())])
        busy, scalars, form = Signal(), Signal(), Signal(Format)
        beats, count = Signal(14), Signal(6)
        element, name, slot = Signal(17), Signal(6), Signal(4)
        step = Signal(range(max(2, steps)))
        empty, take, last_step, finish = Signal(), Signal(), Signal(), Signal()
        beat, held = Signal(config.bus_width), Signal()
        m.d.comb += [
            self.unit.issue.ready.eq(~busy),
            take.eq(held),
            # Every other cycle: the beat is used from a register.
            self.i.ready.eq(busy & ~empty & ~held),
        ]
        with m.If(self.i.ready):
            m.d.sync += [beat.eq(self.i.payload), held.eq(self.i.valid)]
        with m.If(take & last_step):
            m.d.sync += held.eq(0)

        # Every lane gets the element that it would hold; the enables choose the lanes.
        lane_bits = width.bit_length() - 1
        chosen = Signal(data.ArrayLayout(signed(32), width))
        enables, advance = Signal(width), Signal(range(width + 1))
        with m.Switch(form):
            for code, bits in _FORMAT_BITS.items():
                chunks = self._chunks(bits)
                size = min(config.bus_width // bits, width)
                with m.Case(code):
                    chunk = beat.word_select(step[: (chunks - 1).bit_length()], size * bits)
                    m.d.comb += [
                        chosen[lane].eq(chunk.word_select(lane % size, bits).as_signed())
                        for lane in range(width)
                    ]
                    place = element[size.bit_length() - 1 : lane_bits]
                    m.d.comb += [
                        enables.eq(Cat((place == n).replicate(size) for n in range(width // size))),
                        advance.eq(size),
                        last_step.eq(step == chunks - 1),
                    ]
        # Nothing left, one left: of beats or of scalars, known from the cycle before.
        one = Signal()
        with m.If(scalars):
            m.d.comb += [last_step.eq((step == words - 1) | one), finish.eq(one)]
        with m.Else():
            m.d.comb += finish.eq(one & last_step)

        word = Signal(32)
        m.d.comb += word.eq(beat.word_select(step[: (words - 1).bit_length()], 32))
        # The write ports of all units are ORed: they are zero unless something is written.
        m.d.sync += [
            self.write.en.eq(0),
            self.write.addr.eq(0),
            self.write.data.eq(0),
            self.scalar_write.en.eq(0),
            self.scalar_write.name.eq(0),
            self.scalar_write.slot.eq(0),
            self.scalar_write.value.eq(0),
            self.unit.done_valid.eq(busy & (empty | (take & finish))),
        ]
        with m.If(take):
            m.d.sync += step.eq(step + 1)
            with m.If(last_step):
                m.d.sync += [step.eq(0), beats.eq(beats - 1)]
                with m.If(~scalars):
                    m.d.sync += [empty.eq(one), one.eq(beats == 2)]
            with m.If(scalars):
                m.d.sync += [
                    empty.eq(one),
                    one.eq(count == 2),
                    self.scalar_write.en.eq(1),
                    self.scalar_write.name.eq(name),
                    self.scalar_write.slot.eq(slot),
                    self.scalar_write.value.mantissa.eq(word[:16]),
                    self.scalar_write.value.exponent.eq(word[16:]),
                    name.eq(name + 1),
                    count.eq(count - 1),
                ]
            with m.Else():
                m.d.sync += [
                    self.write.en.eq(enables),
                    self.write.addr.eq(element[lane_bits:]),
                    self.write.data.eq(chosen),
                    element.eq(element + advance),
                ]
        with m.If(busy & (empty | (take & finish))):
            m.d.sync += busy.eq(0)
        with m.If(self.unit.issue.valid & self.unit.issue.ready):
            m.d.sync += [
                busy.eq(1),
                scalars.eq(issue.command[:4] == Op.SLOAD),
                form.eq(field(issue.command, Op.LOAD, "format")),
                beats.eq(field(issue.command, Op.LOAD, "beats")),
                element.eq(
                    field(issue.command, Op.LOAD, "dst")
                    + Mux(field(issue.command, Op.LOAD, "dst_slot"), issue.slot_base, 0)
                ),
                name.eq(field(issue.command, Op.SLOAD, "rd")),
                count.eq(field(issue.command, Op.SLOAD, "count")),
                slot.eq(issue.slot),
                step.eq(0),
            ]
            with m.If(issue.command[:4] == Op.SLOAD):
                first = field(issue.command, Op.SLOAD, "count")
                m.d.sync += [empty.eq(first == 0), one.eq(first == 1)]
            with m.Else():
                first = field(issue.command, Op.LOAD, "beats")
                m.d.sync += [empty.eq(first == 0), one.eq(first == 1)]
        with m.If(self.clear):
            m.d.sync += [busy.eq(0), held.eq(0), self.unit.done_valid.eq(0)]
        return m
