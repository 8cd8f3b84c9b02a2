"""Identity, scratch word, end of the program, reset of the CPU, and record of bus errors."""

from amaranth import Module, Signal
from amaranth.lib import enum, wiring
from amaranth.lib.wiring import In, Out

from .registers import Block, Field, Register, RegisterFile

__all__ = ["ResetCause", "SystemControl"]

#: "TAML" in the order of the bytes in memory.
IDENTIFIER = int.from_bytes(b"TAML", "little")
#: Cycles that a software reset lasts; long enough for every bus access under way to end.
RESET_CYCLES = 64


class ResetCause(enum.Enum, shape=1):
    """Why the CPU started."""

    POWER_ON = 0
    SOFTWARE = 1


def _block(clock_hz):
    return Block(
        "system",
        "Identity of the system, halt and reset.",
        [
            Register(
                "identifier",
                "The letters TAML, by which a host or program recognises the system.",
                access="const",
                init=IDENTIFIER,
            ),
            Register("clock_frequency", "Clock cycles per second.", access="const", init=clock_hz),
            Register("scratch", "Free for software; survives a software reset."),
            Register(
                "exit_code",
                "Writing ends the program: a simulation stops with this code.",
                access="wo",
            ),
            Register(
                "reset",
                "Reset of the CPU alone.",
                [
                    Field("request", 1, "Write 1 to start the CPU anew.", access="pulse"),
                    Field(
                        "cause",
                        1,
                        "Why the CPU started last.",
                        access="ro",
                        offset=8,
                        values=ResetCause,
                    ),
                ],
            ),
            Register(
                "bus_error",
                "First access of the CPU that ended with a bus error; raises the interrupt.",
                [
                    Field("pending", 1, "High after an error; write 1 to clear.", access="w1c"),
                    Field("write", 1, "High if the access was a write.", access="ro"),
                ],
            ),
            Register(
                "bus_error_address",
                "Byte address of that access, of the word that holds it.",
                access="ro",
            ),
        ],
    )


class SystemControl(wiring.Component):
    """System control block.

    Parameters
    ----------
    clock_hz : int
        Frequency of the clock, for software to read.

    Members
    -------
    bus : ``In(block.bus_signature())``
        Registers, see ``block``.
    cpu_reset : Out(1)
        High for 64 cycles after a request.
    bus_error : In(1)
        High in the cycle in which an access of the CPU ends with an error.
    bus_error_address, bus_error_write : In(32), In(1)
        That access. Until software clears ``pending``, later errors are not recorded.
    irq : Out(1)
        High while a bus error is pending.
    halted : Out(1)
        High once software has written an exit code, until the system's reset.
    exit_code : Out(32)
        The code; the last one if several were written.

    Raises
    ------
    ValueError
        If ``clock_hz`` does not fit 32 bits.
    """

    def __init__(self, clock_hz):
        if not isinstance(clock_hz, int) or not 0 < clock_hz < 1 << 32:
            raise ValueError(f"clock frequency must be 1 to 2**32 - 1 Hz, not {clock_hz!r}")
        self.block = _block(clock_hz)
        super().__init__(
            {
                "bus": In(self.block.bus_signature()),
                "cpu_reset": Out(1),
                "bus_error": In(1),
                "bus_error_address": In(32),
                "bus_error_write": In(1),
                "irq": Out(1),
                "halted": Out(1),
                "exit_code": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = RegisterFile(self.block)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        with m.If(registers.exit_code.write_strobe):
            m.d.sync += [self.halted.eq(1), self.exit_code.eq(registers.exit_code.value)]
        fault = registers.bus_error
        address, write = Signal(32), Signal()
        m.d.comb += [
            fault.pending_set.eq(self.bus_error),
            fault.write.eq(write),
            registers.bus_error_address.value.eq(address),
            self.irq.eq(fault.pending),
        ]
        with m.If(self.bus_error & ~fault.pending):
            m.d.sync += [address.eq(self.bus_error_address), write.eq(self.bus_error_write)]
        cause = Signal(ResetCause)
        remaining = Signal(range(RESET_CYCLES + 1))
        m.d.comb += registers.reset.cause.eq(cause)
        m.d.sync += self.cpu_reset.eq(remaining != 0)
        with m.If(registers.reset.request):
            m.d.sync += [remaining.eq(RESET_CYCLES), cause.eq(ResetCause.SOFTWARE)]
        with m.Elif(remaining != 0):
            m.d.sync += remaining.eq(remaining - 1)
        return m
