"""The pages of the comparisons: one HTML file that needs nothing else, readable in light and dark."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from examples.common.report import Lines
from examples.compare.jobs import MODELS, REPEATS

Row = Mapping[str, Any]
_INK = "#010203"  # stands for the page's text colour in the figures
_SIDES = {"plain": ("as it is", "#d1495b"), "cured": ("with ascend_fixes", "#2a9d8f")}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --bad: #c62f45; --good: #1b7f73 }
@media (prefers-color-scheme: dark) { :root { --bad: #ff8a96; --good: #5fd3c4 } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
  background: Canvas; color: CanvasText }
table { border-collapse: collapse; font-size: 14px; width: 100% } td, th { padding: .3rem .6rem; text-align: left;
  vertical-align: top; border-bottom: 1px solid var(--line) } .bad { color: var(--bad) } .good { color: var(--good) }
svg { max-width: 100%; height: auto; color: CanvasText } .scroll { overflow-x: auto } .note { opacity: .75 }
"""
_HEADS = {
    "shapes": "Batches of every shape (ran on the CPU, float32)",
    "amp": "float16 (ran on the CPU)",
    "fusion": "Graph-kernel fusion (ran on the CPU)",
    "host": "Work for the host (ran on the CPU)",
    "ascend": "Compiled for Ascend (a dry run for a 910B: nothing was executed)",
}


def _document(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ascend_fixes: {html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{html.escape(title)}</h1>{body}</body></html>"
    )


def _table(lines: Lines, kinds: Sequence[Sequence[str]] | None = None) -> str:
    """A table whose first line is its head; ``kinds`` are the classes of the cells of the others: "good", "bad" or ""."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in lines[0])
    body = ""
    for line, of in zip(lines[1:], kinds or [[""] * len(lines[0])] * len(lines)):
        cells = (f'<td class="{kind}">{html.escape(cell)}</td>' for kind, cell in zip(of, line))
        body += f"<tr>{''.join(cells)}</tr>"
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def quick(found: Mapping[str, Any], lines: Lines) -> str:
    """The page of the quick comparison, of its results and the lines of its table, the first of which is the head."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    about = f"{found['cores']} cores, {found['seconds']:.0f} s in all; {versions}"
    body = f'<p class="note">{html.escape(about)}. Lengths as in the corpora of the study.</p>'
    figures = {
        "shapes": (_trained, "batches after the first shape"),
        "fusion": (_losses, "relative error of the loss"),
    }
    for family, head in _HEADS.items():
        rows = [row for row in found["rows"] if row["family"] == family]
        shown = [line[1:] for row, line in zip(found["rows"], lines[1:]) if row["family"] == family]
        kinds = [("", "bad" if row["hit"] else "", "good" if row["ok"] else "bad") for row in rows]
        body += f"<h2>{head}</h2><p>{html.escape(found['sentences'][family])}</p>"
        body += _table([lines[0][1:], *shown], kinds)
        if family in figures:
            body += _panels({MODELS[row["model"]].title: row for row in rows}, *figures[family])
    return _document("Four models, as they are and with ascend_fixes", body)


def _trained(axes: Any, row: Row) -> None:
    """Batches trained over seconds."""
    for side, (label, colour) in _SIDES.items():
        at, end = (row["figures"][side].get(name, none) for name, none in (("at", []), ("training_seconds", 0)))
        done = [0, *range(1, len(at) + 1), len(at)]
        axes.plot([0, *at, end], done, color=colour, label=label, drawstyle="steps-post")
    axes.set(xlabel="seconds of CPU time", xlim=(0, None), ylim=(0, None))


def _losses(axes: Any, row: Row) -> None:
    """How far each step's loss is from the unfused one."""
    for side, (label, colour) in _SIDES.items():
        pairs = enumerate(zip(row["figures"][side].get("losses", []), row["unfused"]), 1)
        apart = {step: max(abs(a - b) / abs(b), 1e-9) for step, (a, b) in pairs if a is not None and b}
        axes.plot(list(apart), list(apart.values()), color=colour, label=label)
    axes.set(xlabel="step", yscale="log", xlim=(1, REPEATS), ylim=(1e-9, 10))


def _panels(shown: Mapping[str, Any], draw: Callable[[Any, Any], None], label: str, width: float = 2.6) -> str:
    """A figure with a panel for each of ``shown``, by title, and the legend beside them, as SVG in the page's colours."""
    import matplotlib
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context({**dict.fromkeys(inks, _INK), "svg.fonttype": "none", "font.size": 10}):
        drawing = Figure(figsize=(width * len(shown) + 1.8, 2.6), layout="constrained")
        every = drawing.subplots(1, len(shown), squeeze=False)[0]
        for axes, (title, values) in zip(every, shown.items()):
            axes.patch.set_alpha(0)
            draw(axes, values)
            axes.set_title(title, fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        every[0].set_ylabel(label)
        drawing.legend(*every[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        file = io.StringIO()
        drawing.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :].replace(_INK, "currentColor")


def thorough(rows: Sequence[Row], cells: Lines, matrix: Lines, words: str) -> str:
    """The page of the thorough comparison: which defect hits which model, loss over wall time, all cells."""
    body = f"<h2>Which defect hits which model</h2>{_table(matrix)}<p>{words}</p>"
    for model in dict.fromkeys(row["model"] for row in rows):
        trained = [row for row in rows if row["model"] == model and row.get("history")]

        def draw(axes: Any, key: str, trained: Sequence[Row] = trained) -> None:
            for number, row in enumerate(trained):
                seconds = [epoch["elapsed"] for epoch in row["history"]]
                values = [math.nan if epoch[key] is None else epoch[key] for epoch in row["history"]]
                axes.plot(seconds, values, color=f"C{number}", marker="o", markersize=3, label=row["cell"])
            axes.set(xlabel="wall time with compilation, s", xlim=(0, None))

        losses = {"training loss": "loss", "validation loss": "validation_loss"}
        body += f"<h2>{model}</h2>{_panels(losses, draw, 'loss', width=4.2)}"
    return _document("Four models, plainly and with each family of cures", f"{body}<h2>All cells</h2>{_table(cells)}")
