"""Does padding leak? `shapes.check_padding` says so, for the padding that serves the cell best.

Whatever is garbage in the padding and changes nothing needs no care. Where garbage leaks, the pad values that a caller
can choose are tried: 0 for ids, -100 for labels. What keeps padding out then is said; what leaks with every
choice is a hazard. Parameters that are zero, behind which a leak could hide, are filled first.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._inferring import filler, is_mask, row_ends, zero_ends
from ascend_fixes.auditing._looking import Cleared, Fact, Finding, Look, Unknown, hazard, tried
from ascend_fixes.auditing._recording import Recording, looked_up, record
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._running import attempt, differs_by, ready, reseeded
from ascend_fixes.auditing._subject import Subject, rebuilt
from ascend_fixes.errors import first_line
from ascend_fixes.shapes import Leak, PaddingReport, Suspect, check_padding
from ascend_fixes.shapes._runs import TOLERANCES
from ascend_fixes.tensors import array_of

__all__ = ["PADDING"]

_KINDS = ("padding-leak-output", "padding-leak-state", "padding-leak-loss", "padding-leak-gradient")
_IN_PLACE = ("garbage in place",)
_HALF = (mindspore.float16, mindspore.bfloat16)
_NOISE = 1e-6  # of float32 in two graphs
_IGNORED = (-100, -1)  # what losses take for labels that do not count


def look(subject: Subject) -> Iterator[Finding]:
    """Check the padding with garbage, then with the values that a caller may choose, then the gradients."""
    why = _impossible(subject)
    if why:
        yield from (Unknown(kind, why) for kind in _KINDS)
        return
    _reveal(subject.cell)
    ready(subject)
    plain = record(subject.cell, subject.inputs)
    tolerance = _tolerance(subject, plain)
    half = _in_half(plain)
    best, why = _best(subject, looked_up(subject, plain), tolerance, half)
    if best is None:
        yield from (Unknown(kind, f"padding could not be tried: {why}") for kind in _KINDS)
        return
    pads, report = best
    if report.ok and _IN_PLACE[0] not in report.tried:
        report = _also_in_place(subject, pads, report)
    if report.ok and subject.cell.trainable_params():
        report = _beyond_rounding(_with_gradients(subject, pads, report), half)
    yield Fact("pad", {**dict.fromkeys(subject.axes, 0), **dict(report.pads)})
    masks = [name for name, value in report.pads if name not in pads and value in (0, 1)]
    yield Fact("masks", masks)
    yield from _findings(subject, report, _told(subject, report))


def _best(
    subject: Subject, indices: Container[str], tolerance: float | None, half: bool
) -> tuple[tuple[dict[str, Any], PaddingReport] | None, str]:
    """The pad values with which least leaks, and what `check_padding` says of them; or why nothing could be tried."""
    best: tuple[dict[str, Any], PaddingReport] | None = None
    why = ""
    rows: dict[str, np.ndarray] = {}
    stands = functools.cache(functools.partial(_stands, subject))
    for pads in _choices(subject, indices):
        if not all(stands(name, value) for name, value in pads.items() if value in _IGNORED):
            continue
        try:
            report = (
                _in_place(subject, pads, rows) if rows else _checked(_full(subject, pads), pads, tolerance=tolerance)
            )
        except Exception as error:  # whatever the cell does with such values
            why = why or first_line(error)
            continue
        if not rows and (not report.tried or report.tried == _IN_PLACE):  # it runs at its own width only
            rows = {name: np.asarray(ends) for name, ends in report.rows} or _assumed(subject)
            if not report.tried:
                why = why or "; ".join(report.notes)
                with contextlib.suppress(Exception):
                    report = _in_place(subject, pads, rows)
        if not report.tried:
            continue
        report = _beyond_rounding(report, half)
        if best is None or _badness(report) < _badness(best[1]):
            best = pads, report
        if report.ok:
            break
    return best, why


def _badness(report: PaddingReport) -> tuple[int, float]:
    return len(report.leaks), max((leak.error for leak in report.leaks), default=0.0)


def _beyond_rounding(report: PaddingReport, half: bool) -> PaddingReport:
    """Without what ``half`` precision inside of a cell, which its results do not show, rounds otherwise at another width."""
    least = TOLERANCES["Float16"] if half else 0.0
    leaks = tuple(leak for leak in report.leaks if leak.method == "in place" or leak.error > least)
    suspects = tuple(one for one in report.suspects if any(leak.what in one.explains for leak in leaks))
    return report if leaks == report.leaks else replace(report, leaks=leaks, suspects=suspects)


def _stands(subject: Subject, name: str, value: int) -> bool:
    """Whether the cell runs with such a label, tried in a fork: where labels are indices, a kernel on CPU may end its process."""

    def run(inner: Subject) -> Iterator[Finding]:
        array = inner.leaves[name].copy()
        array.flat[-1] = value
        if attempt(inner.cell, inner.with_arrays({name: array})).failure is None:
            yield Fact("runs", True)

    return bool(tried(subject, run).findings)


def _also_in_place(subject: Subject, pads: Mapping[str, Any], report: PaddingReport) -> PaddingReport:
    """What garbage beyond the ends of rows changes, where the inputs show these: a cell may never read what is added behind."""
    rows = _shown(subject)
    with contextlib.suppress(Exception):  # whatever the cell does with it
        inner = _in_place(subject, pads, rows) if rows else report
        return inner if inner.leaks else report
    return report


def _shown(subject: Subject) -> dict[str, np.ndarray]:
    """Where rows end, by the name of the length, as far as one value that fills them up shows it."""
    found: dict[str, np.ndarray] = {}
    for leaf, by_axis in subject.axes.items():
        array = subject.leaves[leaf]
        for axis, length in by_axis.items():
            ends = row_ends(array) if array.ndim == 2 and axis == 1 else zero_ends(array, axis) if axis > 0 else None
            if ends is not None:
                found.setdefault(length, ends)
    return found


def _full(subject: Subject, pads: Mapping[str, Any]) -> Subject:
    """The subject with rows that begin anew where the pad value stood: where every row is padded already, more changes nothing."""
    arrays = {}
    for name, value in pads.items():
        array = subject.leaves[name]
        for axis in subject.axes[name]:
            rows = np.moveaxis(array, axis, -1).copy()
            for row in rows.reshape(-1, rows.shape[-1]):  # a view
                own = np.flatnonzero(row != value)
                if own.size:
                    row[:] = np.resize(row[: own[-1] + 1], row.size)
            array = np.moveaxis(rows, -1, axis)
        arrays[name] = array
    return replace(subject, inputs=tuple(subject.with_arrays(arrays)))


def _tolerance(subject: Subject, plain: Recording) -> float | None:
    """A hundredth of what other inputs change, for results in float32 that hardly depend on them; None leaves the default."""
    if _in_half(plain):
        return None
    other = {}
    for name in subject.axes:
        array = subject.leaves[name]
        other[name] = array if is_mask(array) else reseeded(array.shape, array, 1)
    before, after = (attempt(subject.cell, inputs).outputs for inputs in (subject.inputs, subject.with_arrays(other)))
    moved = differs_by(before, after) if before and after else 1.0
    return max(moved / 100, _NOISE) if moved < 1e-3 else None


def _in_half(plain: Recording) -> bool:
    return any(value.dtype in _HALF for event in plain.events for value in event.outputs)


def _assumed(subject: Subject) -> dict[str, np.ndarray]:
    """Where rows end if no mask says so: where an argument is filled up with one value, or else after two thirds of the width."""
    rows = max((array.shape[0] for name, array in subject.leaves.items() if name in subject.axes), default=0)
    found = {name: np.full(rows, max(1, own - max(1, own // 3))) for name, own in subject.lengths.items()}
    return {**found, **_shown(subject)}


def _in_place(
    subject: Subject, pads: Mapping[str, Any], rows: Mapping[str, np.ndarray], gradients: bool = False
) -> PaddingReport:
    """Garbage beyond the rows' ends, where what is padded with a value has that value; masks are off there."""
    masks = {name: 0 for name, array in subject.leaves.items() if name in subject.axes and is_mask(array)}
    written = {**masks, **pads}
    arrays = {}
    for name, value in written.items():
        array = subject.leaves[name].copy()
        for axis, length in subject.axes[name].items():
            if axis > 0 and array.shape[0] == len(rows.get(length, ())):
                dead = np.arange(array.shape[axis]) >= rows[length][:, None]
                shape = [array.shape[0], *(array.shape[i] if i == axis else 1 for i in range(1, array.ndim))]
                array = np.where(dead.reshape(shape), np.asarray(value, array.dtype), array)
        arrays[name] = array
    changed = replace(subject, inputs=tuple(subject.with_arrays(arrays)))
    return _checked(changed, written, gradients, lengths=rows, method="in place")


def _told(subject: Subject, report: PaddingReport) -> str:
    """What stood in the padding, in words."""
    pads = dict(report.pads)
    garbage = [name for name in subject.axes if name not in pads]
    parts = [f"garbage in {', '.join(garbage)}"] if garbage else []
    return ", ".join([*parts, *(f"{name} padded with {value}" for name, value in pads.items())])


def _impossible(subject: Subject) -> str:
    if not subject.axes:
        return "no axis of the inputs is ragged, as far as their sizes tell; say which with axes="
    if any(isinstance(inner, nn.Optimizer) for _, inner in subject.cell.cells_and_names()):
        return "the cell holds an optimizer; audit the network or its loss cell"
    return ""


def _reveal(cell: nn.Cell) -> None:
    """Fill parameters all of whose rows are constant, behind which a leak cannot be seen.

    Not one row of a table alone, as that of padding is: where it is trained, its gradient shows that padding gets in.
    """
    random = np.random.default_rng(0)
    for parameter in cell.get_parameters():
        if parameter.has_init:
            parameter.init_data()
        value = array_of(parameter)
        if not parameter.requires_grad or value.dtype.kind != "f" or value.ndim == 0 or value.size == 0:
            continue
        flat = value.reshape(-1, value.shape[-1]) if value.ndim > 1 else value.reshape(1, -1)
        if (flat == flat[:, :1]).all():
            filled = (flat + random.standard_normal(flat.shape) * 0.1).reshape(value.shape)
            parameter.set_data(Tensor(filled.astype(value.dtype)).astype(parameter.dtype))


def _choices(subject: Subject, indices: Container[str]) -> list[dict[str, Any]]:
    """Pad values to try, by argument, beside those that `check_padding` finds itself; garbage for the others.

    Only what is no index of a table can be padded with what losses ignore.
    """
    leaves = subject.leaves
    ids = [name for name in subject.axes if leaves[name].dtype.kind in "iu" and leaves[name].min() >= 0]
    counted = [name for name in ids if name not in indices]
    labels = [{name: value} for name in counted for value in _IGNORED]
    zeros = dict.fromkeys(ids, 0)
    own = {name: filler(leaves[name]) or 0 for name in ids}  # what their rows are filled up with already
    pairs = [{a: -100, b: -100} for a, b in itertools.combinations(counted, 2)][:6]
    shown = [own] if own != zeros else []
    every = [{}, *shown, *labels, zeros, *({**own, **one} for one in (*labels, *pairs))]
    return [one for place, one in enumerate(every) if one not in every[:place]]  # where one argument is all there is


def _with_gradients(subject: Subject, pads: Mapping[str, Any], report: PaddingReport) -> PaddingReport:
    if report.tried == _IN_PLACE:
        return _in_place(subject, pads, {name: np.asarray(ends) for name, ends in report.rows}, gradients=True)
    return _checked(subject, pads, gradients=True)


def _checked(subject: Subject, pads: Mapping[str, Any], gradients: bool = False, **options: Any) -> PaddingReport:
    widths = [{name: own + max(3, own // 2) for name, own in subject.lengths.items()}]
    named = {_identifier(name): name for name in subject.leaves}
    axes = {_identifier(name): dict(by_axis) for name, by_axis in subject.axes.items()}
    pads = {_identifier(name): value for name, value in pads.items()}
    inputs = list(subject.leaves.values())
    if subject.random:
        options = {"method": "in place", **options}  # other widths draw other numbers
    report = check_padding(_flat(subject), inputs, axes, widths, pad=pads, gradients=gradients, **options)
    return replace(report, pads=tuple((named[name], value) for name, value in report.pads))


def _identifier(leaf: str) -> str:
    """A name of an argument for an array inside of a container."""
    return leaf.replace(".", "__")


def _flat(subject: Subject) -> nn.Cell:
    """The cell as one that takes the arrays among its inputs by their names, wherever these stand inside of containers."""
    leaves = list(subject.leaves)

    def construct(self: Any, *arrays: Any) -> Any:
        given = dict(zip(leaves, arrays))
        return self.audited(*rebuilt(subject.names, subject.inputs, lambda name, _: given[name]))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in ("self", *map(_identifier, leaves))]
    vars(construct)["__signature__"] = inspect.Signature(parameters)
    flat = type(type(subject.cell).__name__, (nn.Cell,), {"construct": construct})(auto_prefix=False)
    flat.audited = subject.cell
    return flat


def _findings(subject: Subject, report: PaddingReport, told: str) -> Iterator[Finding]:
    leaks: dict[str, list[Leak]] = {}
    for leak in report.leaks:
        gradient, loss = leak.what.startswith("gradient"), leak.what == "loss"
        leaks.setdefault(_KINDS[3 if gradient else 2 if loss else 0], []).append(leak)
    if len(leaks) > 1:
        leaks.pop("padding-leak-gradient", None)  # it follows from what leaks already
    for kind, found in leaks.items():
        yield _hazard(kind, found, report.suspects, report, told)
    states = [one for one in report.suspects if one.cause.startswith("the final state")]
    for state in states:
        concerned = [leak for leak in report.leaks if leak.what in state.explains] or list(report.leaks)
        yield _hazard("padding-leak-state", concerned, (state,), report, told)
    seen = {*leaks, *(["padding-leak-state"] if states else [])}
    for kind in _KINDS:
        if kind in seen:
            continue
        if kind == "padding-leak-gradient" and seen:
            yield Unknown(kind, "what padding changes forward changes the gradients too; cure that first")
        else:
            yield Cleared(
                kind, f"run with padding ({', '.join(report.tried)}; {told}): the batch's own part stayed the same"
            )


def _hazard(kind: str, leaks: list[Leak], suspects: Sequence[Suspect], report: PaddingReport, told: str) -> Hazard:
    concerned = [one for one in suspects if any(leak.what in one.explains for leak in leaks)] or list(suspects)
    first = concerned[0] if concerned else Suspect(report.cell, report.kind, report.cause)
    worst: dict[str, Leak] = {}
    for leak in leaks:
        if leak.what not in worst or leak.error > worst[leak.what].error:
            worst[leak.what] = leak
    evidence = [f"{told}: {'; '.join(map(str, list(worst.values())[:4]))}"]
    evidence += [f"and {len(worst) - 4} more"] if len(worst) > 4 else []
    evidence += [f"it gets in at {one} too" for one in concerned[1:]]
    return hazard(
        kind,
        kinds.DIFFERED,
        f"{', '.join(list(worst)[:4])} changes with the padding: {first.cause}",
        "; ".join(evidence),
        _CURES[kind],
        operator=first.kind,
        cell=_own_path(first.cell),
    )


def _own_path(path: str) -> str:
    """The path in the audited cell of one in `_flat`."""
    return path[len("audited") :].lstrip(".")


_CURES = {
    "padding-leak-output": "x = x * mask.expand_dims(-1)  # before neighbours are read (convolution, attention, pooling)\n"
    "fusion.MaskedMean()(x, mask); fusion.MaskedMax()(x, mask)  # in place of mean and max over positions",
    "padding-leak-state": "self.rnn = fusion.GRU(input_size, hidden_size)  # or fusion.LSTM; takes seq_length=\n"
    "output, state = self.rnn(x, seq_length=lengths)  # nn.GRU and nn.LSTM take the lengths as well",
    "padding-leak-loss": "loss = (loss_per_position * mask).sum() / mask.sum()  # or labels padded with -100, and ignore_index=-100",
    "padding-leak-gradient": "x = self.embedding(ids) * mask.expand_dims(-1)  # no gradient reaches the padding's row",
}

PADDING = Look("padding", _KINDS, look, needs=2.0)
