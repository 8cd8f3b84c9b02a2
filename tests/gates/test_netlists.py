"""Netlists of small blocks under their own tests, models of cells, deliberate bugs in netlists.

All blocks: `tamale gates`.
"""

import json
import random
import shutil
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from tamale.gateware.adders import multiply
from tamale_fpga import netlist
from tamale_sim import replay, runner

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "cocotb"), str(_TESTS / "unit")]

import test_dma  # noqa: E402
import test_gateware_adders  # noqa: E402
import test_gateware_candidates  # noqa: E402
import test_gateware_trits  # noqa: E402
import test_loader  # noqa: E402

pytestmark = pytest.mark.skipif(
    shutil.which("iverilog") is None, reason="Icarus Verilog is not installed"
)


@pytest.fixture
def gates(monkeypatch):
    """Let builds be of netlists."""
    monkeypatch.setenv("TAMALE_GATES", "1")


def record(module, monkeypatch):
    """Let a test module's simulations be compared with netlists; return them, as they come."""
    simulations = []

    def recorder(toplevel):
        simulations.append(replay.Recorder(toplevel))
        return simulations[-1]

    monkeypatch.setattr(module, "Simulator", recorder)
    return simulations


def test_replayed(monkeypatch):
    simulations = record(test_gateware_trits, monkeypatch)
    test_gateware_trits.test_pair_decoder("t5")
    assert simulations[0].cycles == 256
    simulations = record(test_gateware_candidates, monkeypatch)
    test_gateware_candidates.test_candidates(2, 2)
    assert simulations[0].cycles > 100


def test_cocotb(gates):
    test_loader.simulate(32, 1, "icarus")
    test_dma.simulate("bus32_small", "icarus", ["random_lists", "errors"])


class Storage(wiring.Component):
    """A memory with a port that writes in parts and one that reads, both on one clock."""

    def __init__(self, width, depth, parts, transparent):
        self.shape = (width, depth, parts, transparent)
        super().__init__(
            {
                "write": In(range(depth)), "data": In(width), "enable": In(parts),
                "read": In(range(depth)), "read_enable": In(1), "result": Out(width),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        width, depth, parts, transparent = self.shape
        m = Module()
        start = [random.Random(n).getrandbits(width) for n in range(depth)]
        m.submodules.storage = storage = memory.Memory(shape=width, depth=depth, init=start)
        writer = storage.write_port(granularity=width // parts)
        reader = storage.read_port(transparent_for=(writer,) if transparent else ())
        m.d.comb += [
            writer.addr.eq(self.write), writer.data.eq(self.data), writer.en.eq(self.enable),
            reader.addr.eq(self.read), reader.en.eq(self.read_enable), self.result.eq(reader.data),
        ]  # fmt: skip
        return m


class Behind(wiring.Component):
    """A memory and a register behind it, which its own output register may replace or not."""

    address: In(10)
    write: In(1)
    enable: In(1)
    result: Out(18)
    early: Out(1)

    def __init__(self, kind):
        self._kind = kind
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        start = [random.Random(n).getrandbits(18) for n in range(1024)]
        # Else Yosys puts logic behind the memory, for reads of what is being written.
        m.submodules.storage = storage = memory.Memory(
            shape=18, depth=1024, init=start, attrs={"no_rw_check": 1}
        )
        reader, writer = storage.read_port(domain="comb"), storage.write_port()
        read = Signal(18, reset_less=True)
        behind = Signal(18, reset_less=self._kind != "reset")
        m.d.comb += [
            reader.addr.eq(self.address),
            writer.addr.eq(~self.address),
            writer.data.eq(behind),
            writer.en.eq(self.write),
            self.result.eq(behind),
        ]
        m.d.sync += read.eq(reader.data)
        with m.If(self.enable | (self._kind != "enable")):
            m.d.sync += behind.eq(read)
        if self._kind == "read":
            m.d.comb += self.early.eq(read[3])
        return m


class Product(wiring.Component):
    """One DSP block that is instantiated, one that Yosys infers."""

    a: In(18)
    b: In(18)
    registered: Out(36)
    unsigned: Out(36)

    def elaborate(self, platform):
        m = Module()
        product = multiply(m, platform, self.a.as_signed(), self.b.as_signed(), "product")
        m.d.comb += [self.registered.eq(product), self.unsigned.eq(self.a * self.b)]
        return m


def drive(component, cycles, seed, limits=None):
    """Give random inputs, below limits by name; the netlist is compared. Return the simulation."""
    rng = random.Random(seed)
    simulator = replay.Recorder(component)
    simulator.add_clock(1e-6)
    inputs = {
        name: getattr(component, name)
        for name, member in component.signature.members.items()
        if member.flow == In
    }

    async def bench(ctx):
        for cycle in range(cycles):
            for name, port in inputs.items():
                limit = (limits or {}).get(name, 1 << len(port))
                # Often few values: reads and writes shall meet.
                values = (rng.randrange(min(4, limit)), rng.randrange(limit), limit - 1)
                # What the memory holds at the start is read before anything is written.
                first = {"read": cycle, "read_enable": 1}.get(name, 0)
                ctx.set(port, first if cycle < 4 else rng.choice(values))
            await ctx.tick()

    simulator.add_testbench(bench)
    simulator.run()
    return simulator


@pytest.mark.parametrize(
    ("width", "depth", "parts", "transparent"),
    [
        (36, 512, 4, False),  # both ports of 36 bits
        (18, 1024, 2, True),
        (8, 2048, 1, False),  # the ninth bit is unused
        (4, 4096, 1, False),
        (1, 16384, 1, True),
        (72, 600, 2, False),  # several blocks
    ],
)
def test_block_ram(width, depth, parts, transparent):
    storage = Storage(width, depth, parts, transparent)
    made = netlist.build(storage, "storage_gates", runner.build_root())
    assert made.cells["DP16KD"] >= 1
    simulation = drive(storage, 400, seed=width, limits={"write": depth, "read": depth})

    def corrupt(module):
        # A word among the few that the test reads most.
        for cell in module["cells"].values():
            if cell["type"] == "DP16KD":
                value = cell["parameters"]["INITVAL_00"]
                cell["parameters"]["INITVAL_00"] = value[:-1] + str(1 - int(value[-1]))

    with pytest.raises(AssertionError, match=r"result is [01x]+, not"):
        simulation.compare(corrupt)


@pytest.mark.parametrize("kind", ["plain", "reset", "enable", "read"])
def test_output_registers(kind):
    behind = Behind(kind)
    made = netlist.build(behind, "behind_gates", runner.build_root())
    cells = json.loads(made.json.read_text())["modules"]["behind_gates"]["cells"].values()
    registers = sum(cell["type"] == "TRELLIS_FF" for cell in cells)
    assert registers == (0 if kind == "plain" else 18)
    simulation = drive(behind, 400, seed=5)

    def forget(module):
        for cell in module["cells"].values():
            if cell["type"] == "DP16KD":
                # Both ports, for which one reads is Yosys' choice.
                for name in ("REGMODE_A", "REGMODE_B"):
                    modes = {"OUTREG": "NOREG", "NOREG": "OUTREG"}
                    cell["parameters"][name] = modes[cell["parameters"][name]]

    with pytest.raises(AssertionError, match=r"result is [01x]+, not"):
        simulation.compare(forget)


def test_counter(monkeypatch):
    simulations = record(test_gateware_adders, monkeypatch)
    test_gateware_adders.test_counter(6, False)
    test_gateware_adders.test_counter(6, True)
    test_gateware_adders.test_next(7)
    assert simulations[0].cycles > 400

    def swap(module):
        # Not the first cell of the chain: its tables are of other kinds.
        for name, cell in module["cells"].items():
            if cell["type"] == "CCU2C" and "cell1" in name:
                wires = cell["connections"]
                wires["A0"], wires["B0"] = wires["B0"], wires["A0"]

    with pytest.raises(AssertionError, match="differs from what it was made from"):
        simulations[0].compare(swap)


def test_multiplier():
    product = Product()
    made = netlist.build(product, "product_gates", runner.build_root())
    assert made.cells["MULT18X18D"] == 2
    simulation = drive(product, 200, seed=1)

    def swap(module):
        for cell in module["cells"].values():
            if cell["type"] == "MULT18X18D":
                wires = cell["connections"]
                wires["A16"], wires["A17"] = wires["A17"], wires["A16"]

    with pytest.raises(AssertionError, match="differs from what it was made from"):
        simulation.compare(swap)


def flip(bit):
    """Return a change of a bit in every LUT4."""

    def edit(module):
        for cell in module["cells"].values():
            if cell["type"] == "LUT4":
                value = cell["parameters"]["INIT"]
                flipped = str(1 - int(value[bit]))
                cell["parameters"]["INIT"] = value[:bit] + flipped + value[bit + 1 :]

    return edit


def test_bugs_are_seen(gates, monkeypatch):
    simulations = record(test_gateware_trits, monkeypatch)
    test_gateware_trits.test_pair_decoder("t5")
    with pytest.raises(AssertionError, match=r"pairdecoder_gates differs(.|\n)*cycle \d+: pairs"):
        simulations[0].compare(flip(0))


def test_models_of_cells():
    """Every cell has one model: of Yosys, or, where that is a black box, our own."""
    sources = netlist.cell_sources(runner.build_root())
    text = "".join(path.read_text() for path in sources)
    own = sorted(path.stem for path in netlist.CELLS.glob("*.v"))
    assert own == ["DCCA", "DP16KD", "EHXPLLL", "MULT18X18D", "ODDRX1F", "TRELLIS_IO", "USRMCLK"]
    for cell in [*sum(netlist.YOSYS_CELLS.values(), ()), *own]:
        assert text.count(f"\nmodule {cell}") + text.startswith(f"module {cell}") == 1, cell
