"""Where padding gets in: every sub-cell in which values that are read later change.

One sub-cell after the other, in the order of their calls, is given back what it computed without garbage. If that
changes what the model computes, the sub-cell is a suspect, and stays mended while the search goes on; if nothing
changes, nobody reads what it has wrong (a final state that is dropped, rows that are masked later), and it is none.
What is still wrong at the end is computed by the cell's own construct.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.shapes._runs import Run, Step, output_name
from ascend_fixes.shapes._valid import Own
from ascend_fixes.tensors import array_of

__all__ = ["Suspect", "of_gradients", "of_outputs"]

MOST = 40  # runs
Values = Mapping[str, np.ndarray]  # a cell's results by their place


@dataclass(frozen=True)
class Suspect:
    """A sub-cell in which padding gets in.

    Attributes:
        cell: its name, "" for the construct of the checked cell itself.
        kind: its class.
        cause: the usual cause of a leak that begins in such a cell, and its remedy.
        explains: the outputs that change because of it.
    """

    cell: str
    kind: str
    cause: str
    explains: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"sub-cell {self.cell!r} ({self.kind})" if self.cell else f"construct of {self.kind} itself"
        return f"{where}: {self.cause}"


def of_outputs(cell: nn.Cell, args: Sequence[Any], base: Run, own: Own, tolerance: float) -> list[Suspect]:
    """The suspects behind the outputs that garbage changes; ``args`` hold the garbage, ``base`` is the run without."""
    sound: dict[tuple[str, int], Step] = {(step.name, step.turn): step for step in base.steps}
    mended: set[str] = set()
    unread: set[str] = set()
    found: list[Suspect] = []
    run = Run.of(cell, args)
    for _ in range(MOST):
        left = base.changes(run, own, tolerance)
        if not left:
            return found
        step = next(
            (s for s in run.steps if s.name not in mended | unread and _differs(sound, s, own, tolerance)), None
        )
        if step is None:
            reduces = _reduces(base.outputs, run.outputs, own, tolerance)
            found.append(Suspect("", type(cell).__name__, cause(cell, reduces), tuple(left)))
            return found
        trial = Run.of(cell, args, _Mend(sound, mended | {step.name}, own))
        explained = _explained(left, base, run, trial, own, tolerance)
        if not explained:
            unread.add(step.name)
            continue
        mended.add(step.name)
        reduces = _reduces(sound[step.name, step.turn].values, step.values, own, tolerance)
        found.append(Suspect(step.name, type(step.cell).__name__, cause(step.cell, reduces), explained))
        run = trial
    return found


def of_gradients(cell: nn.Cell, changed: Sequence[str]) -> list[Suspect]:
    """The owners of parameters whose gradients alone change."""
    owners: dict[str, tuple[nn.Cell, list[str]]] = {}
    for path, inner in cell.cells_and_names():
        for _, parameter in inner.parameters_and_names(expand=False):
            what = f"gradient of {parameter.name}"
            if what in changed:
                owners.setdefault(path, (inner, []))[1].append(what)
    return [
        Suspect(path, type(inner).__name__, _cause_of_gradient(inner), tuple(what))
        for path, (inner, what) in owners.items()
    ]


@dataclass(frozen=True)
class _Mend:
    """Gives the outputs of some sub-cells back as they are without garbage; their gradients flow on."""

    sound: Mapping[tuple[str, int], Step]
    names: set[str]
    own: Own

    def __call__(self, name: str, turn: int, place: str, value: Tensor) -> Tensor | None:
        step = self.sound.get((name, turn)) if name in self.names else None
        if step is None or place not in step.values:
            return None
        return Tensor(self.own.restored(step.values[place], array_of(value))).astype(value.dtype)


def _differs(sound: Mapping[tuple[str, int], Step], step: Step, own: Own, tolerance: float) -> bool:
    before = sound.get((step.name, step.turn))
    if before is None:
        return False
    return bool(_changed(before.values, step.values, own, tolerance))


def _changed(before: Values, after: Values, own: Own, tolerance: float) -> list[str]:
    """The places of results whose own part is another."""
    return [
        place
        for place, value in after.items()
        if place in before and not own.difference(before[place], value) <= tolerance
    ]


def _reduces(before: Values, after: Values, own: Own, tolerance: float) -> bool:
    """Whether none of the results that changed is ragged."""
    changed = _changed(before, after, own, tolerance)
    return not any(own.is_ragged(before[place].shape, after[place].shape) for place in changed)


def _explained(left: Iterable[str], base: Run, run: Run, trial: Run, own: Own, tolerance: float) -> tuple[str, ...]:
    """Which of the outputs that are wrong another run has otherwise."""
    found = []
    for place, value in base.outputs.items():
        what = output_name(place, value)
        if what in left and own.differs(value.shape, run.outputs[place], trial.outputs[place], tolerance):
            found.append(what)
    return tuple(found)


def cause(cell: nn.Cell, reduces: bool) -> str:
    """The usual cause of a leak that begins in such a cell, with its remedy; ``reduces``: its result is not ragged."""
    kind = " ".join(base.__name__.lower() for base in type(cell).__mro__)
    if "batchnorm" in kind:
        return "batch statistics include padded positions; use LayerNorm, or statistics over the mask"
    if "crf" in kind:
        return "a CRF that scores padded steps; multiply its steps by the mask"
    if any(name in kind for name in ("gru", "lstm", "rnn", "recurrent")) and reduces:
        return "the final state is that of the last padded step; pass seq_length, or freeze it where the mask is 0"
    if any(name in kind for name in ("gru", "lstm", "rnn", "recurrent")):
        return "a backward direction starts in the padding; pass seq_length, or reverse each row within its length"
    if any(name in kind for name in ("attention", "softmax", "transformer")):
        return "attention reaches padded positions; mask its scores before the softmax"
    if reduces:
        return "a mean, sum or maximum over padded positions; mask it, and divide by the mask's sum"
    return "positions depend on their neighbours in the padding (attention, convolution); mask them"


def _cause_of_gradient(cell: nn.Cell) -> str:
    if isinstance(cell, nn.Embedding) or "embedding" in type(cell).__name__.lower():
        return "padded positions train the table's row of the pad value, though no output shows it; mask what is summed"
    return "only the gradient reaches padded positions: no output changes yet, but training does; mask what is summed"
