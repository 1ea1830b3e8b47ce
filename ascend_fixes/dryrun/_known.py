"""A cell whose kernels are known, to see whether MindSpore's log and saved graphs can still be read.

It is dry-run once for every wheel; what is missed in its report is missed in every report of that MindSpore.
"""

from __future__ import annotations

from typing import Any

from mindspore import Tensor, float32, nn, ops

from ascend_fixes.dryrun._report import DryRunReport

__all__ = ["KNOWN", "Known", "known", "missed"]

KNOWN = f"{__name__}:known"
_SIZE = 16


class Known(nn.Cell):
    """A product, element-wise operations that are fused at O1, and an operator that the device has no kernel for."""

    def __init__(self) -> None:
        super().__init__()
        self.product = nn.Dense(_SIZE, _SIZE, has_bias=False)

    def construct(self, x: Any) -> Any:
        return ops.cholesky(ops.exp(self.product(x) * 2.0 + 1.0))


def known() -> tuple[nn.Cell, Tensor]:
    """The cell and its input."""
    return Known(), ops.ones((_SIZE, _SIZE), float32)


def missed(report: DryRunReport) -> list[str]:
    """What a report of the cell lacks, compiled for Ascend910B at O1; one sentence each."""
    if report.verdict not in ("compiled", "unknown") or len(report.graphs) != 1:
        reasons = [graph.reason for graph in report.graphs if graph.reason]
        return [f"the known cell does not compile: {([report.failure, *reasons] + [report.verdict])[0] or reasons}"]
    (graph,) = report.graphs
    members = [member for kernel in graph.fused for member in kernel["members"] or ()]
    place = graph.fallbacks[0] if graph.fallbacks else {}
    wanted = {
        "kernels by their type": graph.operators["aclnn"].get("MatMul") == 1,
        "fused kernels and their members": {"Mul", "Add", "Exp"} <= set(members),
        "operators on the host": graph.operators["host"] == {"Cholesky": 1},
        "cell paths and source lines of the saved graphs": "_known.py:" in str(place.get("source", "")),
        "shapes in the saved graphs": graph.host_bytes == 2 * _SIZE * _SIZE * 4,
        "all kernels in log and saved graphs": not graph.unknown,
        "planned memory": bool(report.peak_memory_bytes),
    }
    return [part for part, found in wanted.items() if not found]
