"""The whole accelerator equals the golden machine, on random models; deliberate bugs are seen."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from tamale.config import Config, load
from tamale.generate.verilog import TOP, AcceleratorTop, accelerator_verilog
from tamale_model import imagefile
from tamale_sim import runner

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "cocotb"), str(_TESTS / "model")]

from random_models import random_model  # noqa: E402

#: name: (configuration, changes of the model, chunks of (tokens, head), sequences)
VARIANTS = {
    "tiny": (
        load("tiny").replace(memory_bytes=1 << 20, candidates=6),
        {"head_size": 8, "layers": 1, "hidden": 24, "feed_forward": 40, "vocabulary": 40},
        [(1, True), (1, False), (1, True)],
        1,
    ),
    "ulx3s": (
        load("ulx3s").replace(
            max_context=64, max_k=256, scratchpad_elements=8192, fifo_beats=256, memory_bytes=1 <<
            20
        ),
        {"head_size": 16, "planes": 2},
        [(4, False), (4, True), (3, True), (1, True), (1, True)],
        1,
    ),
    "wide": (
        Config(
            name="wide", bus_width=128, tile_rows=8, code="t4", vectors=3, vu_width=4,
            max_context=64, max_k=256, scratchpad_elements=8192, fifo_beats=256, key_planes=2,
            value_planes=5, memory_bytes=1 << 20, candidates=16,
        ),
        {"head_size": 24, "row_scales": True, "heads": 3, "kv_heads": 3},
        [(3, True)] * 9,
        3,
    ),
    "sparse": (
        load("tiny").replace(
            name="sparse", sparse_code="s34", tile_rows=1, vectors=2, memory_bytes=1 << 20
        ),
        {
            "head_size": 8, "layers": 2, "hidden": 42, "feed_forward": 80, "vocabulary": 40,
            "sparse": ("q", "k", "v", "gate", "up", "down"),
        },
        [(2, True), (1, False), (1, True)],
        1,
    ),
}  # fmt: skip


def parameters(name, folder):
    config, changes, chunks, sequences = VARIANTS[name]
    path = folder / f"{name}.image"
    imagefile.build(config, random_model(7, **changes), path)
    return config, {
        "TAMALE_TEST": json.dumps(
            {
                "config": dataclasses.asdict(config),
                "image": str(path),
                "chunks": chunks,
                "sequences": sequences,
                "seed": 3,
            }
        )
    }


def simulate(name, folder, tests, *, simulator="verilator", text=None):
    config, env = parameters(name, folder)
    design = AcceleratorTop(config) if runner.on_netlists() else text or accelerator_verilog(config)
    simulation = runner.build(design, TOP, simulator=simulator)
    return simulation.run("cocotb_accelerator", testcase=tests, seed=11, env=env)


@pytest.mark.gates("accelerator")
@pytest.mark.parametrize("name", VARIANTS)
def test_model(name, tmp_path):
    simulate(name, tmp_path, ["model", "pipelined"])


@pytest.mark.gates("accelerator")
def test_faults_and_checksum(tmp_path):
    simulate("ulx3s", tmp_path, ["faults", "checksum"])


def test_icarus(tmp_path):
    simulate("tiny", tmp_path, ["model"], simulator="icarus")


def test_verilog_depends_on_the_configuration_alone():
    text = accelerator_verilog(VARIANTS["tiny"][0])
    assert text == accelerator_verilog(VARIANTS["tiny"][0])
    assert text.startswith("// Ternary accelerator") and 'name = "tiny"' in text[:300]
    assert str(_TESTS.parent) not in text
    assert f"module {TOP}(" in text
    for port in ("m_axi_awaddr", "m_axi_rready", "s_wb_adr", "irq", "logit_value"):
        assert f" {port};" in text
