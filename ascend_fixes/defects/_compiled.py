"""Probes that compile a cell for Ascend in a process of its own and judge what MindSpore's back end made of it.

Nothing is executed, so such a probe sees refusals and which kernels were chosen, and never a value.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from ascend_fixes.defects import Finding

if TYPE_CHECKING:
    from ascend_fixes.dryrun import DryRunReport

__all__ = ["COMPILED", "compile_for_ascend", "lacks_kernels_built_per_shape", "not_refused", "operators"]

COMPILED = "compiled for Ascend (dry run), MindSpore 2.10.0"  # how such a defect was seen
_SCENARIO = Path(__file__).resolve().parents[1] / "_scenario.py"


def compile_for_ascend(module: str, how: str, timeout: float = 300, soc: str = "Ascend910B") -> DryRunReport:
    """The scenario of a defect's file on the Ascend back end: ``how`` is "plain", "cured" or "probe" (its whole probe)."""
    from ascend_fixes import dryrun  # heavy, and wanted by few probes

    return dryrun.script(_SCENARIO, module, how, soc=soc, jit_level="O0", timeout=timeout)


def not_refused(report: DryRunReport) -> Finding:
    """Present where the back end does not take the graph; nothing is known where it came to no end."""
    if report.verdict == "compiled":
        return Finding(False, f"compiled for Ascend: {_counts(report)}")
    return Finding(True if report.verdict == "refused" else None, f"{report.verdict} for Ascend: {_reason(report)}")


def lacks_kernels_built_per_shape(names: tuple[str, ...]) -> Callable[[DryRunReport], Finding]:
    """Present where one of the operators becomes a kernel that the vendor's compiler builds for every shape."""

    def judge(report: DryRunReport) -> Finding:
        if report.verdict != "compiled":
            return not_refused(report)
        found = sorted(set(names) & set(operators(report, "aclop")))
        what = f"built for every shape: {', '.join(found)}" if found else "none of them built for every shape"
        return Finding(bool(found), f"compiled for Ascend: {what} ({_counts(report)})")

    return judge


def operators(report: DryRunReport, kind: str) -> Counter[str]:
    """How often each operator got a kernel of a kind, over all graphs."""
    total: Counter[str] = Counter()
    for graph in report.graphs:
        total.update(graph.operators.get(kind, {}))
    return total


def _counts(report: DryRunReport) -> str:
    totals: Counter[str] = Counter()
    for graph in report.graphs:
        totals.update(graph.kernels)
    return ", ".join(f"{number} {kind}" for kind, number in totals.items() if number) or "no kernels"


def _reason(report: DryRunReport) -> str:
    reasons = [graph.reason for graph in report.graphs if graph.reason] + [report.failure]
    lines = [line.strip() for reason in reasons for line in reason.splitlines() if line.strip()] or [""]
    return lines[0][:200]
