"""Longest paths of a synthesised ECP5 netlist, estimated in seconds, before minutes of routing.

Every wire takes as long as its fan-out makes likely, wherever it will lie. So the figures rank
paths; after placement of a chip that is a third full, the longest took a third more.
"""

import collections
import dataclasses
import json
import re

__all__ = ["Path", "longest"]

#: Nanoseconds of cells, speed grade 6, rounded. Source: reports of nextpnr for this family.
_LUT, _CARRY_IN, _CARRY, _MULTIPLIER = 0.24, 0.45, 0.07, 3.5
_REGISTER, _BLOCK_RAM, _OUTPUT_REGISTER, _SETUP = 0.5, 5.8, 1.0, 0.2
#: Nanoseconds of a wire, and for each cell that it goes to, up to a limit.
_WIRE, _FAN_OUT, _FAN_OUT_MOST = 0.75, 0.02, 2.5


@dataclasses.dataclass(frozen=True)
class Path:
    """A path from register to register of one clock.

    Attributes
    ----------
    clock : str
        Net of the clock.
    ns : float
        Estimated nanoseconds.
    nets : tuple of str
        What it runs through, from the register that it starts at.
    end : str
        Cell and pin at its end.
    """

    clock: str
    ns: float
    nets: tuple
    end: str

    @property
    def start(self):
        """The net that it starts at."""
        return self.nets[0]


def _names(design):
    """Return a name for each bit: the shortest that the source gave, else what synthesis made."""
    names = {}
    for name, net in design["netnames"].items():
        hidden = bool(net.get("hide_name")) or name.startswith("$")
        for index, bit in enumerate(net["bits"]):
            rank = (hidden, len(name))
            if bit not in names or rank < names[bit][0]:
                names[bit] = rank, f"{name}[{index}]" if len(net["bits"]) > 1 else name
    return {bit: name for bit, (_, name) in names.items()}


def _arcs(cell):
    """Yield (output bit, [(input bit, ns, is a wire)]) of a combinational cell."""
    kind, pins = cell["type"], cell["connections"]

    def bits(*names):
        return [bit for name in names for bit in pins.get(name, ()) if isinstance(bit, int)]

    if kind in ("LUT4", "PFUMX", "L6MUX21"):
        inputs = bits(*(name for name, way in cell["port_directions"].items() if way == "input"))
        for bit in bits("Z"):
            yield bit, [(source, _LUT, True) for source in inputs]
    elif kind == "CCU2C":
        low = [(source, _CARRY_IN, True) for source in bits("A0", "B0", "C0", "D0")]
        high = [(source, _CARRY_IN, True) for source in bits("A1", "B1", "C1", "D1")]
        carry = [(source, _CARRY, False) for source in bits("CIN")]
        for name, sources in (("S0", low), ("S1", low + high), ("COUT", low + high)):
            for bit in bits(name):
                yield bit, sources + carry
    elif kind == "TRELLIS_DPR16X4":
        for bit in bits("DO"):
            yield bit, [(source, _LUT, True) for source in bits("RAD")]
    elif kind == "MULT18X18D" and cell["parameters"].get("REG_OUTPUT_CLK", "NONE") == "NONE":
        inputs = bits(*(name for name in pins if re.fullmatch(r"[AB]\d+", name)))
        for bit in bits(*(name for name in pins if re.fullmatch(r"P\d+", name))):
            yield bit, [(source, _MULTIPLIER, True) for source in inputs]


def _ends(cell):
    """Yield (pin, bit, bit of its clock, time of an output or None) of a register."""
    kind, pins = cell["type"], cell["connections"]
    clocks = {"": pins.get("CLK") or pins.get("CLK0")}
    if kind == "TRELLIS_FF":
        starts, inputs, time = ("Q",), ("DI", "M", "CE", "LSR"), _REGISTER
    elif kind == "DP16KD":
        clocks = {"A": pins["CLKA"], "B": pins["CLKB"]}
        starts = [pin for pin in pins if pin.startswith("DO")]
        inputs = [
            pin
            for pin, way in cell["port_directions"].items()
            if way == "input" and not pin.startswith("CLK")
        ]
        modes = [cell["parameters"].get(f"REGMODE_{port}") for port in "AB"]
        time = _OUTPUT_REGISTER if "OUTREG" in modes else _BLOCK_RAM
    elif kind == "MULT18X18D" and cell["parameters"].get("REG_OUTPUT_CLK", "NONE") != "NONE":
        starts, inputs, time = [pin for pin in pins if re.fullmatch(r"P\d+", pin)], (), 1.0
    else:
        return
    for pin in (*starts, *inputs):
        # The port of a block RAM is the letter before the number of the pin.
        port = re.sub(r"\d+$", "", pin)[-1:] if "A" in clocks else ""
        (clock,) = clocks.get(port) or clocks.get("") or clocks["A"]
        for bit in pins.get(pin, ()):
            if isinstance(bit, int):
                yield pin, bit, clock, time if pin in starts else None


def longest(netlist, count=20):
    """Return the longest paths, slowest first; of paths alike but for numbers, the slowest.

    Paths from one clock to another are left out: they cross in synchronisers.

    Parameters
    ----------
    netlist : Path
        Yosys' JSON.
    count : int
        Paths to return of each clock.

    Returns
    -------
    list of Path
    """
    modules = json.loads(netlist.read_text())["modules"]
    (design,) = (m for m in modules.values() if m.get("attributes", {}).get("top"))
    fan_out = collections.Counter()
    times, clocks, arcs, ends = {}, {}, {}, []
    for name, cell in design["cells"].items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"].get(pin) == "input":
                fan_out.update(bits)
        arcs.update(_arcs(cell))
        for pin, bit, clock, time in _ends(cell):
            if time is None:
                ends.append((bit, f"{name}.{pin}", clock))
            else:
                times[bit], clocks[bit] = time, clock

    def wire(bit):
        return _WIRE + min(_FAN_OUT_MOST, _FAN_OUT * fan_out[bit])

    before, entered = {}, set()

    def settle(bit):
        """Find the time of a bit, depth first; a loop is cut where it closes."""
        stack = [bit]
        while stack:
            at = stack[-1]
            if at in times:
                stack.pop()
                continue
            waiting = [s for s, *_ in arcs.get(at, ()) if s not in times and s not in entered]
            entered.add(at)
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            best, source = 0.0, None
            for s, delay, is_wire in arcs.get(at, ()):
                time = times.get(s, 0.0) + delay + (wire(s) if is_wire else 0)
                if time > best:
                    best, source = time, s
            times[at], before[at] = best, source

    found = []
    for bit, end, clock in ends:
        settle(bit)
        found.append((times[bit] + wire(bit) + _SETUP, bit, end, clock))
    found.sort(key=lambda item: -item[0])
    names, seen, result, of_clock = _names(design), set(), [], collections.Counter()
    for ns, bit, end, clock in found:
        if of_clock[clock] == count:
            continue
        chain = [bit]
        while before.get(chain[-1]) is not None:
            chain.append(before[chain[-1]])
        if clocks.get(chain[-1]) != clock:
            continue
        nets = tuple(names.get(bit, str(bit)) for bit in reversed(chain))
        key = re.sub(r"\d+", "#", f"{nets[0]} {end}")
        if key in seen:
            continue
        seen.add(key)
        of_clock[clock] += 1
        result.append(Path(names.get(clock, str(clock)), round(ns, 1), nets, end))
    return result
