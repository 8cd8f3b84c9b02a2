"""Command line of the recipe: train, export, evaluate."""

import argparse
import os
import sys


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m tamale_model.recipe",
        description="Make the demonstration model: a ternary language model of 3.4 million "
        "parameters, trained on public-domain texts within a budget of minutes on one CPU core.",
    )
    steps = parser.add_subparsers(dest="step", required=True)

    step = steps.add_parser("texts", help="gather the texts and print what there is")
    step.add_argument("--output", help="also write the training text to this file")

    step = steps.add_parser("train", help="train; goes on from a checkpoint if there is one")
    step.add_argument("folder", help="where checkpoint.pt and tokenizer.json are kept")
    step.add_argument("--minutes", type=float, default=80, help="wall-clock budget")
    step.add_argument("--seed", type=int, default=0)
    step.add_argument("--rate", type=float, default=5e-3, help="peak learning rate")
    step.add_argument("--tokens-per-step", type=int, default=4096)
    step.add_argument("--optimiser", choices=["muon", "adamw"], default="muon")
    step.add_argument("--threads", type=int, default=1)
    step.add_argument("--no-compile", action="store_true", help="do without a C++ compiler")

    step = steps.add_parser("export", help="write Hugging Face BitNet files")
    step.add_argument("folder", help="folder of the training run")
    step.add_argument("output", help="folder of the checkpoint to write")

    step = steps.add_parser("evaluate", help="held-out loss by position, and samples")
    step.add_argument("output", help="folder of an exported checkpoint")
    step.add_argument(
        "--reference", action="store_true", help="compare with transformers' BitNetForCausalLM"
    )

    options = parser.parse_args(arguments)
    try:
        return globals()[f"_{options.step}"](options)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "transformers", "accelerate"):
            raise
        return f"{error.name!r} is not installed: pip install 'tamale[reference]'"
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _texts(options):
    from . import texts

    train, held_out = texts.split(texts.gather())
    for name, chapters in (("training", train), ("held-out", held_out)):
        for source in ("kjv", "austen"):
            chosen = [chapter for chapter in chapters if chapter.source == source]
            size = sum(len(chapter.text) for chapter in chosen)
            print(f"{name:9} {source:7} {len(chosen):5} chapters {size:9,} bytes")
    if options.output:
        with open(options.output, "w") as file:
            file.write("\n\n".join(chapter.text for chapter in train) + "\n")


def _train(options):
    from .train import train

    train(
        options.folder,
        options.minutes,
        seed=options.seed,
        peak=options.rate,
        tokens_per_step=options.tokens_per_step,
        optimiser=options.optimiser,
        compiled=not options.no_compile,
        threads=options.threads,
    )


def _export(options):
    import torch
    from tokenizers import Tokenizer

    from .export import export
    from .model import BitNet, Geometry

    state = torch.load(os.path.join(options.folder, "checkpoint.pt"), weights_only=True)
    model = BitNet(Geometry(**state["geometry"]))
    model.load_state_dict(state["model"])
    tokenizer = Tokenizer.from_file(os.path.join(options.folder, "tokenizer.json"))
    export(model, tokenizer, options.output)
    print(f"step {state['step']}, {state['spent'] / 60:.1f} minutes -> {options.output}")


def _evaluate(options):
    import torch
    from tokenizers import Tokenizer

    from . import corpus, texts
    from .evaluate import compare, report, transformers_logits
    from .export import load

    torch.set_num_threads(1)
    tokenizer = Tokenizer.from_file(os.path.join(options.output, "tokenizer.json"))
    _, held_out = texts.split(texts.gather())
    stream = corpus.Stream(held_out, tokenizer)
    model = load(options.output)
    if options.reference:
        lines = compare(model, transformers_logits(options.output), tokenizer, stream)
    else:
        lines = report(model, tokenizer, stream)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
