"""What a field of a configuration is worth, by the cycle model: one field at a time."""

import dataclasses
import tempfile
from pathlib import Path

from tamale_model import cycles, imagefile
from tamale_model.explore.quantity import DataError
from tamale_model.machine import Job, Slot

__all__ = ["Row", "sweep", "values"]


@dataclasses.dataclass(frozen=True)
class Row:
    """A configuration's figures for a model.

    Parameters
    ----------
    label : str
    cycles : list of float
        Of a token at each position.
    roofline : list of float
        Useful bytes of it over the memory's peak.
    sweep_bytes, cache_bytes : float
        Of a token; of a position of the context.
    sweep_padding, cache_padding : float
        Share that they are above the useful bytes.
    """

    label: str
    cycles: list
    roofline: list
    sweep_bytes: int
    sweep_padding: float
    cache_bytes: float
    cache_padding: float


def values(config, text):
    """Return (field, values) of ``field=value,value``.

    Raises
    ------
    DataError
    """
    name, _, given = text.partition("=")
    if not given or name not in {field.name for field in dataclasses.fields(config)}:
        raise DataError(f"write a field of the configuration and its values, not {text!r}")
    kind = type(getattr(config, name))
    try:
        return name, [kind(value) for value in given.split(",")]
    except ValueError:
        raise DataError(f"{text!r}: values of {name} must be of type {kind.__name__}") from None


def sweep(base, model, positions, texts):
    """Yield a `Row` for the configuration and for each value of each field, one field at a time.

    Parameters
    ----------
    base : Config
    model : Model
    positions : list of int
        Of the token; those before it are in its context.
    texts : list of str
        ``field=value,value``
    """
    variants = [(f"configuration {base.name}", base)]
    for text in texts:
        name, given = values(base, text)
        variants += [(f"{name} = {value}", base.replace(**{name: value})) for value in given]
    for label, config in variants:
        with tempfile.TemporaryDirectory(prefix="tamale.") as folder:
            path = Path(folder) / "image"
            imagefile.build(config, model, path)
            image = imagefile.load(path)
        times = [
            cycles.predict(config, image.program, Job([Slot(0, position, 0)])).cycles
            for position in positions
        ]
        fields = image.fields
        useful = fields["useful_layer_bytes"] + fields["useful_head_bytes"]
        cache = fields["kv_sequence_bytes"] / fields["context"]
        peak = config.memory_width / 8
        yield Row(
            label=label,
            cycles=times,
            roofline=[
                image.useful_bytes(position + 1) / (time * peak)
                for position, time in zip(positions, times, strict=True)
            ],
            sweep_bytes=fields["sweep_bytes"],
            sweep_padding=fields["sweep_bytes"] / useful - 1,
            cache_bytes=cache,
            cache_padding=100 * cache / fields["useful_kv_centibytes"] - 1,
        )
