"""Decoder and encoder against the table of the code, at every code point."""

import itertools

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from tamale.codes import CODES, PAIRS
from tamale.gateware.trits import PairDecoder, PairLayout, TritDecoder, TritEncoder, join_trits


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.gates("decoder")
@pytest.mark.parametrize("name", CODES)
def test_decoder(name):
    code, dut = CODES[name], TritDecoder(CODES[name])

    async def bench(ctx):
        for byte in range(256):
            ctx.set(dut.byte, byte)
            nonzero, negative = ctx.get(dut.nonzero), ctx.get(dut.negative)
            for n, trit in enumerate(code.decode[byte]):
                assert (nonzero >> n & 1, negative >> n & 1) == (trit != 0, trit < 0), (byte, n)

    simulate(dut, bench)


def take(pair):
    """Return the trits that a `PairLayout` value stands for."""
    return PAIRS[pair.choice + 4 * pair.negative] if pair.nonzero else (0, 0)


@pytest.mark.gates("decoder")
@pytest.mark.parametrize("name", CODES)
def test_pair_decoder(name):
    code, dut = CODES[name], PairDecoder(CODES[name])

    async def bench(ctx):
        for byte in range(256):
            ctx.set(dut.byte, byte)
            trits = sum((take(pair) for pair in ctx.get(dut.pairs)), ())
            if code.trits_per_byte % 2:
                sign = -1 if ctx.get(dut.last_negative) else 1
                trits += (sign * ctx.get(dut.last_nonzero),)
            assert trits == code.decode[byte], byte

    simulate(dut, bench)


@pytest.mark.gates("decoder")
def test_join_trits():
    class Join(wiring.Component):
        nonzero: In(2)
        negative: In(2)
        pair: Out(PairLayout)

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.pair.eq(join_trits(self.nonzero, self.negative))
            return m

    async def bench(ctx):
        for nonzero, negative in itertools.product(range(4), repeat=2):
            ctx.set(dut.nonzero, nonzero)
            ctx.set(dut.negative, negative)
            wanted = tuple((nonzero >> n & 1) * (-1) ** (negative >> n & 1) for n in range(2))
            assert take(ctx.get(dut.pair)) == wanted

    dut = Join()
    simulate(dut, bench)


@pytest.mark.gates("encoder")
@pytest.mark.parametrize("name", CODES)
def test_encoder(name):
    code, dut = CODES[name], TritEncoder(CODES[name])

    async def bench(ctx):
        for trits in itertools.product((-1, 0, 1), repeat=code.trits_per_byte):
            ctx.set(dut.nonzero, sum((t != 0) << n for n, t in enumerate(trits)))
            ctx.set(dut.negative, sum((t < 0) << n for n, t in enumerate(trits)))
            assert ctx.get(dut.byte) == code.encode[trits], trits

    simulate(dut, bench)


@pytest.mark.parametrize("block", [PairDecoder, TritDecoder, TritEncoder])
def test_wrong_code(block):
    message = r"^code must be a TritCode such as CODES\['t5'\], not 't5'$"
    with pytest.raises(TypeError, match=message):
        block("t5")
