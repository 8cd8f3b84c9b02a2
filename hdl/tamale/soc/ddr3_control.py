"""Registers by which software sets DDR3 memory up: commands to the chip, delays of its PHY."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..gateware.litedram import ControlSignature
from .registers import Block, Field, Register, RegisterFile

__all__ = ["Ddr3Control"]

#: Pulses to the PHY, with what they do.
_PULSES = {
    "delay_reset": "The read window of these lanes goes to its first delay.",
    "delay_step": "The read window of these lanes goes one delay further.",
    "slip_reset": "Words of these lanes are not shifted.",
    "slip_step": "Words of these lanes are shifted by one bit more, of four.",
    "seen_clear": "Forgets the bursts that were seen.",
}


def _block(part):
    bank_bits = (part.banks - 1).bit_length()
    return Block(
        "ddr3",
        "Sets DDR3 memory up: commands to the chip, and delays of its PHY.",
        [
            Register(
                "control",
                "Who gives commands, and pins of the chip.",
                [
                    Field("software", 1, "Commands come from here, not the controller.", init=1),
                    Field("cke", 1, "The chip's clock enable, for software."),
                    Field("odt", 1, "The chip's termination, for software."),
                    Field("reset_n", 1, "The chip's reset, for software."),
                ],
            ),
            Register(
                "command",
                "Writing gives the chip a command.",
                [
                    Field("ras", 1, "Row address strobe.", access="wo"),
                    Field("cas", 1, "Column address strobe.", access="wo"),
                    Field("we", 1, "Write enable.", access="wo"),
                    Field("bank", bank_bits, "Bank, or mode register.", access="wo", offset=8),
                    Field("address", part.row_bits, "Address pins.", access="wo", offset=16),
                ],
            ),
            Register(
                "lanes",
                "Byte lanes that training applies to; they do not read while they are selected.",
                [Field("selected", part.lanes, "A bit for each lane.")],
            ),
            Register(
                "training",
                "Delays and shifts of the selected lanes.",
                [Field(name, 1, doc, access="pulse") for name, doc in _PULSES.items()],
            ),
            Register(
                "status",
                "State of the PHY.",
                [
                    Field("ready", 1, "Clocks and delay lines have settled.", access="ro"),
                    Field(
                        "seen", part.lanes, "Lanes of which a whole burst was seen.",
                        access="ro", offset=8,
                    ),
                ],
            ),
        ],
    )  # fmt: skip


class Ddr3Control(wiring.Component):
    """The registers, on the clock of controller and PHY.

    Parameters
    ----------
    part : litedram.Ddr3Part

    Members
    -------
    bus : ``In(block.bus_signature())``
        Registers, see ``block``.
    control : Out(litedram.ControlSignature)
        What follows from them.
    """

    def __init__(self, part):
        self.block = _block(part)
        super().__init__(
            {"bus": In(self.block.bus_signature()), "control": Out(ControlSignature(part))}
        )

    def elaborate(self, platform):
        m = Module()
        control = self.control
        m.submodules.registers = registers = RegisterFile(self.block)
        wiring.connect(m, wiring.flipped(self.bus), registers.bus)
        pins, command, training = registers.control, registers.command, registers.training
        m.d.sync += control.issue.eq(command.write_strobe)
        for name in ("ras", "cas", "we", "bank", "address"):
            m.d.sync += getattr(control, name).eq(getattr(command, name))
        for name in ("software", "cke", "odt", "reset_n"):
            m.d.comb += getattr(control, name).eq(getattr(pins, name))
        for name in _PULSES:
            m.d.comb += getattr(control, name).eq(getattr(training, name))
        m.d.comb += [
            control.lanes.eq(registers.lanes.selected),
            registers.status.ready.eq(control.ready),
            registers.status.seen.eq(control.seen),
        ]
        return m
