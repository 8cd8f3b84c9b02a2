"""The whole accelerator, driven through its registers, against the golden machine."""

import dataclasses
import json
import logging
import os
import random
import zlib

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiBus, AxiRam
from tamale import isa
from tamale.config import Config
from tamale.gateware import registers
from tamale.gateware.counters import Counter
from tamale.gateware.interfaces import Fault
from tamale_model import imagefile, sampling
from tamale_model.machine import Job, Slot

PARAMETERS = json.loads(os.environ.get("TAMALE_TEST", "{}"))
CONFIG = Config(**PARAMETERS.get("config", {}))
BLOCK = registers.block(CONFIG)


#: Polls of the registers (5 cycles or so) after which a job is taken to hang.
LIMIT = 40000


def signed(value, bits=32):
    """Two's complement."""
    return value - (1 << bits) if value >> bits - 1 else value


def pauses(probability):
    while True:
        yield random.random() < probability


class Bench:
    """Memory, bus and the stream of logits around the accelerator."""

    def __init__(self, dut, size):
        self.dut = dut
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=size)
        self.ram.write_if.log.setLevel(logging.WARNING)
        self.ram.read_if.log.setLevel(logging.WARNING)
        self.logits = []

    async def start(self, pause=0.3):
        dut = self.dut
        for name in ("cyc", "stb", "we", "adr", "dat_w", "sel", "cti", "bte"):
            getattr(dut, f"s_wb_{name}").value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        for _ in range(4):
            await RisingEdge(dut.clk)
        dut.rst.value = 0
        await RisingEdge(dut.clk)
        if pause:
            read, write = self.ram.read_if, self.ram.write_if
            for channel in (
                read.ar_channel, read.r_channel, write.aw_channel, write.w_channel, write.b_channel
            ):  # fmt: skip
                channel.set_pause_generator(pauses(pause))
        cocotb.start_soon(self._watch())

    async def _watch(self):
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            if dut.logit_valid.value:
                self.logits.append(
                    (
                        int(dut.logit_vector.value),
                        int(dut.logit_row.value),
                        signed(int(dut.logit_value.value)),
                    )
                )

    async def _access(self, name, index=0, value=None):
        dut, register = self.dut, BLOCK[name]
        dut.s_wb_adr.value = register.offset // 4 + index
        dut.s_wb_we.value = int(value is not None)
        dut.s_wb_dat_w.value = value or 0
        dut.s_wb_sel.value = 15
        dut.s_wb_cyc.value = 1
        dut.s_wb_stb.value = 1
        while True:
            await RisingEdge(dut.clk)
            if dut.s_wb_ack.value or dut.s_wb_err.value:
                break
        assert dut.s_wb_ack.value, f"{name} refused the access"
        data = int(dut.s_wb_dat_r.value)
        dut.s_wb_cyc.value = 0
        dut.s_wb_stb.value = 0
        return data

    async def write(self, name, value, index=0):
        await self._access(name, index, value & 0xFFFFFFFF)

    async def read(self, name, index=0):
        """Read a register; all words of a wide one."""
        words = BLOCK[name].words
        return sum([await self._access(name, index * words + w) << 32 * w for w in range(words)])

    async def field(self, name, field):
        place = next(f for f in BLOCK[name].fields if f.name == field)
        return await self.read(name) >> place.offset & (1 << place.width) - 1

    async def configure(self, machine, program):
        for name, value in dataclasses.asdict(machine.addresses).items():
            await self.write(name, value)
        await self.write("slot_stride", machine.slot_stride)
        await self.write("vocabulary", machine.rows)
        await self.write("program_index", 0)
        for command in program:
            for word in range(4):
                await self.write("program_word", command >> 32 * word)

    async def submit(self, job):
        for i, slot in enumerate(job.slots):
            await self.write("job_token", slot.token, i)
            await self.write("job_position", slot.position, i)
            await self.write("job_kv_base", slot.kv_base, i)
        while await self.field("status", "queue_full"):
            pass
        await self.write("submit", len(job.slots) | job.want_head << 8)
        while await self.field("status", "submit_busy"):
            pass

    async def wait(self, done):
        for _ in range(LIMIT):
            if await self.read("jobs_done") == done:
                return
            code = await self.read("fault")
            assert not code, f"{Fault(code)} {await self.read('fault_info'):#x}"
        counters = ", ".join(f"{c.name} {v}" for c, v in (await self.counters(live=1)).items())
        raise TimeoutError(f"job {done} does not end: {counters}")

    async def scratch(self, first, count):
        await self.write("scratch_index", first)
        return [signed(await self.read("scratch_value")) for _ in range(count)]

    async def scalar(self, name, slot):
        await self.write("scalar_select", name | slot << 8)
        word = await self.read("scalar")
        return word & 0xFFFF, signed(word >> 16, 16)

    async def candidates(self, slot):
        await self.write("candidate_select", slot)
        entries = []
        for index in range(await self.read("candidate_count")):
            await self.write("candidate_select", slot | index << 8)
            entries.append(
                (signed(await self.read("candidate_value")), await self.read("candidate_row"))
            )
        return sorted(entries, key=lambda entry: (-entry[0], entry[1]))

    async def counters(self, live=0):
        values = {}
        for counter in Counter:
            await self.write("counter_select", counter.value | live << 8)
            values[counter] = await self.read("counter")
        return values

    async def compare(self, machine, job, logits, *, everything=True):
        """Compare all state that can be read with the golden machine's."""
        self.dut._log.info("comparing")
        base, limit = machine.addresses.kv_base, machine.addresses.kv_limit
        cache = np.frombuffer(self.ram.read(base, limit - base), dtype=np.uint8)
        differ = np.nonzero(cache != machine.memory[base:limit])[0]
        assert not len(differ), f"{len(differ)} bytes of the cache differ, first at {differ[0]:#x}"
        names = range(64) if everything else ()
        for slot in range(len(job.slots)):
            for name in names:
                want = machine.scalar(name, slot)
                assert await self.scalar(name, slot) == tuple(want), f"scalar {name} of slot {slot}"
        if everything:
            found = np.array(await self.scratch(0, CONFIG.scratchpad_elements))
            differ = np.nonzero(found != machine.scratch)[0]
            assert not len(differ), (
                f"{len(differ)} scratchpad elements differ, first {differ[0]}: "
                f"{found[differ[0]]}, not {machine.scratch[differ[0]]}"
            )
            assert signed(await self.read("peak")) == machine.peak
        if job.want_head:
            got = {(v, r): value for v, r, value in self.logits if r < machine.rows}
            want = {(v, r): int(x) for v, row in enumerate(logits) for r, x in enumerate(row)}
            assert got == want, "logits differ"
            for slot, row in enumerate(logits):
                best = sampling.candidates(row, CONFIG.candidates)
                assert await self.candidates(slot) == best
        else:
            assert not self.logits
        self.logits.clear()


def load():
    image = imagefile.load(PARAMETERS["image"])
    sequences = PARAMETERS.get("sequences", 1)
    machine = image.machine(CONFIG, sequences)
    return image, machine


def jobs_of(image):
    """A prompt in chunks, then one token after the other, for every sequence side by side."""
    rng = random.Random(PARAMETERS["seed"])
    f, sequences = image.fields, PARAMETERS.get("sequences", 1)

    def slot(sequence, position):
        base = image.kv_base + sequence * f["kv_sequence_bytes"]
        return Slot(rng.randrange(f["vocabulary"]), position, base)

    position = 0
    for chunk, head in PARAMETERS["chunks"]:
        if sequences == 1:
            yield Job([slot(0, position + i) for i in range(chunk)], head)
            position += chunk
        else:
            yield Job([slot(s, position) for s in range(sequences)], head)
            position += 1


@cocotb.test()
async def model(dut):
    """All jobs one by one, everything compared after each."""
    image, machine = load()
    bench = Bench(dut, 1 << (len(machine.memory) - 1).bit_length())
    bench.ram.write(0, machine.memory.tobytes())
    await bench.start()
    assert await bench.read("id") == registers.ID
    for name, value in (
        ("vectors", CONFIG.vectors), ("tile_k", CONFIG.tile_k), ("candidates", CONFIG.candidates),
        ("scratchpad", CONFIG.scratchpad_elements), ("program", CONFIG.program_commands),
    ):  # fmt: skip
        assert await bench.read(name) == value
    await bench.configure(machine, image.program)
    await bench.write("interrupt_enable", 1)
    assert PARAMETERS["chunks"]
    for number, job in enumerate(jobs_of(image)):
        logits = machine.run(job)
        await bench.submit(job)
        await bench.wait(number + 1)
        assert dut.irq.value
        await bench.write("interrupt_pending", 1)
        await bench.compare(machine, job, logits)
        counters = await bench.counters()
        dut._log.info(", ".join(f"{c.name.lower()} {v}" for c, v in counters.items()))
        assert counters[Counter.JOBS] == number + 1
        assert counters[Counter.CYCLES] == (
            counters[Counter.LAYERS_CYCLES] + counters[Counter.HEAD_CYCLES]
        )
        assert counters[Counter.CYCLES] == sum(
            counters[c]
            for c in (
                Counter.LOADER_CYCLES, Counter.ARRAY_CYCLES, Counter.VECTOR_CYCLES,
                Counter.SCALAR_CYCLES, Counter.KV_WRITER_CYCLES, Counter.SEQUENCER_CYCLES,
            )
        )  # fmt: skip
        assert bool(counters[Counter.HEAD_BEATS]) == any(
            h for _, h in PARAMETERS["chunks"][: number + 1]
        )


@cocotb.test()
async def pipelined(dut):
    """Jobs queued behind each other: the walker runs ahead into the next one."""
    image, machine = load()
    bench = Bench(dut, 1 << (len(machine.memory) - 1).bit_length())
    bench.ram.write(0, machine.memory.tobytes())
    await bench.start(pause=0)
    await bench.configure(machine, image.program)
    jobs = list(jobs_of(image))
    for job in jobs:
        await bench.submit(job)
    await bench.wait(len(jobs))
    for job in jobs:
        logits = machine.run(job)
    rows = max(r for _, r, _ in bench.logits) + 1
    count = rows * len(jobs[-1].slots)
    bench.logits = bench.logits[-count:] if jobs[-1].want_head else []
    await bench.compare(machine, jobs[-1], logits)


@cocotb.test()
async def checksum(dut):
    """CRC-32 of regions, and a fault where a region may not be read."""
    image, machine = load()
    bench = Bench(dut, 1 << (len(machine.memory) - 1).bit_length())
    bench.ram.write(0, machine.memory.tobytes())
    await bench.start()
    await bench.configure(machine, [])
    beat = CONFIG.beat_bytes
    for address, beats in ((0, 1), (beat, 3), (1024, (len(image.data) - 1024) // beat)):
        await bench.write("checksum_address", address)
        await bench.write("checksum_beats", beats)
        await bench.write("control", 4)
        while await bench.field("status", "checksum_busy"):
            pass
        want = zlib.crc32(machine.memory[address : address + beats * beat].tobytes())
        assert await bench.read("checksum") == want
    assert await bench.read("interrupt_pending") == 4
    address = machine.addresses.kv_limit
    await bench.write("checksum_address", address)
    await bench.write("control", 4)
    while await bench.field("status", "checksum_busy"):
        pass
    assert await bench.read("fault") == Fault.READ_BOUNDS.value
    assert await bench.read("fault_info") == address


@cocotb.test()
async def faults(dut):
    """Every fault stops without hanging; a reset makes everything work again."""
    image, machine = load()
    bench = Bench(dut, 1 << (len(machine.memory) - 1).bit_length())
    bench.ram.write(0, machine.memory.tobytes())
    await bench.start()
    await bench.write("interrupt_enable", 2)
    a = machine.addresses
    jobs = list(jobs_of(image))[:1]
    one = jobs[0]
    # All of memory may be read, none of it written.
    no_cache = {"read_limit": len(machine.memory), "kv_limit": a.kv_base}
    bad = dataclasses.replace(one.slots[0], position=CONFIG.max_context)
    end = isa.encode(isa.Op.END)
    scalar = isa.encode(isa.Op.SCALAR)
    for code, info, program, changes, job in (
        (Fault.BAD_COMMAND, 1, [scalar, 15], {}, one),
        (Fault.BAD_JOB, 0, [end], {}, Job([bad], False)),
        (Fault.BAD_PROGRAM, CONFIG.program_commands, None, {}, one),
        (Fault.READ_BOUNDS, a.sweep_base, image.program, {"read_limit": a.sweep_base}, one),
        (Fault.WRITE_BOUNDS, None, image.program, no_cache, one),
    ):
        changed = dataclasses.replace(a, **changes)
        machine.addresses = changed
        await bench.configure(
            machine, [scalar] * CONFIG.program_commands if program is None else program
        )
        await bench.submit(job)
        for _ in range(5000):
            if await bench.read("fault"):
                break
        found = Fault(await bench.read("fault"))
        assert found == code, (found, code)
        if info is not None:
            assert await bench.read("fault_info") == info, code
        assert dut.irq.value
        await bench.write("interrupt_pending", 2)
        assert not dut.irq.value
        await bench.write("control", 1)
        while await bench.field("status", "resetting"):
            pass
        assert not await bench.read("fault")
        assert not await bench.field("status", "busy")
        machine.addresses = a

    # In the middle of everything, a reset: nothing may be left over.
    await bench.configure(machine, image.program)
    done = await bench.read("jobs_done")
    bench.ram.write(0, machine.memory.tobytes())
    for cycles in (50, 333, 1000, 2222):
        await bench.submit(one)
        for _ in range(cycles):
            await RisingEdge(dut.clk)
        if await bench.field("status", "busy"):
            await bench.write("control", 1)
        while await bench.field("status", "resetting"):
            pass
    done = await bench.read("jobs_done")
    bench.ram.write(0, machine.memory.tobytes())
    bench.logits.clear()
    logits = machine.run(one)
    await bench.submit(one)
    await bench.wait(done + 1)
    await bench.compare(machine, one, logits, everything=False)


@cocotb.test(skip="TAMALE_TRACE" not in os.environ)
async def trace(dut):
    """Find the command after which RTL and golden machine differ: ends the program ever later."""
    image, machine = load()
    bench = Bench(dut, 1 << (len(machine.memory) - 1).bit_length())
    bench.ram.write(0, machine.memory.tobytes())
    await bench.start(pause=0)
    program = image.program
    await bench.configure(machine, program)
    job, done = next(iter(jobs_of(image))), 0
    for pc in range(int(os.environ["TAMALE_TRACE"]), len(program)):
        machine.program = [isa.decode(word) for word in program]
        machine.program[pc] = (isa.Op.END, {})
        await bench.write("program_index", 4 * pc)
        await bench.write("program_word", 0)
        bench.logits.clear()
        logits = machine.run(job)
        await bench.submit(job)
        done += 1
        await bench.wait(done)
        before = [f"{isa.decode(word)[0].name} {isa.decode(word)[1]}" for word in program[:pc]]
        dut._log.info(f"{pc}: {before[-1] if before else ''}")
        if logits is None:
            job.want_head = False
            bench.logits.clear()
        await bench.compare(machine, job, logits)
        job.want_head = True
        await bench.write("program_index", 4 * pc)
        await bench.write("program_word", program[pc])
