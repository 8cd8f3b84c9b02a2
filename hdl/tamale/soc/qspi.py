"""Reader of a QSPI flash: a window for the CPU, and a stream of bytes for an engine."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from . import wishbone

__all__ = ["FLASH_BYTES", "LATENCY", "QspiFlash"]

#: Bytes that three address bytes reach.
FLASH_BYTES = 1 << 24

#: Cycles from a pulse of the serial clock, as it leaves this component, to its four bits: a
#: register in the pads on the way out, and one on the way in. The flash gives the bits when the
#: last pulse ends, so that they have a whole cycle.
LATENCY = 2

#: Fast read, quad input and output.
_COMMAND = 0xEB

#: Pulses of its parts: command, address, mode, dummy.
_PULSES = (8, 6, 2, 4)

#: Cycles between two commands, for the flash's t_SHSL of 50 ns.
_PAUSE = 3


class QspiFlash(wiring.Component):
    """Reads a flash of the 25 series by four wires, four bits a cycle, and writes nothing.

    The serial clock has the frequency of the system's: in a cycle with a pulse it is low, then
    high. A read that goes on where the last one ended needs no new command; others cost some 25
    cycles. The CPU must not read while a stream is unfinished, or the stream loses its place.

    The flash must be awake, and its quad enable bit set, before the first read. Software does that
    itself, bit by bit: while `manual` is set, the pins follow the other three inputs.

    Members
    -------
    bus : ``In(wishbone.target(FLASH_BYTES))``
        The flash's bytes; a write reads, too, and writes nothing.
    start : In(1)
        The stream begins anew at byte ``address``.
    address : In(24)
    want : In(1)
        Another byte of the stream is wanted; it cannot be refused later.
    issued : Out(1)
        It was asked for.
    byte, valid : Out(8), Out(1)
        A byte of the stream, at least two cycles after the last one.
    manual, manual_cs, manual_sck, manual_data : In(1)
        Software's pins.
    sck, pulse, cs, data_o, data_oe, data_i : Out(1), Out(1), Out(1), Out(4), Out(4), In(4)
        The clock's level in the first half of a cycle, whether it is high in the second one, chip
        select, data; registers in the pads follow.

    Source: data sheet of the W25Q128JV, commands EBh and 31h, AC characteristics.
    """

    def __init__(self):
        super().__init__(
            {
                "bus": In(wishbone.target(FLASH_BYTES)),
                "start": In(1),
                "address": In(24),
                "want": In(1),
                "issued": Out(1),
                "byte": Out(8),
                "valid": Out(1),
                "manual": In(1),
                "manual_cs": In(1),
                "manual_sck": In(1),
                "manual_data": In(1),
                "sck": Out(1),
                "pulse": Out(1),
                "cs": Out(1),
                "data_o": Out(4),
                "data_oe": Out(4),
                "data_i": In(4),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        head = sum(_PULSES)
        # Word that the next pulses bring, if they go on where the last ones ended.
        following = Signal(22)
        known, streaming, select = Signal(), Signal(), Signal()
        shift = Signal(24)
        count = Signal(range(head + 1))  # pulses of the command that are left
        pause = Signal(range(_PAUSE + 1))
        nibbles = Signal(4)  # of a word that are left to ask for; for the stream, of a byte
        pulse, read_pulse = Signal(), Signal()
        landing = Signal(LATENCY)
        high, odd = Signal(4), Signal()
        word, bytes_left = Signal(32), Signal(3)

        request = Signal()
        m.d.comb += [
            request.eq(bus.cyc & bus.stb & ~bus.ack),
            read_pulse.eq(select & (count == 0) & (nibbles != 0)),
            pulse.eq((select & (count != 0)) | read_pulse),
        ]
        m.d.sync += [landing.eq(Cat(read_pulse, landing)), bus.ack.eq(0)]
        m.d.comb += self.issued.eq(0)

        with m.If(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        with m.Elif(select & (count != 0)):
            m.d.sync += count.eq(count - 1)
            with m.If(count <= head - _PULSES[0]):
                m.d.sync += shift.eq(Cat(Const(0xF, 4), shift))
        with m.Elif(read_pulse):
            m.d.sync += nibbles.eq(nibbles - 1)
        with m.If(self.start):
            m.d.sync += [
                select.eq(0), pause.eq(_PAUSE), streaming.eq(1), known.eq(0),
                shift.eq(self.address), nibbles.eq(0),
            ]  # fmt: skip
        with m.Elif((pause == 0) & ~select & streaming):
            m.d.sync += [select.eq(1), count.eq(head)]
        with m.Elif(streaming & self.want & select & (count == 0) & (nibbles <= 1)):
            m.d.comb += self.issued.eq(1)
            m.d.sync += nibbles.eq(2)
        with m.Elif(request & (bytes_left == 0) & (pause == 0) & (nibbles == 0) & (landing == 0)):
            with m.If(known & (following == bus.adr)):
                m.d.sync += [nibbles.eq(8), bytes_left.eq(4), following.eq(following + 1)]
            with m.Elif(select):
                m.d.sync += [select.eq(0), pause.eq(_PAUSE), streaming.eq(0), known.eq(0)]
            with m.Else():
                m.d.sync += [
                    select.eq(1), count.eq(head), known.eq(1), streaming.eq(0),
                    following.eq(bus.adr), shift.eq(Cat(Const(0, 2), bus.adr)),
                ]  # fmt: skip

        # What lands: the upper half of a byte first.
        byte = Cat(self.data_i, high)
        m.d.comb += [self.byte.eq(byte), self.valid.eq(landing[-1] & odd & streaming)]
        with m.If(landing[-1]):
            m.d.sync += [odd.eq(~odd), high.eq(self.data_i)]
            with m.If(odd & ~streaming):
                m.d.sync += [word.eq(Cat(word[8:], byte)), bytes_left.eq(bytes_left - 1)]
                m.d.sync += bus.ack.eq(bytes_left == 1)
        m.d.comb += bus.dat_r.eq(word)

        command = (count > head - _PULSES[0]) & (count != 0)
        bit = Signal()
        for i in range(8):
            with m.If(count == head - i):
                m.d.comb += bit.eq(_COMMAND >> 7 - i & 1)
        sends = count > _PULSES[3]
        manual = self.manual
        m.d.comb += [
            self.sck.eq(manual & self.manual_sck),
            self.pulse.eq(Mux(manual, self.manual_sck, pulse)),
            self.cs.eq(Mux(manual, self.manual_cs, select)),
            # Hold and write protect are high while one wire is used.
            self.data_o.eq(
                Mux(
                    manual | command,
                    Cat(Mux(manual, self.manual_data, bit), Const(6, 3)),
                    shift[-4:],
                )
            ),
            self.data_oe.eq(Mux(manual | command, 0b1101, sends.replicate(4))),
        ]
        return m
