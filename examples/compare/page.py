"""The pages of the comparisons: one HTML file that needs nothing else, readable in light and dark."""

from __future__ import annotations

import argparse
import html as escape
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from examples.common import report
from examples.common.files import write_json, write_text
from examples.compare.jobs import MODELS, REPEATS
from examples.compare.judging import Row, sooner, verdicts

__all__ = ["document", "html", "panels", "table", "write"]

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


def document(title: str, body: str) -> str:
    """A page of its own."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ascend_fixes: {escape.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape.escape(title)}</h1>{body}</body></html>"
    )


def table(lines: Sequence[Sequence[str]], kinds: Sequence[Sequence[str]] | None = None) -> str:
    """A table whose first line is its head; ``kinds`` are the classes of the cells of the others: "good", "bad" or ""."""
    head = "".join(f"<th>{escape.escape(cell)}</th>" for cell in lines[0])
    body = []
    for number, line in enumerate(lines[1:]):
        of = kinds[number] if kinds else [""] * len(line)
        body.append("".join(f'<td class="{kind}">{escape.escape(cell)}</td>' for kind, cell in zip(of, line)))
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(f"<tr>{line}</tr>" for line in body)}</table></div>'


def html(found: Mapping[str, Any], lines: Sequence[Sequence[str]]) -> str:
    """The page of the quick comparison.

    Args:
        found: as `summary.results` makes it.
        lines: of the table, the first its head.
    """
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    about = (
        f"{found['cores']} cores, {found['seconds']:.0f} s in all; {versions}. Lengths as in the corpora of the study."
    )
    parts = [f'<p class="note">{escape.escape(about)}</p>']
    for family, head in _HEADS.items():
        rows = [row for row in found["rows"] if row["family"] == family]
        shown = [line[1:] for row, line in zip(found["rows"], lines[1:]) if row["family"] == family]
        kinds = [("", "bad" if row["hit"] else "", "good" if row["ok"] else "bad") for row in rows]
        figure = {"shapes": _trained, "fusion": _losses}.get(family)
        parts += [
            f"<h2>{head}</h2><p>{escape.escape(found['sentences'][family])}</p>",
            table([lines[0][1:], *shown], kinds),
        ]
        parts.append(figure(rows) if figure else "")
    return document("Four models, as they are and with ascend_fixes", "".join(parts))


def _trained(rows: Sequence[Mapping[str, Any]]) -> str:
    """Batches trained over seconds, a panel for each model."""

    def draw(axes: Any, row: Mapping[str, Any]) -> None:
        for side, (label, colour) in _SIDES.items():
            at = row["figures"][side].get("at", [])
            end = row["figures"][side].get("training_seconds", 0)
            axes.plot(
                [0, *at, end], [0, *range(1, len(at) + 1), len(at)], color=colour, label=label, drawstyle="steps-post"
            )
        axes.set(xlabel="seconds of CPU time", xlim=(0, None), ylim=(0, None))

    return panels(_named(rows), draw, "batches after the first shape")


def _losses(rows: Sequence[Mapping[str, Any]]) -> str:
    """How far each step's loss is from the unfused one, a panel for each model."""

    def draw(axes: Any, row: Mapping[str, Any]) -> None:
        reference = row["unfused"]
        for side, (label, colour) in _SIDES.items():
            losses = row["figures"][side].get("losses", [])
            apart = [abs(a - b) / abs(b) if a is not None and b else None for a, b in zip(losses, reference)]
            steps = [(step, value) for step, value in enumerate(apart, 1) if value is not None]
            axes.plot([step for step, _ in steps], [max(value, 1e-9) for _, value in steps], color=colour, label=label)
        axes.set(xlabel="step", yscale="log", xlim=(1, REPEATS), ylim=(1e-9, 10))

    return panels(_named(rows), draw, "relative error of the loss")


def _named(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {MODELS[row["model"]].title: row for row in rows}


def panels(shown: Mapping[str, Any], draw: Callable[[Any, Any], None], label: str, width: float = 2.6) -> str:
    """A figure with a panel for each of ``shown``, by title, and the legend beside them, as SVG in the page's colours."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    with matplotlib.rc_context({**dict.fromkeys(inks, _INK), "svg.fonttype": "none", "font.size": 10}):
        drawing = Figure(figsize=(width * len(shown) + 1.8, 2.6), layout="constrained")
        drawing.patch.set_alpha(0)
        every = drawing.subplots(1, len(shown), squeeze=False)[0]
        for axes, (title, values) in zip(every, shown.items()):
            axes.patch.set_alpha(0)
            draw(axes, values)
            axes.set_title(title, fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
        every[0].set_ylabel(label)
        drawing.legend(*every[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
        file = io.StringIO()
        FigureCanvasSVG(drawing).print_svg(file, metadata={"Date": None})
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :].replace(_INK, "currentColor")


# --- the thorough comparison -------------------------------------------------------------------

_COLUMNS = (
    ("model", "model", ""),
    ("cell", "cell", ""),
    ("outcome", "outcome", ""),
    ("graphs", "graphs", ""),
    ("s to plain's loss", "to_plain_loss", ".1f"),
    ("s in all", "wall_seconds", ".1f"),
    ("padded", "padded_share", ".0%"),
    ("overflowed", "overflowed", ""),
    ("metric", None, ".2%"),
    ("peak GB", "peak_memory_gb", ".2f"),
)


def _matrix(rows: Sequence[Row]) -> list[list[str]]:
    found = verdicts(rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    return [["family", *models], *([family, *(of.get(model, "-") for model in models)] for family, of in found.items())]


def _sooner(rows: Sequence[Row]) -> str:
    """`sooner` in words; empty without runs to compare."""
    found = sooner(rows)
    if not found:
        return ""
    each = ", ".join(f"{model} {times:.2f}" if times else f"{model} not reached" for model, times in found.items())
    median = f"; median {statistics.median(found.values()):.2f}" if len(found) > 1 else ""
    return (
        f"With all fixes, float32, plain's final validation loss, to 1 %, comes so many times as soon: {each}{median}."
    )


def write(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print and write the results of the thorough comparison: tables, a page with figures, and JSON."""
    cells, matrix = report.grid(rows, _COLUMNS), _matrix(rows)
    results = {"rows": rows, "matrix": verdicts(rows), "sooner": sooner(rows)}
    for path in filter(None, (options.output / "results.json", options.json)):
        write_json(path, results)
    text = f"{report.markdown(cells)}\nWhich defect hits which model:\n\n{report.markdown(matrix)}\n{_sooner(rows)}\n"
    write_text(options.output / "table.md", text)
    write_text(options.output / "index.html", _page(rows, cells, matrix))
    print(f"\n{report.aligned(cells)}\n\nWhich defect hits which model:\n{report.aligned(matrix)}\n\n{_sooner(rows)}")
    print(f"page: {options.output}/index.html")


def _page(rows: Sequence[Row], cells: report.Lines, matrix: report.Lines) -> str:
    """One HTML file with tables and figures, which needs nothing else."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figures = "".join(f"<h2>{model}</h2>{_figure([r for r in rows if r['model'] == model])}" for model in models)
    summary = f"<h2>Which defect hits which model</h2>{table(matrix)}<p>{_sooner(rows)}</p>"
    return document(
        "Four models, plainly and with each family of cures", f"{summary}{figures}<h2>All cells</h2>{table(cells)}"
    )


def _figure(rows: Sequence[Row]) -> str:
    """Training and validation loss over wall time."""

    def draw(axes: Any, key: str) -> None:
        for number, row in enumerate(row for row in rows if row.get("history")):
            seconds = [epoch["elapsed"] for epoch in row["history"]]
            values = [math.nan if epoch[key] is None else epoch[key] for epoch in row["history"]]
            axes.plot(seconds, values, color=f"C{number}", marker="o", markersize=3, label=row["cell"])
        axes.set(xlabel="wall time with compilation, s", xlim=(0, None))

    return panels({"training loss": "loss", "validation loss": "validation_loss"}, draw, "loss", width=4.2)
