"""One sequence of commands, SCRIPT, after a correct initialisation unless INIT=0.

A script is a list of [clocks after the previous command, command, options].
"""

import json
import os

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge

# ras_n, cas_n, we_n
COMMANDS = {
    "NOP": 0b111,
    "ACT": 0b011,
    "READ": 0b101,
    "WRITE": 0b100,
    "STOP": 0b110,
    "PRE": 0b010,
    "REF": 0b001,
    "MRS": 0b000,
}
MODE = {"a": 2 << 4 | 1}  # CAS latency 2, bursts of two
ALL = {"a": 1 << 10}
INIT = [[25, "PRE", ALL], [2, "REF", {}], [8, "REF", {}], [8, "MRS", MODE], [2, "NOP", {}]]


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def script(dut):
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.cke.value = 1
    dut.cs_n.value = 0
    dut.ras_n.value = dut.cas_n.value = dut.we_n.value = 1
    dut.dq_i_enable.value = 0

    async def drive(command, ba=0, a=0, data=None, mask=0):
        code = COMMANDS[command]
        dut.ras_n.value, dut.cas_n.value, dut.we_n.value = code >> 2, code >> 1 & 1, code & 1
        dut.ba.value, dut.a.value, dut.dqm.value = ba, a, mask
        dut.dq_i_enable.value = data is not None
        dut.dq_i.value = data or 0
        await FallingEdge(dut.clk)

    await FallingEdge(dut.clk)
    steps = json.loads(os.environ["SCRIPT"])
    if os.environ["INIT"] == "1":
        steps = INIT + steps
    for gap, command, options in steps:
        for _ in range(gap - 1):
            await drive("NOP")
        # Data of a read is sampled by the edge that samples this command.
        expected = options.pop("expect", None)
        if expected is not None:
            got = int(dut.dq_o.value)
            assert got == expected, f"{got:#06x} instead of {expected:#06x}"
        await drive(command, **options)
    # The second word of a burst that the last command may have begun.
    await drive("NOP", data=steps[-1][2].get("data"))
    await drive("NOP")
    await ClockCycles(dut.clk, 2)
    assert int(dut.violation.value) == int(os.environ["VIOLATION"])
