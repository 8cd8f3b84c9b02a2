# amaranth: UnusedElaboratable=no
"""RAM, decoder, UART, timer and system control in Amaranth's simulator."""

import random

import pytest
from amaranth.hdl import Fragment, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from soc_bus import access, simulate
from tamale.soc import cpu, wishbone
from tamale.soc.ram import Ram
from tamale.soc.system_control import SystemControl
from tamale.soc.timer import Timer
from tamale.soc.uart import Uart


def test_ram():
    image = bytes(range(1, 12))
    seed = 1

    async def bench(ctx, dut):
        random.seed(seed)
        expected = bytearray(image.ljust(dut.size, b"\0"))
        for _ in range(400):
            address = 4 * random.randrange(dut.size // 4)
            if random.random() < 0.5:
                value, sel = random.getrandbits(32), random.getrandbits(4)
                await access(ctx, dut.bus, address, value, sel)
                for lane in range(4):
                    if sel >> lane & 1:
                        expected[address + lane] = value >> 8 * lane & 0xFF
            else:
                word = int.from_bytes(expected[address : address + 4], "little")
                assert await access(ctx, dut.bus, address) == word
        assert await access(ctx, dut.bus, dut.size) is None
        assert await access(ctx, dut.bus, dut.size, 1) is None
        assert await access(ctx, dut.bus, 0) is not None

    simulate(Ram(96, image), bench)


@pytest.mark.gates("peripherals")
def test_ram_burst():
    async def bench(ctx, dut):
        bus = dut.bus
        ctx.set(bus.cyc, 1)
        ctx.set(bus.stb, 1)
        words, cycles, address = [], 0, 5
        while len(words) < 8:
            ctx.set(bus.adr, address)
            last = len(words) == 7
            ctx.set(
                bus.cti,
                wishbone.CycleType.END_OF_BURST if last else wishbone.CycleType.INCR_BURST,
            )
            *_, ack, data = await ctx.tick().sample(bus.ack, bus.dat_r)
            cycles += 1
            if ack:
                words.append(data)
                address += 1
        ctx.set(bus.cyc, 0)
        ctx.set(bus.stb, 0)
        assert words == [0x100 + i for i in range(5, 13)]
        assert cycles == 9
        *_, ack = await ctx.tick().sample(bus.ack)
        assert not ack

    image = b"".join((0x100 + i).to_bytes(4, "little") for i in range(32))
    simulate(Ram(128, image), bench)


class TwoRams(wiring.Component):
    bus: In(wishbone.initiator())

    def elaborate(self, platform):
        m = Module()
        m.submodules.decoder = decoder = wishbone.Decoder()
        wiring.connect(m, wiring.flipped(self.bus), decoder.bus)
        for base, fill in ((0, 0x11), (0xF000_1000, 0x22)):
            ram = Ram(64, bytes([fill] * 64))
            m.submodules += ram
            decoder.add(ram.bus, base=base, size=64, name=f"ram{fill}")
        return m


@pytest.mark.gates("peripherals")
def test_decoder():
    async def bench(ctx, dut):
        assert await access(ctx, dut.bus, 0x20) == 0x1111_1111
        assert await access(ctx, dut.bus, 0xF000_1020) == 0x2222_2222
        for hole in (0x40, 0x1000, 0xF000_0020, 0xFFFF_FFFC):
            assert await access(ctx, dut.bus, hole) is None
            assert await access(ctx, dut.bus, hole, 1) is None
        await access(ctx, dut.bus, 0xF000_1020, 5)
        assert await access(ctx, dut.bus, 0x20) == 0x1111_1111

    simulate(TwoRams(), bench)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ([(0, 96)], "cannot be decoded: make the size a power of two"),
        ([(32, 64)], "cannot be decoded"),
        ([(0, 64), (0, 128)], "overlaps 'w0' at 0x0; move one"),
    ],
)
def test_decoder_refuses(windows, message):
    decoder = wishbone.Decoder()
    with pytest.raises(ValueError, match=message):
        for index, (base, size) in enumerate(windows):
            decoder.add(Ram(64).bus, base=base, size=size, name=f"w{index}")


class SharedRam(wiring.Component):
    first: In(wishbone.initiator())
    second: In(wishbone.initiator())
    third: In(wishbone.initiator())

    def elaborate(self, platform):
        m = Module()
        m.submodules.arbiter = arbiter = wishbone.Arbiter()
        m.submodules.decoder = decoder = wishbone.Decoder()
        m.submodules.ram = ram = Ram(1024)
        wiring.connect(m, arbiter.bus, decoder.bus)
        decoder.add(ram.bus, base=0, size=1024, name="ram")
        for bus in (self.first, self.second, self.third):
            arbiter.add(bus)
        return m


@pytest.mark.gates("peripherals")
def test_arbiter():
    """Initiators that ask again at once do not shut the others out; bursts are not torn."""
    served = []

    def initiator(name, base):
        async def bench(ctx, dut):
            rng = random.Random(name)
            bus = getattr(dut, name)
            expected = {}
            for _ in range(150):
                address = base + 4 * rng.randrange(56)
                if rng.random() < 0.5:
                    expected[address] = rng.getrandbits(32)
                    assert await access(ctx, bus, address, expected[address], limit=20) is not None
                    served.append(name)
                else:
                    ctx.set(bus.cyc, 1)
                    ctx.set(bus.stb, 1)
                    ctx.set(bus.we, 0)
                    for beat in range(8):
                        ctx.set(bus.adr, address // 4 + beat)
                        ctx.set(bus.cti, 7 if beat == 7 else 2)
                        ack, waited = 0, 0
                        while not ack:
                            *_, ack, data = await ctx.tick().sample(bus.ack, bus.dat_r)
                            waited += 1
                            assert waited < (30 if beat == 0 else 2)
                        served.append(name)
                        assert data == expected.get(address + 4 * beat, 0)
                    ctx.set(bus.cti, 0)
                    ctx.set(bus.cyc, 0)
                    ctx.set(bus.stb, 0)
                if rng.random() < 0.1:
                    await ctx.tick().repeat(rng.randrange(1, 5))

        return bench

    async def greedy(ctx, dut):
        """Never lets go of cyc and stb."""
        ctx.set(dut.third.cyc, 1)
        ctx.set(dut.third.stb, 1)
        async for _, _, ack in ctx.tick().sample(dut.third.ack):
            if ack:
                served.append("third")

    async def second(ctx, dut):
        await initiator("second", 512)(ctx, dut)
        await ctx.tick().repeat(1 << 30)

    simulate(SharedRam(), initiator("first", 0), second, greedy)
    assert min(served.count(name) for name in ("first", "second", "third")) > 150


class Registers:
    """Accesses to a block's registers by name."""

    def __init__(self, ctx, dut):
        self._ctx, self._dut = ctx, dut

    async def read(self, name, word=0):
        return await access(self._ctx, self._dut.bus, self._dut.block[name].offset + 4 * word)

    async def write(self, name, value, word=0):
        address = self._dut.block[name].offset + 4 * word
        assert await access(self._ctx, self._dut.bus, address, value) is not None

    async def field(self, name, field):
        register = self._dut.block[name]
        (field,) = (f for f in register.fields if f.name == field)
        return (await self.read(name) & field.mask) >> field.offset


async def send(ctx, pin, byte, period, stop=1):
    for bit in [0, *(byte >> i & 1 for i in range(8)), stop]:
        ctx.set(pin, bit)
        await ctx.tick().repeat(period)
    ctx.set(pin, 1)


async def loop_back(ctx, dut):
    async for _, _, level in ctx.tick().sample(dut.tx):
        ctx.set(dut.rx, level)


@pytest.mark.gates("peripherals")
@pytest.mark.parametrize("divisor", [5, 6, 13, 50])
def test_uart_loopback(divisor):
    message = bytes(random.Random(divisor).randbytes(14)) + b"\x00\xff"

    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        await registers.write("divisor", divisor)
        for byte in message:
            await registers.write("transmit_data", byte)
        assert not await registers.field("status", "transmit_idle")
        received = []
        while len(received) < len(message):
            word = await registers.read("receive_data")
            if word >> 8 & 1:
                received.append(word & 0xFF)
            await ctx.tick().repeat(divisor)
        assert bytes(received) == message
        await ctx.tick().repeat(2 * divisor)
        assert await registers.read("status") == 0b011

    simulate(Uart(20), bench, loop_back)


@pytest.mark.gates("peripherals")
def test_uart_line_format():
    """The transmitter's waveform, sampled by an independent observer."""
    levels = []

    async def observe(ctx, dut):
        async for _, _, level in ctx.tick().sample(dut.tx):
            levels.append(level)

    async def bench(ctx, dut):
        await Registers(ctx, dut).write("transmit_data", 0xA5)
        await ctx.tick().repeat(130)

    simulate(Uart(10), bench, observe)
    start = levels.index(0)
    assert [levels[start + 5 + 10 * i] for i in range(10)] == [0, 1, 0, 1, 0, 0, 1, 0, 1, 1]
    edges = [i for i in range(start, start + 100) if levels[i] != levels[i - 1]]
    assert all((edge - start) % 10 == 0 for edge in edges)


@pytest.mark.gates("peripherals")
def test_uart_flags_and_interrupt():
    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        assert ctx.get(dut.irq) == 0
        await registers.write("interrupt_enable", 0b001)
        for byte in range(16):
            await send(ctx, dut.rx, byte, 8)
        await ctx.tick().repeat(20)
        assert ctx.get(dut.irq) == 1
        assert not await registers.field("status", "receive_overrun")
        await send(ctx, dut.rx, 0x77, 8)
        await ctx.tick().repeat(20)
        assert await registers.field("status", "receive_overrun")
        for byte in range(16):
            assert await registers.read("receive_data") == 0x100 | byte
        assert not await registers.read("receive_data") >> 8
        assert ctx.get(dut.irq) == 0
        await registers.write("interrupt_enable", 0b100)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.irq) == 1
        await registers.write("status", 1 << 3)
        await ctx.tick().repeat(2)
        assert ctx.get(dut.irq) == 0 and await registers.read("status") == 0b011

        await send(ctx, dut.rx, 0x55, 8, stop=0)
        await ctx.tick().repeat(100)
        assert await registers.field("status", "framing_error")
        await registers.write("status", 1 << 4)
        while await registers.field("status", "receive_valid"):
            await registers.read("receive_data")
        await send(ctx, dut.rx, 0x5A, 8)
        await ctx.tick().repeat(20)
        assert await registers.read("receive_data") == 0x15A

        await registers.write("interrupt_enable", 0)
        for _ in range(18):
            await registers.write("transmit_data", 0)
        assert await registers.field("status", "transmit_overrun")
        assert not await registers.field("status", "transmit_ready")

    simulate(Uart(8), bench)


@pytest.mark.gates("peripherals")
def test_timer():
    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        first = await registers.read("cycles")
        await ctx.tick().repeat(96)
        assert await registers.read("cycles") == first + 100
        assert await registers.read("cycles", 1) == 0
        await registers.write("control", 1)
        await registers.write("compare", 300)
        assert ctx.get(dut.irq) == 0
        await registers.write("compare", 0, word=1)
        cycles = await registers.read("cycles")
        while not ctx.get(dut.irq):
            await ctx.tick()
            cycles += 1
        # What was read is two cycles old.
        assert 298 <= cycles <= 302
        assert await registers.read("status") == 1
        await registers.write("compare", 1, word=1)
        await ctx.tick().repeat(3)
        assert ctx.get(dut.irq) == 0

    simulate(Timer(), bench)


@pytest.mark.gates("peripherals")
def test_system_control():
    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        assert (await registers.read("identifier")).to_bytes(4, "little") == b"TAML"
        assert await registers.read("clock_frequency") == 25_000_000
        await registers.write("scratch", 0xDEAD_BEEF)
        assert await registers.read("scratch") == 0xDEAD_BEEF
        assert await registers.read("reset") == 0
        await registers.write("reset", 1)
        high = 0
        for _ in range(100):
            await ctx.tick()
            high += ctx.get(dut.cpu_reset)
        assert high == 64
        assert await registers.field("reset", "cause") == 1
        assert await registers.read("scratch") == 0xDEAD_BEEF
        assert ctx.get(dut.halted) == 0
        await registers.write("exit_code", 42)
        await ctx.tick()
        assert ctx.get(dut.halted) == 1 and ctx.get(dut.exit_code) == 42

    simulate(SystemControl(25_000_000), bench)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ram(10), "RAM size must be a multiple of 4"),
        (lambda: Ram(8, bytes(9)), "an image of 9 bytes does not fit a RAM of 8 bytes"),
        (lambda: Uart(4), "UART divisor must be 5 to 1048575 clock cycles per bit, not 4"),
        (lambda: Uart(9, depth=8), "FIFO depth must be 16 bytes or more, not 8"),
        (lambda: SystemControl(0), "clock frequency must be"),
        (lambda: cpu.VexRiscv("tiny"), "must be one of min, lite, standard, full, not 'tiny'"),
        (lambda: cpu.create("z80"), "no CPU is called 'z80'; known: vexriscv, vexriscv-full"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", cpu.CPUS)
def test_cpu_sources(name):
    core = cpu.create(name)
    Fragment.get(core, None)
    (path,) = core.verilog_sources()
    text = path.read_text()
    assert "module VexRiscv (" in text
    assert ("DivPlugin" in text or "MulDivIterativePlugin" in text) == core.toolchain.mcpu.endswith(
        "+m"
    )
    assert (core.toolchain.defines["CPU_DATA_CACHE_BYTES"] > 0) == ("module DataCache" in text)
