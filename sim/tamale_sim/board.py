"""A simulated board: the SoC, its memory with real timing, a serial port, eyes for tests."""

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from amaranth.hdl import ClockDomain, ClockSignal, Const, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.cdc import ResetSynchronizer
from amaranth.lib.wiring import In, Out
from tamale.gateware.counters import Counter
from tamale.soc.system import build_firmware, build_memory, build_soc

from . import memory, verilator
from .activity import COUNTED, IDLE_CAUSES, Activity
from .messages import explain, explain_end
from .protocol import Record, RecordParser, Text, TextOption, commands, text_lines
from .runner import build_root, to_verilog

__all__ = ["HARNESS", "Board", "BoardError", "BoardTop", "build"]

#: Main program of simulated boards.
HARNESS = Path(__file__).parent / "harness.cpp"


class BoardError(RuntimeError):
    """The board reported a fault or an error, or its simulation ended; the message says which.

    Parameters
    ----------
    message : str
    record : Record, optional
        What the board said.
    """

    def __init__(self, message, record=None):
        super().__init__(message)
        self.record = record


class BoardTop(wiring.Component):
    """Top level of the simulated board.

    Parameters
    ----------
    config : Config
        ``memory`` chooses between the SDRAM and an ideal memory, which moves ``memory_width`` bits.
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
        What goes on in this cycle, see `Activity`.
    """

    def __init__(self, config, soc, errors=None):
        if errors is not None and config.memory != "ideal":
            raise ValueError(
                f"errors must be None with memory {config.memory!r}; use the ideal memory"
            )
        self._config, self._soc, self._errors = config, soc, errors
        super().__init__(
            {
                "cpu_clk": In(1),
                "uart_tx": Out(1, init=1),
                "uart_rx": In(1, init=1),
                "halted": Out(1),
                "exit_code": Out(32),
                "violation": Out(8),
                "memory_beat": Out(1),
                "logit_valid": Out(1),
                "logit_vector": Out(4),
                "logit_row": Out(20),
                "logit_value": Out(32),
                "activity": Out(len(Activity)),
            }
        )

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
            controller = build_memory(config, soc, power_up_us=1)
            m.submodules.memory = ram = memory.SimulatedSdram(controller)
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
        accelerator = soc.accelerator
        m.d.comb += [
            self.uart_tx.eq(soc.uart_tx),
            soc.uart_rx.eq(self.uart_rx),
            self.halted.eq(soc.halted),
            self.exit_code.eq(soc.exit_code),
            self.memory_beat.eq(
                (soc.axi.rvalid & soc.axi.rready) | (soc.axi.wvalid & soc.axi.wready)
            ),
        ]
        for name in ("logit_valid", "logit_vector", "logit_row", "logit_value"):
            m.d.comb += getattr(self, name).eq(getattr(accelerator, name))
        self._activity(m, ram)
        return m

    def _activity(self, m, ram):
        events = self._soc.accelerator.events

        def event(name):
            return events[getattr(Counter, name).value]

        seen = {name: event(COUNTED[name]) for name in COUNTED}
        if self._config.memory == "sdram":
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
    directory = build_root() / f"board.{config.name}"
    if progress:
        progress("generating Verilog and firmware")
    build_firmware(soc, directory)
    verilog = to_verilog(BoardTop(config, soc, errors), "board")
    (directory / "board.v").write_text(verilog)
    return verilator.build_executable(
        verilog,
        "board",
        HARNESS,
        build_root(),
        extra_sources=[*soc.verilog_sources(), *memory.SOURCES],
        waves=waves,
        progress=progress,
    )


class Board:
    """A running simulation.

    No wait is endless: a simulation in which nothing moves ends by itself, see ``patience``.

    Parameters
    ----------
    executable : path
        From `build`.
    config : Config
    image : path
        Contents of the memory at the start.
    trace : path, optional
        Where a build with waves records the signals.
    patience : int, optional
        Cycles without a byte from the board and without a beat of memory after which a board that
        owes an answer counts as dead.
    limit : int, optional
        Cycles after which the simulation ends.
    activity : path, optional
        Where to record what goes on, see `activity.read`.

    Raises
    ------
    BoardError
        From any method, when the board reports an error or stops. After an error or fault of a
        running board it waits for the next command.
    """

    def __init__(
        self, executable, config, image, *, trace=None, patience=None, limit=None, activity=None
    ):
        self._directory = tempfile.TemporaryDirectory(prefix="tamale.")
        self._logits_path = Path(self._directory.name) / "logits.bin"
        command = [
            str(executable), f"+image={Path(image).absolute()}", "--logits", str(self._logits_path),
            "--divisor", str((config.clock_hz + config.uart_baud // 2) // config.uart_baud),
            "--clock", str(config.clock_hz), "--cpu-clock", str(config.cpu_clock_hz),
        ]  # fmt: skip
        for name, value in (
            ("--trace", trace and Path(trace).absolute()),
            ("--patience", patience),
            ("--limit", limit),
            ("--activity", activity and Path(activity).absolute()),
        ):
            if value is not None:
                command += [name, str(value)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C is for the command that runs the board, which ends it in good order.
            start_new_session=True,
        )
        self._parser = RecordParser()
        self._pending = []
        self._said = b""
        self._idle = False
        self._logits = None
        self.text_cycles = 0  # that the firmware took to make tokens of texts
        self.summary = self.ready = None
        try:
            self.ready = self.expect("ready")
            self.expect("idle")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, line):
        """Send a command line, str or bytes."""
        self._idle = False
        self.send_bytes((line.encode() if isinstance(line, str) else line) + b"\n")

    def send_bytes(self, data):
        """Send bytes as they are."""
        if self._process.stdin.closed:
            raise BoardError("the board is closed; boot another one")
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._ended()

    def interrupt(self):
        """Send Ctrl-C: generation ends after the current job."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(b"\x03")
            self._process.stdin.flush()

    def _events(self):
        """Yield `Text` and `Record` as they come."""
        while True:
            while self._pending:
                event = self._pending.pop(0)
                if isinstance(event, Text):
                    # The last words of a firmware that dies are text.
                    self._said = (self._said + event.data)[-200:]
                self._idle = isinstance(event, Record) and event.kind == "idle"
                yield event
            data = os.read(self._process.stdout.fileno(), 65536)
            if not data:
                self._ended()
            self._pending.extend(self._parser.feed(data))

    def events(self):
        """Yield `Text` and `Record` as they come; errors and faults raise BoardError."""
        for event in self._events():
            if isinstance(event, Record) and event.kind in ("error", "fault"):
                error = BoardError(explain(event), event)
                if self.ready:
                    # What follows belongs to the command that failed.
                    for rest in self._events():
                        if isinstance(rest, Record) and rest.kind == "idle":
                            break
                raise error
            yield event

    def expect(self, kind):
        """Return the next record of a kind; text and other records before it are dropped."""
        for event in self.events():
            if isinstance(event, Record) and event.kind == kind:
                return event
            if isinstance(event, Record) and event.kind == "idle":
                raise BoardError(f"the board waits for a command where a record {kind!r} was due")

    def _ended(self):
        _, errors = self._process.communicate()
        lines = errors.decode(errors="replace").strip().splitlines() or ["no message"]
        with contextlib.suppress(ValueError):
            self.summary = json.loads(lines[-1])
        if self.summary is None:
            raise BoardError(f"the simulation broke off: {lines[-1]}")
        said = self._said.decode(errors="replace").strip()
        raise BoardError(explain_end(self.summary, said))

    def run(self, prompts, tokens, **options):
        """Start a generation and yield its events up to the end; options are those of `start`.

        Yields
        ------
        Text, or Record of kind ``job``, ``token``, ``done``
        """
        self.start(prompts, tokens, **options)
        yield from self.events_to_idle()

    def start(
        self, prompts, tokens, *, sampling=(0.0, 0, 0), all_logits=False,
        text_options=TextOption.SPECIAL, cached=(),
    ):  # fmt: skip
        """Start a generation; its events are `events_to_idle`.

        Parameters
        ----------
        prompts : list of list of int or str
            Tokens, and texts that the board makes tokens of.
        cached : sequence of int
            Positions that the caches hold already, see `protocol.commands`.

        Returns
        -------
        list of list of int
            What the board made of each prompt's texts.
        """
        made = [[] for _ in prompts]
        for line in commands(prompts, tokens, sampling, all_logits, text_options, cached):
            self.send(line)
            if not line.startswith(b"generate"):
                self._tokens(made)
        return made

    def tokenise(self, text, sequence=0, options=TextOption.SPECIAL):
        """Append a text to the prompt of a sequence; return its tokens."""
        made = {sequence: []}
        for line in text_lines(sequence, text, options):
            self.send(line)
            self._tokens(made)
        return made[sequence]

    def _tokens(self, made):
        """Add the tokens that a command's answer has to those of their sequence."""
        for event in self.events_to_idle():
            if isinstance(event, Record) and event.kind == "tokens":
                made[int(event["sequence"])] += event.numbers("id")
                self.text_cycles += int(event["cycles"])

    def events_to_idle(self):
        """Yield the events up to the end of a command."""
        for event in self.events():
            if isinstance(event, Record) and event.kind == "idle":
                return
            yield event

    def stats(self):
        """Return the performance counters, a dict of name to number."""
        self.send("stats")
        record = self.expect("stats")
        self.expect("idle")
        return {name: int(value) for name, value in record.fields}

    def close(self):
        """End the simulation; return its summary (cycles, seconds, violation) if it ended well."""
        if self._process.poll() is None:
            with contextlib.suppress(BoardError):
                if self._idle:
                    self.send("halt")
                else:  # a board at work takes no commands
                    self._process.terminate()
            try:
                _, errors = self._process.communicate(timeout=60)
                with contextlib.suppress(ValueError, IndexError):
                    self.summary = json.loads(errors.decode().strip().splitlines()[-1])
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
        for file in (self._process.stdin, self._process.stdout, self._process.stderr):
            with contextlib.suppress(BrokenPipeError):
                file.close()
        self._process.wait()
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
