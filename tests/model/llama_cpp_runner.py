"""llama.cpp through llama-cpp-python: logits, inputs and outputs of matrices, its quantisers."""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np

__all__ = ["Library", "evaluate"]


class _Tensor(ctypes.Structure):
    """``struct ggml_tensor`` of ggml.h, as far as it is read here."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
]


def _silent(level, text, data):
    pass


_SILENT = llama_cpp.llama_log_callback(_silent)


def _floats(tensor):
    """A contiguous F32 matrix as a NumPy array."""
    rows, columns = tensor.ne[1], tensor.ne[0]
    assert tensor.type == 0 and tensor.nb[1] == 4 * columns, "not a contiguous F32 matrix"
    source = ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_float))
    return np.ctypeslib.as_array(source, (rows, columns)).copy()


def evaluate(path, tokens, watch=()):
    """Return (logits, seen) of a GGUF file: F32 cache, no flash attention, one thread.

    Parameters
    ----------
    path : path
    tokens : list of int
    watch : iterable of str
        Names of weights.

    Returns
    -------
    logits : float32 array [len(tokens), vocabulary]
    seen : dict of str to (float32 array [n, k], float32 array [n, rows])
        Inputs and outputs of the products with the weights in ``watch``.
    """
    watch, seen = {name.encode() for name in watch}, {}

    def callback(pointer, ask, data):
        tensor = ctypes.cast(pointer, ctypes.POINTER(_Tensor)).contents
        weight = tensor.src[0].contents if tensor.src[0] else None
        # A matrix of embeddings is also read by row numbers, which are integers.
        inputs = tensor.src[1].contents if tensor.src[1] else None
        if weight is None or weight.name not in watch or inputs is None or inputs.type != 0:
            return not ask
        if not ask:
            seen[weight.name.decode()] = _floats(inputs), _floats(tensor)
        return True

    llama_cpp.llama_log_set(_SILENT, None)
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_default_params()
    options.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), options)
    if not model:
        raise ValueError(f"{path}: llama.cpp does not read it")
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = len(tokens)
    options.n_threads = options.n_threads_batch = 1
    options.flash_attn_type = 0
    options.type_k = options.type_v = 0
    options.cb_eval = llama_cpp.ggml_backend_sched_eval_callback(callback)
    context = llama_cpp.llama_init_from_model(model, options)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    try:
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        if llama_cpp.llama_decode(context, batch):
            raise ValueError(f"{path}: llama.cpp does not evaluate it")
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        logits = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits(context), (len(tokens), vocabulary)
        ).copy()
    finally:
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)
    return logits, seen


class Library:
    """Functions of ``libggml-base`` and ``libggml-cpu``, which llama-cpp-python brings along."""

    def __init__(self):
        folder = Path(llama_cpp.__file__).parent / "lib"
        self._base = ctypes.CDLL(str(folder / "libggml-base.so"))
        self._cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"))

    def quantise(self, kind, weights):
        """Return uint8 [rows, bytes] of float32 weights [rows, k]."""
        weights = np.ascontiguousarray(weights, dtype=np.float32)
        function = getattr(self._base, f"quantize_{kind.lower()}")
        function.restype = ctypes.c_size_t
        rows, k = weights.shape
        result = np.zeros(weights.size, dtype=np.uint8)
        size = function(
            weights.ctypes.data_as(ctypes.c_void_p),
            result.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(rows),
            ctypes.c_int64(k),
            None,
        )
        return result[:size].reshape(rows, -1)

    def dequantise(self, kind, data, k):
        """Return float32 [rows, k] of uint8 [rows, bytes]."""
        data = np.ascontiguousarray(data)
        result = np.empty((len(data), k), dtype=np.float32)
        getattr(self._base, f"dequantize_row_{kind.lower()}")(
            data.ctypes.data_as(ctypes.c_void_p),
            result.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(result.size),
        )
        return result

    def quantise_q8_0(self, x):
        """Return (codes, scale) of float32 x [k]: int8 [k], float16 [k / 32]."""
        # struct block_q8_0: half d, int8 qs[32]
        block = np.dtype([("d", "<f2"), ("qs", "i1", 32)])
        result = self._rows(self._cpu.quantize_row_q8_0, x, block)
        return result["qs"].reshape(-1), result["d"]

    def quantise_q8_k(self, x):
        """Return (codes, scale) of float32 x [k]: int8 [k], float32 [k / 256]."""
        # struct block_q8_K: float d, int8 qs[256], int16 bsums[16]
        block = np.dtype([("d", "<f4"), ("qs", "i1", 256), ("bsums", "<i2", 16)])
        result = self._rows(self._base.quantize_row_q8_K_ref, x, block)
        return result["qs"].reshape(-1), result["d"]

    @staticmethod
    def _rows(function, x, block):
        x = np.ascontiguousarray(x, dtype=np.float32)
        result = np.zeros(x.size // block["qs"].shape[0], dtype=block)
        function(
            x.ctypes.data_as(ctypes.c_void_p),
            result.ctypes.data_as(ctypes.c_void_p),
            ctypes.c_int64(x.size),
        )
        return result
