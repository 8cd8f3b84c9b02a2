"""Decoder and encoder against the table of the code, at every code point."""

import itertools

import pytest
from amaranth.sim import Simulator
from tamale.codes import CODES
from tamale.gateware.trits import TritDecoder, TritEncoder


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()


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


@pytest.mark.parametrize("name", CODES)
def test_encoder(name):
    code, dut = CODES[name], TritEncoder(CODES[name])

    async def bench(ctx):
        for trits in itertools.product((-1, 0, 1), repeat=code.trits_per_byte):
            ctx.set(dut.nonzero, sum((t != 0) << n for n, t in enumerate(trits)))
            ctx.set(dut.negative, sum((t < 0) << n for n, t in enumerate(trits)))
            assert ctx.get(dut.byte) == code.encode[trits], trits

    simulate(dut, bench)


@pytest.mark.parametrize("block", [TritDecoder, TritEncoder])
def test_wrong_code(block):
    message = r"^code must be a TritCode such as CODES\['t5'\], not 't5'$"
    with pytest.raises(TypeError, match=message):
        block("t5")
