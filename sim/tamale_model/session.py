"""Prefill and decode on the golden machine, in the order in which the firmware does them."""

import dataclasses

import numpy as np

from tamale_model import sampling
from tamale_model.machine import Job, Slot

__all__ = ["GoldenSession", "Step"]


@dataclasses.dataclass
class Step:
    """What one sequence did in one job: a new token, the logits of the positions it covered.

    Parameters
    ----------
    sequence : int
    token : int or None
        The token sampled after the last position, None inside a prompt.
    logits : float32 array [positions, vocabulary] or None
    """

    sequence: int
    token: int | None
    logits: np.ndarray | None


class GoldenSession:
    """Generates text with the golden machine.

    Parameters
    ----------
    image : Image
    config : Config
    sequences : int
        Parallel sequences, at most ``config.vectors``.
    temperature, top_k, seed
        See `sampling.Sampler`; sequence i uses seed + i * 0x9E3779B9.
    all_logits : bool
        Compute the logits of prompt positions too.
    """

    def __init__(
        self, image, config, sequences=1, *, temperature=0.0, top_k=0, seed=0, all_logits=False
    ):
        if not 1 <= sequences <= config.vectors:
            raise ValueError(
                f"{sequences} parallel sequences; the configuration has {config.vectors} vectors"
            )
        self.image, self.config, self.all_logits = image, config, all_logits
        self.machine = image.machine(config, sequences)
        self.samplers = [
            sampling.Sampler(temperature, top_k, seed + i * 0x9E3779B9) for i in range(sequences)
        ]

    def _slot(self, sequence, token, position):
        if not 0 <= token < self.image.fields["vocabulary"]:
            raise ValueError(
                f"token {token} is outside the vocabulary of {self.image.fields['vocabulary']}"
            )
        base = self.image.kv_base + sequence * self.image.fields["kv_sequence_bytes"]
        return Slot(token, position, base)

    def _sample(self, sequence, logits, slot):
        best = sampling.candidates(logits, self.config.candidates)
        unit = self.machine.scalar(self.image.fields["logit_scalar"], slot)
        return self.samplers[sequence].pick(best, unit)

    def _floats(self, logits, slot):
        unit = float(self.machine.scalar(self.image.fields["logit_scalar"], slot))
        return (logits * unit).astype(np.float32)

    def generate(self, prompts, tokens, *, cached=None):
        """Yield a `Step` for each chunk of a prompt and each new token.

        Parameters
        ----------
        prompts : list of list of int
            One per sequence, at least one token each.
        tokens : int
            Most new tokens of a sequence; a stop token or a full context ends it earlier.
        cached : list of int, optional
            Positions of each sequence that its cache in the machine's memory holds already.
        """
        vectors, context = self.config.vectors, self.image.fields["context"]
        if len(prompts) > len(self.samplers):
            raise ValueError(f"{len(prompts)} prompts for {len(self.samplers)} parallel sequences")
        stop = set(self.image.stop_tokens)
        last, position = [], []
        for sequence, prompt in enumerate(prompts):
            start = cached[sequence] if cached else 0
            if not 1 <= len(prompt) <= context - start:
                raise ValueError(
                    f"a prompt has 1 to {context - start} tokens in this context, not {len(prompt)}"
                )
            for first in range(0, len(prompt), vectors):
                chunk = prompt[first : first + vectors]
                final = first + len(chunk) == len(prompt)
                slots = [self._slot(sequence, t, start + first + i) for i, t in enumerate(chunk)]
                logits = self.machine.run(Job(slots, final or self.all_logits))
                token = None
                if final:
                    token = self._sample(sequence, logits[-1], len(chunk) - 1)
                floats = None
                if logits is not None:
                    floats = np.stack([self._floats(row, i) for i, row in enumerate(logits)])
                yield Step(sequence, token, floats)
            last.append(token)
            position.append(start + len(prompt))
        made = [1] * len(prompts)
        active = list(range(len(prompts)))
        while True:
            active = [
                s
                for s in active
                if made[s] < tokens and last[s] not in stop and position[s] < context
            ]
            if not active:
                return
            slots = [self._slot(s, last[s], position[s]) for s in active]
            logits = self.machine.run(Job(slots, True))
            for i, s in enumerate(active):
                last[s] = self._sample(s, logits[i], i)
                position[s] += 1
                made[s] += 1
                yield Step(s, last[s], self._floats(logits[i], i)[None])
