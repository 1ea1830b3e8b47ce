"""`adapt`: audit a cell, choose the cures, measure that they change no loss, and say what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mindspore import nn

from ascend_fixes import amp
from ascend_fixes.adapting._choosing import SIZES, chosen_sizes, unsafe_to_pad
from ascend_fixes.adapting._measuring import compared, finite_policy
from ascend_fixes.adapting._plan import Plan
from ascend_fixes.adapting._report import AdaptReport, Comparison, Cured
from ascend_fixes.auditing import AuditReport, Hazard
from ascend_fixes.auditing._audit import PADDING_FIRST, audited
from ascend_fixes.errors import AscendFixesError, first_line

__all__ = ["AdaptError", "Adapted", "adapt"]

PRECISIONS = ("float16", "float32")


class AdaptError(AscendFixesError, ValueError):
    """A cell, an optimizer or options that cannot be adapted."""


@dataclass(frozen=True)
class Adapted:
    """A cell with its cures.

    Attributes:
        cell: the cell in the same precision and padding, to evaluate with.
        step: the training step: called as the cell is, returns an `ascend_fixes.amp.StepResult`.
        report: what was found, done and measured.
        code: the Python that makes the same step from ``cell`` and ``optimizer``.
    """

    cell: nn.Cell
    step: nn.Cell
    report: AdaptReport
    code: str


def adapt(
    cell: nn.Cell,
    *inputs: Any,
    optimizer: Any = None,
    lengths: Any = None,
    axes: Mapping[str, Any] | None = None,
    target: str = "Ascend910B",
    precision: str = "float16",
    report: AuditReport | None = None,
    budget: float = 120,
) -> Adapted:
    """Make a training step of a cell that nobody has ported: bucketed, in mixed precision, guarded.

    The cell is audited, the cures that can be applied from outside are: few padded sizes, an `amp.Policy` under which the
    batch's loss and gradients are finite, a loss scaler, `fusion.safe`. A few steps of the plain cell and of the adapted one
    are compared; weights and optimizer are then as they were before. Where padding leaks, nothing is padded: losses would
    change. What has to be cured inside of the model is named and left.

    Args:
        cell: the network with its loss, a scalar or a tuple that begins with it.
        inputs: one batch.
        optimizer: of the cell's parameters.
        lengths: of the training samples or batches, from which the padded sizes are chosen: numbers; by the name of the length
            where there are several (two lists of pairs make a grid); or a ready `shapes.Buckets`, or `shapes.Grid` for two
            lengths. None pads to the batch's own length and fractions of it.
        axes: the ragged axes, as `ascend_fixes.shapes.bucketed` takes them; None takes those that the audit infers.
        target: the device, as `ascend_fixes.audit` takes it.
        precision: "float16" for products of matrices, or "float32".
        report: of an `ascend_fixes.audit` of this cell that was made already; None makes one.
        budget: seconds of that audit.

    Raises:
        AdaptError: no optimizer, or one of other parameters; the cell returns no scalar loss; lengths or options are wrong.
        AuditError: the inputs do not fit, or the cell fails as it is.
    """
    _check(cell, optimizer, precision)
    if report is None:
        report = audited(PADDING_FIRST, cell, inputs, axes, optimizer, target, budget)
    plan, choices = _planned(report, axes, lengths, inputs, cell, precision)
    plan, found = finite_policy(plan, cell, inputs)
    choices += found
    plan, equality, step = _made(plan, cell, optimizer, inputs)
    if plan.half and not np.isfinite(equality[-1].adapted).all():
        choices.append(f"float32 throughout: under the policy it is not finite ({equality[-1]})")
        plan, equality, step = _made(replace(plan, half=False, fp32=()), cell, optimizer, inputs)
    done = [(hazard, _cure(hazard, plan, equality)) for hazard in report.hazards]
    told = AdaptReport(
        before=report,
        cured=tuple(Cured(hazard, how) for hazard, how in done if how),
        left=tuple(hazard for hazard, how in done if not how),
        choices=(*choices, *_said(plan)),
        equality=equality,
        graphs=plan.graphs,
    )
    return Adapted(plan.network(cell), step, told, plan.code())


def _check(cell: Any, optimizer: Any, precision: str) -> None:
    if not isinstance(cell, nn.Cell):
        raise AdaptError(f"cell={cell!r} is no mindspore.nn.Cell; pass the network together with its loss")
    if not isinstance(optimizer, nn.Optimizer):
        raise AdaptError(f"optimizer={optimizer!r} is no mindspore.nn.Optimizer; pass one of the cell's parameters")
    own = {id(parameter) for parameter in cell.get_parameters()}
    other = next((parameter.name for parameter in optimizer.parameters if id(parameter) not in own), None)
    if other is not None:
        raise AdaptError(
            f"optimizer: it updates {other}, which is no parameter of the cell; make it of cell.trainable_params()"
        )
    if precision not in PRECISIONS:
        raise AdaptError(f"precision={precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")


def _planned(
    report: AuditReport, axes: Any, lengths: Any, inputs: Sequence[Any], cell: nn.Cell, precision: str
) -> tuple[Plan, list[str]]:
    """The plan as far as the audit decides it, and what was chosen, one sentence each."""
    ragged = {name: dict(by_axis) for name, by_axis in report.axes.items()}
    plan = Plan(half=precision == "float16")
    choices = [] if axes is not None or not ragged else [f"axes: {ragged}, as inferred from the inputs"]
    if report.masks:
        choices.append(f"masks, by what they do: {', '.join(report.masks)}")
    if not ragged:
        return plan, [*choices, "nothing is padded: no axis of the inputs is ragged"]
    why = unsafe_to_pad(report)
    if why:
        return plan, [*choices, f"nothing is padded: {why}; until that is cured every length compiles a graph"]
    try:
        sizes, told = chosen_sizes(ragged, lengths, report, cell, inputs)
    except AscendFixesError as error:
        raise AdaptError(f"lengths: {error}") from None
    pad = {name: value for name, value in report.pad.items() if value != 0}
    return replace(plan, axes=ragged, pad=pad, sizes=sizes), [*choices, told]


def _made(
    plan: Plan, cell: nn.Cell, optimizer: Any, inputs: Sequence[Any]
) -> tuple[Plan, tuple[Comparison, ...], nn.Cell]:
    """The step, and its losses beside those of the plain cell; parameters that the cell writes are declared."""
    try:
        return (plan, *compared(plan, cell, optimizer, inputs))
    except amp.UndeclaredWriteError as error:
        written = tuple(name for name in cell.parameters_dict() if name in str(error))
        if plan.written or not written:
            raise
        plan = replace(plan, written=written)
        return (plan, *compared(plan, cell, optimizer, inputs))
    except amp.StepError as error:
        raise AdaptError(f"cell: no training step can be made of it: {first_line(error)}") from error


def _said(plan: Plan) -> list[str]:
    said = [f"pad values: {dict(plan.pad)}, 0 for all else"] if plan.axes else []
    if plan.half:
        kept = f", float32 kept for {', '.join(plan.fp32)}" if plan.fp32 else ""
        said.append(f"precision: float16 for products of matrices{kept}; a loss scaler that starts at {plan.scale:g}")
    else:
        said.append("precision: float32, no loss scaler")
    if plan.written:
        said.append(f"written by the forward pass, and put back by a skipped step: {', '.join(plan.written)}")
    return [*said, "fusion.safe keeps out of graph-kernel fusion what it gets wrong"]


def _cure(hazard: Hazard, plan: Plan, equality: Sequence[Comparison]) -> str:
    """How a hazard was cured; "" where it was not."""
    if hazard.kind == "length-written-in" and plan.axes:
        return f"one size, {next(iter(plan.sizes.values()))[0]}: no other length reaches the model"
    if hazard.kind in SIZES and plan.axes:
        return f"padded to {plan.graphs} sizes: at most {plan.graphs} graphs"
    half = next((one for one in equality if one.what.startswith("float16")), None)
    if hazard.kind in ("overflow", "constant-beyond-float16") and half is None:
        return "everything is computed in float32"
    if hazard.kind in ("overflow", "constant-beyond-float16", "exp-without-maximum") and half is not None:
        if hazard.certain and not np.isfinite(half.adapted).all():
            return ""
        return f"losses and gradients are finite under the policy, {half}"
    if hazard.kind == "own-bprop" and half is not None and np.isfinite(half.adapted).all():
        return "it computes in float32 under the policy"
    if hazard.kind == "forward-state":
        return "amp.TrainStep puts it back where it skips a step"
    return ""
