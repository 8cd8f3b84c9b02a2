"""Tests of the stream reader against independent memory models; parameters come in TAMALE_TEST."""

import json
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, Timer
from cocotbext.axi import AxiRamRead, AxiReadBus
from tamale.config import Config
from tamale.gateware.interfaces import Addresses, Descriptor, Fault, FaultLayout

CONFIG = Config(**json.loads(os.environ["TAMALE_TEST"]))
BEAT = CONFIG.beat_bytes
SIZE = 1 << 18
REGIONS = {"read_base": 0x1000, "read_limit": 0x20000, "kv_base": 0x28000, "kv_limit": SIZE}
#: Beats of the longest random range.
MOST = 3000 if BEAT <= 8 else 1000


class Memory(AxiRamRead):
    """Memory with random contents and addresses at which reading fails."""

    bad = frozenset()

    async def _read(self, address, length):
        if address in self.bad:
            raise ValueError("injected")
        return await super()._read(address, length)


def pauses(chance):
    """Pauses of random length; in between, runs of random length."""
    while True:
        for _ in range(random.randrange(1, 40)):
            yield random.random() < chance
        if random.random() < 0.1:
            yield from [True] * random.randrange(60)


class Bench:
    def __init__(self, dut, memory=True):
        self.dut, self.received, self.stall = dut, [], 0.0
        self.bursts, self.most = [], 0
        self.dut.rst.value = 1
        self.dut.clear.value = 0
        self.dut.descriptors__valid.value = 0
        self.dut.o__ready.value = 0
        self.dut.addresses.value = Addresses.const(REGIONS).as_bits()
        self.image = random.randbytes(SIZE)
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        if memory:
            bus = AxiReadBus.from_prefix(dut, "memory_")
            self.memory = Memory(bus, dut.clk, dut.rst, size=SIZE)
            self.memory.write(0, self.image)
            self.memory.log.setLevel("ERROR")

    async def start(self):
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        cocotb.start_soon(self.consume())
        cocotb.start_soon(self.check_axi())

    def pause(self, address, data):
        self.memory.ar_channel.set_pause_generator(pauses(address))
        self.memory.r_channel.set_pause_generator(pauses(data))

    async def consume(self):
        """Take beats with stalls; a beat that waits must not change."""
        dut, waiting = self.dut, None
        pause = pauses(0.5)
        while True:
            ready = not (self.stall and (next(pause) if self.stall < 1 else True))
            dut.o__ready.value = int(ready)
            await RisingEdge(dut.clk)
            if dut.o__valid.value:
                beat = int(dut.o__payload.value)
                assert waiting in (None, beat), "a waiting beat changed"
                if ready:
                    self.received.append(beat)
                waiting = None if ready else beat
            else:
                assert waiting is None or dut.clear.value or self.cleared, "a beat was withdrawn"
                waiting = None
            self.cleared = bool(dut.clear.value)

    cleared = False

    async def check_axi(self):
        """Rules of AXI that the memory does not check, and what the reader says about bursts."""
        dut, waiting = self.dut, None
        beats = min(256, 4096 // BEAT, CONFIG.fifo_beats // 2)
        flight = 0
        while True:
            await RisingEdge(dut.clk)
            assert dut.memory__rready.value == 1
            if dut.memory__arvalid.value:
                address, length = int(dut.memory__araddr.value), int(dut.memory__arlen.value) + 1
                assert waiting in (None, (address, length)), "a waiting address changed"
                waiting = (address, length)
                assert address % BEAT == 0
                assert address // BEAT % beats + length <= beats, "burst crosses its boundary"
                if dut.memory__arready.value:
                    self.bursts.append(waiting)
                    flight += 1
                    waiting = None
            else:
                assert waiting is None
            if dut.memory__rvalid.value and dut.memory__rlast.value:
                flight -= 1
            self.most = max(self.most, flight)
            assert 0 <= flight <= CONFIG.max_outstanding

    async def send(self, descriptors, gaps=0.0):
        dut = self.dut
        for address, beats in descriptors:
            while random.random() < gaps:
                await RisingEdge(dut.clk)
            dut.descriptors__valid.value = 1
            dut.descriptors__payload.value = Descriptor.const(
                {"address": address, "beats": beats}
            ).as_bits()
            await RisingEdge(dut.clk)
            while not dut.descriptors__ready.value:
                if dut.fault_valid.value:
                    dut.descriptors__valid.value = 0
                    return
                await RisingEdge(dut.clk)
            dut.descriptors__valid.value = 0

    def expected(self, descriptors):
        return [
            int.from_bytes(self.image[address + n * BEAT : address + (n + 1) * BEAT], "little")
            for address, beats in descriptors
            for n in range(beats)
        ]

    async def until(self, condition, limit=60000):
        for _ in range(limit):
            await RisingEdge(self.dut.clk)
            if condition():
                return
        raise AssertionError(f"nothing for {limit} cycles; {len(self.received)} beats received")

    async def cycles(self, count):
        for _ in range(count):
            await RisingEdge(self.dut.clk)

    async def clear(self):
        self.dut.clear.value = 1
        await RisingEdge(self.dut.clk)
        self.dut.clear.value = 0
        await RisingEdge(self.dut.clk)
        self.received.clear()
        await RisingEdge(self.dut.clk)
        assert not self.received, "a beat survived clear"

    def fault(self):
        assert self.dut.fault_valid.value == 1
        fault = FaultLayout.from_bits(int(self.dut.fault.value))
        return fault.code, fault.info


def random_descriptors(count, most):
    descriptors = []
    for _ in range(count):
        beats = random.choice([0, 1, 2, random.randrange(40), random.randrange(most + 1)])
        low, high = random.choice([(0x1000, 0x20000), (0x28000, SIZE)])
        beats = min(beats, (high - low) // BEAT - 1)
        room = high - beats * BEAT
        address = random.choice(
            [low, room, random.randrange(low, room + 1), (random.randrange(low, room) | 4095) + 1]
        )
        address = min(address, room) // BEAT * BEAT
        descriptors.append((address, beats))
    return descriptors


@cocotb.test()
async def random_lists(dut):
    """Every beat of random lists arrives in order, whoever stalls."""
    bench = Bench(dut)
    await bench.start()
    for address, data, stall in ((0, 0, 0), (0.5, 0.3, 0.5), (0.2, 0, 0.5), (0.9, 0, 0)):
        bench.pause(address, data)
        bench.stall = stall
        descriptors = random_descriptors(12, MOST if not stall and not data else MOST // 4)
        expected = bench.expected(descriptors)
        bench.received.clear()
        await bench.send(descriptors, gaps=0.3 if stall else 0)
        await bench.until(lambda: len(bench.received) >= len(expected))  # noqa: B023
        await bench.cycles(50)
        assert bench.received == expected, f"seed {cocotb.RANDOM_SEED}"
        assert dut.idle.value == 1 and dut.fault_valid.value == 0
    bench.bursts.clear()
    beats = min(256, 4096 // BEAT, CONFIG.fifo_beats // 2)
    # A long range meets the fewest bursts: a short first one, full ones, a short last one.
    await bench.send([(0x2000 + 3 * BEAT, 4 * beats)])
    await bench.until(lambda: dut.idle.value == 1 and len(bench.bursts) >= 5)
    assert [length for _, length in bench.bursts] == [beats - 3, beats, beats, beats, 3]


@cocotb.test()
async def credits(dut):
    """A consumer that does not move fills the FIFO to its last burst and loses nothing."""
    bench = Bench(dut)
    bench.stall = 1
    await bench.start()
    total = CONFIG.fifo_beats + 700
    await bench.send([(0x2000, total)])
    await bench.until(lambda: dut.fifo_full.value == 1 and dut.waiting.value == 0)
    await bench.cycles(1000)
    assert dut.fifo_full.value == 1 and dut.beat.value == 0
    arrived = sum(length for _, length in bench.bursts)
    assert CONFIG.fifo_beats - arrived < bench.bursts[-1][1], "room for a burst is left"
    bench.stall = 0
    await bench.until(lambda: len(bench.received) >= total)
    assert bench.received == bench.expected([(0x2000, total)])


@cocotb.test()
async def bounds(dut):
    """A range outside the regions stops the reader; what came before it arrives, nothing of it."""
    bench = Bench(dut)
    await bench.start()
    bad = [
        (0x1000 - BEAT, 1),
        (0x1000 - BEAT, 2),
        (0x20000 - BEAT, 2),
        (0x20000, 1),
        (0x28000 - BEAT, 1),
        (SIZE - BEAT, 2),
        (SIZE, 1),
        (0xFFFFF000, 1),
        (0x28000, 1 << 24),
        (0x28000, 0xFFFFFFFF),
        (0x28000, 1 << (32 - BEAT.bit_length() + 1)),
        (0x2000 + 1, 1),
    ]
    for descriptor in bad:
        good = random_descriptors(2, 300)
        bench.bursts.clear()
        await bench.send([*good, (0xFFFF0000, 0), descriptor, (0x2000, 5), (0x2000, 5)])
        await bench.until(lambda: dut.fault_valid.value == 1)
        assert bench.fault() == (Fault.READ_BOUNDS, descriptor[0])
        await bench.until(lambda: dut.idle.value == 1)
        expected = bench.expected(good)
        await bench.until(lambda: len(bench.received) >= len(expected))  # noqa: B023
        await bench.cycles(50)
        assert bench.received == expected, f"seed {cocotb.RANDOM_SEED}"
        assert sum(length for _, length in bench.bursts) == len(expected)
        assert dut.descriptors__ready.value == 0
        await bench.clear()
        assert dut.fault_valid.value == 0


@cocotb.test()
async def errors(dut):
    """An error response stops the reader, names the burst, and lets no later beat through."""
    bench = Bench(dut)
    await bench.start()
    for round_ in range(6):
        bench.pause(0.3 * (round_ % 2), 0.3 * (round_ % 2))
        bench.stall = 0.5 if round_ % 3 == 2 else 0
        beats = 4096 * 5 // BEAT if BEAT > 8 else 600
        descriptors = [(0x2000 + BEAT * random.randrange(50), beats), (0x9000, beats)]
        reads = [a + n * BEAT for a, beats in descriptors for n in range(beats)]
        which = random.randrange(len(reads))
        bench.memory.bad = frozenset([reads[which]])
        bench.bursts.clear()
        await bench.send([*descriptors, *random_descriptors(8, 50)])
        await bench.until(lambda: dut.fault_valid.value == 1)
        code, info = bench.fault()
        hit = [a for a, length in bench.bursts if a <= reads[which] < a + length * BEAT]  # noqa: B023
        assert (code, info) == (Fault.READ_ERROR, hit[0])
        await bench.until(lambda: dut.idle.value == 1)
        bench.stall = 0
        await bench.cycles(1000)
        assert bench.received == bench.expected(descriptors)[:which], f"seed {cocotb.RANDOM_SEED}"
        assert bench.fault() == (code, info)
        bench.memory.bad = frozenset()
        await bench.clear()
        good = random_descriptors(3, 200)
        await bench.send(good)
        expected = bench.expected(good)
        await bench.until(lambda: len(bench.received) >= len(expected))  # noqa: B023
        await bench.cycles(20)
        assert bench.received == expected, f"seed {cocotb.RANDOM_SEED}"
        await bench.clear()


@cocotb.test()
async def clear_in_flight(dut):
    """``clear`` in the middle of anything: nothing old comes out, everything new does."""
    bench = Bench(dut)
    await bench.start()
    for round_ in range(12):
        bench.pause(0.3, 0.1)
        bench.stall = 0.5 * (round_ % 2)
        old = cocotb.start_soon(bench.send(random_descriptors(6, 900)))
        await bench.cycles(random.randrange(1, 900))
        old.cancel()
        dut.descriptors__valid.value = 0
        await RisingEdge(dut.clk)
        await bench.clear()
        good = random_descriptors(3, 400)
        expected = bench.expected(good)
        await bench.send(good)
        await bench.until(lambda: len(bench.received) >= len(expected))  # noqa: B023
        await bench.cycles(50)
        assert bench.received == expected, f"seed {cocotb.RANDOM_SEED}"
        await bench.clear()


async def perfect_memory(bench, latency):
    """A memory that takes an address and gives a beat in every cycle, ``latency`` cycles later."""
    dut, queue, now = bench.dut, [], 0
    dut.memory__rvalid.value = 0
    dut.memory__arready.value = 1
    dut.memory__rresp.value = 0
    image = bench.image
    while True:
        await RisingEdge(dut.clk)
        now += 1
        if dut.memory__arvalid.value:
            address, length = int(dut.memory__araddr.value), int(dut.memory__arlen.value) + 1
            for n in range(length):
                word = image[address + n * BEAT : address + (n + 1) * BEAT]
                queue.append((now + latency, int.from_bytes(word, "little"), n == length - 1))
        valid = bool(queue) and queue[0][0] <= now
        dut.memory__rvalid.value = int(valid)
        if valid:
            _, word, last = queue.pop(0)
            dut.memory__rdata.value = word
            dut.memory__rlast.value = int(last)


@cocotb.test()
async def efficiency(dut):
    """With a memory that never waits, no cycle between the first and the last beat is lost."""
    bench = Bench(dut, memory=False)
    cocotb.start_soon(perfect_memory(bench, 8))
    await bench.start()
    cases = {
        "one sweep": [(0x1000, 6000)],
        "odd ranges": [(0x1000 + BEAT * n * 700, 300 + n) for n in range(12)],
        "short ranges": [(0x1000 + BEAT * n * 77, 20 + n % 7) for n in range(60)],
    }
    for name, descriptors in cases.items():
        bench.received.clear()
        expected = bench.expected(descriptors)
        cocotb.start_soon(bench.send(descriptors))
        first = last = beats = cycle = waiting = 0
        start = None
        while beats < len(expected):
            await RisingEdge(dut.clk)
            cycle += 1
            assert cycle < 40000
            if dut.memory__arvalid.value and start is None:
                start = cycle
            waiting += int(dut.waiting.value)
            if dut.beat.value:
                first, last, beats = first or cycle, cycle, beats + 1
        await bench.until(lambda: len(bench.received) >= len(expected))  # noqa: B023
        assert bench.received == expected
        rate = beats / (last - first + 1)
        dut._log.info(
            f"{name}: {beats} beats in {last - first + 1} cycles, {rate:.4f} a cycle; first "
            f"address after {start} cycles, {waiting} cycles waiting"
        )
        assert rate == 1.0
    await Timer(1, "ns")
    await ReadOnly()
