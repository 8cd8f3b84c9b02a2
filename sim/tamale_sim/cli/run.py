"""`tamale run`: a model continues prompts, on the simulated board or on a model of it."""

import json
import sys
import time
from pathlib import Path

import numpy as np
from tamale import config as configuration
from tamale.soc.system import TEXT_RAM_BYTES
from tamale_model.session import GoldenSession

from .. import board as boards
from ..generation import Generation, Job, Token
from ..interrupts import stopping
from ..models_cache import demonstration, is_image, open_image, source
from ..protocol import Text, TextOption
from ..terminal import Display

__all__ = ["add", "run"]

_DEFAULT_PROMPT = "And it came to pass"


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "run",
        help="a model continues a prompt",
        description="Continues prompts. The rtl backend simulates the whole board: the generated "
        "SoC with its firmware, and the memory with its timing; every token is compared with the "
        "golden model.",
    )
    parser.add_argument(
        "model", nargs="?", help="checkpoint folder, GGUF file or image "
        "(default: the demonstration model)",
    )  # fmt: skip
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument(
        "--memory", choices=("sdram", "ideal"), help="instead of the configuration's"
    )
    parser.add_argument("--backend", choices=("rtl", "golden", "float"), default="rtl")
    parser.add_argument(
        "--prompt",
        action="append",
        default=[],
        metavar="TEXT",
        help="repeat for parallel sequences",
    )
    parser.add_argument(
        "--prompt-ids", action="append", default=[], metavar="1,2,3",
        help="token numbers, taken as they are; repeat for parallel sequences",
    )  # fmt: skip
    parser.add_argument(
        "--host-tokenizer",
        action="store_true",
        help="take text apart here instead of on the board (rtl)",
    )
    parser.add_argument(
        "--tokens", type=int, default=48, metavar="N", help="new tokens (default: 48)"
    )
    parser.add_argument("--context", type=int, metavar="N", help="positions of a sequence")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy")
    parser.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="draw from the K best (0: all candidates)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    parser.add_argument(
        "--logits", metavar="FILE.npy",
        help="save float32 logits [positions, vocabulary]: one row for every position that was "
        "read, the prompt's and each generated token's but the last; [sequences, positions, "
        "vocabulary], short ones filled with NaN, for several",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one object instead of text")
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare with the golden model (rtl)"
    )
    parser.add_argument("--waves", metavar="FILE.vcd", help="record every signal (rtl; large)")
    parser.set_defaults(run=run)


def _prompts(args, tokenizer, image, config):
    """Return (tokens of every prompt, what the board is sent of each).

    The board is sent text where it can take it apart; without the library's tokenizer only the
    board knows the tokens, and they are empty here.
    """
    fields = image.fields
    on_board = args.backend == "rtl" and not args.host_tokenizer
    on_board &= fields["tokenizer_bytes"] > 0 and config.cpu_ram_bytes >= TEXT_RAM_BYTES
    prompts, sent = [], []
    for text in args.prompt or ([] if args.prompt_ids else [_DEFAULT_PROMPT]):
        if tokenizer is None and not on_board:
            raise ValueError("the model has no tokenizer; use --prompt-ids")
        start = [] if fields["bos"] == 0xFFFFFFFF else [fields["bos"]]
        prompts.append(start + tokenizer.encode(text) if tokenizer else [])
        text = tokenizer.normalize(text) if tokenizer else text
        sent.append([*start, text] if on_board else prompts[-1])
    for text in args.prompt_ids:
        try:
            prompts.append([int(number) for number in text.split(",")])
        except ValueError:
            raise ValueError(
                f"--prompt-ids takes numbers separated by commas, not {text!r}"
            ) from None
        sent.append(prompts[-1])
    for prompt, parts in zip(prompts, sent, strict=True):
        if tokenizer is None and parts is not prompt:
            continue  # the board says what is wrong
        for number in prompt:
            if not 0 <= number < fields["vocabulary"]:
                raise ValueError(
                    f"token {number} is outside the vocabulary of {fields['vocabulary']} tokens"
                )
        if not 1 <= len(prompt) <= fields["context"]:
            raise ValueError(
                f"a prompt needs 1 to {fields['context']} tokens in this context, this one has "
                f"{len(prompt)}; raise --context or shorten it"
            )
    return prompts, sent


def _tokenizer(args, image):
    """The library's tokenizer of a checkpoint; an image alone cannot take text apart."""
    if args.model is not None and is_image(args.model):
        return None
    from tamale_model import readers
    from tamale_model.tokenizer import Tokenizer

    text = readers.read_tokenizer(source(args.model or demonstration()))
    return None if text is None else Tokenizer(text)


def run(args):
    """Run the command."""
    if args.tokens < 1:
        raise ValueError(f"--tokens must be 1 or more, not {args.tokens}")
    if not 0 <= args.temperature < 65536:
        raise ValueError(f"--temperature must be 0 to 65535, not {args.temperature:g}")
    if args.top_k < 0:
        raise ValueError(f"--top-k must be 0 or more, not {args.top_k}")
    for name, file in (("--logits", args.logits), ("--waves", args.waves)):
        if file and not Path(file).absolute().parent.is_dir():
            raise ValueError(f"{name} {file}: the folder does not exist; make it first")
    if args.waves and Path(args.waves).suffix != ".vcd":
        raise ValueError(f"--waves {args.waves}: the record is a VCD file; name it FILE.vcd")
    if args.waves and args.backend != "rtl":
        raise ValueError(f"--waves needs --backend rtl, backend {args.backend} has no signals")
    config = configuration.load(args.config)
    if args.memory:
        config = config.replace(memory=args.memory)
    note = (lambda line: print(f"tamale: {line}", file=sys.stderr)) if not args.json else None
    image, file = open_image(args.model, config, args.context, note)
    image.check(config)
    tokenizer = _tokenizer(args, image)
    prompts, sent = _prompts(args, tokenizer, image, config)
    if len(prompts) > config.vectors:
        raise ValueError(
            f"{len(prompts)} parallel sequences need as many vectors, the configuration has "
            f"{config.vectors}"
        )
    sampling = (args.temperature, args.top_k, args.seed)
    generation = Generation(image, config, prompts, args.tokens)
    display = Display(generation, quiet=args.json)
    if args.backend == "rtl":
        known = tokenizer is not None
        events = _rtl(args, config, image, file, sent, known, sampling, note, generation)
    else:
        events = _host(args.backend, args, config, image, prompts, sampling, args.tokens)
    started = time.monotonic()
    try:
        for event in events:
            generation.add(event)
            display.update(event)
    except KeyboardInterrupt:
        generation.interrupted = True
    finally:
        display.close()
        events.close()
    generation.seconds = time.monotonic() - started
    if args.logits:
        with open(args.logits, "wb") as output:  # np.save would add a suffix to a name
            np.save(output, generation.logits())
    if args.backend == "rtl" and not args.no_check:
        generation.check(_golden(args, config, image, prompts, sampling, generation))
    if args.json:
        print(json.dumps(generation.report()))
    else:
        display.summary(args.backend)
    return 1 if generation.mismatch or generation.prompt_mismatch else 0


def _golden(args, config, image, prompts, sampling, generation):
    """The golden model's `Generation`, as far as the board's went."""
    golden = Generation(image, config, prompts, args.tokens)
    wanted = max(map(len, generation.tokens))
    if wanted:
        for event in _host("golden", args, config, image, prompts, sampling, wanted):
            golden.add(event)
    return golden


def _host(backend, args, config, image, prompts, sampling, tokens):
    """Events of the golden model or the float reference."""
    temperature, top_k, seed = sampling
    options = {
        "temperature": temperature,
        "top_k": top_k,
        "seed": seed,
        "all_logits": args.logits is not None,
    }
    if backend == "golden":
        session = GoldenSession(image, config, len(prompts), **options)
    else:
        if args.model is not None and is_image(args.model):
            raise ValueError(
                "the float reference needs the checkpoint, an image holds integers only"
            )
        from tamale_model import readers
        from tamale_model.reference import FloatSession

        model = readers.read(source(args.model or demonstration()))
        session = FloatSession(
            model,
            len(prompts),
            context=image.fields["context"],
            candidates=config.candidates,
            **options,
        )
    for step in session.generate(prompts, tokens):
        yield Job(logits={step.sequence: step.logits} if step.logits is not None else {})
        if step.token is not None:
            yield Token(step.sequence, step.token, image.token_bytes(step.token))


def _rtl(args, config, image, file, sent, known, sampling, note, generation):
    """Events of the simulated board; ``known`` are texts whose tokens the host has too."""
    prompts = generation.prompts
    # The firmware keeps the prompts behind the caches, a word a token.
    needed = image.memory_bytes(len(prompts)) + 4 * image.fields["context"] * len(prompts)
    if needed > config.memory_bytes:
        raise ValueError(
            f"image, caches and prompts need {needed:,} bytes, the memory has "
            f"{config.memory_bytes:,}; lower --context or choose a larger memory"
        )
    executable = boards.build(config, waves=True if args.waves else None, progress=note)
    if note:
        note(f"booting the simulated board ({config.memory} memory)")
    board = boards.Board(executable, config, file, trace=args.waves)
    slots = []

    def stop():
        generation.interrupted = True
        board.interrupt()

    try:
        with stopping(stop):
            made = board.start(
                sent,
                args.tokens,
                sampling=sampling,
                all_logits=args.logits is not None,
                text_options=TextOption.SPECIAL | (TextOption.NORMALISED if known else 0),
            )
            for sequence, parts in enumerate(sent):
                if parts is not prompts[sequence]:
                    generation.take_prompt(sequence, parts[:-1] + made[sequence], known)
            generation.prompt_cycles = board.text_cycles
            for event in board.events_to_idle():
                if isinstance(event, Text):
                    continue
                if event.kind == "job":
                    if int(event["head"]):
                        slots.append((int(event["slots"]), event.numbers("m"), event.numbers("e")))
                    yield Job(
                        slots=int(event["slots"]),
                        head=bool(int(event["head"])),
                        cycles=int(event["cycles"]),
                        head_cycles=int(event["head_cycles"]),
                    )
                elif event.kind == "token":
                    sequence, token = int(event["sequence"]), int(event["id"])
                    yield Token(sequence, token, image.token_bytes(token))
                elif event.kind == "done":
                    generation.reasons[int(event["sequence"])] = event["reason"]
            generation.counters = board.stats()
    finally:
        generation.simulation = board.close()
    if args.logits:
        generation.board_logits(board, slots, prompts, config.vectors)
