"""Bits per weight in memory on the geometry of BitNet b1.58 2B-4T."""

import json

import numpy as np
import pytest
from tamale import config as configuration
from tamale.config import Config
from tamale_model import bits, packing
from tamale_model.model import Linear


@pytest.mark.parametrize("name", [None, *configuration.preset_names()])
def test_whole_rows(name):
    config = configuration.load(name) if name else Config()
    result = bits.measure(config)
    assert result.code == 1.6
    # With one row a tile, the row's scale has a beat for itself.
    assert 1.6 < result.total <= (1.61 if config.tile_rows > 1 else 1.6111)


@pytest.mark.parametrize("group_size", [64, 128, 256])
def test_groups(group_size):
    result = bits.measure(Config(), group_size=group_size)
    assert result.scales == pytest.approx(16 / group_size)
    assert 0 <= result.padding < 0.05


def test_two_bits():
    assert bits.measure(Config(code="t4")).total == pytest.approx(2.005, abs=0.002)


def test_sparse_code():
    """One row a tile, the scales of two rows in a beat: 1.2564 bits."""
    config = Config(tile_rows=1, sparse_code="s34")
    assert bits.measure(config, sparse=True).total == pytest.approx(1.2564, abs=5e-5)
    four = Config(code="t4", tile_rows=1, sparse_code="s34")
    assert bits.measure(four, sparse=True).total == pytest.approx(1.2552, abs=5e-5)


@pytest.mark.parametrize(("rows", "k", "group_size"), [(13, 75, 0), (5, 200, 64), (8, 130, 128)])
@pytest.mark.parametrize("changes", [{}, {"bus_width": 128, "tile_rows": 8}])
def test_counts_what_is_packed(rows, k, group_size, changes):
    config = Config(**changes)
    groups = -(-k // group_size) if group_size else 1
    scales = np.ones((rows, groups), np.float32)
    linear = Linear(np.ones((rows, k), np.int8), 1, 1.0, scales, group_size)
    size = len(b"".join(packing.pack(config, linear, packing.describe(config, linear))))
    result = bits.measure(config, group_size=group_size, geometry=[(rows, k)])
    assert result.total == pytest.approx(8 * size / (rows * k))


def test_command(capsys):
    bits.main([])
    assert "a row" in capsys.readouterr().out
    bits.main(["--config", "tiny", "--json"])
    assert json.loads(capsys.readouterr().out)["row"]["total"] <= 1.61


def test_command_with_sparse_code(tmp_path, capsys):
    path = tmp_path / "sparse.toml"
    path.write_text('sparse_code = "s34"\ntile_rows = 1\n')
    bits.main(["--config", str(path)])
    assert "code s34" in capsys.readouterr().out
    bits.main(["--config", str(path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["s34"]["row"]["total"] < 1.27 < found["row"]["total"]
