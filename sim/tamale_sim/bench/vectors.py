"""How many vectors share a sweep that stays as fast as with one: the engine's RTL, counted."""

from amaranth.sim import Simulator
from tamale.gateware.interfaces import IssueLayout
from tamale.isa import Op, encode
from tamale_fpga.engine import Engine

__all__ = ["COUNTS", "measure"]

#: Vectors that are tried.
COUNTS = (1, 2, 4, 8, 16)

#: Rows and K of the matrices: those of the demonstration model, a row of BitNet b1.58 2B-4T.
_MATRICES = ((24, 256), (3, 2560))


def measure(config, progress=None):
    """Return the figures of vectors per pass.

    An engine of 16 vectors takes a matrix from a stream of the memory's speed: a beat in as many
    cycles as the memory needs for one, kept for later where the engine waits.

    Parameters
    ----------
    config : Config
    progress : callable, optional
        Called with lines of text.

    Returns
    -------
    dict
        ``vectors`` is the largest number with which no matrix takes longer than with one;
        ``sweep_cycles`` has the cycles from the first beat to the last by K and vectors,
        ``sweep_least`` those that the memory needs.
    """
    config = config.replace(vectors=max(COUNTS), max_k=2560, scratchpad_elements=4096)
    gap = config.bus_width // config.memory_width
    cycles, least = {}, {}
    for rows, k in _MATRICES:
        tiles = -(-rows // config.tile_rows)
        beats = tiles * -(-k // config.tile_k) + config.scale_beats_of(tiles)
        least[str(k)] = (beats - 1) * gap + 1
        for count in COUNTS:
            if progress:
                progress(f"engine sweeps {rows} rows of {k} weights with {count} vectors")
            found = _sweep(config, tiles, k, count, beats, gap)
            cycles.setdefault(str(k), {})[str(count)] = found
    kept = [n for n in COUNTS if all(times[str(n)] <= times["1"] for times in cycles.values())]
    return {"vectors": max(kept), "sweep_cycles": cycles, "sweep_least": least}


def _sweep(config, tiles, k, vectors, beats, gap):
    """Return the cycles from the first beat to the last; every result must leave."""
    engine = Engine(config)
    words = max(1, config.tile_rows // config.vu_width)
    stride = -(-tiles * config.tile_rows // config.vu_width) * config.vu_width
    word = encode(
        Op.MATVEC, tiles=tiles, steps=-(-k // config.tile_k), planes=1, groups=1, vectors=vectors,
        vector_stride=stride, scaled=1,
    )  # fmt: skip
    taken, results = [], 0

    async def bench(ctx):
        nonlocal results
        ctx.set(engine.unit.issue.payload, IssueLayout.const({"command": word, "slots": vectors}))
        ctx.set(engine.unit.issue.valid, 1)
        await ctx.tick()
        ctx.set(engine.unit.issue.valid, 0)
        # From here on the memory delivers.
        cycle = 0
        while not ctx.get(engine.unit.done_valid):
            waiting = min(beats, cycle // gap + 1) - len(taken)
            ctx.set(engine.i.valid, waiting > 0)
            if ctx.get(engine.i.ready) and waiting > 0:
                taken.append(cycle)
            results += bool(ctx.get(engine.scratch_write.en))
            await ctx.tick()
            # The stream starts when the engine is ready for its first beat.
            cycle += bool(taken)

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    expected = tiles * words * vectors
    if len(taken) != beats or results != expected:
        raise RuntimeError(f"{len(taken)} of {beats} beats, {results} of {expected} writes")
    return taken[-1] - taken[0] + 1
