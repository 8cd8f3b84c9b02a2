"""The explorer of configurations."""

import pytest
from tamale_model import explore


def test_command(capsys):
    explore.main(["fifo_beats=64", "memory=ideal", "--positions", "7"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "configuration ulx3s",
        "fifo_beats = 64",
        "memory = ideal",
    ]
    cycles = [int(line[28:46].replace(",", "")) for line in lines[1:]]
    assert cycles[2] < cycles[0] < cycles[1]


@pytest.mark.parametrize("text", ["fifo=3", "vectors", "vectors="])
def test_mistakes(text):
    with pytest.raises(ValueError, match="write a field of the configuration and its values"):
        explore.main([text])
