"""Cycle counter with an alarm."""

from amaranth import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .registers import Block, Field, Register, RegisterFile

__all__ = ["Timer"]

BLOCK = Block(
    "timer",
    "64-bit cycle counter with a compare interrupt.",
    [
        Register("cycles", "Clock cycles since reset.", width=64, access="ro"),
        Register(
            "compare", "Cycle count from which the alarm is pending.", width=64, init=(1 << 64) - 1
        ),
        Register(
            "control",
            "Interrupt of the alarm.",
            [
                Field("interrupt_enable", 1, "Raise the interrupt while the alarm is pending."),
            ],
        ),
        Register(
            "status",
            "State of the alarm.",
            [
                Field(
                    "pending", 1, "High from two cycles after cycles reaches compare.", access="ro"
                ),
            ],
        ),
    ],
)


class Timer(wiring.Component):
    """Counts clock cycles since reset and raises an interrupt from a given count on.

    The comparison takes two cycles. The interrupt is a level: it stays until ``compare`` lies ahead
    again. Disable it while the two words of ``compare`` are written.

    Members
    -------
    bus : ``In(block.bus_signature())``
        Registers, see ``block``.
    irq : Out(1)
        High while the alarm is pending and enabled.
    """

    block = BLOCK

    bus: In(BLOCK.bus_signature())
    irq: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = RegisterFile(BLOCK)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        cycles = Signal(64)
        compare = registers.compare.value
        # One 64-bit comparison would be the longest carry chain of the system; it is cut in two.
        low_reached, high_equal, high_above, pending = (Signal() for _ in range(4))
        m.d.sync += [
            cycles.eq(cycles + 1),
            low_reached.eq(cycles[:32] >= compare[:32]),
            high_equal.eq(cycles[32:] == compare[32:]),
            high_above.eq(cycles[32:] > compare[32:]),
            pending.eq(high_above | high_equal & low_reached),
        ]
        m.d.comb += [
            registers.cycles.value.eq(cycles),
            registers.status.pending.eq(pending),
            self.irq.eq(pending & registers.control.interrupt_enable),
        ]
        return m
