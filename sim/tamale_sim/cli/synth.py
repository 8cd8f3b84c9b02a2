"""`tamale synth`: area and clock of one block, synthesised and routed."""

import json
import sys

from rich.console import Console
from rich.table import Table
from tamale import config as configuration
from tamale_fpga.blocks import BLOCKS
from tamale_fpga.measure import FAMILIES, measure

from ..runner import build_root

__all__ = ["add", "run"]

#: What a block is routed for, by family.
_DEVICES = {"ecp5": "ECP5-85F grade 6", "gowin": "GW2AR-18 grade C8"}


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "synth",
        help="area and clock of one block on an FPGA",
        description="Synthesises one block with Yosys, places and routes it with nextpnr for an "
        "ECP5-85F of speed grade 6, or for Gowin's GW2AR-18, between registers of a harness, and "
        "prints area of the bare block and clock of each seed. Minutes for large blocks.",
    )
    parser.add_argument("block", choices=sorted(BLOCKS))
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds to route (default: 1)")
    parser.add_argument(
        "--mhz", type=float, default=160, help="clock that nextpnr aims at (default: 160)"
    )
    parser.add_argument("--family", choices=FAMILIES, default="ecp5", help="FPGA (default: ecp5)")
    parser.add_argument("--area", action="store_true", help="synthesise only")
    parser.add_argument("--json", action="store_true", help="print one object")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
    config = configuration.load(args.config)
    result = measure(
        args.block,
        config,
        build_root() / "synth" / f"{args.block}.{config.name}",
        seeds=args.seeds,
        mhz=args.mhz,
        area=args.area,
        family=args.family,
        progress=lambda text: print(f"tamale: {text}", file=sys.stderr),
    )
    if args.json:
        print(json.dumps(result))
        return
    console = Console()
    # Not the table's title, which would be folded to the table's width.
    console.print(f"{args.block}, configuration {config.name}, {_DEVICES[args.family]}")
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
