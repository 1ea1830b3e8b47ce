"""The results of the thorough comparison as a table, a page with figures, and JSON."""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from examples.common import comparison, tables, variants
from examples.common.files import write_atomically
from examples.compare import page
from examples.compare.judging import Row, sooner, verdicts

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


def write(rows: Sequence[Row], options: argparse.Namespace) -> None:
    table, matrix = _table(rows), _matrix(rows)
    results = {"rows": comparison.finite(rows), "matrix": verdicts(rows), "sooner": sooner(rows)}
    for path in filter(None, (options.output / "results.json", options.json)):
        variants.write_json(path, results)
    text = f"{tables.markdown(table)}\nWhich defect hits which model:\n\n{tables.markdown(matrix)}\n{_sooner(rows)}\n"
    write_atomically(options.output / "table.md", lambda file: file.write(text.encode()))
    html = _page(rows, table, matrix)
    write_atomically(options.output / "index.html", lambda file: file.write(html.encode()))
    print(f"\n{tables.aligned(table)}\n\nWhich defect hits which model:\n{tables.aligned(matrix)}\n\n{_sooner(rows)}")
    print(f"page: {options.output}/index.html")


def _page(rows: Sequence[Row], table: Sequence[Sequence[str]], matrix: Sequence[Sequence[str]]) -> str:
    """One HTML file with tables and figures, which needs nothing else."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    figures = "".join(f"<h2>{model}</h2>{_figure([r for r in rows if r['model'] == model])}" for model in models)
    summary = f"<h2>Which defect hits which model</h2>{page.table(matrix)}<p>{_sooner(rows)}</p>"
    return page.document(
        "Four models, plainly and with each family of cures", f"{summary}{figures}<h2>All cells</h2>{page.table(table)}"
    )


def _figure(rows: Sequence[Row]) -> str:
    """Training and validation loss over wall time."""

    def draw(axes: Any, key: str) -> None:
        for number, row in enumerate(row for row in rows if row.get("history")):
            seconds = [epoch["elapsed"] for epoch in row["history"]]
            values = [math.nan if epoch[key] is None else epoch[key] for epoch in row["history"]]
            axes.plot(seconds, values, color=f"C{number}", marker="o", markersize=3, label=row["cell"])
        axes.set(xlabel="wall time with compilation, s", xlim=(0, None))

    return page.panels({"training loss": "loss", "validation loss": "validation_loss"}, draw, "loss", width=4.2)
