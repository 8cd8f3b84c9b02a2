"""Area and clock of the engine: which configurations, and what the table says of them."""

from tamale_fpga.measure import measure as synthesise

from ..runner import build_root

__all__ = ["SEEDS", "configurations", "measure"]

#: Seeds whose slowest clock counts.
SEEDS = 3


def configurations(config):
    """Return the engines that are routed, by name: lanes x vectors.

    The preset's own; and of one vector, on the wide bus that one vector is for.

    Parameters
    ----------
    config : Config
    """
    engines = [
        config,
        config.replace(vectors=1, bus_width=max(128, config.bus_width)),
    ]
    found = {}
    for engine in engines:
        name = f"{engine.lanes} x {engine.vectors}"
        found.setdefault(name, engine.replace(name=name.replace(" ", "")))
    return found


def measure(config, progress=None):
    """Return the figures of the engines and of the decoder.

    Parameters
    ----------
    config : Config
        The preset.
    progress : callable, optional
        Called with lines of text.

    Returns
    -------
    dict
    """
    root = build_root() / "synth"

    def block(name, config, **options):
        return synthesise(
            name, config, root / f"{name}.{config.name}", progress=progress, **options
        )

    rows, engines = {}, configurations(config)
    for name, engine in engines.items():
        found = block("engine", engine, seeds=SEEDS)
        rows[name] = {
            key: found[key]
            for key in ("macs_per_cycle", "lut4", "ff", "ebr", "dsp", "lut4_per_mac", "mhz")
        } | {
            "gmacs_per_klut4": found["gmacs_per_klut4"],
            "mhz_by_seed": [entry["mhz"] for entry in found["routed"]],
            "multipliers_before_drain": _before_drain(found["multipliers"]),
        }
    leading = next(iter(engines))
    one = next(name for name, engine in engines.items() if engine.vectors == 1)
    row = rows[leading]
    decoder = block("decoder", config, area=True)
    return {
        "engines": rows,
        "engine_configuration": f"{leading}, bus of {config.bus_width} bits",
        "engine_configuration_1": f"{one}, bus of {engines[one].bus_width} bits",
        "lut4_per_mac": row["lut4_per_mac"],
        "lut4_per_mac_1": rows[one]["lut4_per_mac"],
        "gmacs_per_klut4": row["gmacs_per_klut4"],
        "engine_mhz": row["mhz"],
        "decoder_lut4_per_weight": decoder["lut4_per_weight"],
        "multipliers_on_trits": max(row["multipliers_before_drain"] for row in rows.values()),
    }


def _before_drain(names):
    """Return how many multipliers see anything but finished sums: those outside the drain."""
    return sum("drain" not in name.split(".") for name in names)
