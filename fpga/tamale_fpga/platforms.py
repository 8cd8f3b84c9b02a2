"""Platforms of boards as our system uses their pins, where amaranth-boards has another use."""

from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
from amaranth.vendor import GowinPlatform
from amaranth_boards.ecpix5 import ECPIX585Platform
from amaranth_boards.icepi_zero import IcepiZero1_3Platform
from amaranth_boards.resources import LEDResources, UARTResource

__all__ = ["Ecpix5", "IcepiZero", "TangNano20K"]


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


def _sites(text):
    """Return Gowin's names of pads, such as IOR11B, from sides, rows and letters."""
    return " ".join(f"IO{site}" for site in text.split())


class TangNano20K(GowinPlatform):
    """Tang Nano 20K: GW2AR-18 with 8 MB of 32-bit SDRAM in the package.

    The SDRAM's pads are no pins: they are named by their places. Sources: schematic and wiki of the
    board (Sipeed); Apicula, "SDRAM", for the places.
    """

    part = "GW2AR-LV18QN88C8/I7"
    family = "GW2AR-18C"
    device = "GW2AR-18"
    #: Name of the die in the tools' data bases.
    chipdb = "GW2A-18C"
    default_clk = "clk27"
    _IO = {"IO_TYPE": "LVCMOS33"}
    resources = [
        Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), Attrs(**_IO)),
        *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=Attrs(**_IO)),
        UARTResource(0, rx="70", tx="69", attrs=Attrs(**_IO, PULL_MODE="UP")),
        Resource(
            "sdram", 0,
            Subsignal("clk", Pins(_sites("R11B"), dir="o")),
            Subsignal("clk_en", Pins(_sites("L13A"), dir="o")),
            Subsignal("cs", PinsN(_sites("L14B"), dir="o")),
            Subsignal("cas", PinsN(_sites("L14A"), dir="o")),
            Subsignal("ras", PinsN(_sites("L13B"), dir="o")),
            Subsignal("we", PinsN(_sites("L12B"), dir="o")),
            Subsignal("dqm", Pins(_sites("L12A R11A L18A R15B"), dir="o")),
            Subsignal(
                "a", Pins(_sites("R14A R13B R14B R15A L16B L17B L16A L17A L15B L15A R12B"), dir="o")
            ),
            Subsignal("ba", Pins(_sites("R13A R12A"), dir="o")),
            Subsignal(
                "dq",
                Pins(
                    _sites(
                        "L3A L3B L8A L8B L9A L9B L11A L11B R9B R9A R5B R6A R5A R4B R3B R3A "
                        "L39B L39A L35B L35A L30B L30A L20A L18B "
                        "R17A R16A R16B R17B R18A R18B R44A R44B"
                    ),
                    dir="io",
                ),
            ),
            Attrs(**_IO),
        ),
    ]  # fmt: skip
    connectors = []


class Ecpix5(ECPIX585Platform):
    """ECPIX-5 with the 85F: plain LEDs (the green ones), configuration flash, and the SD card.

    amaranth-boards has the two data pins of the flash the other way round, and no card. Four level
    shifters between FPGA and card take their direction from pins.

    Source: constraints of the board in litex-boards; pins' functions in the device database of
    Project Trellis (AE2 is MOSI, AD2 MISO).
    """

    resources = [
        *(
            r
            for r in ECPIX585Platform.resources
            if r.name != "rgb_led" and not r.name.startswith("spi_flash")
        ),
        *LEDResources(
            pins="R21 T22 W21 K24", invert=True,
            attrs=Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"),
        ),
        Resource(
            "spi_flash", 0,
            Subsignal("cs", PinsN("AA2", dir="o")),
            Subsignal("copi", Pins("AE2", dir="o")),
            Subsignal("cipo", Pins("AD2", dir="i")),
            Subsignal("wp", PinsN("AF2", dir="o")),
            Subsignal("hold", PinsN("AE1", dir="o")),
            Attrs(IO_TYPE="LVCMOS33"),
        ),
        Resource(
            "sd_card_spi", 0,
            Subsignal("clk", Pins("P24", dir="o")),
            Subsignal("copi", Pins("M24", dir="o"), Attrs(PULLMODE="UP")),
            Subsignal("cipo", Pins("N26", dir="i"), Attrs(PULLMODE="UP")),
            Subsignal("cs", PinsN("N21", dir="o"), Attrs(PULLMODE="UP")),
            Subsignal("outwards", Pins("M23 P26", dir="o")),
            Subsignal("inwards", Pins("N24", dir="o")),
            Attrs(IO_TYPE="LVCMOS33"),
        ),
    ]  # fmt: skip
