"""Fused against unfused, forward and backward; where they differ, the operator is searched for as long as there is time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from mindspore import Tensor, nn

from ascend_fixes import fusion
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._running import settled
from ascend_fixes.auditing._subject import Subject
from ascend_fixes.errors import first_line
from ascend_fixes.fusion import BisectError, BisectReport
from ascend_fixes.fusion._comparison import tolerance, worst
from ascend_fixes.fusion._compiler import require_compiler
from ascend_fixes.fusion._trial import Trial, run

__all__ = ["FUSING"]

_KINDS = ("fusion-inexact", "fusion-fails")


def look(subject: Subject) -> Iterator[Finding]:
    """Run both, then bisect."""
    try:
        require_compiler()
    except fusion.MissingCompilerError as missing:
        yield _missing(missing)
        return
    except fusion.FusionUnsupportedError as unsupported:
        yield from (Unknown(kind, str(unsupported)) for kind in _KINDS)
        return
    if subject.random:
        yield from (Unknown(kind, "two runs of the cell differ: it draws random numbers") for kind in _KINDS)
        return
    settled(subject)
    grad = bool(subject.cell.trainable_params()) and _all_tensors(subject)
    limit = max(1.0, subject.clock.left)
    plain = run(subject.cell, subject.inputs, grad=grad, fused=False, nearby=True, limit=limit)
    if plain.failure or not plain.arrays:
        yield from (Unknown(kind, f"it does not run unfused in graph mode: {plain.failure}") for kind in _KINDS)
        return
    # A gradient by one input may be NaN, as that of a distance is between equal points, and the others be sound.
    finite = {name: value for name, value in plain.arrays[0].items() if np.isfinite(value.astype(np.float64)).all()}
    fused = run(subject.cell, subject.inputs, grad=grad, fused=True, limit=limit)
    if not finite and not fused.failure:
        yield Cleared("fusion-fails", "the fused graph compiled and ran")
        yield Unknown("fusion-inexact", "unfused it is not finite")
        return
    runs = [{name: value for name, value in one.items() if name in finite} for one in fused.arrays]
    error, name = (float("inf"), "") if fused.failure else worst(finite, plain.nearby, runs)
    if error <= tolerance(finite):
        how = f"fused and unfused agree to {error:.1g}, {'forward and backward' if grad else 'forward'}"
        yield from (Cleared(kind, how) for kind in _KINDS)
        return
    yield Cleared(
        _KINDS[0 if fused.failure else 1], "it failed" if fused.failure else "the fused graph compiled and ran"
    )
    yield _hazard(fused, error, name)
    try:
        report = fusion.bisect(subject.cell, *subject.inputs, grad=grad, limit=limit)
    except BisectError:
        return
    if report.keep_out:
        yield _hazard(fused, error, name, report)


def _all_tensors(subject: Subject) -> bool:
    """Whether gradients by the inputs can be taken."""
    return all(isinstance(value, Tensor) for value in subject.inputs) and not any(
        isinstance(inner, nn.Optimizer) for _, inner in subject.cell.cells_and_names()
    )


def _missing(error: Exception) -> Hazard:
    return hazard(
        "fusion-fails",
        kinds.FAILED,
        "the compiler of fused kernels lacks a package; MindSpore says 'Response is empty' (defect F4)",
        first_line(error),
        "pip install decorator",
    )


def _hazard(fused: Trial, error: float, name: str, report: BisectReport | None = None) -> Hazard:
    """What was seen, with the operators where the search has found them."""
    keep_out = report.keep_out if report else ()
    operators = ", ".join(one.partition(":")[2] for one in keep_out)
    cells = [cell for paths in report.cells.values() for cell in paths] if report else []
    cure = f"with fusion.guard({', '.join(map(repr, keep_out))}):\n    net(*inputs)  # or net = fusion.safe(net)"
    if fused.failure:
        cast = "Response is empty" in fused.failure
        return hazard(
            "fusion-fails",
            kinds.FAILED,
            "the fused graph does not compile" + (": a cast is in a fused kernel (defect F6)" if cast else ""),
            fused.failure,
            cure
            if keep_out
            else 'with fusion.guard("cluster:Cast"):\n    net(*inputs)'
            if cast
            else "net = fusion.safe(net)",
            operator=operators or ("Cast" if cast else ""),
            cell=cells[0] if cells else "",
        )
    return hazard(
        "fusion-inexact",
        kinds.DIFFERED,
        "the fused graph computes something else",
        f"fused, {name} is off by {error:.2g} of its largest value"
        + (f"; without {operators} in fused kernels by {report.error_after:.1g}" if report else ""),
        cure if keep_out else "net = fusion.safe(net)",
        operator=operators,
        cell=cells[0] if cells else "",
    )


FUSING = Look("fused against unfused", _KINDS, look, needs=8.0, compiled=True)
