"""The firmware's tokenizer on the host, and tokenizers of the kinds that people have."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from tamale.generate import image_header
from tamale_model import vocabulary
from tamale_model.tokenizer import Tokenizer

__all__ = ["DeviceTokenizer", "build", "RESULTS"]

_FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"

#: Names of what `tokenizer_run` gives.
RESULTS = {1: "refused", 2: "word too long", 3: "not normalised", 100: "no work memory"}


def build(folder, *options):
    """Compile the firmware's tokenizer for this machine; return the loaded library."""
    folder = Path(folder)
    (folder / "tamale_image.h").write_text(image_header.generate())
    library = folder / "tokenizer.so"
    sources = [Path(__file__).with_name("tokenizer_host.c")]
    command = [
        sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2", "-std=c11", "-Wall",
        "-Wextra", "-Werror", f"-I{folder}", f"-I{_FIRMWARE}", *options, *map(str, sources), "-o",
        str(library),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    library = ctypes.CDLL(str(library))
    library.encode.restype = library.words_of.restype = ctypes.c_int32
    return library


class Model:
    """What `vocabulary` needs of a model."""

    def __init__(self, text, size):
        self.tokenizer = text
        self.graph = type("Graph", (), {"vocabulary": size})


class DeviceTokenizer:
    """An image's tables, and the firmware's code.

    Parameters
    ----------
    library : from `build`
    text : str
        ``tokenizer.json``.
    vocabulary : int, optional
        Tokens of the model; those of the tokenizer when left out.
    work : int
        Bytes of work memory.
    """

    def __init__(self, library, text, size=None, work=1 << 20):
        self._library = library
        description = json.loads(text)
        numbers = [*description["model"]["vocab"].values()]
        numbers += [token["id"] for token in description.get("added_tokens", [])]
        size = size or max(numbers) + 1
        model = Model(text, size)
        self.host = Tokenizer(text)
        self.section, self.reason = vocabulary.tokenizer_section(model)
        self._tables = np.frombuffer(self.section, "<u4") if self.section else None
        data = vocabulary.text_section(model)
        self._offsets = np.frombuffer(data[: 4 * (size + 1)], "<u4").copy()
        self._bytes = np.frombuffer(data[4 * (size + 1) :] + b"\0", np.uint8).copy()
        self._work = np.zeros(work, np.uint8)

    def encode(self, text, *, options=1, line=200):
        """Return the tokens of a str or bytes, or the name of the error."""
        data = text.encode() if isinstance(text, str) else text
        room = len(data) + 16
        values = np.zeros(room, np.uint32)
        count = self._library.encode(
            *self._arguments(data), line, options, _pointer(values), room
        )  # fmt: skip
        return RESULTS[-count] if count < 0 else values[:count].tolist()

    def words(self, text):
        """Return the byte offsets at which words end in a text without added tokens."""
        data = text.encode() if isinstance(text, str) else text
        ends = np.zeros(len(data) + 1, np.uint32)
        count = self._library.words_of(*self._arguments(data), _pointer(ends))
        assert count >= 0
        return ends[:count].tolist()

    def _arguments(self, data):
        arrays = (self._tables, self._offsets, self._bytes, self._work)
        return *map(_pointer, arrays), len(self._work), data, len(data)


def _pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)
