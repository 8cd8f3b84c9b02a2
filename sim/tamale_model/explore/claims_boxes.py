"""Claims about boxes: their price, what runs on them, and many of them together."""

import math

from tamale_model.explore import cost, market, performance
from tamale_model.explore.verdict import Check, Verdict, near, pick, register, span

__all__ = []


@register("appliance")
def _appliance(world):
    yield Check(
        ("60", "115"),
        "8 + 30 + 20 = 58 and 20 + 60 + 35 = 115",
        pick(near(58, 60)),
        uses=(),
    )
    now, past = world["memory.price"], world["memory.essay_price"]
    sixty_four = cost.memory(64, world)
    least = 30 / now.low
    yield Check(
        ("64", "30", "60"),
        f"64 GB for $30 to $60 are ${past.low:.2f} to ${past.high:.2f} a GB. At ${now.value:g} "
        f"(${now.low:g} to ${now.high:g}) 64 GB cost ${sixty_four[1]:,.0f} "
        f"(${sixty_four[0]:,.0f} to "
        f"${sixty_four[2]:,.0f})",
        pick(sixty_four[1] <= 60, sixty_four[0] <= 60),
        f"memory has not been that cheap: the last trough, ${now.low:g} a GB, buys "
        f"{least:.0f} GB "
        f"for $30; today's price {60 / now.value:.0f} GB for $60",
        ("memory.price", "memory.essay_price"),
    )
    box = world.platforms["appliance-28nm-8gb"]
    total = market.appliance(box, world).total
    full = market.appliance(world.platforms["appliance-28nm"], world).total
    yield Check(
        ("8", "20", "20", "35"),
        f"with 64 GB: ${span(full, '{:,.0f}')}; with 8 GB, which 7 to 14 B ternary weights need: "
        f"${span(total, '{:,.0f}')}",
        pick(full[1] <= 115, total[0] <= 115),
        f"8 GB instead of 64: then ${total[0]:.0f} at the last trough of memory prices, "
        f"${total[1]:.0f} at the price of November 2025",
        ("memory.price", "board.rest", "chip.margin", box.name),
    )


@register("what-it-runs")
def _what(world):
    box, goal = world.platforms["appliance-28nm"], world["economics.interactive"].value
    rates = []
    for name in ("dense-7b", "dense-14b"):
        card = world.workloads[name]
        rates.append(performance.bound(box, card, world, positions=4096).tokens_per_second)
    slow = [
        performance.bound(
            world.platforms["appliance-28nm-8gb"], world.workloads[n], world, positions=4096
        ).tokens_per_second[1]
        for n in ("dense-7b", "dense-14b")
    ]
    yield Check(
        ("7", "14"),
        f"7 B {span(rates[0], '{:.1f}')} and 14 B {span(rates[1], '{:.1f}')} tokens/s on "
        "64-bit "
        f"LPDDR5-6400 with 4,096 positions; {slow[0]:.1f} and {slow[1]:.1f} on LPDDR4X-4267, which "
        "28 nm chips have",
        pick(rates[1][0] >= goal, rates[1][1] >= goal * 0.95),
        f"{goal:g} tokens/s are conversation, and an LPDDR5 PHY exists in 28 nm: with LPDDR4X 14 B "
        f"reach {slow[1]:.1f}",
        (box.name, "dense-7b", "dense-14b", "economics.interactive"),
    )
    chip = world.platforms["appliance-3nm"]
    essay = world.platforms["essay-3nm"]
    for covers, name, text in ((("200",), "dense-200b", "200 B dense"),
                               (("600",), "deepseek-v3", "671 B, 37 B active")):  # fmt: skip
        card = world.workloads[name]
        storage = card.storage
        moved = sum(card.token_bytes(storage, 4096).values())
        need = goal * moved / 1e9 / chip.efficiency.value
        size = card.memory_bytes(storage, 4096) / 1e9
        wide = performance.bound(chip, card, world, positions=4096)
        yield Check(
            covers,
            f"{text}: {moved / 1e9:.1f} GB a token, {size:.0f} GB of memory. {goal:g} tokens/s "
            "need "
            f"{need:.0f} GB/s; 51.2 GB/s give {51.2e9 * essay.efficiency.value / moved:.1f}, "
            f"256-bit LPDDR5X (273 GB/s) {wide.bandwidth[1]:.1f}",
            pick(
                size <= essay.memory.value and need <= 51.2, wide.bandwidth[1] >= goal and wide.fits
            ),
            f"the box has {size:.0f} GB and {need:.0f} GB/s, which the node does not decide: "
            "the 3 nm "
            "chip is no faster than the 28 nm one on the same memory",
            (name, chip.name, essay.name),
        )


@register("batch-one")
def _batch_one(world):
    card = world.workloads["dense-14b"]
    size = 14e9 * 1.6 / 8
    rate = 51.2e9 / size
    yield Check(
        ("14", "1.6", "2.8", "51", "64", "6400", "1", "18", "0.5"),
        f"14 B x 1.6 bits = {size / 1e9:.1f} GB; 64 bits x 6.4 Gbit/s = {64 * 6.4 / 8:.1f} GB/s; "
        f"{rate:.1f} tokens/s; x 2 x 14 B = {2 * 14e9 * rate / 1e12:.2f} Tops/s",
        pick(near(size, 2.8e9) and near(rate, 18) and near(2 * 14e9 * rate, 0.5e12)),
    )
    real = sum(card.token_bytes(card.storage, 4096).values())
    parts = card.token_bytes(card.storage, 4096)
    yield Check(
        (),
        f"with a head of five trits ({parts['head'] / 1e9:.2f} GB) and a cache of 4,096 positions "
        f"({parts['cache'] / 1e9:.2f} GB) it is {real / 1e9:.2f} GB: at most "
        f"{51.2e9 / real:.1f} tokens/s, about {0.85 * 51.2e9 / real:.1f} at 85 % of the peak",
        Verdict.IF,
        "the weights are all there is; with head and cache 18 become 14",
        (card.name,),
    )


@register("metric")
def _metric(world):
    goal = world["economics.interactive"].value
    for name in ("deepseek-v3", "dense-14b", "bitnet-2b-4t"):
        offers = market.offers(name, world, goal=goal)
        best = next((o for o in offers if o.status == "sold"), None)
        gone = next((o for o in offers if o.status == "withdrawn"), None)
        ours = next((o for o in offers if o.status == "on paper"), None)

        def say(offer):
            if offer is None:
                return "none known"
            return (
                f"{offer.platform.title}, ${offer.price[1]:,.0f}, {offer.rate[1]:.1f} tokens/s, "
                f"{1000 * offer.rate[1] / offer.price[1]:.1f} tokens/s per 1,000 $"
            )

        card = world.workloads[name]
        yield Check(
            (),
            f"{card.title} at {goal:g} tokens/s: to buy: {say(best)}; "
            + (f"no longer sold: {say(gone)}; " if gone else "")
            + f"a chip of ours, on paper: {say(ours)}",
            pick(best is not None, ours is not None),
            "the chip is made; nothing that is sold reaches the goal",
            (name, "economics.interactive"),
        )


@register("boxes")
def _boxes(world):
    yield Check(
        ("8", "200"),
        "8 x 25 W = 200 W",
        Verdict.HOLDS,
    )
    watts = market.watts(world.platforms["appliance-28nm-8gb"], world)
    outlet, share = world["economics.outlet"].value, world["economics.continuous"].value
    allowed = outlet * share
    devices = math.floor((allowed - 200) / 25)
    yield Check(
        ("64", "1,600"),
        f"64 x 25 W = 1,600 W, + 200 W = {outlet:.0f} W; a load that runs for hours may take "
        f"{share:.0%} of the circuit, {allowed:.0f} W: {devices} devices of 25 W. Our box draws "
        f"{span(watts, '{:.1f}')} W: {math.floor((allowed - 200) / watts[1])} of them",
        pick(1800 <= allowed, 64 * watts[1] + 200 <= allowed),
        f"a device draws {(allowed - 200) / 64:.1f} W or less, as ours does without HBM; at 25 "
        "W it "
        "is too much for a continuous load (NEC 210.20)",
        ("economics.outlet", "economics.continuous", "energy.lpddr"),
    )
    line = market.pipeline(
        world.workloads["deepseek-v3"], world.platforms["appliance-28nm"], world, 8
    )
    yield Check(
        (),
        f"a pipeline of 8 boxes with 64 GB runs DeepSeek-V3: {line.single:.1f} tokens/s for one "
        f"sequence, {line.all:.0f} for eight at once; a hop costs {line.hop * 1e3:.1f} ms and "
        "moves "
        f"{line.hop_bytes / 1e3:.0f} kB",
        pick(line.single >= world["economics.interactive"].value, line.all >= 10),
        "several sequences are in flight: a pipeline adds memory, one sequence is no faster for it",
        ("deepseek-v3", "appliance-28nm", "economics.hop"),
    )


@register("eight-boxes")
def _eight(world):
    box = market.appliance(world.platforms["appliance-28nm"], world).total
    small = market.appliance(world.platforms["appliance-28nm-8gb"], world).total
    yield Check(
        ("1,500", "2,000"),
        f"eight essay boxes of $60 to $115: $480 to $920; eight with 64 GB by our model "
        f"${span([8 * v for v in box], '{:,.0f}')}, with 8 GB "
        f"${span([8 * v for v in small], '{:,.0f}')}",
        pick(1500 <= 8 * box[1] <= 2000, 8 * box[0] <= 2000),
        "memory returns to its trough, or the boxes have 8 GB",
        ("memory.price", "board.rest"),
    )
    yield Check(
        ("200", "64", "128"),
        "8 x 25 W = 200 W; 8 x 64 GB = 0.51 TB, 8 x 128 GB = 1.02 TB",
        Verdict.HOLDS,
    )


@register("cluster")
def _cluster(world):
    device, card = world.platforms["cluster-device-hbm"], world.workloads["llama-405b"]
    yield Check(
        ("64", "128", "8.2", "5.5", "6.5"),
        f"64 x 128 GB = {64 * 0.128:.2f} TB; 5.5 to 6.5 TB are {5.5 / 8.192:.0%} to "
        f"{6.5 / 8.192:.0%}",
        Verdict.HOLDS,
        uses=(device.name,),
    )
    yield Check(
        (),
        f"five times DDR5: one HBM2 stack has 256 GB/s, 64-bit DDR5-6400 51.2 GB/s: "
        f"{256 / 51.2:.1f} times; one stack of HBM2 holds 8 GB, 128 GB are 16 stacks",
        pick(False, True),
        "stacks of a later generation are meant: with 128 GB the bandwidth would be higher too",
        (device.name,),
    )
    goal = world["economics.interactive"].value
    storage = card.storage
    moved = sum(card.token_bytes(storage, 4096).values())
    rate = device.efficiency.value * device.bandwidth.value * 1e9 / moved
    need = goal * moved / 1e9 / device.efficiency.value
    yield Check(
        ("400", "30", "50"),
        f"{card.title}: {card.memory_bytes(storage, 4096) / 1e9:.0f} GB fit, {moved / 1e9:.0f} "
        "GB a "
        f"token: {rate:.1f} tokens/s with {device.bandwidth.value:.0f} GB/s; {goal:g} need "
        f"{need:,.0f} GB/s",
        pick(rate >= goal, device.bandwidth.high >= need),
        f"a device has {need / 256:.0f} stacks of HBM2 at full speed, not one",
        (device.name, card.name),
    )


@register("electricity")
def _electricity(world):
    year = 1.6 * 8760
    price = world["economics.electricity"]
    yield Check(
        ("1,600", "1,680", "5"),
        f"1.6 kW x 8,760 h = {year:,.0f} kWh; at $0.12 ${0.12 * year:,.0f} a year, "
        f"${0.12 * 38.4:.2f} a day; at ${price.value} ${price.value * year:,.0f} a year, "
        f"${price.value * 38.4:.2f} a day",
        pick(near(price.value, 0.12), near(0.12 * year, 1680)),
        f"a kWh costs 12 cents; a US household pays about {100 * price.value:.0f}",
        ("economics.electricity", "economics.essay_electricity"),
    )


@register("subscription")
def _subscription(world):
    box = world.platforms["appliance-28nm-8gb"]
    watts = market.watts(box, world)
    total = market.appliance(box, world).total
    essay = cost.break_even_months((60, 87, 115), watts, world)
    ours = cost.break_even_months(total, watts, world)
    yield Check(
        ("20", "60", "115"),
        f"the essay's box pays after {span(essay, '{:.1f}')} months, ours with 8 GB after "
        f"{span(ours, '{:.1f}')}, {world['economics.hours'].value:g} hours a day at "
        f"{watts[1]:.1f} W included",
        pick(False, ours[0] <= 12),
        "a 7 to 14 B model is what the subscription was for: the subscribed one is far larger, and "
        "the price of memory decides between months and years",
        ("economics.subscription", "economics.electricity", "memory.price"),
    )
