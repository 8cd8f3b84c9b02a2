"""Pictures: what a token's time is spent on."""

import numpy as np

from ..activity import BIN_CYCLES, IDLE_CAUSES, UNITS, Activity

__all__ = ["timeline"]

_MEMORY = {
    Activity.MEMORY_DATA: ("words move", "#2a6f97"),
    Activity.MEMORY_REFRESH: ("refresh", "#a9d6e5"),
    Activity.IDLE_FIFO_FULL: ("idle: FIFO full", "#e07a5f"),
    Activity.IDLE_FENCE: ("idle: cache being written", "#bc4749"),
    Activity.IDLE_MEMORY: ("idle: latency, rows", "#f2cc8f"),
    Activity.IDLE_WALKER: ("idle: nothing asked for", "#6d597a"),
    Activity.IDLE_OTHER: ("idle: other", "#8d99ae"),
}
_UNITS = {
    Activity.ARRAY: ("array", "#2a6f97"),
    Activity.VECTOR: ("vector unit", "#e07a5f"),
    Activity.SCALAR: ("scalar unit", "#f2cc8f"),
    Activity.LOADER: ("loader", "#81b29a"),
    Activity.KV_WRITER: ("cache writer", "#bc4749"),
    Activity.SEQUENCER: ("sequencer", "#8d99ae"),
}
assert set(_UNITS) == set(UNITS) and set(IDLE_CAUSES) < set(_MEMORY)

#: Columns of the picture: more could not be told apart.
_COLUMNS = 900


def _columns(bins):
    """Shares [columns, len(Activity)] and the cycle at which each column starts."""
    count = min(_COLUMNS, len(bins))
    edges = np.linspace(0, len(bins), count + 1).astype(int)
    sums = np.add.reduceat(bins.astype(np.int64), edges[:-1], axis=0)
    return sums / (np.diff(edges)[:, None] * BIN_CYCLES), edges[:-1] * BIN_CYCLES


def timeline(decode, path, *, title):
    """Draw a token: the memory above, the units that execute commands below.

    Parameters
    ----------
    decode : Decode
    path : path-like
        PNG or SVG, by its suffix.
    title : str
    """
    # Imported here: a second that only pictures are worth.
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares, cycles = _columns(decode.bins)
    figure, axes = pyplot.subplots(
        2, 1, figsize=(13, 5.6), sharex=True, height_ratios=[1, 1], layout="constrained"
    )
    total = decode.bins.sum(axis=0) / (len(decode.bins) * BIN_CYCLES)
    for axis, parts, name in ((axes[0], _MEMORY, "memory"), (axes[1], _UNITS, "executing")):
        axis.stackplot(
            cycles / 1000,
            *(shares[:, part] for part in parts),
            labels=[f"{label}  {total[part]:.1%}" for part, (label, _) in parts.items()],
            colors=[colour for _, colour in parts.values()],
            step="post",
        )
        axis.set_ylim(0, 1)
        axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
        axis.set_ylabel(name)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        axis.margins(x=0)
    head = np.flatnonzero(shares[:, Activity.HEAD] > 0.5)
    if len(head):
        for axis in axes:
            axis.axvline(cycles[head[0]] / 1000, color="black", linewidth=0.8, linestyle=":")
        axes[0].text(cycles[head[0]] / 1000, 1.02, " head", va="bottom")
    axes[1].set_xlabel("thousand cycles")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
