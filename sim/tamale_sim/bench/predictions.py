"""Measures the cycle model's cases on the simulated board, one after the other, resumably."""

import dataclasses
import hashlib
import json
from importlib import resources
from pathlib import Path

from tamale_model import imagefile
from tamale_model.explore import predictions

from ..runner import build_root
from . import decode

__all__ = ["measure", "record"]


def _digest(case):
    """Of everything that decides how many cycles a case takes: configuration, model, hardware."""
    text = repr((case.config.to_toml(), case.shape, case.context, case.cached, case.tokens))
    digest = hashlib.sha256(text.encode())
    # The hardware, its firmware, and the compiler of programs.
    for package, pattern in (("tamale", "*.py"), ("tamale_model.program", "*.py")):
        for file in sorted(Path(str(resources.files(package))).rglob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _run(case, folder, progress):
    file = folder / f"{case.name}.img"
    imagefile.build(case.config, case.build(), file)
    try:
        result = decode.measure(
            case.config,
            imagefile.load(file),
            file,
            start=case.context if case.cached else 0,
            prompt=case.context,
            tokens=case.tokens,
            progress=progress,
        )
    finally:
        file.unlink()
    return {
        "configuration": dataclasses.asdict(case.config),
        "shape": dict(case.shape),
        "tokens": case.tokens,
        "cycles": result.job_cycles,
        "equal_tokens": result.tokens,
    }


def measure(*, only=None, progress=None):
    """Return {name of a case: result} as `tamale_model.explore.predictions.recorded` does.

    A case that was measured before, with the same hardware, is not run again.

    Parameters
    ----------
    only : str, optional
        Part of the names of the cases to run.
    progress : callable, optional
        Called with lines of text.
    """
    folder = build_root() / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for case in predictions.cases():
        if only and only not in case.name:
            continue
        cache = folder / f"{case.name}.{_digest(case)}.json"
        if not cache.is_file():
            note = progress and (lambda line, case=case: progress(f"{case.name}: {line}"))
            result = _run(case, folder, note)
            part = cache.with_suffix(".part")
            part.write_text(json.dumps(result))
            part.replace(cache)
        results[case.name] = json.loads(cache.read_text())
    return results


def record(results):
    """Record results in the source tree that `tamale_model` was loaded from, beside the others."""
    merged = predictions.recorded() | results
    text = {"command": "tamale explore predict --measure --record", "results": merged}
    predictions.RECORDED.write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")
