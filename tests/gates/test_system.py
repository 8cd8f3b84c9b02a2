"""The netlist that a board gets runs to its first tokens: the golden model's.

The netlist is the routed one: PLL, pads, both clocks, firmware in block RAM. Outside are the
SDRAM with its timing, preloaded with a small model, and a serial port.
"""

import sys
from pathlib import Path

import pytest
from tamale import config as configuration
from tamale_fpga.boards import BOARDS
from tamale_sim import board as boards
from tamale_sim import gates

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soc"))

import systems  # noqa: E402


@pytest.mark.long
@pytest.mark.gates("board")
@pytest.mark.parametrize("name", ["ulx3s-85f"])
def test_first_tokens(name, tmp_path, request):
    board = BOARDS[name]
    config = configuration.load(board.preset)
    image = systems.pack(config, tmp_path / "image", seed=5)
    prompt, tokens, sampling = [3, 17, 5], 3, (1.5, 0, 9)
    executable, made = gates.build(board, config)
    with boards.Board(executable, config, tmp_path / "image") as simulation:
        assert simulation.ready["configuration"] == config.name
        own = systems.run(simulation, [prompt], tokens, sampling=sampling)
    expected = systems.golden(image, config, [prompt], tokens, sampling=sampling)
    # Sampling draws from all candidates, so that the tokens say more than which logit is largest.
    assert own.tokens == expected.tokens and own.reasons == expected.reasons
    assert simulation.summary["reason"] == "halted" and simulation.summary["violation"] == 0
    request.node.user_properties.append(("cycles", simulation.summary["cycles"]))
    print(made.cells, simulation.summary, own.tokens)
