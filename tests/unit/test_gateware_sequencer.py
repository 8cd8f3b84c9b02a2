"""Walker and executor against an interpreter of the program: same descriptors, same issues, same
faults."""

import random
import sys
import types
from pathlib import Path

import pytest
from amaranth.hdl import Module, Shape
from amaranth.lib import wiring
from amaranth.sim import Simulator
from tamale import config as configuration
from tamale import isa
from tamale.gateware import jobs, program, sequencer
from tamale.gateware.counters import Counter, Counters
from tamale.gateware.interfaces import Addresses, Fault
from tamale.gateware.jobs import QUEUE_FULL, JobQueue, division
from tamale.gateware.program import ProgramMemory
from tamale.gateware.sequencer import Executor, StreamWalker
from tamale.isa import Op, Source, encode

#: Cycles after which the jobs of a random program are taken to hang.
TIMEOUT = 20000

CONFIGS = {
    "narrow": configuration.Config(
        vectors=3, max_context=300, program_commands=64, max_k=256, scratchpad_elements=4096
    ),
    "pieces": configuration.Config(
        vectors=2, max_context=300, program_commands=70, program_width=32, max_k=256, tile_rows=1
    ),
    "wide": configuration.Config(
        bus_width=128,
        tile_rows=8,
        code="t4",
        sparse_code="s34",
        vectors=5,
        max_context=500,
        program_commands=100,
        max_k=256,
    ),
}

#: LOAD, SLOAD ... of the stand-in units, by the executor's port.
UNITS = {
    "loader": (Op.LOAD, Op.SLOAD),
    "array": (Op.MATVEC,),
    "vector": (Op.VEC, Op.HADAMARD, Op.ROPE, Op.EXP),
    "scalar": (Op.SCALAR,),
    "kv_writer": (Op.KVWRITE,),
}


class Bench(wiring.Component):
    """Queue, program, walker and executor; units, scalars and reader are the test's."""

    def __init__(self, config):
        self.config = config
        self.program = ProgramMemory(config)
        self.queue = JobQueue(config)
        self.walker = StreamWalker(config)
        self.executor = Executor(config)
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        m.submodules.program = self.program
        m.submodules.queue = self.queue
        m.submodules.walker = self.walker
        m.submodules.executor = self.executor
        for i, agent in enumerate((self.walker, self.executor)):
            wiring.connect(m, agent.memory, self.program.read[i])
            wiring.connect(m, agent.job, self.queue.takers[i])
        return m


# The reference: written from the text of `tamale.isa`, with Python's numbers.


def interpret(program, slots, want_head):
    """Yield (pc, op, fields, word, layer, slot) of every command that is not control flow."""
    pc, index, start = 0, [0, 0], [0, 0]
    passes = [0, 0]
    while True:
        op, fields = isa.decode(program[pc])
        if op is Op.END:
            return
        if op is Op.LOOP:
            level = fields["level"]
            start[level], index[level] = pc + 1, 0
            passes[level] = slots if level else max(1, fields["count"])
        elif op is Op.NEXT:
            level = fields["level"]
            index[level] += 1
            if index[level] < passes[level]:
                pc = start[level]
                continue
            index[level] = 0
        elif op is Op.SKIP_UNLESS_HEAD:
            if not want_head:
                pc = fields["target"]
                continue
            yield pc, op, fields, program[pc], *index
        else:
            yield pc, op, fields, program[pc], *index
        pc += 1


def descriptors(config, program, job, a):
    """Yield (address, beats) of every read of a job."""
    slots, want_head = job
    sweep = a["sweep_base"]
    bytes_ = config.bus_width // 8
    for _, op, f, _, layer, slot in interpret(program, len(slots), want_head):
        if op not in (Op.LOAD, Op.SLOAD, Op.MATVEC):
            continue
        token, position, kv_base = slots[slot]
        source, head = f["source"], f["head"]
        if op is Op.LOAD:
            beats = f["beats"]
        elif op is Op.SLOAD:
            beats = (f["count"] * 4 + bytes_ - 1) // bytes_
        else:
            tiles = position // config.tile_rows + 1 if source == Source.KEYS else f["tiles"]
            blocks = position // config.tile_k + 1 if source == Source.VALUES else 1
            group = f["planes"] * f["steps"]
            if config.sparse and f["sparse"]:
                # Five bits for four weights.
                bits = f["steps"] * config.tile_rows * config.tile_k // 4 * 5
                group = -(-bits // config.bus_width)
            sets = blocks * tiles * f["groups"]
            whole = -(-config.tile_rows * 2 // bytes_)
            # Groups whose scales fit one beat; counted are parts of it, as far as registers go.
            share = max(1, bytes_ // (config.tile_rows * 2))
            parts = group * share
            if f["scaled"]:
                parts += 2 * whole * share if f["aux"] else whole
            beats = -(-(sets * parts % 2**32) // share)
        address = {
            Source.LINEAR: sweep,
            Source.EMBEDDING: a["embedding_base"] + token * a["embedding_stride"],
            Source.ROPE: a["rope_base"] + position * a["rope_stride"],
            Source.KEYS: kv_base + layer * a["kv_layer_stride"] + head * a["key_head_stride"],
        }.get(
            source,
            kv_base
            + layer * a["kv_layer_stride"]
            + a["value_base"]
            + head * a["value_head_stride"],
        )
        if source == Source.VALUE_BLOCK:
            address += position // config.tile_k * beats * bytes_
        if source == Source.LINEAR:
            sweep += beats * bytes_
        address += f.get("offset", 0) * bytes_
        if beats:
            yield address & 0xFFFFFFFF, beats & 0xFFFFFFFF


def reads(config, word):
    """Whether a command reads anything from the stream."""
    op, fields = isa.decode(word)
    if op is Op.MATVEC:
        group = fields["planes"] * fields["steps"] or fields["scaled"]
        if config.sparse and fields["sparse"]:
            group = fields["steps"] or fields["scaled"]
        return bool(
            group and fields["groups"] and (fields["tiles"] or fields["source"] == Source.KEYS)
        )
    return bool(fields.get("beats", 0) if op is Op.LOAD else op is Op.SLOAD and fields["count"])


def random_command(rng, config):
    op = rng.choice([op for op in Op if op >= Op.LOAD])
    values = {}
    for name, (_, width) in isa.FIELDS[op].items():
        if name == "op":
            continue
        low, high = 0, (1 << width) - 1
        if name in isa.SIGNED:
            low, high = -(1 << width - 1), (1 << width - 1) - 1
        values[name] = rng.randint(low, high)
    if "source" in values:
        values["source"] = rng.choice(list(Source))
    if op is Op.MATVEC:
        values |= {"tiles": rng.choice((1, 5, 300, 65535)), "groups": rng.choice((1, 2, 8, 255))}
        if values["source"] in (Source.EMBEDDING, Source.ROPE, Source.VALUE_BLOCK):
            values["source"] = Source.LINEAR
    return encode(op, **values)


def random_program(rng, config):
    """Loops of both levels, in each other and after each other, and a head at the end."""

    def commands():
        return [random_command(rng, config) for _ in range(rng.randrange(3))]

    def slot_loop():
        return [encode(Op.LOOP, level=1), *commands(), encode(Op.NEXT, level=1)]

    body = commands() + slot_loop()
    body += [encode(Op.LOOP, level=0, count=rng.randrange(3))]
    body += commands() + slot_loop() + commands() + slot_loop() + [encode(Op.NEXT, level=0)]
    body += commands()
    head = commands() + slot_loop()
    body.append(encode(Op.SKIP_UNLESS_HEAD, target=len(body) + 1 + len(head)))
    return body + head + [encode(Op.END)]


def scalar_of(name, slot):
    """What the stand-in register file holds."""
    return {"mantissa": 0x8000 | name << 4 | slot, "exponent": name - 20}


async def load_program(ctx, bench, program):
    write = bench.program.write
    ctx.set(write.en, 1)
    for i, command in enumerate(program):
        for word in range(4):
            ctx.set(write.word, 4 * i + word)
            ctx.set(write.data, command >> 32 * word & 0xFFFFFFFF)
            await ctx.tick()
    ctx.set(write.en, 0)


async def submit(ctx, queue, slots, want_head):
    for i, slot in enumerate(slots):
        for bit, value in enumerate(slot):
            ctx.set(queue.stage_en, 1 << bit)
            ctx.set(queue.stage_slot, i)
            ctx.set(queue.stage_data, value)
            await ctx.tick()
    ctx.set(queue.stage_en, 0)
    while ctx.get(queue.full) or ctx.get(queue.busy):
        await ctx.tick()
    ctx.set(queue.slots, len(slots))
    ctx.set(queue.want_head, want_head)
    ctx.set(queue.submit, 1)
    await ctx.tick()
    ctx.set(queue.submit, 0)
    while ctx.get(queue.busy):
        await ctx.tick()


def add_stand_ins(simulator, bench, rng, log, slow=True):
    """Units that take their time, a reader with back pressure, a register file."""
    executor, walker = bench.executor, bench.walker
    state = {"kv_done": 0, "reads": 0}

    async def unit(ctx, name):
        port = getattr(executor, name)
        while True:
            ctx.set(port.issue.ready, 1)
            _, _, valid, payload = await ctx.tick().sample(port.issue.valid, port.issue.p)
            if not valid:
                continue
            ctx.set(port.issue.ready, 0)
            result = rng.randrange(1 << rng.randrange(1, 48))
            log["issues"].append((name, payload, result))
            # Writes take so long that the walker comes to what waits for them.
            for _ in range(rng.randrange(40 if name == "kv_writer" else 4) if slow else 0):
                await ctx.tick()
            # Data that nobody asked for do not come.
            state["reads"] += reads(bench.config, payload.command)
            while len(log["descriptors"]) < state["reads"]:
                await ctx.tick()
            ctx.set(port.done.result, result)
            ctx.set(port.done_valid, 1)
            if name == "kv_writer":
                ctx.set(walker.completed, 1)
                state["kv_done"] += 1
            await ctx.tick()
            ctx.set(port.done_valid, 0)
            ctx.set(walker.completed, 0)

    async def reader(ctx):
        while True:
            ctx.set(walker.o.ready, rng.random() < 0.7 if slow else 1)
            _, _, valid, ready, payload = await ctx.tick().sample(
                walker.o.valid, walker.o.ready, walker.o.p
            )
            if valid and ready:
                log["descriptors"].append((payload.address, payload.beats))
                log["kv_done"].append(state["kv_done"])

    async def registers(ctx):
        # `normalise` keeps the file busy for a while; then reads are not defined.
        ctx.set(executor.normalise.ready, 1)
        busy = 0
        while True:
            _, _, valid, payload, p, q, slot = await ctx.tick().sample(
                executor.normalise.valid,
                executor.normalise.p,
                executor.read.p_name,
                executor.read.q_name,
                executor.read.slot,
            )
            if valid and not busy:
                log["reductions"].append((payload.value, payload.name, payload.slot))
                busy = 7
            elif busy:
                busy -= 1
            ctx.set(executor.normalise.ready, not busy)
            ctx.set(executor.read.p, {"mantissa": 0, "exponent": 0} if busy else scalar_of(p, slot))
            ctx.set(executor.read.q, {"mantissa": 0, "exponent": 0} if busy else scalar_of(q, slot))

    def bound(name):
        async def process(ctx):
            await unit(ctx, name)

        return process

    for name in UNITS:
        simulator.add_testbench(bound(name), background=True)
    simulator.add_testbench(reader, background=True)
    simulator.add_testbench(registers, background=True)


def expected_issue(config, job, stride, item):
    _, op, fields, word, layer, slot = item
    slots, _ = job
    _, position, kv_base = slots[slot]
    names = {Op.VEC: ("m", "x"), Op.EXP: ("m", None), Op.KVWRITE: ("scale", "aux")}.get(op)
    expected = {
        "command": word,
        "slot": slot,
        "slot_base": slot * stride & 0x1FFFF,
        "slot_stride": stride,
        "slots": len(slots),
        "position": position,
        "blocks": position // config.tile_k,
        "digit": position % config.tile_k,
        "layer": layer,
        "kv_base": kv_base,
    }
    for port, name in zip(("p", "q"), names or (), strict=False):
        if name:
            expected[port] = scalar_of(fields[name], slot)
    return expected


def random_job(rng, config):
    slots = [
        (
            rng.randrange(1 << 20),
            rng.choice((0, config.tile_k - 1, config.tile_k, config.max_context - 1))
            if rng.random() < 0.5
            else rng.randrange(config.max_context),
            rng.randrange(1 << 24) * config.beat_bytes,
        )
        for _ in range(rng.randint(1, config.vectors))
    ]
    return slots, rng.random() < 0.5


@pytest.mark.gates("walker", "executor", "queue")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(2))
def test_random_programs(name, seed):
    check_random_program(name, seed)


#: Deliberate bugs: (module, text, what it becomes).
BUGS = [
    (program, "starts[1].eq(following)", "starts[1].eq(pc)"),
    (program, "enumerate((count, self.slots))", "enumerate((self.slots, count))"),
    (program, "indices[1].eq(Mux(last, 0,", "indices[1].eq(Mux(0, 0,"),
    (program, "with m.If(self.want_head):", "with m.If(~self.want_head):"),
    (program, "piece == pieces - 1", "piece == pieces - 2"),
    (program, "[piece.eq(piece + 1), coming.eq(1)]", "[piece.eq(piece + 1), coming.eq(piece > 0)]"),
    (jobs, "factor, shift = division(", "factor, shift = 1, 1 #"),
    (jobs, "taker.want_head).eq(heads[count[:index]])", "taker.want_head).eq(heads[0])"),
    (sequencer, "all_blocks.eq(entry.blocks + 1)", "all_blocks.eq(entry.blocks)"),
    (sequencer, "blocked = fence & behind", "blocked = 0"),
    (sequencer, "+ words_a_beat - 1)", ")"),
    (sequencer, "saved = surplus >>", "saved = (surplus + gearing.beat - 1) >>"),
    (sequencer, "2 * config.scale_beats", "config.scale_beats"),
    (sequencer, "length + config.scale_share - 1", "length"),
    (sequencer, "pointer.eq(addresses.sweep_base)", "pointer.eq(pointer)"),
    (sequencer, "self.read.slot.eq(issue.slot)", "self.read.slot.eq(0)"),
    (sequencer, "~direct & ~self.halt & scalars_settled", "~direct & ~self.halt"),
    (sequencer, "unwritten.eq(will_reduce)", "unwritten.eq(1)"),
]


@pytest.mark.parametrize("bug", BUGS, ids=[bug[2][:30] for bug in BUGS])
def test_deliberate_bugs_are_seen(bug, monkeypatch):
    module, old, new = bug
    source = Path(module.__file__).read_text()
    assert old in source, "the bug does not fit the source any more"
    changed = types.ModuleType("changed")
    changed.__dict__["__name__"] = module.__name__
    exec(compile(source.replace(old, new), module.__file__, "exec"), changed.__dict__)
    for name in ("Cursor", "JobQueue", "StreamWalker", "Executor"):
        if name in changed.__dict__:
            for user in (sys.modules[__name__], sequencer):
                if hasattr(user, name):
                    monkeypatch.setattr(user, name, changed.__dict__[name])
    monkeypatch.setattr(sys.modules[__name__], "TIMEOUT", 4000)
    with pytest.raises((AssertionError, TimeoutError)):
        for seed in range(4):
            for name in CONFIGS:
                check_random_program(name, seed)


def check_random_program(name, seed):
    config = CONFIGS[name]
    rng = random.Random(f"{name} {seed}")
    program = random_program(rng, config)
    beat = config.beat_bytes
    addresses = {
        key: rng.randrange(1 << Shape.cast(place.shape).width) // beat * beat
        for key, place in Addresses
    }
    stride = rng.randrange(1 << 13)
    jobs = [random_job(rng, config) for _ in range(3)]
    bench = Bench(config)
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    log = {"issues": [], "descriptors": [], "reductions": [], "kv_done": []}
    heads = []

    async def run(ctx):
        await load_program(ctx, bench, program)
        ctx.set(bench.walker.addresses, addresses)
        ctx.set(bench.executor.slot_stride, stride)
        for job in jobs:
            await submit(ctx, bench.queue, *job)
        for _ in range(TIMEOUT):
            if not ctx.get(bench.queue.level) and ctx.get(bench.walker.idle):
                break
            await ctx.tick()
        else:
            raise TimeoutError(f"jobs did not end; issues so far {len(log['issues'])}")

    async def ends(ctx):
        while True:
            _, _, complete, head = await ctx.tick().sample(
                bench.executor.complete, bench.executor.head
            )
            if complete:
                heads.append(bool(head))

    simulator.add_testbench(run)
    simulator.add_testbench(ends, background=True)
    add_stand_ins(simulator, bench, rng, log)
    simulator.run()

    assert log["descriptors"] == [
        d for job in jobs for d in descriptors(config, program, job, addresses)
    ]
    items = [
        (job, item)
        for job in jobs
        for item in interpret(program, len(job[0]), job[1])
        if item[1] is not Op.SKIP_UNLESS_HEAD
    ]
    assert len(items) == len(log["issues"])
    reductions = []
    for (job, item), (unit, issue, result) in zip(items, log["issues"], strict=True):
        op, fields, slot = item[1], item[2], item[5]
        assert op in UNITS[unit]
        for key, value in expected_issue(config, job, stride, item).items():
            found = getattr(issue, key)
            if isinstance(value, dict):
                found = {"mantissa": found.mantissa, "exponent": found.exponent}
            assert found == value, (op.name, key)
        reduce = fields.get("reduce")
        if op in (Op.HADAMARD, Op.EXP) or reduce in (isa.Reduce.ABSMAX, isa.Reduce.SUM):
            reductions.append((result, fields["rd"], slot))
    assert log["reductions"] == reductions
    assert heads == [want_head for _, want_head in jobs]

    # No fenced read was asked for before the writes that precede it in the program.
    written = order = 0
    for _, item in items:
        written += item[1] is Op.KVWRITE
        if item[1] in (Op.LOAD, Op.SLOAD, Op.MATVEC) and reads(config, item[3]):
            if item[2]["fence"]:
                assert log["kv_done"][order] >= written
            order += 1
    assert order == len(log["kv_done"])


def run_to_fault(program, *, slots=((1, 2, 0),), cycles=600, config=CONFIGS["narrow"]):
    bench = Bench(config)
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    log = {"issues": [], "descriptors": [], "reductions": [], "kv_done": []}
    found = {}

    async def run(ctx):
        await load_program(ctx, bench, program)
        await submit(ctx, bench.queue, slots, 1)
        for _ in range(cycles):
            await ctx.tick()
        for name in ("walker", "executor"):
            fault = ctx.get(getattr(bench, name).fault)
            found[name] = (fault.code, fault.info)

    simulator.add_testbench(run)
    add_stand_ins(simulator, bench, random.Random(1), log, slow=False)
    simulator.run()
    return found, log


@pytest.mark.gates("walker", "executor", "queue")
def test_unknown_operation_is_a_fault():
    found, log = run_to_fault([encode(Op.SCALAR), encode(Op.SCALAR), 15])
    assert found == {"walker": (Fault.BAD_COMMAND, 2), "executor": (Fault.BAD_COMMAND, 2)}
    assert len(log["issues"]) == 2


@pytest.mark.gates("walker", "executor", "queue")
@pytest.mark.parametrize("name", ["narrow", "pieces"])
def test_leaving_the_program_is_a_fault(name):
    config = CONFIGS[name]
    depth = config.program_commands
    found, log = run_to_fault([encode(Op.SCALAR)] * depth, cycles=3000, config=config)
    assert found == {"walker": (Fault.BAD_PROGRAM, depth), "executor": (Fault.BAD_PROGRAM, depth)}
    assert len(log["issues"]) == depth
    # SKIP falls through where the head is wanted, so this one ends well.
    found, _ = run_to_fault([encode(Op.SKIP_UNLESS_HEAD, target=4000), encode(Op.END)])
    assert found["executor"][0] == Fault.NONE


@pytest.mark.gates("walker", "executor", "queue")
def test_halt_freezes_both_agents():
    config = CONFIGS["narrow"]
    bench = Bench(config)
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    log = {"issues": [], "descriptors": [], "reductions": [], "kv_done": []}

    async def run(ctx):
        await load_program(
            ctx,
            bench,
            [
                encode(Op.LOOP, level=0, count=60000),
                encode(Op.LOAD, beats=3),
                encode(Op.NEXT, level=0),
                encode(Op.END),
            ],
        )
        await submit(ctx, bench.queue, [(0, 0, 0)], 0)
        await ctx.tick().repeat(200)
        assert len(log["descriptors"]) > 5
        ctx.set(bench.walker.halt, 1)
        ctx.set(bench.executor.halt, 1)
        await ctx.tick().repeat(20)
        before = len(log["descriptors"]), len(log["issues"])
        await ctx.tick().repeat(100)
        assert (len(log["descriptors"]), len(log["issues"])) == before

    simulator.add_testbench(run)
    add_stand_ins(simulator, bench, random.Random(1), log, slow=False)
    simulator.run()


@pytest.mark.gates("walker", "executor", "queue")
@pytest.mark.parametrize(
    "slots, info",
    [([], 0), ([(0, 0, 0)] * 4, 4), ([(0, 299, 0), (0, 300, 0)], 1), ([(0, 1 << 14, 0)], 0)],
)
def test_bad_jobs_are_refused(slots, info):
    bench = Bench(CONFIGS["narrow"])
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    faults = []

    async def run(ctx):
        await submit(ctx, bench.queue, slots, 0)
        await ctx.tick().repeat(30)
        assert ctx.get(bench.queue.level) == 0

    async def watch(ctx):
        while True:
            _, _, fault = await ctx.tick().sample(bench.queue.fault)
            if fault.code != Fault.NONE:
                faults.append((fault.code, fault.info))

    simulator.add_testbench(run)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert faults == [(Fault.BAD_JOB, info)]


@pytest.mark.gates("walker", "executor", "queue")
def test_full_queue_refuses():
    bench = JobQueue(CONFIGS["narrow"], depth=2)
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)

    async def run(ctx):
        for level in (1, 2):
            await submit(ctx, bench, [(0, 0, 0)], 0)
            assert ctx.get(bench.level) == level
        ctx.set(bench.submit, 1)
        await ctx.delay(1e-7)
        assert ctx.get(bench.fault.code) == Fault.BAD_JOB
        assert ctx.get(bench.fault.info) == QUEUE_FULL
        ctx.set(bench.submit, 0)
        # The executor alone does not free a place: the walker may still need it.
        ctx.set(bench.takers[1].finish, 1)
        await ctx.tick()
        ctx.set(bench.takers[1].finish, 0)
        assert ctx.get(bench.level) == 1 and ctx.get(bench.full)
        ctx.set(bench.takers[0].finish, 1)
        await ctx.tick()
        ctx.set(bench.takers[0].finish, 0)
        await ctx.tick()
        assert not ctx.get(bench.full)

    simulator.add_testbench(run)
    simulator.run()


def test_division():
    for divisor in (1, 2, 3, 5, 10, 20, 80, 120):
        factor, shift = division(divisor, 16384)
        assert all(n * factor >> shift == n // divisor for n in range(16384))
        assert factor < 1 << 20
    with pytest.raises(ValueError, match="lower max_context"):
        division((1 << 20) + 7, 1 << 22)


@pytest.mark.gates("walker", "executor", "queue")
def test_overhead_per_command():
    """Figures of the docstrings: cycles between a unit's end and the next issue, walker's pace."""
    config = CONFIGS["narrow"]
    bench = Bench(config)
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    sent, taken, cycle = [], [], [0]
    program = [encode(Op.LOAD, beats=1)] * 4 + [encode(Op.SCALAR)] * 4
    program += [encode(Op.MATVEC, tiles=2, groups=2, planes=1, steps=3)] * 3 + [encode(Op.END)]

    async def run(ctx):
        await load_program(ctx, bench, program)
        for name in UNITS:
            ctx.set(getattr(bench.executor, name).issue.ready, 1)
        ctx.set(bench.executor.normalise.ready, 1)
        ctx.set(bench.walker.o.ready, 1)
        await submit(ctx, bench.queue, [(0, 0, 0)], 0)
        for _ in range(400):
            for name in UNITS:
                port = getattr(bench.executor, name)
                done = bool(sent) and sent[-1] == (name, cycle[0] - 10)
                ctx.set(port.done_valid, done)
                if ctx.get(port.issue.valid):
                    sent.append((name, cycle[0]))
            if ctx.get(bench.walker.o.valid):
                taken.append(cycle[0])
            await ctx.tick()
            cycle[0] += 1

    simulator.add_testbench(run)
    simulator.run()
    gaps = [(b[0], b[1] - a[1] - 10) for a, b in zip(sent, sent[1:], strict=False)]
    assert gaps == [("loader", 3)] * 3 + [("scalar", 4)] * 4 + [("array", 3)] * 3
    walker = [b - a for a, b in zip(taken, taken[1:], strict=False)]
    assert walker[:3] == [10] * 3 and walker[-2:] == [17] * 2


@pytest.mark.gates("counters")
def test_counters_lose_nothing():
    bench = Counters()
    simulator = Simulator(bench)
    simulator.add_clock(1e-6)
    rng = random.Random(5)
    sums = [0] * len(Counter)

    async def read(ctx, live):
        values = []
        for i in range(len(Counter)):
            ctx.set(bench.select, i)
            ctx.set(bench.live, live)
            await ctx.tick().repeat(2)
            values.append(ctx.get(bench.value))
        return values

    async def count(ctx, cycles):
        for _ in range(cycles):
            events = rng.getrandbits(len(Counter)) | 1
            ctx.set(bench.events, events)
            for i in range(len(Counter)):
                sums[i] += events >> i & 1
            await ctx.tick()
        ctx.set(bench.events, 0)

    async def run(ctx):
        for cycles in (1, 2, 3, 500, 61, 62, 120, 59, 60):
            await count(ctx, cycles - 1)
            ctx.set(bench.snapshot, 1)
            await count(ctx, 1)
            exact = list(sums)
            ctx.set(bench.snapshot, 0)
            await count(ctx, 65)
            assert not ctx.get(bench.busy)
            assert await read(ctx, 0) == exact
            await ctx.tick().repeat(65)
            assert await read(ctx, 1) == sums
        ctx.set(bench.clear, 1)
        await count(ctx, 3)
        ctx.set(bench.clear, 0)
        await ctx.tick().repeat(65)
        assert await read(ctx, 1) == [0] * len(Counter)
        assert await read(ctx, 0) == [0] * len(Counter)

    simulator.add_testbench(run)
    simulator.run()
