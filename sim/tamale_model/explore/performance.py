"""Speed and energy of a model on a platform: the roofline, and the cycle model of ours."""

import dataclasses

from tamale_model import cycles, estimate
from tamale_model.explore import silicon
from tamale_model.explore.workload import Storage

__all__ = [
    "ENERGY", "Bound", "bound", "energy", "memory_of", "predicted", "storage_of", "storage_on",
]  # fmt: skip

#: Parts of a token's energy, in the order of tables and pictures.
ENERGY = ("weights", "head", "cache", "memory PHY", "additions", "activations", "rest of chip",
          "board and supply")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Bound:
    """What limits a model on a platform.

    Parameters
    ----------
    bytes : dict of str to float
        Of a token, by class.
    memory : float
        Bytes that must fit.
    available : float
        Bytes there are.
    bandwidth : tuple
        Tokens/s (low, value, high) that the memory allows, at the efficiency that is reached.
    roofline : float
        Tokens/s at the memory's peak.
    arithmetic : tuple or None
        Tokens/s that the stated Tops/s allow.
    """

    bytes: dict
    memory: float
    available: float
    bandwidth: tuple
    roofline: float
    arithmetic: tuple | None

    @property
    def fits(self):
        """Whether weights and cache fit the memory."""
        return self.memory <= self.available

    @property
    def tokens_per_second(self):
        """(low, value, high), whatever limits; zeros where the model does not fit."""
        if not self.fits:
            return (0.0, 0.0, 0.0)
        limits = [self.bandwidth] + ([self.arithmetic] if self.arithmetic else [])
        return tuple(min(values) for values in zip(*limits, strict=True))


def storage_of(config, workload):
    """Return the `Storage` of a configuration."""
    heads = workload.attention.get("head_size", 128)
    return Storage.trits(
        workload.trits["weights"], config.head_planes, config.key_planes, config.value_planes,
        bits=config.trit_code.bits_per_trit, group=workload.trits["group"], head_size=heads,
        weight_bits=config.sparse.bits_per_trit if config.sparse and workload.sparse else None,
    )  # fmt: skip


def storage_on(platform, workload, world):
    """Return the `Storage` that a platform uses: ours, or that of its software."""
    if platform.kind != "system":
        return workload.storage
    bits = platform.weight_bits.value * workload.trits["weights"]
    cache = platform.cache_bits.value
    head = platform.get("head_bits") or world["formats.llama_head"]
    return Storage.uniform(bits, cache, head=max(head.value, bits))


def bound(platform, workload, world, *, positions=2048, sequences=1):
    """Return the `Bound` of a model on a platform.

    Parameters
    ----------
    platform : Platform
    workload : Workload
    world : World
    positions : int
        In the context of each sequence.
    sequences : int
        Tokens of a sweep; tokens/s count all of them.
    """
    storage = storage_on(platform, workload, world)
    positions = min(positions, workload.context)
    moved = workload.token_bytes(storage, positions, sequences)
    total = sum(moved.values())
    width, efficiency = platform.bandwidth, platform.efficiency
    rate = [1e9 * sequences * b / total for b in width.range]
    tops = platform.get("tops")
    arithmetic = None
    if tops is not None:
        arithmetic = tuple(1e12 * t / 2 / workload.macs(positions) for t in tops.range)
    return Bound(
        bytes=moved,
        memory=workload.memory_bytes(storage, positions, sequences),
        available=1e9 * platform.memory.value,
        bandwidth=tuple(r * e for r, e in zip(rate, efficiency.range, strict=True)),
        roofline=rate[1],
        arithmetic=arithmetic,
    )


def memory_of(platform, config, world):
    """Return the `cycles.Memory` of a chip's LPDDR as a configuration's clock sees it.

    Refresh and rows are a constant loss; the array takes one beat a cycle at most.
    """
    per_cycle = 1e9 * platform.bandwidth.value / config.clock_hz
    return cycles.Memory(
        cycles_per_beat=max(1.0, config.beat_bytes / per_cycle),
        latency=max(8, round(1e-9 * world["memory.latency"].value * config.clock_hz)),
        refresh=world["memory.lpddr_loss"].value,
    )


def predicted(config, workload, *, positions=2048, sequences=1, memory=None):
    """Return the predicted cycles of a token by the cycle model.

    Raises
    ------
    DataError, ValueError
        If the hardware does not run the model, or the configuration is too small for it.
    """
    arguments = workload.stand_in()
    context = min(max(positions, 16), workload.context, config.max_context)
    return estimate.token_cycles(
        config, arguments, context, min(positions, context), sequences=sequences, memory=memory
    )


def energy(platform, workload, world, *, positions=2048, sequences=1, essay=False, corner=1,
           area=0.0):  # fmt: skip
    """Return {part: J} of a token.

    Parameters
    ----------
    platform : Platform
    workload : Workload
    world : World
    essay : bool
        By the essay's constants: 640 pJ for 32 bits of DRAM, 0.03 pJ for an addition, nothing else.
    corner : int
        0, 1 or 2: low, value, high.
    area : float
        mm2 of a chip, which leaks.
    """
    limit = bound(platform, workload, world, positions=positions, sequences=sequences)
    moved = {name: size / sequences for name, size in limit.bytes.items()}
    macs = workload.macs(positions)
    if essay:
        per_bit = world["energy.essay_dram"].value / world["energy.dram_access_width"].value
    else:
        per_bit = world[f"energy.{platform.memory_type}"].range[corner]
    head, cache = moved["head"], moved["cache"]
    weights = sum(moved.values()) - head - cache
    result = {
        "weights": 8e-12 * per_bit * weights,
        "head": 8e-12 * per_bit * head,
        "cache": 8e-12 * per_bit * cache,
    }
    if essay:
        return result | {"additions": 1e-12 * world["energy.essay_add"].value * macs}
    total = sum(moved.values())
    if platform.kind == "chip":
        scale = world[f"process.{platform.process}.adder_energy"].range[corner]
        scale /= world["process.28nm.adder_energy"].value
        result["memory PHY"] = 8e-12 * world["energy.phy"].range[corner] * total
        gates = silicon.gates_per_mac()
        result["additions"] = (
            1e-15 * world["energy.gate_cycle"].range[corner] * gates * scale * macs
        )
        # A pair of sums of nine bits is read for two multiplications.
        result["activations"] = 1e-12 * world["energy.sram_bit"].range[corner] * 4.5 * scale * macs
    rate = limit.tokens_per_second[1] / sequences
    if rate:
        if platform.get("watts") is not None:
            used = sum(result.values())
            result["board and supply"] = max(0.0, platform.watts.range[corner] / rate - used)
        else:
            result["rest of chip"] = 1e-3 * world["energy.leakage"].range[corner] * area / rate
            efficiency = world["energy.supply_efficiency"].range[2 - corner]
            inside = sum(result.values()) + world["board.watts"].range[corner] / rate
            result["board and supply"] = inside / efficiency - sum(result.values())
    return result
