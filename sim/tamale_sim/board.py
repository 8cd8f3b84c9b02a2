"""A simulated board: the SoC, its memory with real timing, a serial port, eyes for tests."""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from amaranth.hdl import ClockDomain, ClockSignal, Const, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from tamale.gateware.counters import Counter
from tamale.soc.soc import STORAGE
from tamale.soc.system import build_firmware, build_memory, build_soc

from . import core_board, ddr3, memory, verilator
from .activity import COUNTED, IDLE_CAUSES, Activity
from .board_ports import board_ports
from .conversation import BoardError, Conversation
from .link import ProcessLink
from .protocol import Text
from .runner import build_root, to_verilog

__all__ = ["HARNESS", "HARNESS_HEADERS", "Board", "BoardError", "BoardTop", "Text", "build"]

#: Main program of simulated boards.
HARNESS = Path(__file__).parent / "harness.cpp"

#: Contents of the flash beside the executable of a board with a core engine.
FIRMWARE = "firmware.bin"

#: What it includes beside it.
HARNESS_HEADERS = (HARNESS.parent / "models" / "spi_devices.h",)


class BoardTop(wiring.Component):
    """Top level of the simulated board.

    Parameters
    ----------
    config : Config
        ``memory`` chooses between SDRAM, DDR3 and an ideal memory, which moves ``memory_width``
        bits.
    soc : Soc
        With its firmware.
    errors : range, optional
        Byte addresses at which the ideal memory answers with an error.

    Members
    -------
    cpu_clk : In(1)
        Clock of the domain ``cpu``, where the configuration has one.
    uart_tx, uart_rx : Out(1), In(1)
    halted, exit_code : Out(1), Out(32)
        End of the firmware.
    violation : Out(8)
        First timing rule of the SDRAM that was broken, 0 for none.
    memory_beat : Out(1)
        A beat moves between SoC and memory.
    logit_valid, logit_vector, logit_row, logit_value : Out
        Every logit on its way to the candidates.
    activity : Out(len(Activity))
        What goes on in this cycle, see `Activity`; nothing where the core performs the commands.
    spi_flash_sck, spi_flash_cs_n, spi_flash_mosi, sd_sck, sd_cs_n, sd_mosi : Out(1)
    spi_flash_miso, sd_miso : In(1)
        Flash and SD card, at rest without ``storage``.
    """

    def __init__(self, config, soc, errors=None):
        if errors is not None and config.memory != "ideal":
            raise ValueError(
                f"errors must be None with memory {config.memory!r}; use the ideal memory"
            )
        self._config, self._soc, self._errors = config, soc, errors
        self._controller = None
        if config.memory != "ideal":
            self._controller = build_memory(config, soc, power_up_us=1)
        super().__init__(board_ports())

    def elaborate(self, platform):
        m = Module()
        config = self._config
        m.submodules.soc = soc = self._soc
        if config.cpu_clock_hz:
            m.domains.cpu = ClockDomain()
            m.d.comb += ClockSignal("cpu").eq(self.cpu_clk)
            m.submodules.cpu_reset = ResetSynchronizer(ResetSignal(), domain="cpu")
        port = soc.axi.signature
        if config.memory == "sdram":
            m.submodules.memory = ram = memory.SimulatedSdram(self._controller)
            m.d.comb += self.violation.eq(ram.violation)
        elif config.memory == "ddr3":
            m.submodules.memory = ram = ddr3.SimulatedDdr3(self._controller)
            wiring.connect(m, soc.memory_control, ram.control)
            m.d.comb += self.violation.eq(ram.violation)
        else:
            m.submodules.memory = ram = memory.IdealMemory(
                data_width=port.data_width,
                addr_width=port.addr_width,
                id_width=port.id_width,
                size=config.memory_bytes,
                beats_every=config.bus_width // config.memory_width,
                errors=self._errors,
            )
        wiring.connect(m, soc.axi, ram.axi)
        m.d.comb += [
            self.uart_tx.eq(soc.uart_tx),
            soc.uart_rx.eq(self.uart_rx),
            self.halted.eq(soc.halted),
            self.exit_code.eq(soc.exit_code),
            self.memory_beat.eq(
                (soc.axi.rvalid & soc.axi.rready) | (soc.axi.wvalid & soc.axi.wready)
            ),
        ]
        for name in ("logit_valid", "logit_row", "logit_value"):
            m.d.comb += getattr(self, name).eq(getattr(soc.accelerator or soc.engine, name))
        if soc.accelerator is not None:
            m.d.comb += self.logit_vector.eq(soc.accelerator.logit_vector)
        for device in STORAGE.values():
            if config.storage:
                m.d.comb += getattr(soc, f"{device}_miso").eq(getattr(self, f"{device}_miso"))
            for pin in ("sck", "cs_n", "mosi"):
                own = getattr(self, f"{device}_{pin}")
                m.d.comb += own.eq(getattr(soc, own.name) if config.storage else pin != "sck")
        if soc.accelerator is not None:
            self._activity(m, ram)
        return m

    def sources(self, directory):
        """Return the paths of all Verilog that it refers to; what is generated goes there."""
        paths = [*self._soc.verilog_sources(), *memory.SOURCES]
        if self._config.memory == "ddr3":
            paths += ddr3.write_sources(self._controller, directory)
        return paths

    def _activity(self, m, ram):
        events = self._soc.accelerator.events

        def event(name):
            return events[getattr(Counter, name).value]

        seen = {name: event(COUNTED[name]) for name in COUNTED}
        if self._config.memory != "ideal":
            seen[Activity.MEMORY_DATA] = ram.read_word | ram.write_word
            seen[Activity.MEMORY_REFRESH] = ram.refreshing
        else:  # a beat takes the time of as many words as it holds
            words = self._config.bus_width // self._config.memory_width
            left = Signal(range(words + 1))
            with m.If(self.memory_beat):
                m.d.sync += left.eq(words - 1)
            with m.Elif(left != 0):
                m.d.sync += left.eq(left - 1)
            seen[Activity.MEMORY_DATA] = self.memory_beat | (left != 0)
            seen[Activity.MEMORY_REFRESH] = Const(0)
        idle = event("CYCLES") & ~seen[Activity.MEMORY_DATA] & ~seen[Activity.MEMORY_REFRESH]
        for name, cause in IDLE_CAUSES.items():
            here = idle if cause is None else idle & event(cause)
            seen[name] = here
            idle = idle & ~here
        for name in Activity:
            m.d.comb += self.activity[name].eq(seen[name])


def build(config, *, waves=None, progress=None, errors=None):
    """Build the simulator of a configuration, or find it from before.

    Parameters
    ----------
    config : Config
    waves : bool, optional
        Whether it can record signals; by default the environment variable WAVES.
    progress : callable, optional
        Called with a line before work that takes long.
    errors : range, optional
        See `BoardTop`.

    Returns
    -------
    Path
        The executable; see harness.cpp for its arguments.
    """
    if waves is None:
        waves = os.environ.get("WAVES", "0") not in ("", "0")
    soc = build_soc(config)
    if progress:
        progress("generating Verilog and firmware")
    # The tests of several processes build the same at once.
    with tempfile.TemporaryDirectory(prefix="tamale.") as directory:
        build_firmware(soc, directory)
    core = config.memory == "flash"
    top = core_board.CoreBoardTop(config, soc) if core else BoardTop(config, soc, errors)
    verilog = to_verilog(top, "board")
    if core:
        # The firmware is no part of the circuit, but of the board.
        verilog += f"// firmware {hashlib.sha256(soc.firmware).hexdigest()}\n"
    root = build_root()
    root.mkdir(parents=True, exist_ok=True)
    executable = verilator.build_executable(
        verilog,
        "board",
        HARNESS,
        root,
        headers=HARNESS_HEADERS,
        extra_sources=top.sources(root),
        waves=waves,
        progress=progress,
    )
    if core:
        part = executable.with_name(f"{FIRMWARE}.{os.getpid()}")
        part.write_bytes(soc.firmware)
        part.replace(executable.with_name(FIRMWARE))
    return executable


class Board(Conversation):
    """A running simulation.

    No wait is endless: a simulation in which nothing moves ends by itself, see ``patience``.

    Parameters
    ----------
    executable : path
        From `build`.
    config : Config
    image : path or None
        Contents of the memory at the start; None for a board that was just switched on.
    trace : path, optional
        Where a build with waves records the signals.
    patience : int, optional
        Cycles without a byte from the board and without a beat of memory after which a board that
        owes an answer counts as dead.
    limit : int, optional
        Cycles after which the simulation ends.
    activity : path, optional
        Where to record what goes on, see `activity.read`.
    flash, card : path, optional
        Contents of the configuration flash and of the SD card of a board with ``storage``; neither
        is there by default.
    card_capacity : str
        ``high`` or ``standard``, two kinds of cards with different commands.

    Raises
    ------
    BoardError
        From any method, when the board reports an error or stops. After an error or fault of a
        running board it waits for the next command. At the start, if ``image`` is not one that the
        board runs.
    """

    def __init__(
        self, executable, config, image, *, trace=None, patience=None, limit=None, activity=None,
        flash=None, card=None, card_capacity="high",
    ):  # fmt: skip
        self._directory = tempfile.TemporaryDirectory(prefix="tamale.")
        self._logits_path = Path(self._directory.name) / "logits.bin"
        command = [
            str(executable), "--logits", str(self._logits_path), "--clock", str(config.clock_hz),
            "--cpu-clock", str(config.cpu_clock_hz),
        ]  # fmt: skip
        if image is not None:
            command.append(f"+image={Path(image).absolute()}")
        firmware = Path(executable).with_name(FIRMWARE).absolute()
        if firmware.exists():
            command.append(f"+firmware={firmware}")
        for name, value in (
            ("--trace", trace and Path(trace).absolute()),
            ("--patience", patience),
            ("--limit", limit),
            ("--activity", activity and Path(activity).absolute()),
            ("--flash", flash and Path(flash).absolute()),
            ("--card", card and Path(card).absolute()),
            ("--card-capacity", card_capacity),
        ):
            if value is not None:
                command += [name, str(value)]
        super().__init__(ProcessLink(command, config.clock_hz, config.uart_baud))
        self._logits = None
        self.summary = None
        try:
            self.listen()
            if image is not None and self.errors and not self.ready:
                raise self.errors[0]
        except BaseException:
            self.close()
            raise

    def close(self):
        """End the simulation; return its summary (cycles, seconds, violation) if it ended well."""
        if self.link.alive:
            with contextlib.suppress(BoardError):
                if self._idle:
                    self.send("halt")
                else:  # a board at work takes no commands
                    self.link.terminate()
        self.link.close()
        self.summary = self.link.summary
        if self._logits is None:
            self._logits = self._read_logits()
            self._directory.cleanup()
        return self.summary

    def _read_logits(self):
        if not self._logits_path.exists():
            return np.zeros((0, 2), dtype="<u4")
        raw = self._logits_path.read_bytes()
        return np.frombuffer(raw[: len(raw) // 8 * 8], dtype="<u4").reshape(-1, 2)

    @property
    def recorded_rows(self):
        """Row of every logit that was recorded, rows of padding included, after `close`."""
        return self._logits[:, 0] & 0xFFFFFFF

    def logits(self, slots_of_jobs, vocabulary):
        """Return the integer logits of every job with a head, after `close`.

        Parameters
        ----------
        slots_of_jobs : list of int
            Slots of each such job, from the ``job`` records.
        vocabulary : int
            Rows; rows of padding are dropped.

        Returns
        -------
        list of int64 arrays [slots, vocabulary]
        """
        words = self._logits
        vectors, rows = words[:, 0] >> 28, words[:, 0] & 0xFFFFFFF
        keep = rows < vocabulary
        vectors, rows, values = vectors[keep], rows[keep], words[keep, 1].astype(np.int32)
        jobs, at = [], 0
        for slots in slots_of_jobs:
            count = slots * vocabulary
            if at + count > len(values):
                raise BoardError(f"{len(values)} logits recorded, the jobs reported need more")
            job = np.zeros((slots, vocabulary), dtype=np.int64)
            job[vectors[at : at + count], rows[at : at + count]] = values[at : at + count]
            jobs.append(job)
            at += count
        return jobs
