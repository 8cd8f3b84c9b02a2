"""What a build became: cells by block, critical paths, and a floor plan."""

import collections
import json
import re

from . import ecp5, gowin, ice40

__all__ = ["block_of", "by_block", "critical_paths", "floor_plan", "parts"]

#: Blocks of the system, from their place in the hierarchy; the first that matches counts.
_BLOCKS = (
    ("cpu", r"soc\.cpu\b"),
    ("cpu memory", r"soc\.ram\b"),
    ("boot ROM", r"soc\.boot\b"),
    ("memory controller", r"memory\.|pads\."),
    ("engine", r"soc\.engine\b"),
    ("flash reader", r"soc\.flash\b"),
    ("array", r"soc\.accelerator\.array\b"),
    ("activation memory", r"soc\.accelerator\.activation\b"),
    ("vector unit", r"soc\.accelerator\.vector"),
    ("scratchpad", r"soc\.accelerator\.scratchpad\b"),
    ("scalar unit", r"soc\.accelerator\.scalar\b"),
    ("kv writer", r"soc\.accelerator\.kv_writer\b"),
    ("dma", r"soc\.accelerator\.(reader|loader|walker)\b"),
    ("sequencer", r"soc\.accelerator\.(executor|program|queue)\b"),
    ("candidates", r"soc\.accelerator\.candidates\b"),
    ("counters", r"soc\.accelerator\.counters\b"),
    ("accelerator, rest", r"soc\.accelerator\b"),
    ("bus and peripherals", r"soc\."),
)  # fmt: skip
_BLOCKS = tuple((name, re.compile(pattern)) for name, pattern in _BLOCKS)

#: LUT4 slots of a cell that nextpnr placed, and what else is counted.
_COUNTED = ecp5.CELLS | gowin.CELLS | ice40.CELLS


def block_of(name):
    """Return the block that a cell or net belongs to, by its hierarchical name."""
    for block, pattern in _BLOCKS:
        if pattern.search(name):
            return block
    return "top"


def _cells(path):
    """Yield (block, type, (x, y) or None) of the cells of a routed design."""
    modules = json.loads(path.read_text())["modules"]
    (design,) = (m for m in modules.values() if m.get("attributes", {}).get("top"))
    # Synthesis names many cells after nothing; the nets that they drive keep their names.
    owner = {}
    for name, net in design["netnames"].items():
        block = block_of(name)
        for bit in net["bits"]:
            if block != "top" or bit not in owner:
                owner[bit] = block
    for name, cell in design["cells"].items():
        block = block_of(name)
        if block == "top":
            outputs = (
                bit
                for port, direction in cell["port_directions"].items()
                if direction == "output"
                for bit in cell["connections"].get(port, ())
            )
            block = next((owner[bit] for bit in outputs if owner.get(bit, "top") != "top"), block)
        place = re.match(r"X(\d+)/?Y(\d+)/", cell["attributes"].get("NEXTPNR_BEL", ""))
        yield block, cell["type"], place and (int(place[1]), int(place[2]))
        if int(cell.get("parameters", {}).get("DFF_ENABLE", "0"), 2):  # iCE40: in the same cell
            yield block, "ICESTORM_LC.DFF", None


def by_block(routed):
    """Return ``{block: {"lut4": n, "ff": n, "ebr": n, "dsp": n}}`` of a routed design.

    Parameters
    ----------
    routed : Path
        What nextpnr wrote.
    """
    result = collections.defaultdict(collections.Counter)
    for block, kind, _ in _cells(routed):
        if kind in _COUNTED:
            result[block][_COUNTED[kind]] += 1
    return {
        block: {name: counts[name] for name in ("lut4", "ff", "ebr", "dsp")}
        for block, counts in sorted(result.items(), key=lambda item: -item[1]["lut4"])
    }


def parts(resources):
    """Return ``{"lut4": part, ...}`` of a device that is in use, like `by_block`.

    Parameters
    ----------
    resources : dict
        Used and available cells by nextpnr's names.
    """
    result = dict.fromkeys(("lut4", "ff", "ebr", "dsp"), 0.0)
    for name, (used, available) in resources.items():
        if name in _COUNTED:
            # An adder of Gowin's is a look-up table, too; there are as many places as tables.
            there = resources["LUT4"][1] if name == "ALU" else available
            result[_COUNTED[name]] += used / there
    return result


def critical_paths(report):
    """Return the slowest path of each clock: its domain's net, ends, nanoseconds, and its steps.

    Parameters
    ----------
    report : Path
        nextpnr's report.
    """
    paths = []
    for path in json.loads(report.read_text())["critical_paths"]:
        if path["from"] != path["to"]:  # between clocks: synchronisers
            continue
        steps = path["path"]
        total = collections.Counter()
        for step in steps:
            total[step["type"]] += step["delay"]
        paths.append(
            {
                "clock": path["from"].split()[-1],
                "from": steps[0]["from"]["cell"],
                "to": steps[-1]["to"]["cell"],
                "ns": round(sum(total.values()), 2),
                "routing_ns": round(total["routing"], 2),
                "levels": sum(step["type"] == "logic" for step in steps),
                "nets": [step["net"] for step in steps if step["type"] == "routing"],
            }
        )
    return paths


def floor_plan(routed, title, path):
    """Draw where the blocks of a routed design lie.

    Parameters
    ----------
    routed : Path
        What nextpnr wrote.
    title : str
    path : path
        Picture, by its suffix.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    places = collections.defaultdict(list)
    sizes = collections.Counter()
    for block, kind, place in _cells(routed):
        if place and kind in _COUNTED:
            places[block].append((*place, kind))
            sizes[block] += _COUNTED[kind] == "lut4"
    figure, axes = plt.subplots(figsize=(12, 9.5), layout="constrained")
    colours = plt.get_cmap("tab20")
    for i, block in enumerate(sorted(places, key=lambda block: -sizes[block])):
        x, y, kinds = zip(*places[block], strict=True)
        large = [9 if _COUNTED[kind] in ("ebr", "dsp") else 2 for kind in kinds]
        axes.scatter(
            x, y, s=large, marker="s", linewidths=0, color=colours(i % 20),
            label=f"{block} ({sizes[block]:,} LUT4)",
        )  # fmt: skip
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set(title=title, xlabel="column", ylabel="row")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=4, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
