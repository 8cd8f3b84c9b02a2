"""``tamale gates``: names of blocks; the rest is tests/gates."""

from pathlib import Path

from tamale_sim.cli import main
from tamale_sim.cli.gates import BLOCKS


def test_unknown_block(capsys):
    assert main(["gates", "decoder", "alu"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("tamale: unknown block 'alu'; known: accelerator, activation,")


def test_every_block_has_tests():
    tests = Path(__file__).parents[1].rglob("test_*.py")
    marked = "".join(
        line for path in tests for line in path.read_text().splitlines() if "gates(" in line
    )
    assert not [name for name in BLOCKS if f'"{name}"' not in marked]
