"""Tests of the KV writer against a NumPy packing of the layouts; parameters come in TAMALE_TEST."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiRamWrite, AxiWriteBus
from tamale.codes import limit
from tamale.config import Config
from tamale.gateware.interfaces import (
    SCRATCH_LATENCY,
    Addresses,
    Fault,
    FaultLayout,
    IssueLayout,
)
from tamale.isa import Kind, Op, encode
from tamale_model.integer import Scalar, encode_scale, to_digits

PARAMETERS = json.loads(os.environ["TAMALE_TEST"])
SIZES = PARAMETERS.pop("sizes")
CONFIG = Config(**PARAMETERS)
CODE = CONFIG.trit_code
BEAT, ROWS, COLUMNS, TILE_K = (
    CONFIG.beat_bytes,
    CONFIG.tile_rows,
    CONFIG.tile_columns,
    CONFIG.tile_k,
)
MEMORY = 1 << 19
KV_BASE, KV_LIMIT = 0x10000, 0x70000
SLOT_BASE = 0x14000
ADDRESSES = {
    "kv_base": KV_BASE,
    "kv_limit": KV_LIMIT,
    "kv_layer_stride": 0x20000 + BEAT,
    "key_head_stride": 0x6000 + 3 * BEAT,
    "value_base": 0xD000 + 5 * BEAT,
    "value_head_stride": 0x8000 + 7 * BEAT,
}


def pack(trits):
    """Bytes of trits [..., bytes, trits_per_byte]."""
    flat = trits.reshape(-1, CODE.trits_per_byte)
    return np.array([CODE.encode[tuple(int(t) for t in row)] for row in flat], np.uint8).reshape(
        trits.shape[:-1]
    )


class Cache:
    """What memory must hold, from the layouts of ``tamale.isa`` (MATVEC) alone."""

    def __init__(self, image):
        self.bytes = np.frombuffer(image, np.uint8).copy()

    def key(self, layer, head, position, values, planes, scale, aux):
        digits = to_digits(values, planes)
        steps = -(-len(values) // TILE_K)
        padded = np.zeros((planes, steps * TILE_K), np.int8)
        padded[:, : len(values)] = digits
        packed = pack(padded.reshape(planes * steps, COLUMNS, CODE.trits_per_byte))
        record = planes * steps + 2 * CONFIG.scale_beats
        tile, row = divmod(position, ROWS)
        start = (
            SLOT_BASE
            + layer * ADDRESSES["kv_layer_stride"]
            + head * ADDRESSES["key_head_stride"]
            + tile * record * BEAT
        )
        view = self.bytes[start : start + record * BEAT]
        beats = view[: planes * steps * BEAT].reshape(-1, ROWS, COLUMNS)
        beats[:, row] = packed
        scales = view[planes * steps * BEAT :].reshape(2, -1)
        for half, number in enumerate((scale, aux)):
            word = encode_scale(number)
            scales[half, 2 * row : 2 * row + 2] = word & 255, word >> 8
        return start, record

    def block(self, layer, head, position, size, planes):
        beats = size // ROWS * planes
        start = (
            SLOT_BASE
            + layer * ADDRESSES["kv_layer_stride"]
            + ADDRESSES["value_base"]
            + head * ADDRESSES["value_head_stride"]
            + position // TILE_K * beats * BEAT
        )
        return start, beats

    def value(self, layer, head, position, values, planes):
        start, beats = self.block(layer, head, position, len(values), planes)
        view = self.bytes[start : start + beats * BEAT]
        block = view.reshape(-1, planes, ROWS, COLUMNS)
        column, place = divmod(position % TILE_K, CODE.trits_per_byte)
        if position % TILE_K == 0:
            block[:] = CODE.encode[(0,) * CODE.trits_per_byte]
        old = np.array(CODE.decode, np.int8)[block[..., column]]
        old[..., place] = to_digits(values, planes).reshape(planes, -1, ROWS).transpose(1, 0, 2)
        block[..., column] = pack(old)
        return start, beats


class Memory(AxiRamWrite):
    bad = frozenset()

    async def _write(self, address, data):
        if address // BEAT * BEAT in self.bad:
            raise ValueError("injected")
        await super()._write(address, data)


def pauses(chance):
    while True:
        for _ in range(random.randrange(1, 20)):
            yield random.random() < chance


class Bench:
    def __init__(self, dut):
        self.dut, self.done, self.completed, self.cycle = dut, 0, 0, 0
        self.completed_at = self.done_at = self.beats_on_bus = self.stalled = self.reads = 0
        self.bursts = []
        for name in ("clear", "unit__issue__valid", "unit__issue__payload"):
            getattr(dut, name).value = 0
        dut.addresses.value = Addresses.const(ADDRESSES).as_bits()
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        self.memory = Memory(AxiWriteBus.from_prefix(dut, "memory_"), dut.clk, dut.rst, size=MEMORY)
        self.memory.log.setLevel("ERROR")
        image = random.randbytes(MEMORY)
        self.memory.write(0, image)
        self.cache = Cache(image)
        self.scratch = [0] * CONFIG.scratchpad_elements

    async def start(self):
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        for port in "ab":
            cocotb.start_soon(self.scratchpad(port))
        cocotb.start_soon(self.watch())

    def pause(self, chance):
        for channel in ("aw_channel", "w_channel", "b_channel"):
            getattr(self.memory, channel).set_pause_generator(pauses(chance))

    async def scratchpad(self, port):
        dut, width = self.dut, CONFIG.vu_width
        enable, address, data = (getattr(dut, f"{port}__{n}") for n in ("en", "addr", "data"))
        arriving = [0] * (SCRATCH_LATENCY - 1)
        while True:
            await RisingEdge(dut.clk)
            data.value = arriving.pop(0)
            word = random.getrandbits(32 * width)
            if enable.value:
                assert not self.done, "the scratchpad is read after done"
                self.reads += 1
                first = int(address.value) * width
                word = 0
                for lane, value in enumerate(self.scratch[first : first + width]):
                    word |= (value & 0xFFFFFFFF) << 32 * lane
            else:
                assert int(address.value) == 0, "an idle port is not silent"
            arriving.append(word)

    async def watch(self):
        dut, waiting, in_burst = self.dut, None, 0
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            if dut.unit__done_valid.value:
                self.done, self.done_at = self.done + 1, self.cycle
            if dut.completed.value:
                self.completed, self.completed_at = self.completed + 1, self.cycle
            if dut.memory__awvalid.value:
                address, length = int(dut.memory__awaddr.value), int(dut.memory__awlen.value) + 1
                assert waiting in (None, address)
                assert address % BEAT == 0
                assert address // 4096 == (address + length * BEAT - 1) // 4096, "crosses 4 KiB"
                waiting = address
                if dut.memory__awready.value:
                    self.bursts.append((address, length))
                    waiting = None
            if dut.memory__wvalid.value:
                in_burst = 1
                self.beats_on_bus += int(dut.memory__wready.value)
                if dut.memory__wlast.value and dut.memory__wready.value:
                    in_burst = 0
            elif in_burst:
                # All beats of a burst are at hand before it starts.
                raise AssertionError("the memory waits for data")

    def operands(self, values, block=()):
        """Put operands into the scratchpad; return their places."""
        width = CONFIG.vu_width
        slot = random.randrange(100) * width
        a = random.randrange(100) * width
        b = a + (len(values) // width + 1 + random.randrange(10)) * width
        for n in range(-width, len(values) + width):
            self.scratch[slot + a + n] = random.getrandbits(32)
        for n, value in enumerate(values):
            self.scratch[slot + a + n] = int(value)
        for n, word in enumerate(block):
            self.scratch[slot + b + n] = int(word)
        return slot, a, b

    async def issue(self, command, **state):
        dut, self.done = self.dut, 0
        dut.unit__issue__payload.value = IssueLayout.const(
            {"command": command, "kv_base": SLOT_BASE, **state}
        ).as_bits()
        dut.unit__issue__valid.value = 1
        await RisingEdge(dut.clk)
        while not dut.unit__issue__ready.value:
            await RisingEdge(dut.clk)
        dut.unit__issue__valid.value = 0
        self.issued_at = self.cycle

    async def wait(self, condition):
        for _ in range(20000):
            await RisingEdge(self.dut.clk)
            if condition():
                return
        raise AssertionError("nothing for 20000 cycles")

    def prepare(self, kind, layer, head, position, size, planes, values=None, scales=None):
        """Return the command and what the executor resolves; update the expected memory."""
        peak = limit(planes)
        if values is None:
            values = np.random.default_rng(random.getrandbits(32)).integers(-peak, peak + 1, size)
            values[random.randrange(size)] = random.choice([-peak, peak])
        number = [
            Scalar(random.randrange(1 << 15, 1 << 16), random.randrange(-40, 0)) for _ in "pq"
        ]
        number = scales or number
        if kind == Kind.KEY:
            slot, a, b = self.operands(values)
            place = self.cache.key(layer, head, position, values, planes, *number)
        else:
            start, beats = self.cache.block(layer, head, position, size, planes)
            block = self.cache.bytes[start : start + beats * BEAT].copy().view("<u4")
            if position % TILE_K == 0:
                block = [random.getrandbits(32) for _ in block]
            slot, a, b = self.operands(values, block)
            place = self.cache.value(layer, head, position, values, planes)
        command = encode(
            Op.KVWRITE, a=a, a_slot=1, b=b, b_slot=1, kind=kind, head=head, size=size, planes=planes
        )
        state = {
            "slot_base": slot, "layer": layer, "position": position, "blocks": position // TILE_K,
            "digit": position % TILE_K,
            "p": dict(zip(("mantissa", "exponent"), number[0], strict=True)),
            "q": dict(zip(("mantissa", "exponent"), number[1], strict=True)),
        }  # fmt: skip
        return command, state, place

    async def perform(self, *args, **kwargs):
        command, state, place = self.prepare(*args, **kwargs)
        self.done = self.completed = 0
        await self.issue(command, **state)
        await self.wait(lambda: self.completed)
        assert self.done == 1 and self.completed == 1
        return place

    def check(self):
        found = np.frombuffer(self.memory.read(0, MEMORY), np.uint8)
        wrong = np.flatnonzero(found != self.cache.bytes)
        assert not wrong.size, (
            f"{wrong.size} bytes differ, the first at {wrong[0]:#x}: {found[wrong[0]]:#x} instead "
            f"of {self.cache.bytes[wrong[0]]:#x}; seed {cocotb.RANDOM_SEED}"
        )


@cocotb.test()
async def accumulate(dut):
    """Rows and digits of successive positions come together; nothing else changes."""
    bench = Bench(dut)
    await bench.start()
    for case, size in enumerate(SIZES):
        planes = (CONFIG.key_planes, 1, 5, 3)[case % 4]
        chance = (0, 0.5)[case % 2]
        bench.pause(chance)
        layer, head = random.randrange(2), random.randrange(3)
        first = random.choice([0, 3, TILE_K - 2])
        positions = range(max(0, first), max(0, first) + max(ROWS, 3) + 1)
        for position in positions:
            await bench.perform(Kind.KEY, layer, head, position, size, planes)
        if size % ROWS == 0:
            layer, head = random.randrange(2), random.randrange(3)
            for position in (0, 1, 2, TILE_K - 1, TILE_K, TILE_K + 1, 2 * TILE_K):
                await bench.perform(Kind.VALUE, layer, head, position, size, planes)
        bench.check()


@cocotb.test()
async def scales(dut):
    """Scales round, vanish and saturate like the model's."""
    bench = Bench(dut)
    await bench.start()
    numbers = [
        Scalar(0, 0), Scalar(65535, -31), Scalar(65535, -4), Scalar(65535, -5), Scalar(32768, -4),
        Scalar(32768, -3), Scalar(32768, 1023), Scalar(32768, -1024), Scalar(32768, -35),
        Scalar(32768, -36), Scalar(65535, -36), Scalar(65528, -36), Scalar(65527, -36),
        Scalar(32775, -20), Scalar(32776, -20), Scalar(40000, -20),
    ]  # fmt: skip
    for position, number in enumerate(numbers):
        other = random.choice(numbers)
        await bench.perform(Kind.KEY, 0, 0, position, 8, 1, scales=[number, other])
    bench.check()


@cocotb.test()
async def bounds(dut):
    """A range outside the cache writes nothing and stops the unit; `clear` starts it again."""
    bench = Bench(dut)
    await bench.start()
    size = max(8, ROWS)
    for kind in Kind:
        command, state, (start, beats) = bench.prepare(kind, 0, 0, 1, size, 2)
        bench.cache = Cache(bytes(bench.memory.read(0, MEMORY)))
        end = start + beats * BEAT
        cases = [
            (KV_BASE - BEAT, True), (KV_LIMIT - beats * BEAT + BEAT, True), (KV_LIMIT, True),
            ((1 << 32) - BEAT, True), (KV_BASE + 1, True),
            (KV_BASE, False), (KV_LIMIT - beats * BEAT, False),
        ]  # fmt: skip
        for wanted, refused in cases:
            state["kv_base"] = (SLOT_BASE + wanted - start) % (1 << 32)
            before = bytes(bench.memory.read(0, MEMORY))
            bench.done = bench.completed = 0
            bench.bursts.clear()
            await bench.issue(command, **state)
            if refused:
                await bench.wait(lambda: dut.fault_valid.value == 1)
                fault = FaultLayout.from_bits(int(dut.fault.value))
                assert (fault.code, fault.info) == (Fault.WRITE_BOUNDS, wanted)
                await bench.wait(lambda: bench.cycle % 300 == 299)
                assert not (bench.bursts or bench.done or bench.completed)
                assert dut.fault_valid.value == 1 and dut.unit__issue__ready.value == 0
                assert before == bytes(bench.memory.read(0, MEMORY))
                dut.clear.value = 1
                await RisingEdge(dut.clk)
                dut.clear.value = 0
            else:
                await bench.wait(lambda: bench.completed)
                assert bench.bursts[0][0] == wanted and bench.done == 1
                assert sum(length for _, length in bench.bursts) * BEAT == end - start
    bench.cache = Cache(bytes(bench.memory.read(0, MEMORY)))
    await bench.perform(Kind.KEY, 1, 1, 5, size, 3)
    bench.check()


@cocotb.test()
async def errors(dut):
    """An error response stops the unit and names the burst."""
    bench = Bench(dut)
    await bench.start()
    size = 128
    for round_ in range(4):
        bench.pause(0.3 * (round_ % 2))
        command, state, (start, beats) = bench.prepare(Kind.KEY, 0, 0, round_ * 30, size, 5)
        bad = start + BEAT * random.randrange(beats - 10)
        bench.memory.bad = frozenset(range(bad, bad + 8 * BEAT, BEAT))
        bench.bursts.clear()
        bench.completed = 0
        await bench.issue(command, **state)
        await bench.wait(lambda: dut.fault_valid.value == 1)
        fault = FaultLayout.from_bits(int(dut.fault.value))
        hit = [a for a, n in bench.bursts if a + n * BEAT > bad and a < bad + 8 * BEAT]  # noqa: B023
        assert (fault.code, fault.info) == (Fault.WRITE_ERROR, hit[0])
        await bench.wait(lambda: bench.cycle % 300 == 299)
        assert hit[0] == bench.bursts[-1][0] and not bench.completed
        bench.memory.bad = frozenset()
        dut.clear.value = 1
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        bench.cache = Cache(bytes(bench.memory.read(0, MEMORY)))
        await bench.perform(Kind.KEY, 1, 0, round_, size, 3)
        bench.check()


@cocotb.test()
async def clear_in_work(dut):
    """``clear`` at any moment keeps the bus legal, and the next command is whole."""
    bench = Bench(dut)
    await bench.start()
    for round_ in range(25):
        bench.pause(0.5 * (round_ % 2))
        kind = random.choice(list(Kind))
        command, state, _ = bench.prepare(kind, 0, 0, random.randrange(40), 64, 3)
        bench.done = bench.completed = 0
        await bench.issue(command, **state)
        for _ in range(random.randrange(350)):
            await RisingEdge(dut.clk)
        dut.clear.value = 1
        await RisingEdge(dut.clk)
        dut.clear.value = 0
        # The packer hears of it from a register, and asks for words from one.
        for _ in range(3):
            await RisingEdge(dut.clk)
        done, reads = bench.done, bench.reads
        await bench.wait(lambda: dut.idle.value == 1)
        assert (done, reads) == (bench.done, bench.reads), "work goes on after clear"
        bench.cache = Cache(bytes(bench.memory.read(0, MEMORY)))
        await bench.perform(random.choice(list(Kind)), 1, 1, random.randrange(40), 64, 3)
        bench.check()


@cocotb.test()
async def speed(dut):
    """Report the cycles of usual commands with a memory that never waits."""
    bench = Bench(dut)
    await bench.start()
    for kind in Kind:
        for size in (64, 128):
            _, beats = await bench.perform(kind, 1, 1, 37, size, CONFIG.key_planes)
            dut._log.info(
                f"{kind.name} of {size} elements, {CONFIG.key_planes} planes: {beats} beats, done "
                f"after {bench.done_at - bench.issued_at} cycles, completed after "
                f"{bench.completed_at - bench.issued_at}"
            )
    bench.check()
