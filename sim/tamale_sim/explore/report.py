"""The report: one HTML page without anything outside it, and its pictures as files."""

import base64
import html
import io
from pathlib import Path

from tamale_model.explore import audit, cost, market, performance, predictions, silicon

from . import pictures, tables

__all__ = ["build"]

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--good:#2b7a4b;--if:#9a6700;--bad:#b3261e}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem}
h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.2rem;margin-top:2rem}
p,li{max-width:42rem}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:.5rem 0}
table{border-collapse:collapse;font-size:.8rem;width:100%}
th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:top}
th{background:var(--soft);white-space:nowrap}
td.t,th.t{text-align:left}
td.w{white-space:normal;min-width:16rem;overflow-wrap:anywhere}
img{width:100%;height:auto;background:#fff;border-radius:6px}
figure{margin:1rem 0}figcaption,small,.note{font-size:.8rem;opacity:.8}
details{border:1px solid var(--line);border-radius:6px;padding:.5rem .75rem;margin:.5rem 0}
summary{cursor:pointer}
.v{border-radius:4px;color:#fff;font-size:.75rem;padding:.1rem .4rem;white-space:nowrap}
.holds{background:var(--good)}.if{background:var(--if)}.not{background:var(--bad)}
.big{font-size:1.1rem;border-left:4px solid var(--good);padding-left:.75rem}
"""

_CLASSES = {
    audit.Verdict.HOLDS: "holds",
    audit.Verdict.IF: "if",
    audit.Verdict.NOT: "not",
}


def _escape(text):
    return html.escape(str(text))


def _table(sheet):
    heads = []
    for number, column in enumerate(sheet.columns):
        left = column.startswith("<") or not number
        heads.append((left, column.lstrip("<")))
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td class="{"t " if left else ""}{"w" if left and len(cell) > 40 else ""}">'
            f"{_escape(cell)}</td>"
            for (left, _), cell in zip(heads, row, strict=False)
        )
        + "</tr>"
        for row in sheet.rows
    )
    head = "".join(
        f'<th class="{"t" if left else ""}">{_escape(name)}</th>' for left, name in heads
    )
    note = f'<p class="note">{_escape(sheet.note)}</p>' if sheet.note else ""
    return (
        f"<h3>{_escape(sheet.title)}</h3>"
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>{note}'
    )


def _verdict(verdict):
    return f'<span class="v {_CLASSES[verdict]}">{_escape(verdict.value)}</span>'


def _claim(answer):
    claim = answer.claim
    checks = "".join(
        f"<li>{_verdict(c.verdict)} {_escape(c.computed)}"
        + (f"<br><em>{_escape(c.verdict.value)}: {_escape(c.because)}</em>" if c.because
           and c.verdict is not audit.Verdict.HOLDS else "")
        + (f"<br><small>uses {_escape(', '.join(c.uses))}</small>" if c.uses else "")
        + "</li>"
        for c in answer.checks
    )  # fmt: skip
    return (
        f"<details><summary>{_verdict(answer.verdict)} <b>{_escape(claim.claim)}</b>: "
        f"{_escape(claim.figure)}</summary><ul>{checks}</ul></details>"
    )


def _picture(name, figure, folder, caption):
    """Save a picture in all formats; return its HTML."""
    memory = io.BytesIO()
    figure.savefig(memory, format="svg", metadata={"Date": None})
    if folder is not None:
        figure.savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})
        (folder / f"{name}.svg").write_bytes(memory.getvalue())
    from matplotlib import pyplot

    pyplot.close(figure)
    data = base64.b64encode(memory.getvalue()).decode()
    return (
        f'<figure><img alt="{_escape(caption)}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_escape(caption)}</figcaption></figure>"
    )


def build(world, folder, *, searches=(), context=2048, note=None):
    """Write ``explore.html`` and the pictures into a folder; return the paths.

    Parameters
    ----------
    world : World
    folder : path-like
        Is made.
    searches : sequence of tuple
        (search, points, front, point taken) of `tamale_model.explore.sizing`, each shown.
    context : int
        Positions that tables are for.
    note : callable, optional
        Called with lines of text.

    Returns
    -------
    list of Path
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note = note or (lambda line: None)
    goal = world["economics.interactive"].value
    note("comparing predictions")
    compared = predictions.compare()
    note("auditing the essay")
    answers = audit.audit(world)
    counts = {v: sum(a.verdict is v for a in answers) for v in audit.Verdict}
    names = list(world.workloads)
    note("drawing")

    def picture(name, figure, caption):
        return _picture(name, figure, folder, caption)

    card = world.workloads["dense-14b"]
    box = world.platforms["appliance-28nm-lpddr5-8gb"]
    rate = performance.bound(box, card, world, positions=context).tokens_per_second
    price = market.appliance(box, world).total
    worst = max((abs(e.error) for e in compared if e.error is not None), default=None)
    parts = [
        "<h1>Tamale: from a budget to a chip</h1>",
        f'<p class="big">On paper, a 28 nm box with 8 GB of LPDDR5 runs a ternary 14 B model at '
        f"{_escape(tables.span(rate, '{:.1f}'))} tokens/s for "
        f"${_escape(tables.span(price, '{:,.0f}'))}. "
        "The essay's 64 GB do not fit its price, and 28 nm or 3 nm hardly matters: the memory's "
        "bandwidth decides.</p>",
        f"<p>Of {len(answers)} claims {counts[audit.Verdict.HOLDS]} hold, "
        f"{counts[audit.Verdict.IF]} hold under a condition, {counts[audit.Verdict.NOT]} do not. "
        "Ranges are corners: everything favourable, everything unfavourable. What is assumed is "
        "marked as such in the last table.</p>",
        _table(tables.offers(world, names, goal, context)),
        "<h2>The audit</h2>",
        *(_claim(answer) for answer in answers),
        "<h2>How far the predictions can be trusted</h2>",
        "<p>Cycles of a token by the cycle model, beside what the RTL took on the simulated board, "
        "every token equal to the golden model's. "
        + (f"The largest error is {worst:.2%}." if worst is not None else "")
        + " It does not cover LPDDR: chips are predicted with a constant loss for refresh and "
        "rows.</p>",
        picture("predictions", pictures.prediction_errors(compared), "Errors of the cycle model"),
        _table(tables.predictions(compared)),
        "<h2>What a token reads</h2>",
        picture("bytes", pictures.bytes_bars(world, context), "Bytes of a token by class"),
        _table(tables.workloads(world.workloads.values(), context)),
        "<h2>Platforms</h2>",
        picture("roofline", pictures.roofline(world), "Roofline of all platforms"),
        *(
            _table(tables.platforms(world, world.workloads[name], context, 1))
            for name in ("bitnet-2b-4t", "dense-14b", "deepseek-v3")
        ),
    ]
    for number, (asked, found, best, taken) in enumerate(searches):
        parts += [
            f"<h2>Sizing: {_escape(asked.workload.title)} on {_escape(asked.platform.title)}</h2>",
            picture(f"pareto-{number + 1}", pictures.pareto(found, best, taken, asked),
                    f"{len(found)} configurations, speed against cost"),
            _table(tables.size(best, taken, asked)),
            f"<details><summary>the preset</summary><pre>{_escape(taken.config.to_toml())}</pre>"
            "</details>",
        ]  # fmt: skip
    parts += [
        "<h2>What it costs</h2>",
        picture("area", pictures.area_stack(world), "Die area by part"),
        picture("cost", pictures.cost_stack(world), "Cost of a box by part"),
        picture("energy", pictures.energy_stack(world, context), "Energy of a token by part"),
        _table(tables.chips(world)),
        "<h2>Figures and their sources</h2>",
        f"<details><summary>constants</summary>{_table(tables.constants(world))}</details>",
        "<details><summary>models and "
        f"platforms</summary>{_table(tables.sources(world))}</details>",
        f"<p><small>Gates from synthesis to {_escape(silicon.recorded()['library'])}. A box is "
        f"{_escape(', '.join(cost.BOM))}. Made by <code>tamale explore report</code>.</small></p>",
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Tamale: from a budget to a chip</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )
    (folder / "explore.html").write_text(page)
    return sorted(folder.iterdir())
