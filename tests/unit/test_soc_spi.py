# amaranth: UnusedElaboratable=no
"""SPI host against a device of mode 0 that watches the pins alone."""

import random

import pytest
from soc_bus import simulate
from tamale.soc.spi import Spi
from test_soc_peripherals import Registers

CONTROL = {"half_period": 0, "device": 8, "select": 9, "stream": 10}


def control(**fields):
    return sum(value << CONTROL[name] for name, value in fields.items())


class Device:
    """Takes bits at rising edges, gives them some cycles after falling ones.

    ``sent`` are the bytes that it gives, ``seen`` those that came, frame by frame; ``clocks``
    counts edges without chip select.
    """

    def __init__(self, index, sent=b"", delay=1):
        self.index, self.delay = index, delay
        self.bits = [byte >> i & 1 for byte in sent for i in range(7, -1, -1)]
        self.frames, self.clocks = [], 0
        self.high, self.low = [], []  # lengths of the serial clock's halves within a frame

    @property
    def seen(self):
        assert all(len(frame) % 8 == 0 for frame in self.frames)
        return [
            bytes(int("".join(map(str, f[i : i + 8])), 2) for i in range(0, len(f), 8))
            for f in self.frames
        ]

    async def bench(self, ctx, dut):
        sck, cs_n, mosi = dut.sck[self.index], dut.cs_n[self.index], dut.mosi[self.index]
        miso = dut.miso[self.index]
        before, selected, data, cycle, edge = 0, False, 1, 0, None
        due = {}
        async for _, _, clock, off, bit in ctx.tick().sample(sck, cs_n, mosi):
            cycle += 1
            if not off and not selected:
                assert not clock, "selected while the clock is high"
                self.frames.append([])
                due[cycle + self.delay - 1] = self.bits.pop(0) if self.bits else 1
            selected = not off
            if clock and not before:
                if selected:
                    assert bit == data, "data moved with the rising edge"
                    self.frames[-1].append(bit)
                else:
                    self.clocks += 1
            if clock != before:
                if edge is not None and selected:
                    (self.high if before else self.low).append(cycle - edge)
                edge = cycle
            if before and not clock and selected:
                due[cycle + self.delay - 1] = self.bits.pop(0) if self.bits else 1
            if cycle in due:
                ctx.set(miso, due.pop(cycle))
            if off:
                ctx.set(miso, 1)
            before, data = clock, bit


async def idle(registers, limit=3000):
    for _ in range(limit):
        if not await registers.read("status"):
            return
    raise TimeoutError("the port stays busy")


@pytest.mark.parametrize("half_period", [1, 2, 3, 17])
@pytest.mark.parametrize("index", [0, 1])
def test_exchange(half_period, index):
    """Bytes and words both ways, with a device as slow as allowed."""
    rng = random.Random(half_period)
    answer, request = rng.randbytes(13), rng.randbytes(13)
    # An answer comes nearly a whole serial clock after the falling edge that asks for it.
    device = Device(index, answer, delay=2 * half_period - 1)
    other = Device(1 - index)

    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        base = control(half_period=half_period, device=index)
        await registers.write("control", base)
        await registers.write("exchange_byte", 0xFF)
        await idle(registers)
        await registers.write("control", base | control(select=1))
        received = b""
        at = 0
        for size in (1, 4, 1, 1, 4, 1, 1):
            part = request[at : at + size]
            name = "exchange_byte" if size == 1 else "exchange_word"
            await registers.write(name, int.from_bytes(part, "little"))
            await idle(registers)
            name = "received_byte" if size == 1 else "received_word"
            received += (await registers.read(name)).to_bytes(size, "little")
            assert ctx.get(dut.mosi[index]) == 1
            at += size
        await registers.write("control", base)
        await ctx.tick().repeat(5)
        assert received == answer

    simulate(Spi(), bench, device.bench, other.bench)
    assert device.seen == [request] and device.clocks == 8
    assert other.seen == [] and other.clocks == 0
    assert set(device.high) == {half_period} and min(device.low) == half_period


def test_fast_device():
    """A device that moves its data right at the falling edge."""
    answer = 0x5A0FF096

    async def device(ctx, dut):
        for i in range(31, -1, -1):
            ctx.set(dut.miso[0], answer >> i & 1)
            await ctx.negedge(dut.sck[0])

    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        await registers.write("control", control(half_period=1, select=1))
        await registers.write("exchange_word", 0)
        await idle(registers)
        assert await registers.read("received_word") == int.from_bytes(
            answer.to_bytes(4, "big"), "little"
        )

    simulate(Spi(), bench, device)


def test_stream():
    """Reading a word fetches the next one; without the bit, nothing more moves."""
    answer = random.Random(3).randbytes(20)
    device = Device(0, answer, delay=3)

    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        base = control(half_period=2, select=1)
        await registers.write("control", base | control(stream=1))
        await registers.read("received_word")
        words = []
        for last in (False, False, False, False, True):
            await idle(registers)
            if last:
                await registers.write("control", base)
            words.append(await registers.read("received_word"))
        assert not await registers.read("status")
        assert b"".join(word.to_bytes(4, "little") for word in words) == answer
        await ctx.tick().repeat(200)
        await registers.write("control", 2)
        await ctx.tick().repeat(5)

    simulate(Spi(), bench, device.bench)
    assert device.seen == [b"\xff" * 20]


def test_busy():
    """What is written while bits move is lost; busy lasts as long as it says."""
    device = Device(0, b"\x5a\xa5", delay=2)

    async def bench(ctx, dut):
        registers = Registers(ctx, dut)
        await registers.write("control", control(half_period=9, select=1))
        await registers.write("exchange_byte", 0x3C)
        await registers.write("exchange_word", 0x12345678)
        await registers.write("exchange_byte", 0x99)
        await idle(registers)
        assert await registers.read("received_byte") == 0x5A
        await registers.write("exchange_byte", 0xC3)
        await idle(registers)
        assert await registers.read("received_byte") == 0xA5
        await registers.write("control", 9)
        await ctx.tick().repeat(3)

    simulate(Spi(), bench, device.bench)
    assert device.seen == [b"\x3c\xc3"]


def test_devices():
    with pytest.raises(ValueError, match=r"two devices, not \('flash',\); name both"):
        Spi(("flash",))
    names = Spi(("boot", "disk")).block["control"].fields[1].values
    assert names == {"boot": 0, "disk": 1}
