"""Values that precision alone does not explain: constants, exponentials, softmax over one element, 0/0 and the like."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Container, Iterator, Mapping
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor

from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._inferring import filler
from ascend_fixes.auditing._looking import Cleared, Fact, Finding, Look, Unknown, hazard, tried
from ascend_fixes.auditing._recording import Event, Recording, looked_up, record
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._roots import roots
from ascend_fixes.auditing._running import Ran, attempt, settled
from ascend_fixes.auditing._subject import Subject
from ascend_fixes.tensors import array_of, tensors_in

__all__ = ["VALUES"]

_LIMIT = 65504.0  # of float16
_SOFTMAX = ("softmax", "logsoftmax", "log_softmax")
_SUMS = ("sum", "reducesum", "sumext", "reduce_sum", "matmul", "logsumexp")
_SCALES = (8.0, 64.0, 512.0)
_IGNORED = (-100, -1)
_KINDS = ("constant-beyond-float16", "exp-without-maximum", "single-element-softmax", "not-an-overflow")


def look(subject: Subject) -> Iterator[Finding]:
    """Look at every operation of a plain run; then at larger weights, and with nothing left to count."""
    settled(subject)
    plain = record(subject.cell, subject.inputs)
    if plain.error is not None:
        yield from (Unknown(kind, f"it could not be run operation by operation: {plain.error}") for kind in _KINDS)
        return
    yield from _or_cleared(
        _constants(plain), "constant-beyond-float16", "no operation of a run has a constant beyond 65504"
    )
    yield from _or_cleared(_softmaxes(plain), "single-element-softmax", "no softmax of a run is over one element")
    larger = _at_larger_weights(subject, plain)
    yield from larger
    if not any(one.kind == "exp-without-maximum" for one in larger):
        yield Cleared("exp-without-maximum", "no sum of exponentials overflowed at 512 times the weights")
    seen = {(one.kind, one.cell, one.source) for one in larger}
    for one in itertools.chain(roots(plain), _nothing_to_count(subject, plain)):
        if isinstance(one, Fact):
            yield one
        elif (one.kind, one.cell, one.source) not in seen:
            seen.add((one.kind, one.cell, one.source))
            yield one
    if not any(kind == "not-an-overflow" for kind, _, _ in seen):
        yield Cleared("not-an-overflow", _TRIED)


_TRIED = (
    "results stayed finite with labels ignored, with masks off, with one row masked or of length 0, "
    "and at 512 times the weights where a logarithm is taken; no root of 1 less a squared cosine is taken"
)


def _or_cleared(found: Iterator[Hazard], kind: str, how: str) -> Iterator[Finding]:
    any_found = False
    for one in found:
        any_found = True
        yield one
    if not any_found:
        yield Cleared(kind, how)


def _finite(values: Any) -> bool:
    return all(np.isfinite(array_of(value)).all() for value in tensors_in(values) if value.is_floating_point())


# --- constants ------------------------------------------------------------------------------------


def _constants(plain: Recording) -> Iterator[Hazard]:
    """Numbers beyond float16 that an operation of the user's takes, and what it gives in float16."""
    seen = set()
    produced = {id(value) for event in plain.events for value in event.outputs}
    for event in plain.events:
        value = _beyond(event, produced)
        if value is None or event.source in seen:
            continue
        seen.add(event.source)
        result = _in_half(event)
        evidence = f"{event.text}: {value:g} is {'-' if value < 0 else ''}inf in float16"
        if result:
            evidence += f", and the operation gives {result} when its inputs are float16"
        yield hazard(
            "constant-beyond-float16",
            kinds.DIFFERED if result else kinds.READ,
            f"{value:g} does not fit float16",
            evidence,
            "scores = ops.masked_fill(scores, mask == 0, -1e4)  # or a cell that stays in float32: "
            f'amp.Policy(fp32=["{event.cell or event.operator}"])',
            operator=event.operator,
            cell=event.cell,
            source=event.source,
        )


def _beyond(event: Event, produced: set[int]) -> float | None:
    """A finite constant beyond float16 among an operation's arguments; Tensors count that no operation has made."""
    floating = any(one.is_floating_point() for one in event.inputs)
    for value in (*event.args, *event.kwargs.values()):
        number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and floating)
        if number and _LIMIT < abs(value) < 1e300:
            return float(value)
        if (
            isinstance(value, Tensor)
            and value.dtype == mindspore.float32
            and id(value) not in produced
            and value.size < 65
        ):
            array = array_of(value)
            big = array[(np.abs(array) > _LIMIT) & np.isfinite(array)]
            if big.size and not isinstance(value, mindspore.Parameter):
                return float(big.flat[0])
    return None


def _in_half(event: Event) -> str:
    """What is not finite in the operation's result when its inputs are float16; "" where all is."""

    def lowered(value: Any) -> Any:
        if isinstance(value, Tensor):
            # A copy: an assignment to elements writes into it.
            return value.astype(mindspore.float16).copy() if value.is_floating_point() else value
        return type(value)(map(lowered, value)) if type(value) in (tuple, list) else value

    try:
        result = event.run(*map(lowered, event.args), **{name: lowered(value) for name, value in event.kwargs.items()})
        arrays = [array_of(value) for value in tensors_in(result)]
    except Exception as error:
        return type(error).__name__
    words = {"nan": any(np.isnan(one).any() for one in arrays), "inf": any(np.isinf(one).any() for one in arrays)}
    return " and ".join(word for word, there in words.items() if there)


# --- softmax --------------------------------------------------------------------------------------


def _softmaxes(plain: Recording) -> Iterator[Hazard]:
    seen = set()
    for event in plain.events:
        if event.operator.lower() not in _SOFTMAX or not event.outputs or event.source in seen:
            continue
        given, made = event.inputs[0], array_of(event.outputs[0])
        constant = 0.0 if "log" in event.operator.lower() else 1.0
        if 1 in given.shape and made.size > 1 and np.all(made == constant):
            seen.add(event.source)
            yield hazard(
                "single-element-softmax",
                kinds.DIFFERED,
                "the softmax is over an axis of one element: its result does not depend on its input",
                f"{event.text}: all {made.size} results are {constant:g} for scores from {array_of(given).min():.3g} to "
                f"{array_of(given).max():.3g}, shape {list(given.shape)}; the parameters before it get no gradient",
                "weights = ops.softmax(scores, axis=1)  # over the positions, not over the one score of each",
                operator="Softmax",
                cell=event.cell,
                source=event.source,
            )


# --- exponentials ---------------------------------------------------------------------------------


def _unbounded(recording: Recording) -> Iterator[Event]:
    """Exponentials that are summed. Those whose maximum was taken off are among them, and never overflow."""
    logarithms = _into(recording, ("log",))
    summed = _into(recording, _SUMS) | {
        id(value)  # log(1 + exp(x))
        for event in recording.events
        if event.operator.lower() == "add" and any(id(one) in logarithms for one in event.outputs)
        for value in event.inputs
    }
    through = {
        id(value): [id(one) for one in event.outputs]
        for event in recording.events
        if event.operator in ("Mul", "mul") and not event.is_cell
        for value in event.inputs
    }
    for event in recording.events:
        if event.operator.lower() != "exp" or not event.outputs:
            continue
        made = id(event.outputs[0])
        if made in summed or any(one in summed for one in through.get(made, ())):
            yield event


def _into(recording: Recording, operators: Container[str]) -> set[int]:
    """What goes into operators of these names."""
    return {id(value) for event in recording.events if event.operator.lower() in operators for value in event.inputs}


def _at_larger_weights(subject: Subject, plain: Recording) -> list[Hazard]:
    """Exponentials that overflow, and logarithms that get a 0, when the weights grow, though scores are finite."""
    exponentials = {event.source for event in _unbounded(plain)}
    logarithms = {event.source for event in plain.events if event.operator.lower() == "log"}
    if not exponentials and not logarithms:
        return []
    found: dict[tuple[str, str], Hazard] = {}
    for scale, recording in _scaled(subject):
        events = [one for one in recording.events if _finite(one.inputs) and not _finite(one.result)]
        for event in events:
            operator = event.operator.lower()
            if operator == "exp" and event.source in exponentials:
                found.setdefault((operator, event.source), _overflowing(event, scale))
            elif operator == "log" and event.source in logarithms and not _finite(recording.output):
                found.setdefault((operator, event.source), _logarithm(event, f"{scale:g} times the weights"))
    return list(found.values())


def _scaled(subject: Subject) -> Iterator[tuple[float, Recording]]:
    """Runs with all weights so many times as large; afterwards they are as they were."""
    weights = [one for one in subject.cell.get_parameters() if one.requires_grad and one.is_floating_point()]
    values = [array_of(one).copy() for one in weights]
    for scale in _SCALES if weights else ():
        for parameter, value in zip(weights, values):
            parameter.set_data(Tensor(value * np.asarray(scale, value.dtype)).astype(parameter.dtype))
        yield scale, record(subject.cell, subject.inputs)
    for parameter, value in zip(weights, values):
        parameter.set_data(Tensor(value).astype(parameter.dtype))


def _overflowing(event: Event, scale: float) -> Hazard:
    score = float(array_of(event.inputs[0]).max())
    return hazard(
        "exp-without-maximum",
        kinds.FAILED,
        "exponentials are summed without their maximum taken off first",
        f"{event.text}: at {scale:g} times the weights a score of {score:.3g} gives inf in float32 (beyond 88; float16 beyond 11)",
        "scores = scores - ops.stop_gradient(scores.max(-1, keepdims=True))  # before exp\n"
        "fusion.LogSumExp()(scores); fusion.Softmax()(scores)  # or these\n"
        "ops.relu(x) + ops.log1p(ops.exp(-ops.abs(x)))  # for log(1 + exp(x))",
        operator="Exp",
        cell=event.cell,
        source=event.source,
    )


def _logarithm(event: Event, told: str) -> Hazard:
    return hazard(
        "not-an-overflow",
        kinds.FAILED,
        "the logarithm of a probability that is 0 where scores are far apart: no precision and no loss scale helps",
        f"with {told}: {event.text} gives {_worst(event)} for finite scores, and the result is not finite",
        "loss = -ops.log_softmax(scores, axis=-1)  # in one step, never 0; or ops.log(ops.maximum(x, 1e-12))",
        operator=event.operator,
        cell=event.cell,
        source=event.source,
    )


# --- nothing to count -----------------------------------------------------------------------------


def _nothing_to_count(subject: Subject, plain: Recording) -> Iterator[Hazard | Fact]:
    """Runs in which every label is ignored, a mask is off, or a row has nothing: what is not finite then.

    Each in a fork of its own: a kernel on CPU may end the process of a row that is empty, or of an index that is none.
    """
    if not _finite(plain.output):
        yield _not_finite(plain, "the inputs as they are")
        return
    indices = looked_up(subject, plain)
    for told, first, arrays in itertools.chain(_emptied(subject, indices), _ignored(subject, indices)):
        outcome = tried(subject, functools.partial(_not_finite_with, told=told, first=first, arrays=arrays))
        yield from (one for one in outcome.findings if isinstance(one, (Hazard, Fact)))
        if outcome.stopped and not first:  # else these are indices, not labels
            yield Fact("notes", [f"run with {told}, {outcome.stopped}"])


_Arrays = Mapping[str, np.ndarray]


def _not_finite_with(subject: Subject, told: str, first: _Arrays, arrays: _Arrays) -> Iterator[Hazard]:
    """What is not finite with these leaves, where the cell runs with the ``first`` ones, of which some count."""
    if first and not _is_finite(attempt(subject.cell, subject.with_arrays(first))):
        return
    inputs = subject.with_arrays(arrays)
    ran = attempt(subject.cell, inputs)
    if ran.failure is None and not _is_finite(ran):
        yield _not_finite(record(subject.cell, inputs), told)


def _emptied(subject: Subject, indices: Container[str]) -> Iterator[tuple[str, _Arrays, _Arrays]]:
    """What was done, and the leaves so changed: nothing but what rows are filled up with, masks off, rows of length 0."""
    for name, array in subject.leaves.items():
        if array.dtype.kind in "iu" and array.ndim > 1 and array.size > 1 and not _switches(array):
            for value in dict.fromkeys((0, int(filler(array) or 0))):
                yield f"{name!r} all {value}", {}, {name: np.full_like(array, value)}
        if name in indices:
            continue
        if _switches(array):
            row = array.copy()
            row[-1] = 0
            yield f"one row of {name!r} all zeros", {}, {name: row}
            yield f"{name!r} all zeros", {}, {name: np.zeros_like(array)}
        if _may_be_lengths(array, name, subject):
            short = array.copy()
            short.flat[-1] = 0
            yield f"{name!r} 0 in one row, as in a row that only fills up a batch", {}, {name: short}


def _ignored(subject: Subject, indices: Container[str]) -> Iterator[tuple[str, _Arrays, _Arrays]]:
    """The same for labels that losses ignore; first one label alone, which shows whether this loss does."""
    for name, array in subject.leaves.items():
        if name in indices or _switches(array) or array.dtype.kind != "i" or array.size < 2:
            continue
        for value in _IGNORED:
            some = array.copy()
            some.flat[-1] = value
            yield f"{name!r} all {value}", {name: some}, {name: np.full_like(array, value)}


def _switches(array: np.ndarray) -> bool:
    """Whether these are weights or a mask: zeros and ones, and not one 1 in each row of several."""
    if array.dtype.kind == "b":
        return True
    one_hot = array.ndim > 1 and array.shape[-1] > 1 and (array.sum(-1) == 1).all()
    return array.size > 1 and bool(np.isin(array, (0, 1)).all() and array.any()) and not one_hot


def _may_be_lengths(array: np.ndarray, name: str, subject: Subject) -> bool:
    """Whole numbers from 1 to a ragged axis's size, one for each row."""
    rows = {one.shape[0] for other, one in subject.leaves.items() if other in subject.axes and one.ndim > 1}
    top = max(subject.lengths.values(), default=0)
    return (
        name not in subject.axes
        and array.dtype.kind in "iuf"
        and array.ndim > 0
        and array.size in rows
        and bool((array >= 1).all() and (array == np.round(array)).all() and 1 < array.max() <= top)
    )


def _is_finite(ran: Ran) -> bool:
    return ran.failure is None and all(np.isfinite(one).all() for one in ran.outputs if one.dtype.kind == "f")


def _not_finite(recording: Recording, told: str) -> Hazard:
    odd = [one for one in recording.events if not one.is_cell and _finite(one.args) and not _finite(one.result)]
    # An infinity may be a mask's; what first made a NaN is the cause.
    event = next((one for one in recording.events if not one.is_cell and _makes_nan(one)), next(iter(odd), None))
    operator = event.operator if event else ""
    words = {"div": "a division by zero", "log": "a logarithm of zero", "softmax": "a softmax over nothing but -inf"}
    why = next((text for word, text in words.items() if word in operator.lower()), "a division by nothing that counts")
    value = "not finite"
    if event is not None:
        value = _worst(event)
    return hazard(
        "not-an-overflow",
        kinds.FAILED,
        f"{why}, in float32 too: a smaller loss scale or another precision does not help",
        f"with {told}: {event.text if event else 'the result'} gives {value}",
        "loss = total / ops.maximum(count, 1)  # 0 where nothing counts; for a logarithm: ops.log(ops.maximum(x, 1e-12))",
        operator=operator,
        cell=event.cell if event else "",
        source=event.source if event else "",
    )


def _makes_nan(event: Event) -> bool:
    return any(map(_has_nan, event.outputs)) and not any(map(_has_nan, event.inputs))


def _has_nan(value: Tensor) -> bool:
    return value.is_floating_point() and bool(np.isnan(array_of(value)).any())


def _worst(event: Event) -> str:
    """The first value that is not finite among an operation's results."""
    arrays = [array_of(one).reshape(-1).astype(np.float64) for one in event.outputs if one.is_floating_point()]
    array = np.concatenate(arrays)
    return str(array[~np.isfinite(array)][0])


VALUES = Look("values", _KINDS, look, needs=2.0)
