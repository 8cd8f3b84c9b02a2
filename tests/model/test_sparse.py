"""The sparse code in images: what is packed, what is refused, what it saves."""

import numpy as np
import pytest
from random_models import random_linear, random_model
from tamale import isa
from tamale.config import Config
from tamale.image import ImageError
from tamale_model import imagefile, packing
from tamale_model.machine import decode_sparse, split_scales
from tamale_model.model import LINEARS, Linear

DENSE = Config(
    name="dense", tile_rows=1, vectors=2, vu_width=2, max_context=64, memory_bytes=1 << 20
)
CONFIG = DENSE.replace(name="sparse", sparse_code="s34")


@pytest.mark.parametrize(("rows", "k", "group_size"), [(5, 203, 0), (3, 256, 64), (4, 20, 0)])
@pytest.mark.parametrize(
    "changes", [{}, {"code": "t4", "tile_rows": 2}, {"bus_width": 128, "tile_rows": 2}]
)
def test_round_trip(rows, k, group_size, changes):
    config = CONFIG.replace(**changes)
    linear = random_linear(
        np.random.default_rng(1), rows, k, group_size=group_size, row_scales=True, sparse=True
    )
    packed = packing.describe(config, linear, sparse=True)
    data = b"".join(packing.pack(config, linear, packed))
    sets = packed.tiles * packed.groups
    beats, _ = split_scales(config, np.frombuffer(data, np.uint8), sets, packed.beats, 1)
    beats = beats.reshape(packed.tiles, packed.groups, packed.beats, config.beat_bytes)
    values = decode_sparse(config, beats, packed.tiles, packed.groups, packed.steps)
    size = group_size or k
    got = values[:rows, :, :size].reshape(rows, -1)
    assert np.array_equal(got, linear.values)
    assert packed.beats == -(-packed.steps * config.lanes * 5 // 4 // config.bus_width)


def test_places_that_are_not_sparse():
    values = random_linear(np.random.default_rng(2), 4, 22, sparse=True).values
    assert packing.first_not_sparse(values) is None
    one = values.copy()
    one[2, 8:12] = (1, 0, 0, -1)
    assert packing.first_not_sparse(one) == "row 2, weights 8 to 11: 2 of them are zero, not 1"
    one[2, 8:12] = 1
    assert packing.first_not_sparse(one) == "row 2, weights 8 to 11: 0 of them are zero, not 1"
    one = values.copy()
    one[3, 20:] = 0
    assert packing.first_not_sparse(one) == "row 3, weights 20 to 21: 2 of them are zero, not 1"
    one[3, 20:] = 1
    assert packing.first_not_sparse(one) is None
    assert "groups of 6, which" in packing.first_not_sparse(values, 6)
    assert "groups of 8, which" in packing.first_not_sparse(values, 8)
    linear = Linear(np.ones((4, 20), np.int8), 1)
    packed = packing.describe(CONFIG, linear, sparse=True)
    with pytest.raises(ValueError, match="row 0, weights 0 to 3: 0 of them are zero, not 1; code"):
        list(packing.pack(CONFIG, linear, packed))


def sparse_names(image):
    decoded = [isa.decode(word) for word in image.program]
    found = [
        fields["sparse"]
        for op, fields in decoded
        if op is isa.Op.MATVEC and fields["source"] == isa.Source.LINEAR
    ]
    return dict(zip((*"kvqo", "gate", "up", "down", "head"), found, strict=True))


def test_images(tmp_path):
    path = tmp_path / "image"
    some = random_model(1, sparse=("q", "up"))
    survey = imagefile.build(CONFIG, some, path)
    image = imagefile.load(path)
    assert {name for name, sparse in sparse_names(image).items() if sparse} == {"q", "up"}
    assert set(survey.not_sparse) == set(LINEARS) - {"q", "up"}
    assert "matrix 'k' of layer 0, row 0, weights" in survey.not_sparse["k"]
    assert image.fields["code"] == 3 + (1 << 8)
    image.check(CONFIG)
    with pytest.raises(ImageError, match="packed for code = 259, the hardware has 3"):
        image.check(DENSE)

    every = random_model(1, sparse=LINEARS, hidden=320, feed_forward=640)
    imagefile.build(CONFIG, every, path, sparse="all")
    small = imagefile.load(path)
    imagefile.build(CONFIG, every, path, sparse="none")
    large = imagefile.load(path)
    assert large.fields["code"] == 3
    large.check(CONFIG)
    large.check(DENSE)
    weights = sum(getattr(layer, name).values.size for layer in every.layers for name in LINEARS)
    saved = large.fields["useful_layer_bytes"] - small.fields["useful_layer_bytes"]
    assert saved == pytest.approx((1.6 - 1.25) / 8 * weights, abs=1)
    assert small.fields["sweep_bytes"] < large.fields["sweep_bytes"] - saved / 2

    with pytest.raises(ValueError, match="'k' of layer 0, row 0.*not 1; code s34 needs exactly"):
        imagefile.build(CONFIG, some, path, sparse="all")
    with pytest.raises(ValueError, match="configuration dense has no sparse code"):
        imagefile.build(DENSE, every, path, sparse="all")
    with pytest.raises(ValueError, match="sparse = 'most' is unknown"):
        imagefile.build(CONFIG, every, path, sparse="most")
    assert imagefile.load(path).fields == large.fields


def test_several_planes_are_dense(tmp_path):
    survey = imagefile.build(CONFIG, random_model(1, planes=2), tmp_path / "image")
    assert survey.not_sparse["q"] == "matrix 'q' of layer 0, 2 planes"
    assert not survey.sparse_weights
