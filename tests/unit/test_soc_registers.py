"""Registers: the hardware of a block against its description, and refused descriptions."""

import random

import pytest
from soc_bus import access, simulate
from tamale.soc.registers import Block, Field, Register, RegisterFile, Window

BLOCK = Block(
    "engine",
    "Runs command lists.",
    [
        Register(
            "control",
            "Starts and configures the engine.",
            [
                Field("start", 1, "Write 1 to start.", access="pulse"),
                Field("planes", 3, "Trit planes per weight.", access="rw", init=1, offset=4),
            ],
        ),
        Register(
            "status",
            "What happened.",
            [
                Field("busy", 1, "High while a list runs.", access="ro"),
                Field("fault", 2, "Bus errors; write 1 to clear.", access="w1c"),
                Field("version", 8, "Version of the engine.", access="const", init=0x5A, offset=24),
            ],
        ),
        Register("entry_word", "Words of the entry.", access="wo", count=2, offset=0x10),
        Register("limit", "Where to stop.", width=40, init=0x12_3456_789A),
        Register("cycles", "Clock cycles since reset.", width=64, access="ro"),
        Window("scratchpad", "Activations, one word each.", size=64),
    ],
)


def test_layout():
    offsets = {item.name: item.offset for item in BLOCK.items}
    assert offsets == {
        "control": 0,
        "status": 4,
        "entry_word": 0x10,
        "limit": 0x18,
        "cycles": 0x20,
        "scratchpad": 0x40,
    }
    assert BLOCK.size == 0x80


@pytest.mark.gates("registers")
def test_fields():
    async def bench(ctx, dut):
        bus = dut.bus
        assert await access(ctx, bus, 0) == 0x10
        assert await access(ctx, bus, 0, 0x51) is not None
        # The bus cycle ends in the cycle of the strobe: the next cycle must see the pulse gone.
        assert ctx.get(dut.control.start) == 0 and ctx.get(dut.control.write_strobe) == 0
        assert ctx.get(dut.control.planes) == 5
        assert await access(ctx, bus, 0) == 0x50
        ctx.set(dut.status.busy, 1)
        ctx.set(dut.status.fault_set, 3)
        await ctx.tick()
        ctx.set(dut.status.fault_set, 0)
        assert await access(ctx, bus, 4) == 0x5A00_0007
        assert await access(ctx, bus, 4, 0x0000_0002) is not None
        assert await access(ctx, bus, 4) == 0x5A00_0005
        ctx.set(dut.cycles.value, 0x1234_5678_9ABC_DEF0)
        assert await access(ctx, bus, 0x20) == 0x9ABC_DEF0
        assert await access(ctx, bus, 0x24) == 0x1234_5678

    simulate(RegisterFile(BLOCK), bench)


@pytest.mark.gates("registers")
def test_wide_register():
    async def bench(ctx, dut):
        assert await access(ctx, dut.bus, 0x18) == 0x3456_789A
        assert await access(ctx, dut.bus, 0x1C) == 0x12
        await access(ctx, dut.bus, 0x18, 0xFEDC_BA98)
        assert ctx.get(dut.limit.value) == 0x12_FEDC_BA98
        await access(ctx, dut.bus, 0x1C, 0xFFFF_FF77)
        assert ctx.get(dut.limit.value) == 0x77_FEDC_BA98

    simulate(RegisterFile(BLOCK), bench)


@pytest.mark.gates("registers")
def test_strobes():
    seen = []

    async def watch(ctx, dut):
        async for _, _, *values in ctx.tick().sample(
            dut.entry_word[1].write_strobe,
            dut.entry_word[1].value,
            dut.entry_word[0].write_strobe,
            dut.control.start,
            dut.cycles.read_strobe,
            dut.limit.write_strobe,
            dut.limit.value,
        ):
            seen.append(values)

    async def bench(ctx, dut):
        await access(ctx, dut.bus, 0x14, 0xCAFE_F00D)
        await access(ctx, dut.bus, 0x00, 1)
        await access(ctx, dut.bus, 0x20)
        await access(ctx, dut.bus, 0x14)
        await access(ctx, dut.bus, 0x18, 0x1111_1111)
        await access(ctx, dut.bus, 0x1C, 0x22)
        await ctx.tick().repeat(2)

    simulate(RegisterFile(BLOCK), bench, watch)
    assert [value for strobe, value, *_ in seen if strobe] == [0xCAFE_F00D]
    assert sum(row[2] for row in seen) == 0
    assert sum(row[3] for row in seen) == 1
    assert sum(row[4] for row in seen) == 1
    assert [value for *_, strobe, value in seen if strobe] == [0x22_1111_1111]


def test_refusals():
    async def bench(ctx, dut):
        bus = dut.bus
        assert await access(ctx, bus, 0x08) is None, "hole"
        assert await access(ctx, bus, 0x08, 1) is None, "hole"
        assert await access(ctx, bus, 0x30) is None, "behind the last register"
        assert await access(ctx, bus, 0x20, 1) is None, "read-only"
        assert await access(ctx, bus, 0x00, 0x70, sel=0b0001) is None, "byte write"
        assert ctx.get(dut.control.planes) == 1
        assert await access(ctx, bus, 0x00, sel=0b0001) == 0x10

    simulate(RegisterFile(BLOCK), bench)


@pytest.mark.gates("registers")
def test_setting_wins_over_clearing():
    async def setter(ctx, dut):
        # Sets the field in the one cycle in which the write takes effect.
        await ctx.tick().repeat(2)
        ctx.set(dut.status.fault_set, 1)
        await ctx.tick()
        ctx.set(dut.status.fault_set, 0)

    async def bench(ctx, dut):
        await ctx.tick()
        await access(ctx, dut.bus, 4, 0x2)
        assert await access(ctx, dut.bus, 4) & 0x2
        await access(ctx, dut.bus, 4, 0x2)
        assert not await access(ctx, dut.bus, 4) & 0x2

    simulate(RegisterFile(BLOCK), bench, setter)


@pytest.mark.gates("registers")
def test_window():
    memory = {}

    async def target(ctx, dut):
        bus = dut.scratchpad
        async for _, _, cyc, stb, we, adr, data, sel in ctx.tick().sample(
            bus.cyc, bus.stb, bus.we, bus.adr, bus.dat_w, bus.sel
        ):
            ack = cyc and stb and not ctx.get(bus.ack) and random.random() < 0.5
            if ack and we:
                memory[adr] = (data, sel)
            ctx.set(bus.ack, ack)
            ctx.set(bus.dat_r, memory.get(adr, (0, 0))[0])

    async def bench(ctx, dut):
        for word in range(16):
            await access(ctx, dut.bus, 0x40 + 4 * word, word * 0x0101_0101, sel=3)
        for word in range(16):
            assert await access(ctx, dut.bus, 0x40 + 4 * word) == word * 0x0101_0101
        assert await access(ctx, dut.bus, 0) == 0x10

    simulate(RegisterFile(BLOCK), bench, target)
    assert memory == {word: (word * 0x0101_0101, 3) for word in range(16)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Field("While", 1, "A."), "field name 'While' must be lower-case"),
        (lambda: Field("while", 1, "A."), "field name 'while' must be lower-case"),
        (lambda: Field("a", 1, "No stop"), "needs a sentence on one line"),
        (lambda: Field("a", 1, "A.", init=2), "initial value 2 of field 'a' does not fit 1 bits"),
        (lambda: Field("a", 1, "A.", access="ro", init=1), "has no initial value 1; drop it"),
        (lambda: Field("a", 1, "A.", access="r"), "must be one of rw, ro, wo, pulse, w1c, const"),
        (lambda: Field("a", 1, "A.", values={"on": 2}), "value 'on' = 2 of field 'a' does not fit"),
        (
            lambda: Register("r", "R.", [Field("a", 4, "A."), Field("b", 1, "B.", offset=2)]),
            "starts at bit 2, below bit 4",
        ),
        (lambda: Register("r", "R.", [Field("a", 1, "A."), Field("a", 1, "A.")]), "two fields 'a'"),
        (lambda: Register("r", "R.", [Field("a", 20, "A."), Field("b", 20, "B.")]), "split it"),
        (
            lambda: Register("r", "R.", [Field("a", 1, "A.")], init=1),
            "state width, access and initial",
        ),
        (lambda: Window("w", "W.", size=24), "must be a power of two from 8"),
        (lambda: Window("w", "W.", size=64, offset=32), "must be a multiple of its 64 bytes"),
        (lambda: Block("b", "B.", []), "is empty"),
        (lambda: Block("b", "B.", [Register("r", "R."), Register("r", "R.")]), "two items 'r'"),
        (
            lambda: Block("b", "B.", [Register("r", "R."), Register("s", "S.", offset=2)]),
            "at or above",
        ),
        (lambda: Block("b", "B.", [Register("r", "R.", count=5)], size=16), "give it 0x20 or more"),
    ],
)
def test_bad_descriptions(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_missing_item_lists_the_known_ones():
    with pytest.raises(KeyError, match="it has control, status"):
        BLOCK["contrl"]
