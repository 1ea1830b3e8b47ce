"""Does padding leak? `shapes.check_padding` says so, for the padding that serves the cell best.

Whatever is garbage in the padding and changes nothing needs no care. Where garbage leaks, the pad values that a caller
can choose are tried: 0 for ids, -100 for labels. What keeps padding out then is said; what leaks with every
choice is a hazard. Parameters that are zero, behind which a leak could hide, are filled first.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Fact, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._running import eagerly
from ascend_fixes.auditing._subject import Subject, array_of
from ascend_fixes.errors import first_line
from ascend_fixes.shapes import Leak, PaddingReport, Suspect, check_padding

__all__ = ["PADDING"]

_KINDS = ("padding-leak-output", "padding-leak-state", "padding-leak-loss", "padding-leak-gradient")
_IGNORED = (-100, -1)  # what losses take for labels that do not count


def look(subject: Subject) -> Iterator[Finding]:
    """Check the padding with garbage, then with the values that a caller may choose, then the gradients."""
    why = _impossible(subject)
    if why:
        yield from (Unknown(kind, why) for kind in _KINDS)
        return
    _reveal(subject.cell)
    eagerly(subject.cell)
    best, why = _best(subject)
    if best is None:
        yield from (Unknown(kind, f"padding could not be tried: {why}") for kind in _KINDS)
        return
    pads, report = best
    if report.ok and subject.cell.trainable_params():
        report = _checked(subject, pads, gradients=True)
    yield Fact("pad", {**dict.fromkeys(subject.axes, 0), **dict(report.pads)})
    masks = [name for name, value in report.pads if name not in pads and value in (0, 1)]
    yield Fact("masks", masks)
    yield from _findings(subject, report, _told(subject, report))


def _best(subject: Subject) -> tuple[tuple[dict[str, Any], PaddingReport] | None, str]:
    """The pad values with which least leaks, and what `check_padding` says of them; or why nothing could be tried."""
    best: tuple[dict[str, Any], PaddingReport] | None = None
    why = ""
    for pads in _choices(subject):
        try:
            report = _checked(subject, pads, gradients=False)
        except Exception as error:  # whatever the cell does with such values
            why = why or first_line(error)
            continue
        if not report.tried:
            why = why or "; ".join(report.notes)
            continue
        if best is None or len(report.leaks) < len(best[1].leaks):
            best = pads, report
        if report.ok or report.tried == ("garbage in place",):
            break
    if best is None and subject.lengths and (assumed := _assumed(subject)) is not None:
        best, why = ({}, assumed), ""
    return best, why


def _assumed(subject: Subject) -> PaddingReport | None:
    """Garbage in place where nothing says where rows end: every row is taken to be two thirds of the width long."""
    rows = max((array.shape[0] for name, array in subject.leaves.items() if name in subject.axes), default=0)
    lengths = {name: np.full(rows, max(1, own - max(1, own // 3))) for name, own in subject.lengths.items()}
    try:
        report = _checked(subject, {}, gradients=False, lengths=lengths, method="in place")
    except Exception:  # whatever the cell does with garbage
        return None
    return report if report.tried else None


def _told(subject: Subject, report: PaddingReport) -> str:
    """What stood in the padding, in words."""
    pads = dict(report.pads)
    garbage = [name for name in subject.axes if name not in pads]
    parts = [f"garbage in {', '.join(garbage)}"] if garbage else []
    return ", ".join([*parts, *(f"{name} padded with {value}" for name, value in pads.items())])


def _impossible(subject: Subject) -> str:
    if not subject.axes:
        return "no axis of the inputs is ragged, as far as their sizes tell; say which with axes="
    nested = [name for name in subject.axes if name not in subject.names]
    if nested:
        return f"{', '.join(nested)} stand inside of a container, where they cannot be padded"
    if any(isinstance(inner, nn.Optimizer) for _, inner in subject.cell.cells_and_names()):
        return "the cell holds an optimizer; audit the network or its loss cell"
    return ""


def _reveal(cell: nn.Cell) -> None:
    """Fill parameters and rows of tables that are constant, behind which a leak cannot be seen."""
    random = np.random.default_rng(0)
    for parameter in cell.get_parameters():
        if parameter.has_init:
            parameter.init_data()
        value = array_of(parameter)
        if not parameter.requires_grad or value.dtype.kind != "f" or value.ndim == 0 or value.size == 0:
            continue
        flat = value.reshape(-1, value.shape[-1]) if value.ndim > 1 else value.reshape(1, -1)
        constant = (flat == flat[:, :1]).all(1, keepdims=True)
        noise = random.standard_normal(flat.shape) * 0.1
        filled = np.where(constant, flat + noise, flat).reshape(value.shape)
        parameter.set_data(Tensor(filled.astype(value.dtype)).astype(parameter.dtype))


def _choices(subject: Subject) -> Iterator[dict[str, Any]]:
    """Pad values to try, by argument, beside those that `check_padding` finds itself; garbage for the others."""
    leaves = subject.leaves
    ids = [name for name in subject.axes if leaves[name].dtype.kind in "iu" and leaves[name].min() >= 0]
    yield {}
    labels = [{name: value} for name in ids for value in _IGNORED]
    yield from labels
    zeros = dict.fromkeys(ids, 0)
    yield zeros
    yield from ({**zeros, **one} for one in labels)
    yield from ({**zeros, a: -100, b: -100} for a, b in list(itertools.combinations(ids, 2))[:6])


def _checked(subject: Subject, pads: Mapping[str, Any], gradients: bool, **options: Any) -> PaddingReport:
    widths = [{name: own + max(3, own // 2) for name, own in subject.lengths.items()}]
    axes = {name: dict(by_axis) for name, by_axis in subject.axes.items()}
    if not _is_variadic(subject.cell):
        inputs = dict(zip(subject.names, subject.inputs))
        return check_padding(subject.cell, inputs, axes, widths, pad=dict(pads), gradients=gradients, **options)
    place = {name: at for at, name in enumerate(subject.names)}  # ``*inputs`` have places, and no names
    placed: dict[Any, Any] = {place[name]: by_axis for name, by_axis in axes.items()}
    values: dict[Any, Any] = {place[name]: value for name, value in pads.items()}
    return check_padding(subject.cell, subject.inputs, placed, widths, pad=values, gradients=gradients, **options)


def _is_variadic(cell: nn.Cell) -> bool:
    kinds_of = (parameter.kind for parameter in inspect.signature(cell.construct).parameters.values())
    return inspect.Parameter.VAR_POSITIONAL in kinds_of


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
        cell=first.cell,
    )


_CURES = {
    "padding-leak-output": "x = x * mask.expand_dims(-1)  # before neighbours are read (convolution, attention, pooling)\n"
    "fusion.MaskedMean()(x, mask); fusion.MaskedMax()(x, mask)  # in place of mean and max over positions",
    "padding-leak-state": "self.rnn = fusion.GRU(input_size, hidden_size)  # takes seq_length=\n"
    "output, state = self.rnn(x, seq_length=lengths)  # nn.GRU and nn.LSTM take the lengths as well",
    "padding-leak-loss": "loss = (loss_per_position * mask).sum() / mask.sum()  # or labels padded with -100, and ignore_index=-100",
    "padding-leak-gradient": "x = self.embedding(ids) * mask.expand_dims(-1)  # no gradient reaches the padding's row",
}

PADDING = Look("padding", _KINDS, look, needs=2.0)
