# amaranth: UnusedElaboratable=no
"""Stream reader and checksum: data, bounds, errors, efficiency; deliberate bugs are seen."""

import json
import random
import re
import sys
import zlib
from pathlib import Path

import pytest
from amaranth.sim import Simulator
from tamale.config import Config
from tamale.gateware.beat_fifo import BeatFifo
from tamale.gateware.bursts import BurstSplitter
from tamale.gateware.dma import StreamChecksum, StreamReader
from tamale_sim import runner

sys.path.insert(0, str(Path(__file__).parent))

#: Buses, FIFOs that hold two or eight bursts, one burst in flight or several.
VARIANTS = {
    "bus32": {"bus_width": 32, "fifo_beats": 2048, "max_outstanding": 4},
    "bus64": {"bus_width": 64, "fifo_beats": 1024, "max_outstanding": 3},
    "bus32_small": {"bus_width": 32, "fifo_beats": 64, "max_outstanding": 1},
    "bus512": {"bus_width": 512, "fifo_beats": 128, "max_outstanding": 16, "tile_rows": 16},
}


def simulate(variant, simulator, tests, component=None):
    simulation = runner.build(
        component or StreamReader(Config(**VARIANTS[variant])), "reader", simulator=simulator
    )
    return simulation.run(
        "cocotb_dma", testcase=tests, seed=7, env={"TAMALE_TEST": json.dumps(VARIANTS[variant])}
    )


FUNCTION = ["random_lists", "credits", "bounds", "errors", "clear_in_flight"]


@pytest.mark.gates("reader")
@pytest.mark.parametrize(
    "variant,simulator",
    [
        ("bus32", "verilator"),
        ("bus64", "icarus"),
        ("bus32_small", "icarus"),
        ("bus512", "verilator"),
    ],
)
def test_reader(variant, simulator):
    simulate(variant, simulator, FUNCTION)


@pytest.mark.gates("reader")
@pytest.mark.parametrize("variant", ["bus32", "bus64"])
def test_efficiency(variant):
    simulate(variant, "icarus", ["efficiency"])


def broken(variant, old, new):
    """The reader's Verilog is fine; return it with one expression of its Python changed."""
    import inspect

    from tamale.gateware import bursts, dma

    for module in (bursts, dma):
        source = inspect.getsource(module)
        if old in source:
            assert source.count(old) == 1
            space = {"__name__": "broken"}
            exec(compile(source.replace(old, new), module.__name__, "exec"), space)
            if module is dma:
                return space["StreamReader"](Config(**VARIANTS[variant]))
            reader = inspect.getsource(dma)
            dma_space = {"__name__": "broken"}
            exec(compile(reader, "dma", "exec"), dma_space)
            dma_space |= {name: space[name] for name in ("BurstSplitter", "inside")}
            return dma_space["StreamReader"](Config(**VARIANTS[variant]))
    raise AssertionError(f"{old!r} is not in the sources")


@pytest.mark.parametrize(
    "old,new,test",
    [
        # A beat is lost at every boundary.
        ("Mux(final, last[:low_bits], self._beats - 1) - first[:low_bits]",
         "Mux(final, last[:low_bits], self._beats - 2) - first[:low_bits]", "random_lists"),
        # Credit given for a beat that the FIFO still holds.
        ("credit + popped - spent", "credit + memory.rvalid - spent", "credits"),
        # A range that wraps round is taken for a small one.
        ("check_last = Signal(ADDRESS_BITS + 1), Signal(ADDRESS_BITS + 1)",
         "check_last = Signal(ADDRESS_BITS - beat_shift), Signal(ADDRESS_BITS - beat_shift)",
         "bounds"),
        # The last beat is not compared, only the first.
        ("(last < limit[beat_shift:])", "(address < limit)", "bounds"),
        # Beats after a failed one come through.
        ("m.d.sync += spoilt.eq(1)", "m.d.sync += spoilt.eq(0)", "errors"),
        # Beats that arrive after `clear` come through.
        ("fifo.clear.eq(self.clear | flushing)", "fifo.clear.eq(self.clear)", "clear_in_flight"),
    ],
)  # fmt: skip
def test_bug_is_seen(old, new, test):
    with pytest.raises(AssertionError, match=r"1 of 1 tests failed"):
        simulate("bus32", "icarus", [test], broken("bus32", old, new))


@pytest.mark.gates("checksum")
@pytest.mark.parametrize("bus_width", [32, 64, 512])
def test_checksum(bus_width):
    config = Config(bus_width=bus_width)
    dut = StreamChecksum(config)
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)

    async def bench(ctx):
        assert ctx.get(dut.done)
        for beats in (0, 1, 2, 37, 100):
            data = rng.randbytes(beats * config.beat_bytes)
            ctx.set(dut.start, 1)
            ctx.set(dut.beats, beats)
            await ctx.tick()
            ctx.set(dut.start, 0)
            position = 0
            while not ctx.get(dut.done):
                valid = rng.random() < 0.7
                word = data[position : position + config.beat_bytes]
                ctx.set(dut.i.valid, valid)
                ctx.set(dut.i.payload, int.from_bytes(word, "little"))
                assert ctx.get(dut.i.ready)
                position += config.beat_bytes * valid
                await ctx.tick()
            ctx.set(dut.i.valid, 1)
            assert not ctx.get(dut.i.ready)
            assert position == len(data), f"seed {seed}"
            assert ctx.get(dut.crc) == zlib.crc32(data), f"seed {seed}"

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("depth", [2, 48, 1.5])
def test_fifo_depth(depth):
    with pytest.raises(
        ValueError,
        match=rf"^FIFO depth must be a power of two from 4, not {re.escape(str(depth))}$",
    ):
        BeatFifo(8, depth)


@pytest.mark.gates("fifo")
def test_fifo_is_full():
    """All words of storage and the three behind it are used; a full FIFO refuses."""
    dut = BeatFifo(8, 4)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for n in range(20):
            ctx.set(dut.i.payload, n)
            await ctx.tick()
        assert not ctx.get(dut.i.ready) and ctx.get(dut.level) == 7
        ctx.set(dut.i.valid, 0)
        ctx.set(dut.o.ready, 1)
        taken = []
        while ctx.get(dut.o.valid):
            taken.append(ctx.get(dut.o.payload))
            await ctx.tick()
        await ctx.tick()
        assert len(taken) == 7 and ctx.get(dut.level) == 0

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_splitter_rejects_lengths():
    with pytest.raises(
        ValueError,
        match=r"^bursts on 512 bits must have a power of two up to 64 beats, not 128$",
    ):
        BurstSplitter(Config(bus_width=512), 128)
