"""From a configuration to a bitstream: synthesis, placement and routing of several seeds, packing.

Every stage leaves a file with its result in a folder that is named after a hash of its inputs. What
is there is not made again, so an interrupted build goes on where it stopped.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import UnusedElaboratable
from tamale.soc.system import build_firmware, build_soc
from tamale_model.explore import silicon

from . import area, contents, ecp5, gowin, ice40
from .core_top import CoreBoardDesign
from .top import BoardDesign

__all__ = ["Build", "Design", "build", "synthesise"]

#: Raise this when the way of building changes.
_RECIPE = 5

#: What synthesises, routes and packs for a family of FPGAs; others are only estimated.
_FLOWS = {"ecp5": ecp5, "gowin": gowin, "ice40": ice40}

#: The top level of a board of a family whose core performs the commands out of the flash.
_CORE_DESIGNS = {"ice40": CoreBoardDesign}


@dataclasses.dataclass(frozen=True)
class Design:
    """A board's netlist, ``top.json`` in a folder.

    Attributes
    ----------
    directory : Path
    platform : Platform
    synthesis : dict
        ``cells`` by type, ``seconds``.
    firmware : bytes
        What packing adds; nothing where the netlist has it.
    """

    directory: Path
    platform: object
    synthesis: dict
    firmware: bytes


@dataclasses.dataclass(frozen=True)
class Build:
    """Where a design's files lie and what its stages gave.

    Attributes
    ----------
    directory : Path
    board : Board
    config : Config
    synthesis : dict
        ``cells`` by type, ``seconds``.
    seeds : list of dict
        ``seed``, ``fmax_mhz`` by clock domain, ``resources``, ``seconds``; in the order of seeds.
    bitstream : Path
        Of the seed with the fastest engine, and with the firmware: in its block RAM, or behind it
        where the core starts from the flash.
    """

    directory: Path
    board: object
    config: object
    synthesis: dict
    seeds: list
    bitstream: Path

    @property
    def best(self):
        """Result of the seed that the bitstream is of."""
        return max(self.seeds, key=lambda seed: margin(self.config, seed))

    @property
    def worst(self):
        """Slowest clock of each domain over the seeds, in MHz."""
        return {
            domain: min(seed["fmax_mhz"][domain] for seed in self.seeds)
            for domain in self.seeds[0]["fmax_mhz"]
        }

    @property
    def closed(self):
        """Whether the bitstream's clocks are fast enough."""
        return margin(self.config, self.best) >= 1


def wanted_mhz(config):
    """Return the clock that each domain needs, in MHz."""
    clocks = {"engine": config.clock_hz / 1e6}
    if config.cpu_clock_hz:
        clocks["cpu"] = config.cpu_clock_hz / 1e6
    return clocks


def margin(config, seed):
    """Return the smallest ratio of what a seed reaches to what the configuration needs."""
    return min(seed["fmax_mhz"][name] / mhz for name, mhz in wanted_mhz(config).items())


def _stage(path, make):
    """Return the JSON of a stage, made if it is not there."""
    if path.exists():
        return json.loads(path.read_text())
    start = time.monotonic()
    result = make()
    result["seconds"] = round(time.monotonic() - start, 1)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(result))
    part.replace(path)
    return result


def _route(flow, directory, platform, seed):
    result = flow.place_and_route(
        "top", directory, platform, seed=seed, stem=f"seed{seed}",
        options=flow.route_options(f"seed{seed}"),
    )  # fmt: skip
    fmax = {}
    for net, entry in result["fmax"].items():
        # The clock of what sets a PHY's delay lines is slow, and nearly nothing is on it.
        if "init" in net:
            continue
        # The engine's clock is the gate's output; the oscillator itself clocks nothing.
        domain = "cpu" if "cpu" in net else "engine"
        fmax[domain] = min(entry["achieved"], fmax.get(domain, float("inf")))
    used = {
        name: [entry["used"], entry["available"]]
        for name, entry in result["utilization"].items()
        if entry["used"]
    }
    return {"seed": seed, "fmax_mhz": fmax, "resources": used}


def _refusal(board, config):
    """Return why a board whose core starts from the flash is not built for a configuration."""
    if config.engine == "core":
        return (
            f"{board.name} has no memory but its flash, and configuration {config.name} has "
            f"memory = {config.memory!r}; use memory = 'flash', or preset {board.preset}"
        )
    with warnings.catch_warnings():
        # Of the system without memory and pins, only the size is asked for.
        warnings.simplefilter("ignore", UnusedElaboratable)
        text = rtlil.convert(build_soc(config), name="top", platform=None, emit_src=False)
    expected = area.estimate(text, config.cpu, board.device.fabric)
    reasons = [figures for figures, _ in area.misfits(expected, board.device, config)]
    blocks = sorted(silicon.ecp5_blocks(config).items(), key=lambda item: -item[1])
    largest = ", ".join(f"{name} {lut4:,.0f}" for name, lut4 in blocks[:4])
    return (
        f"{board.name} cannot be built for: configuration {config.name} needs "
        + ("; and ".join(reasons) or "a memory, which the board has none of")
        + f". Largest blocks, in LUT4: {largest}. {board.figures.note}"
    )


def _firmware(soc, config, flow, folder, inside):
    """Build the firmware; return what packing adds. See `synthesise`."""
    image = build_firmware(soc, folder).image
    if config.memory == "flash":
        return soc.firmware
    if inside or not flow.REPLACES_CONTENTS:
        return b""
    soc.load_firmware(contents.placeholder(config.cpu_ram_bytes))
    return image.ljust(config.cpu_ram_bytes, b"\0")


def synthesise(board, config, root, *, firmware=False, progress=None):
    """Synthesise a board's design.

    Parameters
    ----------
    firmware : bool
        Whether the netlist is to hold the firmware, for a simulation. Otherwise a placeholder is in
        its place where packing can replace that, so that a change of the firmware routes nothing
        again.
    board, config, root, progress
        See `build`.

    Returns
    -------
    Design
    """
    progress = progress or (lambda line: None)
    progress(f"generating {config.name} for {board.name}")
    design = BoardDesign
    if config.memory == "flash":
        if board.family not in _CORE_DESIGNS:
            raise ValueError(
                f"configuration {config.name} has memory = 'flash', which is built for "
                f"{', '.join(_CORE_DESIGNS)} only; use one with another memory"
            )
        design = _CORE_DESIGNS[board.family]
    elif board.family in _CORE_DESIGNS:
        raise ValueError(_refusal(board, config))
    soc = build_soc(config)
    folder = Path(root) / f"{board.name}.{config.name}"
    flow = _FLOWS[board.family]
    added = _firmware(soc, config, flow, folder / "firmware", firmware)
    platform = board.platform()
    # Without the lines of the source, whose numbers and folders would be part of the hash.
    plan = platform.build(design(config, soc), do_build=False, emit_src=False)
    files = {
        name: content.encode() if isinstance(content, str) else content
        for name, content in plan.files.items()
        if name.endswith((".il", flow.CONSTRAINTS, ".v")) and not name.endswith(".debug.v")
    }
    expected = area.estimate(plan.files["top.il"], config.cpu, board.device.fabric)
    progress(f"about {expected.lut4:,} LUT4, {expected.ff:,} flip-flops, {expected.ebr} block RAMs")
    area.require_fit(expected, board.device, config, board.figures.note)
    versions = [importlib.metadata.version(name) for name in flow.PACKAGES]
    digest = hashlib.sha256(repr((_RECIPE, versions, sorted(files.items()))).encode())
    directory = folder / digest.hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)

    def make():
        progress("synthesising (minutes)")
        verilog = [name for name in files if name.endswith(".v")]
        return {"cells": flow.synthesise_files("top", directory, verilog)}

    return Design(directory, platform, _stage(directory / "synthesis.json", make), added)


def build(board, config, root, *, seeds=3, jobs=None, progress=None):
    """Build a bitstream.

    Parameters
    ----------
    board : Board
    config : Config
    root : Path
        Folder for builds.
    seeds : int
        Seeds of placement to route; the bitstream is that of the fastest.
    jobs : int, optional
        Seeds at a time; by default one per core.
    progress : callable, optional
        Called with a line before and after each step.

    Returns
    -------
    Build

    Raises
    ------
    ValueError
        If the configuration does not fit the board, or the PLL cannot make its clocks.
    ToolError
        If a tool is missing or fails.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be 1 or more, not {seeds}")
    progress = progress or (lambda line: None)
    design = synthesise(board, config, root, progress=progress)
    directory, platform, flow = design.directory, design.platform, _FLOWS[board.family]

    def route(seed):
        def place_and_route():
            progress(f"placing and routing, seed {seed} of {seeds} (minutes)")
            return _route(flow, directory, platform, seed)

        result = _stage(directory / f"seed{seed}.json", place_and_route)
        clocks = ", ".join(f"{name} {mhz:.1f} MHz" for name, mhz in result["fmax_mhz"].items())
        progress(f"seed {seed}: {clocks}, {result['seconds']:.0f} s")
        return result

    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        results = list(pool.map(route, range(1, seeds + 1)))
    best = max(results, key=lambda seed: margin(config, seed))["seed"]
    tag = hashlib.sha256(design.firmware).hexdigest()[:8]
    bitstream = directory / f"seed{best}.{tag}{flow.BITSTREAM}"
    if not bitstream.exists():
        progress(f"packing the bitstream of seed {best}")
        flow.pack(f"seed{best}", directory, platform, bitstream.name, design.firmware)
    return Build(directory, board, config, design.synthesis, results, bitstream)
