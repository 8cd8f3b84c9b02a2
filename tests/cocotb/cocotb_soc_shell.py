"""Testbench of the whole shell: DRAM on the memory port, a terminal on the UART."""

import logging
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiRam

PATTERN_OFFSET = 0x2000


def pauses(probability):
    while True:
        yield random.random() < probability


class Terminal:
    """The other end of the serial line."""

    def __init__(self, dut, period):
        self._dut, self._period = dut, period
        self.text = b""
        cocotb.start_soon(self._listen())

    async def _listen(self):
        dut = self._dut
        while True:
            await RisingEdge(dut.clk)
            if dut.uart_tx.value:
                continue
            await ClockCycles(dut.clk, self._period // 2)
            bits = []
            for bit in range(10):
                if bit:
                    await ClockCycles(dut.clk, self._period)
                bits.append(int(dut.uart_tx.value))
            assert bits[0] == 0 and bits[9] == 1, f"framing error after {self.text!r}"
            self.text += bytes([sum(bit << i for i, bit in enumerate(bits[1:9]))])

    async def send(self, data):
        for byte in data:
            for bit in [0, *(byte >> i & 1 for i in range(8)), 1]:
                self._dut.uart_rx.value = bit
                await ClockCycles(self._dut.clk, self._period)

    async def wait_for(self, text, count=1):
        dut = self._dut
        while self.text.count(text) < count:
            halted = dut.halted.value
            await ClockCycles(dut.clk, 50)
            if halted and self.text.count(text) < count:
                raise AssertionError(
                    f"halted with {int(dut.exit_code.value)} instead of {text!r}; "
                    f"so far {self.text!r}"
                )


@cocotb.test()
async def program(dut):
    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    cocotb.log.info("seed %s", cocotb.RANDOM_SEED)
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    dut.uart_rx.value = 1
    dut.rst.value = 1
    ram = AxiRam(AxiBus.from_prefix(dut, "axi_"), dut.clk, dut.rst, size=1 << 16)
    for word in range(64):
        ram.write_dword(PATTERN_OFFSET + 4 * word, word * 0x0100_0193 & 0xFFFF_FFFF)
    if probability := float(os.environ.get("STALLS", 0)):
        for channel in (
            ram.write_if.aw_channel, ram.write_if.w_channel, ram.write_if.b_channel,
            ram.read_if.ar_channel, ram.read_if.r_channel,
        ):  # fmt: skip
            channel.set_pause_generator(pauses(probability))
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    terminal = Terminal(dut, int(os.environ["BIT_CYCLES"]))

    async def dialogue():
        for attempt in (1, 2):
            await terminal.wait_for(b"ready\n", attempt)
            await terminal.send(b"abCD")
            await terminal.wait_for(b"ABcd\n", attempt)
        while not dut.halted.value:
            await ClockCycles(dut.clk, 50)

    try:
        await with_timeout(dialogue(), 5, "ms")
    finally:
        cocotb.log.info("UART: %s", terminal.text.decode(errors="replace"))
    code = int(dut.exit_code.value)
    assert code == 42, f"exit code {code}"
    assert terminal.text.startswith(b"hello\n")
    assert ram.read_dword(0) == 0x600D_F00D
    assert [ram.read_dword(4 * i) for i in range(1, 64)] == [
        i * 0x9E37_79B1 & 0xFFFF_FFFF for i in range(1, 64)
    ]
