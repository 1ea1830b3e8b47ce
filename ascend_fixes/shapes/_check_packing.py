"""Does a sample of a packed row see its neighbours?

The cell is run on a few packed rows, and again with each of their samples alone in a row of the same width. Whatever
belongs to a sample, its part of every output and of the loss, and the gradients of the parameters over all of them,
must be the same. If it is not, the sub-cells' outputs tell where the difference begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.errors import AscendFixesError
from ascend_fixes.shapes._packed import ADDED, PackedDataset
from ascend_fixes.shapes._reasons import argument_names
from ascend_fixes.shapes._runs import TOLERANCES, checking, watched
from ascend_fixes.shapes._valid import leaves
from ascend_fixes.tensors import array_of

__all__ = ["PackingCheckError", "PackingLeak", "PackingReport", "check_packing"]


class PackingCheckError(AscendFixesError, ValueError):
    """A cell or a dataset that cannot be checked."""


@dataclass(frozen=True)
class PackingLeak:
    """Something that is not as it is for the sample alone.

    Attributes:
        what: "output", "output[1]", "loss" or "gradient of head.weight".
        sample: the place of the sample in the dataset; None for what belongs to all.
        error: the largest difference, relative to the largest value.
    """

    what: str
    sample: int | None
    error: float

    def __str__(self) -> str:
        of = "" if self.sample is None else f" of sample {self.sample}"
        return f"{self.what}{of} differs by {self.error:.2g} of the largest value from what it is alone"


@dataclass(frozen=True)
class PackingReport:
    """What `check_packing` found.

    Attributes:
        leaks: everything that differs; empty if no sample sees another.
        cell: the name of the first sub-cell whose outputs differ, "" if it is the cell's own construct.
        kind: that sub-cell's class.
        cause: the usual cause of a leak that begins there.
        tolerance: relative; for the lowest precision that took part.
        compared: outputs, the loss and parameters that were compared, by name.
        notes: what could not be compared, and why.
    """

    leaks: tuple[PackingLeak, ...]
    cell: str
    kind: str
    cause: str
    tolerance: float
    compared: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every sample is as if alone."""
        return not self.leaks

    def __str__(self) -> str:
        notes = "".join(f"\nnote: {note}" for note in self.notes)
        if self.ok:
            return f"every sample is as if alone ({len(self.compared)} compared, tolerance {self.tolerance:g}){notes}"
        where = f"sub-cell {self.cell!r} ({self.kind})" if self.cell else f"construct of {self.kind} itself"
        lines = [f"packed samples see each other; it begins in {where}: {self.cause}"]
        return "\n".join([*lines, *(f"  {leak}" for leak in self.leaks)]) + notes


def check_packing(
    cell: nn.Cell, dataset: PackedDataset, rows: int = 2, gradients: bool = True, tolerance: float | None = None
) -> PackingReport:
    """Compare the samples of some packed rows with the same samples alone.

    The cell runs in PyNative mode, with dropout off and everything else in training mode. Its parameters, its mode and the
    process's mode are restored.

    Args:
        cell: a network, or a network with its loss; not one that trains. It is given the columns of the dataset that
            construct's arguments are named after, or all of them where construct takes ``*inputs``.
        dataset: what `pack_dataset` made. A loss must be a mean over its weights, or a sum: a mean over rows counts rows.
        rows: how many rows to look at, those that hold several samples first.
        gradients: also compare the gradients of all trainable parameters.
        tolerance: relative; by default 1e-5 for float32, 1e-2 for float16, by the lowest precision met.

    Raises:
        PackingCheckError: for a cell with an optimizer, arguments that are no columns, or outputs of which none can
            be compared.
    """
    if any(isinstance(inner, nn.Optimizer) for _, inner in cell.cells_and_names()):
        raise PackingCheckError(f"{type(cell).__name__} holds an optimizer; check the network or its loss cell")
    shared = sorted(dataset.packing, key=len, reverse=True)[:rows]
    groups = [[int(dataset.source.kept[place]) for place in row] for row in shared]
    if all(len(group) == 1 for group in groups):
        raise PackingCheckError("no row of the dataset holds two samples, so none can see another; widen the rows")
    alone = [[place] for group in groups for place in group]
    with checking(cell) as noted:
        pair = [_Run.of(cell, dataset.batch_of(some), gradients) for some in (groups, alone)]
    packed, single = pair
    bound = tolerance if tolerance is not None else TOLERANCES[single.precision]
    notes = [*noted, *(f"output{what} has no axis of rows and was not compared" for what in packed.unread)]
    compared = [*packed.parts, *packed.gradients]
    if not compared:
        raise PackingCheckError(f"no output of {type(cell).__name__} has rows of the batch; return the loss or logits")
    leaks = tuple(_leaks(packed, single, bound))
    where, inner = _first(packed, single, bound) or ("", cell)
    if not leaks:
        return PackingReport((), "", "", "", bound, tuple(compared), tuple(notes))
    return PackingReport(
        leaks, where, type(inner).__name__, _cause(inner if where else None), bound, tuple(compared), tuple(notes)
    )


@dataclass
class _Run:
    """One run: for every output the samples' own parts of it, by the sample's place; what is for all under None."""

    parts: dict[str, dict[int | None, np.ndarray]]
    gradients: dict[str, np.ndarray]
    steps: list[tuple[str, nn.Cell, dict[str, dict[int | None, np.ndarray]]]]
    unread: list[str]
    precision: str

    @classmethod
    def of(cls, cell: nn.Cell, batch: Mapping[str, np.ndarray], gradients: bool) -> _Run:
        args = _arguments(cell, batch)
        steps: list[tuple[str, nn.Cell, dict[str, Tensor]]] = []
        with watched(cell, steps):
            found = leaves(cell(*args))
        taken = _gradients(cell, args, batch) if gradients else {}
        kinds = {str(value.dtype) for value in found.values()} | {str(p.dtype) for p in cell.get_parameters()}
        kinds |= {str(value.dtype) for _, _, values in steps for value in values.values()}
        floats = [kind for kind in TOLERANCES if kind in kinds]
        parts = {what: _parts(array_of(value), batch) for what, value in found.items()}
        inner = [(name, part, {w: _parts(array_of(v), batch) for w, v in vs.items()}) for name, part, vs in steps]
        unread = [what for what, read in parts.items() if not read]
        return cls({w: p for w, p in parts.items() if p}, taken, inner, unread, floats[-1] if floats else "Float32")


def _arguments(cell: nn.Cell, batch: Mapping[str, np.ndarray]) -> list[Tensor]:
    names, more = argument_names(cell)
    wanted = [name for name in batch if name not in ADDED] if more and not names else names
    missing = [name for name in wanted if name not in batch]
    if missing:
        raise PackingCheckError(
            f"construct of {type(cell).__name__} takes {', '.join(missing)}, but the dataset's columns are "
            f"{', '.join(batch)}; name the arguments after the columns"
        )
    return [Tensor(batch[name]) for name in wanted]


def _places(shape: Sequence[int], batch: Mapping[str, np.ndarray]) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """Where in a result of this shape the samples lie: place, and ``(row, begin, end)``."""
    segments, sample = batch["segment_ids"], batch["sample"]
    rows, width = segments.shape
    slots = sample.shape[1]
    lead = tuple(shape[:2])
    for row, slot in zip(*np.nonzero(sample >= 0)):
        held = np.flatnonzero(segments[row] == slot + 1)
        if lead == (rows, width):
            yield int(sample[row, slot]), (row, held[0], held[-1] + 1)
        elif lead == (rows, slots):
            yield int(sample[row, slot]), (row, slot, slot + 1)


def _read(value: Any, batch: Mapping[str, np.ndarray]) -> Any:
    """A result with its rows and positions in two axes, where they share the first one."""
    segments, sample = batch["segment_ids"], batch["sample"]
    for lead in (segments.shape, sample.shape):
        if value.ndim and value.shape[0] == lead[0] * lead[1] and value.shape[:2] not in (segments.shape, sample.shape):
            return value.reshape(*lead, *value.shape[1:])
    return value


def _parts(value: np.ndarray, batch: Mapping[str, np.ndarray]) -> dict[int | None, np.ndarray]:
    if value.ndim == 0:
        return {None: value}
    value = _read(value, batch)
    return {place: value[row, begin:end] for place, (row, begin, end) in _places(value.shape, batch)}


def _gradients(cell: nn.Cell, args: list[Any], batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of a fixed combination of what belongs to the samples, by parameter."""
    parameters = cell.trainable_params()
    if not parameters:
        return {}

    def combined() -> Tensor:
        total = Tensor(0.0, ms.float32)
        for value in leaves(cell(*args)).values():
            if value.is_floating_point():
                value = value.astype(ms.float32)
                total = total + (value if value.ndim == 0 else (_read(value, batch) * _factors(value, batch)).sum())
        return total

    values = ms.value_and_grad(combined, None, ms.ParameterTuple(parameters))()[1]
    return {parameter.name: array_of(value) for parameter, value in zip(parameters, values)}


def _factors(value: Tensor, batch: Mapping[str, np.ndarray]) -> Tensor:
    """A number for every element of a sample, the same wherever the sample lies; 0 elsewhere."""
    shape = _read(np.empty(value.shape, np.bool_), batch).shape
    factors = np.zeros(shape, np.float32)
    for place, (row, begin, end) in _places(shape, batch):
        part = factors[row, begin:end]
        part[...] = np.cos(place + np.arange(part.size, dtype=np.float32)).reshape(part.shape)
    return Tensor(factors)


# --- comparing ------------------------------------------------------------------------------------


def _leaks(packed: _Run, single: _Run, tolerance: float) -> Iterator[PackingLeak]:
    for what, parts in packed.parts.items():
        for place, error in _errors(parts, single.parts.get(what, {})):
            if not error <= tolerance:
                yield PackingLeak("loss" if place is None else f"output{what}", place, error)
    largest = max((float(np.abs(value).max()) for value in single.gradients.values()), default=0.0) or 1.0
    for name, value in single.gradients.items():
        error = float(np.abs(value - packed.gradients[name]).max()) / largest
        if not error <= tolerance:
            yield PackingLeak(f"gradient of {name}", None, error)


def _errors(
    packed: Mapping[int | None, np.ndarray], single: Mapping[int | None, np.ndarray]
) -> Iterator[tuple[int | None, float]]:
    """For every sample the largest difference, relative to the largest value of all."""
    scale = max((float(np.abs(part[np.isfinite(part)]).max(initial=0.0)) for part in single.values()), default=0.0)
    for place, part in packed.items():
        own = single.get(place)
        if own is None or own.shape != part.shape:
            yield place, float("inf")
            continue
        same = (part == own) | ((part != part) & (own != own))
        with np.errstate(invalid="ignore"):
            change = np.where(same, 0.0, np.abs(part.astype(np.float64) - own))
        yield place, float(change.max(initial=0.0)) / (scale or 1.0)


def _first(packed: _Run, single: _Run, tolerance: float) -> tuple[str, nn.Cell] | None:
    """The first sub-cell whose outputs differ for some sample."""
    waiting: dict[str, list] = {}
    for name, _, values in single.steps:
        waiting.setdefault(name, []).append(values)
    for name, inner, values in packed.steps:
        theirs = (waiting.get(name) or [{}]).pop(0)
        for what, parts in values.items():
            errors = _errors(parts, theirs.get(what, {}))
            if any(place is not None and not error <= tolerance for place, error in errors):
                return name, inner
    return None


def _cause(cell: nn.Cell | None) -> str:
    """The usual cause of a leak that begins in such a sub-cell, or in no sub-cell, with its remedy."""
    kind = " ".join(base.__name__.lower() for base in type(cell).__mro__)
    if any(name in kind for name in ("attention", "softmax", "transformer")):
        return "attention reaches the samples beside it; mask its scores with shapes.segment_mask(segment_ids)"
    if any(name in kind for name in ("gru", "lstm", "rnn", "recurrent")):
        return "a state runs on from the sample before; set it back where positions is 0, or bucket instead of packing"
    if "batchnorm" in kind:
        return "statistics are taken over the batch; use LayerNorm"
    if "conv" in kind or "pool" in kind:
        return "a window reaches over the border between two samples; bucket instead of packing"
    return (
        "places do not start anew with each sample (take them from the column positions), or a mean, a maximum or an "
        "attention reaches over a whole row (reduce by segment_ids, mask with shapes.segment_mask)"
    )
