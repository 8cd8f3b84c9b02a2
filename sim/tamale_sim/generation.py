"""What a run produced: tokens, text, cycles, logits, and the figures derived from them."""

import dataclasses
import itertools

import numpy as np
from tamale_model import machine
from tamale_model.cycles import predict
from tamale_model.integer import Scalar

__all__ = ["Generation", "Job", "Token", "peak_bytes_per_cycle"]


@dataclasses.dataclass
class Job:
    """One pass through the model; cycles are 0 where nothing was measured.

    ``logits`` maps a sequence to float32 [positions, vocabulary].
    """

    slots: int = 1
    head: bool = True
    cycles: int = 0
    head_cycles: int = 0
    logits: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Token:
    """A new token of a sequence, and what it prints."""

    sequence: int
    number: int
    text: bytes


def peak_bytes_per_cycle(config):
    """Bytes that the memory moves in a cycle at best."""
    return config.memory_width / 8


class Generation:
    """Collects the events of a run.

    Parameters
    ----------
    image : Image
    config : Config
    prompts : list of list of int
    limit : int
        Most new tokens of a sequence.
    """

    def __init__(self, image, config, prompts, limit):
        self.image, self.config, self.prompts, self.limit = image, config, prompts, limit
        self.tokens = [[] for _ in prompts]
        self.text = [b"" for _ in prompts]
        self.reasons = {}
        self.counters = {}
        self.simulation = None
        self.interrupted = False
        self.checked = self.mismatch = None
        self.prompt_tokens = self.prompt_cycles = 0  # that the board made of texts
        self.prompt_checked, self.prompt_mismatch = True, None
        self.checked_logits = 0
        self.seconds = 0.0
        self._decode = []  # (cycles, head cycles, slots, useful layer bytes, useful head bytes)
        self._positions = []  # of every job in _decode
        self._prefill_cycles = 0
        self._logits = [[] for _ in prompts]

    def take_prompt(self, sequence, tokens, known):
        """Take the tokens that the board made of a prompt's text; the run goes on with them.

        Parameters
        ----------
        sequence : int
        tokens : list of int
        known : bool
            Whether the prompt has those of the library so far, to compare.
        """
        expected = self.prompts[sequence]
        self.prompt_tokens += len(tokens)
        self.prompt_checked &= known
        if known and tokens != expected and self.prompt_mismatch is None:
            pairs = itertools.zip_longest(tokens, expected)
            at, (own, other) = next((i, p) for i, p in enumerate(pairs) if p[0] != p[1])
            self.prompt_mismatch = (
                f"prompt {sequence}, token {at}: board {own}, library {other} "
                f"({len(tokens)} and {len(expected)} tokens)"
            )
        expected[:] = tokens

    def add(self, event):
        """Take an event in."""
        if isinstance(event, Token):
            self.tokens[event.sequence].append(event.number)
            self.text[event.sequence] += event.text
            return
        for sequence, rows in event.logits.items():
            self._logits[sequence].append(rows)
        if not event.cycles:
            return
        if not all(self.tokens):
            self._prefill_cycles += event.cycles
            return
        # Every slot reads its own cache; the weights are read once for all.
        active = self._active()
        fields = self.image.fields
        cache = sum(
            (len(self.prompts[s]) + len(self.tokens[s])) * fields["useful_kv_centibytes"] / 100
            for s in active
        )
        layers = fields["useful_layer_bytes"] + cache
        self._decode.append(
            (event.cycles, event.head_cycles, event.slots, layers, fields["useful_head_bytes"])
        )
        self._positions.append([len(self.prompts[s]) + len(self.tokens[s]) - 1 for s in active])

    def _active(self):
        """Sequences that a job of decoding goes on with; they have as many tokens as each other."""
        most, context = max(map(len, self.tokens)), self.image.fields["context"]
        return [
            s
            for s, tokens in enumerate(self.tokens)
            if len(tokens) == most
            and tokens[-1] not in self.image.stop_tokens
            and len(self.prompts[s]) + len(tokens) - 1 < context
        ]

    def board_logits(self, board, jobs, prompts, vectors):
        """Take the logits that a board's simulation recorded.

        Parameters
        ----------
        board : Board
            Closed.
        jobs : list of (slots, mantissas, exponents)
            Jobs with a head, in order.
        prompts : list of list of int
        vectors : int
            Slots of a prompt's job.
        """
        rows = board.logits([slots for slots, _, _ in jobs], self.image.fields["vocabulary"])
        self.integer_logits = [[] for _ in prompts]
        # The firmware's order: prompts one after the other in chunks, then all sequences together.
        owners = [
            [s] * min(vectors, len(p) - i)
            for s, p in enumerate(prompts)
            for i in range(0, len(p), vectors)
        ]
        made = [1] * len(prompts)
        for (slots, mantissas, exponents), values in zip(jobs, rows, strict=True):
            if owners:
                who = owners.pop(0)
            else:
                who = [s for s in range(len(prompts)) if made[s] < len(self.tokens[s])]
                for s in who:
                    made[s] += 1
            if len(who) != slots:
                raise RuntimeError(f"a job of {slots} slots came where {len(who)} were due")
            for s, mantissa, exponent, row in zip(who, mantissas, exponents, values, strict=True):
                self.integer_logits[s].append(row)
                unit = float(Scalar(mantissa, exponent))
                self._logits[s].append((row * unit).astype(np.float32)[None])

    def logits(self):
        """Return float32 [positions, vocabulary], [sequences, ...] with NaN for several."""
        # An interrupted run may not have come to a sequence.
        nothing = np.zeros((0, self.image.fields["vocabulary"]), dtype=np.float32)
        arrays = [np.concatenate([nothing, *rows]) for rows in self._logits]
        if len(arrays) == 1:
            return arrays[0]
        longest = max(map(len, arrays))
        result = np.full((len(arrays), longest, arrays[0].shape[1]), np.nan, dtype=np.float32)
        for i, array in enumerate(arrays):
            result[i, : len(array)] = array
        return result

    def check(self, golden):
        """Compare tokens, and logits where both have them, with the golden model's so far.

        Parameters
        ----------
        golden : Generation
        """
        self.checked = sum(map(len, self.tokens))
        for s, (own, other) in enumerate(zip(self.tokens, golden.tokens, strict=True)):
            if own != other[: len(own)]:
                at = next(i for i, (a, b) in enumerate(zip(own, other, strict=False)) if a != b)
                self.mismatch = f"sequence {s}, token {at}: board {own[at]}, golden {other[at]}"
                return
        for s, (own, other) in enumerate(zip(self._logits, golden._logits, strict=True)):
            if not own or not other:
                continue
            own, other = np.concatenate(own), np.concatenate(other)
            differ = np.argwhere(own != other[: len(own)])
            if len(differ):
                position, row = differ[0]
                self.mismatch = (
                    f"sequence {s}, position {position}, logit {row}: board {own[position, row]}, "
                    f"golden {other[position, row]} ({len(differ)} logits differ)"
                )
                return
            self.checked_logits += own.size

    @property
    def measured(self):
        """Whether there are cycles of decoded tokens."""
        return bool(self._decode)

    def figures(self, last=None):
        """Return cycles, useful bytes and roofline per job of decoding, whole and in parts.

        Roofline is useful bytes over what the memory could have moved in the same cycles.
        """
        jobs = np.array(self._decode[-last:] if last else self._decode, dtype=float)
        cycles, head_cycles, slots, layers, head = jobs.mean(axis=0)
        peak = peak_bytes_per_cycle(self.config)

        def part(cycles, size):
            return {
                "cycles": cycles,
                "bytes": size,
                "roofline": size / (cycles * peak) if cycles else None,
            }

        return {
            "whole": part(cycles, layers + head),
            "layers": part(cycles - head_cycles, layers),
            "head": part(head_cycles, head),
            "slots": slots,
        }

    @property
    def predictable(self):
        """Whether there is a model of the cycles: there is one of the accelerator."""
        return self.config.engine == "accelerator"

    def predicted(self, most=8):
        """Return (predicted, measured) cycles of a job, means over up to ``most`` decoded jobs."""
        chosen = np.unique(np.linspace(0, len(self._decode) - 1, most).astype(int))
        program = self.image.program
        jobs = [machine.Job([machine.Slot(0, p, 0) for p in self._positions[i]]) for i in chosen]
        cycles = [predict(self.config, program, job).cycles for job in jobs]
        return float(np.mean(cycles)), float(np.mean([self._decode[i][0] for i in chosen]))

    def report(self):
        """Return the object that ``--json`` prints."""
        single = len(self.prompts) == 1
        texts = [text.decode(errors="replace") for text in self.text]
        result = {
            "model": self.image.name,
            "configuration": self.config.name,
            "memory": self.config.memory,
            "prompt_tokens": self.prompts[0] if single else self.prompts,
            "tokens": self.tokens[0] if single else self.tokens,
            "text": texts[0] if single else texts,
            "cycles_per_token": None,
            "bytes_per_token": None,
            "roofline": None,
            "counters": self.counters,
            "reasons": [self.reasons.get(s) for s in range(len(self.prompts))],
            "interrupted": self.interrupted,
            "equal_to_golden": None if self.checked is None else not self.mismatch,
            "mismatch": self.mismatch,
            "seconds": round(self.seconds, 3),
            "simulation": self.simulation,
        }
        if self.prompt_tokens:
            result["board_tokenizer"] = {
                "tokens": self.prompt_tokens,
                "cycles": self.prompt_cycles,
                "equal_to_library": not self.prompt_mismatch if self.prompt_checked else None,
                "mismatch": self.prompt_mismatch,
            }
        if self._decode:
            figures = self.figures()
            whole, slots = figures["whole"], figures["slots"]
            clock = self.config.clock_hz
            result |= {
                "cycles_per_token": whole["cycles"] / slots,
                "bytes_per_token": whole["bytes"] / slots,
                "roofline": whole["roofline"],
                "tokens_per_second": clock * slots / whole["cycles"],
                "bytes_per_second": clock * whole["bytes"] / whole["cycles"],
                "layers": figures["layers"],
                "head": figures["head"],
                "prefill_cycles": self._prefill_cycles,
            }
            if self.predictable:
                predicted, measured = self.predicted()
                result |= {
                    "predicted_cycles_per_token": predicted / slots,
                    "prediction_error": predicted / measured - 1,
                }
        return result
