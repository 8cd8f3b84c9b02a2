"""Efficiency of a long linear read: ``python -m tamale_sim.bench_memory``.

A hardware reader asks for bursts one after the other, takes a beat in every clock that brings one,
and counts. Printed are the clocks from the first address to the last beat, the words of the chip
that moved, and their part of the peak of one word a clock: of all clocks, and of those between
refreshes (a refresh lasts from the last word before it to the first word after it). The
data are compared with the image by an order-dependent checksum.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import cocotb
import numpy as np
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out
from amaranth.utils import exact_log2
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from tamale.gateware.axi import Burst, Signature
from tamale.gateware.sdram import PARTS, SdramController

from .memory import SOURCES, IdealMemory, SimulatedSdram
from .runner import build

__all__ = ["Sweep", "SweepBench", "main", "measure"]


class Sweep(wiring.Component):
    """Reads memory from address 0 to an end, in bursts of one length.

    Parameters
    ----------
    addr_width, data_width : int
        Of the memory port.
    size : int
        Bytes to read; a multiple of a burst.
    beats : int
        Beats in a burst, a power of two.

    Members
    -------
    axi : Out(Signature)
        Memory port.
    start : In(1)
        High: run.
    done : Out(1)
        The last beat has come.
    cycles, refresh_cycles : Out(32)
        Clocks from `start` to the last beat, and those of them with `refreshing`.
    checksum : Out
        Of the data: rotated left by one and exclusive-ored with each beat.
    error : Out(1)
        A beat answered with an error.
    """

    def __init__(self, *, addr_width, data_width, size, beats):
        self._burst_bytes = beats * data_width // 8
        if size % self._burst_bytes:
            raise ValueError(
                f"size must be a multiple of the burst of {self._burst_bytes} bytes, not {size!r}"
            )
        self._size, self._beats = size, beats
        super().__init__(
            {
                "axi": Out(Signature(addr_width=addr_width, data_width=data_width, id_width=1)),
                "start": wiring.In(1),
                "refreshing": wiring.In(1),
                "done": Out(1),
                "cycles": Out(32),
                "refresh_cycles": Out(32),
                "checksum": Out(data_width),
                "error": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.axi
        bursts = self._size // self._burst_bytes
        asked = Signal(range(bursts + 1))
        taken = Signal(range(bursts * self._beats + 1))
        m.d.comb += [
            bus.araddr.eq(asked * self._burst_bytes),
            bus.arlen.eq(self._beats - 1),
            bus.arsize.eq(exact_log2(len(bus.rdata) // 8)),
            bus.arburst.eq(Burst.INCR),
            bus.arvalid.eq(self.start & (asked != bursts)),
            bus.rready.eq(1),
            self.done.eq(taken == bursts * self._beats),
        ]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += asked.eq(asked + 1)
        with m.If(bus.rvalid):
            m.d.sync += [
                taken.eq(taken + 1),
                self.checksum.eq(self.checksum.rotate_left(1) ^ bus.rdata),
                self.error.eq(self.error | (bus.rresp.as_value() != 0)),
            ]
        with m.If(self.start & ~self.done):
            m.d.sync += [
                self.cycles.eq(self.cycles + 1),
                self.refresh_cycles.eq(self.refresh_cycles + self.refreshing),
            ]
        return m


class SweepBench(wiring.Component):
    """A `Sweep` on a memory; its ports are those of the sweep without the bus."""

    def __init__(self, memory, sweep):
        self._memory, self._sweep = memory, sweep
        super().__init__(
            {
                "start": wiring.In(1),
                "ready": Out(1),
                "done": Out(1),
                "cycles": Out(32),
                "refresh_cycles": Out(32),
                "checksum": Out(len(sweep.checksum)),
                "error": Out(1),
                "violation": Out(8),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.memory, m.submodules.sweep = memory, sweep = self._memory, self._sweep
        wiring.connect(m, sweep.axi, memory.axi)
        m.d.comb += sweep.start.eq(self.start)
        for name in ("done", "cycles", "refresh_cycles", "checksum", "error"):
            m.d.comb += getattr(self, name).eq(getattr(sweep, name))
        if "initialised" in memory.signature.members:
            m.d.comb += [
                self.ready.eq(memory.initialised),
                self.violation.eq(memory.violation),
                sweep.refreshing.eq(memory.refreshing),
            ]
        else:
            m.d.comb += self.ready.eq(1)
        return m


@cocotb.test()
async def sweep(dut):
    """Run the sweep and leave the counters in the file RESULT."""
    dut.start.value = 0
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    if not int(dut.ready.value):
        await RisingEdge(dut.ready)
    # Refreshes fall due anywhere in a sweep; not to begin right after one is the honest case.
    await ClockCycles(dut.clk, 1000)
    dut.start.value = 1
    await RisingEdge(dut.done)
    await ClockCycles(dut.clk, 2)
    names = ("cycles", "refresh_cycles", "checksum", "error", "violation")
    result = {name: int(getattr(dut, name).value) for name in names}
    Path(os.environ["RESULT"]).write_text(json.dumps(result))


def measure(memory, *, size, beats, data_width, seed=1, sources=SOURCES):
    """Sweep a memory and return the counters.

    Parameters
    ----------
    memory : wiring.Component
        The memory, such as `SimulatedSdram`, which must take its contents from ``+image``.
    size, beats, data_width : int
        Bytes to read, beats in a burst, bits of a beat.
    seed : int
        Seed of the image.
    sources : sequence of paths
        Verilog that the memory refers to.

    Raises
    ------
    AssertionError
        If the data are wrong, a beat answered with an error or a timing rule was broken.
    """
    image = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    addr_width = memory.axi.signature.addr_width
    reader = Sweep(addr_width=addr_width, data_width=data_width, size=size, beats=beats)
    simulation = build(SweepBench(memory, reader), "bench", extra_sources=sources)
    with tempfile.TemporaryDirectory() as directory:
        path, result = Path(directory) / "image.bin", Path(directory) / "result.json"
        path.write_bytes(image.tobytes())
        simulation.run(
            "tamale_sim.bench_memory", plusargs=[f"+image={path}"], env={"RESULT": result}
        )
        counters = json.loads(result.read_text())
    assert not counters["violation"], f"the SDRAM model saw broken rule {counters['violation']}"
    assert not counters["error"], "a beat answered with an error"
    expected, mask = 0, (1 << data_width) - 1
    for word in (
        image.view(f"<u{data_width // 8}") if data_width <= 64 else _wide(image, data_width)
    ):
        expected = (expected << 1 & mask | expected >> data_width - 1) ^ int(word)
    assert counters["checksum"] == expected, "the data are not those of the image"
    return counters


def _wide(image, data_width):
    raw, step = image.tobytes(), data_width // 8
    return (int.from_bytes(raw[at : at + step], "little") for at in range(0, len(raw), step))


def main(arguments=None):
    """Measure and print one line per configuration."""
    parser = argparse.ArgumentParser(prog="python -m tamale_sim.bench_memory", description=__doc__)
    parser.add_argument("--part", choices=PARTS, default="IS42S16160G-7")
    parser.add_argument("--clock", type=int, nargs="+", default=[100_000_000], help="hertz")
    parser.add_argument("--cas-latency", type=int, nargs="+", default=[2, 3])
    parser.add_argument("--data-width", type=int, nargs="+", default=[32], help="bits of AXI beats")
    parser.add_argument("--beats", type=int, nargs="+", default=[256], help="beats in a burst")
    parser.add_argument("--postpone", type=int, nargs="+", default=[8], help="refreshes at once")
    parser.add_argument("--size", type=int, default=1 << 20, help="bytes")
    parser.add_argument("--ideal", action="store_true", help="also the ideal memory of equal peak")
    options = parser.parse_args(arguments)
    part = PARTS[options.part]

    print(
        f"{'memory':<14}{'MHz':>5}{'CL':>4}{'bits':>6}{'beats':>7}{'postpone':>10}{'cycles':>10}"
        f"{'words':>10}{'% of peak':>11}{'% between refreshes':>21}{'MB/s':>8}"
    )

    def report(name, clock, latency, width, beats, postpone, counters):
        words = options.size * 8 // part.data_bits
        cycles, refreshing = counters["cycles"], counters["refresh_cycles"]
        rate = options.size * clock / cycles / 1e6
        of_peak, of_rest = 100 * words / cycles, 100 * words / (cycles - refreshing)
        print(
            f"{name:<14}{clock / 1e6:>5.0f}{latency:>4}{width:>6}{beats:>7}{postpone:>10}"
            f"{cycles:>10}{words:>10}{of_peak:>11.2f}{of_rest:>21.2f}"
            f"{rate:>8.1f}"
        )

    for clock in options.clock:
        for width in options.data_width:
            for beats in options.beats:
                for latency in options.cas_latency:
                    for postpone in options.postpone:
                        controller = SdramController(
                            part,
                            clock,
                            cas_latency=latency,
                            data_width=width,
                            postpone=postpone,
                            power_up_us=1,
                        )
                        counters = measure(
                            SimulatedSdram(controller),
                            size=options.size,
                            beats=beats,
                            data_width=width,
                        )
                        report(part.name, clock, latency, width, beats, postpone, counters)
                if options.ideal:
                    memory = IdealMemory(
                        data_width=width,
                        size=options.size,
                        beats_every=width // part.data_bits,
                    )
                    counters = measure(memory, size=options.size, beats=beats, data_width=width)
                    report("ideal", clock, "-", width, beats, "-", counters)


if __name__ == "__main__":
    main()
