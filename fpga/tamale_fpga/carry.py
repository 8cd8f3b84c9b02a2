"""Carry chains of a netlist on their way from Yosys to nextpnr."""

import collections
import re

__all__ = ["BOX", "hide_counters", "show_counters", "trim_carry_ends"]

#: What carry cells of `tamale.gateware.adders.Counter` are called while Yosys maps the rest.
_HIDDEN = "TAMALE_COUNTER"

#: Such a cell in RTLIL: its type stands between the groups.
_COUNTER = re.compile(r"^(\s*cell )\\CCU2C( \\\w+_sum_cell\d+)$", re.MULTILINE)

#: Verilog of the cell for `hide_counters`.
BOX = f"""module {_HIDDEN}(
    input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
    parameter INIT0 = 16'h0000; parameter INIT1 = 16'h0000;
    parameter INJECT1_0 = "YES"; parameter INJECT1_1 = "YES";
endmodule
"""


def hide_counters(text):
    """Return RTLIL whose counters' carry cells are boxes that Yosys knows nothing of; and how many.

    Yosys' mapper looks into carry cells, and by chance it takes the sums of counters for constants
    and drops them, with registers in its view always. The cause is not found.
    """
    return _COUNTER.subn(rf"\1\\{_HIDDEN}\2", text)


def show_counters(design):
    """Make the boxes of `hide_counters` carry cells in a Yosys JSON netlist; return how many."""
    hidden = [
        cell
        for module in design["modules"].values()
        for cell in module["cells"].values()
        if cell["type"] == _HIDDEN
    ]
    for cell in hidden:
        cell["type"] = "CCU2C"
        # nextpnr wants to see the ends of chains, too.
        for pin, way in (("CIN", "input"), ("COUT", "output")):
            cell["connections"].setdefault(pin, ["x"])
            cell["port_directions"].setdefault(pin, way)
    design["modules"].pop(_HIDDEN, None)
    return len(hidden)


def trim_carry_ends(design):
    """Drop the ends of carry chains that lead nowhere, in a Yosys JSON netlist for ECP5.

    Yosys ties an open carry input to a constant and names an unused carry output. nextpnr then adds
    a cell to feed the constant in and one to lead the output out: four LUT4 slots a chain. An
    output that nobody reads is dropped; and an input whose first half cell neither propagates nor
    uses it (its table is zero for C = D = 1, which both are; see ``tamale.gateware.adders``).

    Parameters
    ----------
    design : dict
        The netlist, changed in place.

    Returns
    -------
    (int, int)
        Outputs and inputs that were dropped.
    """
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
    return outputs, inputs
