"""Is a length written into the model? It is run at other widths: shorter by one and by a third, longer by one and by all.

The rows go on with what they begin with, so every width holds plausible data. A width that fails is loud. Silent ones
are seen in two ways: a result whose axes do not follow the width, and positions beyond the written length that are
never read.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._running import Ran, attempt, differs_by, line_of, operator_in, reseeded, settled
from ascend_fixes.auditing._subject import Subject

__all__ = ["LENGTHS"]

_KIND = "length-written-in"


def look(subject: Subject) -> Iterator[Finding]:
    """One length after the other."""
    if not subject.axes:
        yield Unknown(_KIND, "no axis of the inputs is ragged, as far as their sizes tell; say which with axes=")
        return
    settled(subject)
    base = attempt(subject.cell, subject.inputs)
    tried: list[str] = []
    found: list[Hazard] = []
    for name, own in subject.lengths.items():
        trials = _Trials(subject, name, own, base)
        found = [*found, *trials.hazards()]
        tried += trials.widths
    yield from found
    if not found:
        yield Cleared(_KIND, f"it ran at other widths ({', '.join(tried)}), and its results followed")


@dataclass
class _Trials:
    """The runs at other sizes of one length."""

    subject: Subject
    name: str
    own: int
    base: Ran

    def __post_init__(self) -> None:
        shorter = [width for width in (self.own - 1, self.own - max(2, self.own // 3)) if width > 0]
        self.runs = {width: self._run(width) for width in (*dict.fromkeys(shorter), self.own + 1, 2 * self.own)}

    @property
    def widths(self) -> list[str]:
        return [f"{self.name} {width}" for width in self.runs]

    def _run(self, width: int) -> Ran:
        return attempt(self.subject.cell, self.subject.with_arrays(self.subject.resized({self.name: width})))

    def hazards(self) -> Iterator[Hazard]:
        failed = {width: run.failure for width, run in self.runs.items() if run.failure is not None}
        silent = {
            width: odd for width, run in self.runs.items() if run.failure is None and (odd := self._odd(width, run))
        }
        if failed and min(failed) < self.own and any(map(self._runs_together, failed)):
            return  # such as frames and a mask of every fourth: one follows from the other
        if failed:
            yield self._loud(failed, silent)
        elif silent:
            yield self._silent(silent)
        elif self._ignores_the_rest():
            yield self._silent({2 * self.own: f"what stands beyond position {self.own} changes nothing"})

    def _loud(self, failed: Mapping, silent: Mapping[int, str]) -> Hazard:
        width = next(iter(failed))
        failure = failed[width]
        ran = [str(other) for other in self.runs if other not in failed and other not in silent]
        longest = all(other > self.own for other in failed)
        reason = self._limit(failed) if longest else f"{self.name} {self.own} is written into the model"
        evidence = f"at {self.name} {width}: {failure.error} at {line_of(failure.source, failure.line)}"
        evidence += f"; fails at {', '.join(map(str, failed))}, runs at {', '.join([str(self.own), *ran])}"
        evidence += "".join(f"; at {other} no error, but {odd}" for other, odd in silent.items())
        return hazard(
            _KIND,
            kinds.FAILED,
            reason,
            evidence,
            self._cure(longest),
            operator=operator_in(failure.text) or failure.layer,
            cell=failure.cell,
            source=failure.source,
        )

    def _limit(self, failed: Container[int]) -> str:
        """Where only greater sizes fail: the greatest that runs, or that it depends on another length."""
        too_much = min(width for width in self.runs if width in failed)
        if self._runs_together(too_much):
            beside = ", ".join(f"{name} {size}" for name, size in self._others.items())
            return f"{self.name} cannot be {too_much} beside {beside}: the one limits the other"
        return (
            f"{self.name} can be at most {self.own}"
            if too_much == self.own + 1
            else f"{self.name} cannot be {too_much}"
        )

    @property
    def _others(self) -> dict[str, int]:
        return {name: size for name, size in self.subject.lengths.items() if name != self.name}

    def _runs_together(self, width: int) -> bool:
        """Whether it runs at a width where the other lengths change in proportion, rounded one way or the other."""
        for more in (0, 1, -1) if self._others else ():
            sizes = {name: max(1, round(size * width / self.own) + more) for name, size in self._others.items()}
            arrays = self.subject.resized({self.name: width, **sizes})
            if attempt(self.subject.cell, self.subject.with_arrays(arrays)).failure is None:
                return True
        return False

    def _silent(self, silent: Mapping[int, str]) -> Hazard:
        told = "; ".join(f"at {self.name} {width} there is no error, but {odd}" for width, odd in silent.items())
        reason = f"{self.name} {self.own} is written into the model, and no error says so"
        return hazard(_KIND, kinds.DIFFERED, reason, told, self._cure(False))

    def _cure(self, longest: bool) -> str:
        axes = {name: dict(by_axis) for name, by_axis in self.subject.axes.items()}
        if longest:
            return f"net = shapes.bucketed(net, {axes}, shapes.Buckets.fit(lengths, k=4))  # none above {self.own}"
        return (
            f"net = shapes.bucketed(lambda length: {type(self.subject.cell).__name__}(..., length), {axes}, buckets)"
            f"  # a cell for each bucket, parameters shared\n"
            f"net = shapes.bucketed(net, {axes}, shapes.Buckets([{self.own}]))  # or: everything padded to {self.own}"
        )

    def _odd(self, width: int, run: Ran) -> str:
        """What is wrong with the shapes of the results at a width; "" where they follow it."""
        if len(run.outputs) != len(self.base.outputs):
            return f"there are {len(run.outputs)} results in place of {len(self.base.outputs)}"
        others = [other for other in self.runs.values() if other.failure is None]
        for place, (own, new) in enumerate(zip(self.base.outputs, run.outputs)):
            if own.ndim != new.ndim:
                return f"result {place} has {new.ndim} axes in place of {own.ndim}"
            for axis, (before, after) in enumerate(zip(own.shape, new.shape)):
                constant = all(
                    other.outputs[place].shape[axis] == before for other in others if _alike(other, self.base)
                )
                if before == after and (constant or before % self.own):
                    continue
                if before in self._selected(self.own) and after in self._selected(width):
                    continue  # as long as a mask says
                if before % self.own == 0 and after * self.own == before * width:
                    continue  # it follows
                if before - after == self.own - width:
                    continue  # as after a convolution without padding, or with one token more
                return f"axis {axis} of result {place} is {after}, where {width} for {self.own} would make it follow"
        return ""

    def _selected(self, width: int) -> set[int]:
        """How many positions the masks among the inputs select at a width."""
        arrays = self.subject.resized({self.name: width}) if width != self.own else self.subject.leaves
        masks = [array for array in arrays.values() if array.dtype.kind == "b" or np.isin(array, (0, 1)).all()]
        return {int(np.count_nonzero(mask)) for mask in masks if mask.ndim > 1}

    def _ignores_the_rest(self) -> bool:
        """Whether only the first positions are read: the last own ones count, and those beyond never do."""
        if any(run.failure for run in self.runs.values()):
            return False
        return self._sensitive(self.own, self.own - max(1, self.own // 4)) and not self._sensitive(
            2 * self.own, self.own
        )

    def _sensitive(self, width: int, start: int) -> bool:
        """Whether a result that does not follow the width changes with what stands from ``start`` on."""
        arrays = self.subject.resized({self.name: width})
        runs = []
        for seed in (1, 2, 3):
            changed = dict(arrays)
            for name, by_axis in self.subject.axes.items():
                for axis, length in by_axis.items():
                    if length == self.name:
                        changed[name] = _tail_changed(changed[name], axis, start, seed)
            runs.append(attempt(self.subject.cell, self.subject.with_arrays(changed)))
        if any(run.failure for run in runs):
            return True
        kept = [i for i, output in enumerate(self.base.outputs) if _fixed(i, list(self.runs.values()), output.shape)]
        if not kept:
            return True
        first = [runs[0].outputs[i] for i in kept]
        return any(differs_by(first, [run.outputs[i] for i in kept]) > 1e-6 for run in runs[1:])


def _alike(run: Ran, base: Ran) -> bool:
    return [output.ndim for output in run.outputs] == [output.ndim for output in base.outputs]


def _fixed(place: int, runs: Sequence[Ran], shape: tuple[int, ...]) -> bool:
    return all(run.outputs[place].shape == shape for run in runs)


def _tail_changed(array: np.ndarray, axis: int, start: int, seed: int) -> np.ndarray:
    index: list = [slice(None)] * array.ndim
    index[axis] = slice(start, None)
    new = array.copy()
    new[tuple(index)] = reseeded(new[tuple(index)].shape, array, seed)
    return new


LENGTHS = Look("other widths", (_KIND,), look, compiled=True)
