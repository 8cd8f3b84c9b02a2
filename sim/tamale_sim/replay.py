"""Amaranth's simulator with a witness: it writes down the ports of what is simulated and plays them
to the netlist afterwards, which has to give the same outputs in every cycle.

So a test that is written for Amaranth's simulator also tests the netlist.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from amaranth.hdl import Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In
from amaranth.sim import Simulator
from tamale_fpga import netlist

from .runner import build_root

__all__ = ["Recorder"]

#: Differing cycles that a message shows.
_SHOWN = 4


class Recorder(Simulator):
    """`amaranth.sim.Simulator` that compares with netlists at the end of `run`.

    A component with ports is compared itself; one without is a bench, whose components are. Cycles
    are those of the domain ``sync``; a simulation without a clock is compared after each change of
    an input.

    Parameters
    ----------
    toplevel : wiring.Component
    played : callable, optional
        Called with the number of cycles (or changes) that a netlist was compared in.
    observed : bool
        Compare only in cycles in which a testbench gets something: for a block that promises its
        outputs at times only, such as a memory that is not read where it is written.
    """

    def __init__(self, toplevel, played=None, observed=False):
        super().__init__(toplevel)
        self._tell, self._observed = played or (lambda cycles: None), observed
        components = [toplevel]
        if not toplevel.signature.members:
            components = [
                part for part in vars(toplevel).values() if isinstance(part, wiring.Component)
            ]
        self._tracks = [_Track(component) for component in components]
        self._has_clock = False

    def add_clock(self, period, *, domain="sync", **arguments):
        """Add a clock; at each edge of that of ``sync`` the ports are written down."""
        super().add_clock(period, domain=domain, **arguments)
        if domain != "sync":
            raise NotImplementedError(
                f"domain {domain!r}: only designs with one clock are replayed"
            )
        self._has_clock = True
        for track in self._tracks:
            self.add_process(track.sample)

    def add_testbench(self, constructor, **arguments):
        """Add a testbench, see `amaranth.sim.Simulator.add_testbench`."""

        async def watched(ctx):
            watches = self._observed or not self._has_clock
            await constructor(_Watched(ctx, self) if watches else ctx)

        super().add_testbench(watched, **arguments)

    def run(self):
        """Run the simulation to its end, then the netlists."""
        super().run()
        self.compare()

    @property
    def cycles(self):
        """Cycles (or changes) recorded."""
        return len(self._tracks[0].lines)

    def compare(self, edit=None):
        """Run the netlists on what was recorded.

        Parameters
        ----------
        edit : callable, optional
            Changes each netlist, see `tamale_fpga.netlist.build`.

        Raises
        ------
        AssertionError
            If an output differs; the message names cycles and ports.
        """
        for track in self._tracks:
            track.compare(self._has_clock, self._observed, edit)
            self._tell(len(track.lines))

    def note_set(self, ctx):
        """Write the ports down, if no clock does it."""
        if not self._has_clock:
            for track in self._tracks:
                track.write([ctx.get(port) for _, port in track.ports])

    def note_get(self):
        """Remember that outputs matter now."""
        for track in self._tracks:
            track.observed.add(len(track.lines))


class _Watched:
    """Context of a testbench that tells a `Recorder` what the testbench does."""

    def __init__(self, ctx, recorder):
        self._ctx, self._recorder = ctx, recorder

    def __getattr__(self, name):
        return getattr(self._ctx, name)

    def set(self, signal, value):
        self._ctx.set(signal, value)
        self._recorder.note_set(self._ctx)

    def get(self, value):
        self._recorder.note_get()
        return self._ctx.get(value)


class _Track:
    """Values of the ports of a component, one line a cycle."""

    def __init__(self, component):
        self.component, self.lines, self.observed = component, [], set()
        inputs, outputs = [], []
        for path, member, port in component.signature.flatten(component):
            value = Value.cast(port)
            if len(value):
                side = inputs if member.flow == In else outputs
                side.append(("__".join(map(str, path)), value.as_unsigned()))
        self.ports, self.inputs = [*inputs, *outputs], len(inputs)

    async def sample(self, ctx):
        """Write the ports down at every edge, as they were before it."""
        async for _, _, *values in ctx.tick().sample(*(port for _, port in self.ports)):
            self.write(values)

    def write(self, values):
        """Append a line: the first port at its right end."""
        word, place = 0, 0
        for (_, port), value in zip(self.ports, values, strict=True):
            word |= value << place
            place += len(port)
        self.lines.append(word)

    def _width(self, ports):
        return sum(len(port) for _, port in ports)

    def compare(self, clocked, observed, edit):
        """Play the lines to the netlist, see `Recorder.compare`."""
        if not self.lines:
            return
        name = f"{type(self.component).__name__.lower()}_gates"
        made = netlist.build(self.component, name, build_root(), edit=edit)
        known = set(made.ports)
        inputs = [port for port in self.ports[: self.inputs] if port[0] in known]
        ins, outs = self._width(self.ports[: self.inputs]), self._width(self.ports[self.inputs :])
        connections, place = (
            [
                f".\\{port} ({wire})"
                for port, wire in (("clk", "clk"), ("rst", "1'b0"))
                if port in known
            ],
            0,
        )
        for port, value in self.ports:
            if port in known:
                wire = "driven" if (port, value) in inputs else "given"
                start = place - (wire == "given") * ins
                connections.append(f".\\{port} ({wire}[{start + len(value) - 1}:{start}])")
            place += len(value)
        text = _BENCH.format(
            name=name, cycles=len(self.lines), ins=max(1, ins), outs=outs, width=ins + outs,
            edge="clk = 1; #5 clk = 0;" if clocked else "", shown=_SHOWN,
            connections=", ".join(connections),
        )  # fmt: skip
        digits = -(-(1 + ins + outs) // 4)
        # The highest bit says whether outputs are compared.
        flag = 1 << ins + outs
        lines = [
            line | flag * (not observed or n in self.observed) for n, line in enumerate(self.lines)
        ]
        with tempfile.TemporaryDirectory(prefix="replay.", dir=build_root()) as folder:
            folder = Path(folder)
            (folder / "bench.v").write_text(text)
            (folder / "lines.hex").write_text("".join(f"{line:0{digits}x}\n" for line in lines))
            for command in (
                ["iverilog", "-g2012", "-s", "replay", "-o", "replay.vvp", "bench.v",
                 *map(str, made.sources)],
                ["vvp", "-n", "replay.vvp"],
            ):  # fmt: skip
                if shutil.which(command[0]) is None:
                    raise FileNotFoundError("Icarus Verilog is missing: apt-get install iverilog")
                result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
                assert not result.returncode, f"{command[0]} fails for {name}:\n{result.stderr}"
        if f"PLAYED {len(self.lines)}\n" not in result.stdout:
            raise AssertionError(self._explain(name, result.stdout))

    def _explain(self, name, text):
        lines = [f"the netlist of {name} differs from what it was made from:"]
        for line in text.splitlines():
            if not line.startswith("DIFFERS"):
                lines.append(line)
                continue
            _, cycle, given, wanted = line.split()
            place = 0
            for port, value in reversed(self.ports[self.inputs :]):
                # Unknown digits keep their letters, so ports are cut out of strings of bits.
                bits = ["".join(_bits(digit) for digit in word) for word in (given, wanted)]
                total = self._width(self.ports[self.inputs :])
                bits = [word[-total:].rjust(total, "0") for word in bits]
                own = [word[place : place + len(value)] for word in bits]
                if own[0] != own[1]:
                    lines.append(f"  cycle {cycle}: {port} is {own[0]}, not {own[1]}")
                place += len(value)
        return "\n".join(lines)


def _bits(digit):
    return f"{int(digit, 16):04b}" if digit.lower() in "0123456789abcdef" else 4 * digit


_BENCH = """\
module replay;
    reg clk = 0;
    reg [{width}:0] lines [0:{cycles} - 1];
    reg [{ins} - 1:0] driven;
    wire [{outs} - 1:0] given;
    integer cycle, differing = 0;

    {name} dut ({connections});

    initial begin
        $readmemh("lines.hex", lines);
        for (cycle = 0; cycle < {cycles} && differing < {shown}; cycle = cycle + 1) begin
            driven = lines[cycle][{ins} - 1:0];
            #5;
            if (lines[cycle][{width}] && given !== lines[cycle][{width} - 1 -: {outs}]) begin
                $display("DIFFERS %0d %h %h", cycle, given, lines[cycle][{width} - 1 -: {outs}]);
                differing = differing + 1;
            end
            {edge}
            #5;
        end
        if (differing == 0) $display("PLAYED %0d", cycle);
        $finish;
    end
endmodule
"""
