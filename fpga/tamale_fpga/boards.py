"""Boards that the project builds for."""

import dataclasses
import importlib

__all__ = ["BOARDS", "Board", "find"]


@dataclasses.dataclass(frozen=True)
class Board:
    """A development board.

    Parameters
    ----------
    name : str
    platform_class : str
        ``module:class`` of its platform.
    preset : str
        Configuration that is sized for it.
    programmer : str
        Name under which openFPGALoader knows it.
    memory : str
        What the model's image lies in.
    usd : float
        Price, as of 2026.
    """

    name: str
    platform_class: str
    preset: str
    programmer: str
    memory: str
    usd: float

    def platform(self):
        """Return a new platform object; a platform builds one design."""
        module, name = self.platform_class.split(":")
        return getattr(importlib.import_module(module), name)()


BOARDS = {
    board.name: board
    for board in (
        Board(
            "ulx3s-85f", "amaranth_boards.ulx3s:ULX3S_85F_Platform", "ulx3s", "ulx3s",
            "32 MB SDRAM, 16 bits", 155,
        ),
    )
}  # fmt: skip


def find(name):
    """Return the `Board` of a name.

    Raises
    ------
    ValueError
        If there is none; the message lists those that there are.
    """
    if name not in BOARDS:
        raise ValueError(f"unknown board {name!r}; known: {', '.join(BOARDS)}")
    return BOARDS[name]
