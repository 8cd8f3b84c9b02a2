"""Adders that select an operand on the way, the cells that the array is made of; and multipliers.

``a + (b, -b or 0)`` costs one carry chain where the selection goes into the chain's own look-up
tables. Yosys does not find that form, so it is instantiated for ECP5; every other target, and
simulation, gets the portable expression. `tests/proofs/test_lane.py` proves both equal.
"""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Mux, Signal, Value, signed

__all__ = ["Counter", "Delay", "multiply", "select_add", "select_next", "uses_carry_cells"]

#: ``A + (D ? B ^ C : 0)`` as the propagate table of half a CCU2C. The generate table is its part
#: for C = D = 0, and is A, which is right wherever the propagate bit is 0.
_SELECT = 0x96AA

#: Propagate 0 and generate ``A & B``: whatever comes from below, the carry is ``A & B``. It needs
#: C = D = 1, for the propagate table's part for C = D = 0 is the generate table.
_INJECT = 0x0008

#: The same with the carry ``A | B``.
_INJECT_EITHER = 0x000E

#: ``D ? A : B`` and ``D ? ~A : B`` with C = 1, as propagate tables that generate nothing.
_CHOOSE, _CHOOSE_INVERSE = 0xA0C0, 0x50C0

#: What comes from below, and no carry.
_PASS = 0x0000


def uses_carry_cells(platform):
    """Whether the target's carry cell holds a look-up table of its own: ECP5."""
    return str(getattr(platform, "device", "")).startswith("LFE5U")


def select_add(m, platform, a, b, width, *, nonzero, negative=0, carry=(0, 0), name="sum"):
    """Return ``a + (nonzero ? (negative ? ~b : b) : 0) + (carry[0] & carry[1])``.

    With ``carry = (negative, nonzero)`` the result is a, a + b or a - b. Combinational, truncated
    to ``width`` bits. On ECP5 it takes width + 1 slots of LUT4, rounded up to an even number.

    Parameters
    ----------
    m : Module
        Where the adder goes.
    platform : Platform or None
        The target; None for simulation.
    a, b : signed Value
    width : int
        Bits of the result.
    nonzero, negative : one-bit Value
    carry : pair of one-bit Value
    name : str
        Prefix of the signals' names.

    Returns
    -------
    Signal of signed(width)
    """
    total = Signal(signed(width), name=name)
    nonzero, negative = Value.cast(nonzero), Value.cast(negative)
    if not uses_carry_cells(platform):
        term = Value.cast(b).as_signed() ^ negative.replicate(len(b)).as_signed()
        selected = (term & nonzero.replicate(len(b)).as_signed()).as_signed()
        m.d.comb += total.eq(a + selected + (Value.cast(carry[0]) & Value.cast(carry[1])))
        return total
    first, second = Signal(signed(width), name=name + "_a"), Signal(signed(width), name=name + "_b")
    m.d.comb += [first.eq(a), second.eq(b)]
    halves = [((carry[0], carry[1], Const(1), Const(1)), _INJECT)]
    halves += [((first[n], second[n], negative, nonzero), _SELECT) for n in range(width)]
    m.d.comb += total.eq(_chain(m, halves, name)[1:])
    return total


def _chain(m, halves, name):
    """Return the sums of a carry chain of halves of CCU2C: a list of (inputs A to D, table)."""
    halves = halves + [((Const(0),) * 4, _PASS)] * (len(halves) % 2)
    outputs, below = Signal(len(halves), name=name + "_slots"), None
    for cell in range(0, len(halves), 2):
        ports = {}
        for half, (wires, table) in enumerate(halves[cell : cell + 2]):
            ports |= {f"i_{pin}{half}": wire for pin, wire in zip("ABCD", wires, strict=True)}
            ports |= {f"p_INIT{half}": Const(table, 16), f"p_INJECT1_{half}": "NO"}
            ports[f"o_S{half}"] = outputs[cell + half]
        if below is not None:
            ports["i_CIN"] = below
        if cell + 2 < len(halves):
            below = Signal(name=f"{name}_carry{cell}")
            ports["o_COUT"] = below
        m.submodules[f"{name}_cell{cell // 2}"] = Instance("CCU2C", **ports)
    return outputs


def select_next(m, platform, choose, a, b, width, *, carry, name):
    """Return ``(choose ? a : b) + carry``. Combinational, truncated to ``width`` bits.

    On ECP5 it takes width + 1 slots of LUT4, rounded up to an even number: the multiplexer is part
    of the carry chain.

    Parameters
    ----------
    m : Module
    platform : Platform or None
        The target; None for simulation.
    choose : one-bit Value
    a, b : unsigned Value
    width : int
        Bits of the result.
    carry : one-bit Value
    name : str
        Prefix of the signals' names.

    Returns
    -------
    Signal of unsigned(width)
    """
    total = Signal(width, name=name)
    if not uses_carry_cells(platform):
        m.d.comb += total.eq(Mux(choose, a, b) + carry)
        return total
    first, second = Signal(width, name=name + "_a"), Signal(width, name=name + "_b")
    m.d.comb += [first.eq(a), second.eq(b)]
    halves = [((carry, Const(1), Const(1), Const(1)), _INJECT)]
    halves += [((first[n], second[n], Const(1), choose), _CHOOSE) for n in range(width)]
    m.d.comb += total.eq(_chain(m, halves, name)[1:])
    return total


class Counter:
    """A loop of ``size`` passes whose end is known in a register.

    It counts up to zero, so that the carry says that the next pass is the last one, and the
    multiplexer that starts it again is part of the carry chain.

    Parameters
    ----------
    m : Module
        Where the registers live.
    platform : Platform or None
        The target; None for simulation.
    name : str
        Their name.
    width : int
        Bits of ``size``, 2 or more; ``size`` is 1 or more without ``further``, or its passes are
        not counted right.
    further : bool
        ``size`` is the passes after the first one.
    """

    def __init__(self, m, platform, name, width, *, further=False):
        self._m = m
        self.size = Signal(width, name=name + "_size")
        #: The current pass is the last one; the first one.
        self.last, self.first = Signal(name=name + "_last"), Signal(name=name + "_first")
        # Passes that are left after the current one, negated.
        count = Signal(width, name=name + "_count")
        # Its successor: one more, or 1 - passes.
        self._next, self._ends = Signal(width, name=name + "_next"), Signal(name=name + "_ends")
        # One enable for all who advance it: Yosys finds no other.
        self._advances = Signal(name=name + "_advances")
        with m.If(self._advances):
            m.d.sync += [self.first.eq(self.last), count.eq(self._next), self.last.eq(self._ends)]
        if not uses_carry_cells(platform):
            total = Mux(self.last, self.size ^ (2**width - 1), count) + 1
            m.d.comb += Cat(self._next, self._ends).eq(total if further else total + self.last)
            return
        # Bit 0 is odd or even whatever is added above it: 1, or 2 = 1 + 1.
        if further:
            carry = Signal(name=name + "_carry")
            m.d.comb += carry.eq(Mux(self.last, ~self.size[0], count[0]))
            halves = [((carry, Const(1), Const(1), Const(1)), _INJECT)]
            lowest = ~carry
        else:
            halves = [((self.last, count[0], Const(1), Const(1)), _INJECT_EITHER)]
            lowest = ~Mux(self.last, self.size[0], count[0])
        halves += [
            ((self.size[n], count[n], Const(1), self.last), _CHOOSE_INVERSE)
            for n in range(1, width)
        ]
        halves.append(((Const(0),) * 4, _PASS))
        sums = _chain(m, halves, name + "_sum")
        m.d.comb += [
            self._next.eq(Cat(lowest, sums[1:width])),
            self._ends.eq(sums[width]),
        ]

    def load(self, size):
        """Take the number of passes, see ``size``; `advance` in a later cycle starts the loop."""
        self._m.d.sync += [self.size.eq(size), self.last.eq(1)]

    def advance(self):
        """Go to the next pass, or to the first one after the last."""
        self._m.d.comb += self._advances.eq(1)


def multiply(m, platform, a, b, name):
    """Return the product of two values of up to 18 signed bits, one cycle later.

    On ECP5 it is a DSP block with its own output register, which Yosys does not infer: a register
    beyond the block costs a third of the clock.

    Parameters
    ----------
    m : Module
    platform : Platform or None
        The target; None for simulation.
    a, b : Value
        An unsigned one may have 17 bits.
    name : str
        Prefix of the signals' names.

    Returns
    -------
    signed Value
        36 bits on ECP5.
    """
    a, b = Value.cast(a), Value.cast(b)
    for value in (a, b):
        if len(value) + (not value.shape().signed) > 18:
            raise ValueError(f"a factor must fit 18 signed bits, not {value.shape()!r}")
    if not uses_carry_cells(platform):
        product = Signal(signed(36), name=name, reset_less=True)
        m.d.sync += product.eq(a * b)
        return product
    first, second = Signal(signed(18), name=name + "_a"), Signal(signed(18), name=name + "_b")
    product = Signal(36, name=name)
    m.d.comb += [first.eq(a), second.eq(b)]
    ports = {f"i_A{n}": first[n] for n in range(18)} | {f"i_B{n}": second[n] for n in range(18)}
    ports |= {f"i_C{n}": Const(0, 1) for n in range(18)}
    ports |= {f"o_P{n}": product[n] for n in range(36)}
    ports |= {f"i_CLK{n}": ClockSignal() if n == 0 else Const(0, 1) for n in range(4)}
    ports |= {f"i_CE{n}": Const(n == 0, 1) for n in range(4)}
    ports |= {f"i_RST{n}": Const(0, 1) for n in range(4)}
    m.submodules[name + "_multiplier"] = Instance(
        "MULT18X18D",
        p_REG_INPUTA_CLK="NONE", p_REG_INPUTB_CLK="NONE", p_REG_INPUTC_CLK="NONE",
        p_REG_PIPELINE_CLK="NONE", p_REG_OUTPUT_CLK="CLK0", p_REG_OUTPUT_CE="CE0",
        p_REG_OUTPUT_RST="RST0", p_CLK0_DIV="ENABLED", p_GSR="DISABLED", p_RESETMODE="SYNC",
        p_SOURCEB_MODE="B_SHIFT", p_MULT_BYPASS="DISABLED",
        i_SIGNEDA=Const(1, 1), i_SIGNEDB=Const(1, 1), i_SOURCEA=Const(0, 1), i_SOURCEB=Const(0, 1),
        **ports,
    )  # fmt: skip
    return product.as_signed()


class Delay:
    """A value and its copies of later cycles; a copy is made once, however often it is asked for.

    Parameters
    ----------
    m : Module
    value : Value
    name : str
        Prefix of the registers' names.
    """

    def __init__(self, m, value, name):
        self._m, self._name = m, name
        self._copies = [value]

    def __getitem__(self, cycles):
        """Return the value ``cycles`` cycles later."""
        while len(self._copies) <= cycles:
            last = self._copies[-1]
            # Registers of a delay line need no reset; nor may they become anything but registers.
            copy = Signal(last.shape(), name=f"{self._name}_{len(self._copies)}", reset_less=True)
            self._m.d.sync += copy.eq(last)
            self._copies.append(copy)
        return self._copies[cycles]
