"""The firmware's machine, compiled for this computer, equals the golden one at every command."""

import numpy as np
import pytest
import tokenizer_cases
from device_machine import DeviceMachine, build
from tamale import config as configs
from tamale import isa
from tamale.codes import limit
from tamale_model import integer
from tamale_model.machine import Addresses, Job, Machine, Slot
from tamale_model.sampling import candidates
from tamale_sim.models_cache import open_image

SEED = 5
CONFIG = configs.load("icebreaker")
MEMORY = 1 << 18
#: Of a stream that is read; the cache of random commands.
STREAM, CACHE = 4096, 1 << 17


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return build(CONFIG, tmp_path_factory.mktemp("machine"))


def test_demonstration(library):
    """Every state after every command of a prompt, then tokens and logits alone."""
    image, _ = open_image(None, CONFIG, 96)
    golden = image.machine(CONFIG, 1)
    device = DeviceMachine(library, golden)
    prompt = np.random.default_rng(SEED).integers(0, image.fields["vocabulary"], 21).tolist()
    token = prompt[0]
    for position in range(70):
        slot = Slot(token, position, image.kv_base)
        head = position >= len(prompt) - 1
        if position in (0, 1, 20, 40):  # before and after a new block of values
            device.attach(golden, image.program)
            _follow(device, golden, image.program, slot)
        device.attach(golden, image.program)
        logits = golden.run(Job([slot], head))
        own = device.run(slot, head)
        assert (device.memory == golden.memory).all(), position
        if head:
            assert (own == logits[0]).all(), position
            assert device.best() == candidates(logits[0], CONFIG.candidates)
            token = device.best()[0][1]
        else:
            token = prompt[position + 1]


def _follow(device, golden, program, slot):
    """Run a job on both, command by command; memory is put back."""
    before = golden.memory.copy()
    sweeps = [golden.addresses.sweep_base]

    def compare(pc, op, fields, layer, _):
        if op in (isa.Op.LOOP, isa.Op.NEXT, isa.Op.SKIP_UNLESS_HEAD):
            return
        device.execute(program[pc], slot, layer, sweeps[-1])
        sweeps.append(golden._sweep)
        _same(device, golden, f"command {pc}: {op.name} {fields}")

    golden.run(Job([slot], True), compare)
    golden.memory[:] = device.memory[:] = before


def _same(device, golden, what):
    for name in ("scratch", "memory"):
        own, theirs = getattr(device, name), getattr(golden, name)
        wrong = np.flatnonzero(own != theirs)
        assert not len(wrong), f"{what}: {name} {wrong[:8]}: {own[wrong[:8]]} {theirs[wrong[:8]]}"
    assert (device.activation == golden.activation[0]).all(), what
    assert device.peak[0] == golden.peak, what
    for name in range(64):
        assert device.scalar(name) == golden.scalar(name, 0), f"{what}: scalar {name}"


def _elements(rng, n):
    """int32 values of all sizes, and the ends of the range."""
    values = rng.integers(-(2**31), 2**31, n) >> rng.integers(0, 31, n)
    ends = [-(2**31), 2**31 - 1, 0, -1, 1]
    return np.where(rng.random(n) < 0.05, rng.choice(ends, n), values)


def _scalar(rng):
    if rng.random() < 0.1:
        return integer.ZERO
    return integer.Scalar(int(rng.integers(2**15, 2**16)), int(rng.integers(-60, 30)))


def _flag(rng):
    return int(rng.integers(0, 2))


def _vec(rng, position):
    """VEC with any fields that the specification allows."""
    reduce = int(rng.integers(0, 4))
    n = int(rng.integers(1, 200))
    destination = int(rng.integers(0, 5))
    return isa.encode(
        isa.Op.VEC, dst=int(rng.integers(0, 20)) if destination in (1, 2, 3) else 600, a=0, b=300,
        n=n, bound=_flag(rng), destination=destination, m=int(rng.integers(0, 64)),
        x=int(rng.integers(0, 64)), shift=int(rng.integers(-64, 64)), by_m=_flag(rng),
        by_x=_flag(rng), b_shift=int(rng.integers(-32, 32)), b_by_x=_flag(rng),
        by_vector=_flag(rng), relu=_flag(rng), add=_flag(rng), planes=int(rng.integers(0, 6)),
        reduce=reduce, rd=int(rng.integers(0, 64)),
    )  # fmt: skip


def _other(rng, position):
    kind = int(rng.integers(0, 6))
    if kind == 0:
        block = int(rng.integers(0, 7))
        return isa.encode(
            isa.Op.HADAMARD, a=int(rng.integers(0, 400)), n=128, log2_block=block,
            rd=int(rng.integers(0, 64)),
        )  # fmt: skip
    if kind == 1:
        return isa.encode(
            isa.Op.ROPE, a=int(rng.integers(0, 300)), b=800, n=128,
            size=int(rng.choice([32, 64, 128])), shift=int(rng.integers(0, 32)),
        )  # fmt: skip
    if kind == 2:
        return isa.encode(
            isa.Op.EXP, dst=500, a=int(rng.integers(0, 300)), n=int(rng.integers(1, 150)),
            bound=_flag(rng), m=int(rng.integers(0, 64)), shift=int(rng.integers(-64, 64)),
            rd=int(rng.integers(0, 64)), function=_flag(rng),
        )  # fmt: skip
    if kind == 3:
        return isa.encode(
            isa.Op.SCALAR, rd=int(rng.integers(0, 64)), a=int(rng.integers(0, 64)),
            b=int(rng.integers(0, 64)), operation=int(rng.integers(0, 6)),
            imm=int(rng.integers(-40, 40)),
        )  # fmt: skip
    if kind == 4:
        source = int(rng.choice([0, 1, 2, 5]))
        return isa.encode(
            isa.Op.LOAD, dst=int(rng.integers(0, 900)), beats=int(rng.integers(1, 100)),
            format=int(rng.integers(0, 3)), source=source, offset=int(rng.integers(0, 9)),
            head=int(rng.integers(0, 2)),
        )  # fmt: skip
    return isa.encode(
        isa.Op.SLOAD, rd=int(rng.integers(0, 50)), count=int(rng.integers(1, 14)),
        source=int(rng.integers(0, 3)), offset=int(rng.integers(0, 9)),
    )  # fmt: skip


def _matvec(rng, position):
    source = int(rng.choice([isa.Source.LINEAR, isa.Source.KEYS, isa.Source.VALUES]))
    linear = source == isa.Source.LINEAR
    scaled = _flag(rng) if source != isa.Source.VALUES else 0
    return isa.encode(
        isa.Op.MATVEC, dst=200, vector_stride=400, act=int(rng.integers(0, 8)),
        tiles=int(rng.integers(1, 60)), groups=int(rng.integers(1, 4)) if linear else 1,
        planes=int(rng.integers(1, 6)), steps=int(rng.integers(1, 6)) if linear or scaled else 1,
        vectors=1, scaled=scaled, aux=scaled * _flag(rng), source=source,
        head=int(rng.integers(0, 2)),
    )  # fmt: skip


def _kvwrite(rng, position):
    return isa.encode(
        isa.Op.KVWRITE, a=2400, b=2600, kind=_flag(rng), head=int(rng.integers(0, 2)),
        size=int(rng.integers(2, 33)) * 2, planes=int(rng.integers(1, 6)),
        scale=int(rng.integers(0, 64)), aux=int(rng.integers(0, 64)),
    )  # fmt: skip


def test_random_commands(library):
    """Commands that no compiler makes, on states that no model reaches."""
    rng = np.random.default_rng(tokenizer_cases.seeded(SEED).getrandbits(32))
    addresses = Addresses(
        sweep_base=STREAM, embedding_base=STREAM + 64, embedding_stride=132,
        rope_base=STREAM + 128, rope_stride=64, kv_layer_stride=30000, key_head_stride=9000,
        value_base=18000, value_head_stride=6000,
    )  # fmt: skip
    memory = rng.integers(0, 256, MEMORY).astype(np.uint8)
    golden = Machine(CONFIG, memory, [], addresses, 0, 60)
    device = DeviceMachine(library, golden)
    device.attach(golden, [])
    done = 0
    for number in range(3000):
        slot = Slot(int(rng.integers(0, 20)), int(rng.integers(0, 96)), CACHE)
        layer = int(rng.integers(0, 2))
        make = [_vec, _vec, _other, _other, _matvec, _kvwrite][number % 6]
        word = make(rng, slot.position)
        op, fields = isa.decode(word)
        if number % 50 == 0 or op is isa.Op.KVWRITE:
            _randomise(rng, golden, device, fields.get("planes") or 1)
        try:
            golden._sweep = STREAM
            golden.execute(word, Job([slot]), layer)
        except (ValueError, OverflowError):
            # Outside the specification: sums of negative numbers, exponents beyond ten bits.
            _randomise(rng, golden, device, 1)
            continue
        device.execute(word, slot, layer, STREAM)
        _same(device, golden, f"{number}: {op.name} {fields} {slot}")
        done += 1
    print(f"{done} commands compared")
    assert done > 2000


def _randomise(rng, golden, device, planes):
    """Give both machines the same new state."""
    values = _elements(rng, CONFIG.scratchpad_elements)
    # What KVWRITE packs.
    values[2400:2464] = rng.integers(-limit(planes), limit(planes) + 1, 64)
    golden.scratch[:] = values
    device.scratch[:] = values
    codes = rng.integers(-127, 128, golden.activation.shape)
    golden.activation[:] = codes
    device.activation[:] = codes[0]
    golden.peak = int(rng.integers(-(2**31), 2**31))
    device.peak[0] = golden.peak
    for name in range(64):
        value = _scalar(rng)
        golden._slot = 0
        golden.set_scalar(name, value)
        device.set_scalar(name, value)
