"""Traffic for anything with an AXI4 port named ``axi`` and memory behind it.

The environment says what to expect: SIZE in bytes, and OPERATIONS for the random part.
"""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBurstType, AxiBus, AxiMaster, AxiResp
from cocotbext.axi.axi_channels import (
    AxiARBus,
    AxiARSource,
    AxiARTransaction,
    AxiAWBus,
    AxiAWSource,
    AxiAWTransaction,
    AxiBBus,
    AxiBSink,
    AxiRBus,
    AxiRSink,
    AxiWBus,
    AxiWSource,
    AxiWTransaction,
)

SIZE = int(os.environ["SIZE"])
OPERATIONS = int(os.environ.get("OPERATIONS", "40"))


async def start(dut):
    """Start the clock, reset, and wait until the memory can be used."""
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    dut._log.info("seed %d", cocotb.RANDOM_SEED)


async def master(dut):
    await start(dut)
    result = AxiMaster(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst)
    result.read_if.log.setLevel("WARNING")
    result.write_if.log.setLevel("WARNING")
    await RisingEdge(dut.clk)
    return result


async def finish(dut):
    await ClockCycles(dut.clk, 50)
    if hasattr(dut, "violation"):
        assert int(dut.violation.value) == 0, "the SDRAM model saw a broken rule; see the log"


def pauses(probability):
    """Yield pauses of random lengths that fill about this part of the time."""
    while True:
        paused = random.random() < probability
        for _ in range(random.choice((1, 1, 2, 5, 30))):
            yield paused


def pause_all(axi, probability):
    for channel in (
        axi.write_if.aw_channel,
        axi.write_if.w_channel,
        axi.write_if.b_channel,
        axi.read_if.ar_channel,
        axi.read_if.r_channel,
    ):
        channel.set_pause_generator(pauses(probability()) if probability else None)
        channel.pause = False


async def fill(axi):
    """Give every byte a known value."""
    contents = bytearray(random.randbytes(SIZE))
    response = await axi.write(0, bytes(contents))
    assert response.resp == AxiResp.OKAY
    return contents


async def compare(axi, contents):
    response = await axi.read(0, SIZE)
    assert response.resp == AxiResp.OKAY
    for address, (got, expected) in enumerate(zip(response.data, contents, strict=True)):
        assert got == expected, f"byte {address:#x}: {got:#04x} instead of {expected:#04x}"


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def linear(dut):
    """The whole memory, in the longest bursts, without pauses."""
    axi = await master(dut)
    await compare(axi, await fill(axi))
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def random_traffic(dut):
    """Several owners of parts of the memory read and write them, with pauses on all channels."""
    axi = await master(dut)
    contents = await fill(axi)
    pause_all(axi, lambda: random.choice((0, 0.1, 0.5, 0.9)))

    async def owner(low, high):
        for _ in range(OPERATIONS):
            start = random.randrange(low, high)
            longest = random.choice((1, 4, 16, 64, 5000))
            end = min(high, start + random.randint(1, longest))
            if random.random() < 0.5:
                contents[start:end] = random.randbytes(end - start)
                response = await axi.write(start, bytes(contents[start:end]))
            else:
                response = await axi.read(start, end - start)
                assert response.data == contents[start:end], f"bytes {start:#x} to {end:#x}"
            assert response.resp == AxiResp.OKAY

    cuts = sorted(random.sample(range(1, SIZE), 5))
    owners = [
        cocotb.start_soon(owner(low, high))
        for low, high in zip([0, *cuts], [*cuts, SIZE], strict=True)
    ]
    for task in owners:
        await task
    pause_all(axi, None)
    await compare(axi, contents)
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def single_beats(dut):
    """Bursts of one beat, each to another place."""
    axi = await master(dut)
    contents = await fill(axi)
    lanes = axi.read_if.byte_lanes
    places = [lanes * random.randrange(SIZE // lanes) for _ in range(100)]
    reads = [cocotb.start_soon(axi.read(place, lanes)) for place in places]
    for place, read in zip(places, reads, strict=True):
        assert (await read).data == contents[place : place + lanes]
    for place in places[:30]:
        contents[place : place + lanes] = random.randbytes(lanes)
        await axi.write(place, bytes(contents[place : place + lanes]))
        assert (await axi.read(place, lanes)).data == contents[place : place + lanes]
    await compare(axi, contents)
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def beyond_the_end(dut):
    """Addresses without memory answer DECERR on every beat, and touch nothing."""
    axi = await master(dut)
    contents = await fill(axi)
    lanes = axi.read_if.byte_lanes
    for address, length in ((SIZE, lanes), (SIZE + 1000, 700), (2 * SIZE, 256 * lanes)):
        response = await axi.read(address, length)
        assert response.resp == AxiResp.DECERR
        assert len(response.data) == length
        response = await axi.write(address, bytes(length))
        assert response.resp == AxiResp.DECERR
    assert (await axi.write(0, bytes(contents[:100]))).resp == AxiResp.OKAY
    await compare(axi, contents)
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def unsupported_bursts(dut):
    """Fixed bursts and narrow beats answer SLVERR, and touch nothing."""
    axi = await master(dut)
    contents = await fill(axi)
    lanes = axi.read_if.byte_lanes
    fixed = {"burst": AxiBurstType.FIXED}
    assert (await axi.write(64, bytes(8 * lanes), **fixed)).resp == AxiResp.SLVERR
    assert (await axi.read(64, 8 * lanes, **fixed)).resp == AxiResp.SLVERR
    assert (await axi.write(64, bytes(8), size=0)).resp == AxiResp.SLVERR
    assert (await axi.read(64, 8, size=0)).resp == AxiResp.SLVERR
    await compare(axi, contents)
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def strobes(dut):
    """Any bytes of a beat can be left out."""
    await start(dut)
    port = Channels(dut)
    contents = bytearray(random.randbytes(SIZE))
    beats = 64
    block = beats * port.lanes
    blocks = range(0, min(SIZE, 8 * block), block)
    full = (1 << port.lanes) - 1
    for base in blocks:
        await port.write(base, contents[base : base + block], [full] * beats)
        assert int((await port.b.recv()).bresp) == AxiResp.OKAY
    for _ in range(20):
        base = random.choice(blocks)
        words = random.randbytes(block)
        masks = [random.getrandbits(port.lanes) for _ in range(beats)]
        for offset, byte in enumerate(words):
            if masks[offset // port.lanes] >> offset % port.lanes & 1:
                contents[base + offset] = byte
        await port.write(base, words, masks)
        assert int((await port.b.recv()).bresp) == AxiResp.OKAY
    for base in blocks:
        await port.read(base, beats)
        for beat in range(beats):
            answer = await port.r.recv()
            assert int(answer.rlast) == (beat == beats - 1)
            address = base + beat * port.lanes
            expected = contents[address : address + port.lanes]
            assert int(answer.rdata) == int.from_bytes(expected, "little"), f"{address:#x}"
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def stalled_reader(dut):
    """A manager that does not take data for a long time loses none of it."""
    axi = await master(dut)
    contents = await fill(axi)
    reading = cocotb.start_soon(axi.read(0, SIZE))
    await ClockCycles(dut.clk, 300)
    axi.read_if.r_channel.pause = True
    await ClockCycles(dut.clk, 6000)
    axi.read_if.r_channel.pause = False
    assert (await reading).data == contents
    await finish(dut)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def late_write_data(dut):
    """Reads pass a write whose data has not come, as a manager that copies memory needs."""
    await start(dut)
    port = Channels(dut)
    full = [(1 << port.lanes) - 1]
    source = random.randbytes(4 * port.lanes)
    await port.write(SIZE // 2, source, full * 4)
    await port.b.recv()
    await port.address(0, 4)
    await ClockCycles(dut.clk, 30)
    await port.read(SIZE // 2, 4)
    copied = b""
    for beat in range(4):
        answer = await port.r.recv()
        copied += int(answer.rdata).to_bytes(port.lanes, "little")
        await port.beat(int(answer.rdata), full[0], beat == 3)
    assert copied == source
    assert int((await port.b.recv()).bresp) == AxiResp.OKAY
    await port.read(0, 4)
    for beat in range(4):
        expected = source[beat * port.lanes : (beat + 1) * port.lanes]
        assert int((await port.r.recv()).rdata) == int.from_bytes(expected, "little")
    await finish(dut)


class Channels:
    """The five channels, one transfer at a time: what no well-behaved manager would let us do."""

    def __init__(self, dut):
        bus, arguments = "axi_", (dut.clk, dut.rst)
        self.lanes = len(dut.axi__wstrb)
        self.size = (self.lanes - 1).bit_length()
        self.aw = AxiAWSource(AxiAWBus.from_prefix(dut, bus), *arguments)
        self.w = AxiWSource(AxiWBus.from_prefix(dut, bus), *arguments)
        self.b = AxiBSink(AxiBBus.from_prefix(dut, bus), *arguments)
        self.ar = AxiARSource(AxiARBus.from_prefix(dut, bus), *arguments)
        self.r = AxiRSink(AxiRBus.from_prefix(dut, bus), *arguments)

    async def address(self, base, beats):
        await self.aw.send(
            AxiAWTransaction(awid=0, awaddr=base, awlen=beats - 1, awsize=self.size, awburst=1)
        )

    async def beat(self, word, strobe, last):
        await self.w.send(AxiWTransaction(wdata=word, wstrb=strobe, wlast=last))

    async def write(self, base, words, strobes):
        await self.address(base, len(strobes))
        for index, strobe in enumerate(strobes):
            word = words[index * self.lanes : (index + 1) * self.lanes]
            await self.beat(int.from_bytes(word, "little"), strobe, index == len(strobes) - 1)

    async def read(self, base, beats):
        await self.ar.send(
            AxiARTransaction(arid=0, araddr=base, arlen=beats - 1, arsize=self.size, arburst=1)
        )
