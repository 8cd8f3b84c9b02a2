"""`tamale synth`: area and clock of one block, synthesised and routed for ECP5."""

import json
import sys

from rich.console import Console
from rich.table import Table
from tamale import config as configuration
from tamale_fpga import ecp5
from tamale_fpga.blocks import BLOCKS
from tamale_fpga.harness import Harness

from ..runner import build_root

__all__ = ["add", "run"]


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "synth",
        help="area and clock of one block on ECP5",
        description="Synthesises one block with Yosys, places and routes it with nextpnr for an "
        "ECP5-85F of speed grade 6, between registers of a harness, and prints area of the bare "
        "block and clock of each seed. Minutes for large blocks.",
    )
    parser.add_argument("block", choices=sorted(BLOCKS))
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds to route (default: 1)")
    parser.add_argument(
        "--mhz", type=float, default=160, help="clock that nextpnr aims at (default: 160)"
    )
    parser.add_argument("--area", action="store_true", help="synthesise only")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
    config = configuration.load(args.config)
    if args.seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, not {args.seeds}")
    directory = build_root() / "synth" / f"{args.block}.{config.name}"

    def note(text):
        print(f"tamale: {text}", file=sys.stderr)

    note(f"synthesising {args.block} for configuration {config.name}")
    cells = ecp5.synthesise(BLOCKS[args.block](config), "block", directory)
    result = {
        "block": args.block,
        "configuration": config.name,
        "lut4": ecp5.lut4_slots(cells),
        "ff": cells.get("TRELLIS_FF", 0),
        "ebr": cells.get("DP16KD", 0) + cells.get("PDPW16KD", 0),
        "dsp": cells.get("MULT18X18D", 0),
        "cells": cells,
        "routed": [],
    }
    if not args.area and result["ff"]:
        harness = Harness(BLOCKS[args.block](config))
        note("synthesising it in its harness")
        own = harness.lut4
        ecp5.synthesise(harness, "top", directory)
        for seed in range(1, args.seeds + 1):
            note(f"placing and routing, seed {seed} of {args.seeds}")
            routed = ecp5.route("top", directory, seed=seed, mhz=args.mhz)
            slots = routed.cells["TRELLIS_COMB"] - own
            result["routed"].append(
                {"seed": seed, "mhz": routed.mhz, "lut4": slots, "cells": routed.cells}
            )
        result["mhz"] = min(entry["mhz"] for entry in result["routed"])
        # What nextpnr placed, the ends of carry chains and paths through cells included.
        result["lut4"] = max(entry["lut4"] for entry in result["routed"])
    if args.block in ("array", "engine"):
        macs = config.lanes * config.vectors
        result |= {"macs_per_cycle": macs, "lut4_per_mac": result["lut4"] / macs}
        if "mhz" in result:
            result["gmacs_per_klut4"] = result["mhz"] * macs / result["lut4"]
    if args.block == "decoder":
        result["lut4_per_weight"] = result["lut4"] / config.trit_code.trits_per_byte
    if args.json:
        print(json.dumps(result))
        return
    console = Console()
    # Not the table's title, which would be folded to the table's width.
    console.print(f"{args.block}, configuration {config.name}, ECP5-85F grade 6")
    table = Table()
    for column in ("LUT4", "FF", "EBR", "DSP", "MHz (seeds)"):
        table.add_column(column, justify="right")
    clocks = ", ".join(f"{entry['mhz']:.1f}" for entry in result["routed"]) or "not routed"
    table.add_row(*(f"{result[key]:,}" for key in ("lut4", "ff", "ebr", "dsp")), clocks)
    console.print(table)
    if "lut4_per_mac" in result:
        console.print(
            f"{result['macs_per_cycle']} MACs per cycle, {result['lut4_per_mac']:.1f} LUT4 per "
            "MAC, decoder and accumulators included"
        )
    if "gmacs_per_klut4" in result:
        console.print(f"{result['gmacs_per_klut4']:.2f} GMAC/s per kLUT4")
    if "lut4_per_weight" in result:
        console.print(f"{result['lut4_per_weight']:.2f} LUT4 per weight")
