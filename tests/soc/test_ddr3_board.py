"""DDR3 on the simulated board: the firmware trains LiteDRAM's memory, then the model decodes."""

import json
import subprocess

import pytest
import systems
from systems import golden, same_logits
from tamale import config as configuration
from tamale_model import imagefile, readers
from tamale_sim import board as boards
from tamale_sim import ddr3
from tamale_sim.generation import peak_bytes_per_cycle
from tamale_sim.models_cache import demonstration
from tamale_sim.protocol import Record

CONFIG = configuration.load("ecpix5")

#: Least share of the memory's peak for useful bytes of a token.
ROOFLINE = 0.80


@pytest.mark.long
def test_demonstration(tmp_path):
    """Tokens and logits of the golden model, every timing of the chip kept, most of its peak."""
    path = tmp_path / "demo.img"
    imagefile.build(CONFIG, readers.read(demonstration()), path)
    image = imagefile.load(path)
    prompt, tokens = [0, 42, 79, 261, 764], 6
    with boards.Board(boards.build(CONFIG), CONFIG, path) as board:
        own = systems.run(board, [prompt], tokens)
    other = golden(image, CONFIG, [prompt], tokens)
    assert own.tokens == other.tokens and own.reasons == other.reasons
    same_logits(board, image, [own], [other])
    assert board.summary["violation"] == 0 and board.summary["reason"] == "halted"
    jobs = [e for e in own.events if isinstance(e, Record) and e.kind == "job"][1:]
    used = image.fields["useful_layer_bytes"] + image.fields["useful_head_bytes"]
    cycles = sum(int(job["cycles"]) for job in jobs) / len(jobs)
    share = used / (cycles * peak_bytes_per_cycle(CONFIG))
    print(f"{share:.1%} of the peak, {CONFIG.clock_hz / cycles:.1f} tokens/s")
    assert share >= ROOFLINE


@pytest.mark.long
@pytest.mark.parametrize("lane", [0, 1])
def test_dead_lane(lane):
    """An error that names the lane, again at every command, and never a hang."""
    command = [boards.build(CONFIG), f"+dead={lane}", "--clock", str(CONFIG.clock_hz)]
    command += ["--cpu-clock", str(CONFIG.cpu_clock_hz)]
    error = b"\x1eerror what=memory_training lane=%d seen=0\n" % lane
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as board:
        for line in (b"hello 7\n", b""):
            said = list(iter(board.stdout.readline, b"\x1eidle\n"))
            # Lanes before it are trained.
            assert said[-1] == error and len(said) == 1 + lane
            board.stdin.write(line)
            board.stdin.flush()
        rest, log = board.communicate()
    summary = json.loads(log.splitlines()[-1])
    assert not rest and summary["reason"] == "end of input" and summary["violation"] == 0


def test_windows_need_training():
    """Of the model: no lane reads as the PHY is after power-on, and no two are alike."""
    assert len(set(ddr3.WINDOWS)) == len(ddr3.WINDOWS)
    assert all(slip and first for first, _, slip in ddr3.WINDOWS)
