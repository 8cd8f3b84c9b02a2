"""The scalars of the accelerator: register file, arithmetic and normaliser.

A scalar is a non-negative number mantissa * 2**exponent, see `gateware.interfaces.ScalarLayout`.
Results equal ``tamale_model.integer`` on every bit, except that an exponent outside -1024..1023,
for which the specification raises an error, wraps here.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale.gateware.interfaces import NO_COLLISIONS, ScalarLayout, UnitSignature
from tamale.isa import FIELDS, SHARED_SCALARS, Op, ScalarOp

__all__ = ["NormaliseLayout", "ScalarRead", "ScalarUnit", "ScalarWrite"]

_NAME_BITS = 6
_WIDE = 48
_DIVIDE_STEPS, _ROOT_STEPS = 17, 16

#: A reduction on its way to a register, which becomes the scalar ``integer.normalise(value)``.
NormaliseLayout = data.StructLayout(
    {"value": unsigned(_WIDE), "name": unsigned(_NAME_BITS), "slot": unsigned(4)}
)


def ScalarRead():
    """Read port of the scalars, as its user sees it: two registers of one slot, one cycle later.

    Present ``p_name``, ``q_name`` and ``slot`` in one cycle, take ``p`` and ``q`` in the next. They
    answer to the user only while the unit is idle; at other times they are not defined.
    """
    return wiring.Signature(
        {
            "p_name": Out(_NAME_BITS),
            "q_name": Out(_NAME_BITS),
            "slot": Out(4),
            "p": In(ScalarLayout),
            "q": In(ScalarLayout),
        }
    )


def ScalarWrite():
    """Write port of the scalars, as its user sees it; reads presented in later cycles see it."""
    return wiring.Signature(
        {
            "en": Out(1),
            "name": Out(_NAME_BITS),
            "slot": Out(4),
            "value": Out(ScalarLayout),
        }
    )


class ScalarUnit(wiring.Component):
    """Performs SCALAR commands, and keeps the registers that other commands name.

    Names below ``isa.SHARED_SCALARS`` are common to all slots, the others private to a slot. All
    registers are zero after configuration; a reset does not clear them.

    The unit is idle while ``normalise.ready`` and ``unit.issue.ready`` are high, which they are
    together. Only then may `read` and `write` be used. Of a SCALAR command and a value to normalise
    that arrive in the same cycle the command is taken.

    Latency, from the cycle of the transfer to the cycle in which the unit is idle again and the
    result can be read: a value to normalise 5 cycles; a command SHIFT, SCALE, MUL, ADD 8, SQRT 22,
    DIV 23 cycles. ``unit.done_valid`` is high in the last cycle before the unit is idle;
    ``unit.done.result`` is always zero, for the result is stored already.

    Mantissas are 0 or 2**15 to 2**16 - 1; `write` must keep to that.

    Parameters
    ----------
    config : Config
        ``vectors`` is the number of slots.

    Members
    -------
    unit : Out(UnitSignature())
        SCALAR commands; of the issue, ``command`` and ``slot`` count.
    read : In(ScalarRead())
        ``p``, ``q`` of an issue: names and slot in, registers out one cycle later.
    write : In(ScalarWrite())
        Raw write, for SLOAD.
    normalise : In(stream.Signature(NormaliseLayout))
        Reductions to be stored.
    """

    def __init__(self, config):
        self._config = config
        super().__init__(
            {
                "unit": Out(UnitSignature()),
                "read": In(ScalarRead()),
                "write": In(ScalarWrite()),
                "normalise": In(stream.Signature(NormaliseLayout)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        slots = self._config.vectors
        memory = Memory(
            shape=ScalarLayout,
            depth=SHARED_SCALARS * (slots + 1),
            init=[],
            attrs=NO_COLLISIONS,
        )
        m.submodules.memory = memory
        port_a, port_b = (memory.read_port(domain="comb") for _ in range(2))
        read_a, read_b = Signal(ScalarLayout), Signal(ScalarLayout)
        m.d.sync += [read_a.eq(port_a.data), read_b.eq(port_b.data)]
        store = memory.write_port()

        def address(name, slot):
            # The names of each slot first, then the shared ones.
            return Cat(name[:5], Mux(name[5], slot, slots))

        def field(name):
            offset, width = FIELDS[Op.SCALAR][name]
            return self.unit.issue.payload.command[offset : offset + width]

        operation, imm = Signal(3), Signal(signed(11))
        name, slot = Signal(_NAME_BITS), Signal(4)
        a_name, b_name = Signal(_NAME_BITS), Signal(_NAME_BITS)
        idle, executing = Signal(), Signal()
        read_slot = Signal(4)
        m.d.comb += [
            read_slot.eq(Mux(idle, self.read.slot, slot)),
            port_a.addr.eq(address(Mux(idle, self.read.p_name, a_name), read_slot)),
            port_b.addr.eq(address(Mux(idle, self.read.q_name, b_name), read_slot)),
            self.read.p.eq(read_a),
            self.read.q.eq(read_b),
        ]
        is_ = {op: Signal(name=f"is_{op.name.lower()}") for op in ScalarOp}
        m.d.comb += [signal.eq(operation == op) for op, signal in is_.items()]

        # The result: a mantissa in the upper 16 bits, or one bit below them, and the exponent that
        # it has if it is in the upper 16; not normalised further below is only zero.
        wide, exponent = Signal(32), Signal(signed(13))
        step = Signal(range(_DIVIDE_STEPS))
        write_en, result = Signal(), Signal(ScalarLayout)
        m.d.comb += [
            result.mantissa.eq(Mux(wide[31], wide[16:], wide[15:31])),
            result.exponent.eq(Mux(wide[30:] == 0, 0, exponent - ~wide[31])),
            store.en.eq(write_en | self.write.en),
            store.addr.eq(
                Mux(write_en, address(name, slot), address(self.write.name, self.write.slot))
            ),
            store.data.eq(Mux(write_en, result, self.write.value)),
        ]

        # Block RAM is slow, so that its output goes no further than these.
        a_mantissa, a_exponent = Signal(16), Signal(signed(11))
        b_mantissa, b_exponent = Signal(16), Signal(signed(11))
        m.d.sync += [
            a_mantissa.eq(read_a.mantissa),
            a_exponent.eq(read_a.exponent),
            b_mantissa.eq(read_b.mantissa),
            b_exponent.eq(read_b.exponent),
        ]
        odd = a_exponent[0]
        swap, ahead, behind = Signal(), Signal(signed(12)), Signal(signed(12))
        raised = Signal(signed(13))
        # MUL multiplies the mantissas. ADD multiplies the smaller one by a power of two, which is a
        # shift, and adds the larger one; SHIFT and SCALE add nothing to their operand.
        factor_a, factor_b, larger, far = Signal(16), Signal(16), Signal(16), Signal()
        product = Signal(32)
        # Division: remainder and divisor. Square root: remainder and the radicand still to come.
        rest, divisor, divides = Signal(20), Signal(16), Signal()
        radicand = Signal(17)
        # Normalisation: leading zeros that are known, and what lies behind them.
        upper, middle = Signal(31), Signal(19)
        zeros = Signal(6)

        # What the states below compute with, outside of them: it need not know which one it is.
        constant = Signal(signed(11))
        with m.Switch(operation):
            with m.Case(ScalarOp.MUL):
                m.d.comb += constant.eq(15)
            with m.Case(ScalarOp.DIV):
                m.d.comb += constant.eq(-15)
            with m.Case(ScalarOp.SQRT):
                m.d.comb += constant.eq(-8)
            with m.Case(ScalarOp.SHIFT, ScalarOp.SCALE):
                m.d.comb += constant.eq(imm)
        base, distance = Signal(signed(11)), Signal(signed(12))
        m.d.comb += [
            base.eq(Mux(swap, b_exponent, a_exponent)),
            distance.eq(Mux(swap, behind, ahead)),
        ]
        with m.If(is_[ScalarOp.SQRT]):
            m.d.comb += base.eq((a_exponent >> 1) + odd)
        rise = Mux(is_[ScalarOp.SHIFT] & (raised < 0), 0, raised)
        less = Signal(18)
        m.d.comb += less.eq(rest[:17] - divisor)
        down, after = Cat(radicand[15:], rest[:18]), Signal(21)
        m.d.comb += after.eq(down - Cat(1, 0, wide[15:31]))
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [idle.eq(1), self.unit.issue.ready.eq(1), self.normalise.ready.eq(1)]
                m.d.sync += [
                    operation.eq(field("operation")),
                    imm.eq(field("imm")),
                    a_name.eq(field("a")),
                    b_name.eq(field("b")),
                ]
                self._leading(m, self.normalise.payload.value, 16, 3, upper, zeros[4:])
                with m.If(self.unit.issue.valid):
                    m.d.sync += [
                        name.eq(field("rd")),
                        slot.eq(self.unit.issue.payload.slot),
                        executing.eq(1),
                    ]
                    m.next = "READ"
                with m.Elif(self.normalise.valid):
                    m.d.sync += [
                        name.eq(self.normalise.payload.name),
                        slot.eq(self.normalise.payload.slot),
                        executing.eq(0),
                    ]
                    m.next = "QUARTERS"

            with m.State("READ"):
                m.next = "OPERANDS"

            with m.State("OPERANDS"):
                m.next = "COMPARE"

            with m.State("COMPARE"):
                uses_b = is_[ScalarOp.MUL] | is_[ScalarOp.DIV] | is_[ScalarOp.SHIFT]
                term = (b_exponent ^ is_[ScalarOp.DIV].replicate(11)).as_signed()
                m.d.sync += [
                    ahead.eq(a_exponent - b_exponent),
                    behind.eq(b_exponent - a_exponent),
                    swap.eq(
                        is_[ScalarOp.ADD]
                        & (b_mantissa != 0)
                        & ((a_mantissa == 0) | (a_exponent < b_exponent))
                    ),
                    # What the exponent of the result is above that of a, less 1.
                    raised.eq(Mux(uses_b, term, 0) + constant),
                ]
                m.next = "ALIGN"

            with m.State("ALIGN"):
                m.d.sync += [
                    exponent.eq(base + rise + 1),
                    larger.eq(Mux(swap, b_mantissa, a_mantissa)),
                    factor_a.eq(Mux(swap, a_mantissa, b_mantissa)),
                    # In units of 2**-15 or, beyond that distance, of 2**-31.
                    factor_b.eq(Cat(distance[:4] == 15 - i for i in range(16))),
                    far.eq(distance[4]),
                    wide.eq(0),
                    step.eq(0),
                    rest.eq(Mux(is_[ScalarOp.DIV], a_mantissa, 0)),
                    divisor.eq(b_mantissa),
                    divides.eq(b_mantissa != 0),
                    radicand.eq(Mux(odd, a_mantissa, a_mantissa << 1)),
                ]
                m.next = "MULTIPLY"
                with m.Switch(operation):
                    with m.Case(ScalarOp.MUL):
                        m.d.sync += [factor_b.eq(a_mantissa), far.eq(0), larger.eq(0)]
                    with m.Case(ScalarOp.DIV):
                        m.next = "DIVIDE"
                    with m.Case(ScalarOp.SQRT):
                        m.next = "ROOT"
                    with m.Case(ScalarOp.ADD):
                        with m.If(distance > 31):
                            m.d.sync += factor_a.eq(0)
                    with m.Default():
                        m.d.sync += factor_a.eq(0)

            with m.State("MULTIPLY"):
                m.d.sync += product.eq(factor_a * factor_b)
                m.next = "SUM"

            with m.State("SUM"):
                m.d.sync += wide.eq((larger << 15) + Mux(far, product[16:], product))
                m.next = "STORE"

            with m.State("DIVIDE"):
                # Normalised mantissas: the quotient of a * 2**16 and b has 17 bits, the first of
                # which says whether a >= b.
                fits = ~less[17]
                m.d.sync += [
                    wide[15:].eq(Cat(fits & divides, wide[15:31])),
                    rest.eq(Mux(fits, less[:17], rest[:17]) << 1),
                    step.eq(step + 1),
                ]
                with m.If(step == _DIVIDE_STEPS - 1):
                    m.next = "STORE"

            with m.State("ROOT"):
                # Digit by digit: the root so far is r, two more bits of the radicand come down,
                # the next bit is set if 4r + 1 fits into the remainder.
                fits = ~after[20]
                m.d.sync += [
                    wide[15:].eq(Cat(fits, wide[15:31])),
                    rest.eq(Mux(fits, after[:20], down)),
                    radicand.eq(radicand << 2),
                    step.eq(step + 1),
                ]
                with m.If(step == _ROOT_STEPS - 1):
                    m.next = "STORE"

            with m.State("QUARTERS"):
                self._leading(m, upper, 4, 4, middle, zeros[2:4])
                m.next = "BITS"

            with m.State("BITS"):
                self._leading(m, middle, 1, 4, wide[16:], zeros[:2])
                m.d.sync += wide[:16].eq(0)
                m.next = "PLACE"

            with m.State("PLACE"):
                # A number of 48 bits with its highest bit set has the mantissa in its upper 16.
                m.d.sync += exponent.eq(_WIDE - 16 - zeros)
                m.next = "STORE"

            with m.State("STORE"):
                m.d.comb += [write_en.eq(1), self.unit.done_valid.eq(executing)]
                m.next = "IDLE"

        return m

    def _leading(self, m, value, unit, choices, rest, zeros):
        """Drop up to choices - 1 units of leading zeros, in one cycle, and say how many.

        ``rest`` gets as many of the upper bits as fit; it holds the unit that is not zero in front.
        """
        size = len(value)
        moved, count = Signal(len(rest)), Signal(len(zeros))
        m.d.comb += moved.eq(value[size - len(rest) :])
        for units in range(1, choices):
            with m.If(value[size - units * unit :] == 0):
                low = size - len(rest) - units * unit
                m.d.comb += [
                    moved.eq(value[max(0, low) : low + len(rest)] << max(0, -low)),
                    count.eq(units),
                ]
        m.d.sync += [rest.eq(moved), zeros.eq(count)]
