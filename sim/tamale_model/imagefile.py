"""Writes and reads memory images; the layout is that of `tamale.image`."""

import dataclasses
import os
import zlib
from pathlib import Path

import numpy as np
from tamale import image
from tamale.image import ALIGNMENT, HEADER_BYTES, ImageError

from tamale_model import integer, packing, vocabulary
from tamale_model.machine import Addresses, Machine
from tamale_model.program import LOGIT_SCALAR, ROPE_BITS, Compiler
from tamale_model.tokenizer import Tokenizer

__all__ = ["Image", "build", "load"]


@dataclasses.dataclass
class Image:
    """A memory image.

    Parameters
    ----------
    name : str
        Name of the model.
    fields : dict of str to int
        The header, see ``tamale.image.FIELDS``.
    data : uint8 array
        The whole file.
    """

    name: str
    fields: dict
    data: np.ndarray

    @property
    def program(self):
        """Commands as integers."""
        f = self.fields
        raw = self.data[f["program_offset"] :][: 16 * f["program_commands"]].tobytes()
        return [int.from_bytes(raw[i : i + 16], "little") for i in range(0, len(raw), 16)]

    @property
    def kv_base(self):
        """Byte address at which the caches of the sequences start."""
        return -(-self.fields["image_bytes"] // 4096) * 4096

    def memory_bytes(self, sequences=1):
        """Bytes of memory for image and caches."""
        return self.kv_base + sequences * self.fields["kv_sequence_bytes"]

    def token_bytes(self, number):
        """Return what a token prints; none for a model without tokenizer."""
        f = self.fields
        if not f["text_bytes"]:
            return b""
        offsets = self.data[f["text_offset"] :][: 4 * (f["vocabulary"] + 1)].view("<u4")
        text = f["text_offset"] + 4 * (f["vocabulary"] + 1)
        return self.data[text + offsets[number] : text + offsets[number + 1]].tobytes()

    @property
    def stop_tokens(self):
        """Tokens that end a text."""
        return [self.fields[f"eos{i}"] for i in range(self.fields["eos_count"])]

    def useful_bytes(self, positions, *, head=True):
        """Bytes, at their stated code, that a token reads with ``positions`` in its context."""
        f = self.fields
        return (
            f["useful_layer_bytes"]
            + (f["useful_head_bytes"] if head else 0)
            + f["useful_kv_centibytes"] * positions / 100
        )

    def check(self, config):
        """Raise ImageError if the image does not suit the hardware configuration."""
        f = self.fields
        for key, value in (
            ("bus_width", config.bus_width),
            # An image without sparse matrices suits hardware that could take them.
            ("code", config.trit_code.ident if f["code"] < 256 else config.code_ident),
            ("tile_rows", config.tile_rows),
            ("tile_k", config.tile_k),
        ):
            if f[key] != value:
                raise ImageError(
                    f"{self.name}: the image was packed for {key} = {f[key]}, the hardware has "
                    f"{value}; pack it again for this configuration"
                )
        for key, limit in (
            ("vectors", config.vectors),
            ("scratch_elements", config.scratchpad_elements),
            ("act_steps", config.act_steps),
            ("program_commands", config.program_commands),
            ("context", config.max_context),
        ):
            if f[key] > limit:
                raise ImageError(
                    f"{self.name}: the image needs {key} = {f[key]}, the hardware has {limit}; "
                    "use a larger configuration or pack it again"
                )
        if f["vu_width"] % config.vu_width:
            raise ImageError(
                f"{self.name}: the image is aligned for a vector unit of {f['vu_width']} elements, "
                f"the hardware has {config.vu_width}"
            )

    def machine(self, config, sequences=1):
        """Return the golden `Machine` with image and ``sequences`` caches in its memory."""
        self.check(config)
        f = self.fields
        size = self.memory_bytes(sequences)
        if size > config.memory_bytes:
            raise ImageError(
                f"{self.name}: image and cache need {size} bytes, the memory has "
                f"{config.memory_bytes}; lower the context or use a board with more memory"
            )
        memory = np.zeros(size, dtype=np.uint8)
        memory[: len(self.data)] = self.data
        addresses = Addresses(
            **{
                key: f[key]
                for key in (
                    "sweep_base", "embedding_base", "embedding_stride", "rope_base", "rope_stride",
                    "kv_layer_stride", "key_head_stride", "value_base", "value_head_stride",
                )
            },
            read_base=0, read_limit=f["image_bytes"], kv_base=self.kv_base, kv_limit=size,
        )  # fmt: skip
        return Machine(config, memory, self.program, addresses, f["slot_stride"], f["vocabulary"])


class _Writer:
    """Appends sections to a file and keeps the checksum."""

    def __init__(self, file):
        self.file = file
        self.at = HEADER_BYTES
        self.crc = 0
        file.write(bytes(HEADER_BYTES))

    def write(self, data):
        self.file.write(data)
        self.crc = zlib.crc32(data, self.crc)
        self.at += len(data)

    def align(self):
        self.write(bytes(-self.at % ALIGNMENT))
        return self.at


def _rope_rows(graph, positions):
    """int16 cosines and sines of positions, [n, head_size]."""
    angle = np.asarray(positions)[:, None] * graph.frequencies
    return np.rint(np.ldexp(np.concatenate([np.cos(angle), np.sin(angle)], axis=1), ROPE_BITS))


def _embedding_rows(config, embedding, residual_bits):
    """Yield the bytes of embedding rows: codes of ``head_planes`` trits, then the row's scalar."""
    for _, rows in packing.row_pieces(embedding):
        values, scales = packing.quantise_rows(rows, config.head_planes)
        for row, scale in zip(values, scales, strict=True):
            unit = integer.Scalar.of(float(scale) * 2.0**residual_bits)
            yield packing.pack_beats(config, row, "<i1") + packing.pack_beats(
                config, [unit.word], "<u4"
            )


def _useful(config, graph, survey):
    """(layer bytes, head bytes, cache bytes per position) at the stated codes, scales included."""
    bits = config.trit_code.bits_per_trit
    dense = survey.ternary_weights - survey.sparse_weights
    layers = dense * bits / 8 + survey.scale_bytes + survey.vector_bytes
    if survey.sparse_weights:
        layers += survey.sparse_weights * config.sparse.bits_per_trit / 8
    head = graph.vocabulary * (graph.hidden * config.head_planes * bits / 8 + 2)
    head += 2 * graph.hidden
    row = graph.head_size * (config.key_planes + config.value_planes) * bits / 8 + 4
    return layers, head, row * graph.layers * graph.kv_heads


def _expected_bytes(config, model, survey):
    """About the size of the image: weights, scales, head and embedding."""
    graph, padding = model.graph, 1.02
    layers, head, _ = _useful(config, graph, survey)
    return int(padding * (layers + head) + graph.vocabulary * (graph.hidden + 4))


def build(config, model, path, context=None, progress=None, *, sparse="auto"):
    """Pack a model into an image file.

    Parameters
    ----------
    config : Config
    model : Model
    path : path-like
        The file; it appears only when it is complete.
    context : int, optional
        Positions of a sequence; the smaller of the model's and the configuration's when left out.
    progress : callable, optional
        Called with the bytes written so far and those that are expected.
    sparse : str
        ``auto``, ``all`` or ``none``, see `Compiler`.

    Returns
    -------
    Survey
        What is in the model, and which matrices could not have the sparse code.

    Raises
    ------
    ValueError, ImageError
        If the model does not suit the configuration or its memory.
    """
    graph, path = model.graph, Path(path)
    context = context or min(graph.context, config.max_context)
    if context > graph.context:
        raise ImageError(f"{graph.name} was made for a context of {graph.context}, not {context}")
    compiler = Compiler(config, model, context, sparse=sparse)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "w+b") as file:
            fields = _write(config, model, context, compiler, file, progress)
            header = image.pack_header(graph.name, fields)
            file.seek(0)
            file.write(header)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return compiler.survey


def _write(config, model, context, compiler, file, progress):
    graph = model.graph
    out = _Writer(file)
    sizes = {"body": 0, "head": 0}

    # The sweep comes first, for it is emitted beside the program, layer by layer.
    expected = _expected_bytes(config, model, compiler.survey)

    def stream(data, is_head):
        out.write(data)
        sizes["head" if is_head else "body"] += len(data)
        if progress:
            progress(out.at, max(expected, out.at))

    fields = {"sweep_base": out.align()}
    compiled = compiler.compile(stream)
    fields |= {"program_offset": out.align(), "program_commands": len(compiled.program)}
    out.write(b"".join(word.to_bytes(16, "little") for word in compiled.program))
    text = vocabulary.text_section(model)
    fields |= {"text_offset": out.align(), "text_bytes": len(text)}
    out.write(text)
    tables, _ = vocabulary.tokenizer_section(model)
    fields |= {"tokenizer_offset": out.align(), "tokenizer_bytes": len(tables)}
    out.write(tables)

    fields["embedding_base"] = out.align()
    for data in _embedding_rows(config, model.embedding, compiled.residual_bits):
        out.write(data)
    fields["embedding_stride"] = len(data)

    fields["rope_base"] = out.align()
    for row in _rope_rows(graph, np.arange(context)):
        data = packing.pack_beats(config, row, "<i2")
        out.write(data)
    fields["rope_stride"] = len(data)

    out.align()
    if progress:
        progress(out.at, out.at)

    start = graph.bos
    if model.tokenizer is not None:
        start = Tokenizer(model.tokenizer).start(graph.bos)
    steps = -(-graph.head_size // config.tile_k)
    record = (config.key_planes * steps + 2 * config.scale_beats) * config.beat_bytes
    block = graph.head_size // config.tile_rows * config.value_planes * config.beat_bytes
    key_stride = -(-context // config.tile_rows) * record
    value_stride = -(-context // config.tile_k) * block
    layer_stride = graph.kv_heads * (key_stride + value_stride)
    useful = _useful(config, graph, compiler.survey)
    planes, sparse = compiler.survey.planes, compiler.survey.sparse_weights > 0
    fields |= {
        "image_bytes": out.at,
        "payload_crc": out.crc,
        "bus_width": config.bus_width,
        "code": config.code_ident if sparse else config.trit_code.ident,
        "tile_rows": config.tile_rows,
        "tile_k": config.tile_k,
        "vectors": config.vectors,
        "vu_width": config.vu_width,
        "planes": planes[0] | planes[1] << 8 | config.head_planes << 16,
        "group_size": compiler.survey.roles["q"].group_size,
        "key_planes": config.key_planes,
        "value_planes": config.value_planes,
        "scratch_elements": compiled.scratch_elements,
        "slot_stride": compiled.slot_stride,
        "act_steps": compiled.act_steps,
        "sweep_bytes": sizes["body"] + sizes["head"],
        "head_bytes": sizes["head"],
        "kv_sequence_bytes": graph.layers * layer_stride,
        "kv_layer_stride": layer_stride,
        "key_head_stride": key_stride,
        "value_base": graph.kv_heads * key_stride,
        "value_head_stride": value_stride,
        "context": context,
        "vocabulary": graph.vocabulary,
        "hidden": graph.hidden,
        "layers": graph.layers,
        "heads": graph.heads,
        "kv_heads": graph.kv_heads,
        "head_size": graph.head_size,
        "feed_forward": graph.feed_forward,
        "logit_scalar": LOGIT_SCALAR,
        "bos": 0xFFFFFFFF if start is None else start,
        "eos_count": min(len(graph.eos), 4),
        **{f"eos{i}": graph.eos[i] if i < len(graph.eos) else 0 for i in range(4)},
        "useful_layer_bytes": round(useful[0]),
        "useful_head_bytes": round(useful[1]),
        "useful_kv_centibytes": round(useful[2] * 100),
    }
    return fields


def load(path):
    """Return the `Image` in a file, checked.

    Raises
    ------
    ImageError
        For a missing, foreign, truncated or damaged file.
    """
    try:
        # Private pages: the golden machine's copy is its own, the file stays as it is.
        data = np.memmap(path, dtype=np.uint8, mode="c")
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
        data = np.zeros(0, dtype=np.uint8)  # an empty file cannot be mapped
    name, fields = image.parse_header(data[:HEADER_BYTES].tobytes(), source=str(path))
    if fields["image_bytes"] != len(data):
        raise ImageError(
            f"{path}: {len(data)} bytes, its header says {fields['image_bytes']}; "
            "the file is truncated, pack it again"
        )
    crc = 0
    for first in range(HEADER_BYTES, len(data), 1 << 24):
        crc = zlib.crc32(data[first : first + (1 << 24)], crc)
    if crc != fields["payload_crc"]:
        raise ImageError(f"{path}: the checksum is wrong; the file is damaged, pack it again")
    return Image(name, fields, data)
