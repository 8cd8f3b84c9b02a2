"""Output registers of block RAM, into which a netlist's own registers behind it move."""

import collections

__all__ = ["absorb_registers"]

#: Parameters of a register that does what an output register does: every rising edge, no more.
#: It starts as zero, as that of a block RAM does.
_PLAIN = {"CLKMUX": "CLK", "CEMUX": "1", "REGSET": "RESET", "GSR": "DISABLED"}


def _is_plain(cell):
    """Whether a register has neither a reset nor an enable: CEMUX says whether its pin matters."""
    parameters, wires = cell["parameters"], cell["connections"]
    return (
        all(parameters.get(name, value).strip() == value for name, value in _PLAIN.items())
        and wires.get("LSR", ["0"])[0] in ("0", "x")
        and len(wires.get("DI", ())) == 1
    )


def absorb_registers(design):
    """Move registers behind block RAM into its output registers, in a Yosys JSON netlist for ECP5.

    A block RAM without its output register takes 5.8 ns from the clock to its outputs. Yosys infers
    none. Where every output of a port, if it is read at all, is read by one register only, and that
    has the port's clock, no reset and no enable, these registers are dropped: the port's own do the
    same. Ports of 36 bits have the pins of both; they are left as they are.

    Parameters
    ----------
    design : dict
        The netlist, changed in place.

    Returns
    -------
    int
        Registers that were moved.
    """
    moved = 0
    for module in design["modules"].values():
        cells = module["cells"]
        readers = collections.defaultdict(list)
        for name, cell in cells.items():
            for pin, bits in cell["connections"].items():
                if cell["port_directions"][pin] == "input":
                    for bit in bits:
                        readers[bit].append((name, pin))
        outside = {bit for port in module["ports"].values() for bit in port["bits"]}
        for cell in [c for c in cells.values() if c["type"] == "DP16KD"]:
            wide = any(int(cell["parameters"][f"DATA_WIDTH_{port}"], 2) > 18 for port in "AB")
            for port in "" if wide else "AB":
                moved += _absorb(cells, cell, port, readers, outside)
    return moved


def _absorb(cells, cell, port, readers, outside):
    """Do this for a port of a block RAM; return the number of registers."""
    wires, parameters = cell["connections"], cell["parameters"]
    clock, inverted = wires[f"CLK{port}"], parameters[f"CLK{port}MUX"] == "INV"
    free = (
        parameters[f"REGMODE_{port}"] == "NOREG"
        and not inverted
        and wires[f"RST{port}"][0] in ("0", "x")
    )
    found = {}
    for pin in (f"DO{port}{n}" for n in range(18)):
        (bit,) = wires.get(pin) or ["x"]
        if bit in outside:
            return 0
        if not isinstance(bit, int) or not readers[bit]:
            continue
        ((name, input_pin), *more) = readers[bit]
        register = cells[name]
        if more or register["type"] != "TRELLIS_FF" or input_pin != "DI":
            return 0
        if not _is_plain(register) or register["connections"]["CLK"] != clock:
            return 0
        found[pin] = name
    if not free or not found:
        return 0
    for pin, name in found.items():
        wires[pin] = cells.pop(name)["connections"]["Q"]
    parameters[f"REGMODE_{port}"] = "OUTREG"
    wires[f"OCE{port}"] = ["1"]
    return len(found)
