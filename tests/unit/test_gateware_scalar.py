"""Scalar unit against `tamale_model.integer`."""

import random

import pytest
from amaranth.sim import Simulator
from tamale.config import Config
from tamale.gateware.scalar import ScalarUnit
from tamale.isa import Op, ScalarOp, encode
from tamale_model import integer
from tamale_model.integer import ZERO, Scalar

LATENCY = {
    ScalarOp.MUL: 8,
    ScalarOp.DIV: 23,
    ScalarOp.SQRT: 22,
    ScalarOp.ADD: 8,
    ScalarOp.SHIFT: 8,
    ScalarOp.SCALE: 8,
}


def golden(operation, a, b, imm):
    result = {
        ScalarOp.MUL: lambda: integer.mul(a, b),
        ScalarOp.DIV: lambda: integer.div(a, b),
        ScalarOp.SQRT: lambda: integer.sqrt(a),
        ScalarOp.ADD: lambda: integer.add(a, b),
        ScalarOp.SHIFT: lambda: integer.shift(a, b, imm),
        ScalarOp.SCALE: lambda: integer.scale(a, imm),
    }[operation]()
    if not -1024 <= result.exponent <= 1023:
        raise OverflowError
    return result


class Bench:
    """Drives one unit; `execute` and `normalise` return the cycles until it is idle again."""

    def __init__(self, ctx, dut):
        self.ctx, self.dut = ctx, dut

    async def write(self, name, slot, value):
        write = self.dut.write
        self.ctx.set(write.name, name)
        self.ctx.set(write.slot, slot)
        self.ctx.set(write.value, {"mantissa": value.mantissa, "exponent": value.exponent})
        self.ctx.set(write.en, 1)
        await self.ctx.tick()
        self.ctx.set(write.en, 0)

    async def read(self, p_name, q_name, slot):
        read = self.dut.read
        self.ctx.set(read.p_name, p_name)
        self.ctx.set(read.q_name, q_name)
        self.ctx.set(read.slot, slot)
        await self.ctx.tick()
        return tuple(
            Scalar(self.ctx.get(port.mantissa), self.ctx.get(port.exponent))
            for port in (read.p, read.q)
        )

    async def settle(self, done):
        cycles, seen = 1, False
        while not self.ctx.get(self.dut.normalise.ready):
            seen = bool(self.ctx.get(self.dut.unit.done_valid))
            await self.ctx.tick()
            cycles += 1
            assert cycles < 100
        assert seen == done, "done_valid belongs in the last cycle of a command, and nowhere else"
        assert self.ctx.get(self.dut.unit.issue.ready)
        return cycles

    async def execute(self, slot, **fields):
        issue = self.dut.unit.issue
        self.ctx.set(issue.payload.command, encode(Op.SCALAR, **fields))
        self.ctx.set(issue.payload.slot, slot)
        self.ctx.set(issue.valid, 1)
        await self.ctx.tick().until(issue.ready)
        self.ctx.set(issue.valid, 0)
        return await self.settle(True)

    async def normalise(self, value, name, slot):
        stream = self.dut.normalise
        self.ctx.set(stream.payload, {"value": value, "name": name, "slot": slot})
        self.ctx.set(stream.valid, 1)
        await self.ctx.tick().until(stream.ready)
        self.ctx.set(stream.valid, 0)
        return await self.settle(False)


def simulate(config, body):
    dut = ScalarUnit(config)

    async def bench(ctx):
        await body(Bench(ctx, dut))

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def some_scalar(rng, span=400):
    kind = rng.randrange(8)
    if kind == 0:
        return ZERO
    mantissa = rng.choice((2**15, 2**15 + 1, 2**16 - 1, rng.randrange(2**15, 2**16)))
    if kind == 1:
        return Scalar(mantissa, rng.choice((-1024, -1023, -1, 0, 1, 1022, 1023)))
    if kind <= 4:
        return Scalar(mantissa, rng.randint(-20, 20))
    return Scalar(mantissa, rng.randint(-span, span))


@pytest.mark.gates("scalar")
@pytest.mark.parametrize("operation", list(ScalarOp), ids=lambda op: op.name)
def test_operation(operation):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    cases = []
    corners = [ZERO] + [Scalar(f, e) for f in (2**15, 40000, 2**16 - 1) for e in (-33, -7, 0, 8)]
    pairs = [(a, b) for a in corners for b in corners]
    pairs += [(some_scalar(rng), some_scalar(rng)) for _ in range(200)]
    for a, b in pairs:
        imm = rng.choice((0, 1, -1, -1024, 1023, rng.randint(-40, 40)))
        try:
            cases.append((a, b, imm, golden(operation, a, b, imm)))
        except OverflowError:
            pass  # the exponent leaves its range; not defined for the hardware
    assert len(cases) > 100

    async def body(bench):
        for a, b, imm, expected in cases:
            await bench.write(3, 0, a)
            await bench.write(4, 0, b)
            cycles = await bench.execute(0, rd=5, a=3, b=4, operation=operation, imm=imm)
            assert cycles == LATENCY[operation]
            result, _ = await bench.read(5, 3, 0)
            assert result == expected, f"{operation.name} {a} {b} {imm}, seed {seed}"

    simulate(Config(), body)


@pytest.mark.gates("scalar")
def test_normalise():
    values = {0, 2**48 - 1, 2**47}
    for bit in range(48):
        values |= {1 << bit, (1 << bit) - 1, (1 << bit) + 1, 0xABCDEF012345 >> bit}

    async def body(bench):
        for value in sorted(values):
            assert await bench.normalise(value, 40, 1) == 5
            result, _ = await bench.read(40, 0, 1)
            assert result == integer.normalise(value), f"{value:#x}"

    simulate(Config(), body)


@pytest.mark.gates("scalar")
@pytest.mark.parametrize("vectors", [1, 3, 16])
def test_names_and_slots(vectors):
    """Shared names are one register for all slots, private names one for each."""

    async def body(bench):
        expected = {}
        for slot in range(vectors):
            for name in range(64):
                value = Scalar(2**15 + 64 * slot + name, name - slot)
                expected[name, slot if name >= 32 else 0] = value
                await bench.write(name, slot, value)
        for slot in range(vectors):
            for name in range(64):
                p, q = await bench.read(name, 63 - name, slot)
                assert p == expected[name, slot if name >= 32 else 0]
                assert q == expected[63 - name, slot if name < 32 else 0]
            await bench.execute(slot, rd=63, a=31, b=32, operation=ScalarOp.MUL)
            p, q = await bench.read(63, 32, slot)
            assert p == integer.mul(expected[31, 0], expected[32, slot])

    simulate(Config(vectors=vectors), body)
