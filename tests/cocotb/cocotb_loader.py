"""Tests of the loader; parameters come in TAMALE_TEST."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from tamale.config import Config
from tamale.gateware.interfaces import IssueLayout
from tamale.isa import Format, Op, encode

CONFIG = Config(**json.loads(os.environ["TAMALE_TEST"]))
WIDTH, BEAT = CONFIG.vu_width, CONFIG.beat_bytes
TYPES = {Format.INT8: "<i1", Format.INT16: "<i2", Format.INT32: "<i4"}


class Bench:
    def __init__(self, dut):
        self.dut, self.scratch, self.scalars, self.beats, self.done = dut, {}, [], [], 0
        self.stall, self.cycle, self.done_cycle = 0.0, 0, 0
        for name in ("clear", "unit__issue__valid", "i__valid", "unit__issue__payload"):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())

    async def start(self):
        for _ in range(3):
            await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await RisingEdge(self.dut.clk)
        cocotb.start_soon(self.feed())
        cocotb.start_soon(self.watch())

    async def feed(self):
        dut = self.dut
        while True:
            valid = bool(self.beats) and random.random() >= self.stall
            dut.i__valid.value = int(valid)
            dut.i__payload.value = self.beats[0] if valid else random.getrandbits(BEAT * 8)
            await RisingEdge(dut.clk)
            while valid and not dut.i__ready.value:
                await RisingEdge(dut.clk)
            if valid:
                self.beats.pop(0)

    async def watch(self):
        dut = self.dut
        while True:
            await RisingEdge(dut.clk)
            self.cycle += 1
            enables, address = int(dut.write__en.value), int(dut.write__addr.value)
            word = int(dut.write__data.value)
            assert enables or not (address or word), "the write port is not silent"
            for lane in range(WIDTH):
                if enables >> lane & 1:
                    place = address * WIDTH + lane
                    assert place not in self.scratch, f"element {place} written twice"
                    self.scratch[place] = word >> 32 * lane & 0xFFFFFFFF
            name, slot, value = (
                int(getattr(dut, f"scalar_write__{part}").value)
                for part in ("name", "slot", "value")
            )
            if dut.scalar_write__en.value:
                self.scalars.append((name, slot, value))
            else:
                assert not (name or slot or value), "the scalar port is not silent"
            if dut.unit__done_valid.value:
                assert int(dut.unit__done.value) == 0
                self.done, self.done_cycle = self.done + 1, self.cycle

    async def perform(self, command, data, slot=0, slot_base=0):
        dut = self.dut
        self.scratch, self.scalars, self.done = {}, [], 0
        self.beats += [
            int.from_bytes(data[n : n + BEAT], "little") for n in range(0, len(data), BEAT)
        ]
        dut.unit__issue__valid.value = 1
        dut.unit__issue__payload.value = IssueLayout.const(
            {"command": command, "slot": slot, "slot_base": slot_base}
        ).as_bits()
        await RisingEdge(dut.clk)
        while not dut.unit__issue__ready.value:
            await RisingEdge(dut.clk)
        start = self.cycle
        dut.unit__issue__valid.value = 0
        for _ in range(20000):
            await RisingEdge(dut.clk)
            if self.done:
                break
        assert self.done == 1
        done_at = self.done_cycle
        # Everything is written by the time of done, and nothing afterwards.
        written = dict(self.scratch), list(self.scalars)
        for _ in range(4):
            await RisingEdge(dut.clk)
        assert written == (self.scratch, self.scalars) and self.done == 1 and not self.beats
        return done_at - start


@cocotb.test()
async def load(dut):
    bench = Bench(dut)
    await bench.start()
    for round_ in range(60):
        bench.stall = random.choice([0, 0.5])
        form = random.choice(list(Format))
        kind = np.dtype(TYPES[form])
        beats = [0, 1, 2][round_] if round_ < 3 else random.randrange(1, 60)
        data = random.randbytes(beats * BEAT)
        count = len(data) // kind.itemsize
        chunk = min(BEAT // kind.itemsize, WIDTH)
        base = random.randrange(12000 // WIDTH) * WIDTH
        dst = random.randrange(12000 // chunk) * chunk
        by_slot = random.randrange(2)
        command = encode(Op.LOAD, dst=dst, dst_slot=by_slot, beats=beats, format=form, source=3)
        cycles = await bench.perform(command, data, slot=3, slot_base=base)
        expected = np.frombuffer(data, kind).astype(np.int64) & 0xFFFFFFFF
        first = dst + base * by_slot
        assert bench.scratch == {first + n: int(v) for n, v in enumerate(expected)}, (
            f"seed {cocotb.RANDOM_SEED}"
        )
        assert not bench.scalars
        if not bench.stall and beats:
            assert cycles == count // chunk + beats + 2


@cocotb.test()
async def sload(dut):
    bench = Bench(dut)
    await bench.start()
    for round_ in range(30):
        bench.stall = random.choice([0, 0.5])
        count = round_ if round_ < 20 else random.randrange(64)
        rd, slot = random.randrange(64), random.randrange(16)
        words = [
            (random.getrandbits(16), random.choice([-1024, 1023, random.randrange(-1024, 1024)]))
            for _ in range(count)
        ]
        data = b"".join((m | (e & 0xFFFF) << 16).to_bytes(4, "little") for m, e in words)
        data += random.randbytes(-len(data) % BEAT)
        cycles = await bench.perform(encode(Op.SLOAD, rd=rd, count=count, source=3), data, slot)
        assert bench.scalars == [
            ((rd + n) % 64, slot, mantissa | (exponent & 0x7FF) << 16)
            for n, (mantissa, exponent) in enumerate(words)
        ], f"seed {cocotb.RANDOM_SEED}"
        assert not bench.scratch
        if not bench.stall and count:
            assert cycles == count + len(data) // BEAT + 2


@cocotb.test()
async def clear(dut):
    """A cleared command writes nothing more, is not done, and the next one is performed."""
    bench = Bench(dut)
    await bench.start()
    command = encode(Op.LOAD, dst=0, beats=20, format=Format.INT32, source=3)
    dut.unit__issue__payload.value = IssueLayout.const({"command": command}).as_bits()
    dut.unit__issue__valid.value = 1
    await RisingEdge(dut.clk)
    dut.unit__issue__valid.value = 0
    for _ in range(5):
        await RisingEdge(dut.clk)
    dut.clear.value = 1
    await RisingEdge(dut.clk)
    dut.clear.value = 0
    await bench.perform(command, random.randbytes(20 * BEAT))
    assert len(bench.scratch) == 20 * BEAT // 4
