"""Serial port: 8 data bits, no parity, one stop bit."""

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from . import wishbone  # noqa: F401  (puts amaranth_stdio on the import path)
from .registers import Block, Field, Register, RegisterFile

__all__ = ["Uart"]

#: The receiver samples in the middle of a bit and needs this many cycles per bit.
MIN_DIVISOR = 5
DIVISOR_BITS = 20


def _block(divisor):
    return Block(
        "uart",
        "Serial port, 8 data bits, no parity, one stop bit.",
        [
            Register(
                "transmit_data",
                "Byte to send; lost, and counted as overrun, if the FIFO is full.",
                width=8,
                access="wo",
            ),
            Register(
                "receive_data",
                "Oldest received byte; reading takes it out of the FIFO.",
                [
                    Field("byte", 8, "The byte, undefined if none was there.", access="ro"),
                    Field("valid", 1, "High if a byte was there.", access="ro"),
                ],
            ),
            Register(
                "status",
                "State of both directions.",
                [
                    Field(
                        "transmit_ready",
                        1,
                        "High if the transmit FIFO takes another byte.",
                        access="ro",
                    ),
                    Field("transmit_idle", 1, "High if every byte has left the pin.", access="ro"),
                    Field("receive_valid", 1, "High if a received byte waits.", access="ro"),
                    Field(
                        "receive_overrun",
                        1,
                        "A byte arrived at a full FIFO and was lost; write 1 to clear.",
                        access="w1c",
                    ),
                    Field(
                        "framing_error",
                        1,
                        "A byte had no stop bit and was dropped; write 1 to clear.",
                        access="w1c",
                    ),
                    Field(
                        "transmit_overrun",
                        1,
                        "A byte was written to a full FIFO and lost; write 1 to clear.",
                        access="w1c",
                    ),
                ],
            ),
            Register(
                "interrupt_enable",
                "Which conditions raise the interrupt, for as long as they hold.",
                [
                    Field("receive_valid", 1, "A received byte waits."),
                    Field("transmit_ready", 1, "The transmit FIFO takes another byte."),
                    Field("error", 1, "An overrun or framing error is flagged."),
                ],
            ),
            Register(
                "divisor",
                "Clock cycles per bit, 5 or more; change it while both directions idle.",
                width=DIVISOR_BITS,
                init=divisor,
            ),
        ],
    )


class Uart(wiring.Component):
    """Serial port with a FIFO in each direction.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit after reset; firmware can change it.
    depth : int
        Bytes in each FIFO, 16 or more.

    Members
    -------
    bus : ``In(block.bus_signature())``
        Registers, see ``block``.
    tx : Out(1)
        Serial output, high when idle.
    rx : In(1)
        Serial input, asynchronous to the clock.
    irq : Out(1)
        High while an enabled condition holds.

    Raises
    ------
    ValueError
        If ``divisor`` or ``depth`` is out of range.
    """

    def __init__(self, divisor, depth=16):
        if not isinstance(divisor, int) or not MIN_DIVISOR <= divisor < 1 << DIVISOR_BITS:
            raise ValueError(
                f"UART divisor must be {MIN_DIVISOR} to {(1 << DIVISOR_BITS) - 1} clock cycles per "
                f"bit, not {divisor!r}; change the baud rate or the clock"
            )
        if not isinstance(depth, int) or depth < 16:
            raise ValueError(f"UART FIFO depth must be 16 bytes or more, not {depth!r}")
        self._divisor = divisor
        self._depth = depth
        self.block = _block(divisor)
        super().__init__(
            {
                "bus": In(self.block.bus_signature()),
                "tx": Out(1, init=1),
                "rx": In(1, init=1),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform):
        from amaranth_stdio.serial import AsyncSerialRX, AsyncSerialTX

        m = Module()
        m.submodules.registers = registers = RegisterFile(self.block)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        status, enable = registers.status, registers.interrupt_enable
        divisor = registers.divisor.value
        settings = {"divisor": self._divisor, "divisor_bits": DIVISOR_BITS}

        m.submodules.transmitter = transmitter = AsyncSerialTX(**settings)
        m.submodules.transmit_fifo = transmit = SyncFIFOBuffered(width=8, depth=self._depth)
        m.d.comb += [
            transmitter.divisor.eq(divisor),
            transmitter.data.eq(transmit.r_data),
            transmitter.ack.eq(transmit.r_rdy),
            transmit.r_en.eq(transmitter.rdy),
            transmit.w_data.eq(registers.transmit_data.value),
            transmit.w_en.eq(registers.transmit_data.write_strobe),
            self.tx.eq(transmitter.o),
            status.transmit_ready.eq(transmit.w_rdy),
            status.transmit_idle.eq(~transmit.r_rdy & (transmit.level == 0) & transmitter.rdy),
            status.transmit_overrun_set.eq(transmit.w_en & ~transmit.w_rdy),
        ]

        pin = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, pin, init=1)
        m.submodules.receiver = receiver = AsyncSerialRX(**settings)
        m.submodules.receive_fifo = receive = SyncFIFOBuffered(width=8, depth=self._depth)
        m.d.comb += [
            receiver.divisor.eq(divisor),
            receiver.i.eq(pin),
            # The receiver never waits: what the FIFO cannot take is lost here, where it is flagged.
            receiver.ack.eq(1),
            receive.w_data.eq(receiver.data),
            receive.w_en.eq(receiver.rdy & ~receiver.err.frame),
            receive.r_en.eq(registers.receive_data.read_strobe),
            registers.receive_data.byte.eq(receive.r_data),
            registers.receive_data.valid.eq(receive.r_rdy),
            status.receive_valid.eq(receive.r_rdy),
            status.receive_overrun_set.eq(receive.w_en & ~receive.w_rdy),
            status.framing_error_set.eq(receiver.rdy & receiver.err.frame),
        ]
        errors = Cat(status.receive_overrun, status.framing_error, status.transmit_overrun)
        m.d.sync += self.irq.eq(
            enable.receive_valid & receive.r_rdy
            | enable.transmit_ready & transmit.w_rdy
            | enable.error & errors.any()
        )
        return m
