"""What runs and comparisons end in: tables (terminal and Markdown), results, and a run's figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from examples.common.files import write_json, write_text

Row = Mapping[str, Any]
Lines = Sequence[Sequence[str]]

# heading, key of the result, format; a result names what it is judged by under "metric", "test_accuracy" for example
COLUMNS = (
    ("variant", "variant", ""),
    ("graphs compiled", "graphs", "d"),
    ("wall time, s", "wall_seconds", ".1f"),
    ("s per epoch", "epoch_seconds", ".2f"),
    ("overflowed steps", "overflowed", ""),
    ("padded share", "padded_share", ".1%"),
    ("metric", None, ".2%"),
    ("peak memory, GB", "peak_memory_gb", ".2f"),
)


def grid(rows: Sequence[Row], columns: Sequence[tuple[str, str | None, str]]) -> list[list[str]]:
    """Headings, and the cells of each row; the key None stands for the row's metric, and "-" for what it lacks."""
    lines = [[heading for heading, _, _ in columns]]
    for row in rows:
        values = [(row.get(key or row.get("metric", "")), form) for _, key, form in columns]
        lines.append(["-" if value is None else format(value, form) for value, form in values])
    return lines


def aligned(lines: Lines, right: bool = False, style: str = "simple") -> str:
    """A table whose first line is the head, as tabulate styles it; ``right``: all columns but the first to the right."""
    sides = ["left", *["right" if right else "left"] * (len(lines[0]) - 1)]
    return tabulate(lines[1:], lines[0], style, colalign=sides, disable_numparse=True)


def markdown(lines: Lines, right: bool = False) -> str:
    """The same in Markdown."""
    return aligned([[cell.replace("|", "/") for cell in line] for line in lines], right, "pipe") + "\n"


def _metric(rows: Sequence[Row]) -> str:
    return next((row["metric"] for row in rows if row.get("metric")), "test_metric").replace("_", " ")


def save(value: Any, output: Path, json: str | Path | None) -> None:
    """Write results to ``output``/results.json, and to the file ``json`` as well."""
    for path in filter(None, (output / "results.json", json)):
        write_json(Path(path), value)


def table(rows: Sequence[Row]) -> tuple[Lines, str]:
    """The cells of the table, and a line for every variant that did not finish."""
    lines = grid(rows, COLUMNS)
    lines[0] = [_metric(rows) if heading == "metric" else heading for heading in lines[0]]
    failed = [row for row in rows if row.get("status", "finished") != "finished"]
    return lines, "".join(f"{row['variant']}: {row['status']}\n" for row in failed)


def write(rows: Sequence[Row], output: Path, title: str, json: str | None) -> None:
    """Print the table; write it, the figure and the results to ``output``, and the results to the file ``json``."""
    figure(rows, output / "figure.png", title)
    save(rows, output, json)
    lines, notes = table(rows)
    write_text(output / "table.md", markdown(lines, right=True) + notes)
    print(f"\n{aligned(lines, right=True)}\n{notes}\ntable, figure and results: {output}")


def curves(axes: Any, rows: Sequence[Row], name: str, value: str) -> None:
    """Draw what ``value`` was after every epoch over wall time, a line, called ``name``, for each row."""
    for row in rows:
        seconds = [epoch["elapsed"] for epoch in row["history"]]
        values = [math.nan if epoch[value] is None else epoch[value] for epoch in row["history"]]
        axes.plot(seconds, values, marker="o", markersize=3, label=row[name])
    axes.set(xlabel="wall time with compilation, s", xlim=(0, None))
    axes.grid(alpha=0.3)


def figure(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw training loss and the validation metric over wall time, and the padded share, as a PNG at ``path``."""
    from matplotlib.figure import Figure

    finished = [row for row in rows if row.get("history")]
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    drawing.suptitle(title)
    loss, quality, padding = drawing.subplots(1, 3)
    curves(loss, finished, "variant", "loss")
    curves(quality, finished, "variant", "validation")
    for number, row in enumerate(finished):
        padding.barh(row["variant"], row["padded_share"], color=f"C{number}")
    loss.set_ylabel("training loss")
    quality.set_ylabel(f"validation {_metric(rows).removeprefix('test ')}")
    quality.yaxis.set_major_formatter("{x:.0%}")
    padding.xaxis.set_major_formatter("{x:.0%}")
    padding.set(xlabel="padded share", xlim=(0, 1))
    padding.invert_yaxis()
    if finished:
        loss.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=130)
