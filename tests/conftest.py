"""Order of the tests: cheap folders first, then those whose single tests take longest."""

from pathlib import Path

_ORDER = ("unit", "model", "soc", "cli", "cocotb")


def pytest_collection_modifyitems(items):
    """Sort by folder; the order within a folder stays."""
    root = Path(__file__).parent

    def rank(item):
        folder = item.path.relative_to(root).parts[0]
        return _ORDER.index(folder) if folder in _ORDER else len(_ORDER)

    items.sort(key=rank)
