"""`tamale pack`: a checkpoint becomes a memory image."""

import json
import sys
from pathlib import Path

from tamale import config as configuration
from tamale_model import imagefile, readers, vocabulary

from ..models_cache import demonstration, source

__all__ = ["add", "run"]


def add(subparsers):
    """Describe the command."""
    parser = subparsers.add_parser(
        "pack",
        help="memory image of a checkpoint",
        description="Packs a ternary checkpoint (Hugging Face folder or GGUF file) for a "
        "configuration. The image appears only when it is complete.",
    )
    parser.add_argument(
        "model", nargs="?", help="checkpoint folder or GGUF file (default: the demonstration model)"
    )
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("--context", type=int, help="positions of a sequence")
    parser.add_argument(
        "--sparse", choices=("auto", "all", "none"), default="auto",
        help="matrices that are packed in the configuration's sparse code, which holds weights of "
        "which one in four is zero: those that it can hold (default), all or an error, or none",
    )  # fmt: skip
    parser.add_argument("-o", "--output", help="the image (default: MODEL.img here)")
    parser.add_argument("--json", action="store_true", help="print the header as JSON")
    parser.set_defaults(run=run)


def run(args):
    """Run the command."""
    config = configuration.load(args.config)
    path = source(args.model or demonstration())
    output = Path(args.output or f"{path.stem if path.is_file() else path.name}.img")
    model = readers.read(path)
    shown = sys.stderr.isatty()

    def progress(count, expected):
        if shown:
            print(
                f"\r{count / 1e6:8.1f} of {expected / 1e6:.1f} MB written", end="", file=sys.stderr
            )

    survey = imagefile.build(config, model, output, args.context, progress, sparse=args.sparse)
    if shown:
        print(file=sys.stderr)
    image = imagefile.load(output)
    if args.json:
        print(json.dumps({"file": str(output), "model": image.name, **image.fields}))
        return
    fields = image.fields
    print(
        f"{output}: {image.name}, {fields['image_bytes']:,} bytes for configuration {config.name}"
    )
    print(
        f"  sweep {fields['sweep_bytes']:,} bytes a token (head {fields['head_bytes']:,}), "
        f"{fields['program_commands']} commands"
    )
    print(
        f"  cache {fields['kv_sequence_bytes']:,} bytes a sequence of {fields['context']} "
        f"positions, {image.memory_bytes():,} bytes of memory in all"
    )
    if survey.sparse_weights:
        part = survey.sparse_weights / survey.ternary_weights
        print(f"  {part:.1%} of the layers' trits in code {config.sparse_code}")
    for reason in survey.not_sparse.values():
        print(f"  not in code {config.sparse_code}: {reason}")
    if fields["tokenizer_bytes"]:
        print(f"  tables of {fields['tokenizer_bytes']:,} bytes for text as prompts")
    else:
        print(f"  prompts come as tokens: {vocabulary.tokenizer_section(model)[1]}")
