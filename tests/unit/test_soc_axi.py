# amaranth: UnusedElaboratable=no
"""AXI mux and bridge: fairness, errors, abandoned accesses, refused parameters."""

from collections import Counter

import pytest
from soc_bus import access, simulate
from tamale.gateware import axi
from tamale.soc.axi_bridge import AxiBridge
from tamale.soc.axi_mux import AxiMux

SIGNATURE = axi.Signature(addr_width=32, data_width=32, id_width=2)


def grants(priorities, asking, patience=16, cycles=400):
    """Let managers ask for reads all the time; count who is served by a memory that never waits."""
    seen = []

    async def bench(ctx, dut):
        ctx.set(dut.memory.arready, 1)
        for index in asking:
            ctx.set(dut.managers[index].arvalid, 1)
            ctx.set(dut.managers[index].araddr, index * 4)
            ctx.set(dut.managers[index].arid, index & 3)
        for _ in range(cycles):
            *_, valid, address, identifier = await ctx.tick().sample(
                dut.memory.arvalid, dut.memory.araddr, dut.memory.arid
            )
            if valid:
                assert identifier == (address // 4 & 3) | (address // 4) << 2
                seen.append(address // 4)

    simulate(AxiMux([SIGNATURE] * len(priorities), priorities=priorities, patience=patience), bench)
    # An address leaves in every cycle after the first.
    assert len(seen) == cycles - 1
    return seen


@pytest.mark.gates("axi-mux")
def test_round_robin():
    seen = grants([0, 0, 0], [0, 1, 2])
    assert max(Counter(seen).values()) - min(Counter(seen).values()) <= 1
    assert Counter(grants([0, 0, 0], [0, 2])).keys() == {0, 2}
    assert max(Counter(grants([0, 0, 0, 0, 0], [0, 1, 2, 3, 4])).values()) == 80


@pytest.mark.gates("axi-mux")
def test_priority_and_patience():
    seen = Counter(grants([0, 1, 0], [0, 1, 2], patience=16))
    assert seen[1] > 300
    assert abs(seen[0] - seen[2]) <= 1 and seen[0] >= 20
    assert Counter(grants([0, 1], [0])) == {0: 399}
    assert Counter(grants([0, 1], [0, 1], patience=1))[1] in (199, 200)


class Memory:
    """AXI4 memory for the bridge that answers by hand: latency, and errors at chosen words."""

    def __init__(self, latency=3, bad=()):
        self.latency, self.bad = latency, set(bad)
        self.words = {}
        self.bursts = []

    async def run(self, ctx, dut):
        port = dut.axi
        ctx.set(port.arready, 1)
        ctx.set(port.awready, 1)
        ctx.set(port.wready, 1)
        address = data = None
        while True:
            sample = await ctx.tick().sample(
                port.arvalid, port.araddr, port.arlen, port.awvalid, port.awaddr,
                port.wvalid, port.wdata,
            )  # fmt: skip
            _, _, arvalid, araddr, arlen, awvalid, awaddr, wvalid, wdata = sample
            address = awaddr if awvalid else address
            data = wdata if wvalid else data
            if arvalid:
                self.bursts.append((araddr, arlen + 1))
                ctx.set(port.arready, 0)
                await ctx.tick().repeat(self.latency)
                for beat in range(arlen + 1):
                    word = araddr // 4 + beat
                    ctx.set(port.rvalid, 1)
                    ctx.set(port.rdata, self.words.get(word, word))
                    ctx.set(port.rresp, axi.Response.SLVERR if word in self.bad else 0)
                    ctx.set(port.rlast, beat == arlen)
                    await ctx.tick().until(port.rready)
                ctx.set(port.rvalid, 0)
                ctx.set(port.arready, 1)
            if address is not None and data is not None:
                await ctx.tick().repeat(self.latency)
                word = address // 4
                if word not in self.bad:
                    self.words[word] = data
                ctx.set(port.bresp, axi.Response.DECERR if word in self.bad else 0)
                ctx.set(port.bvalid, 1)
                await ctx.tick().until(port.bready)
                ctx.set(port.bvalid, 0)
                address = data = None


@pytest.mark.gates("axi-bridge")
def test_bridge_errors():
    memory = Memory(bad=[5, 9])

    async def bench(ctx, dut):
        assert await access(ctx, dut.bus, 4 * 4) == 4
        assert await access(ctx, dut.bus, 4 * 5) is None
        assert await access(ctx, dut.bus, 4 * 9, 1) is None
        assert await access(ctx, dut.bus, 4 * 8, 77) is not None
        assert await access(ctx, dut.bus, 4 * 8) == 77
        # A line with a bad word gives the good words before it, then the error.
        bus = dut.bus
        ctx.set(bus.cti, 2)
        ctx.set(bus.cyc, 1)
        ctx.set(bus.stb, 1)
        ctx.set(bus.we, 0)
        words = []
        for word in range(8):
            ctx.set(bus.adr, word)
            ack = err = 0
            while not (ack or err):
                *_, ack, err, data = await ctx.tick().sample(bus.ack, bus.err, bus.dat_r)
            words.append(None if err else data)
            if err:
                break
        ctx.set(bus.cyc, 0)
        ctx.set(bus.stb, 0)
        ctx.set(bus.cti, 0)
        assert words == [0, 1, 2, 3, 4, None]
        assert await access(ctx, dut.bus, 4 * 7) == 7

    simulate(AxiBridge(4096), bench, memory.run)


@pytest.mark.gates("axi-bridge")
@pytest.mark.parametrize("cycles", range(1, 12))
@pytest.mark.parametrize("write", [False, True])
def test_bridge_abandoned(cycles, write):
    """A CPU that is reset drops its access; the next one must not see the old one's answer."""

    async def bench(ctx, dut):
        bus = dut.bus
        ctx.set(bus.adr, 0x40)
        ctx.set(bus.cti, 0 if write else 2)
        ctx.set(bus.we, write)
        ctx.set(bus.cyc, 1)
        ctx.set(bus.stb, 1)
        await ctx.tick().repeat(cycles)
        ctx.set(bus.cyc, 0)
        ctx.set(bus.stb, 0)
        ctx.set(bus.cti, 0)
        await ctx.tick()
        for word in (3, 0x41):
            assert await access(ctx, bus, 4 * word) == word

    simulate(AxiBridge(4096), bench, Memory().run)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AxiMux([]), "needs at least one manager"),
        (
            lambda: AxiMux([SIGNATURE, axi.Signature(addr_width=32, data_width=64)]),
            "must agree in address and data width",
        ),
        (lambda: AxiMux([SIGNATURE], priorities=[0, 1]), "1 AXI managers need as many priorities"),
        (lambda: AxiMux([SIGNATURE], patience=0), "patience must be a positive int, not 0"),
        (lambda: AxiBridge(4096, 16), "needs AXI beats of 32 bits or more, not 16"),
        (lambda: AxiBridge(4095), "must be a power of two from 8 to 4 GiB, not 4095 bytes"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
