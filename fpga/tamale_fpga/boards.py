"""Boards that the project builds for."""

import dataclasses
import functools
import importlib

from tamale_model.explore import world

from .area import Device

__all__ = ["BOARDS", "Board", "find"]


@dataclasses.dataclass(frozen=True)
class Board:
    """A development board that `tamale explore` knows as a platform: price, memory, capacity.

    Parameters
    ----------
    name : str
        Of the platform of models, too.
    platform_class : str
        ``module:class`` of its platform for Amaranth.
    programmer : str
        Name under which openFPGALoader knows it.
    memory : str
        What the model's image lies in.
    family : str
        Of its FPGA, a key of `area.FABRICS`.
    """

    name: str
    platform_class: str
    programmer: str
    memory: str
    family: str = "ecp5"

    def platform(self):
        """Return a new platform object; a platform builds one design."""
        module, name = self.platform_class.split(":")
        return getattr(importlib.import_module(module), name)()

    @functools.cached_property
    def figures(self):
        """What is known of it, a `tamale_model.explore.platform.Platform`."""
        return world.load().platform(self.name)

    @property
    def preset(self):
        """Configuration that is sized for it."""
        return self.figures.preset

    @property
    def device(self):
        """Its FPGA, an `area.Device`."""
        known = self.figures
        counts = (round(known.get(name).value) for name in ("lut4", "ebr", "dsp"))
        return Device(known.part, self.family, *counts)


_ULX3S = "amaranth_boards.ulx3s:ULX3S_{}_Platform"

BOARDS = {
    board.name: board
    for board in (
        Board("ulx3s-85f", _ULX3S.format("85F"), "ulx3s", "32 MB SDRAM, 16 bits"),
        Board("ulx3s-45f", _ULX3S.format("45F"), "ulx3s", "32 MB SDRAM, 16 bits"),
        Board(
            "icepi-zero", "tamale_fpga.platforms:IcepiZero", "icepi-zero",
            "32 MB SDRAM, 16 bits",
        ),
        Board(
            "tang-nano-20k", "tamale_fpga.platforms:TangNano20K", "tangnano20k",
            "8 MB SDRAM in the package, 32 bits", "gowin",
        ),
        Board(
            "ecpix5-85f", "tamale_fpga.platforms:Ecpix5", "ecpix5", "512 MB DDR3, 16 bits"
        ),
        Board(
            "icebreaker", "amaranth_boards.icebreaker:ICEBreakerPlatform", "ice40_generic",
            "16 MB flash, 128 KiB on chip", "ice40",
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
