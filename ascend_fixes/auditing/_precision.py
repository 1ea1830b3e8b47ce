"""Mixed precision: what a float16 policy does not reach, what defeats it, and what leaves float16's range under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes.amp import Policy, autocast, overrides, trace_overflow
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._cells import WITHOUT_MARKS, own_gradients
from ascend_fixes.auditing._looking import Cleared, Fact, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._recording import Event, Recording, record
from ascend_fixes.auditing._running import attempt, differs_by, settled
from ascend_fixes.auditing._subject import Subject
from ascend_fixes.errors import first_line
from ascend_fixes.tensors import array_of, tensors_in

__all__ = ["PRECISION"]

_HALF = (mindspore.float16, mindspore.bfloat16)
_CASTS = ("cast", "astype", "to", "half", "type", "float16", "saturatecast")
_KINDS = ("to-float", "cast-in-construct", "own-bprop", "overflow")


def look(subject: Subject) -> Iterator[Finding]:
    """Run it plainly, with the marks of `.to_float` taken off, and under a float16 policy, forward and backward."""
    cell, inputs = subject.cell, subject.inputs
    settled(subject)
    plain = record(cell, inputs)
    if plain.error is not None:
        yield from (Unknown(kind, f"it could not be run operation by operation: {plain.error}") for kind in _KINDS)
        return
    yield from _casts(plain)
    yield from _marks(cell, inputs)
    yield from _under_policy(subject, plain)


# --- .to_float ------------------------------------------------------------------------------------


def _marks(cell: nn.Cell, inputs: Sequence[Any]) -> Iterator[Finding]:
    """What the marks of `.to_float` change: results without a policy, and types under one."""
    marked = overrides(cell)
    if not marked:
        yield Cleared("to-float", "no cell is marked by .to_float")
        return
    before, typed = attempt(cell, inputs).outputs, _types(cell, inputs)
    layers = {path: type(inner).__name__ for path, inner in cell.cells_and_names()}
    types = [(inner, inner.mixed_precision_type) for _, inner in cell.cells_and_names()]
    for inner, _ in types:
        inner.mixed_precision_type = None  # what PyNative mode goes by
    after, free = attempt(cell, inputs).outputs, _types(cell, inputs)
    for inner, kind in types:
        inner.mixed_precision_type = kind
    change = differs_by(before, after) if before and after else 0.0
    for path, dtype in marked.items():
        inside = [key for key in typed if _is_inside(key[0], path)]
        changed = sum(key in free and free[key] != typed[key] for key in inside)
        if dtype == "float32":
            reason, seen = "float32 is fixed there: a policy of float16 is silently passed over", changed > 0
        else:
            reason, seen = f"{dtype} is fixed there: fp32=[...] of a policy is defeated", change > 0
        evidence = (
            f"under a float16 policy {changed} of its {len(inside)} operations have another type once the mark is off"
        )
        if dtype != "float32":
            evidence += (
                f"; without a policy results change by {change:.2g} of their largest value once all marks are off"
            )
        yield hazard(
            "to-float",
            kinds.DIFFERED if seen else kinds.READ,
            f".to_float(mindspore.{dtype}): {reason}",
            evidence,
            WITHOUT_MARKS,
            operator=layers[path],
            cell=path,
        )


def _is_inside(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith(f"{outer}.")


def _types(cell: nn.Cell, inputs: Sequence[Any]) -> dict[tuple[str, str, str, int], str]:
    """The types that operations compute in under a policy, by place."""
    found: dict[tuple[str, str, str, int], str] = {}
    for event in record(cell, inputs, Policy()).events:
        key = event.cell, event.source, event.text
        turn = sum(other[:3] == key for other in found)
        found[key + (turn,)] = ", ".join(str(value.dtype) for value in event.outputs)
    return found


# --- casts ----------------------------------------------------------------------------------------


def _casts(plain: Recording) -> Iterator[Finding]:
    """What construct itself turns into half precision: float32, and masks in other types."""
    found: dict[str, list[Event]] = {}
    for event in plain.events:
        if event.operator.lower() in _CASTS and _lowers(event):
            found.setdefault(event.source, []).append(event)
    for source, events in found.items():
        event = events[0]
        given, dtype = (str(one.dtype).lower() for one in (event.inputs[0], event.outputs[0]))
        error = max(_rounding(one) for one in events)
        cells = list(dict.fromkeys(one.cell for one in events))
        where = f", in {', '.join(cells)}" if len(cells) > 1 else ""
        yield hazard(
            "cast-in-construct",
            kinds.DIFFERED if error > 0 else kinds.READ,
            f"construct casts to {dtype} whatever the policy says",
            f"{event.text}: {given} becomes {dtype}, {len(events)} times in a run{where}, rounded by up to {error:.2g}",
            "# take the cast out; the policy casts what gains from it\n"
            'net = amp.autocast(net, amp.Policy("compute=float16"))',
            operator="Cast",
            cell=event.cell,
            source=source,
        )
    if not found:
        yield Cleared("cast-in-construct", "no operation of a plain run turned anything into half precision")


def _lowers(event: Event) -> bool:
    given = next(iter(event.inputs), None)
    made = event.outputs
    return given is not None and bool(made) and given.dtype not in _HALF and made[0].dtype in _HALF


def _rounding(event: Event) -> float:
    return float(np.abs(array_of(event.inputs[0]) - array_of(event.outputs[0]).astype(np.float32)).max(initial=0.0))


# --- under a policy -------------------------------------------------------------------------------


def _under_policy(subject: Subject, plain: Recording) -> Iterator[Finding]:
    own = own_gradients(subject.cell)
    error = _failure(subject)
    if own:
        yield _own_bprop(own, error)
    else:
        yield Cleared("own-bprop", "no cell has a gradient of its own")
    if error is not None:
        yield Unknown("overflow", f"it does not run under a float16 policy: {first_line(error)}")
        if not own:
            yield Fact("notes", [f'it does not run under amp.Policy("compute=float16"): {first_line(error)}'])
        return
    if not all(np.isfinite(array_of(value)).all() for value in tensors_in(plain.output)):
        yield Unknown("overflow", "it is not finite in float32 already")
        return
    report = trace_overflow(subject.cell, *subject.inputs, policy=Policy())
    if not report:
        yield _under_theirs(subject)
        return
    yield hazard(
        "overflow",
        kinds.FAILED,
        f"{report.phase}: {report.operator} leaves the range of {report.dtype} under a float16 policy",
        f"{report.text} gives {report.value}"
        + (f"; gradient of {report.parameter} is not finite" if report.parameter else ""),
        f"# {report.advice}",
        operator=report.operator,
        cell=report.cell,
        source=report.caller,
    )


def _under_theirs(subject: Subject) -> Finding:
    """The same under MindSpore's own mixed precision, which ports turn on. Last: it changes the cell."""
    how = "loss and gradients" if subject.cell.trainable_params() else "results"
    told = f"{how} stayed finite under a float16 policy"
    try:
        output, gradients = _differentiated(mindspore.amp.auto_mixed_precision(subject.cell, "auto"), subject)
    except Exception as error:  # whatever it cannot convert
        return Cleared("overflow", f"{told}; MindSpore's own mixed precision fails: {first_line(error)}")
    names = [weight.name for weight in subject.cell.trainable_params()]
    bad = [name for name, gradient in zip(names, gradients) if not np.isfinite(array_of(gradient)).all()]
    if np.isfinite(array_of(output)).all() and not bad:
        return Cleared("overflow", f"{told}, and under MindSpore's own mixed precision")
    what = f"{len(bad)} of {len(names)} gradients are, the first that of {bad[0]}" if bad else "the result is"
    return hazard(
        "overflow",
        kinds.FAILED,
        "something leaves float16's range under MindSpore's own mixed precision, and nothing under a policy",
        f'with mindspore.amp.auto_mixed_precision(net, "auto") {what} not finite; all are in float32 and under amp.Policy()',
        'net = amp.autocast(net, amp.Policy("compute=float16"))  # and no auto_mixed_precision; or amp.TrainStep(net, ..., policy=)',
        operator=type(subject.cell).__name__,
    )


def _failure(subject: Subject) -> Exception | None:
    """The error of the forward or backward pass under a policy, if there is one."""
    try:
        _differentiated(autocast(subject.cell, Policy()), subject)
    except Exception as error:
        return error
    return None


def _differentiated(net: nn.Cell, subject: Subject) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The sum of all results of a cell, and its gradients by the subject's weights, waited for."""
    weights = mindspore.ParameterTuple(subject.cell.trainable_params())

    def total() -> Tensor:
        parts = [
            value.astype(mindspore.float32).sum()
            for value in tensors_in(net(*subject.inputs))
            if value.is_floating_point()
        ]
        return sum(parts[1:], parts[0]) if parts else Tensor(0.0)

    output, gradients = mindspore.value_and_grad(total, None, weights)() if weights else (total(), ())
    for value in tensors_in((output, gradients)):
        value.asnumpy()
    return output, tuple(tensors_in(gradients))


def _own_bprop(own: dict[str, nn.Cell], error: Exception | None) -> Finding:
    path, cell = next(iter(own.items()))
    evidence = "it runs under a float16 policy, forward and backward" if error is None else first_line(error)
    return hazard(
        "own-bprop",
        kinds.READ if error is None else kinds.FAILED,
        "the cell has a gradient of its own (bprop), whose operations get the types that stand there, not the policy's",
        f"{type(cell).__name__}.bprop: {evidence}",
        f'policy = amp.Policy("compute=float16", fp32=["{path or type(cell).__name__}"])  # the cell computes in float32',
        operator=type(cell).__name__,
        cell=path,
    )


PRECISION = Look("float16", _KINDS, look, needs=2.0)
