"""Tables of text: aligned for a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["aligned", "markdown"]

_Lines = Sequence[Sequence[str]]


def aligned(lines: _Lines, right: bool = False) -> str:
    """Columns side by side; ``right`` puts all but the first to the right, under a rule."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    shown = [
        [
            cell.rjust(width) if right and place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths))
        ]
        for line in lines
    ]
    if right:
        shown.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(line).rstrip() for line in shown)


def markdown(lines: _Lines, right: bool = False) -> str:
    """A Markdown table whose first line is the head; ``right`` aligns all columns but the first to the right."""
    rule = ["---", *["---:" if right else "---"] * (len(lines[0]) - 1)]
    return "".join(
        f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in (lines[0], rule, *lines[1:])
    )
