"""The pages of the comparisons: one HTML file that needs nothing else, readable in light and dark."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import jinja2
import matplotlib
from matplotlib.figure import Figure

_INK = "#010203"  # stands for the page's text colour in the figures


def rendered(template: str, **values: Any) -> str:
    """A page from its template."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    return jinja2.Environment(loader=loader, autoescape=True).get_template(template).render(values)


def panels(shown: Mapping[str, Any], draw: Callable[[Any, Any], None], label: str, width: float = 2.6) -> str:
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
