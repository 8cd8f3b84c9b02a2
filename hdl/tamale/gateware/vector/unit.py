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
from tamale.gateware.vector.layout import Timing, log2_width
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
    - HADAMARD: n / w words for the transform within words (none if w = 1 and the block is larger),
      and again for each doubling of the block from w on, with a cycle between passes, which
      begin no sooner than 15 cycles after each other (one more for each doubling of w beyond 8);
    - ROPE: 2 n / w.

    The fixed time, from the cycle in which the issue is first valid to the one in which
    ``unit.done_valid`` is high, is 18 cycles; 2 log2(w) more with a reduction, three more for EXP,
    and one more for each doubling of w beyond 8.

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
        timing, levels = Timing(config), log2_width(config)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.operands = operands = Operands(config)
        m.submodules.reducer = reducer = Reducer(config)
        lanes = [Lane() for _ in range(config.vu_width)]
        control = sequencer.control
        wiring.connect(m, wiring.flipped(self.unit.issue), sequencer.issue)
        m.d.comb += [
            self.busy.eq(sequencer.busy),
            operands.control.eq(control),
            operands.peak.eq(self.peak),
        ]

        # The item in every cycle of its way; what is not looked at any more is optimised away.
        items = [sequencer.item]
        for cycle in range(1, timing.exponential + 1):
            item = Signal.like(sequencer.item, name=f"item{cycle}")
            m.d.sync += item.eq(items[-1])
            items.append(item)

        self._read(m, items, timing, operands, lanes)
        for i, lane in enumerate(lanes):
            m.submodules[f"lane{i}"] = lane
            m.d.comb += [
                lane.control.eq(control),
                lane.a.eq(operands.prepared[i]),
                lane.b.eq(self.b.data[i]),
                lane.minus.eq(items[timing.combine].minus),
                lane.plus.eq(items[timing.combine].plus),
                lane.add.eq(items[timing.add].add),
                lane.subtract.eq(items[timing.add].subtract),
            ]
        # The sigmoid is computed from the magnitude; its sign waits beside the pipeline.
        signs = control.sigmoid.replicate(config.vu_width) & ~operands.negative
        for cycle in range(timing.prepare, timing.exponential - 2):
            after = Signal(config.vu_width, name=f"positive{cycle}")
            m.d.sync += after.eq(signs)
            signs = after
        for i, lane in enumerate(lanes):
            m.d.comb += lane.complement.eq(signs[i])
        for level in range(levels):
            m.d.comb += operands.transform[level].eq(
                items[timing.prepare + level].in_word & (control.levels > level)
            )

        self._write(m, items, timing, control, lanes, reducer)
        self._count(m, items, timing, operands, lanes)

        m.d.comb += [
            reducer.mode.eq(control.reduce),
            reducer.clear.eq(sequencer.clear),
            reducer.fold.eq(sequencer.fold),
            self.unit.done_valid.eq(sequencer.done),
        ]
        with m.If(control.reduce == Reduce.MAX):
            with m.If(sequencer.done):
                m.d.sync += self.peak.eq(reducer.total)
        with m.Elif(control.reduce != Reduce.NONE):
            m.d.comb += self.unit.done.result.eq(reducer.total)
        return m

    def _read(self, m, items, timing, operands, lanes):
        """Read operand a first, b as a factor with it or a little later, as an addend much later.

        Read late, an addend needs no registers on its way to the adder.
        """
        factor, addend = items[timing.read_factor], items[timing.read_addend]
        m.d.comb += [
            self.a.en.eq(items[0].valid),
            self.a.addr.eq(items[0].a),
            self.b.en.eq(factor.valid | addend.valid),
            self.b.addr.eq(Mux(addend.add, addend.b, Mux(factor.add, 0, factor.b))),
            operands.word.eq(self.a.data),
        ]

    def _write(self, m, items, timing, control, lanes, reducer):
        """Write what the lanes return to the scratchpad or to activation memory, and reduce it."""
        last = Signal.like(items[0])
        scratch, code = control.destination == Destination.SCRATCH, items[timing.code]
        m.d.comb += last.eq(Mux(control.exp, items[timing.exponential], items[timing.result]))
        with m.If(scratch):
            m.d.comb += [self.write.en.eq(last.write), self.write.addr.eq(last.dst)]
        with m.Else():
            m.d.comb += [
                self.activation.en.eq(code.write),
                self.activation.vector.eq(Mux(code.valid, control.vector, 0)),
                self.activation.step.eq(code.step),
                self.activation.offset.eq(code.offset),
            ]
        m.d.comb += reducer.mask.eq(Mux(last.reduce, last.mask, 0))
        for i, lane in enumerate(lanes):
            value, digits = Signal(signed(32), name=f"value{i}"), Signal(signed(8), name=f"code{i}")
            positive = Signal(14, name=f"positive{i}")
            m.d.comb += [
                value.eq(Mux(control.exp, lane.exponential, lane.result)),
                positive.eq(
                    Mux(
                        value[-1],
                        0,
                        Mux(value[14:] != 0, 2**14 - 1, value),
                    )
                ),
                reducer.values[i].eq(value),
            ]
            with m.If(last.write[i] & scratch):
                m.d.comb += self.write.data[i].eq(value)
            with m.If(~last.mask[i]):
                m.d.sync += digits.eq(0)
            with m.Else():
                with m.Switch(control.destination):
                    with m.Case(Destination.HIGH):
                        m.d.sync += digits.eq(positive[7:])
                    with m.Case(Destination.LOW):
                        m.d.sync += digits.eq(positive[:7])
                    with m.Default():
                        m.d.sync += digits.eq(Mux(value > 127, 127, Mux(value < -127, -127, value)))
            with m.If(code.write[i] & ~scratch):
                m.d.comb += self.activation.data[i].eq(digits)

    def _count(self, m, items, timing, operands, lanes):
        """Carry with each item whether something in it was clipped."""
        clipped = Signal(name="clipped0")
        for cycle in range(timing.result):
            item, flags = items[cycle], []
            level = cycle - timing.prepare
            if 0 <= level < log2_width(self._config):
                flags.append(operands.clip[level])
            if cycle == timing.factor:
                flags.append(Cat(lane.clip_factor for lane in lanes))
            if cycle == timing.product:
                whole = Signal(len(lanes))
                m.d.comb += whole.eq(Mux(item.partial, 0, Cat(lane.clip_product for lane in lanes)))
                flags.append(whole)
            if cycle == timing.sum:
                flags.append(Cat(lane.clip_sum for lane in lanes))
            after = Signal(name=f"clipped{cycle + 1}")
            now = clipped
            for flag in flags:
                now = now | (flag & item.mask).any()
            m.d.sync += after.eq(now)
            clipped = after
        m.d.comb += self.saturated.eq(clipped)
