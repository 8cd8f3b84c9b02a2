"""The vector unit as the executor sees it."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from tamale.gateware.interfaces import (
    ActivationWrite,
    ScratchRead,
    ScratchWrite,
    UnitSignature,
)
from tamale.gateware.vector.lane import Lane
from tamale.gateware.vector.layout import Timing
from tamale.gateware.vector.operands import Operands
from tamale.gateware.vector.reduce import Reducer
from tamale.gateware.vector.sequence import Sequencer
from tamale.isa import Destination, Reduce

__all__ = ["VectorUnit"]


class VectorUnit(wiring.Component):
    """Performs VEC, HADAMARD, ROPE and EXP as `tamale.isa` defines them.

    Every command costs a fixed time and one cycle per item; with w = ``vu_width`` the items are

    - VEC, EXP: ceil(n / w) words; VEC to activation memory then zeros the rest of the last
      K step, in at least one cycle;
    - HADAMARD: ceil(n / w) words for each doubling of the block (in any case once), with a cycle
      between passes, which begin no sooner than ``Timing.write`` cycles after each other; one more
      cycle if w = 1 and the block is larger;
    - ROPE: 2 n / w.

    The fixed time, from the cycle in which the issue is first valid to the one in which
    ``unit.done_valid`` is high, is ``Timing.write`` + 4 cycles; 2 log2(w) more with a reduction,
    and 6 more for EXP.

    Operands lie at multiples of w elements; heads of ROPE are multiples of 2 w elements and not
    longer than n; n of HADAMARD is a multiple of the block; K steps are up to the configuration's
    ``act_steps``. A result may take the place of its operand (same element). VEC does not combine
    ``add`` with ``by_vector``: the addend would need the port of the factor. What a command says
    beyond that is not checked here, nor that it stays within the memories.

    Elements from n on are left as they are in the scratchpad. A SUM is modulo 2**48.

    Parameters
    ----------
    config : Config

    Members
    -------
    unit : Out(UnitSignature())
        Commands. Of the issue, ``command``, ``slot``, ``slot_base``, ``position``, ``p`` and ``q``
        count. ``result``: ABSMAX of VEC and HADAMARD, SUM of VEC and EXP; else zero.
    a, b : Out(ScratchRead(config))
        Operands, from the scratchpad.
    write : Out(ScratchWrite(config))
        Results, to the scratchpad.
    activation : Out(ActivationWrite(config))
        Results, to activation memory.
    peak : Out(signed(32))
        Result of the last MAX, for diagnosis.
    busy : Out(1)
        From the cycle in which an idle unit sees a command to the cycle of ``done_valid``.
    saturated : Out(1)
        Once for every item in which sat18 or sat32 clipped at least one element before n.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "a": Out(ScratchRead(config)),
                "b": Out(ScratchRead(config)),
                "write": Out(ScratchWrite(config)),
                "activation": Out(ActivationWrite(config)),
                "peak": Out(signed(32)),
                "busy": Out(1),
                "saturated": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.operands = operands = Operands(config)
        m.submodules.reducer = reducer = Reducer(config)
        lanes = [Lane() for _ in range(config.vu_width)]
        control = sequencer.control
        wiring.connect(m, wiring.flipped(self.unit.issue), sequencer.issue)

        # The item in every cycle of its way; what is not looked at any more is optimised away.
        items = [sequencer.item]
        for cycle in range(1, Timing.exponential + 1):
            item = Signal.like(sequencer.item, name=f"item{cycle}")
            m.d.sync += item.eq(items[-1])
            if cycle == Timing.result + 1:
                # What has been written must not be met again when EXP looks further down.
                with m.If(~control.exp):
                    m.d.sync += item.eq(0)
            items.append(item)
        self._read(m, items, operands)

        # SIGMOID is computed from the magnitude; the sign waits beside the pipeline.
        mirrored = control.sigmoid.replicate(config.vu_width) & ~operands.negative
        for cycle in range(Timing.prepare, Timing.complement):
            after = Signal(config.vu_width, name=f"mirrored{cycle}")
            m.d.sync += after.eq(mirrored)
            mirrored = after

        combine = items[Timing.combine]
        for i, lane in enumerate(lanes):
            m.submodules[f"lane{i}"] = lane
            m.d.comb += [
                lane.control.eq(control),
                lane.a.eq(operands.prepared[i]),
                lane.b.eq(self.b.data[i]),
                lane.partial.eq(combine.partial),
                lane.minus.eq(combine.minus),
                lane.addend.eq(operands.addend[i]),
                lane.carry.eq(operands.carry[i]),
                lane.complement.eq(mirrored[i]),
            ]

        m.d.comb += [
            operands.control.eq(control),
            operands.peak.eq(self.peak),
            reducer.mode.eq(control.reduce),
            reducer.clear.eq(sequencer.clear),
            self.busy.eq(sequencer.busy),
            self.unit.done_valid.eq(sequencer.done),
        ]
        last = Signal.like(items[0])
        m.d.comb += last.eq(Mux(control.exp, items[Timing.exponential], items[Timing.result]))
        self._reduce(m, last, control, lanes, reducer, sequencer.done)
        self._write(m, last, control, lanes)
        self._count(m, items, lanes)
        return m

    def _read(self, m, items, operands):
        """Read operand a, and b at the same time as a factor or much later as an addend.

        Read late, an addend needs no registers on its way to the adder.
        """
        early, factor, addend = (
            items[i] for i in (Timing.read_a, Timing.read_factor, Timing.read_addend)
        )
        ready = items[Timing.product]
        m.d.comb += [
            self.a.en.eq(early.valid),
            self.a.addr.eq(early.a),
            self.b.en.eq(factor.valid | addend.add),
            self.b.addr.eq(Mux(addend.add, addend.b, factor.b)),
            operands.word_a.eq(self.a.data),
            operands.word_b.eq(self.b.data),
            operands.pairs_a.eq(items[Timing.prepare].in_word),
            operands.pairs_b.eq(ready.in_word),
            operands.add.eq(ready.add),
            operands.subtract.eq(ready.subtract),
        ]

    def _reduce(self, m, last, control, lanes, reducer, done):
        """Reduce results, and keep what comes out."""
        # Nothing may be left on its way when the next command begins.
        with m.If(last.reduce & (control.reduce != Reduce.NONE)):
            m.d.comb += reducer.mask.eq(last.mask)
        m.d.comb += [reducer.values[i].eq(lane.result) for i, lane in enumerate(lanes)]
        with m.If(control.reduce == Reduce.MAX):
            with m.If(done):
                m.d.sync += self.peak.eq(reducer.total[:32] ^ (1 << 31))
        with m.Elif(control.reduce != Reduce.NONE):
            m.d.comb += self.unit.done.result.eq(reducer.total)

    def _write(self, m, last, control, lanes):
        """Write results to the scratchpad or to activation memory, from registers."""
        scratch = control.destination == Destination.SCRATCH
        high, low = (control.destination == d for d in (Destination.HIGH, Destination.LOW))
        m.d.sync += [
            self.write.en.eq(last.write),
            self.write.addr.eq(last.dst),
            self.activation.en.eq(last.write),
            self.activation.vector.eq(Mux(last.valid, control.vector, 0)),
            self.activation.step.eq(last.step),
            self.activation.offset.eq(last.offset),
        ]
        with m.If(scratch):
            m.d.sync += [
                self.activation.en.eq(0),
                self.activation.vector.eq(0),
                self.activation.step.eq(0),
                self.activation.offset.eq(0),
            ]
        with m.Else():
            m.d.sync += [self.write.en.eq(0), self.write.addr.eq(0)]
        for i, lane in enumerate(lanes):
            value, written = lane.result, Signal(signed(32), name=f"written{i}")
            m.d.sync += written.eq(value)
            with m.If(~(scratch & last.write[i])):
                m.d.sync += written.eq(0)
            m.d.comb += self.write.data[i].eq(written)

            # Beyond the range: the largest code, or the smallest, which is 0 or -127.
            negative, above, below = value[-1], Signal(name=f"above{i}"), Signal(name=f"below{i}")
            code, digits = Signal(8, name=f"code{i}"), Signal(8, name=f"digits{i}")
            with m.If(high | low):
                m.d.comb += [
                    above.eq(~negative & (value[14:31] != 0)),
                    below.eq(negative),
                    code.eq(Mux(below, 0, Mux(above, 127, Mux(high, value[7:14], value[:7])))),
                ]
            with m.Else():
                m.d.comb += [
                    above.eq(~negative & (value[7:31] != 0)),
                    below.eq(negative & (~value[7:31].all() | (value[:7] == 0))),
                    code.eq(Mux(below, -127, Mux(above, 127, value[:8]))),
                ]
            m.d.sync += digits.eq(code)
            with m.If(scratch | ~last.write[i] | ~last.mask[i]):
                m.d.sync += digits.eq(0)
            m.d.comb += self.activation.data[i].eq(digits)

    def _count(self, m, items, lanes):
        """Carry with each item whether something in it was clipped."""
        clipped = Signal(name="clipped0")
        for cycle in range(Timing.sum + 1):
            item, flags = items[cycle], 0
            if cycle == Timing.factor:
                flags = Cat(lane.clip_factor for lane in lanes)
            if cycle == Timing.product:
                # A partial product is completed before it is shifted.
                flags = Mux(item.partial, 0, Cat(lane.clip_product for lane in lanes))
            if cycle == Timing.sum:
                flags = Cat(lane.clip_sum for lane in lanes)
            after = Signal(name=f"clipped{cycle + 1}")
            m.d.sync += after.eq(clipped | (flags & item.mask).any())
            clipped = after
        m.d.comb += self.saturated.eq(clipped)
