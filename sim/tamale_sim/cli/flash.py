"""`tamale flash`: a bitstream and a memory image to a board."""

import shlex
import sys
from pathlib import Path

from tamale import config as configuration
from tamale.image import ImageError
from tamale_fpga import boards, flash
from tamale_model import imagefile

from ..models_cache import is_image

__all__ = ["add", "run"]

#: Where the configuration begins, behind a comment: ECP5, iCE40; Gowin's files are text of bits.
_PREAMBLES = (b"\xff\xff\xbd\xb3", b"\x7e\xaa\x99\x7e", b"\n1010010111000011\n")


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "flash",
        help="a bitstream, a model, or both, to a board",
        description="Programs a board with openFPGALoader. The bitstream goes into the FPGA, which "
        "forgets it without power, or with --spi into the flash that configures the FPGA at each "
        "start; on a board whose core starts from the flash (iCEBreaker) it goes there always, "
        "with the firmware. With --image a memory image goes into the same flash, behind the "
        "bitstream: the board then starts its model without a computer. What the board says comes "
        "over the serial port: tamale console.",
    )
    parser.add_argument("bitstream", nargs="?", help="file of `tamale build`")
    parser.add_argument(
        "--board", default="ulx3s-85f", help=f"one of {', '.join(boards.BOARDS)} "
        "(default: ulx3s-85f)",
    )  # fmt: skip
    parser.add_argument("--spi", action="store_true", help="bitstream to the flash, to stay")
    parser.add_argument("--image", metavar="FILE", help="image of `tamale pack`, to the flash")
    parser.add_argument(
        "--config", help="preset or TOML file that the bitstream was built from (default: the "
        "board's preset)",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true", help="check the files, print the commands, do nothing"
    )
    parser.set_defaults(run=run)


def _check_bitstream(path):
    if not path.is_file():
        raise ValueError(f"bitstream {str(path)!r} does not exist; make one with `tamale build`")
    with open(path, "rb") as file:
        head = file.read(4096)
    if is_image(path):
        raise ValueError(f"{str(path)!r} is a memory image; say --image {path}")
    if not any(preamble in head for preamble in _PREAMBLES):
        raise ValueError(
            f"{str(path)!r} is no bitstream (its preamble is missing); make one with `tamale build`"
        )


def _check_image(path, config):
    if not path.is_file():
        raise ValueError(f"image {str(path)!r} does not exist; make one with `tamale pack`")
    if not is_image(path):
        raise ImageError(f"{str(path)!r} is no memory image; make one with `tamale pack`")
    image = imagefile.load(path)
    image.check(config)
    room = flash.FLASH_BYTES - config.flash_image_offset
    size = path.stat().st_size
    if size > room:
        raise ImageError(
            f"{str(path)!r} has {size:,} bytes, the flash {room:,} behind the bitstream: "
            + (
                "use a smaller model"
                if config.memory == "flash"
                else "copy the image to an SD card as TAMALE.IMG, or load it over the serial port "
                "(`tamale load`)"
            )
        )


def run(args):
    """Run the command."""
    board = boards.find(args.board)
    config = configuration.load(args.config or board.preset)
    if args.bitstream is None and args.image is None:
        raise ValueError("nothing to do: give a bitstream, --image FILE, or both")
    if args.spi and args.bitstream is None:
        raise ValueError("--spi is about the bitstream, and there is none; --image needs no --spi")
    bitstream = Path(args.bitstream) if args.bitstream is not None else None
    image = Path(args.image) if args.image is not None else None
    if bitstream:
        _check_bitstream(bitstream)
    if image:
        _check_image(image, config)
        if not config.storage and config.memory != "flash":
            raise ValueError(
                f"configuration {config.name} has no storage, so its board does not look into the "
                "flash; set storage = true, or load the image over the serial port (`tamale load`)"
            )
    # A core that starts from the flash finds its firmware behind the bitstream there.
    permanent = args.spi or config.memory == "flash"
    lines = flash.commands(
        board.programmer, bitstream, permanent=permanent, image=image,
        offset=config.flash_image_offset,
    )  # fmt: skip
    program = flash.programmer()
    for line in lines:
        print(f"tamale: {shlex.join(['openFPGALoader', *line])}", file=sys.stderr)
        if not args.dry_run:
            flash.run(line, board.programmer, _show)
    if args.dry_run:
        print(f"tamale: {program} would do this; nothing was done", file=sys.stderr)
    elif image and not bitstream:
        print("tamale: the model starts when the board is switched on again", file=sys.stderr)
    return 0


def _show(data):
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()
