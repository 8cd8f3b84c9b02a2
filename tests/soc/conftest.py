"""Boards of the system tests: built once, booted by each test."""

import os

# Before NumPy's BLAS starts: tests run side by side, each with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest  # noqa: E402
import systems  # noqa: E402
from tamale import config as configuration  # noqa: E402
from tamale_sim import board as boards  # noqa: E402


@pytest.fixture(scope="session")
def four():
    """Executable of the board with four vectors."""
    return boards.build(systems.FOUR)


@pytest.fixture(scope="session")
def demo():
    """Executable of the board that the demonstration model runs on."""
    return boards.build(configuration.load("ulx3s"))


@pytest.fixture(scope="session")
def one():
    """Executable of the board with one vector, and a hole in its memory."""
    return boards.build(systems.ONE, errors=systems.ERRORS)


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Path and `Image` of the random model, packed for either configuration."""
    folder = tmp_path_factory.mktemp("images")
    paths = {config: folder / f"{config.name}.img" for config in (systems.FOUR, systems.ONE)}
    return {config.name: (path, systems.pack(config, path)) for config, path in paths.items()}
