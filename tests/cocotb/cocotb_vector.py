"""Commands on the vector unit and on the golden machine; the whole state is compared."""

import json
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from tamale import tables
from tamale.config import Config
from tamale.gateware.interfaces import SCRATCH_LATENCY, IssueLayout
from tamale.gateware.vector.layout import Timing
from tamale.isa import Bound, Destination, Function, Op, Reduce, ScalarOp, encode
from tamale_model import integer
from tamale_model.integer import INT32_MAX, INT32_MIN, Scalar
from tamale_model.machine import Addresses, Job, Machine, Slot

CONFIG = Config(**json.loads(os.environ.get("CONFIG", "{}")))
WIDTH = CONFIG.vu_width
REGION = 128  # elements; operands of random commands are one region each or the same one
STRIDE = 3 * REGION  # elements of a slot


class Bench:
    """Performs commands on both sides."""

    def __init__(self, dut):
        self.dut = dut
        self.rng = random.Random(cocotb.RANDOM_SEED)
        self.numpy = np.random.default_rng(cocotb.RANDOM_SEED)
        self.machine = Machine(CONFIG, np.zeros(0, np.uint8), [], Addresses(), STRIDE, 0)
        self.activation = np.zeros_like(self.machine.activation)
        self.cycles = self.clips = 0

    async def start(self):
        dut = self.dut
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        for name in (
            "rst", "vector__issue__valid", "vector__issue__payload", "scalar__issue__valid",
            "scalar__issue__payload", "scalar_write__en", "scalar_write__name",
            "scalar_write__slot", "scalar_write__value", "scalar_read__p_name",
            "scalar_read__q_name", "scalar_read__slot", "normalise__valid", "normalise__payload",
            "peek__en", "peek__addr", "poke__en", "poke__addr", "poke__data",
        ):  # fmt: skip
            getattr(dut, name).value = 0
        await self._wake()
        dut.rst.value = 1
        await self.tick()
        await self.tick()
        dut.rst.value = 0
        # Neither memory is cleared by a reset.
        await self.fill(np.zeros(CONFIG.scratchpad_elements, dtype=np.int64))
        for slot in range(CONFIG.vectors):
            for name in range(32 if slot else 0, 64):
                await self.set_scalar(name, slot, integer.ZERO)

    async def _wake(self):
        """Let both units perform something blindly.

        Icarus runs `always @*` for the first time when something in it changes; what depends on the
        state of an idle unit alone is undefined until then.
        """
        for unit, word in (
            ("vector", encode(Op.VEC, n=1, destination=Destination.ACTIVATION)),
            ("scalar", encode(Op.SCALAR, operation=ScalarOp.SCALE)),
        ):
            getattr(self.dut, f"{unit}__issue__payload").value = word
            getattr(self.dut, f"{unit}__issue__valid").value = 1
            await self.tick()
            if unit == "vector":  # ready in the third cycle
                await self.tick()
                await self.tick()
            getattr(self.dut, f"{unit}__issue__valid").value = 0
            for _ in range(40):
                await self.tick()

    async def tick(self):
        await FallingEdge(self.dut.clk)
        self.cycles += 1

    async def fill(self, values, start=0):
        """Write elements from ``start`` on, of both sides."""
        assert start % WIDTH == 0
        self.machine.scratch[start : start + len(values)] = values
        raw = np.asarray(values, dtype=np.int64).astype("<i4").tobytes()
        dut = self.dut
        for i in range(-(-len(values) // WIDTH)):
            word = raw[4 * WIDTH * i : 4 * WIDTH * (i + 1)]
            dut.poke__en.value = (1 << len(word) // 4) - 1
            dut.poke__addr.value = start // WIDTH + i
            dut.poke__data.value = int.from_bytes(word, "little")
            await self.tick()
        dut.poke__en.value = dut.poke__addr.value = dut.poke__data.value = 0

    async def read(self, start=0, count=CONFIG.scratchpad_elements):
        """Return elements of the hardware's scratchpad."""
        dut, raw = self.dut, []
        dut.peek__en.value = 1
        words = -(-count // WIDTH)
        for i in range(words + SCRATCH_LATENCY - 1):
            dut.peek__addr.value = start // WIDTH + min(i, words - 1)
            await self.tick()
            if i >= SCRATCH_LATENCY - 1:
                raw.append(int(dut.peek__data.value).to_bytes(4 * WIDTH, "little"))
        dut.peek__en.value = dut.peek__addr.value = 0
        return np.frombuffer(b"".join(raw), dtype="<i4").astype(np.int64)[:count]

    async def set_scalar(self, name, slot, value):
        dut = self.dut
        self.machine._slot = slot
        self.machine.set_scalar(name, value)
        dut.scalar_write__name.value = name
        dut.scalar_write__slot.value = slot
        dut.scalar_write__value.value = value.mantissa | (value.exponent & 0x7FF) << 16
        dut.scalar_write__en.value = 1
        await self.tick()
        dut.scalar_write__en.value = 0

    async def scalars(self, p, q, slot):
        """Return two registers of the hardware."""
        dut, values = self.dut, []
        dut.scalar_read__p_name.value = p
        dut.scalar_read__q_name.value = q
        dut.scalar_read__slot.value = slot
        await self.tick()
        for port in (dut.scalar_read__p, dut.scalar_read__q):
            raw = int(port.value)
            exponent = raw >> 16
            values.append(Scalar(raw & 0xFFFF, exponent - 2048 if exponent >> 10 else exponent))
        return values

    def _watch(self):
        """Take note of what the vector unit does to activation memory in this cycle."""
        dut = self.dut
        self.clips += int(dut.saturated.value)
        enable = int(dut.activation__en.value)
        if not enable:
            return
        count = enable.bit_length()
        assert enable == (1 << count) - 1, f"enable {enable:#b} is not contiguous"
        codes = int(dut.activation__data.value).to_bytes(WIDTH, "little")[:count]
        offset = int(dut.activation__offset.value)
        assert offset < CONFIG.tile_k
        first = int(dut.activation__step.value) * CONFIG.tile_k + offset
        row = self.activation[int(dut.activation__vector.value)]
        row[first : first + count] = np.frombuffer(codes, dtype=np.int8)

    async def command(self, op, slot=0, position=0, **fields):
        """Perform a command; return the cycles from the issue's arrival to its end.

        Returns None, and does nothing, where the golden machine refuses the command.
        """
        word = encode(op, **fields)
        machine = self.machine
        kept = machine.scratch.copy(), machine.activation.copy(), machine.peak
        job = Job([Slot(0, position, 0)] * CONFIG.vectors)
        try:
            machine.execute(word, job, slot=slot)
        except (OverflowError, ValueError):
            machine.scratch[:], machine.activation[:], machine.peak = kept
            return None

        dut = self.dut
        unit = "scalar" if op is Op.SCALAR else "vector"
        p, q = await self.scalars(fields.get("m", 0), fields.get("x", 0), slot)
        issue = IssueLayout.const(
            {
                "command": word,
                "slot": slot,
                "slot_base": slot * STRIDE,
                "slot_stride": STRIDE,
                "position": position,
                "p": {"mantissa": p.mantissa, "exponent": p.exponent},
                "q": {"mantissa": q.mantissa, "exponent": q.exponent},
            }
        )
        valid, ready = getattr(dut, f"{unit}__issue__valid"), getattr(dut, f"{unit}__issue__ready")
        done = getattr(dut, f"{unit}__done_valid")
        getattr(dut, f"{unit}__issue__payload").value = issue.as_value().value
        valid.value = 1
        start, taken = self.cycles, False
        self.clips = 0
        while True:
            await self.tick()
            self._watch()
            if taken:
                valid.value = 0
            taken = taken or bool(int(ready.value))
            if int(done.value):
                break
            assert self.cycles - start < 20000, f"{op.name} {fields} does not end"
        cycles = self.cycles - start
        result = int(getattr(dut, f"{unit}__done").value)
        await self.tick()
        valid.value = 0
        assert not int(done.value)
        assert not int(dut.activation__en.value) and not int(dut.busy.value)
        if op in (Op.HADAMARD, Op.EXP) or fields.get("reduce") in (Reduce.ABSMAX, Reduce.SUM):
            dut.normalise__payload.value = result | fields["rd"] << 48 | slot << 54
            dut.normalise__valid.value = 1
            await self.tick()
            dut.normalise__valid.value = 0
            while not int(dut.normalise__ready.value):
                await self.tick()
        else:
            assert result == 0
        return cycles

    async def compare(self, what):
        """Compare both memories and all scalars."""
        found, expected = await self.read(), self.machine.scratch
        for name, left, right in (
            ("scratchpad", found, expected),
            ("activation", self.activation.ravel(), self.machine.activation.ravel()),
        ):
            wrong = np.flatnonzero(left != right)
            assert not len(wrong), (
                f"{what}: {name} differs in {len(wrong)} elements, first {wrong[0]}: "
                f"{left[wrong[0]]} instead of {right[wrong[0]]}; seed {cocotb.RANDOM_SEED}"
            )
        for slot in range(CONFIG.vectors):
            for name in range(32 if slot == 0 else 48, 64):
                shared, private = await self.scalars(name - 32, name, slot)
                assert shared == self.machine.scalar(name - 32), f"{what}: scalar {name - 32}"
                assert private == self.machine.scalar(name, slot), f"{what}: scalar {name}.{slot}"

    def values(self, count):
        """Return random elements of one of several kinds."""
        kind, rng = self.rng.randrange(6), self.numpy
        if kind == 0:
            return rng.choice([INT32_MIN, INT32_MIN + 1, -1, 0, 1, INT32_MAX - 1, INT32_MAX], count)
        if kind == 1:
            return np.full(count, self.rng.choice((INT32_MIN, INT32_MAX)))
        bits = self.rng.randint(1, 32)
        return rng.integers(-(1 << bits - 1), 1 << bits - 1, count)

    def some_scalar(self, span):
        if self.rng.randrange(10) == 0:
            return integer.ZERO
        mantissa = self.rng.choice((2**15, 2**16 - 1, self.rng.randrange(2**15, 2**16)))
        return Scalar(mantissa, self.rng.randint(-span, span))


async def begin(dut):
    bench = Bench(dut)
    await bench.start()
    return bench


def random_command(bench):
    """Return (op, slot, position, fields) of a command that stays in its regions."""
    rng = bench.rng
    slot = rng.randrange(CONFIG.vectors if 3 * CONFIG.vectors * REGION <= 768 else 2)
    regions = [(i * REGION, 1) for i in range(3)] + [(6 * REGION, 0), (7 * REGION, 0)]
    (a, a_slot), (b, b_slot), (dst, dst_slot) = rng.sample(regions, 3)
    if rng.randrange(3) == 0:
        dst, dst_slot = rng.choice(((a, a_slot), (b, b_slot)))
    n = rng.choice((1, WIDTH, REGION, rng.randint(1, REGION), rng.randint(1, 2 * WIDTH)))
    bound, position = Bound.IMMEDIATE, 0
    if rng.randrange(4) == 0:
        bound, position, n = Bound.POSITION, n - 1, rng.randrange(1 << 14)
    scalar = lambda: rng.choice((1, 2, 3, 40, 41))  # noqa: E731
    op = rng.choice((Op.VEC, Op.VEC, Op.VEC, Op.HADAMARD, Op.ROPE, Op.EXP, Op.SCALAR))
    if op is Op.VEC:
        destination = rng.choice([Destination.SCRATCH] * 3 + list(Destination))
        by_vector = rng.randrange(2)
        if destination != Destination.SCRATCH:
            steps = -(-REGION // CONFIG.tile_k)
            dst, dst_slot = rng.randrange(CONFIG.act_steps - steps), rng.randrange(2)
        vector = rng.randrange(CONFIG.vectors)
        vector_slot = int(vector + slot < CONFIG.vectors and rng.randrange(2))
        fields = dict(
            dst=dst, a=a, b=b, dst_slot=dst_slot, a_slot=a_slot, b_slot=b_slot, n=n, bound=bound,
            destination=destination, vector=vector, vector_slot=vector_slot, m=scalar(),
            x=scalar(), shift=rng.choice((0, 63, rng.randint(0, 40), rng.randint(-64, 63))),
            by_m=rng.randrange(2), by_x=rng.randrange(2), b_by_x=rng.randrange(2),
            b_shift=rng.choice((0, rng.randint(-32, 31))), by_vector=by_vector,
            relu=rng.randrange(2), add=0 if by_vector else rng.randrange(2),
            planes=rng.choice((0, 0, 0, 1, 2, 3, 4, 5)), reduce=rng.choice(list(Reduce)),
            rd=scalar(),
        )  # fmt: skip
    elif op is Op.HADAMARD:
        log2_block = rng.randint(0, 7)
        n = rng.randint(1, REGION >> log2_block) << log2_block
        fields = dict(a=a, a_slot=a_slot, n=n, log2_block=log2_block, rd=scalar())
    elif op is Op.ROPE:
        size = 2 * WIDTH * rng.randint(1, REGION // (2 * WIDTH))
        n = size * rng.randint(1, REGION // size)
        fields = dict(
            a=a, a_slot=a_slot, b=b, b_slot=b_slot, n=n, size=size,
            shift=rng.choice((0, rng.randint(-32, 31), 17)),
        )  # fmt: skip
    elif op is Op.EXP:
        fields = dict(
            dst=dst, a=a, dst_slot=dst_slot, a_slot=a_slot, n=n, bound=bound, m=scalar(),
            shift=rng.choice((0, 63, rng.randint(0, 40))), rd=scalar(),
            function=rng.choice(list(Function)),
        )  # fmt: skip
    else:
        fields = dict(
            rd=scalar(), a=scalar(), b=scalar(), operation=rng.choice(list(ScalarOp)),
            imm=rng.randint(-20, 20),
        )  # fmt: skip
    return op, slot, position, fields


@cocotb.test()
async def random_commands(dut):
    """Random commands of all kinds on random data."""
    bench = await begin(dut)
    wanted, performed = int(os.environ.get("COMMANDS", "150")), 0
    while performed < wanted:
        for name in (1, 2, 3, 40, 41):
            for slot in range(2 if CONFIG.vectors > 1 else 1):
                if bench.rng.randrange(4) == 0:
                    await bench.set_scalar(name, slot, bench.some_scalar(40))
        for region in range(8):
            if bench.rng.randrange(3) == 0:
                await bench.fill(bench.values(REGION), region * REGION)
        op, slot, position, fields = random_command(bench)
        if await bench.command(op, slot, position, **fields) is None:
            continue
        performed += 1
        await bench.compare(f"{op.name} slot {slot} position {position} {fields}")


@cocotb.test()
async def hadamard_blocks(dut):
    """Every block size, one block and many, on values that clip and on values that do not."""
    bench = await begin(dut)
    for log2_block in range(8):
        block = 1 << log2_block
        for n in {block, min(512, 3 * block), min(512, max(block, 512 // block * block))}:
            for values in (bench.values(n), np.full(n, INT32_MIN), bench.numpy.integers(-9, 9, n)):
                await bench.fill(values, 256)
                await bench.command(Op.HADAMARD, a=256, n=n, log2_block=log2_block, rd=1)
                await bench.compare(f"HADAMARD n={n} block={block}")


@cocotb.test()
async def vec_extremes(dut):
    """Extreme operands in all pairs, extreme shifts, every path through a lane."""
    bench = await begin(dut)
    corners = [INT32_MIN, INT32_MIN + 1, -(2**17) - 1, -(2**17), -122, -121, -2, -1]
    corners = np.array(corners + [0, 1, 2, 120, 122, 2**17 - 1, 2**17, INT32_MAX])
    a, b = np.repeat(corners, len(corners)), np.tile(corners, len(corners))
    n = len(a)
    await bench.fill(a)
    await bench.fill(b, 256)
    for name, mantissa in ((1, 0), (2, 2**15), (3, 2**16 - 1)):
        await bench.set_scalar(name, 0, Scalar(mantissa, 0))
    for shift in (-64, 0, 1, 15, 16, 17, 33, 47, 48, 49, 63):
        for fields in (
            dict(m=1), dict(m=2, relu=1), dict(m=3), dict(m=3, add=1), dict(m=2, add=1, relu=1),
            dict(m=2, add=1, planes=1), dict(m=2, planes=5), dict(by_vector=1),
            dict(by_vector=1, b_shift=1), dict(by_vector=1, b_shift=31), dict(by_vector=1, relu=1),
            dict(by_vector=1, b_shift=15, planes=4),
        ):  # fmt: skip
            await bench.command(Op.VEC, dst=512, a=0, b=256, n=n, shift=shift, **fields)
            found = await bench.read(512, n)
            expected = bench.machine.scratch[512 : 512 + n]
            wrong = np.flatnonzero(found != expected)
            assert not len(wrong), (
                f"shift={shift} {fields}: {a[wrong[0]]}, {b[wrong[0]]} becomes {found[wrong[0]]}, "
                f"not {expected[wrong[0]]}"
            )


@cocotb.test()
async def exponentials(dut):
    """EXP where its interpolation rounds, over all octaves; a negative peak; nothing beyond n."""
    bench = await begin(dut)
    await bench.set_scalar(1, 0, Scalar(2**15, 0))
    ties = [
        index << 10 | rest
        for index, delta in enumerate(tables.EXP2_DELTA)
        for rest in range(1024)
        if delta * rest % 1024 in (511, 512)
    ]
    picked = bench.rng.sample(ties, min(len(ties), 300))
    z = np.array([0, 1, 2**16 - 1, 2**16, 2**21 - 1, 2**21, 2**30] + picked, dtype=np.int64)
    z[200:] += bench.numpy.integers(0, 18, len(z[200:])) << 16
    for peak in (-5, INT32_MAX, INT32_MIN + 2**30):
        values = np.append(np.maximum(peak - z, INT32_MIN), INT32_MAX)
        await bench.fill(values)
        n = len(z)
        await bench.command(Op.VEC, a=0, n=n, m=1, shift=15, destination=Destination.NONE,
                            reduce=Reduce.MAX)  # fmt: skip
        assert bench.machine.peak == peak
        await bench.command(Op.EXP, dst=512, a=0, n=n, m=1, shift=15, rd=2)
        await bench.compare(f"EXP below {peak}")
        # A shifted peak: elements above it count as equal to it.
        await bench.command(Op.EXP, dst=512, a=0, n=n + 1, m=1, shift=16, rd=2)
        await bench.compare(f"EXP above {peak}")


@cocotb.test()
async def sigmoids(dut):
    """SIGMOID of both signs where its interpolation rounds; shifts and exponents both ways."""
    bench = await begin(dut)
    ties = [
        index << 12 | rest
        for index, delta in enumerate(tables.SIGMOID_DELTA)
        for rest in range(4096)
        if delta * rest % 4096 in (2047, 2048)
    ]
    z = bench.rng.sample(ties, 100) + [index << 12 for index in range(0, 256, 7)]
    z = np.array([0, 1, 2**20 - 1, 2**20, 2**21 - 1, 2**21, 2**30, INT32_MAX, *z])
    # An odd length in between puts every value and sign into every element of a word.
    values = np.concatenate([z, -z, [INT32_MIN], z, -z])[: 512 - WIDTH]
    n = len(values)
    # A peak must not matter.
    await bench.set_scalar(1, 0, Scalar(2**15, 0))
    await bench.fill(bench.numpy.integers(-9, 99, 8))
    await bench.command(Op.VEC, a=0, n=8, m=1, shift=15, destination=Destination.NONE,
                        reduce=Reduce.MAX)  # fmt: skip
    for first in range(WIDTH):
        await bench.fill(np.roll(values, first))
        await bench.command(
            Op.EXP, dst=512, a=0, n=n, m=1, shift=15, rd=2, function=Function.SIGMOID
        )
        await bench.compare(f"SIGMOID rolled by {first}")
    for scalar, shift in (
        (Scalar(2**16 - 1, 3), 0),  # up: everything but zero saturates
        (Scalar(2**16 - 1, -50), 10),  # down: everything becomes zero
        (Scalar(2**15, 20), 50),
        (Scalar(40000, -20), -4),
        (Scalar(2**15 + 1, -8), 8),
        (integer.ZERO, 0),
    ):
        await bench.set_scalar(1, 0, scalar)
        await bench.command(
            Op.EXP, dst=512, a=0, n=n, m=1, shift=shift, rd=2, function=Function.SIGMOID
        )
        await bench.compare(f"SIGMOID {scalar} shift {shift}")
        # EXP2 directly behind it, in place, and the other way round.
        await bench.command(Op.EXP, dst=0, a=0, n=n, m=1, shift=shift, rd=2)
        await bench.command(
            Op.EXP, dst=0, a=0, n=n, m=1, shift=shift, rd=3, function=Function.SIGMOID
        )
        await bench.compare(f"SIGMOID of EXP2 {scalar} shift {shift}")
        await bench.fill(np.roll(values, 1))


@cocotb.test()
async def vec_lengths(dut):
    """Every length around words and K steps, to activation memory and to the scratchpad."""
    bench = await begin(dut)
    await bench.set_scalar(1, 0, Scalar(2**15, 0))
    for n in range(1, 3 * max(CONFIG.tile_k, WIDTH) + 3):
        # Codes of commands before must be overwritten by zeros, and none beyond.
        bench.activation[:] = bench.machine.activation[:] = 77
        await bench.fill(bench.numpy.integers(-300, 300, n))
        for destination in Destination:
            await bench.command(
                Op.VEC, dst=512 if destination == Destination.SCRATCH else 3, n=n, m=1, shift=15,
                destination=destination, vector=0, reduce=Reduce.ABSMAX, rd=2,
            )  # fmt: skip
            await bench.compare(f"VEC n={n} to {destination.name}")


@cocotb.test()
async def clips_are_counted(dut):
    """`saturated` pulses once per word in which something before n was clipped."""
    bench = await begin(dut)
    n = 3 * WIDTH
    await bench.set_scalar(1, 0, Scalar(2**15, 0))
    quiet = bench.numpy.integers(-1000, 1000, n)
    loud = quiet.copy()
    loud[0] = loud[2 * WIDTH] = INT32_MAX
    for values, expected in ((quiet, 0), (loud, 2)):
        await bench.fill(values)
        await bench.fill(values, 512)
        common = dict(dst=256, a=0, b=512, n=n)
        await bench.command(Op.VEC, **common, m=1, shift=14)
        assert bench.clips == expected, "product"
        await bench.command(Op.VEC, **common, m=1, shift=15, add=1)
        assert bench.clips == expected, "sum"
        await bench.command(Op.VEC, **common, by_vector=1, shift=63)
        assert bench.clips == expected, "factor"
        await bench.command(Op.VEC, dst=256, a=0, n=2 * WIDTH, m=1, shift=14)
        assert bench.clips == min(expected, 1), "elements from n on do not count"
        await bench.command(Op.EXP, dst=256, a=0, n=n, m=1, shift=0, rd=2)
        assert bench.clips == 0, "nothing of EXP is counted"
        await bench.compare("clips")


@cocotb.test()
async def cycles(dut):
    """Commands take the time that the contract states."""
    bench = await begin(dut)
    await bench.set_scalar(1, 0, Scalar(2**15, 0))
    levels = WIDTH.bit_length() - 1
    fixed = Timing.write + 4
    fold = 2 * levels
    n = 256
    words = n // WIDTH
    measured = await bench.command(Op.VEC, dst=256, n=n, m=1, shift=15)
    dut._log.info(f"VEC n={n}, width {WIDTH}: {measured} cycles")
    assert measured == words + fixed
    measured = await bench.command(Op.EXP, dst=256, n=n, m=1, shift=15, rd=2)
    dut._log.info(f"EXP n={n}, width {WIDTH}: {measured} cycles")
    assert measured == words + fixed + 6 + fold
    measured = await bench.command(Op.ROPE, a=0, b=512, n=n, size=64, shift=15)
    dut._log.info(f"ROPE n={n}, width {WIDTH}: {measured} cycles")
    assert measured == 2 * words + fixed
    for n in (256, 64):
        words = n // WIDTH
        measured = await bench.command(Op.HADAMARD, a=0, n=n, log2_block=6, rd=2)
        dut._log.info(f"HADAMARD n={n} block=64, width {WIDTH}: {measured} cycles")
        interval = max(words + 1, Timing.write)
        assert measured == (WIDTH == 1) + 5 * interval + words + fixed + fold
