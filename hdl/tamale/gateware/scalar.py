"""The scalars of the accelerator: register file, arithmetic and normaliser.

A scalar is a non-negative number mantissa * 2**exponent, see `gateware.interfaces.ScalarLayout`.
Results equal ``tamale_model.integer`` on every bit, except that an exponent outside -1024..1023,
for which the specification raises an error, wraps here.
"""

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from tamale.gateware.interfaces import ScalarLayout, UnitSignature
from tamale.isa import FIELDS, SHARED_SCALARS, Op, ScalarOp

__all__ = ["NormaliseLayout", "ScalarRead", "ScalarUnit", "ScalarWrite"]

_NAME_BITS = 6
_WIDE = 48

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
    result can be read: a value to normalise 8 cycles; a command SHIFT, SCALE 3, MUL 11, ADD 16,
    SQRT 26, DIV 27 cycles. ``unit.done_valid`` is high in the last cycle before the unit is idle;
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
        memory = Memory(shape=ScalarLayout, depth=SHARED_SCALARS * (slots + 1), init=[])
        m.submodules.memory = memory
        port_a, port_b = memory.read_port(), memory.read_port()
        store = memory.write_port()

        def address(name, slot):
            # The shared names first, then those of each slot.
            return Cat(name[:5], Mux(name[5], slot + 1, 0))

        def field(name):
            offset, width = FIELDS[Op.SCALAR][name]
            return self.unit.issue.payload.command[offset : offset + width]

        operation, imm = Signal(3), Signal(signed(11))
        name, slot = Signal(_NAME_BITS), Signal(4)
        a_name, b_name = Signal(_NAME_BITS), Signal(_NAME_BITS)
        idle, executing = Signal(), Signal()

        a, b = port_a.data, port_b.data
        read_slot = Signal(4)
        m.d.comb += [
            read_slot.eq(Mux(idle, self.read.slot, slot)),
            port_a.addr.eq(address(Mux(idle, self.read.p_name, a_name), read_slot)),
            port_b.addr.eq(address(Mux(idle, self.read.q_name, b_name), read_slot)),
            self.read.p.eq(a),
            self.read.q.eq(b),
        ]

        # The number that is being computed: wide * 2**exponent, then a quotient or a root.
        wide, exponent = Signal(_WIDE), Signal(signed(11))
        step = Signal(range(32))
        # Division: remainder and divisor. Square root: remainder and the radicand still to come.
        rest, divisor = Signal(20), Signal(16)
        radicand = Signal(32)
        # Addition: the smaller operand, and how far it still moves right.
        small, distance = Signal(31), Signal(6)
        factor_a, factor_b = Signal(16), Signal(16)

        write_en, write_value = Signal(), Signal(ScalarLayout)
        m.d.comb += [
            store.en.eq(write_en | self.write.en),
            store.addr.eq(
                Mux(write_en, address(name, slot), address(self.write.name, self.write.slot))
            ),
            store.data.eq(Mux(write_en, write_value, self.write.value)),
        ]

        larger, smaller, swap = Signal(ScalarLayout), Signal(ScalarLayout), Signal()
        gap = Signal(signed(12))
        m.d.comb += [
            swap.eq((b.mantissa != 0) & ((a.mantissa == 0) | (a.exponent < b.exponent))),
            larger.eq(Mux(swap, b, a)),
            smaller.eq(Mux(swap, a, b)),
            gap.eq(larger.exponent - smaller.exponent),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [idle.eq(1), self.unit.issue.ready.eq(1), self.normalise.ready.eq(1)]
                m.d.sync += [
                    operation.eq(field("operation")),
                    imm.eq(field("imm")),
                    a_name.eq(field("a")),
                    b_name.eq(field("b")),
                    step.eq(0),
                    wide.eq(self.normalise.payload.value),
                    # A wide number with its highest bit set has the mantissa in its upper 16 bits.
                    exponent.eq(_WIDE - 16),
                ]
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
                    m.next = "NORMALISE"

            with m.State("READ"):
                m.next = "BEGIN"

            with m.State("BEGIN"):
                odd = a.exponent[0]
                m.d.sync += [
                    wide.eq(0),
                    rest.eq(0),
                    factor_a.eq(a.mantissa),
                    factor_b.eq(b.mantissa),
                    divisor.eq(b.mantissa),
                    radicand.eq(Mux(odd, a.mantissa << 15, a.mantissa << 16)),
                ]
                with m.Switch(operation):
                    with m.Case(ScalarOp.MUL):
                        m.d.sync += exponent.eq(a.exponent + b.exponent + _WIDE - 16)
                        m.next = "MULTIPLY"
                    with m.Case(ScalarOp.DIV):
                        m.d.sync += [
                            rest.eq(a.mantissa),
                            exponent.eq(a.exponent - b.exponent - 16 + _WIDE - 16),
                        ]
                        m.next = "DIVIDE"
                    with m.Case(ScalarOp.SQRT):
                        m.d.sync += exponent.eq(((a.exponent + odd) >> 1) - 8 + _WIDE - 16)
                        m.next = "ROOT"
                    with m.Case(ScalarOp.ADD):
                        m.d.sync += [
                            wide.eq(larger.mantissa << 15),
                            small.eq(smaller.mantissa << 15),
                            distance.eq(Mux(gap > 31, 31, gap)),
                            exponent.eq(larger.exponent - 15 + _WIDE - 16),
                        ]
                        m.next = "ALIGN"
                    with m.Default():
                        amount = Signal(signed(13))
                        m.d.comb += amount.eq(imm)
                        with m.If(operation == ScalarOp.SHIFT):
                            up = b.exponent + imm
                            m.d.comb += amount.eq(Mux(up < 0, 0, up))
                        m.d.comb += [
                            write_en.eq(1),
                            write_value.mantissa.eq(a.mantissa),
                            write_value.exponent.eq(Mux(a.mantissa == 0, 0, a.exponent + amount)),
                            self.unit.done_valid.eq(1),
                        ]
                        m.next = "IDLE"

            with m.State("MULTIPLY"):
                m.d.sync += wide.eq(factor_a * factor_b)
                m.next = "NORMALISE"

            with m.State("DIVIDE"):
                # Normalised mantissas: the quotient of a * 2**16 and b has 17 bits, the first of
                # which says whether a >= b.
                fits = rest >= divisor
                m.d.sync += [
                    wide.eq(Cat(fits & (divisor != 0), wide[:-1])),
                    rest.eq(Mux(fits, rest - divisor, rest) << 1),
                    step.eq(step + 1),
                ]
                with m.If(step == 16):
                    m.d.sync += step.eq(0)
                    m.next = "NORMALISE"

            with m.State("ROOT"):
                # Digit by digit: the root so far is r, two more bits of the radicand come down,
                # the next bit is set if 4r + 1 fits into the remainder.
                down = Cat(radicand[30:32], rest[:18])
                trial = Cat(1, 0, wide[:16])
                fits = down >= trial
                m.d.sync += [
                    wide.eq(Cat(fits, wide[:-1])),
                    rest.eq(Mux(fits, down - trial, down)),
                    radicand.eq(radicand << 2),
                    step.eq(step + 1),
                ]
                with m.If(step == 15):
                    m.d.sync += step.eq(0)
                    m.next = "NORMALISE"

            with m.State("ALIGN"):
                with m.Switch(step):
                    for bit in range(5):
                        with m.Case(bit):
                            with m.If(distance[bit]):
                                m.d.sync += small.eq(small >> (1 << bit))
                m.d.sync += step.eq(step + 1)
                with m.If(step == 5):
                    m.d.sync += [wide.eq(wide + small), step.eq(0)]
                    m.next = "NORMALISE"

            with m.State("NORMALISE"):
                with m.Switch(step):
                    for index, bit in enumerate((5, 4, 3, 2, 1, 0)):
                        move = 1 << bit
                        with m.Case(index):
                            with m.If(wide[_WIDE - move :] == 0):
                                m.d.sync += [wide.eq(wide << move), exponent.eq(exponent - move)]
                m.d.sync += step.eq(step + 1)
                with m.If(step == 6):
                    m.d.comb += [
                        write_en.eq(1),
                        write_value.mantissa.eq(wide[_WIDE - 16 :]),
                        # Only zero is left without a highest bit.
                        write_value.exponent.eq(Mux(wide[-1], exponent, 0)),
                        self.unit.done_valid.eq(executing),
                    ]
                    m.next = "IDLE"

        return m
