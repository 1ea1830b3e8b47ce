"""Whether MindSpore's log and saved graphs can be read: a known cell is dry-run once for every wheel.

Their form is nowhere specified. What is missed in the report of the known cell would be missed in every other report of
that MindSpore, where it would look like zero; so each of them then says so, and its verdict is "unknown".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Callable

from ascend_fixes import __version__, _mindspore
from ascend_fixes.dryrun._environment import Libraries
from ascend_fixes.dryrun._report import DryRunReport
from ascend_fixes.dryrun._standins import cache_folder, key_of_wheel
from ascend_fixes.files import FileError, read_text, replacing

__all__ = ["KNOWN", "SIZE", "missed", "unread", "without_belief"]

KNOWN = "ascend_fixes.dryrun._known:known"
SIZE = 16
_READ = ("compiled", "unknown")  # verdicts of a report in which something could be read
_FORM = 1  # of what is asked of the known cell


def unread(wheel: Path, libraries: Libraries, run: Callable[[], DryRunReport]) -> list[str]:
    """What cannot be read of this MindSpore; kept in the cache folder, so that the known cell is run once.

    Args:
        wheel: the folder with MindSpore's libraries.
        libraries: what its plugin is linked to.
        run: makes the dry run of the known cell.
    """
    facts = [key_of_wheel(wheel), libraries.label, __version__, str(_FORM)]
    kept = cache_folder() / "checks" / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
    try:
        answer = json.loads(read_text(kept))
        if isinstance(answer, list):
            return answer
    except (FileError, ValueError):
        pass
    report = run()
    answer = missed(report)
    if report.verdict not in _READ:
        return answer  # too slow a machine this time, say
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as stream:
            stream.write(json.dumps(answer).encode())
    except OSError:
        pass  # it is asked again next time
    return answer


def missed(report: DryRunReport) -> list[str]:
    """What a report of the known cell lacks, compiled for Ascend910B at O1."""
    if report.verdict not in _READ or len(report.graphs) != 1:
        reasons = [report.failure, *(graph.reason for graph in report.graphs), report.verdict]
        return [f"the known cell does not compile: {next(filter(None, reasons))}"]
    (graph,) = report.graphs
    members = {member for kernel in graph.fused for member in kernel["members"] or ()}
    place = graph.fallbacks[0] if graph.fallbacks else {"source": ""}
    found = {
        "kernels by their type": graph.operators["aclnn"].get("MatMul") == 1,
        "fused kernels and their members": {"Mul", "Add", "Exp"} <= members,
        "operators on the host": graph.operators["host"] == {"Cholesky": 1},
        "source lines": "_known.py:" in place["source"],
        "shapes": graph.host_bytes == 2 * SIZE * SIZE * 4,
        "the same kernels in log and saved graphs": not graph.unknown,
        "planned memory": bool(report.peak_memory_bytes),
    }
    return [part for part, seen in found.items() if not seen]


def without_belief(report: DryRunReport, unreadable: list[str]) -> DryRunReport:
    """A report of a MindSpore that cannot be read: what it calls compiled becomes unknown."""
    note = (
        f"ascend_fixes cannot read all that MindSpore {_mindspore.version_text()} writes "
        f"({'; '.join(unreadable)}): figures of this report may be too small"
    )
    graphs = tuple(
        replace(graph, verdict="unknown") if graph.verdict == "compiled" else graph for graph in report.graphs
    )
    return replace(report, graphs=graphs, notes=(*report.notes, note))
