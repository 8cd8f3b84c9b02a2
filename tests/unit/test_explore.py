"""Figures of the world, and what follows from them: sizes, speed, area, cost."""

import dataclasses
import json
import math

import pytest
from tamale import config as configuration
from tamale_fpga.boards import BOARDS
from tamale_model import readers
from tamale_model.explore import cost, design, fields, market, performance, silicon, world
from tamale_model.explore.quantity import DataError, quantity
from tamale_model.explore.workload import Storage
from tamale_sim.models_cache import demonstration


@pytest.fixture(scope="module")
def known():
    return world.load()


def assume(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return world.load([path])


# Data ---------------------------------------------------------------------------------------------


def test_every_figure_has_a_source_or_is_an_assumption(known):
    figures = list(known.constants.items())
    figures += [
        (f"{p.name}.{n}", q) for p in known.platforms.values() for n, q in p.figures.items()
    ]
    assert len(figures) > 200
    for name, q in figures:
        assert bool(q.source) != bool(q.assumption), name
        assert len(q.origin) > 6, name
        assert q.low <= q.value <= q.high, name
    for card in known.workloads.values():
        assert len(card.origin) > 10


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "has no source; write x = {value = 3, source"),
        ({"value": 3}, "x has no source; add source"),
        ({"value": -3, "source": "s"}, "x = -3  must be above zero"),
        ({"value": 3, "low": 4, "source": "s"}, "x is 3, outside its range 4 to 3"),
        ({"value": "3", "source": "s"}, "x = '3' is no number"),
        ({"value": True, "source": "s"}, "x = True is no number"),
        ({"value": math.inf, "source": "s"}, "x = inf  must be above zero"),
        ({"value": 3, "sorce": "s"}, "unknown key 'sorce'"),
        ({"source": "s"}, "x lacks its value"),
        ("3", "x = '3' is no figure"),
    ],
)
def test_nonsense_figures(entry, message):
    with pytest.raises(DataError) as error:
        quantity(entry, "x", file="f.toml")
    assert message in str(error.value)
    assert "f.toml" in str(error.value)


def test_overrides(tmp_path, known):
    mine = assume(
        tmp_path,
        """
        [constants.memory]
        price = 3
        [platforms.appliance-28nm-8gb]
        bandwidth = {value = 40, low = 30, high = 50, source = "measured"}
        [platforms.two-chips]
        base = "appliance-28nm"
        memory = 128
        [workloads.short]
        base = "dense-7b"
        layers = 2
        """,
    )
    price = mine["memory.price"]
    assert (price.low, price.value, price.high, price.unit) == (3, 3, 3, "$/GB")
    assert "mine.toml" in price.source
    assert mine.platform("appliance-28nm-8gb").bandwidth.range == (30, 40, 50)
    assert mine.platform("two-chips").memory.value == 128
    assert mine.platform("two-chips").channels == known.platform("appliance-28nm").channels
    assert mine.workload("short").layers == 2
    assert mine["energy.phy"] == known["energy.phy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[constants.memory]\nprise = 3", "unknown constant 'memory.prise'"),
        ("[constants.memory]\nprice = -3", "memory.price = -3  must be above zero"),
        ("[chips]\nx = 3", "unknown table 'chips'"),
        ("[platforms.ulx3s-85f]\nbandwidth = -1", "ulx3s-85f.bandwidth = -1 GB/s must be above"),
        ("[platforms.ulx3s-85f]\nefficiency = 1.2", "efficiency reaches 1.2; it is a share"),
        ("[platforms.new]\nkind = 'board'", "kind = 'board'; use one of fpga, chip, system"),
        ("[platforms.ulx3s-85f]\nlut = 3", "unknown key 'lut'"),
        ("[workloads.dense-7b]\nlayers = 0", "layers = 0; write a whole number of at least 1"),
        ("[workloads.dense-7b.attention]\nkv_heads = 5", "32 heads do not share 5 KV heads"),
        ("[workloads.moe-20b.feed_forward]\nactive = 200", "200 of 128 experts are active"),
        ("[workloads.dense-7b.trits]\nweights = 6", "trits.weights = 6; use 1 to 5"),
        ("[workloads.dense-7b.trits]\nsparse = 2", "trits.sparse = 2; use 0 to 1"),
        (
            "[workloads.dense-7b.trits]\nsparse = 1\nweights = 3",
            "sparse weights have one trit, not trits.weights = 3",
        ),
        ("[workloads.a]\nbase = 'b'", "a starts from 'b', which is not known"),
        ("x = ", "is not valid TOML"),
    ],
)
def test_nonsense_overrides(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        assume(tmp_path, text)
    assert message in str(error.value)


def test_unknown_names(tmp_path, known):
    with pytest.raises(DataError, match="unknown platform 'ulx4s'; use one of"):
        known.platform("ulx4s")
    with pytest.raises(DataError, match="unknown model 'gpt'; name a checkpoint"):
        known.workload("gpt")
    with pytest.raises(DataError, match="does not exist"):
        world.load([tmp_path / "nothing.toml"])


# Models -------------------------------------------------------------------------------------------


def test_parameters_are_those_that_publishers_state(known):
    for card in known.workloads.values():
        assert card.parameters() == pytest.approx(card.stated["parameters"], rel=0.02), card.name
        if "active" in card.stated:
            assert card.active() == pytest.approx(card.stated["active"], rel=0.02), card.name


def test_cache_of_deepseek(known):
    size = known.workload("deepseek-v3").cache_bytes(Storage.uniform(16), 131072)
    assert size == 576 * 61 * 2 * 131072
    assert round(size / 2**30, 2) == 8.58


def test_demonstration_is_what_inspect_reads(known):
    card = known.workload("demonstration")
    model = readers.read(demonstration())
    weights = sum(
        getattr(layer, name).values.size
        for layer in model.layers
        for name in ("q", "k", "v", "o", "gate", "up", "down")
    )
    moved = card.weights()
    assert moved["attention"] + moved["dense"] == weights
    assert moved["head"] == model.head.size
    assert card.sub_norms
    assert card.trits == {"weights": 1, "head": 5, "group": 0, "sparse": 0}
    path = known.workload(str(demonstration()))
    assert path.weights() == card.weights()


def test_token_bytes(known):
    card, storage = known.workload("deepseek-v3"), Storage.trits(padding=1.0)
    one, eight = (card.token_bytes(storage, 100, n) for n in (1, 8))
    # Eight of 256 experts in 58 layers, three matrices each, of 1.6 bits.
    assert one["routed"] == pytest.approx(8 * 58 * 3 * 7168 * 2048 * 0.2)
    assert one["routed"] < eight["routed"] < 8 * one["routed"]
    assert eight["attention"] == one["attention"]
    assert eight["cache"] == 8 * one["cache"] > 0
    # Recurrences keep a state, whatever the context.
    state = known.workload("matmulfree-2.7b")
    assert state.cache_bytes(storage, 10) == state.cache_bytes(storage, 1000) > 0


def test_storage_of_a_configuration(known):
    config, card = configuration.load("ulx3s"), known.workload("dense-7b")
    three = performance.storage_of(config, card)
    assert three.weights == pytest.approx(1.605, abs=1e-3)
    assert three.key == pytest.approx(4.8 + 16 / 128)
    groups = dataclasses.replace(card, trits={"weights": 1, "head": 5, "group": 128})
    assert performance.storage_of(config, groups).weights == pytest.approx(1.73, abs=0.01)
    path_b = dataclasses.replace(card, trits={"weights": 3, "head": 5, "group": 0})
    assert performance.storage_of(config.replace(code="t4"), path_b).weights > 6
    assert path_b.storage.weights == pytest.approx(3 * card.storage.weights)


def test_sparse_weights(tmp_path, known):
    mine = assume(
        tmp_path, '[workloads.lean]\nbase = "bitnet-2b-4t"\n[workloads.lean.trits]\nsparse = 1\n'
    )
    lean, dense = mine.workload("lean"), known.workload("bitnet-2b-4t")
    assert lean.storage.weights / dense.storage.weights == pytest.approx(1.25 / 1.6)
    assert lean.storage.head == dense.storage.head and "of 1.25 bits" in lean.storage.name
    platform = known.platform("appliance-28nm-4gb")
    config = design.reference(platform, known, dense, positions=512)
    small = design.reference(platform, mine, lean, positions=512)
    assert (config.sparse_code, small.sparse_code) == ("none", "s34")
    assert small.tile_k % 4 == 0
    assert performance.storage_of(small, lean).weights == lean.storage.weights
    assert performance.storage_of(config, lean).weights == dense.storage.weights
    faster = performance.predicted(small, lean, positions=64)
    assert 0.7 < faster / performance.predicted(config, dense, positions=64) < 0.95


def test_padding_is_what_was_measured(known):
    weights = known.workload("bitnet-2b-4t").storage.weights
    assert weights == pytest.approx(known["measured.bits_per_weight"].value, rel=1e-3)


# Speed --------------------------------------------------------------------------------------------


def test_bound(known):
    box, card = known.platform("appliance-28nm"), known.workload("dense-14b")
    limit = performance.bound(box, card, known, positions=2048)
    assert limit.roofline == pytest.approx(51.2e9 / sum(limit.bytes.values()))
    low, middle, high = limit.tokens_per_second
    assert low < middle < high
    assert middle == pytest.approx(0.85 * limit.roofline)
    small = performance.bound(known.platform("ulx3s-85f"), card, known, positions=2048)
    assert not small.fits
    assert small.tokens_per_second == (0, 0, 0)


def test_arithmetic_may_limit(known):
    essay = known.platform("essay-28nm")
    slow = dataclasses.replace(
        essay, figures=essay.figures | {"tops": dataclasses.replace(
            essay.tops, low=0.1, value=0.1, high=0.1)}
    )  # fmt: skip
    card = known.workload("dense-7b")
    rate = performance.bound(slow, card, known).tokens_per_second[1]
    assert rate == pytest.approx(0.1e12 / 2 / card.macs(2048))


def test_energy(known):
    box, card = known.platform("appliance-28nm"), known.workload("dense-14b")
    essay = performance.energy(box, card, known, essay=True)
    moved = sum(performance.bound(box, card, known).bytes.values())
    assert sum(essay.values()) - essay["additions"] == pytest.approx(8 * moved * 20e-12)
    assert essay["additions"] == pytest.approx(card.macs(2048) * 0.03e-12)
    corners = [sum(performance.energy(box, card, known, corner=c, area=20).values())
               for c in range(3)]  # fmt: skip
    assert corners == sorted(corners)


def test_more_sequences_take_more_in_all_and_less_each(known):
    box, card = known.platform("appliance-28nm"), known.workload("dense-7b")
    one, four = (
        performance.bound(box, card, known, sequences=n).tokens_per_second[1] for n in (1, 4)
    )
    assert one < four < 4 * one


# Silicon and cost ---------------------------------------------------------------------------------


def test_die(known):
    # 70,000 mm2 less the edge; 62 mm2 at 0.1 / cm2.
    die = silicon.die(62, known, "28nm")
    assert 950 < die.gross < 1100
    assert die.good == pytest.approx((1 + 0.062 / 3) ** -3)
    assert die.cost == pytest.approx(2891 / die.gross / die.good)
    assert silicon.die(62, known, "28nm", "high").cost > die.cost
    for area in (0, -3, 1000):
        with pytest.raises(DataError, match="cannot be made"):
            silicon.die(area, known, "28nm")
    with pytest.raises(DataError, match="unknown process '1nm'; use one of 28nm, 3nm"):
        silicon.area(configuration.load("ulx3s"), known, "1nm", 4)


def test_memories_are_those_of_the_synthesised_blocks():
    recorded = silicon.recorded()["points"]
    checked = 0
    for point in recorded:
        config = configuration.Config(**point["changes"])
        bits = sum(words * width for words, width, *_ in point["macros"])
        if point["block"] == "engine":
            # Beside activation memory there is a queue of small numbers.
            assert bits == pytest.approx(silicon.memories(config)["activations"], rel=0.01)
            checked += 1
        elif point["block"] == "reader":
            assert bits == silicon.memories(config)["stream FIFO"]
            checked += 1
    assert checked >= 8


def test_area_model_meets_what_it_was_fitted_to(known):
    assert {p["block"] for p in silicon.recorded()["points"]} >= {
        "engine", "vector", "reader", "kv-writer", "scalar", "candidates", "walker", "executor",
        "cpu",
    }  # fmt: skip
    assert max(silicon.fit_errors().values()) < 0.2
    assert max(silicon.fit_errors("lut4").values()) < 0.25
    small = configuration.load("ulx3s")
    large = small.replace(bus_width=128, vectors=8)
    for model in (silicon.gates, lambda c: silicon.ecp5(c, known), silicon.memories):
        assert sum(model(small).values()) < sum(model(large).values())


def test_block_rams_of_the_measured_engines():
    # docs/developer/engine.md: 20 x 4 with one and with four rows, 80 x 4.
    from tamale_model.explore.silicon import _activation_ebr

    base = configuration.Config()
    for changes, expected in (
        ({"tile_rows": 1}, 20), ({}, 96), ({"tile_rows": 1, "bus_width": 128}, 40),
    ):  # fmt: skip
        assert _activation_ebr(base.replace(**changes)) == expected


def test_cost_of_a_box(known):
    box = known.platform("appliance-28nm-8gb")
    total = market.appliance(box, known)
    assert set(total.parts) == set(cost.BOM)
    assert total.total == pytest.approx(
        tuple(sum(v) for v in zip(*total.parts.values(), strict=True))
    )
    assert total.parts["memory"] == pytest.approx(tuple(8 * p for p in known["memory.price"].range))
    low, middle, high = cost.chip(market.total_area(box, known), known, "28nm").total
    assert low < middle < high
    months = cost.break_even_months((100, 100, 100), (0, 0, 0), known)
    assert months == (5, 5, 5)
    assert cost.break_even_months((1,) * 3, (1e6,) * 3, known) == (math.inf,) * 3


def test_reference_is_wider_than_its_memory(known):
    for platform in known.platforms.values():
        if platform.kind != "system":
            config = design.reference(platform, known)
            peak = platform.bandwidth.value * 1e9
            array = config.beat_bytes * config.clock_hz * design.engines(platform, known)
            assert array >= peak, platform.name
    with pytest.raises(DataError, match="nothing to size"):
        design.reference(known.platform("mac-mini-m4"), known)


def test_offers(known):
    found = market.offers("dense-14b", known, goal=10)
    prices = [offer.price[1] for offer in found]
    assert prices == sorted(prices)
    assert all(offer.rate[1] >= 10 for offer in found)
    assert {offer.status for offer in found} == {"sold", "withdrawn", "on paper"}
    assert not market.offers("llama-405b", known, goal=1e6)


def test_pipeline(known):
    card, box = known.workload("deepseek-v3"), known.platform("appliance-28nm")
    three, eight = (market.pipeline(card, box, known, n) for n in (3, 8))
    # Memory adds up, one sequence is no faster; eight in flight are.
    assert eight.single < three.single
    assert 2 < eight.all / three.all < 8 / 3
    with pytest.raises(DataError, match="use 3 boxes or more"):
        market.pipeline(card, box, known, 2)


def test_cluster(known):
    rows = market.cluster(known.workload("deepseek-v3"), known.platform("appliance-28nm"), known)
    assert [row.fits for row in rows[:3]] == [False, False, True]
    assert rows[0].single == 0
    assert rows[-1].all > rows[3].all > 0
    assert rows[-1].price[1] == pytest.approx(64 * rows[0].price[1])


def test_one_device_has_one_capacity(known):
    capacity = {}
    for platform in known.platforms.values():
        if platform.kind == "fpga":
            device = platform.part.rsplit("-", 1)[0].replace("UM5G", "U")
            figures = (platform.lut4.value, platform.ebr.value, platform.dsp.value)
            assert capacity.setdefault(device, figures) == figures, platform.name


def test_boards_are_those_that_are_built(known):
    for board in BOARDS.values():
        platform = known.platform(board.name)
        assert board.platform().device == board.device.name.rsplit("-", 1)[0]
        assert configuration.load(platform.preset).board in (board.name, "simulation")
        assert board.device.ebr == platform.ebr.value


# Fields -------------------------------------------------------------------------------------------


def test_fields():
    rows = list(
        fields.sweep(
            configuration.load("ulx3s"), readers.read(demonstration()), [7],
            ["fifo_beats=64", "memory=ideal"],
        )
    )  # fmt: skip
    assert [row.label for row in rows] == [
        "configuration ulx3s", "fifo_beats = 64", "memory = ideal",
    ]  # fmt: skip
    cycles = [row.cycles[0] for row in rows]
    assert cycles[2] < cycles[0] < cycles[1]
    assert json.dumps(dataclasses.asdict(rows[0]))


@pytest.mark.parametrize("text", ["fifo=3", "vectors", "vectors=", "replace=3"])
def test_unknown_fields(text):
    with pytest.raises(DataError, match="write a field of the configuration and its values"):
        fields.values(configuration.load("ulx3s"), text)


def test_values_of_another_type():
    with pytest.raises(DataError, match="values of vectors must be of type int"):
        fields.values(configuration.load("ulx3s"), "vectors=four")


def test_estimate_meets_the_measured_accelerator(known):
    # One row a tile, without CPU, SDRAM controller and the SoC around them.
    config = configuration.Config(tile_rows=1)
    sizes = silicon.ecp5_blocks(config)
    lut4 = sum(size for block, size in sizes.items() if block != "sdram")
    assert lut4 == pytest.approx(known["measured.accelerator_lut4"].value, rel=0.2)
    ebr = silicon.ecp5(config, known)["ebr"] - silicon.cpu_ebr(config, known)
    assert ebr == pytest.approx(known["measured.accelerator_ebr"].value, rel=0.1)
