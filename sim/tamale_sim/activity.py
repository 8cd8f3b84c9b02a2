"""What a simulated board does, cycle by cycle: recorded in bins, added up by cause."""

import enum

import numpy as np

__all__ = ["BIN_CYCLES", "COUNTED", "IDLE_CAUSES", "UNITS", "Activity", "jobs", "read"]

#: Cycles of a bin in the recording; harness.cpp has the same number.
BIN_CYCLES = 64


class Activity(enum.IntEnum):
    """Bits of the board's output of that name; a bin counts the cycles in which each was set.

    While a job runs, a cycle is one of those from MEMORY_DATA to IDLE_OTHER, and one of those from
    LOADER to SEQUENCER.
    """

    JOB = 0  # a job runs
    HEAD = 1  # a job runs, from its head on
    MEMORY_DATA = 2  # a word moves on the memory's pins
    MEMORY_REFRESH = 3  # no word, because of a refresh
    IDLE_FIFO_FULL = 4  # no word: there is no room for more, the executor is behind
    IDLE_FENCE = 5  # no word: the next bytes depend on a write to the cache
    IDLE_MEMORY = 6  # no word: one is under way (latency, a row is opened)
    IDLE_WALKER = 7  # no word: none was asked for
    IDLE_OTHER = 8  # no word, none of these
    LOADER = 9  # the loader executes
    ARRAY = 10  # the array executes
    VECTOR = 11  # the vector unit executes
    SCALAR = 12  # the scalar unit executes
    KV_WRITER = 13  # the writer of the cache executes
    SEQUENCER = 14  # no unit executes
    ARRAY_STARVED = 15  # the array would take a beat and there is none
    ARRAY_DRAINING = 16  # the array keeps a beat waiting for room for its results


#: Why the memory moved nothing, and the counter that says so; the first that applies.
IDLE_CAUSES = {
    Activity.IDLE_FIFO_FULL: "FIFO_FULL",
    Activity.IDLE_FENCE: "FENCE_WAIT",
    Activity.IDLE_MEMORY: "MEMORY_WAIT",
    Activity.IDLE_WALKER: "WALKER_IDLE",
    Activity.IDLE_OTHER: None,
}

#: Units that execute commands.
UNITS = (
    Activity.LOADER, Activity.ARRAY, Activity.VECTOR, Activity.SCALAR, Activity.KV_WRITER,
    Activity.SEQUENCER,
)  # fmt: skip

#: Bits that are performance counters.
COUNTED = {
    Activity.JOB: "CYCLES",
    Activity.HEAD: "HEAD_CYCLES",
    Activity.ARRAY_STARVED: "ARRAY_STARVED",
    Activity.ARRAY_DRAINING: "ARRAY_DRAINING",
    **{unit: f"{unit.name}_CYCLES" for unit in UNITS},
}


def read(path):
    """Return a recording, uint16 [bins, len(Activity)]: cycles of each bin with each bit set."""
    data = np.fromfile(path, dtype="<u2")
    return data[: len(data) // len(Activity) * len(Activity)].reshape(-1, len(Activity))


def jobs(bins):
    """Split a recording into the bins of each job.

    Jobs are told apart by their heads: a job without head counts into the next one that has one.

    Parameters
    ----------
    bins : array [n, len(Activity)]

    Returns
    -------
    list of array [n, len(Activity)]
        Each with the bins from where the last one ended to the end of the head.
    """
    head = bins[:, Activity.HEAD] > 0
    ends = np.flatnonzero(head[:-1] & ~head[1:]) + 1
    if len(head) and head[-1]:
        ends = np.append(ends, len(head))
    return [bins[a:b] for a, b in zip(np.concatenate([[0], ends[:-1]]), ends, strict=True)]
