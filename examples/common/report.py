"""What a run ends in: a table (terminal and Markdown) and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def aligned(lines: Lines, right: bool = False) -> str:
    """Columns side by side; ``right`` puts all but the first to the right, under a rule."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    shown = [[cell.rjust(width) if right else cell.ljust(width) for cell, width in zip(line, widths)] for line in lines]
    if right:
        shown = [[line[0].ljust(widths[0]), *cells[1:]] for line, cells in zip(lines, shown)]
        shown.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(line).rstrip() for line in shown)


def markdown(lines: Lines, right: bool = False) -> str:
    """A Markdown table whose first line is the head; ``right`` aligns all columns but the first to the right."""
    rule = ["---", *["---:" if right else "---"] * (len(lines[0]) - 1)]
    rows = [[cell.replace("|", "/") for cell in line] for line in (lines[0], rule, *lines[1:])]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _metric(rows: Sequence[Row]) -> str:
    return next((row["metric"] for row in rows if row.get("metric")), "test_metric")


def table(rows: Sequence[Row]) -> tuple[Lines, str]:
    """The cells of the table, and a line for every variant that did not finish."""
    lines = grid(rows, COLUMNS)
    lines[0] = [_metric(rows).replace("_", " ") if heading == "metric" else heading for heading in lines[0]]
    failed = [row for row in rows if row.get("status", "finished") != "finished"]
    return lines, "".join(f"{row['variant']}: {row['status']}\n" for row in failed)


def write(rows: Sequence[Row], output: Path, title: str, json: str | None) -> None:
    """Print the table; write it, the figure and the results to ``output``, and the results to the file ``json``."""
    figure(rows, output / "figure.png", title)
    for path in filter(None, (output / "results.json", json)):
        write_json(Path(path), rows)
    lines, notes = table(rows)
    write_text(output / "table.md", markdown(lines, right=True) + notes)
    print(f"\n{aligned(lines, right=True)}\n{notes}\ntable, figure and results: {output}")


def figure(rows: Sequence[Row], path: Path, title: str) -> None:
    """Draw training loss and the validation metric over wall time, and the padded share, as a PNG at ``path``."""
    from matplotlib.figure import Figure

    finished = [row for row in rows if row.get("history")]
    drawing = Figure(figsize=(11, 3.6), layout="constrained")
    drawing.suptitle(title)
    loss, quality, padding = drawing.subplots(1, 3)
    for number, row in enumerate(finished):
        seconds = [epoch["elapsed"] for epoch in row["history"]]
        style = {"color": f"C{number}", "marker": "o", "markersize": 3}
        loss.plot(seconds, [epoch["loss"] for epoch in row["history"]], label=row["variant"], **style)
        quality.plot(seconds, [100 * epoch["validation"] for epoch in row["history"]], **style)
        padding.barh(row["variant"], 100 * row["padded_share"], color=f"C{number}")
    for axes, label in ((loss, "training loss"), (quality, f"validation {_metric(rows).removeprefix('test_')}, %")):
        axes.set(xlabel="wall time with compilation, s", ylabel=label, xlim=(0, None))
        axes.grid(alpha=0.3)
    if finished:
        loss.legend(frameon=False)
    padding.set(xlabel="padded share, %", xlim=(0, 100))
    padding.invert_yaxis()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(path, dpi=130)
