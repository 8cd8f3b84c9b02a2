"""The whole board on a second simulator: its first tokens and logits are the golden model's."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import systems
from systems import golden
from tamale.config import Config
from tamale.soc.system import build_firmware, build_soc
from tamale_sim import memory, runner
from tamale_sim.board import BoardTop
from tamale_sim.protocol import Record, RecordParser, commands

#: As small as it gets: Icarus does some hundred cycles a second.
CONFIG = Config(
    name="icarus", vectors=1, vu_width=2, max_k=32, max_context=16, scratchpad_elements=1024,
    program_commands=256, fifo_beats=64, candidates=4, cpu_ram_bytes=32768, clock_hz=80_000_000,
    uart_baud=5_000_000, memory="ideal", memory_bytes=1 << 16,
)  # fmt: skip

MODEL = {
    "hidden": 16, "layers": 1, "heads": 2, "kv_heads": 1, "head_size": 8, "feed_forward": 24,
    "vocabulary": 32, "context": 16,
}  # fmt: skip


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not installed")
def test_first_tokens(tmp_path):
    prompt, tokens = [3, 17], 2
    image = systems.pack(CONFIG, tmp_path / "image", seed=5, **MODEL)
    expected = golden(image, CONFIG, [prompt], tokens)

    soc = build_soc(CONFIG)
    build_firmware(soc, tmp_path)
    simulation = runner.build(
        runner.to_verilog(BoardTop(CONFIG, soc), "board"),
        "board",
        top="icarus_board",
        extra_sources=[
            Path(__file__).with_name("icarus_board.v"), *soc.verilog_sources(), *memory.SOURCES,
        ],
        simulator="icarus",
        waves=False,
    )  # fmt: skip
    lines = [*commands([prompt], tokens, (0.0, 0, 0), False), b"halt"]
    (tmp_path / "commands").write_bytes(b"\n".join(lines) + b"\n")
    result = subprocess.run(
        [
            "vvp", "-n", simulation.directory / "sim.vvp", f"+image={tmp_path / 'image'}",
            f"+commands={tmp_path / 'commands'}", f"+output={tmp_path / 'output'}",
            f"+logits={tmp_path / 'logits'}", f"+divisor={CONFIG.clock_hz // CONFIG.uart_baud}",
            "+limit=600000",
        ],
        capture_output=True, text=True, timeout=3000,
    )  # fmt: skip
    print(result.stdout)
    assert "halted 1 with 0, violation 0" in result.stdout, result.stdout + result.stderr
    records = [
        event
        for event in RecordParser().feed((tmp_path / "output").read_bytes())
        if isinstance(event, Record)
    ]
    assert [int(r["id"]) for r in records if r.kind == "token"] == expected.tokens[0]
    assert [r["reason"] for r in records if r.kind == "done"] == ["length"]
    logits = np.loadtxt(tmp_path / "logits", dtype=np.int64)
    logits = logits[logits[:, 1] < MODEL["vocabulary"]]
    wanted = np.concatenate([job.ravel() for _, job in expected.jobs])
    assert np.array_equal(logits[:, 1], np.tile(np.arange(MODEL["vocabulary"]), tokens))
    assert np.array_equal(logits[:, 2], wanted)
