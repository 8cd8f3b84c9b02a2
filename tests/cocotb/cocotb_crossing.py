"""Random traffic over the clock domain crossings, both clocks with their own period."""

import logging
import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer, with_timeout
from cocotbext.axi import AxiBus, AxiMaster, AxiRam

PERIODS = [int(period) for period in os.environ["PERIODS"].split()]  # ps: sync, cpu


async def start(dut):
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    cocotb.log.setLevel(logging.INFO)
    cocotb.log.info("seed %s, periods %s ps", cocotb.RANDOM_SEED, PERIODS)
    dut.rst.value = dut.cpu_rst.value = 1
    cocotb.start_soon(Clock(dut.clk, PERIODS[0], unit="ps").start())
    await Timer(random.randrange(2, 2 * max(PERIODS), 2), "ps")
    cocotb.start_soon(Clock(dut.cpu_clk, PERIODS[1], unit="ps").start())
    for _ in range(4):
        await RisingEdge(dut.clk)
        await RisingEdge(dut.cpu_clk)
    dut.rst.value = dut.cpu_rst.value = 0
    await RisingEdge(dut.clk)
    await RisingEdge(dut.cpu_clk)


def pauses(probability):
    while True:
        yield random.random() < probability


@cocotb.test()
async def axi_random(dut):
    await start(dut)
    master = AxiMaster(AxiBus.from_prefix(dut, "manager_"), dut.cpu_clk, dut.cpu_rst)
    memory = AxiRam(AxiBus.from_prefix(dut, "subordinate_"), dut.clk, dut.rst, size=0x1000)
    for side in (master, memory):
        for channel in (
            side.write_if.aw_channel, side.write_if.w_channel, side.write_if.b_channel,
            side.read_if.ar_channel, side.read_if.r_channel,
        ):  # fmt: skip
            channel.set_pause_generator(pauses(random.choice([0, 0.3, 0.7])))
    expected = bytearray(0x1000)

    async def traffic():
        for _ in range(60):
            offset = random.randrange(0xF00)
            data = random.randbytes(random.randint(1, 200))
            await master.write(offset, data)
            expected[offset : offset + len(data)] = data
            offset = random.randrange(0xF00)
            read = await master.read(offset, random.randint(1, 200))
            assert read.data == bytes(expected[offset : offset + len(read.data)])

    await with_timeout(traffic(), 5, "ms")


@cocotb.test()
async def wishbone_random(dut):
    """Every access arrives once, in order, with its payload; a dropped one has no answer."""
    await start(dut)
    memory, seen = {}, []

    async def target():
        dut.target__ack.value = dut.target__err.value = 0
        while True:
            await RisingEdge(dut.clk)
            if not (dut.target__cyc.value and dut.target__stb.value):
                continue
            for _ in range(random.choice([0, 0, 1, 5])):
                await RisingEdge(dut.clk)
            address, write = int(dut.target__adr.value), int(dut.target__we.value)
            seen.append((address, write, int(dut.target__sel.value)))
            if write:
                memory[address] = int(dut.target__dat_w.value)
            dut.target__dat_r.value = memory.get(address, address * 3)
            bad = address % 7 == 3
            dut.target__ack.value, dut.target__err.value = int(not bad), int(bad)
            await RisingEdge(dut.clk)
            dut.target__ack.value = dut.target__err.value = 0
            dut.target__dat_r.value = random.getrandbits(32)

    cocotb.start_soon(target())
    clk = RisingEdge(dut.cpu_clk)

    async def access(address, write, data, sel, patience):
        bus = {"adr": address, "we": write, "dat_w": data, "sel": sel, "cyc": 1, "stb": 1}
        for name, value in bus.items():
            getattr(dut, f"bus__{name}").value = value
        for _ in range(patience):
            await clk
            if dut.bus__ack.value or dut.bus__err.value:
                answer = int(dut.bus__err.value), int(dut.bus__dat_r.value)
                dut.bus__stb.value = 0
                if random.random() < 0.5:
                    dut.bus__cyc.value = 0
                    await clk
                    assert not (dut.bus__ack.value or dut.bus__err.value), "answered twice"
                return answer
        dut.bus__cyc.value = dut.bus__stb.value = 0
        await clk
        return None

    async def traffic():
        asked, shadow, answer = [], {}, True
        for _ in range(400):
            address, write = random.randrange(32), random.getrandbits(1)
            data, sel = random.getrandbits(32), random.randrange(1, 16)
            # An access that follows a dropped one waits for that one's end, so it is not dropped.
            drop = answer is not None and random.random() < 0.3
            answer = await access(
                address, write, data, sel, random.randint(2, 12) if drop else 1000
            )
            asked.append((address, write, sel))
            if write:
                shadow[address] = data
            if answer is not None:
                bad, value = answer
                assert bad == (address % 7 == 3)
                if not write:
                    assert value == shadow.get(address, address * 3), f"{address:#x}"
        for _ in range(50):
            await clk
        assert seen == asked

    await with_timeout(traffic(), 5, "ms")
