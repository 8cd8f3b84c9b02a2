"""`tamale bench`: the recorded table, what is kept between runs, vectors that share a sweep."""

import json

import numpy as np
import pytest
from tamale import config as configuration
from tamale_sim.bench import baseline, decode, engine, kept, vectors
from tamale_sim.bench.figures import FIGURES
from tamale_sim.cli import bench, main

#: What scripts rely on.
KEYS = {
    "lut4_per_mac", "decoder_lut4_per_weight", "gmacs_per_klut4", "engine_mhz", "roofline",
    "roofline_2k", "stream", "bits_per_weight", "outside_stream",
}  # fmt: skip


def test_recorded(capsys):
    assert main(["bench", "--recorded", "--json"]) == 0
    recorded = json.loads(capsys.readouterr().out)
    assert set(recorded) >= KEYS and set(recorded) & {figure.key for figure in FIGURES} >= KEYS
    row = recorded["engines"][recorded["engine_configuration"].split(",")[0]]
    # Figures 6, 7 and 8 are of one engine, and its slowest seed counts.
    for key in ("lut4_per_mac", "gmacs_per_klut4"):
        assert recorded[key] == row[key]
    assert recorded["engine_mhz"] == row["mhz"] == min(row["mhz_by_seed"])
    assert len(row["mhz_by_seed"]) == engine.SEEDS
    assert main(["bench", "--recorded"]) == 0
    out = capsys.readouterr().out
    assert "figures" in out and "engines" in out


def test_nothing_recorded(capsys, monkeypatch):
    monkeypatch.setattr(baseline, "load", dict)
    assert main(["bench", "--recorded"]) == 1
    assert "no figures are recorded with this version" in capsys.readouterr().err


def test_memory_and_record(capsys, monkeypatch, tmp_path):
    """A part is merged into what is recorded."""
    monkeypatch.setattr(baseline, "load", lambda: {"stream": 0.5, "bits_per_weight": 2.0})
    saved = []
    monkeypatch.setattr(baseline, "save", saved.append)
    assert main(["bench", "--only", "memory", "--record", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert set(measured) == {"bits_per_weight", "bits_per_weight_sparse"}
    assert 1.6 < measured["bits_per_weight"] < 1.62
    assert saved == [{"stream": 0.5, **measured}]


def test_interrupted(capsys, monkeypatch, tmp_path):
    """What was measured is not measured again; another configuration is."""
    monkeypatch.setenv("TAMALE_BUILD", str(tmp_path))
    calls = []

    def measure(config, note):
        calls.append(config.name)
        if len(calls) == 1:
            raise RuntimeError("interrupted")
        return {"vectors": 4}

    monkeypatch.setattr(vectors, "measure", measure)
    assert main(["bench", "--only", "vectors", "--json"]) == 1
    assert not list((tmp_path / "bench").iterdir())
    for preset in ("ulx3s", "ulx3s", "tiny"):
        assert main(["bench", "--config", preset, "--only", "vectors", "--json"]) == 0
    capsys.readouterr()
    assert calls == ["ulx3s", "ulx3s", "tiny"]


def test_kept_decode(tmp_path):
    shares = {"data": 0.9, "refresh": 0.01, "idle_fifo_full": 0.0, "between_jobs": 0.01}
    found = decode.Decode(
        64, 1000.0, 300.0, 990.0, 995.0, 1800.0, 500.0, 2.0, shares, 400.0, 3,
        np.arange(12, dtype=np.uint16).reshape(3, 4),
    )  # fmt: skip
    found.save(tmp_path / "kept.npz")
    again = decode.Decode.load(tmp_path / "kept.npz")
    assert again.roofline == found.roofline == 0.9 and again.shares == shares
    assert (again.bins == found.bins).all()


def test_kept_by_source(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMALE_BUILD", str(tmp_path))
    source = tmp_path / "source.py"
    source.write_text("a = 1\n")
    first = kept.path("part", "a.b", 1, sources=[source])
    assert kept.path("part", "a.b", 1, sources=[source]) == first
    assert kept.path("part", "a.b", 2, sources=[source]) != first
    source.write_text("a = 2\n")
    assert kept.path("part", "a.b", 1, sources=[source]) != first


@pytest.mark.parametrize("matrix", [(6, 100), (6, 20)])
def test_vectors(monkeypatch, matrix):
    """Sixteen vectors of a row of one beat take longer to leave than the memory to bring it."""
    monkeypatch.setattr(vectors, "COUNTS", (1, 4))
    monkeypatch.setattr(vectors, "_MATRICES", (matrix,))
    config = configuration.load("ulx3s")
    result = vectors.measure(config)
    (cycles,) = result["sweep_cycles"].values()
    (least,) = result["sweep_least"].values()
    if matrix[1] == 100:
        # A beat every other cycle: five of trits a row, one of scales for two rows.
        assert result["vectors"] == 4 and cycles == {"1": 65, "4": 65} and least == 65
    else:
        assert cycles["4"] >= cycles["1"] >= least == 17


def test_engines_of_a_preset():
    engines = engine.configurations(configuration.load("ulx3s"))
    assert list(engines) == ["20 x 4", "80 x 1"]
    assert {e.vectors for e in engines.values()} == {4, 1}
    assert bench._PARTS.keys() == {"memory", "vectors", "decode", "context", "engine"}
