"""What a dry run found, for people, programs and comparison."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["KINDS", "STATEMENT", "DryRunGraph", "DryRunReport"]

STATEMENT = "compiled by MindSpore's Ascend back end, nothing was executed"
KINDS = ("aclnn", "aclop", "internal", "host", "hccl", "fused")
WHOLE = "planned for the whole program"
LACKS = "workspaces of the kernels are not in it: a lower bound"


@dataclass(frozen=True)
class DryRunGraph:
    """One compilation.

    Attributes:
        name: the class of the cell or the name of the function.
        verdict: "compiled", "refused", "value-dependent" (a dry run cannot plan it), "timed out", "crashed", "unknown".
        reason: why it was not compiled, with operator, cell path and source line as far as they are known.
        kernels: how many, by kind: "aclnn" (precompiled), "aclop" (compiled for each shape on a device), "internal",
            "host" (back on the CPU), "hccl" (collective), "fused" (made by the fuser DVM).
        operators: their names by the same kinds, with numbers.
        views: operators that compute nothing on the device (reshapes, streams, branches), with numbers.
        fused: the fused kernels with their members: ``{"kernel", "members", "cell"}``; members None where unknown.
        fallbacks: what goes to the host: ``{"operator", "cell", "source", "bytes"}``.
        casts: conversions of type, inside of fused kernels and outside.
        peak_memory_bytes: device memory as planned; None where it is not known.
        memory_note: what the figure lacks, or why there is none.
        host_bytes: bytes that cross between device and host for `fallbacks`; None where a length is not known.
        kernel_graphs: the parts that MindSpore made of it.
        seconds: what the compilation took, on this machine.
        compiled_because: why there is one graph more.
        unknown: what the reader of the log did not understand.
    """

    name: str
    verdict: str
    reason: str = ""
    kernels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    operators: dict[str, dict[str, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    views: dict[str, int] = field(default_factory=dict)
    fused: list[dict[str, Any]] = field(default_factory=list)
    fallbacks: list[dict[str, Any]] = field(default_factory=list)
    casts: int | None = None
    peak_memory_bytes: int | None = None
    memory_note: str = ""
    host_bytes: int | None = 0
    kernel_graphs: int = 0
    seconds: float | None = None
    compiled_because: str = ""
    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DryRunReport:
    """What a dry run found.

    Attributes:
        target: the factory or script.
        soc, jit_level, ranks: what was compiled for.
        libraries: "stand-ins", or where the vendor's own were found.
        mindspore: the version.
        graphs: in the order of their compilation.
        peak_memory_bytes: device memory as planned for the whole program; None where it is not known.
        failure: why the program ended early, where no graph says it.
        ending: the verdict that follows from that: "refused" (MindSpore raised before anything was compiled), "crashed",
            "timed out", or "unknown"; "" where the program came to its end.
        notes: what else a reader should know.
    """

    target: str
    soc: str
    jit_level: str
    ranks: int
    libraries: str
    mindspore: str
    graphs: tuple[DryRunGraph, ...]
    peak_memory_bytes: int | None = None
    failure: str = ""
    ending: str = ""
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """ "compiled" if every graph is and the program came to its end; else the first other verdict."""
        others = [graph.verdict for graph in self.graphs if graph.verdict != "compiled"]
        if others or self.ending:
            return [*others, self.ending][0]
        return "compiled" if self.graphs else "unknown"

    def to_json(self) -> str:
        """One JSON object."""
        fields = asdict(self)
        return json.dumps({"statement": STATEMENT, "verdict": self.verdict, **fields}, indent=1, ensure_ascii=False)

    def show(self) -> str:
        """The report for a terminal."""
        head = f"{self.target} for {self.soc}, jit level {self.jit_level}"
        head += f", rank 0 of {self.ranks}" if self.ranks > 1 else ""
        lines = [f"{head}: {self.verdict}", f"({STATEMENT}; MindSpore {self.mindspore}, {self.libraries})"]
        latest: dict[str, tuple[int, DryRunGraph]] = {}  # by name: long programs compile the same kernels again
        for number, graph in enumerate(self.graphs):
            before = latest.setdefault(graph.name, (number, graph))
            if before[1] is not graph and _kernels(before[1]) == _kernels(graph):
                lines.append(f"graph {number}: {_head(graph)}; as graph {before[0]}, but {graph.compiled_because}")
                continue
            latest[graph.name] = (number, graph)
            lines += ["", *_graph_lines(number, graph)]
        if len(self.graphs) > 1 and self.peak_memory_bytes is not None:
            lines += ["", f"device memory as planned, all graphs: {self.peak_memory_bytes:,} bytes ({LACKS})"]
        lines += ["", f"ended early: {self.failure}"] if self.failure else []
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    __str__ = show

    def compare(self, other: DryRunReport) -> str:
        """What differs between this report and another, of the same program with a cure or another setting."""
        lines = [f"{self.target} ({self.verdict}) against {other.target} ({other.verdict}); {STATEMENT}"]
        if len(self.graphs) != len(other.graphs):
            lines.append(f"graphs: {len(self.graphs)} -> {len(other.graphs)}")
        mine, theirs = _totals(self), _totals(other)
        for kind in KINDS:
            names = sorted({*mine[kind], *theirs[kind]})
            changed = [
                f"{name} {mine[kind][name]} -> {theirs[kind][name]}"
                for name in names
                if mine[kind][name] != theirs[kind][name]
            ]
            before, after = sum(mine[kind].values()), sum(theirs[kind].values())
            if changed:
                lines.append(f"{kind}: {before} -> {after} ({', '.join(changed)})")
        for label, part in (("casts", "casts"), ("bytes to and from the host", "host_bytes")):
            one, two = _sum(self, part), _sum(other, part)
            if one != two:
                lines.append(f"{label}: {_text(one)} -> {_text(two)}")
        return "\n".join(lines if len(lines) > 1 else [*lines, "no difference in kernels, casts or bytes"])


def _totals(report: DryRunReport) -> dict[str, Counter[str]]:
    totals: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for graph in report.graphs:
        for kind, operators in graph.operators.items():
            totals[kind].update(operators)
    return totals


def _sum(report: DryRunReport, part: str) -> int | None:
    values = [getattr(graph, part) for graph in report.graphs]
    return None if None in values else sum(values)


def _text(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _kernels(graph: DryRunGraph) -> tuple[Any, ...]:
    """What makes two graphs alike for a reader."""
    return graph.verdict, graph.reason, graph.operators, graph.fused, graph.casts, graph.unknown


def _head(graph: DryRunGraph) -> str:
    took = f", {graph.seconds:.1f} s to compile" if graph.seconds is not None else ""
    parts = f", {graph.kernel_graphs} kernel graphs" if graph.kernel_graphs > 1 else ""
    return f"{graph.name}: {graph.verdict}{parts}{took}"


def _graph_lines(number: int, graph: DryRunGraph) -> list[str]:
    lines = [f"graph {number}: {_head(graph)}"]
    if graph.compiled_because:
        lines.append(f"  because: {graph.compiled_because}")
    lines += [f"  {line}" for line in graph.reason.splitlines()]
    words = {
        "aclop": "aclop, compiled for each shape on a device",
        "host": "host, back on the CPU",
        "hccl": "collective",
    }
    for kind in KINDS:
        if graph.kernels[kind]:
            names = ", ".join(
                name if count == 1 else f"{name} x{count}" for name, count in sorted(graph.operators[kind].items())
            )
            lines.append(f"  {graph.kernels[kind]:5d} {words.get(kind, kind)}: {names}")
    alike = Counter((kernel["kernel"], tuple(kernel["members"] or ("members unknown",))) for kernel in graph.fused)
    for (name, members), count in alike.items():
        lines.append(f"        {name} ({' '.join(members)})" + (f" x{count}" if count > 1 else ""))
    for place in graph.fallbacks:
        lines.append(
            f"        {place['operator']} at {place['cell']} {place['source']}: {_text(place['bytes'])} bytes cross"
        )
    if graph.verdict == "compiled":
        lines.append(f"  casts {_text(graph.casts)}, bytes to and from the host {_text(graph.host_bytes)}")
        if graph.memory_note != WHOLE:
            lines.append(f"  device memory as planned: {_text(graph.peak_memory_bytes)} bytes ({graph.memory_note})")
    return [*lines, *(f"  unknown: {text}" for text in graph.unknown)]
