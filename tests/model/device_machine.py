"""The firmware's machine on the host, behind the interface of the golden one."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
from tamale.generate import image_header, machine_header
from tamale_model.integer import Scalar

__all__ = ["DeviceMachine", "build"]

_FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
_ADDRESSES = (
    "sweep_base", "embedding_base", "embedding_stride", "rope_base", "rope_stride",
    "kv_layer_stride", "key_head_stride", "value_base", "value_head_stride",
)  # fmt: skip


def build(config, folder, *options):
    """Compile the firmware's machine for this computer; return the loaded library."""
    folder = Path(folder)
    (folder / "tamale_image.h").write_text(image_header.generate())
    (folder / "tamale_machine.h").write_text(machine_header.generate(config))
    library = folder / "machine.so"
    command = [
        sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2", "-std=c11", "-Wall",
        "-Wextra", "-Werror", "-DTAMALE_ENGINE_IN_SOFTWARE", f"-I{folder}", f"-I{_FIRMWARE}",
        *options, str(Path(__file__).with_name("machine_host.c")),
        *(str(_FIRMWARE / name) for name in ("engine_software.c", "integer.c")), "-o", str(library),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    library = ctypes.CDLL(str(library))
    for name in ("scratch_of", "activations_of", "scalars_of", "peak_of", "logits_of"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


class DeviceMachine:
    """State of the firmware's machine; a library holds one.

    Parameters
    ----------
    library : from `build`
    golden : Machine
        Whose memory is copied, and whose program and addresses are used.
    """

    def __init__(self, library, golden):
        self._library, config = library, golden.config
        self.memory = golden.memory.copy()
        self.rows = golden.rows

        def view(name, kind, count):
            pointer = getattr(library, name)()
            array = (ctypes.c_uint8 * (np.dtype(kind).itemsize * count)).from_address(pointer)
            return np.frombuffer(array, kind)

        self.scratch = view("scratch_of", "<i4", config.scratchpad_elements)
        self.activation = view("activations_of", "i1", config.act_steps * config.tile_k)
        self.scalars = view("scalars_of", "<u4", 128).reshape(64, 2)
        self.peak = view("peak_of", "<i4", 1)
        self._logits = view("logits_of", "<i4", 2 * golden.rows).reshape(-1, 2)
        self.candidates = np.zeros((config.candidates, 2), "<i4")

    def attach(self, golden, program):
        """Give the library this memory, and a program of 128-bit commands."""
        addresses = np.array([getattr(golden.addresses, name) for name in _ADDRESSES], "<u4")
        words = np.frombuffer(b"".join(w.to_bytes(16, "little") for w in program), "<u4")
        self._library.attach(
            _pointer(self.memory), _pointer(addresses), _pointer(words), len(program), self.rows
        )

    def run(self, slot, head=True):
        """Run the program; return the logits."""
        assert self._library.run(slot.token, slot.position, slot.kv_base, int(head))
        return self._logits[:, 0].astype(np.int64) if head else None

    def execute(self, word, slot, layer=0, sweep=0):
        """Perform a command."""
        command = np.frombuffer(word.to_bytes(16, "little"), "<u4")
        assert self._library.execute(
            _pointer(command), slot.token, slot.position, slot.kv_base, layer, sweep
        )

    def best(self):
        """Return the candidates as the golden model has them."""
        count = self._library.candidates_of(_pointer(self.candidates))
        return [(int(value), int(row)) for value, row in self.candidates[:count]]

    def scalar(self, name):
        """Return a scalar register."""
        mantissa, exponent = self.scalars[name]
        return Scalar(int(mantissa), int(exponent.astype("i4")))

    def set_scalar(self, name, value):
        """Set a scalar register."""
        self.scalars[name] = value.mantissa, value.exponent & 0xFFFFFFFF


def _pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)
