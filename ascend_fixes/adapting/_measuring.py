"""What a plan does to a cell, by running it: a policy that is finite, and losses beside the plain ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import amp
from ascend_fixes.adapting._plan import Plan
from ascend_fixes.adapting._report import Comparison
from ascend_fixes.errors import first_line

__all__ = ["compared", "finite_policy"]

STEPS = 2
SAME, CLOSE = 1e-5, 2e-2  # how far losses may be apart, in float32 and in float16
_SCALES = (2.0**16, 2.0**12, 2.0**8, 2.0**4)
_MOST = 12  # entries of the policy that are searched for


def finite_policy(plan: Plan, cell: nn.Cell, inputs: Sequence[Any]) -> tuple[Plan, list[str]]:
    """The plan with what must stay in float32 for the batch's loss and gradients to be finite, and what was found.

    Where no entry helps, the plan is one in float32.
    """
    if not plan.half:
        return plan, []
    said = amp.conflicts(cell, amp.Policy())
    tensors = [Tensor(value) if isinstance(value, np.ndarray) else value for value in inputs]
    with _dropout_off(cell):
        for _ in range(_MOST):
            try:
                report = amp.trace_overflow(cell, *tensors, policy=plan.policy())
                if not report:
                    return _scaled(plan, cell, tensors), said
            except Exception as error:  # whatever PyNative mode refuses; the losses of the graphs decide then
                return plan, [*said, f"ranges were not traced, operator by operator it fails: {first_line(error)}"]
            entry = report.cell or report.operator
            if report.cause != "overflow" or "fp32=" not in report.advice or entry in plan.fp32:
                break
            found = f"{report.operator} gives {report.value} in {report.dtype} ({report.source})"
            said.append(f"float32 for {entry!r}: {found}")
            plan = replace(plan, fp32=(*plan.fp32, entry))
    said.append(f"float32 throughout: no policy makes the batch finite; {report.cause}, {report.advice}")
    return replace(plan, half=False, fp32=()), said


def _scaled(plan: Plan, cell: nn.Cell, tensors: Sequence[Any]) -> Plan:
    """With the largest of a few scales at which the batch's gradients are finite."""
    for scale in _SCALES:
        if not amp.trace_overflow(cell, *tensors, policy=plan.policy(), scale=scale):
            return replace(plan, scale=scale)
    return replace(plan, scale=1.0)


def compared(
    plan: Plan, cell: nn.Cell, optimizer: Any, inputs: Sequence[Any]
) -> tuple[tuple[Comparison, ...], nn.Cell]:
    """Losses of a few steps, plain, adapted in float32, and as planned; and the planned step. All weights end as they were."""
    tensors = [Tensor(value) if isinstance(value, np.ndarray) else value for value in inputs]
    with _graph_mode():
        cell.set_train()
        with _dropout_off(cell) as dropouts:
            plain = _losses(nn.TrainOneStepCell(_First(cell), optimizer), cell, optimizer, tensors)
            found = []
            full = replace(plan, half=False, fp32=())
            if plan.half:
                found.append(_comparison(full, full.step(cell, optimizer), plain, cell, optimizer, tensors))
            step = plan.step(cell, optimizer)
            found.append(_comparison(plan, step, plain, cell, optimizer, tensors))
        if dropouts:  # the graph that was compiled has none
            step = plan.step(cell, optimizer)
        step.set_train()
    return tuple(found), step


def _comparison(
    plan: Plan, step: nn.Cell, plain: tuple[float, ...], cell: nn.Cell, optimizer: Any, tensors: Sequence[Any]
) -> Comparison:
    kind, tolerance = ("float16 under the policy", CLOSE) if plan.half else ("float32", SAME)
    padded = ", bucketed" if plan.axes else ""
    return Comparison(f"{kind}{padded}", plain, _losses(step, cell, optimizer, tensors), tolerance)


class _First(nn.Cell):
    """The loss of a cell that may return it first in a tuple."""

    def __init__(self, cell: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.cell = cell

    def construct(self, *inputs: Any) -> Any:
        output = self.cell(*inputs)
        return output[0] if isinstance(output, (tuple, list)) else output


def _losses(step: nn.Cell, cell: nn.Cell, optimizer: Any, tensors: Sequence[Any]) -> tuple[float, ...]:
    """Of the first steps; parameters, slots and scaler end as they were."""
    everything = {id(p): p for owner in (cell, optimizer, step) for p in owner.get_parameters()}.values()
    before = [(parameter, parameter.asnumpy().copy()) for parameter in everything]
    try:
        losses = []
        for _ in range(STEPS):
            result = step(*tensors)
            losses.append(float(result.loss if isinstance(result, amp.StepResult) else result))
        return tuple(losses)
    finally:
        for parameter, value in before:
            parameter.set_data(Tensor(value, parameter.dtype))


@contextlib.contextmanager
def _dropout_off(cell: nn.Cell) -> Iterator[list[nn.Cell]]:
    """Without it no two runs would agree."""
    dropouts = [one for _, one in cell.cells_and_names() if "dropout" in type(one).__name__.lower() and one.training]
    for one in dropouts:
        one.set_train(False)
    try:
        yield dropouts
    finally:
        for one in dropouts:
            one.set_train(True)


@contextlib.contextmanager
def _graph_mode() -> Iterator[None]:
    mode = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=mode)
