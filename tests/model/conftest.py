"""Fixtures of the model tests."""

import os
from importlib import resources

# Before NumPy's BLAS starts: tests run side by side, each with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def demo_folder():
    """Folder of the demonstration model's checkpoint."""
    with resources.as_file(resources.files("tamale_model") / "data" / "demo") as folder:
        yield folder
