"""Where the bytes of a conversation go: a simulated board's process or a serial port."""

import contextlib
import json
import os
import select
import subprocess
import time
from typing import Protocol

from .messages import explain_end

__all__ = ["Link", "LinkError", "ProcessLink", "SerialLink", "serial_ports"]


class LinkError(RuntimeError):
    """The other end is gone, or cannot be reached; the message says why and what helps."""


class Link(Protocol):
    """Bytes to and from a board.

    Attributes
    ----------
    baud : int
        Bits per second now.
    patience : float
        Seconds in which a board that works has answered.
    simulated : bool
        Whether time passes on the board only as fast as this machine computes.
    """

    baud: int
    patience: float
    simulated: bool

    def read(self, timeout: float | None = None) -> bytes | None:
        """Return bytes that came, none of them after ``timeout`` seconds, None at the end."""

    def write(self, data: bytes) -> None:
        """Send bytes; LinkError if nobody is there."""

    def set_baud(self, baud: int) -> None:
        """Change the speed; what was sent before goes out at the old one."""

    def ended(self, said: str) -> LinkError:
        """Return the reason of the end; ``said`` are the board's last words."""

    def close(self) -> None:
        """End it; may be called twice."""


class ProcessLink:
    """A simulator's process, see harness.cpp.

    Parameters
    ----------
    command : list of str
        The program and its arguments.
    clock_hz, baud : int
        Clock of the serial port's divider and its speed at the start.
    """

    simulated = True
    patience = 240.0

    def __init__(self, command, clock_hz, baud):
        self._clock_hz, self.baud = clock_hz, baud
        #: The line of JSON that closes a simulation, a dict.
        self.summary = None
        control, self._control = os.pipe()
        divisor = (clock_hz + baud // 2) // baud
        try:
            self._process = subprocess.Popen(
                [*command, "--divisor", str(divisor), "--control", str(control)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[control],
                # Ctrl-C is for the command that runs the board, which ends it in good order.
                start_new_session=True,
            )
        finally:
            os.close(control)

    def read(self, timeout=None):
        output = self._process.stdout.fileno()
        if timeout is not None and not select.select([output], [], [], timeout)[0]:
            return b""
        return os.read(output, 65536) or None

    def write(self, data):
        if self._process.stdin.closed:
            raise LinkError("the board is closed; boot another one")
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            # Its last words may explain it; whoever reads them comes to the end.
            pass

    def set_baud(self, baud):
        self.baud = baud
        divisor = (self._clock_hz + baud // 2) // baud
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, b"divisor %d\n" % divisor)

    def ended(self, said):
        _, errors = self._process.communicate()
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        with contextlib.suppress(ValueError):
            self.summary = json.loads(lines[-1])
        if self.summary is None:
            return LinkError(f"the simulation broke off: {lines[-1]}")
        return LinkError(explain_end(self.summary, said))

    @property
    def alive(self):
        """Whether the process runs."""
        return self._process.poll() is None

    def terminate(self):
        """Ask a board at work, which takes no commands, to end."""
        self._process.terminate()

    def close(self):
        if self._control is None:
            return
        # Whether it still runs or has just halted: nobody has read its last words yet.
        if not self._process.stderr.closed:
            try:
                _, errors = self._process.communicate(timeout=60)
                with contextlib.suppress(ValueError, IndexError):
                    self.summary = json.loads(errors.decode().strip().splitlines()[-1])
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):
                file.close()
        self._process.wait()
        os.close(self._control)
        self._control = None


class SerialLink:
    """A serial port of this machine.

    Parameters
    ----------
    port : str
        Such as ``/dev/ttyUSB0``.
    baud : int

    Raises
    ------
    LinkError
        If it cannot be opened; the message says what helps.
    """

    simulated = False
    patience = 1.0

    def __init__(self, port, baud):
        import serial

        self.baud, self._name, self._error = baud, port, None
        self._error_type = (serial.SerialException, OSError)
        try:
            self._port = serial.Serial(port, baud, exclusive=True, write_timeout=10)
        except (serial.SerialException, OSError, ValueError) as error:
            raise LinkError(_why_closed(port, error)) from None

    def read(self, timeout=None):
        try:
            self._port.timeout = timeout
            data = self._port.read(max(1, self._port.in_waiting))
        except self._error_type as error:
            self._error = error
            return None
        return data

    def write(self, data):
        if not self._port.is_open:
            raise LinkError("the port is closed; open it again")
        try:
            self._port.write(data)
        except self._error_type as error:
            self._error = error
            raise self.ended("") from None

    def set_baud(self, baud):
        try:
            self._port.flush()
            # What the adapter still holds leaves at the old speed.
            time.sleep(0.02)
            self._port.baudrate = baud
        except (*self._error_type, ValueError) as error:
            raise LinkError(
                f"{self._name} does not do {baud} bits per second ({error}); choose another speed "
                "with --baud"
            ) from None
        self.baud = baud

    def ended(self, said):
        return LinkError(
            f"the serial port {self._name} is gone ({self._error}); plug the board in again, "
            "then repeat the command: a load goes on where it stopped"
        )

    def close(self):
        with contextlib.suppress(*self._error_type):
            self._port.close()


def serial_ports():
    """Return (name, description) of the serial ports of this machine that are on USB."""
    from serial.tools import list_ports

    return sorted((p.device, p.description) for p in list_ports.comports() if p.vid is not None)


def _why_closed(port, error):
    number = getattr(error, "errno", None)
    text = str(error)
    if number == 13 or "Permission" in text:
        return (
            f"no permission for {port}: add yourself to its group (sudo usermod -aG dialout "
            f"$USER, then log in again)"
        )
    if number == 2 or "No such file" in text:
        known = serial_ports()
        others = ", ".join(f"{name} ({what})" for name, what in known)
        return f"{port} does not exist; " + (
            f"serial ports here: {others}"
            if known
            else "no USB serial port is plugged in: connect the board's USB port (US1 of a ULX3S) "
            "with a cable that has data lines"
        )
    if number in (11, 16) or "lock" in text or "busy" in text:
        return f"{port} is in use by another program; close it first ({text})"
    return f"{port} cannot be opened: {text}"
