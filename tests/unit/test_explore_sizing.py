"""Sizing: the search, the front, the point taken; in one process and on workers."""

import dataclasses

import pytest
from tamale import config as configuration
from tamale_model import imagefile, readers
from tamale_model.explore import predictions, silicon, sizing, sweep, world
from tamale_model.explore.quantity import DataError
from tamale_sim.models_cache import demonstration


@pytest.fixture(scope="module")
def asked():
    known = world.load()
    return sizing.Search(known.workload("demonstration"), known.platform("ulx3s-85f"), known, 256)


@pytest.fixture(scope="module")
def found(asked):
    with sweep.pool(workers=1) as run:
        return sizing.search(asked, run, budget=30)


def test_front(found):
    front = sizing.front(found)
    assert 2 <= len(front) < len(found)
    for p in front:
        assert not any(
            q.tokens_per_second > p.tokens_per_second and q.cost < p.cost
            and q.prefill > p.prefill and q.loss <= p.loss
            for q in found
        )  # fmt: skip


def test_points_fit_the_board(found):
    assert all(p.cost <= 0.85 for p in found)
    assert len({p.config for p in found}) == len(found)
    for p in found:
        assert p.tokens_per_second == pytest.approx(p.config.clock_hz / p.cycles)


def test_taken(found):
    front = sizing.front(found)
    fastest = max(p.tokens_per_second for p in front if p.loss <= 3e-3)
    taken = sizing.pick(front)
    assert taken.tokens_per_second >= 0.98 * fastest
    goal = fastest / 2
    cheap = sizing.pick(front, goal)
    assert cheap.tokens_per_second >= goal
    assert cheap.cost <= taken.cost
    with pytest.raises(DataError, match=f"the goal of {2 * fastest:g} tokens/s is not reached"):
        sizing.pick(front, 2 * fastest)
    with pytest.raises(DataError, match="no point has a loss of at most 1e-09"):
        sizing.pick(front, loss=1e-9)


def test_synthesised_engine_replaces_the_fit(asked, found):
    point = found[0]
    fitted = silicon.ecp5_blocks(point.config)["engine"]
    same = sizing.corrected(asked, point, {"ecp5": {"lut4": fitted}})
    assert same.cost == pytest.approx(point.cost)
    larger = sizing.corrected(asked, point, {"ecp5": {"lut4": fitted + 40000}})
    assert larger.detail["lut4"] == pytest.approx(point.detail["lut4"] + 40000)
    assert larger.cost == pytest.approx(larger.detail["lut4"] / asked.platform.lut4.value)
    assert sizing.corrected(asked, point, {"ecp5": None}) == point
    fields = sizing.engine(point)
    assert silicon.gates(configuration.Config(**fields))["engine"] == pytest.approx(
        silicon.gates(point.config)["engine"]
    )


def test_preset_loads(found, tmp_path):
    config = sizing.pick(sizing.front(found)).config
    path = tmp_path / f"{config.name}.toml"
    path.write_text(config.to_toml())
    assert configuration.load(path) == config
    # It holds the model it was sized for: packing refuses memories that are too small.
    imagefile.build(config, readers.read(demonstration()), tmp_path / "image")


def test_workers_give_the_same(asked, found):
    with sweep.pool(workers=2) as run:
        again = sizing.search(asked, run, budget=8)
    assert again == found[: len(again)]
    assert len(again) >= 4


def test_errors_of_workers_come_back():
    with sweep.pool(workers=1) as run:
        assert run(abs, [-1, 2]) == [1, 2]
        with pytest.raises(TypeError):
            run(abs, ["x"])


def test_nobody_answers(monkeypatch):
    monkeypatch.setattr(sweep, "_PATIENCE", 0.5)
    with pytest.raises(DataError, match="no Dask scheduler answers at tcp://127.0.0.1:9"):
        with sweep.pool("tcp://127.0.0.1:9"):
            pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workload": "dense-7b"}, "dense-7b needs 1.68 GB with 256 positions, ulx3s-85f has"),
        ({"workload": "deepseek-v3", "platform": "appliance-3nm"},
         "latent attention and Mixture-of-Experts, which the compiler does not take yet"),
        ({"workload": "llama-70b", "platform": "appliance-28nm"}, "rows of 28672 weights"),
        ({"platform": "mac-mini-m4"}, "nothing to size"),
        ({"sequences": 9}, "--sequences must be 1 to 8, not 9"),
    ],
)  # fmt: skip
def test_refused(asked, changes, message):
    known = asked.world
    values = {
        "workload": lambda name: known.workload(name),
        "platform": lambda name: known.platform(name),
        "sequences": int,
    }
    other = dataclasses.replace(asked, **{key: values[key](v) for key, v in changes.items()})
    with sweep.pool(workers=1) as run, pytest.raises(DataError) as error:
        sizing.search(other, run, budget=4)
    assert message in str(error.value)


def test_sequences_share_the_sweep(asked):
    two = dataclasses.replace(asked, sequences=2)
    with sweep.pool(workers=1) as run:
        one, several = (sizing.search(a, run, budget=2) for a in (asked, two))
    assert all(p.config.vectors >= 2 for p in several)
    assert all(p.prefill >= p.tokens_per_second for p in several)
    assert several[0].config == one[0].config
    assert 1 < several[0].tokens_per_second / one[0].tokens_per_second < 2


def test_chip(asked):
    known = asked.world
    chip = sizing.Search(
        known.workload("bitnet-2b-4t"), known.platform("appliance-28nm-4gb"), known, 256
    )
    with sweep.pool(workers=1) as run:
        found = sizing.search(chip, run, budget=3)
    best = max(p.tokens_per_second for p in found)
    # The memory's bandwidth is the limit, and it is approached.
    limit = 17.1e9 / 0.75e9
    assert 0.6 * limit < best < limit
    assert all(set(p.detail) >= {"engine", "memory PHY"} for p in found)


def test_predictions_are_within_five_percent():
    compared = predictions.compare()
    measured = [entry for entry in compared if entry.error is not None]
    assert len(measured) >= 10
    assert len({entry.case.config for entry in measured}) >= 5
    for entry in measured:
        assert abs(entry.error) < 0.05, entry.case.name
        assert entry.equal_tokens >= 3, entry.case.name
