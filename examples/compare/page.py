"""The pages of the comparisons: one HTML file that needs nothing else, readable in light and dark."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

import jinja2
import matplotlib
from matplotlib.figure import Figure

from examples.common.report import Lines, curves
from examples.compare.jobs import MODELS, REPEATS

Row = Mapping[str, Any]
_INK = "#010203"  # stands for the page's text colour in the figures
_SIDES = {"plain": ("as it is", "#d1495b"), "cured": ("with ascend_fixes", "#2a9d8f")}


def _rendered(template: str, **values: Any) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True).get_template(template).render(values)


def quick(found: Mapping[str, Any]) -> str:
    """The page of the quick comparison, of its results."""
    figures = {}
    for family, draw, label in (
        ("shapes", _trained, "batches after the first shape"),
        ("fusion", _losses, "relative error of the loss"),
    ):
        shown = {MODELS[row["model"]].title: row for row in found["rows"] if row["family"] == family}
        figures[family] = _panels(shown, draw, label)
    return _rendered("quick.html", **found, models=MODELS, figures=figures)


def thorough(rows: Sequence[Row], cells: Lines, matrix: Lines, words: str) -> str:
    """The page of the thorough comparison: which defect hits which model, loss over wall time, all cells."""
    figures = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        trained = [row for row in rows if row["model"] == model and row.get("history")]
        shown = {"training loss": (trained, "cell", "loss"), "validation loss": (trained, "cell", "validation_loss")}
        figures[model] = _panels(shown, lambda axes, drawn: curves(axes, *drawn), "loss", width=4.2)
    return _rendered("thorough.html", cells=cells, matrix=matrix, words=words, figures=figures)


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
