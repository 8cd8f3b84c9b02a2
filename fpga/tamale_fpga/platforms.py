"""Platforms of boards as our system uses their pins, where amaranth-boards has another use."""

from amaranth.build import Attrs, Pins, PinsN, Resource, Subsignal
from amaranth_boards.icepi_zero import IcepiZero1_3Platform

__all__ = ["IcepiZero"]


class IcepiZero(IcepiZero1_3Platform):
    """Icepi Zero with the configuration flash as one resource, without its clock, which is no pin.

    Source: constraints of the board, revision 1.3, as amaranth-boards has them.
    """

    resources = [
        *(r for r in IcepiZero1_3Platform.resources if not r.name.startswith("spi_flash")),
        Resource(
            "spi_flash", 0,
            Subsignal("cs", PinsN("N8", dir="o")),
            Subsignal("copi", Pins("T8", dir="o")),
            Subsignal("cipo", Pins("T7", dir="i")),
            Subsignal("wp", PinsN("M7", dir="o")),
            Subsignal("hold", PinsN("N7", dir="o")),
            Attrs(IO_TYPE="LVCMOS33", DRIVE="4", PULLMODE="UP"),
        ),
    ]  # fmt: skip
