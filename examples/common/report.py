"""What a run ends in: a table (terminal and Markdown) and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from examples.common import tables

__all__ = ["COLUMNS", "METRIC", "figure", "markdown", "metric", "table"]

Row = Mapping[str, Any]


def _number(form: str) -> Callable[[Any], str]:
    return lambda value: "-" if value is None else format(value, form)


# heading, key of the result, how it is shown; METRIC stands for what the example is judged by
METRIC = "metric"
COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("variant", "variant", str),
    ("graphs compiled", "graphs", _number("d")),
    ("wall time, s", "wall_seconds", _number(".1f")),
    ("s per epoch", "epoch_seconds", _number(".2f")),
    ("overflowed steps", "overflowed", str),
    ("padded share", "padded_share", _number(".1%")),
    (METRIC, METRIC, _number(".2%")),
    ("peak memory, GB", "peak_memory_gb", _number(".2f")),
)


def metric(rows: Sequence[Row]) -> str:
    """The key of what the rows are judged by: a result names it under "metric", for example "test_accuracy"."""
    return next((row[METRIC] for row in rows if row.get(METRIC)), "test_metric")


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    judged = metric(rows)
    cells = [[judged.replace("_", " ") if heading == METRIC else heading for heading, _, _ in COLUMNS]]
    for row in rows:
        values = [(row.get(judged if key == METRIC else key), show) for _, key, show in COLUMNS]
        cells.append(["-" if value is None else show(value) for value, show in values])
    return cells


def _notes(rows: Sequence[Row]) -> list[str]:
    return [f"{row['variant']}: {row['status']}" for row in rows if row.get("status", "finished") != "finished"]


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text; below it, a line for every variant that did not finish."""
    return "\n".join([tables.aligned(_cells(rows), right=True), *_notes(rows)])


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    return "\n".join([tables.markdown(_cells(rows), right=True), *_notes(rows)]).rstrip() + "\n"


def figure(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw training loss and the validation metric over wall time, and the padded share, as a PNG at ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    finished = [row for row in rows if row.get("history")]
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    FigureCanvasAgg(drawing)
    drawing.suptitle(title)
    loss, quality, padding = drawing.subplots(1, 3)
    for number, row in enumerate(finished):
        seconds = [epoch["elapsed"] for epoch in row["history"]]
        style = {"color": f"C{number}", "marker": "o", "markersize": 3}
        loss.plot(seconds, [epoch["loss"] for epoch in row["history"]], label=row["variant"], **style)
        quality.plot(seconds, [100 * epoch["validation"] for epoch in row["history"]], **style)
        padding.barh(row["variant"], 100 * row["padded_share"], color=f"C{number}")
    for axes, label in ((loss, "training loss"), (quality, f"validation {metric(rows).removeprefix('test_')}, %")):
        axes.set(xlabel="wall time with compilation, s", ylabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    if finished:
        loss.legend(frameon=False)
    padding.set(xlabel="padded share, %", xlim=(0, 100))
    padding.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=130)
