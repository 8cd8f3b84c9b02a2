"""The `tamale` command: a module per subcommand, with ``add(subparsers)`` and ``run(args)``."""

import argparse
import sys

from tamale.image import ImageError
from tamale_model.readers import CheckpointError
from tamale_model.tokenizer import TokenizerError

from ..board import BoardError
from . import (
    bench,
    build,
    console,
    explore,
    flash,
    gates,
    generate,
    inspect,
    load,
    pack,
    quantise,
    run,
    selftest,
    synth,
    test,
)

__all__ = ["main"]

_EPILOG = """\
examples:
  tamale run --prompt "In the beginning"       a model writes on the simulated board
  tamale run --backend golden --tokens 400     the same text from the golden model, in seconds
  tamale generate --config ulx3s -o rtl        Verilog, C header, SVD and register map
  tamale inspect model.gguf                    what is in a checkpoint, and what runs it
  tamale pack ./checkpoint -o model.img        memory image of a checkpoint
  tamale quantise ./llama -o trits --trits 3   three trits a weight of a float checkpoint
  tamale flash top.bit --spi --image demo.img  both to the board's flash, to stay
  tamale load --port /dev/ttyUSB0              the demonstration model to a board
  tamale console                               a terminal with the model on the board
  tamale selftest                              memory, known answers, one digest of a board
  tamale synth array --config ulx3s            area and clock of one block on ECP5
  tamale build --board ulx3s-85f               a bitstream for a board
  tamale bench --recorded                      the figures that this version reached
  tamale gates reader                          tests of one block on its netlist
  tamale explore essay                         the essay's claims, with arithmetic and verdict
  tamale test                                  every test
"""


def main(argv=None):
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="tamale",
        description="Generator of hardware that runs ternary language models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (
        run, inspect, generate, pack, quantise, synth, build, flash, load, console, selftest, bench,
        gates, explore, test,
    ):  # fmt: skip
        module.add(subparsers)
    args = parser.parse_args(argv)
    try:
        return args.run(args) or 0
    except (
        BoardError, CheckpointError, ImageError, OSError, RuntimeError, TokenizerError,
        ValueError,
    ) as error:  # fmt: skip
        print(f"tamale: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tamale: interrupted", file=sys.stderr)
        return 130
