"""Sends a memory image to a board over its serial port; docs/user/protocol.md has the grammar."""

import dataclasses
import struct
import time
import zlib
from pathlib import Path

from .conversation import BoardError
from .link import LinkError
from .messages import explain

__all__ = ["SPEEDS", "Loaded", "frame", "load", "missing"]

#: Speeds that are tried, in bits per second; the board refuses what its clock cannot make.
SPEEDS = (3_000_000, 2_000_000, 1_500_000, 1_000_000, 460_800)

#: Silence that ends a load on the board's side, in milliseconds.
_PATIENCE_MS = 2000
#: Answers `again` or none in a row, after which the line counts as too bad.
_TRIES = 8
#: Most checksums that are asked for at once.
_SUMS = 1024


@dataclasses.dataclass
class Loaded:
    """What a load did.

    Attributes
    ----------
    bytes : int
        Of the image.
    sent, held : int
        Bytes that were sent, and that the board held already.
    repeated : int
        Blocks that were sent again.
    baud : int
        Bits per second of the transfer; 0 if nothing had to be sent.
    seconds : float
        Of the transfer.
    """

    bytes: int
    sent: int = 0
    held: int = 0
    repeated: int = 0
    baud: int = 0
    seconds: float = 0.0

    @property
    def rate(self):
        """Bytes per second of what was sent."""
        return self.sent / self.seconds if self.seconds else 0.0


def frame(offset, data):
    """Return the bytes of a frame; without data it ends the load."""
    header = struct.pack("<3I", offset, len(data), zlib.crc32(data))
    return header + struct.pack("<I", zlib.crc32(header)) + data


def missing(board, data):
    """Return the (offset, size) of the parts of an image that the board's memory does not hold.

    Parameters
    ----------
    board : Conversation
    data : bytes-like
    """
    part = 2048
    while part * _SUMS < len(data):
        part *= 2
    pieces = [(at, min(part, len(data) - at)) for at in range(0, len(data), part)]
    whole = len(data) // part
    sums = []
    for offset, size, count in ((0, part, whole), (whole * part, len(data) % part, 1)):
        if size and count:
            record = board.command(f"sums {offset} {size} {count}", "sums")
            sums += record.numbers("c")
    if len(sums) != len(pieces):
        raise BoardError(f"the board gave {len(sums)} checksums where {len(pieces)} were due")
    return [
        (at, size)
        for (at, size), own in zip(pieces, sums, strict=True)
        if own != zlib.crc32(data[at : at + size])
    ]


def load(board, image, *, baud=None, progress=None, patience_ms=_PATIENCE_MS):
    """Bring a board's memory to hold an image, and start it.

    Parts that the memory holds already are not sent: after an interruption the same call goes on
    where it stopped.

    Parameters
    ----------
    board : Conversation
        Idle.
    image : path
    baud : int, optional
        Bits per second of the transfer; by default the fastest that works. 0: the usual speed.
    progress : callable, optional
        Called with (bytes that are right, bytes of the image).
    patience_ms : int
        Milliseconds of silence after which the board gives up.

    Returns
    -------
    Loaded

    Raises
    ------
    BoardError
        If the board refuses the image, or the line is too bad; the message says so.
    """
    data = memoryview(Path(image).read_bytes())
    result = Loaded(len(data))
    try:
        parts = missing(board, data)
    except BoardError as error:
        if error.record is not None and error.record["what"] == "bad_range":
            raise BoardError(
                f"the image has {len(data):,} bytes, the board's memory "
                f"{int(error.record['memory']):,}; pack the model with a smaller context, or use a "
                "board with more memory"
            ) from None
        raise
    result.held = len(data) - sum(size for _, size in parts)
    if progress:
        progress(result.held, len(data))
    started = time.monotonic()
    usual = board.link.baud
    for speed in (baud,) if baud is not None else SPEEDS if parts else (0,):
        transfer = _Transfer(board, data, parts, result, progress, patience_ms)
        try:
            if transfer.run(speed, usual):
                break
        except LinkError as error:
            # This port does not do the speed; another one may be fast enough.
            if baud is not None or isinstance(error, BoardError):
                raise
    else:
        raise BoardError(
            "no block arrived whole at any speed; is the cable short and plugged in directly? "
            f"{usual} bits per second worked for commands: try --baud {usual}"
        )
    result.seconds = time.monotonic() - started
    if not board.ready:
        raise board.errors[0] if board.errors else BoardError("the board has no image after all")
    return result


class _Transfer:
    """One load at one speed."""

    def __init__(self, board, data, parts, result, progress, patience_ms):
        self._board, self._data, self._parts = board, data, parts
        self._result, self._progress, self._patience_ms = result, progress, patience_ms
        self._patience = board.link.patience
        self._arrived = False

    def run(self, speed, usual):
        """Load; give False if the board cannot do this speed, or nothing arrives at it."""
        board = self._board
        board.send(f"load {len(self._data)} {speed} {self._patience_ms}")
        try:
            answer = board.expect("loading")
        except BoardError as error:
            if error.record is not None and error.record["what"] == "bad_baud":
                return False
            raise
        ended = False
        try:
            if speed:
                board.link.set_baud(speed)
            self._result.baud = speed or usual
            works = self._send(int(answer["block"]), int(answer["window"]))
            ended = True
        finally:
            # Also after Ctrl-C, between two frames: the board gets back to its usual speed.
            self._end(usual, ended and works)
        return works

    def _send(self, block, window):
        """Send all blocks; give False if the first one does not arrive."""
        board, link = self._board, self._board.link
        waiting, tries = {}, 0
        todo = [
            (offset, self._data[offset : min(offset + block, at + size)])
            for at, size in self._parts
            for offset in range(at, at + size, block)
        ]
        todo.reverse()
        while todo or waiting:
            # The speed is new: one block shows whether it works.
            while todo and len(waiting) < (window if self._arrived else 1):
                offset, part = todo.pop()
                waiting[offset // block] = (offset, part)
                link.write(frame(offset, part))
            record = board.next_record(self._patience)
            if record is not None and record.kind == "got":
                arrived = waiting.pop(int(record["n"]), None)
                if arrived:
                    tries, self._arrived = 0, True
                    self._result.sent += len(arrived[1])
                    if self._progress:
                        self._progress(self._result.held + self._result.sent, len(self._data))
            elif record is None or record.kind == "again":
                tries += 1
                if tries > (_TRIES if self._arrived else 2):
                    if not self._arrived:
                        return False
                    raise BoardError(
                        f"the line is too bad at {link.baud} bits per second; call again with a "
                        f"lower --baud: what arrived is kept"
                    )
                for offset, part in waiting.values():
                    self._result.repeated += 1
                    link.write(frame(offset, part))
            elif record.kind in ("error", "fault"):
                raise BoardError(explain(record), record)
        return True

    def _end(self, usual, complete):
        board, link = self._board, self._board.link
        for _ in range(3):
            link.write(frame(0, b""))
            limit = time.monotonic() + self._patience
            while (record := board.next_record(max(0.0, limit - time.monotonic()))) is not None:
                if record.kind in ("loaded", "error"):
                    break
            if record is not None:
                break
        if link.baud != usual:
            link.set_baud(usual)
        if record is None and not link.simulated:
            # It did not hear that: it gives up by itself.
            time.sleep(self._patience_ms / 1000 + 0.2)
        link.write(b"\n")
        board.listen()
