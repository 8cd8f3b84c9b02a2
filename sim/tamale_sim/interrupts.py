"""Ctrl-C while a board answers."""

import contextlib
import signal

__all__ = ["stopping"]


@contextlib.contextmanager
def stopping(stop):
    """Let Ctrl-C call a function instead of ending the program; a second one raises as usual.

    In threads other than the main one, where nobody presses keys, it does nothing.

    Parameters
    ----------
    stop : callable
        Called without arguments.

    Raises
    ------
    KeyboardInterrupt
        From the body, at the second Ctrl-C.
    """
    pressed = False

    def handler(_number, _frame):
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        stop()

    try:
        previous = signal.signal(signal.SIGINT, handler)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
