"""The neutral model on disk: a folder that `tamale pack` and `tamale run` take like a checkpoint.

``config.json`` (``model_type`` "tamale", the graph, how it was quantised), ``tokenizer.json``, and
safetensors files: the first one has embedding, head and final norm, each further one a layer.
A matrix has ``values`` (int8), ``scales`` (float32 [rows, groups], relative), ``scale`` (float32).

A folder grows under another name and appears when it is complete; what an interrupted run left is
taken up by the next one with the same settings.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, which safetensors asks for
import numpy as np
from safetensors.numpy import save_file

from tamale_model.model import LINEARS, Graph, Layer, Linear
from tamale_model.readers import structure
from tamale_model.readers.arrays import check_finite, to_float32
from tamale_model.readers.errors import CheckpointError, parse_json, positive
from tamale_model.readers.graphs import Skeleton, check_graph, shapes
from tamale_model.readers.matrices import Matrix
from tamale_model.readers.safetensors import open_file, open_folder

__all__ = ["MODEL_TYPE", "FolderWriter", "is_neutral", "read"]

#: ``model_type`` in config.json.
MODEL_TYPE = "tamale"

#: Increased when a folder of an older kind cannot be read any more.
_FORMAT = 1

_NORMS = (
    "input_norm", "attention_norm", "post_norm", "feed_forward_norm", "query_norm", "key_norm",
)  # fmt: skip


def _tensors(layer, number):
    """{name: array} of a layer."""
    prefix = f"layers.{number}."
    result = {}
    for name in LINEARS:
        linear = getattr(layer, name)
        scales = linear.scales
        if scales is None:
            scales = np.ones((linear.shape[0], 1), dtype=np.float32)
        result[f"{prefix}{name}.values"] = linear.values
        result[f"{prefix}{name}.scales"] = scales.astype(np.float32)
        result[f"{prefix}{name}.scale"] = np.array([linear.scale], dtype=np.float32)
        for extra in ("bias", "norm"):
            if getattr(linear, extra) is not None:
                result[f"{prefix}{name}.{extra}"] = getattr(linear, extra)
    for name in _NORMS:
        if getattr(layer, name) is not None:
            result[prefix + name] = getattr(layer, name)
    return {name: np.ascontiguousarray(array) for name, array in result.items()}


class FolderWriter:
    """Writes a model layer by layer.

    Parameters
    ----------
    path : path-like
        The folder to make; nothing may be there.
    graph : Graph
    settings : dict
        What decides the values (JSON): an unfinished folder of other settings is thrown away.

    Raises
    ------
    FileExistsError
        If ``path`` exists.
    """

    def __init__(self, path, graph, settings):
        self.path, self.graph = Path(path), graph
        if self.path.exists():
            raise FileExistsError(f"{self.path}: exists already; remove it or give -o another name")
        if not self.path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"{self.path.absolute().parent}: no such folder; make it, or give -o another name"
            )
        self.settings = json.loads(json.dumps(settings))
        #: Where the folder grows.
        self.part = self.path.with_name(f".{self.path.name}.part")
        note = self.part / "settings.json"
        try:
            same = json.loads(note.read_text()) == self.settings
        except (OSError, ValueError):
            same = False
        if not same:
            shutil.rmtree(self.part, ignore_errors=True)
            self.part.mkdir()
            note.write_text(json.dumps(self.settings, indent=1))

    def _file(self, number):
        return f"model-{number + 2:05}-of-{self.graph.layers + 1:05}.safetensors"

    def _save(self, name, tensors):
        temporary = self.part / f".{name}"
        save_file(tensors, temporary)
        os.replace(temporary, self.part / name)

    def ready(self, number):
        """Return a layer that an earlier run completed, or None."""
        file = self.part / self._file(number)
        if not file.is_file():
            return None
        try:
            tensors = _Tensors(open_file(file))
            planes = {name: self.settings["trits"] for name in LINEARS}
            matrices = tensors.matrices(self.graph, number, planes, self.settings["group_size"])
            linears = {
                name: matrix.read(structure.merge([matrix.plan()]))
                for name, matrix in matrices.items()
            }
            return Layer(**linears, **tensors.norms(self.graph, number))
        except (CheckpointError, ValueError):
            file.unlink()
            return None

    def add(self, number, layer):
        """Write a layer."""
        self._save(self._file(number), _tensors(layer, number))

    def finish(self, model, description):
        """Write the rest and give the folder its name.

        Parameters
        ----------
        model : Model
            Its embedding, head, final norm and tokenizer are taken.
        description : dict
            How it was made, for config.json (JSON).
        """
        outer = {
            "embedding": _stored(model.embedding),
            "final_norm": np.asarray(model.final_norm, dtype=np.float32),
        }
        if not self.graph.tied:
            outer["head"] = _stored(model.head)
        self._save(self._file(-1), outer)
        where = {}
        for number in range(-1, self.graph.layers):
            file = self._file(number)
            where |= dict.fromkeys(open_file(self.part / file), file)
        config = {
            "model_type": MODEL_TYPE,
            "format": _FORMAT,
            "trits": self.settings["trits"],
            "group_size": self.settings["group_size"],
            "graph": dataclasses.asdict(self.graph),
            "quantisation": description,
        }
        (self.part / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": where})
        )
        if model.tokenizer is not None:
            (self.part / "tokenizer.json").write_text(model.tokenizer, encoding="utf-8")
        (self.part / "config.json").write_text(json.dumps(config, indent=1))
        (self.part / "settings.json").unlink()
        os.rename(self.part, self.path)


def _stored(array):
    """An embedding in the type of its file, or float32 where its rows are decoded."""
    return np.ascontiguousarray(array[:])


@dataclasses.dataclass
class NeutralMatrix(Matrix):
    """Integers with relative scales of rows and groups.

    Parameters
    ----------
    values : int8 array [rows, k]
    scales : float32 array [rows, groups]
    planes, group_size : int
        As in `model.Linear`.
    """

    values: np.ndarray
    scales: np.ndarray
    planes: int
    group_size: int

    @property
    def form(self):
        """What `tamale inspect` calls it."""
        return f"integers of {self.planes} trit" + "s" * (self.planes > 1)

    def plan(self):
        """Return the `Plan` of the file: its scales were chosen for the device."""
        level = structure.GROUP if self.group_size else structure.ROW
        return structure.Plan(level, self.group_size, self.planes)

    def _read(self, plan):
        scales = to_float32(self.name, self.scales)
        values = np.array(self.values)
        top = max(int(values.max(initial=0)), -int(values.min(initial=0)))
        if top > (3**self.planes - 1) // 2:
            raise CheckpointError(
                f"{self.name} has the value {top}, which {self.planes} trits do not hold; "
                "the file is damaged"
            )
        if scales.size and scales.min() < 0:
            raise CheckpointError(f"{self.name} has negative scales; the file is damaged")
        size = self.group_size or self.shape[1]
        if plan.level in (structure.ROW, structure.TENSOR):
            return Linear(values, plan.planes, self.factor, scales, 0)
        if self.group_size == plan.group_size:
            return Linear(values, plan.planes, self.factor, scales, plan.group_size)
        starts = np.arange(0, self.shape[1], plan.group_size)
        return Linear(values, plan.planes, self.factor, scales[:, starts // size], plan.group_size)


class _Tensors:
    """Tensors by name, of one file or of a folder."""

    def __init__(self, arrays):
        self.arrays = arrays

    def get(self, name, shape, dtypes=None):
        if name not in self.arrays:
            raise CheckpointError(f"tensor {name!r} is missing; copy all files of the model")
        array = self.arrays[name] if isinstance(self.arrays, dict) else self.arrays.get(name, shape)
        if array.shape != tuple(shape):
            raise CheckpointError(
                f"tensor {name!r} has shape {list(array.shape)}, the graph asks for {list(shape)}"
            )
        if dtypes is not None and array.dtype not in dtypes:
            raise CheckpointError(f"tensor {name!r} is of type {array.dtype}; the file is damaged")
        return array

    def vector(self, name, size):
        return to_float32(name, self.get(name, (size,), (np.float32,)))

    def matrices(self, graph, number, planes, group_size):
        """{name: NeutralMatrix} of a layer."""
        result = {}
        for name, (rows, k) in shapes(graph).items():
            prefix = f"layers.{number}.{name}"
            groups = -(-k // group_size) if group_size else 1
            extras = {
                extra: self.vector(f"{prefix}.{extra}", size)
                for extra, size in (("bias", rows), ("norm", k))
                if f"{prefix}.{extra}" in self.arrays
            }
            result[name] = NeutralMatrix(
                prefix, (rows, k),
                self.get(prefix + ".values", (rows, k), (np.int8,)),
                self.get(prefix + ".scales", (rows, groups), (np.float32,)),
                planes[name], group_size,
                factor=positive(prefix + ".scale", self.vector(prefix + ".scale", 1)[0]), **extras,
            )  # fmt: skip
        return result

    def norms(self, graph, number):
        """{name: vector or None} of a layer."""
        sizes = {
            "input_norm": graph.hidden,
            "attention_norm": graph.query_size,
            "post_norm": graph.hidden,
            "feed_forward_norm": graph.feed_forward,
            "query_norm": graph.head_size,
            "key_norm": graph.head_size,
        }
        return {
            name: self.vector(f"layers.{number}.{name}", sizes[name])
            if f"layers.{number}.{name}" in self.arrays or name in ("input_norm", "post_norm")
            else None
            for name in _NORMS
        }

    def embedding(self, name, shape):
        array = self.get(name, shape)
        if array.dtype.kind not in "fV":
            raise CheckpointError(f"tensor {name!r} is of type {array.dtype}, not of floats")
        check_finite(name, array)
        return array


def is_neutral(folder):
    """Whether a folder's config.json says that it holds a neutral model."""
    try:
        config = parse_json((Path(folder) / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == MODEL_TYPE


def _graph(config, name, source):
    try:
        entries = dict(config["graph"])
        entries["name"] = name
        entries["eos"] = tuple(int(token) for token in entries.get("eos") or ())
        if entries.get("rope_frequencies") is not None:
            entries["rope_frequencies"] = tuple(map(float, entries["rope_frequencies"]))
        graph = Graph(**entries)
        whole = ("hidden", "layers", "heads", "kv_heads", "head_size", "feed_forward",
                 "vocabulary", "context")  # fmt: skip
        if not all(type(getattr(graph, key)) is int for key in whole):
            raise ValueError("a size is no whole number")
        trits, group_size = config["trits"], config["group_size"]
        if type(trits) is not int or not 1 <= trits <= 5 or type(group_size) is not int:
            raise ValueError(f"trits {trits!r}, group size {group_size!r}")
        if group_size < 0:
            raise ValueError(f"group size {group_size}")
        check_graph(graph, source)
        if graph.rope_frequencies is not None and (
            len(graph.rope_frequencies) != graph.head_size // 2
            or not np.isfinite(graph.rope_frequencies).all()
        ):
            raise ValueError("rope_frequencies do not suit the head size")
        if graph.activation not in ("relu2", "silu"):
            raise ValueError(f"activation {graph.activation!r}")
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{source} has a value of the wrong kind ({error}); the file is damaged"
        ) from None
    return graph, trits, group_size


def read(folder):
    """Return the `Skeleton` of a folder that `FolderWriter` made.

    Raises
    ------
    CheckpointError
        For anything missing, damaged, or of a later format.
    """
    folder = Path(folder)
    source = folder / "config.json"
    try:
        config = parse_json(source.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source}: cannot be read ({error}); copy it again") from None
    if config.get("format") != _FORMAT:
        raise CheckpointError(
            f"{source}: format {config.get('format')!r} of a neutral model is unknown, this "
            f"release reads {_FORMAT}; quantise the checkpoint again"
        )
    graph, trits, group_size = _graph(config, folder.name, source)
    tensors = _Tensors(open_folder(folder))
    planes = dict.fromkeys(LINEARS, trits)
    shape = (graph.vocabulary, graph.hidden)
    embedding = tensors.embedding("embedding", shape)
    tokenizer = folder / "tokenizer.json"
    try:
        text = tokenizer.read_text(encoding="utf-8") if tokenizer.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{tokenizer}: cannot be read ({error}); copy it again") from None
    return Skeleton(
        graph=graph,
        matrices=[tensors.matrices(graph, i, planes, group_size) for i in range(graph.layers)],
        norms=[tensors.norms(graph, i) for i in range(graph.layers)],
        embedding=embedding,
        head=embedding if graph.tied else tensors.embedding("head", shape),
        final_norm=tensors.vector("final_norm", graph.hidden),
        tokenizer=text,
    )
