"""The whole system's netlist runs to its first tokens: the golden model's, every logit."""

import sys
from pathlib import Path

import pytest
from tamale import config as configuration
from tamale_sim import board as boards
from tamale_sim import gates

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "soc"))

import systems  # noqa: E402

#: Configurations by name, and the arguments of the model where `systems.MODEL` does not fit.
SYSTEMS = {"ulx3s": configuration.load("ulx3s").replace(uart_baud=5_000_000)}


@pytest.mark.long
@pytest.mark.gates("soc")
@pytest.mark.parametrize("name", SYSTEMS)
def test_first_tokens(name, tmp_path, request):
    config = SYSTEMS[name]
    image = systems.pack(config, tmp_path / "image", seed=5)
    prompt, tokens = [3, 17, 5], 2
    executable, made = gates.build(config)
    with boards.Board(executable, config, tmp_path / "image") as board:
        assert board.ready["configuration"] == config.name
        own = systems.run(board, [prompt], tokens)
    expected = systems.golden(image, config, [prompt], tokens)
    assert own.tokens == expected.tokens and own.reasons == expected.reasons
    systems.same_logits(board, image, [own], [expected])
    assert board.summary["reason"] == "halted" and board.summary["violation"] == 0
    request.node.user_properties.append(("cycles", board.summary["cycles"]))
    print(made.cells, board.summary)
