"""Compiled for Ascend: the dry run of a factory, and what it refuses, sends to the host, or has built for every shape."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ascend_fixes import dryrun
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._subject import Subject
from ascend_fixes.dryrun import DryRunGraph
from ascend_fixes.errors import AscendFixesError, first_line

__all__ = ["FOR_ASCEND"]

_KINDS = ("missing-kernel-ascend", "aclop-per-shape")


def look(subject: Subject) -> Iterator[Finding]:
    """One dry run at jit level O1."""
    if not subject.factory:
        why = 'a cell in memory cannot be compiled for Ascend; give "package.module:factory", here or to ascend-fixes audit'
        yield from (Unknown(kind, why) for kind in _KINDS)
        return
    try:
        report = dryrun.cell(subject.factory, soc=subject.target, timeout=max(1.0, subject.clock.left))
    except AscendFixesError as error:
        yield from (Unknown(kind, first_line(error)) for kind in _KINDS)
        return
    if report.verdict not in ("compiled", "refused", "value-dependent"):
        yield from (Unknown(kind, f"the dry run ended with {report.verdict!r}: {report.failure}") for kind in _KINDS)
        return
    found: list[Hazard] = []
    for graph in report.graphs:
        found += [*_refused(graph), *_fallbacks(graph), *_per_shape(graph)]
    if report.verdict == "refused" and not report.graphs:
        found.append(_refusal(report.failure))
    yield from found
    seen = {one.kind for one in found}
    yield from (Cleared(kind, f"compiled for {subject.target} at jit level O1") for kind in _KINDS if kind not in seen)


def _refused(graph: DryRunGraph) -> Iterator[Hazard]:
    if graph.verdict in ("refused", "value-dependent"):
        yield _refusal(graph.reason, graph.verdict)


def _refusal(reason: str, verdict: str = "refused") -> Hazard:
    """A refusal, by what its text says."""
    kind, cure = (
        "missing-kernel-ascend",
        f"ascend-fixes explain {_beginning(reason)!r}  # and host.place(net, [operator])",
    )
    if verdict == "value-dependent":
        kind, cure = (
            "value-dependent-shape",
            "values, count = host.masked_select(x, mask, size, fill=0)  # host.nonzero, host.unique",
        )
    elif "divisible by 16" in reason:
        kind, cure = "hidden-size", "self.rnn = fusion.GRU(input_size, hidden_size)  # takes any size"
    elif re.search(r"unsupported.{0,30}(?:data ?)?type|not support.{0,40}(?:data ?)?type|dtype", reason, re.I):
        kind, cure = "dtype", "x = x.astype(mindspore.float32)  # before the operator; int64 to int32 for sums"
    source = re.search(r"source: (\S+:\d+)", reason)
    operator = re.search(r"For '(\w+)'|op\[(\w+)\]|operator \[?(\w+)", reason)
    return hazard(
        kind,
        kinds.COMPILED,
        "MindSpore's Ascend back end refuses it",
        " ".join(reason.split())[:400],
        cure,
        operator=next(filter(None, operator.groups()), "") if operator else "",
        source=source.group(1).rpartition("/")[2] if source else "",
    )


def _beginning(reason: str) -> str:
    """The first line of a reason, to look it up by."""
    return reason.splitlines()[0][:60] if reason else ""


def _fallbacks(graph: DryRunGraph) -> Iterator[Hazard]:
    seen = set()
    for place in graph.fallbacks:
        if place["operator"] in seen:
            continue
        seen.add(place["operator"])
        bytes_ = "unknown" if place["bytes"] is None else f"{place['bytes']:,}"
        yield hazard(
            "missing-kernel-ascend",
            kinds.COMPILED,
            f"{place['operator']} has no kernel there and goes back to the host's CPU at every step",
            f"compiled for Ascend: {bytes_} bytes cross between device and host",
            "# write it with operators that the device has; ids of a table: host.Table, host.Embedding",
            operator=place["operator"],
            cell=str(place["cell"] or ""),
            source=str(place["source"] or ""),
        )


def _per_shape(graph: DryRunGraph) -> Iterator[Hazard]:
    built = graph.operators.get("aclop", {})
    if built:
        yield hazard(
            "aclop-per-shape",
            kinds.READ,
            "kernels that the device's compiler builds for every shape it meets: seconds for each bucket",
            f"compiled for Ascend: {', '.join(f'{name} x{count}' for name, count in sorted(built.items()))}",
            'ascend_fixes.patch("S9", "S10")  # takes precompiled kernels of mindspore.mint; and few buckets',
            operator=", ".join(sorted(built)),
        )


FOR_ASCEND = Look("compiled for Ascend", _KINDS, look, needs=10.0, without_running=True)
