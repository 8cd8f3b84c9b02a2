"""What the commands that talk with a board have in common: which board, and how to reach it."""

from tamale import config as configuration

from .. import board as boards
from ..conversation import BoardError, Conversation
from ..link import SerialLink, serial_ports
from ..models_cache import open_image

__all__ = ["add_board_options", "attached", "load_config", "simulated"]


def add_board_options(parser):
    """Add --port, --simulated and what else says which board is meant."""
    parser.add_argument(
        "--port", metavar="DEVICE", help="serial port of the board, such as /dev/ttyUSB0 "
        "(default: the only one on USB)",
    )  # fmt: skip
    parser.add_argument(
        "--simulated", action="store_true", help="the simulated board instead of a real one"
    )
    parser.add_argument(
        "--config", default="ulx3s", help="preset or TOML file of the board (default: ulx3s)"
    )


def load_config(args):
    """Return the `Config` of the board."""
    if args.simulated and args.port:
        raise ValueError("--port is for a real board and --simulated for none; choose one")
    return configuration.load(args.config)


def _only_port():
    ports = serial_ports()
    if len(ports) == 1:
        return ports[0][0]
    if not ports:
        raise BoardError(
            "no USB serial port is plugged in: connect the board's USB port (US1 of a ULX3S) with "
            "a cable that has data lines, or name another port with --port; without a board, "
            "--simulated"
        )
    names = ", ".join(f"{name} ({what})" for name, what in ports)
    raise BoardError(f"there are several serial ports; name one with --port: {names}")


def attached(args, config, note=None):
    """Return the `Conversation` with a real board, greeted."""
    board = Conversation(SerialLink(args.port or _only_port(), config.uart_baud))
    try:
        board.greet(note)
        name = board.state["configuration"]
        if name != config.name and note:
            note(f"the board was built from configuration {name}, not {config.name}: see --config")
    except BaseException:
        board.close()
        raise
    return board


def simulated(args, config, model, note=None, loaded=True):
    """Return (simulated `Board`, `Image`, its path); the memory holds the image if ``loaded``."""
    image, file = open_image(model, config, None, note)
    image.check(config)
    executable = boards.build(config, progress=note)
    if note:
        note(f"booting the simulated board ({config.memory} memory)")
    return boards.Board(executable, config, file if loaded else None), image, file
