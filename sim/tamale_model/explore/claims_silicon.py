"""Claims about energy, chips and what they cost to make."""

import dataclasses

from tamale_model.explore import cost, design, market, performance, silicon
from tamale_model.explore.verdict import Check, Verdict, near, pick, register, span

__all__ = []


@register("memory-wall")
def _memory_wall(world):
    dram, width = world["energy.essay_dram"].value, world["energy.dram_access_width"].value
    lpddr = world["energy.lpddr"]
    yield Check(
        ("640",),
        f"640 pJ for {width:g} bits are {dram / width:.0f} pJ a bit; LPDDR takes "
        f"{span(lpddr.range)} pJ a bit, HBM2 {world['energy.hbm2'].value} (O'Connor 2017)",
        pick(lpddr.low <= dram / width <= lpddr.high, True),
        f"{width:g} bits and the DRAM of 2014 are meant; LPDDR is about "
        f"{dram / width / lpddr.value:.0f} times better",
        ("energy.essay_dram", "energy.dram_access_width", "energy.lpddr", "energy.hbm2"),
    )
    essay, fp16 = world["energy.essay_multiply"].value, world["energy.fp16_multiply"].value
    yield Check(
        ("3.7",),
        f"Horowitz 2014 has 3.7 pJ for 32 bits and {fp16} pJ for 16 bits, in 45 nm",
        pick(near(essay, fp16)),
        "it is the 32-bit multiplication; FP16 is a third of it",
        ("energy.essay_multiply", "energy.fp16_multiply", "energy.fp32_multiply"),
    )
    add, gate = world["energy.essay_add"].value, world["energy.gate_cycle"].value
    gates = silicon.gates_per_mac()
    mac = gate * gates * 1e-3
    yield Check(
        ("0.03",),
        f"0.03 pJ is a bare 8-bit addition in 45 nm. Our array switches {gates:.0f} gates for a "
        f"product, registers and accumulators included: {gate} fJ x {gates:.0f} = {mac:.2f} pJ",
        pick(near(add, mac, 0.5), True),
        f"the addition alone is meant; with what surrounds it {mac / add:.0f} times as much",
        ("energy.essay_add", "energy.gate_cycle", "synthesis.json"),
    )
    bits = world["measured.bits_per_weight"].value
    for label, per_bit in (("the essay", dram / width), ("LPDDR", lpddr.value)):
        yield Check(
            (),
            f"by {label}: a trit of {bits} bits costs {per_bit * bits:.1f} pJ to fetch, "
            f"{per_bit * bits / mac:,.0f} times its use at batch 1",
            pick(per_bit * bits > 10 * mac, per_bit * bits > mac),
            "the ratio is moderate: eight vectors that share a sweep bring it near one",
            ("energy.lpddr", "energy.gate_cycle", "measured.bits_per_weight"),
        )


@register("energy-ratios")
def _ratios(world):
    dram, add = world["energy.essay_dram"].value, world["energy.essay_add"].value
    multiply = world["energy.essay_multiply"].value
    yield Check(
        ("17,000",),
        f"640 / 0.03 = {dram / add:,.0f}",
        pick(near(dram / add, 17000)),
        "the essay's own constants give 21,333; and the access brings 32 bits, which are 20 trits: "
        f"{dram / add / 20:,.0f} for each",
        ("energy.essay_dram", "energy.essay_add"),
    )
    yield Check(
        ("170",),
        f"640 / 3.7 = {dram / multiply:.0f}",
        pick(near(dram / multiply, 170)),
        uses=("energy.essay_dram", "energy.essay_multiply"),
    )
    yield Check(
        (),
        f"hundred-to-one: 3.7 / 0.03 = {multiply / add:.0f}; with FP16's 1.1 pJ "
        f"{world['energy.fp16_multiply'].value / add:.0f}",
        pick(False, near(multiply / add, 100, 0.3)),
        "FP32 is compared; FP16 gives 37 to one",
        ("energy.essay_multiply", "energy.fp16_multiply", "energy.essay_add"),
    )


@register("transistors")
def _transistors(world):
    gates = silicon.gates_per_mac()
    yield Check(
        ("5",),
        f"{gates:.0f} NAND2 equivalents x 4 transistors = {4 * gates:,.0f} a product and "
        "cycle, with "
        "its share of decoder, registers and accumulator (int8 activations, synthesised)",
        pick(4 * gates < 10),
        "five transistors select a sign; an int8 activation has eight bits to add to a sum of "
        "more than twenty, and keeps them in registers",
        ("synthesis.json",),
    )
    yield Check(
        ("5,000", "10,000"),
        f"5,000 to 10,000 over {4 * gates:,.0f} = {5000 / 4 / gates:.0f} to "
        f"{10000 / 4 / gates:.0f}",
        pick(False, 5000 / 4 / gates > 5),
        "an order of magnitude is meant, not three: thousand-to-one is not reached",
        ("synthesis.json",),
    )


@register("array-width")
def _array_width(world):
    yield _width_check(("8,750", "80", "140", "5", "8", "1"))


def _width_check(covers):
    one = 8750 * 2 * 1e9 / 1e12
    lanes = 80 / one, 140 / one
    return Check(
        covers,
        f"8,750 x 2 operations x 1 GHz = {one:.1f} Tops/s; 80 to 140 are {lanes[0]:.1f} to "
        f"{lanes[1]:.1f} times that",
        pick(4.5 <= lanes[0] <= 5.5 and 7.5 <= lanes[1] <= 8.5),
    )


@register("chip-28nm")
def _chip(world):
    check = _width_check(("8,750", "80", "140"))
    yield dataclasses.replace(
        check, verdict=pick(False, check.verdict is Verdict.HOLDS),
        because="each element is 5 to 8 lanes wide at 1 GHz",
    )  # fmt: skip
    card, box = world.workloads["dense-14b"], world.platforms["essay-28nm"]
    bound = performance.bound(box, card, world, positions=2048)
    rate = bound.tokens_per_second[1]
    tops = 2e-12 * card.macs(2048) * rate
    yield Check(
        (),
        f"{card.title} at {rate:.1f} tokens/s needs {tops:.2f} Tops/s: {tops / 80:.1%} of 80. The "
        f"rest helps only where vectors share a sweep; {80 / tops:.0f} of them would",
        pick(tops > 40, True),
        "prompts or parallel sequences fill it; one person's decoding does not",
        (card.name, box.name),
    )
    area = silicon.area(design.reference(box, world), world, "28nm", box.channels.value)
    total = _total(area)
    headline = 55e3 * silicon.gates_per_mac() * world["process.28nm.gate"].value / 0.7 * 1e-6
    essay = [total[i] + headline for i in range(3)]
    small, large = (silicon.die(a, world, "28nm") for a in (total[1], essay[1]))
    budget = _area_for(2.80, world)
    yield Check(
        ("2.80",),
        f"our chip for this memory: {span(total, '{:.1f}')} mm2, ${small.cost:.2f} a good die "
        f"(wafer ${world['process.28nm.wafer'].value:,.0f}, {small.gross:.0f} dies, yield "
        f"{small.good:.0%}); with an array of 55,000 lanes {essay[1]:.0f} mm2, ${large.cost:.2f}; "
        f"$2.80 buys {budget:.0f} mm2",
        pick(large.cost <= 2.80, total[0] < budget),
        f"the die stays below {budget:.0f} mm2",
        ("process.28nm.wafer", "process.28nm.defects", "process.28nm.gate", "process.28nm.phy_area",
         "synthesis.json"),
    )  # fmt: skip
    chip = cost.chip(total, world, "28nm")
    price = cost.chip_price(chip, world)
    yield Check(
        ("8", "20"),
        f"die, probe, package and test, royalties, development: ${span(chip.total, '{:.2f}')}; "
        f"sold at ${span(price, '{:.2f}')}",
        pick(price[2] <= 20, price[1] <= 20),
        f"at least a million chips share {world['chip.nre'].value / 1e6:.0f} M$ of development: at "
        f"100,000 they add ${world['chip.nre'].value / 1e5:.0f} each",
        ("chip.package", "chip.nre", "chip.volume", "chip.margin"),
    )
    watts = _chip_watts(world, box, card)
    yield Check(
        ("5", "15"),
        f"decoding {card.title}: {watts['essay']:.1f} W by the essay's 640 pJ for 32 bits; "
        f"{watts['now']:.1f} W by LPDDR and our gates, memory and PHY included. The array at "
        f"110 Tops/s: {55e12 * world['energy.essay_add'].value * 1e-12:.1f} W of bare additions, "
        f"{watts['array']:.0f} W by its gates",
        pick(5 <= watts["essay"] <= 15, True),
        "DRAM costs what it did in 2014; decoding takes less, the full headline rate more",
        ("energy.essay_dram", "energy.lpddr", "energy.phy", "energy.gate_cycle"),
    )


def _total(parts):
    """(low, value, high) of the sum of parts."""
    return tuple(sum(values) for values in zip(*parts.values(), strict=True))


def _chip_watts(world, box, card):
    rate = performance.bound(box, card, world, positions=2048).tokens_per_second[1]
    essay = sum(performance.energy(box, card, world, essay=True).values()) * rate
    parts = performance.energy(
        dataclasses.replace(box, figures={k: v for k, v in box.figures.items() if k != "watts"}),
        card, world, area=_total(market.chip_area(box, world))[1],
    )  # fmt: skip
    inside = sum(v for k, v in parts.items() if k != "board and supply")
    array = 55e12 * world["energy.gate_cycle"].value * 1e-15 * silicon.gates_per_mac()
    return {"essay": essay, "now": inside * rate, "array": array}


def _area_for(price, world):
    """mm2 of a die that costs ``price``, by bisection."""
    low, high = 1.0, 400.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if silicon.die(middle, world, "28nm").cost < price else (low, middle)
        )
    return low


@register("chip-3nm")
def _chip_3nm(world):
    gates = 1e5 * 6.3 * silicon.gates_per_mac()
    area = gates * world["process.3nm.gate"].value / 0.7 * 1e-6
    clock = world["process.3nm.clock"].value / 1e3
    tops = 1e5 * 2 * 6.3 * clock * 1e9 / 1e12
    yield Check(
        ("100,000", "1,000", "4,000"),
        f"100,000 elements of 6.3 lanes are {gates / 1e6:.0f} M gates, {area:.0f} mm2 of logic; "
        f"x 2 x 6.3 x {clock:g} GHz = {tops:,.0f} Tops/s",
        pick(1000 <= tops <= 4000),
        uses=("process.3nm.gate", "process.3nm.clock", "synthesis.json"),
    )
    scale = world["process.3nm.adder_energy"].value / world["process.28nm.adder_energy"].value
    bare = [t * 0.5 * world["energy.essay_add"].value * scale for t in (1000, 4000)]
    real = [
        t * 0.5e-3 * world["energy.gate_cycle"].value * silicon.gates_per_mac() * scale
        for t in (1000, 4000)
    ]
    yield Check(
        ("10", "20"),
        f"1,000 to 4,000 Tops/s: {bare[0]:.1f} to {bare[1]:.1f} W of bare additions, "
        f"{real[0]:.0f} to "
        f"{real[1]:.0f} W by our gates",
        pick(10 <= real[0] and real[1] <= 20, bare[0] <= 20),
        "the array is busy with few of its operations, as in decoding; the headline rate by our "
        "gates draws more",
        ("energy.essay_add", "process.3nm.adder_energy", "energy.gate_cycle"),
    )
    dies = [silicon.die(a, world, "3nm").cost for a in (60, 100, 130)]
    yield Check(
        ("30", "50"),
        f"dies of 60, 100, 130 mm2 cost ${dies[0]:.0f}, ${dies[1]:.0f}, ${dies[2]:.0f} at "
        f"${world['process.3nm.wafer'].value:,.0f} a wafer",
        pick(dies[0] < 30 < dies[1] < 50, dies[0] < 50),
        uses=("process.3nm.wafer", "process.3nm.defects"),
    )
    ratio = world["process.28nm.gate"].value / world["process.3nm.gate"].value
    yield Check(
        ("10", "30"),
        f"{ratio:.1f} times the gates in an area, "
        f"{clock * 1e3 / world['process.28nm.clock'].value:.1f} "
        f"times the clock: {ratio * clock * 1e3 / world['process.28nm.clock'].value:.0f} times "
        "the compute",
        pick(10 <= ratio * clock * 1e3 / world["process.28nm.clock"].value <= 40),
        uses=("process.3nm.gate", "process.28nm.gate"),
    )
    phy = 4 * world["process.3nm.phy_area"].value
    yield Check(
        ("10", "2"),
        f"the PHY of 64 bits takes {phy:.1f} mm2 of 10, pads {world['chip.fixed_area'].value:g}; "
        "decoding is as fast as the memory, so compute alone does not match anything",
        pick(False, phy < 8),
        "it keeps the same memory and its pins",
        ("process.3nm.phy_area", "chip.fixed_area"),
    )
