"""Properties of the cycle model; its error against the RTL is measured by the SoC's tests."""

import pytest
from random_programs import compiled
from tamale.config import Config
from tamale_model import cycles
from tamale_model.machine import Job, Slot

CONFIG = Config(
    name="test", vectors=4, vu_width=2, max_context=64, fifo_beats=128, memory_bytes=1 << 20
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled(CONFIG, tmp_path_factory.mktemp("image"))


def job(position, slots=1, *, want_head=True):
    return Job([Slot(0, position + i, 0) for i in range(slots)], want_head)


def predict(program, job, **changes):
    return cycles.predict(CONFIG.replace(**changes), program, job)


@pytest.mark.parametrize("memory", ["sdram", "ideal"])
@pytest.mark.parametrize("slots", [1, 4])
def test_more_positions_are_never_cheaper(program, memory, slots):
    times = [predict(program, job(p, slots), memory=memory).cycles for p in range(60)]
    assert times == sorted(times)
    assert times[-1] > times[0]


@pytest.mark.parametrize("position", [0, 17, 59])
def test_slots_share_the_sweep(program, position):
    times = [predict(program, job(position, slots)).cycles for slots in (1, 2, 3, 4)]
    assert times == sorted(times)
    assert times[3] < 4 * times[0]


@pytest.mark.parametrize("position", [0, 17, 59])
@pytest.mark.parametrize("slots", [1, 4])
def test_ideal_memory_is_no_slower(program, position, slots):
    ideal = predict(program, job(position, slots), memory="ideal")
    assert ideal.cycles <= predict(program, job(position, slots), memory="sdram").cycles


def test_wider_vector_unit_is_no_slower(program, tmp_path):
    wide = CONFIG.replace(vu_width=4)
    fast = cycles.predict(wide, compiled(wide, tmp_path), job(30))
    assert fast.cycles <= predict(program, job(30)).cycles


def test_slower_memory_is_slower(program):
    memory = cycles.Memory(cycles_per_beat=2, latency=10, refresh=0)
    times = [
        cycles.predict(CONFIG, program, job(5), memory).cycles,
        cycles.predict(CONFIG, program, job(5), cycles.Memory(4, 10, 0)).cycles,
        cycles.predict(CONFIG, program, job(5), cycles.Memory(4, 10, 0.02)).cycles,
    ]
    assert times == sorted(times) and times[0] < times[1] < times[2]


def test_head(program):
    with_head = predict(program, job(5))
    without = predict(program, job(5, want_head=False))
    assert without.head_cycles == 0
    assert 0 < with_head.head_cycles < with_head.cycles
    assert with_head.cycles - with_head.head_cycles == pytest.approx(without.cycles, rel=0.02)


def test_parts(program):
    prediction = predict(program, job(5, 3))
    assert set(prediction.units) >= {"MATVEC", "VEC", "LOAD", "KVWRITE", "HADAMARD", "SCALAR"}
    assert all(value >= 0 for value in prediction.units.values())
    assert sum(prediction.units.values()) == pytest.approx(prediction.cycles, rel=1e-6)


def test_memory_of():
    sdram, ideal = (
        cycles.memory_of(CONFIG.replace(memory=memory)) for memory in ("sdram", "ideal")
    )
    assert sdram.cycles_per_beat == ideal.cycles_per_beat == 2
    assert 0 == ideal.refresh < sdram.refresh < 0.05
