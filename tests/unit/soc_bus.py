"""Helpers of the tests of the system's blocks: Wishbone accesses and simulations."""

from amaranth.sim import Simulator


async def access(ctx, bus, address, value=None, sel=0xF, limit=1000):
    """Do one bus cycle; give the read word, or None after a bus error."""
    ctx.set(bus.adr, address // 4)
    ctx.set(bus.we, value is not None)
    ctx.set(bus.dat_w, value or 0)
    ctx.set(bus.sel, sel)
    ctx.set(bus.cyc, 1)
    ctx.set(bus.stb, 1)
    for _ in range(limit):
        *_, ack, err, data = await ctx.tick().sample(bus.ack, bus.err, bus.dat_r)
        if ack or err:
            break
    else:
        raise TimeoutError(f"no answer from {address:#x} within {limit} cycles")
    ctx.set(bus.cyc, 0)
    ctx.set(bus.stb, 0)
    return None if err else data


def simulate(dut, bench, *background):
    """Run ``bench(ctx, dut)`` to its end, with ``background`` benches of the same kind beside
    it."""
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)

    def bound(function):
        async def testbench(ctx):
            await function(ctx, dut)

        return testbench

    simulator.add_testbench(bound(bench))
    for function in background:
        simulator.add_testbench(bound(function), background=True)
    simulator.run()
