"""The results of `examples.compare` as a table, a page with figures, and JSON."""

from __future__ import annotations

import argparse
import html
import io
import math
import statistics
from collections.abc import Iterable, Sequence

from examples.common import comparison, variants
from examples.common.files import write_atomically
from examples.common.judging import Row, sooner, verdicts

__all__ = ["write"]

_COLUMNS = (
    ("model", "model", str),
    ("cell", "cell", str),
    ("outcome", "outcome", str),
    ("graphs", "graphs", str),
    ("s to plain's loss", "to_plain_loss", "{:.1f}".format),
    ("s in all", "wall_seconds", "{:.1f}".format),
    ("padded", "padded_share", "{:.0%}".format),
    ("overflowed", "overflowed", str),
    ("metric", None, "{:.2%}".format),
    ("peak GB", "peak_memory_gb", "{:.2f}".format),
)


def _table(rows: Iterable[Row]) -> list[list[str]]:
    lines = [[heading for heading, _, _ in _COLUMNS]]
    for row in rows:
        values = [(row.get(key or row.get("metric", "")), show) for _, key, show in _COLUMNS]
        lines.append(["-" if value is None else show(value) for value, show in values])
    return lines


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


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *body)) + "\n"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def write(rows: Sequence[Row], options: argparse.Namespace) -> None:
    table, matrix = _table(rows), _matrix(rows)
    results = {"rows": comparison.finite(rows), "matrix": verdicts(rows), "sooner": sooner(rows)}
    for path in filter(None, (options.output / "results.json", options.json)):
        variants.write_json(path, results)
    text = f"{_markdown(table)}\nWhich defect hits which model:\n\n{_markdown(matrix)}\n{_sooner(rows)}\n"
    write_atomically(options.output / "table.md", lambda file: file.write(text.encode()))
    page = _page(rows, table, matrix)
    write_atomically(options.output / "index.html", lambda file: file.write(page.encode()))
    print(f"\n{_aligned(table)}\n\nWhich defect hits which model:\n{_aligned(matrix)}\n\n{_sooner(rows)}")
    print(f"page: {options.output}/index.html")


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px } td, th { padding: .25rem .7rem; text-align: left }
tr { border-bottom: 1px solid #ddd } th { border-bottom: 2px solid #888 } svg { max-width: 100%; height: auto }
.scroll { overflow-x: auto }
"""


def _page(rows: Sequence[Row], table: Sequence[Sequence[str]], matrix: Sequence[Sequence[str]]) -> str:
    """One HTML file with tables and figures, which needs nothing else."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figures = "".join(f"<h2>{model}</h2>{_figure([r for r in rows if r['model'] == model])}" for model in models)
    summary = f"<h2>Which defect hits which model</h2>{_html(matrix)}<p>{_sooner(rows)}</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ascend_fixes: the comparison</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        "<h1>Four models, plainly and with each family of fixes</h1>"
        f"{summary}{figures}<h2>All cells</h2>{_html(table)}</body></html>"
    )


def _html(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ([html.escape(cell) for cell in line] for line in lines)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in body)
    return f'<div class="scroll"><table><tr>{"".join(f"<th>{cell}</th>" for cell in head)}</tr>{rows}</table></div>'


def _figure(rows: Sequence[Row]) -> str:
    """Training and validation loss over wall time, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 3.8), layout="constrained")
    training, validation = drawing.subplots(1, 2)
    for number, row in enumerate(row for row in rows if row.get("history")):
        seconds = [epoch["elapsed"] for epoch in row["history"]]
        for axes, key in ((training, "loss"), (validation, "validation_loss")):
            values = [math.nan if epoch[key] is None else epoch[key] for epoch in row["history"]]
            axes.plot(seconds, values, color=f"C{number}", marker="o", markersize=3, label=row["cell"])
    for axes, label in ((training, "training loss"), (validation, "validation loss")):
        axes.set(xlabel="wall time with compilation, s", ylabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    if training.lines:
        training.legend(frameon=False, fontsize=8)
    file = io.StringIO()
    FigureCanvasSVG(drawing).print_svg(file, metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]
