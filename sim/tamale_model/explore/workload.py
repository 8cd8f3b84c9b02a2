"""Model cards: what a model reads and computes for a token, from its geometry alone.

A matrix is (how many, rows, K). Classes of what a token reads: ``attention`` and ``dense``
matrices, ``shared`` and ``routed`` experts, ``router``, ``head``, ``embedding`` (one row),
``cache``.
"""

import dataclasses

from tamale_model.explore.quantity import DataError
from tamale_model.model import ACTIVATIONS, LINEARS, Graph
from tamale_model.readers import structure
from tamale_model.readers.graphs import shapes

__all__ = ["CLASSES", "Storage", "Workload", "of_graph", "parse"]

#: What a token reads, in the order of tables and pictures.
CLASSES = (
    "attention", "dense", "shared", "routed", "router", "head", "embedding", "cache",
)  # fmt: skip

_ATTENTION = {
    "grouped-query": ("heads", "kv_heads", "head_size"),
    "latent": ("heads", "query_rank", "kv_rank", "rotary_size", "key_size", "value_size"),
    "recurrent": ("matrices",),
}
_FEED_FORWARD = ("size", "dense_layers", "experts", "active", "shared", "expert_size")
#: What a card's table of trits holds, when it is left out.
_TRITS = {"weights": 1, "head": 5, "group": 0, "sparse": 0}
_SIZES = ("layers", "hidden", "vocabulary", "context")


@dataclasses.dataclass(frozen=True)
class Storage:
    """Bits of memory for a value of each class, scales and padding included.

    Parameters
    ----------
    weights : float
        Of layers' matrices and experts.
    head, embedding : float
    key, value : float
        Of a cached element; both count alike for a latent or a recurrent state.
    name : str
    """

    weights: float
    head: float
    embedding: float
    key: float
    value: float
    name: str = ""

    @classmethod
    def trits(
        cls, weights=1, head=5, key=3, value=3, *, bits=1.6, weight_bits=None, group=0,
        head_size=128, padding=1.003,
    ):  # fmt: skip
        """Return what the device stores.

        Parameters
        ----------
        weights, head, key, value : int
            Trits.
        bits : float
            Of a trit.
        weight_bits : float, optional
            Of a weight's, where they have a code of their own.
        group : int
            Weights that share a 16-bit scale; 0: a row or more, which is next to nothing.
        head_size : int
            Elements of a cached vector that share a 16-bit scale.
        padding : float
            Bytes in memory over those of full tiles: 1.605 over 1.6 for 2B-4T
            (`tamale_model.bits`).
        """
        scale = 16 / group if group else 0
        weight_bits = weight_bits or bits
        return cls(
            weights=weights * weight_bits * padding + scale,
            head=head * bits * padding,
            embedding=8,
            key=key * bits + 16 / head_size,
            value=value * bits + 16 / head_size,
            name=f"{weights} trit{'s' * (weights > 1)} of {weight_bits:g} bits, "
            f"cache of {key}/{value}",
        )

    @classmethod
    def uniform(cls, weights, cache=16, head=None):
        """Return ``weights`` bits for every matrix, the head too if nothing else is said."""
        head = weights if head is None else head
        return cls(weights, head, head, cache, cache, f"{weights:g} bits, cache of {cache:g}")


@dataclasses.dataclass(frozen=True)
class Workload:
    """A model.

    Parameters
    ----------
    name, title : str
    layers, hidden, vocabulary, context : int
    tied : bool
        Whether embedding and head are one matrix.
    attention : dict
        ``kind`` and the sizes that belong to it.
    feed_forward : dict
        ``size`` of dense layers; experts where there are any.
    origin : str
        Source of the geometry, or the assumption.
    activation : str
    sub_norms : bool
    stated : dict
        What the publisher says: ``parameters`` and ``active``.
    trits : dict
        Trits of ``weights`` and ``head``; ``group``: weights that share a scale, 0 for a row;
        ``sparse``: 1 if of every four weights along a row exactly one is zero.
    """

    name: str
    title: str
    layers: int
    hidden: int
    vocabulary: int
    context: int
    tied: bool
    attention: dict
    feed_forward: dict
    origin: str
    activation: str = "silu"
    sub_norms: bool = False
    stated: dict = dataclasses.field(default_factory=dict)
    trits: dict = dataclasses.field(default_factory=lambda: dict(_TRITS))

    @property
    def storage(self):
        """The `Storage` on the device: the card's trits of 1.6 bits, a cache of three."""
        return Storage.trits(
            self.trits["weights"],
            self.trits["head"],
            weight_bits=1.25 if self.sparse else None,
            group=self.trits["group"],
            head_size=self.attention.get("head_size", 128),
        )

    @property
    def sparse(self):
        """Whether of every four weights along a row exactly one is zero."""
        return bool(self.trits.get("sparse", 0))

    @property
    def experts(self):
        """Whether layers choose experts."""
        return self.feed_forward["experts"] > 0

    def matrices(self):
        """Return {class: list of (how many, rows, K)} of the whole model."""
        a, f, h = self.attention, self.feed_forward, self.hidden
        if a["kind"] == "grouped-query":
            query, kv = a["heads"] * a["head_size"], a["kv_heads"] * a["head_size"]
            attention = [(1, query, h), (2, kv, h), (1, h, query)]
        elif a["kind"] == "latent":
            key = a["key_size"] + a["rotary_size"]
            attention = [
                (1, a["query_rank"], h),
                (1, a["heads"] * key, a["query_rank"]),
                (1, a["kv_rank"] + a["rotary_size"], h),
                (1, a["heads"] * (a["key_size"] + a["value_size"]), a["kv_rank"]),
                (1, h, a["heads"] * a["value_size"]),
            ]
        else:
            attention = [(a["matrices"], h, h)]
        dense = f["dense_layers"]
        sparse = self.layers - dense
        result = {"attention": [(self.layers * n, rows, k) for n, rows, k in attention]}
        if f["size"] and dense:
            result["dense"] = [(2 * dense, f["size"], h), (dense, h, f["size"])]
        for name in ("shared", "routed"):
            count = f["experts"] if name == "routed" else f["shared"]
            if sparse and count:
                size = f["expert_size"]
                result[name] = [(2 * sparse * count, size, h), (sparse * count, h, size)]
        if sparse and f["experts"]:
            result["router"] = [(sparse, f["experts"], h)]
        result["head"] = [(1, self.vocabulary, h)]
        return result

    def weights(self):
        """Return {class: weights}, the head apart from the embedding."""
        return {
            name: sum(count * rows * k for count, rows, k in entries)
            for name, entries in self.matrices().items()
        }

    def parameters(self):
        """All weights of matrices and of the embedding."""
        embedding = 0 if self.tied else self.vocabulary * self.hidden
        return sum(self.weights().values()) + embedding

    def active(self):
        """Weights that a token multiplies with."""
        weights = self.weights()
        return sum(weights.values()) - weights.get("routed", 0) * (1 - self._share(1))

    def _share(self, vectors):
        """Part of the routed experts that ``vectors`` tokens need together, chosen at random."""
        f = self.feed_forward
        return 1 - (1 - f["active"] / f["experts"]) ** vectors if f["experts"] else 0.0

    def cache_values(self):
        """Return (keys, values) that a position adds to the cache; (0, 0) for a recurrence."""
        a = self.attention
        if a["kind"] == "grouped-query":
            return (self.layers * a["kv_heads"] * a["head_size"],) * 2
        if a["kind"] == "latent":
            return self.layers * (a["kv_rank"] + a["rotary_size"]), 0
        return 0, 0

    def cache_bytes(self, storage, positions):
        """Bytes of the cache of a sequence of ``positions``, or of a recurrence's state."""
        if self.attention["kind"] == "recurrent":
            return self.layers * self.hidden * storage.value / 8
        keys, values = self.cache_values()
        return positions * (keys * storage.key + values * storage.value) / 8

    def token_bytes(self, storage, positions, sequences=1):
        """Return {class: bytes} that one sweep reads for a token of each sequence.

        Parameters
        ----------
        storage : Storage
        positions : int
            In the context of each.
        sequences : int
            Sequences that share the sweep.
        """
        weights = self.weights()
        result = {}
        for name in CLASSES:
            if name == "cache":
                result[name] = sequences * self.cache_bytes(storage, positions)
            elif name == "embedding":
                result[name] = sequences * self.hidden * storage.embedding / 8
            elif name in weights:
                bits = storage.head if name in ("head", "router") else storage.weights
                share = self._share(sequences) if name == "routed" else 1
                result[name] = weights[name] * share * bits / 8
        return result

    def macs(self, positions):
        """Multiply-accumulates of a token: matrices, then scores and weighted values."""
        a = self.attention
        attended = 0
        if a["kind"] == "grouped-query":
            attended = 2 * self.layers * a["heads"] * a["head_size"] * positions
        elif a["kind"] == "latent":
            # With the up-projections absorbed every head reads the latent vector itself.
            width = 2 * a["kv_rank"] + a["rotary_size"]
            attended = self.layers * a["heads"] * width * positions
        return self.active() + attended

    def memory_bytes(self, storage, positions, sequences=1):
        """Bytes that must fit the memory: all weights, the embedding, the caches."""
        weights = self.weights()
        total = sum(
            count * (storage.head if name in ("head", "router") else storage.weights) / 8
            for name, count in weights.items()
        )
        total += self.vocabulary * self.hidden * storage.embedding / 8
        return total + sequences * self.cache_bytes(storage, positions)

    def graph(self):
        """Return the `Graph` that the compiler takes.

        Raises
        ------
        DataError
            For a model that the hardware does not run yet.
        """
        a, f = self.attention, self.feed_forward
        missing = []
        if a["kind"] != "grouped-query":
            missing.append({"latent": "latent attention", "recurrent": "a recurrence"}[a["kind"]])
        if self.experts:
            missing.append("Mixture-of-Experts")
        if missing:
            raise DataError(
                f"{self.name} has {' and '.join(missing)}, which the compiler does not take "
                "yet, so "
                "no configuration can be sized for it; `tamale explore platforms "
                f"--model {self.name}` gives its roofline"
            )
        return Graph(
            name=self.name, hidden=self.hidden, layers=self.layers, heads=a["heads"],
            kv_heads=a["kv_heads"], head_size=a["head_size"], feed_forward=f["size"],
            vocabulary=self.vocabulary, context=self.context, rope_theta=10000.0,
            norm_epsilon=1e-5, activation=self.activation, tied=self.tied,
        )  # fmt: skip

    def stand_in(self):
        """Return the arguments of `estimate.token_cycles` that describe this model."""
        import numpy as np

        graph = self.graph()
        planes, group_size = self.trits["weights"], self.trits["group"]
        level = structure.GROUP if group_size else structure.TENSOR
        plan = structure.Plan(level, group_size, planes, self.sparse)
        plans = dict.fromkeys(LINEARS, plan)
        matrices = {name: _Bare(shape) for name, shape in shapes(graph).items()}
        norms = {name: None for name in ("query_norm", "key_norm")}
        sizes = {
            "input_norm": self.hidden,
            "post_norm": self.hidden,
            "attention_norm": graph.query_size if self.sub_norms else 0,
            "feed_forward_norm": graph.feed_forward if self.sub_norms else 0,
        }
        norms |= {name: np.ones(n, np.float32) if n else None for name, n in sizes.items()}
        return graph, plans, matrices, norms


@dataclasses.dataclass(frozen=True)
class _Bare:
    """A matrix without bias or norm of its own."""

    shape: tuple
    bias: None = None
    norm: None = None


def of_graph(graph, *, sub_norms=False, title=None, origin="", trits=()):
    """Return the `Workload` of a `Graph`, such as that of a checkpoint."""
    return Workload(
        name=graph.name,
        title=title or graph.name,
        layers=graph.layers,
        hidden=graph.hidden,
        vocabulary=graph.vocabulary,
        context=graph.context,
        tied=graph.tied,
        attention={
            "kind": "grouped-query", "heads": graph.heads, "kv_heads": graph.kv_heads,
            "head_size": graph.head_size,
        },
        feed_forward={
            "size": graph.feed_forward, "dense_layers": graph.layers, "experts": 0, "active": 0,
            "shared": 0, "expert_size": 0,
        },
        origin=origin,
        activation=graph.activation,
        sub_norms=sub_norms,
        trits=_TRITS | dict(trits),
    )  # fmt: skip


def parse(name, data, *, file, user=False):
    """Return the `Workload` of a TOML file's tables.

    Raises
    ------
    DataError
    """

    def fail(text):
        raise DataError(f"{file}: {name}: {text}")

    def whole(table, key, least, where=""):
        value = table.get(key)
        if type(value) is not int or value < least:
            fail(f"{where}{key} = {value!r}; write a whole number of at least {least}")
        return value

    top = {*_SIZES, "title", "source", "assumption", "tied", "activation", "sub_norms",
           "stated_parameters", "stated_active", "attention", "feed_forward", "trits"}  # fmt: skip
    for key in data:
        if key not in top:
            fail(f"unknown key {key!r}; known: {', '.join(sorted(top))}")
    for key in ("attention", "feed_forward"):
        if not isinstance(data.get(key), dict):
            fail(f"needs a table [{key}]")
    if not data.get("source") and not data.get("assumption") and not user:
        fail('has no source; add source = "..." or assumption = "..."')
    sizes = {key: whole(data, key, 1) for key in _SIZES}
    attention = dict(data["attention"])
    kind = attention.get("kind")
    if kind not in _ATTENTION:
        fail(f"attention.kind = {kind!r}; use one of {', '.join(_ATTENTION)}")
    for key in attention:
        if key not in ("kind", *_ATTENTION[kind]):
            fail(f"unknown key attention.{key}; known: {', '.join(_ATTENTION[kind])}")
    for key in _ATTENTION[kind]:
        whole(attention, key, 1, "attention.")
    if kind == "grouped-query" and attention["heads"] % attention["kv_heads"]:
        fail(
            f"{attention['heads']} heads do not share {attention['kv_heads']} KV heads evenly; "
            "use a divisor"
        )
    given = data["feed_forward"]
    for key in given:
        if key not in _FEED_FORWARD:
            fail(f"unknown key feed_forward.{key}; known: {', '.join(_FEED_FORWARD)}")
    feed_forward = dict.fromkeys(_FEED_FORWARD, 0) | given
    for key in _FEED_FORWARD:
        whole(feed_forward, key, 0, "feed_forward.")
    if not feed_forward["experts"]:
        feed_forward["dense_layers"] = sizes["layers"]
    if feed_forward["active"] > feed_forward["experts"]:
        fail(f"{feed_forward['active']} of {feed_forward['experts']} experts are active; use fewer")
    if feed_forward["experts"] and not (feed_forward["active"] and feed_forward["expert_size"]):
        fail("experts need feed_forward.active and feed_forward.expert_size of at least 1")
    if feed_forward["dense_layers"] > sizes["layers"]:
        fail(f"dense_layers = {feed_forward['dense_layers']} of {sizes['layers']} layers")
    activation = data.get("activation", "silu")
    if activation not in ACTIVATIONS:
        fail(f"activation = {activation!r}; use one of {', '.join(ACTIVATIONS)}")
    trits = _TRITS | data.get("trits", {})
    for key, value in trits.items():
        if key not in _TRITS:
            fail(f"unknown key trits.{key}; known: {', '.join(_TRITS)}")
        low, high = {"group": (0, 1 << 14), "sparse": (0, 1)}.get(key, (1, 5))
        if type(value) is not int or not low <= value <= high:
            fail(f"trits.{key} = {value!r}; use {low} to {high}")
    if trits["sparse"] and trits["weights"] > 1:
        fail(f"sparse weights have one trit, not trits.weights = {trits['weights']}")
    stated = {
        key: data[f"stated_{key}"] for key in ("parameters", "active") if f"stated_{key}" in data
    }
    origin = data.get("source") or (
        f"assumed: {data['assumption']}" if data.get("assumption") else f"user: {file}"
    )
    return Workload(
        name=name, title=data.get("title", name), tied=bool(data.get("tied", True)),
        attention=attention, feed_forward=feed_forward, activation=activation,
        sub_norms=bool(data.get("sub_norms", False)), stated=stated, origin=origin, trits=trits,
        **sizes,
    )  # fmt: skip
