"""Configurations to start from: what a platform's memory and a model's shape ask for."""

import math

from tamale import config as configuration
from tamale.codes import QUAD
from tamale.config import Config

from tamale_model.explore.quantity import DataError
from tamale_model.model import LINEARS

__all__ = ["HEADROOM", "at_clock", "engines", "fit_memories", "reference"]

#: How much faster than its memory an array should be, so that a backlog drains.
HEADROOM = 1.25

#: Widest bus that the generator makes, in bits, and the narrowest.
_WIDEST, _NARROWEST = 512, 32


def _power_of_two(value, least, most):
    return min(most, max(least, 1 << max(0, math.ceil(math.log2(value)))))


def engines(platform, world):
    """Return how many engines of the widest bus a platform's memory feeds; 1 for most."""
    if platform.kind != "chip":
        return 1
    clock = 1e6 * world[f"process.{platform.process}.clock"].value
    return math.ceil(1e9 * platform.bandwidth.value / clock / (_WIDEST // 8))


def reference(platform, world, workload=None, *, positions=2048):
    """Return the `Config` that sizing starts from.

    Chips get a bus that is as wide as their memory's bandwidth asks for, an ideal memory of the
    power of two bits a clock that comes nearest to the real one, and memories for the workload;
    boards get their preset, on its clock.

    Parameters
    ----------
    platform : Platform
    world : World
    workload : Workload, optional
        Sizes memories; a generous default without it.
    positions : int
        Context to make room for.
    """
    if platform.kind == "system":
        raise DataError(
            f"{platform.name} is a system that people buy, there is nothing to size; use "
            "a board or a chip"
        )
    config = _start(platform, world)
    while True:
        try:
            return fit_memories(config, workload, positions)
        except DataError:
            # Every vector has a part of the scratchpad: fewer may do where four do not.
            if config.vectors == 1:
                raise
            config = config.replace(vectors=config.vectors // 2)


def _start(platform, world):
    """The reference before its memories are sized."""
    if platform.kind == "fpga":
        config = configuration.load(platform.preset)
        if config.engine != "accelerator":  # which is what is sized here
            config = configuration.load("smallest")
        clock = round(1e6 * platform.clock.value)
        width = _power_of_two(8e9 * platform.bandwidth.value / clock, 16, 512)
        size = 1 << int(math.log2(1e9 * platform.memory.value * 1.05))
        config = at_clock(config, clock).replace(board=platform.name, name=platform.name)
        if config.memory != "ddr3" and (width > 16 or platform.memory_type != "sdr"):
            config = config.replace(
                memory="ideal",
                memory_width=width,
                bus_width=min(_WIDEST, max(config.bus_width, 2 * width)),
                tile_rows=max(config.tile_rows, min(4, width // 32)),
                memory_bytes=min(1 << 30, max(1 << 16, size)),
            )
        return config
    clock = round(1e6 * world[f"process.{platform.process}.clock"].value)
    per_cycle = 8e9 * platform.bandwidth.value / clock
    bus = _power_of_two(HEADROOM * per_cycle, _NARROWEST, _WIDEST)
    width = min(bus, _power_of_two(per_cycle / 2**0.5, 16, _WIDEST))
    return Config(
        name=platform.name,
        board=platform.name,
        bus_width=bus,
        tile_rows=max(1, bus // 128),
        vectors=4,
        vu_width=max(4, min(32, bus // 16)),
        max_k=8192,
        max_context=2048,
        head_planes=5,
        scratchpad_elements=65536,
        program_commands=1024,
        fifo_beats=1024,
        clock_hz=clock,
        memory="ideal",
        memory_width=width,
        memory_bytes=1 << 30,
        uart_baud=1_000_000,
        max_outstanding=8,
    )


def at_clock(config, clock):
    """Return a configuration on another clock; the CPU's own stays where it is slower."""
    own = config.cpu_clock_hz if config.cpu_clock_hz < clock else 0
    baud = min(config.uart_baud, (own or clock) // 8)
    return config.replace(clock_hz=clock, cpu_clock_hz=own, uart_baud=baud)


def fit_memories(config, workload, positions):
    """Return a configuration whose memories are just as large as a model needs.

    Parameters
    ----------
    config : Config
    workload : Workload or None
        None: unchanged.
    positions : int
        Context to make room for.

    Raises
    ------
    DataError
        If the model is beyond what the generator makes.
    """
    if workload is None:
        return config
    from tamale_model.program.layout import Layout
    from tamale_model.program.survey import Role, Survey

    graph = workload.graph()
    longest = max(graph.hidden, graph.feed_forward, graph.query_size)
    limit = 16383
    if longest > limit:
        raise DataError(
            f"{workload.name} has rows of {longest} weights, the generator makes rows of up to "
            f"{limit}; use a narrower model"
        )
    context = min(max(positions, 64), graph.context)
    if context > limit:
        raise DataError(
            f"a context of {context} positions is beyond the {limit} that the generator makes; "
            "use --context with less"
        )
    # The layout says how much scratchpad it needs, given as much as there can be.
    planes, group = workload.trits["weights"], workload.trits["group"]
    roles = dict.fromkeys(LINEARS, Role(planes, group, group > 0, False, False))
    norms = frozenset(("attention_norm", "feed_forward_norm") if workload.sub_norms else ())
    survey = Survey(roles, norms, 1.0, 0, 0, 0)
    roomy = config.replace(
        max_k=max(64, longest),
        max_context=max(64, context),
        scratchpad_elements=1 << 17,
        head_planes=workload.trits["head"],
        # Wherever K steps are long enough for it.
        sparse_code="s34" if workload.sparse and config.tile_k % QUAD == 0 else "none",
    )
    try:
        need = Layout(roomy, graph, survey, context).scratch_elements
    except ValueError as error:
        raise DataError(f"{error}; or use a shorter --context") from error
    step = max(1024, config.vu_width)
    return roomy.replace(scratchpad_elements=max(1024, -(-need // step) * step))
