"""`audit`: the looks one after the other, cheapest first, within the budget."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import FunctionType, MethodType
from typing import Any

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import _mindspore, factories
from ascend_fixes.auditing._cells import CELLS
from ascend_fixes.auditing._compiling import COMPILING
from ascend_fixes.auditing._for_ascend import FOR_ASCEND
from ascend_fixes.auditing._fusing import FUSING
from ascend_fixes.auditing._inferring import inferred_axes, normalised_axes
from ascend_fixes.auditing._kinds import CERTAINTIES, KINDS
from ascend_fixes.auditing._lengths import LENGTHS
from ascend_fixes.auditing._looking import Cleared, Fact, Look, Outcome, Unknown, carry_out
from ascend_fixes.auditing._padding import PADDING
from ascend_fixes.auditing._plainly import PLAINLY
from ascend_fixes.auditing._precision import PRECISION
from ascend_fixes.auditing._report import AuditError, AuditReport, Hazard
from ascend_fixes.auditing._subject import COMPILED_ONLY, Clock, Subject, leaves_of, rebuilt
from ascend_fixes.auditing._values import VALUES
from ascend_fixes.errors import nearest
from ascend_fixes.shapes._runs import as_cell

__all__ = ["LOOKS", "PADDING_FIRST", "audit", "audited"]

LOOKS: tuple[Look, ...] = (PLAINLY, CELLS, LENGTHS, VALUES, PRECISION, PADDING, COMPILING, FOR_ASCEND, FUSING)
"""In the order in which they are taken."""

PADDING_FIRST: tuple[Look, ...] = (
    PLAINLY,
    CELLS,
    LENGTHS,
    PADDING,
    VALUES,
    PRECISION,
    COMPILING,
    FOR_ASCEND,
    FUSING,
)
"""The same, and what padding changes as soon as lengths are known: whoever pads needs that most, if the budget is short."""

_SHARE = 0.5  # of what is left, for one look: those after it have their turn


def audit(
    cell: Any,
    *inputs: Any,
    axes: Mapping[str, Any] | None = None,
    optimizer: Any = None,
    target: str = "Ascend910B",
    budget: float = 120,
) -> AuditReport:
    """Find what will go wrong with a cell on MindSpore and Ascend: its hazards, each with evidence and cure.

    Every look runs in a fork of this process, so the cell, its parameters, its graphs and the process's context stay as
    they are, and a crash of the compiler is a finding. What the budget does not reach is named.

    Args:
        cell: a network, or a network with its loss; a function, also one under `mindspore.jit`; or ``"package.module:factory"``,
            a function that returns the cell and its inputs, which can be compiled for Ascend too.
        inputs: one batch, as the cell takes it: Tensors, NumPy arrays, containers of these, Python values.
        axes: the ragged axes, as `ascend_fixes.shapes.bucketed` takes them; None infers them from the inputs, ``{}`` says that
            nothing is ragged.
        optimizer: the one it will be trained with; checked for being one, no look needs it.
        target: the device to compile for: "Ascend910A", "Ascend910B" or "Ascend910_93".
        budget: seconds.

    Returns:
        The report; `AuditReport.show` prints it.

    Raises:
        AuditError: there is no cell, the inputs do not fit, the cell fails as it is, or an option is wrong.
        FactoryError: the factory cannot be found or called, or returns no cell.
    """
    return audited(LOOKS, cell, inputs, axes, optimizer, target, budget)


def audited(
    looks: Sequence[Look],
    cell: Any,
    inputs: tuple[Any, ...],
    axes: Mapping[str, Any] | None,
    optimizer: Any,
    target: str,
    budget: float,
) -> AuditReport:
    """`audit`, with the looks in another order."""
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget < float("inf"):
        raise AuditError(f"budget={budget!r} must be a positive number of seconds")
    if target not in _mindspore.SOCS:
        raise AuditError(f"target={target!r} is not known{nearest(target, _mindspore.SOCS)}")
    clock = Clock(float(budget))
    factory = cell if isinstance(cell, str) else ""
    if factory:
        if inputs:
            raise AuditError(f"{factory} returns the inputs as well; give either the factory or a cell and its inputs")
        cell, *made = factories.made(factory)
        inputs = tuple(made)
    function = None if isinstance(cell, nn.Cell) else cell
    if function is not None and not isinstance(function, (FunctionType, MethodType)):
        raise AuditError(
            f"cell={cell!r} is neither a mindspore.nn.Cell nor a function; give one of these, with its inputs"
        )
    cell = as_cell(cell)
    if optimizer is not None and not isinstance(optimizer, nn.Optimizer):
        raise AuditError(f"optimizer={optimizer!r} is no mindspore.nn.Optimizer")
    names = _names(cell, inputs)
    inputs = tuple(
        rebuilt(names, inputs, lambda name, value: Tensor(value) if isinstance(value, np.ndarray) else value)
    )
    leaves = {name: value.asnumpy() for name, value in leaves_of(names, inputs)}
    numbers = [value for value in inputs if type(value) is int]
    ragged = inferred_axes(leaves, numbers) if axes is None else normalised_axes(axes, leaves)
    subject = Subject(cell, inputs, names, ragged, factory, target, clock, function, inferred=axes is None)
    return _report(*_outcomes(subject, looks))


def _names(cell: nn.Cell, inputs: Sequence[Any]) -> tuple[str, ...]:
    """construct's names for the inputs.

    Raises:
        AuditError: it takes another number of them.
    """
    signature = inspect.signature(cell.construct)
    try:
        bound = signature.bind(*inputs)
    except TypeError as error:
        raise AuditError(f"the inputs do not fit {type(cell).__name__}.construct{signature}: {error}") from None
    names: list[str] = []
    for name, value in bound.arguments.items():
        variadic = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        names += [f"{name}{place}" for place in range(len(value))] if variadic else [name]
    return tuple(names)


def _outcomes(subject: Subject, looks: Sequence[Look]) -> tuple[Subject, list[tuple[Look, Outcome]]]:
    """What every look gave, and the subject as the first has found it; the others are left out where the cell does not run.

    Raises:
        AuditError: the cell fails as it is.
    """
    done: list[tuple[Look, Outcome]] = []
    stopped = ""
    for look in looks:
        left = subject.clock.left
        if stopped and not look.without_running:
            done.append((look, Outcome((), stopped)))
        elif subject.runs == COMPILED_ONLY and not (look.compiled or look.without_running):
            done.append((look, Outcome((), "it runs compiled only, and this is seen operator by operator")))
        elif left < look.needs:
            done.append((look, Outcome((), f"the budget of {subject.clock.budget:g} s was spent")))
        else:
            share = left if look is LOOKS[-1] else max(left * _SHARE, look.needs)
            outcome = carry_out(look, subject, share)
            if outcome.stopped and subject.clock.left <= max(0.0, left - share):
                outcome = Outcome(outcome.findings, _spent(subject.clock.budget, share))
            done.append((look, outcome))
        if look is PLAINLY:
            stopped = _ended(subject, done[0][1])
            facts = _facts([done[0][1]])
            subject = replace(
                subject,
                runs=facts.get("runs", subject.runs),
                random=facts.get("random", False),
                axes={
                    **subject.axes,
                    **{leaf: {2: length} for leaf, length in facts.get("channels_first", {}).items()},
                },
            )
    return subject, done


def _spent(budget: float, share: float) -> str:
    return f"the budget of {budget:g} s was spent: no look may take more than half of what is left ({share:.0f} s)"


def _ended(subject: Subject, outcome: Outcome) -> str:
    """Why nothing else can be looked at after the plain run; "" where everything can."""
    facts = _facts([outcome])
    if "failure" in facts:
        failure = facts["failure"]
        where = f" in {failure['cell']}" if failure["cell"] else ""
        line = f" at {failure['source']}" if failure["source"] else ""
        raise AuditError(
            f"{type(subject.cell).__name__} does not run on these inputs as it is{where}{line}: {failure['error']}; "
            f"give a cell and a batch that run"
        )
    if facts.get("mode") == "":
        return "the cell computes something else at every call; turn off what is random in it"
    return str(facts.get("stopped", outcome.stopped))


def _facts(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for outcome in outcomes:
        for one in outcome.findings:
            if isinstance(one, Fact):
                facts[one.name] = [*facts.get("notes", ()), *one.value] if one.name == "notes" else one.value
    return facts


def _report(subject: Subject, done: Sequence[tuple[Look, Outcome]]) -> AuditReport:
    findings = [finding for _, outcome in done for finding in outcome.findings]
    hazards = _without_less_exact([finding for finding in findings if isinstance(finding, Hazard)])
    hazards.sort(key=lambda one: CERTAINTIES.index(one.certainty))
    seen = {one.kind for one in hazards}
    cleared = {one.kind: one.how for one in findings if isinstance(one, Cleared) and one.kind not in seen}
    missed = {one.kind: one.why for one in findings if isinstance(one, Unknown)}
    for look, outcome in done:
        for kind in look.kinds:
            if outcome.stopped and kind not in cleared:
                missed.setdefault(kind, outcome.stopped)
    missed = {kind: why for kind, why in missed.items() if kind not in seen and kind not in cleared}
    facts = _facts([outcome for _, outcome in done])
    return AuditReport(
        cell=type(subject.cell).__name__,
        target=subject.target,
        hazards=tuple(hazards),
        cleared={kind: cleared[kind] for kind in KINDS if kind in cleared},
        not_looked_at={kind: missed[kind] for kind in KINDS if kind in missed},
        axes={name: dict(by_axis) for name, by_axis in subject.axes.items()},
        pad=facts.get("pad", {}),
        masks=tuple(facts.get("masks", ())),
        notes=(*_on_axes(subject), *facts.get("notes", ())),
        seconds=subject.clock.budget - subject.clock.left,
    )


def _without_less_exact(hazards: list[Hazard]) -> list[Hazard]:
    """Each once; of fusion the last one of a kind, which the search for the operator has made more exact."""
    last = {one.kind: one for one in hazards if one.family == "fusion"}
    return list(dict.fromkeys(one for one in hazards if last.get(one.kind, one) == one))


def _on_axes(subject: Subject) -> tuple[str, ...]:
    if not subject.inferred:
        return ()
    if not subject.axes:
        return ("no axis of the inputs was taken for ragged; where one is, give axes=",)
    axes = {name: dict(by_axis) for name, by_axis in subject.axes.items()}
    return (f"ragged axes as inferred from the inputs: {axes}; give axes= where that is wrong",)
