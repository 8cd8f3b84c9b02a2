"""What a field of the configuration is worth, by the cycle model.

``python -m tamale_model.explore fifo_beats=64,512,2048 vu_width=2,4`` packs the model for each
value of each field, one field at a time, and prints the predicted cycles of a token and the part of
the memory's peak that its useful bytes are.
"""

import argparse
import tempfile
from importlib import resources
from pathlib import Path

from tamale import config as configuration

from tamale_model import cycles, imagefile, readers
from tamale_model.machine import Job, Slot

__all__ = ["main", "measure"]

#: Bytes that the 16-bit SDRAM moves in a cycle.
_PEAK = 2


def measure(config, model, positions):
    """Return (image fields, list of (cycles, roofline) by position) of a token at batch 1.

    Parameters
    ----------
    config : Config
    model : Model
    positions : list of int
        Positions of the token; those before it are in its context.
    """
    with tempfile.TemporaryDirectory(prefix="tamale.") as folder:
        path = Path(folder) / "image"
        imagefile.build(config, model, path)
        image = imagefile.load(path)
    results = []
    for position in positions:
        job = Job([Slot(0, position, 0)])
        prediction = cycles.predict(config, image.program, job)
        useful = image.useful_bytes(position + 1)
        results.append((prediction.cycles, useful / (prediction.cycles * _PEAK)))
    return image.fields, results


def _values(config, text):
    """Return (field, values) of ``field=value,value``."""
    name, _, values = text.partition("=")
    if not values or not hasattr(config, name):
        raise ValueError(f"write a field of the configuration and its values, not {text!r}")
    kind = type(getattr(config, name))
    return name, [kind(value) for value in values.split(",")]


def main(arguments=None):
    """Print a line for each value of each field."""
    parser = argparse.ArgumentParser(prog="python -m tamale_model.explore", description=__doc__)
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE,VALUE")
    parser.add_argument("--config", default="ulx3s", help="preset or TOML file (default: ulx3s)")
    parser.add_argument("--model", help="checkpoint folder (default: the demonstration model)")
    parser.add_argument("--positions", default="63,2047", help="default: 63,2047")
    options = parser.parse_args(arguments)
    base = configuration.load(options.config)
    demo = Path(str(resources.files("tamale_model") / "data" / "demo"))
    model = readers.read(options.model or demo)
    positions = [int(position) for position in options.positions.split(",")]
    print(
        f"{'':28}"
        + "".join(f"{f'cycles at {p}':>18}{'of peak':>9}" for p in positions)
        + f"{'sweep bytes':>13}{'padding':>9}{'cache/token':>13}{'padding':>9}"
    )
    variants = [(f"configuration {base.name}", base)]
    for text in options.fields:
        name, values = _values(base, text)
        variants += [(f"{name} = {value}", base.replace(**{name: value})) for value in values]
    for label, config in variants:
        fields, results = measure(config, model, positions)
        useful = fields["useful_layer_bytes"] + fields["useful_head_bytes"]
        cache = fields["kv_sequence_bytes"] / fields["context"]
        print(
            f"{label:28}"
            + "".join(f"{cycles:18,.0f}{roofline:9.1%}" for cycles, roofline in results)
            + f"{fields['sweep_bytes']:13,}{fields['sweep_bytes'] / useful - 1:9.1%}"
            + f"{cache:13,.1f}{100 * cache / fields['useful_kv_centibytes'] - 1:9.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
