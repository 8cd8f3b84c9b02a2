import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test()
async def counts(dut):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.rst.value = 1
    dut.en.value = 0
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
    dut.en.value = 1
    for value in range(1, 300):
        await FallingEdge(dut.clk)
        expected = value % 256 + int(os.environ.get("WRONG_BY", "0"))
        assert int(dut.count.value) == expected, f"seed {cocotb.RANDOM_SEED}"
