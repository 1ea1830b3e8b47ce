"""The cell as it is: does it run, does it compute the same twice, and what does its forward pass write?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, replace

import numpy as np
from mindspore import nn

from ascend_fixes import _mindspore
from ascend_fixes.amp import overrides
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._cells import WITHOUT_MARKS
from ascend_fixes.auditing._looking import Cleared, Fact, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._running import Failure, attempt, line_of, ready, settled
from ascend_fixes.auditing._subject import AS_IN_GRAPHS, COMPILED_ONLY, Subject
from ascend_fixes.tensors import array_of

__all__ = ["PLAINLY"]

_NO_KERNEL = re.compile(
    r"Unsupported op \[(\w+)\] on CPU|(?:kernel|operator|op) \[?'?(\w+)'?\]? .{0,40}(?:not support|unsupported).{0,30}CPU",
    re.I,
)


def look(subject: Subject) -> Iterator[Finding]:
    """Run it, twice; facts are "failure" (a `Failure`, where it does not run), "stopped" (why nothing else can), "mode",
    "runs" (how, where not operator by operator), "random", and "channels_first"."""
    ready(subject)
    before = _values(subject.cell)
    ran = attempt(subject.cell, subject.inputs)
    if ran.failure is None:
        yield from _as_it_runs(subject, before)
        return
    with _mindspore.as_in_graphs():
        if attempt(subject.cell, subject.inputs).failure is None:
            yield from _runs(AS_IN_GRAPHS, ran.failure, _AS_A_GRAPH)
            yield from _as_it_runs(subject, before)
            return
    missing = _NO_KERNEL.search(ran.failure.text)
    if missing:
        yield from _without_kernel(subject, missing.group(1) or missing.group(2), ran.failure)
        return
    compiled = replace(subject, runs=COMPILED_ONLY)
    ready(compiled)
    if attempt(subject.cell, subject.inputs).failure is None:
        yield from _runs(
            COMPILED_ONLY, ran.failure, "compiled it runs; what is seen operator by operator only is not looked at"
        )
        yield from _marks(subject.cell)
        yield from _as_it_runs(compiled, before)
        return
    yield Fact("failure", asdict(ran.failure))


_AS_A_GRAPH = "it was run as a graph takes it: x.max(1) is the values alone, and what fails operator by operator is compiled by itself"


_RANDOM = (
    "the cell draws random numbers: here the same ones at every call, and its dropout operators pass everything on; fused and "
    "unfused, and padding to other widths, are not compared"
)


def _runs(how: str, failure: Failure, told: str) -> Iterator[Finding]:
    yield Fact("runs", how)
    yield Fact("notes", [f"operator by operator it fails ({failure.error}): {told}"])


def _as_it_runs(subject: Subject, before: dict[str, np.ndarray]) -> Iterator[Finding]:
    yield Cleared("missing-kernel-cpu", f"it ran on CPU, {subject.runs}")
    yield from _state(subject, before)
    mode = settled(subject)
    if not mode and subject.runs != COMPILED_ONLY:
        with _mindspore.repeatable(subject.cell):
            mode = settled(subject)
        if mode:
            yield Fact("random", True)
            yield Fact("notes", [_RANDOM])
    yield Fact("mode", mode)
    if subject.inferred and subject.runs != COMPILED_ONLY:
        yield Fact("channels_first", dict(_channels_first(subject)))


def _channels_first(subject: Subject) -> Iterator[tuple[str, str]]:
    """Of (rows, positions, features), taken for such by their number of axes, those that turn out to be (rows, channels, positions).

    Leaf and name of the length: it runs with fewer and more of the last axis, and not of the one before.
    """
    leaves = subject.leaves
    for leaf, by_axis in subject.axes.items():
        length = by_axis.get(1)
        if (
            leaves[leaf].ndim == 3
            and length
            and [leaf] == [one for one in subject.axes if length in subject.axes[one].values()]
        ):
            swapped = replace(subject, axes={**subject.axes, leaf: {2: length}})
            if not any(_runs_resized(subject, length)) and all(_runs_resized(swapped, length)):
                yield leaf, length


def _runs_resized(subject: Subject, length: str) -> Iterator[bool]:
    """Whether it runs with one position less, and one more."""
    for size in (subject.lengths[length] - 1, subject.lengths[length] + 1):
        inputs = subject.with_arrays(subject.resized({length: size}))
        yield size > 0 and attempt(subject.cell, inputs).failure is None


_EQUALS = {
    "DynamicRNN": "self.rnn = fusion.DynamicRNN()  # the same arguments and results, on CPU and Ascend",
    "DynamicGRUV2": "self.rnn = fusion.GRU(input_size, hidden_size)  # one layer in place of the operator and its weights",
}
"""What runs here in place of operators that Ascend alone has."""


def _without_kernel(subject: Subject, operator: str, failure: Failure) -> Iterator[Finding]:
    yield hazard(
        "missing-kernel-cpu",
        kinds.FAILED,
        f"{operator} has no kernel on CPU",
        f"{failure.error} at {line_of(failure.source, failure.line)}",
        _EQUALS.get(operator)
        or f'host.place(net, ["{operator}"]) does not help where the host lacks it: write it with '
        f"other operators, or run it in Python with host.callback(function, shape, dtype)",
        operator=operator,
        cell=failure.cell,
        source=failure.source,
    )
    yield Fact("stopped", f"{operator} has no kernel on CPU, so the cell does not run here")
    yield from _marks(subject.cell)


def _marks(cell: nn.Cell) -> Iterator[Finding]:
    """The marks of `.to_float` of a cell that cannot be run without them: read only."""
    layers = {path: type(inner).__name__ for path, inner in cell.cells_and_names()}
    for path, dtype in overrides(cell).items():
        yield hazard(
            "to-float",
            kinds.READ,
            f".to_float(mindspore.{dtype}): no policy reaches what is fixed there",
            "the mark was read; the cell does not run here operator by operator",
            WITHOUT_MARKS,
            operator=layers[path],
            cell=path,
        )


def _values(cell: nn.Cell) -> dict[str, np.ndarray]:
    return {parameter.name: array_of(parameter).copy() for parameter in cell.get_parameters()}


def _state(subject: Subject, before: dict[str, np.ndarray]) -> Iterator[Finding]:
    """Parameters that one forward pass in training mode has changed."""
    if any(isinstance(inner, nn.Optimizer) for _, inner in subject.cell.cells_and_names()):
        yield Unknown("forward-state", "the cell holds an optimizer: its parameters are meant to change")
        return
    after = _values(subject.cell)
    changed = [name for name, value in before.items() if not np.array_equal(value, after[name], equal_nan=True)]
    if not changed:
        yield Cleared("forward-state", "a forward pass in training mode left every parameter as it was")
        return
    owners: dict[str, list[str]] = {}
    layers = {}
    for path, inner in subject.cell.cells_and_names():
        for _, parameter in inner.parameters_and_names(expand=False):
            if parameter.name in changed:
                owners.setdefault(path, []).append(parameter.name)
                layers[path] = type(inner).__name__
    for path, names in owners.items():
        by = max(
            float(np.abs(after[name].astype(np.float64) - before[name].astype(np.float64)).max()) for name in names
        )
        yield hazard(
            "forward-state",
            kinds.DIFFERED,
            f"the forward pass writes {', '.join(names)}: a step that overflows and is skipped leaves its NaN there",
            f"one forward pass in training mode moved them by up to {by:.3g}",
            "step = amp.TrainStep(net, optimizer, amp.LossScaler())  # puts back what a skipped step wrote",
            operator=layers[path],
            cell=path,
        )


PLAINLY = Look("the plain run", ("missing-kernel-cpu", "forward-state"), look)
