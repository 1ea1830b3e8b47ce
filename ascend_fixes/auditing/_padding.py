"""Does padding leak? `shapes.check_padding` says so, for the padding that serves the cell best.

Whatever is garbage in the padding and changes nothing needs no care. Where garbage leaks, the pad values that a caller
can choose are tried: 0 for ids, -100 for labels. What keeps padding out then is said; what leaks with every
choice is a hazard. Parameters that are zero, behind which a leak could hide, are filled first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Fact, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._running import attempt, settled
from ascend_fixes.auditing._subject import Subject, array_of
from ascend_fixes.errors import AscendFixesError, first_line
from ascend_fixes.shapes import PaddingReport, check_padding

__all__ = ["PADDING"]

_KINDS = ("padding-leak-output", "padding-leak-state", "padding-leak-loss", "padding-leak-gradient")
_IGNORED = (-100, -1)  # what losses take for labels that do not count
_RECURRENT = ("gru", "lstm", "rnn", "recurrent")


def look(subject: Subject) -> Iterator[Finding]:
    """Check the padding with garbage, then with the values that a caller may choose, then the gradients."""
    why = _impossible(subject)
    if why:
        yield from (Unknown(kind, why) for kind in _KINDS)
        return
    _reveal(subject.cell)
    settled(subject.cell, subject.inputs)
    own = _own_values(subject)
    best: tuple[int, dict[str, Any], PaddingReport] | None = None
    error = ""
    for pads in _choices(subject, own):
        try:
            report = _checked(subject, pads, gradients=False)
        except (AscendFixesError, ValueError, RuntimeError, TypeError, IndexError) as failure:
            error = first_line(failure)
            continue
        if best is None or len(report.leaks) < best[0]:
            best = len(report.leaks), pads, report
        if report.ok:
            break
    if best is None:
        yield from (Unknown(kind, f"it could not be run with padding: {error}") for kind in _KINDS)
        return
    _, pads, report = best
    yield Fact("pad", {**dict.fromkeys(subject.axes, 0), **pads})
    if report.ok and subject.cell.trainable_params():
        report = _checked(subject, pads, gradients=True)
    yield from _findings(subject, report, pads)


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


def _own_values(subject: Subject) -> dict[str, int]:
    """Integers whose rows end in one negative number are padded with it already."""
    found = {}
    for name, array in subject.leaves.items():
        if name in subject.axes and array.dtype.kind == "i" and (array < 0).any():
            found[name] = int(array[array < 0].flat[0])
    return found


def _choices(subject: Subject, own: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Pad values to try, by argument: garbage for those not named."""
    leaves = subject.leaves
    ids = [name for name in subject.axes if leaves[name].dtype.kind in "iu" and name not in own]
    yield dict(own)
    ignoring = [{name: value} for name in ids for value in _IGNORED]
    for labels in ignoring:
        yield {**own, **labels}
    zeros = dict.fromkeys(subject.axes, 0)
    yield {**zeros, **own}
    for labels in ignoring:
        yield {**zeros, **own, **labels}
    pairs = [(a, b) for a, b in itertools.combinations(ids, 2)]
    for a, b in pairs[:6]:
        yield {**zeros, **own, a: -100, b: -100}


def _checked(subject: Subject, pads: Mapping[str, Any], gradients: bool) -> PaddingReport:
    widths = [{name: own + max(3, own // 2) for name, own in subject.lengths.items()}]
    axes = {name: dict(by_axis) for name, by_axis in subject.axes.items()}
    inputs = dict(zip(subject.names, subject.inputs))
    return check_padding(subject.cell, inputs, axes, widths, pad=dict(pads), gradients=gradients)


def _findings(subject: Subject, report: PaddingReport, pads: Mapping[str, Any]) -> Iterator[Finding]:
    told = ", ".join(f"{name} padded with {value}" for name, value in pads.items()) or "garbage in the padding"
    shapes = {
        _what(place, output): output for place, output in enumerate(attempt(subject.cell, subject.inputs).outputs)
    }
    found: set[tuple[str, str]] = set()
    for leak in report.leaks:
        kind = _kind(leak.what, shapes, subject, report)
        if kind == "padding-leak-gradient" and found:
            continue  # it follows from what leaks already
        if (kind, leak.what) in found:
            continue
        found.add((kind, leak.what))
        width = ", ".join(f"{name} {size}" for name, size in leak.width)
        yield hazard(
            kind,
            kinds.DIFFERED,
            f"{leak.what} changes with the padding: {report.cause}"
            if report.cause
            else f"{leak.what} changes with the padding",
            f"padded to {width}, {told}: {leak.what} changes by {leak.error:.2g} of its largest value",
            _CURES[kind],
            operator=report.kind,
            cell=report.cell,
        )
    gradients = bool(subject.cell.trainable_params())
    for kind in _KINDS:
        if not any(kind == one for one, _ in found):
            if kind == "padding-leak-gradient" and found:
                yield Unknown(kind, "what the padding changes forward changes the gradients too; cure that first")
            elif kind != "padding-leak-gradient" or gradients:
                yield Cleared(kind, f"run with padding ({told}): the batch's own part stayed the same")
            else:
                yield Cleared(kind, "there are no trainable parameters")


def _what(place: int, output: np.ndarray) -> str:
    return "loss" if output.ndim == 0 else f"output[{place}]"


def _kind(what: str, shapes: Mapping[str, np.ndarray], subject: Subject, report: PaddingReport) -> str:
    if what.startswith("gradient"):
        return "padding-leak-gradient"
    if what == "loss":
        return "padding-leak-loss"
    output = shapes.get(what if "[" in what else "output[0]")
    ragged = output is not None and bool(set(subject.lengths.values()) & set(output.shape[1:]))
    recurrent = any(word in report.kind.lower() for word in _RECURRENT)
    return "padding-leak-state" if recurrent and not ragged else "padding-leak-output"


_CURES = {
    "padding-leak-output": "x = x * mask.expand_dims(-1)  # before neighbours are read (convolution, attention, pooling)\n"
    "fusion.MaskedMean()(x, mask); fusion.MaskedMax()(x, mask)  # in place of mean and max over positions",
    "padding-leak-state": "self.rnn = fusion.GRU(input_size, hidden_size)  # takes seq_length=\n"
    "output, state = self.rnn(x, seq_length=lengths)  # nn.GRU and nn.LSTM take the lengths as well",
    "padding-leak-loss": "loss = (loss_per_position * mask).sum() / mask.sum()  # or labels padded with -100, and ignore_index=-100",
    "padding-leak-gradient": "x = self.embedding(ids) * mask.expand_dims(-1)  # no gradient reaches the padding's row",
}

PADDING = Look("padding", _KINDS, look, needs=2.0)
