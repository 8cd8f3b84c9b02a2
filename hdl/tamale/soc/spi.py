"""SPI host: the configuration flash and an SD card, to boot from."""

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .registers import Block, Field, Register, RegisterFile

__all__ = ["Spi"]

HALF_PERIOD_BITS = 8
#: Clocks from the edge at which the pin is sampled until the sample is in the receive register.
INPUT_LATENCY = 2


def _block(devices):
    return Block(
        "spi",
        "SPI host in mode 0, most significant bit first, four bytes or one at a time.",
        [
            Register(
                "control",
                "Clock and device; change it while the port is not busy.",
                [
                    Field(
                        "half_period",
                        HALF_PERIOD_BITS,
                        "Clock cycles of half a cycle of the serial clock; 0 counts as 256.",
                        init=(1 << HALF_PERIOD_BITS) - 1,
                    ),
                    Field(
                        "device",
                        1,
                        "Device that gets the serial clock.",
                        values={name: number for number, name in enumerate(devices)},
                    ),
                    Field("select", 1, "High to pull the device's chip select low."),
                    Field("stream", 1, "High: reading received_word exchanges four ones more."),
                ],
            ),
            Register("status", "State.", [Field("busy", 1, "Bits are moving.", access="ro")]),
            Register("exchange_byte", "Byte to send; starts.", width=8, access="wo"),
            Register("exchange_word", "Four bytes to send, lowest first; starts.", access="wo"),
            Register("received_byte", "Last byte that came.", width=8, access="ro"),
            Register(
                "received_word",
                "Last four bytes that came, lowest first; with stream, four more follow.",
                access="ro",
            ),
        ],
    )


class Spi(wiring.Component):
    """SPI host in mode 0 for two devices that share a shift register.

    A byte takes 16 half periods of the serial clock, a word 64, and ``busy`` three clocks more. The
    serial clock of the other device rests at 0. The input pin is sampled at the falling edge, at
    the end of the bit: delays of pins and device may add up to nearly a whole serial clock. What is
    written while the port is busy is lost.

    With ``stream`` set, reading ``received_word`` starts the exchange of four bytes of ones, so
    that the next word arrives while software stores this one.

    Parameters
    ----------
    devices : sequence of str
        Names of the two devices, for the generated files.

    Members
    -------
    bus : ``In(block.bus_signature())``
        Registers, see ``block``.
    sck, cs_n : Out(1), for each device
        Serial clock; chip select.
    mosi : Out(1), for each device
        Data to the device, 1 while nothing is sent.
    miso : In(1), for each device
        Data from the device.

    Raises
    ------
    ValueError
        If there are not two devices.
    """

    def __init__(self, devices=("flash", "card")):
        if len(devices) != 2:
            raise ValueError(f"the SPI host has two devices, not {devices!r}; name both")
        self.block = _block(devices)
        super().__init__(
            {
                "bus": In(self.block.bus_signature()),
                "sck": Out(1).array(2),
                "cs_n": Out(1, init=1).array(2),
                "mosi": Out(1, init=1).array(2),
                "miso": In(1, init=1).array(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.registers = registers = RegisterFile(self.block)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        control = registers.control

        pins = [Signal(init=1, name=f"miso{i}") for i in range(2)]
        for i, pin in enumerate(pins):
            m.submodules[f"synchronizer{i}"] = FFSynchronizer(
                self.miso[i], pin, init=1, stages=INPUT_LATENCY
            )
        # The registers behind the pins move the clock by a cycle; data and select move with it.
        level, output = Signal(), Signal(init=1)
        for i in range(2):
            mine = control.device == i
            m.d.sync += [
                self.sck[i].eq(level & mine),
                self.mosi[i].eq(output | ~mine),
                self.cs_n[i].eq(~(control.select & mine)),
            ]

        sending = Signal(32, init=(1 << 32) - 1)
        received = Signal(32)
        bits = Signal(range(33))
        timer = Signal(HALF_PERIOD_BITS)
        moving = Signal()
        # Pin register, then the synchronizer.
        samples = Signal(1 + INPUT_LATENCY)
        sample = Signal()
        m.d.comb += [output.eq(sending[-1]), sample.eq(0)]
        m.d.sync += samples.eq(Cat(sample, samples))
        with m.If(samples[-1]):
            m.d.sync += received.eq(Cat(Mux(control.device, pins[1], pins[0]), received))

        with m.If(moving):
            m.d.sync += timer.eq(timer - 1)
            with m.If(timer == 1):
                m.d.sync += [timer.eq(control.half_period), level.eq(~level)]
                with m.If(level):
                    m.d.comb += sample.eq(1)
                    m.d.sync += [sending.eq(Cat(1, sending)), bits.eq(bits - 1)]
                    with m.If(bits == 1):
                        m.d.sync += moving.eq(0)

        def bytes_of(word):
            return [word[8 * i : 8 * i + 8] for i in range(4)]

        word = registers.exchange_word
        again = control.stream & registers.received_word.read_strobe
        start = registers.exchange_byte.write_strobe | word.write_strobe | again
        with m.If(start & ~registers.status.busy):
            m.d.sync += [moving.eq(1), timer.eq(control.half_period)]
            with m.If(registers.exchange_byte.write_strobe):
                sent = Cat(Const(-1, 24), registers.exchange_byte.value)
                m.d.sync += [sending.eq(sent), bits.eq(8)]
            with m.Else():
                sent = Cat(*reversed(bytes_of(word.value)))
                m.d.sync += [sending.eq(Mux(word.write_strobe, sent, -1)), bits.eq(32)]
        m.d.comb += [
            registers.status.busy.eq(moving | samples.any()),
            registers.received_byte.value.eq(received[:8]),
            registers.received_word.value.eq(Cat(*reversed(bytes_of(received)))),
        ]
        return m
