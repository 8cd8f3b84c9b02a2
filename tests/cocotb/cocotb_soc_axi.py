"""Random traffic through the AXI mux and the CPU's bridge, compared with the memory's contents."""

import logging
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import Combine, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiMaster, AxiRam

REGION = 0x1000
CLASSIC, INCREMENTING, END = 0, 2, 7


def pauses(probability):
    while True:
        yield random.random() < probability


def channels(side):
    return [
        side.write_if.aw_channel, side.write_if.w_channel, side.write_if.b_channel,
        side.read_if.ar_channel, side.read_if.r_channel,
    ]  # fmt: skip


def stall(side, probability):
    for channel in channels(side):
        channel.set_pause_generator(pauses(probability))


async def start(dut):
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    cocotb.log.setLevel(logging.INFO)
    cocotb.log.info("seed %s", cocotb.RANDOM_SEED)
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


async def traffic(master, base, expected, count):
    """Write and read back random ranges of one's own region, several at once."""
    for _ in range(count):
        offset = random.randrange(REGION - 1)
        length = random.randint(1, min(300, REGION - offset))
        data = random.randbytes(length)
        await master.write(base + offset, data)
        expected[base + offset : base + offset + length] = data
        # The second half of the region is only read back at the end.
        reads = []
        for _ in range(random.randint(0, 3)):
            offset = random.randrange(REGION - 64)
            reads.append((offset, cocotb.start_soon(master.read(base + offset, 64))))
        for offset, read in reads:
            assert (await read).data == bytes(expected[base + offset : base + offset + 64])


@cocotb.test()
async def mux_random(dut):
    count = int(os.environ["MANAGERS"])
    masters = [
        AxiMaster(AxiBus.from_prefix(dut, f"manager_{i}_"), dut.clk, dut.rst, max_burst_len=16)
        for i in range(count)
    ]
    ram = AxiRam(AxiBus.from_prefix(dut, "memory_"), dut.clk, dut.rst, size=REGION * count)
    for side in (*masters, ram):
        stall(side, random.choice([0, 0.2, 0.7]))
    await start(dut)
    expected = bytearray(REGION * count)
    ram.write(0, bytes(expected))
    tasks = [
        cocotb.start_soon(traffic(master, REGION * i, expected, 40))
        for i, master in enumerate(masters)
    ]
    await with_timeout(Combine(*tasks), 5, "ms")
    assert ram.read(0, len(expected)) == bytes(expected)


class Initiator:
    """Wishbone initiator with single accesses and cache-line bursts."""

    def __init__(self, dut):
        self._dut = dut
        for name in ("cyc", "stb", "we", "adr", "dat_w", "sel", "cti", "bte"):
            getattr(dut, f"bus__{name}").value = 0
        self.cycles = 0

    async def _beat(self, address, *, we=0, data=0, sel=0xF, cti=CLASSIC):
        dut = self._dut
        for name, value in (
            ("cyc", 1), ("stb", 1), ("we", we), ("adr", address // 4), ("dat_w", data),
            ("sel", sel), ("cti", cti),
        ):  # fmt: skip
            getattr(dut, f"bus__{name}").value = value
        while True:
            await RisingEdge(dut.clk)
            self.cycles += 1
            assert not dut.bus__err.value
            if dut.bus__ack.value:
                return int(dut.bus__dat_r.value)

    def _idle(self):
        self._dut.bus__cyc.value = 0
        self._dut.bus__stb.value = 0

    async def read(self, address):
        data = await self._beat(address)
        self._idle()
        return data

    async def write(self, address, data, sel=0xF):
        await self._beat(address, we=1, data=data, sel=sel)
        self._idle()

    async def burst(self, address, words):
        data = [
            await self._beat(address + 4 * i, cti=END if i == words - 1 else INCREMENTING)
            for i in range(words)
        ]
        self._idle()
        return data


@cocotb.test()
async def bridge_random(dut):
    master = AxiMaster(AxiBus.from_prefix(dut, "other_"), dut.clk, dut.rst, max_burst_len=16)
    ram = AxiRam(AxiBus.from_prefix(dut, "memory_"), dut.clk, dut.rst, size=2 * REGION)
    initiator = Initiator(dut)
    await start(dut)
    image = random.randbytes(REGION)
    ram.write(0, image)
    word = lambda data, at: int.from_bytes(data[at : at + 4], "little")  # noqa: E731

    # Cost without contention, for the documents.
    for name, access in (
        ("single read", initiator.read(0x40)), ("line of 8 words", initiator.burst(0x40, 8)),
        ("single write", initiator.write(0x40, word(image, 0x40))),
    ):  # fmt: skip
        before = initiator.cycles
        await access
        cocotb.log.info("%s: %d cycles with this memory model", name, initiator.cycles - before)
        for _ in range(5):
            await RisingEdge(dut.clk)

    for side in (master, ram):
        stall(side, random.choice([0, 0.3, 0.7]))
    expected = bytearray(image) + bytearray(REGION)
    ram.write(REGION, bytes(REGION))
    other = cocotb.start_soon(traffic(master, REGION, expected, 60))
    for _ in range(300):
        address = 4 * random.randrange(REGION // 4 - 16)
        match random.choice(["read", "write", "line", "any burst"]):
            case "read":
                assert await initiator.read(address) == word(expected, address)
            case "write":
                data, sel = random.getrandbits(32), random.getrandbits(4)
                await initiator.write(address, data, sel)
                for lane in range(4):
                    if sel >> lane & 1:
                        expected[address + lane] = data >> 8 * lane & 0xFF
            case "line":
                address &= ~31
                words = await initiator.burst(address, 8)
                assert words == [word(expected, address + 4 * i) for i in range(8)]
            case "any burst":
                length = random.randint(1, 16)
                words = await initiator.burst(address, length)
                assert words == [word(expected, address + 4 * i) for i in range(length)]
        for _ in range(random.choice([0, 0, 1, 3])):
            await RisingEdge(dut.clk)
    await with_timeout(other, 5, "ms")
    assert ram.read(0, len(expected)) == bytes(expected)
