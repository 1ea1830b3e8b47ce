"""Which sizes to pad to, and whether to pad at all."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import nn

from ascend_fixes.auditing import AuditReport
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes import Buckets, Grid

__all__ = ["SIZES", "LengthsError", "chosen_sizes", "unsafe_to_pad"]

_NOT_PADDED = frozenset(
    {"padding-leak-output", "padding-leak-state", "padding-leak-loss", "padding-leak-gradient", "value-dependent-shape"}
)
"""Kinds with which a padded step would compute something else."""

SIZES = frozenset({"unrolled-recurrence", "recompile-function", "recompile-dict", "recompile-container"})
"""Kinds that cost a graph for every length, or every call."""

WASTE, MOST = 0.1, 8  # padding over content that is little enough, and the most sizes


class LengthsError(AscendFixesError, ValueError):
    """``lengths`` of `ascend_fixes.adapt` that do not fit the ragged axes."""


def unsafe_to_pad(report: AuditReport) -> str:
    """Why nothing may be padded; "" where it may."""
    leak = next((hazard for hazard in report.hazards if hazard.kind in _NOT_PADDED and hazard.certain), None)
    if leak is not None:
        return f"{leak.kind} ({leak.place}), {leak.reason}"
    unknown = next((kind for kind in report.not_looked_at if kind.startswith("padding-leak")), None)
    if unknown is not None and not any(hazard.kind == "length-written-in" for hazard in report.hazards):
        return f"whether padding leaks is not known, {report.not_looked_at[unknown]}"
    return ""


def chosen_sizes(
    axes: Mapping[str, Mapping[int, str]], lengths: Any, report: AuditReport, cell: nn.Cell, inputs: Sequence[Any]
) -> tuple[dict[Any, tuple], str]:
    """The sizes of every length, and how they were chosen in one sentence.

    Raises:
        LengthsError, SizesError: lengths that do not fit.
    """
    own = _own(axes, report, cell, inputs)
    if any(hazard.kind == "length-written-in" for hazard in report.hazards):
        told = f"sizes: the batch's own length alone, {own}: it is written into the model; every batch is padded to it"
        return {name: (length,) for name, length in own.items()}, told
    if lengths is None:
        sizes = {name: Buckets.geometric(max(1, length // 4), length, 3).sizes for name, length in own.items()}
        return sizes, f"sizes: {sizes}, the batch's own length and fractions of it; give lengths= for the corpus's"
    if isinstance(lengths, Grid):
        if len(own) != 2:
            raise LengthsError(f"a Grid is for two of them, there are {len(own)} here: {', '.join(map(repr, own))}")
        return {tuple(own): lengths.sizes}, f"sizes: {len(lengths.sizes)} pairs of {' and '.join(own)}, as given"
    given = dict(lengths) if isinstance(lengths, Mapping) else dict.fromkeys(own, lengths)
    if set(given) != set(own):
        raise LengthsError(f"they name {', '.join(map(repr, given))}, the axes {', '.join(map(repr, own))}")
    pair = tuple(given.values())
    if len(pair) == 2 and isinstance(lengths, Mapping) and not any(isinstance(one, Buckets) for one in pair):
        if len(pair[0]) != len(pair[1]):
            raise LengthsError(f"there are {len(pair[0])} and {len(pair[1])}; give both of every sample")
        first, second = own.values()
        grid = Grid.fit([*zip(map(int, pair[0]), map(int, pair[1])), (first, second)], MOST)
        return {tuple(given): grid.sizes}, f"sizes: {len(grid.sizes)} pairs, fitted to the lengths"
    sizes = {name: _fitted(some, own[name]) for name, some in given.items()}
    told = "; ".join(f"{name} {list(some)}" for name, some in sizes.items())
    ready = all(isinstance(some, Buckets) for some in given.values())
    return sizes, f"sizes: {told}, {'as given' if ready else 'fitted to the lengths'}"


def _fitted(lengths: Any, own: int) -> tuple[int, ...]:
    """The fewest sizes that leave little padding; those of ready buckets."""
    if isinstance(lengths, Buckets):
        return lengths.sizes
    every = [*np.asarray(lengths).ravel().tolist(), own]
    for k in range(1, MOST + 1):
        found = Buckets.fit(every, k)
        if found.waste(every) <= WASTE:
            break
    return found.sizes


def _own(
    axes: Mapping[str, Mapping[int, str]], report: AuditReport, cell: nn.Cell, inputs: Sequence[Any]
) -> dict[str, int]:
    """The batch's own lengths."""
    values = dict(zip(_names(cell), inputs))
    found: dict[str, int] = {}
    for name, by_axis in axes.items():
        outer, *keys = name.split(".")
        value: Any = values.get(outer)
        for key in keys:
            value = value[int(key) if key.isdigit() else key]
        for axis, length in by_axis.items():
            found.setdefault(
                length, int(np.shape(value)[axis]) if not hasattr(value, "shape") else int(value.shape[axis])
            )
    return found


def _names(cell: nn.Cell) -> list[str]:
    return list(inspect.signature(cell.construct).parameters)
