"""What a run ends in: a table (terminal and Markdown) and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

__all__ = ["COLUMNS", "figure", "markdown", "table"]

Row = Mapping[str, Any]


def _number(form: str) -> Callable[[Any], str]:
    return lambda value: "-" if value is None else format(value, form)


# heading, key of the result, how it is shown
COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("variant", "variant", str),
    ("graphs compiled", "graphs", _number("d")),
    ("wall time, s", "wall_seconds", _number(".1f")),
    ("s per epoch", "epoch_seconds", _number(".2f")),
    ("overflowed steps", "overflowed", str),
    ("padded share", "padded_share", _number(".1%")),
    ("test accuracy", "test_accuracy", _number(".2%")),
    ("peak memory, GB", "peak_memory_gb", _number(".2f")),
)


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    cells = [[heading for heading, _, _ in COLUMNS]]
    for row in rows:
        cells.append([show(row[key]) if row.get(key) is not None else "-" for _, key, show in COLUMNS])
    return cells


def _notes(rows: Sequence[Row]) -> list[str]:
    return [f"{row['variant']}: {row['status']}" for row in rows if row.get("status", "finished") != "finished"]


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; below it, a line for every variant that did not finish."""
    cells = _cells(rows)
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(_align(cell, widths[i], i) for i, cell in enumerate(line)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, *_notes(rows)])


def _align(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head, *body = _cells(rows)
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = ["| " + " | ".join(line) + " |" for line in (head, rule, *body)]
    return "\n".join([*lines, "", *_notes(rows)]).rstrip() + "\n"


def figure(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw training loss and validation accuracy over wall time, and the padded share, as a PNG at ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    finished = [row for row in rows if row.get("history")]
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.suptitle(title)
    loss, accuracy, padding = drawing.subplots(1, 3)
    for number, row in enumerate(finished):
        seconds = [epoch["elapsed"] for epoch in row["history"]]
        style = {"color": f"C{number}", "marker": "o", "markersize": 3}
        loss.plot(seconds, [epoch["loss"] for epoch in row["history"]], label=row["variant"], **style)
        accuracy.plot(seconds, [100 * epoch["validation"] for epoch in row["history"]], **style)
        padding.barh(row["variant"], 100 * row["padded_share"], color=f"C{number}")
    for axes, label in ((loss, "training loss"), (accuracy, "validation accuracy, %")):
        axes.set(xlabel="wall time with compilation, s", ylabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    if finished:
        loss.legend(frameon=False)
    padding.set(xlabel="padded share of all nodes, %", xlim=(0, 100))
    padding.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=130)
