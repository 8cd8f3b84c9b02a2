"""Serial port, cycle counter and end of the program for the smallest system, in few cells."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from . import wishbone
from .registers import Block, Field, Register

__all__ = ["SYSTEM", "TIMER", "UART", "CorePeripherals"]

UART = Block(
    "uart",
    "Serial port, 8 data bits, no parity, one stop bit, at one speed.",
    [
        Register("transmit_data", "Byte to send, while transmit_ready is high.", width=8,
                 access="wo"),
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
            "State of the transmitter.",
            [
                Field("transmit_ready", 1, "High if another byte is taken.", access="ro"),
                Field("transmit_idle", 1, "High if every byte has left the pin.", access="ro"),
            ],
        ),
    ],
)  # fmt: skip
TIMER = Block(
    "timer",
    "Cycle counter.",
    [Register("cycles", "Clock cycles since reset, modulo 2**32.", access="ro")],
)
SYSTEM = Block(
    "system",
    "End of the program.",
    [Register("exit_code", "Writing ends the program: a simulation stops.", access="wo")],
)

#: Where the blocks lie in the target, in words: bits 11:10 of the address tell them apart.
_BLOCK_BITS = 10


class CorePeripherals(wiring.Component):
    """Registers of `SYSTEM`, `UART` and `TIMER`, 4 KiB apart.

    Every access ends a cycle after it began; what is not there reads as anything.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit of the serial port, 8 or more.
    depth : int
        Bytes that wait to be read.

    Members
    -------
    bus : ``In(wishbone.target)``
    tx, rx : Out(1), In(1)
    halted, exit_code : Out(1), Out(32)
    """

    def __init__(self, divisor, depth=512):
        if divisor < 8:
            raise ValueError(f"a bit must take 8 clock cycles, not {divisor}; lower uart_baud")
        self._divisor, self._depth = divisor, depth
        super().__init__(
            {
                "bus": In(wishbone.target(4 << _BLOCK_BITS + 2)),
                "tx": Out(1, init=1),
                "rx": In(1, init=1),
                "halted": Out(1),
                "exit_code": Out(32),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus, divisor = self.bus, self._divisor
        block, register = bus.adr[_BLOCK_BITS:], bus.adr[:2]
        start = Signal()
        m.d.comb += start.eq(bus.cyc & bus.stb & ~bus.ack)
        m.d.sync += bus.ack.eq(start)

        # A frame leaves bit by bit, with ones behind it; a one in the highest place marks its end.
        frame, send_timer = Signal(10), Signal(range(divisor))
        idle = Signal()
        m.d.comb += idle.eq(frame == 0)
        m.d.sync += self.tx.eq(idle | frame[0])
        with m.If(~idle):
            m.d.sync += send_timer.eq(Mux(send_timer == 0, divisor - 1, send_timer - 1))
            with m.If(send_timer == 0):
                m.d.sync += frame.eq(frame >> 1)
        with m.Elif(start & bus.we & (block == 1)):
            m.d.sync += [frame.eq(Cat(0, bus.dat_w[:8], 1)), send_timer.eq(divisor - 1)]

        pin = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, pin, init=1)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=8, depth=self._depth)
        receive_timer, shift = Signal(range(2 * divisor)), Signal(9)
        receiving, ended = Signal(), Signal()
        with m.If(~receiving):
            with m.If(~pin):
                # The marker leaves the register with the last bit of the byte.
                m.d.sync += [
                    receiving.eq(1), receive_timer.eq(divisor + divisor // 2 - 2),
                    shift.eq(1 << 8), ended.eq(0),
                ]  # fmt: skip
        with m.Elif(receive_timer != 0):
            m.d.sync += receive_timer.eq(receive_timer - 1)
        with m.Else():
            m.d.sync += [receive_timer.eq(divisor - 1), ended.eq(shift[1])]
            with m.If(ended):
                m.d.sync += receiving.eq(0)
                m.d.comb += fifo.w_en.eq(pin)  # with its stop bit
            with m.Else():
                m.d.sync += shift.eq(Cat(shift[1:], pin))
        m.d.comb += fifo.w_data.eq(shift[1:])
        m.d.comb += fifo.r_en.eq(start & ~bus.we & (block == 1) & (register == 1))

        cycles = Signal(32)
        m.d.sync += cycles.eq(cycles + 1)
        with m.If(start & bus.we & (block == 0)):
            m.d.sync += [self.halted.eq(1), self.exit_code.eq(bus.dat_w)]

        with m.If(block[1]):
            m.d.sync += bus.dat_r.eq(cycles)
        with m.Elif(register[1]):
            m.d.sync += bus.dat_r.eq(idle.replicate(2))
        with m.Else():
            m.d.sync += bus.dat_r.eq(Cat(fifo.r_data, fifo.r_rdy))
        return m
