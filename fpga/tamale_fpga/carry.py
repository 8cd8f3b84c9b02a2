"""Carry chains of a netlist on their way from Yosys to nextpnr."""

import collections
import json
from pathlib import Path

__all__ = ["trim_carry_ends"]


def trim_carry_ends(path):
    """Drop the ends of carry chains that lead nowhere, in a Yosys JSON netlist for ECP5.

    Yosys ties an open carry input to a constant and names an unused carry output. nextpnr then adds
    a cell to feed the constant in and one to lead the output out: four LUT4 slots a chain. An
    output that nobody reads is dropped; and an input whose first half cell neither propagates nor
    uses it (its table is zero for C = D = 1, which both are; see ``tamale.gateware.adders``).

    Parameters
    ----------
    path : str or Path
        The netlist, rewritten in place.

    Returns
    -------
    (int, int)
        Outputs and inputs that were dropped.
    """
    path = Path(path)
    design = json.loads(path.read_text())
    outputs = inputs = 0
    for module in design["modules"].values():
        cells = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
        readers = collections.Counter(
            bit
            for cell in module["cells"].values()
            for bits in cell["connections"].values()
            for bit in bits
        )
        ports = {bit for port in module["ports"].values() for bit in port["bits"]}
        for cell in cells:
            wires, parameters = cell["connections"], cell["parameters"]
            (out,) = wires.get("COUT") or ["x"]
            if isinstance(out, int) and readers[out] == 1 and out not in ports:
                wires["COUT"] = ["x"]
                outputs += 1
            (carry,) = wires.get("CIN") or ["x"]
            kills = int(parameters["INIT0"], 2) >> 12 == 0 and all(
                wires[pin] == ["1"] for pin in ("C0", "D0")
            )
            if carry in ("0", "1") and kills:
                wires["CIN"] = ["x"]
                inputs += 1
    path.write_text(json.dumps(design))
    return outputs, inputs
