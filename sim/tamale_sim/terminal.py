"""Shows a generation in the terminal: text as it comes, a progress line, a summary."""

import sys
import time

from .generation import Token

__all__ = ["Display"]

#: Seconds between progress lines in a log.
_LOG_SECONDS = 10


class Display:
    """Writes text to standard output and everything else to standard error.

    Parameters
    ----------
    generation : Generation
    quiet : bool
        Show nothing (``--json``).
    """

    def __init__(self, generation, quiet=False):
        self._generation, self._quiet = generation, quiet
        self._several = len(generation.prompts) > 1
        self._live = not quiet and sys.stderr.isatty()
        self._column = 0
        self._shown = time.monotonic() - (_LOG_SECONDS - 2)
        self._line = False

    def update(self, event):
        """Show an event."""
        if self._quiet:
            return
        if isinstance(event, Token) and not self._several:
            self._erase()
            text = event.text.decode(errors="replace")
            sys.stdout.write(text)
            sys.stdout.flush()
            # The progress line must start on a line of its own, and the text goes on where it was.
            self._column = len(text.rsplit("\n", 1)[-1]) + ("\n" not in text) * self._column
        waited = time.monotonic() - self._shown
        if self._live and waited > 0.2:
            self._draw()
        elif not self._live and waited > _LOG_SECONDS:
            # Nobody watches a line that changes: now and then one that stays.
            self._shown = time.monotonic()
            print(f"tamale: {self._status()}", file=sys.stderr)

    def _status(self):
        generation = self._generation
        made = sum(map(len, generation.tokens))
        parts = [f"{made}/{generation.limit * len(generation.prompts)} tokens"]
        if generation.measured:
            recent = generation.figures(8)
            whole = recent["whole"]
            parts.append(f"{whole['cycles'] / recent['slots']:,.0f} cycles a token")
            parts.append(f"{whole['roofline']:.1%} of the memory's peak")
        elif not made:
            parts = ["reading the prompt"]
        return ", ".join(parts)

    def _draw(self):
        self._shown = time.monotonic()
        self._erase()
        # Below the text, then back: up one line, to the column where the text stopped.
        back = f"\x1b[1A\x1b[{self._column + 1}G"
        sys.stderr.write(f"\n\r\x1b[2K\x1b[2m[{self._status()}]\x1b[0m{back}")
        sys.stderr.flush()
        self._line = True

    def _erase(self):
        if self._line:
            sys.stderr.write(f"\n\r\x1b[2K\x1b[1A\x1b[{self._column + 1}G")
            sys.stderr.flush()
            self._line = False

    def close(self):
        """Leave the terminal in order."""
        self._erase()

    def summary(self, backend):
        """Print the figures of the whole run."""
        generation = self._generation
        if self._several:
            for s, text in enumerate(generation.text):
                print(f"[{s}] {text.decode(errors='replace')}")
        else:
            print()
        lines = []
        made = sum(map(len, generation.tokens))
        ends = ", ".join(sorted(set(generation.reasons.values())))
        lines.append(
            f"{made} tokens in {generation.seconds:.1f} s" + (f", ended by {ends}" if ends else "")
        )
        if generation.prompt_tokens:
            lines.append(
                f"the board made {generation.prompt_tokens} tokens of the prompt in "
                f"{generation.prompt_cycles:,} cycles"
                + (
                    f", NOT the library's: {generation.prompt_mismatch}"
                    if generation.prompt_mismatch
                    else ", all equal to the library's"
                    if generation.prompt_checked
                    else ""
                )
            )
        if generation.measured:
            clock = generation.config.clock_hz
            figures = generation.figures()
            whole, slots = figures["whole"], figures["slots"]
            lines.append(
                f"{whole['cycles'] / slots:,.0f} cycles a token: "
                f"{clock * slots / whole['cycles']:.1f} tokens/s at {clock / 1e6:g} MHz"
            )
            for name in ("whole", "layers", "head"):
                part = figures[name]
                rate = part["bytes"] / part["cycles"] * clock / 1e6
                lines.append(
                    f"  {name:6} {part['bytes']:>11,.0f} useful bytes, {rate:6.1f} MB/s, "
                    f"{part['roofline']:.1%} of the memory's peak"
                )
            if generation.predictable:
                predicted, measured = generation.predicted()
                lines.append(
                    f"the cycle model predicts {predicted / slots:,.0f} where "
                    f"{measured / slots:,.0f} were measured ({predicted / measured - 1:+.2%})"
                )
        if generation.simulation:
            simulation = generation.simulation
            broken = "VIOLATION" if simulation["violation"] else "no memory timing rule broken"
            lines.append(
                f"simulated {simulation['cycles']:,} cycles at "
                f"{simulation['cycles'] / max(simulation['seconds'], 1e-9) / 1e3:.0f} kHz, {broken}"
            )
        if generation.checked is not None:
            lines.append(
                f"NOT equal to the golden model: {generation.mismatch}"
                if generation.mismatch
                else f"all {generation.checked} tokens"
                + (
                    f" and {generation.checked_logits:,} logits"
                    if generation.checked_logits
                    else ""
                )
                + " equal to the golden model's"
            )
        elif backend != "rtl":
            lines.append(f"computed by the {backend} model; cycles are measured by --backend rtl")
        for line in lines:
            print(f"tamale: {line}", file=sys.stderr)
