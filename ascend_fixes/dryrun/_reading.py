"""From what was seen of a compilation to what is said of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ascend_fixes.dryrun._ir import Input, Node, SavedGraphs, Value, read_graphs
from ascend_fixes.dryrun._log import KERNEL_TYPES, Compilation
from ascend_fixes.dryrun._refusals import explain
from ascend_fixes.dryrun._report import KINDS, DryRunGraph

__all__ = ["graph_of"]


def graph_of(compilation: Compilation, folder: Path, unfinished: str, because: str) -> DryRunGraph:
    """What is known of one compilation.

    Args:
        compilation: what the log says of it.
        folder: where the saved graphs are.
        unfinished: the verdict where it came to no end: "timed out" or "crashed".
        because: why it did.
    """
    saved = read_graphs([folder / name for name in compilation.files])
    nodes = [node for graph in saved.graphs.values() for node in graph]
    kernels = Counter(compilation.kernels)
    unknown = [
        f"{count} kernels of a type that this library does not know: {name or 'without a name'}"
        for name, count in Counter(kind for _, kind in compilation.kernels if kind not in KERNEL_TYPES).items()
    ]
    operators: dict[str, dict[str, int]] = {kind: {} for kind in KINDS}
    views: dict[str, int] = {}
    for (name, kind), count in sorted(kernels.items()):
        # MindSpore builds a view (SplitTensorView, NarrowView) as a kernel of the host: it sets a stride and copies nothing.
        view = KERNEL_TYPES.get(kind) == "" or (kind == "host_kernel" and name.endswith("View"))
        home = views if view else operators.get(KERNEL_TYPES.get(kind, ""))
        if home is not None:
            home[name] = home.get(name, 0) + count
    fallbacks = _fallbacks(compilation, saved)
    for place in fallbacks:
        operators["host"][place["operator"]] = operators["host"].get(place["operator"], 0) + 1
    if compilation.error:
        verdict, reason = explain(compilation.error)
    elif compilation.seconds is None:
        verdict, reason = unfinished, because
    else:
        verdict, reason = "compiled", ""
    if verdict == "compiled" and not compilation.kernels and not fallbacks:
        unknown.append("MindSpore's log names no kernel of this graph")
        verdict = "compiled" if saved.graphs and not any(_computes(node) for node in nodes) else "unknown"
    sizes = [place["bytes"] for place in fallbacks]
    return DryRunGraph(
        name=compilation.name,
        verdict=verdict,
        reason=reason,
        kernels={kind: sum(operators[kind].values()) for kind in KINDS},
        operators=operators,
        views=views,
        fused=_fused(nodes, saved),
        fallbacks=fallbacks,
        casts=_casts(nodes, saved),
        host_bytes=None if None in sizes else sum(sizes),
        kernel_graphs=len(saved.graphs),
        seconds=compilation.seconds,
        compiled_because=compilation.because,
        unknown=unknown + _disagreements(compilation, nodes, fallbacks) * (verdict == "compiled"),
    )


def _disagreements(compilation: Compilation, nodes: list[Node], fallbacks: list[dict[str, Any]]) -> list[str]:
    """Where the log and the saved graphs do not tell of the same kernels."""
    logged = Counter(name for name, _ in compilation.kernels)
    logged.update(place["operator"] for place in fallbacks)
    saved = Counter(node.operator for node in nodes if node.kernel and node.operator not in _NO_KERNELS)
    return [
        f"{name}: {logged[name]} kernels in the log, {saved[name]} in the saved graph"
        for name in sorted({*logged, *saved})
        if logged[name] != saved[name]
    ]


_NO_KERNELS = {"Return", "MakeTuple", "TupleGetItem", "Load", "UpdateState", "Depend", "Partial", "Switch", "call"}


def _computes(node: Node) -> bool:
    return node.operator not in _NO_KERNELS


def _fused(nodes: list[Node], saved: SavedGraphs) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for node in nodes:
        if node.operator.startswith("GraphKernel"):
            members = saved.members.get(node.inner)
            found.append(
                {"kernel": node.operator, "members": None if members is None else list(members), "cell": node.cell}
            )
    return found


def _casts(nodes: list[Node], saved: SavedGraphs) -> int | None:
    """Conversions of type; None where the members of a fused kernel are not known."""
    total = sum(node.operator == "Cast" for node in nodes)
    for kernel in _fused(nodes, saved):
        if kernel["members"] is None:
            return None
        total += kernel["members"].count("Cast")
    return total


def _fallbacks(compilation: Compilation, saved: SavedGraphs) -> list[dict[str, Any]]:
    """The nodes that go to the host, and the bytes that cross for each.

    They are those that the log names, and those placed there by hand; a saved graph shows where they are.
    """
    named = set(compilation.host)
    found, seen = [], set()
    for graph in saved.graphs.values():
        hosted = [node for node in graph if node.name in named or (node.on_host and node.kernel)]
        seen |= {node.name for node in hosted}
        apart = all(node.on_host and node.name not in named for node in graph if node.kernel)
        for node in hosted:
            size = _crossing(node, graph, hosted, apart)
            found.append({"operator": node.operator, "cell": node.cell, "source": node.source, "bytes": size})
    for name in [] if compilation.error else compilation.host:  # where it was refused, that node may be the reason
        if name not in seen:
            cell, _, own = name.rpartition("/")
            found.append({"operator": own.rpartition("-op")[0], "cell": cell, "source": "", "bytes": None})
    return found


def _crossing(node: Node, graph: list[Node], hosted: list[Node], apart: bool) -> int | None:
    """Bytes from and to the device for a node on the host; None where a length is not known.

    What another node on the host makes or takes does not cross. Where a whole kernel graph is on the host (``apart``),
    neither do its weights and the program's own inputs, which start there: only what other kernel graphs make.
    """
    producers = {other.number: other for other in graph if other.number >= 0}
    values: list[Value | None] = []
    for value, source in zip(node.takes, node.inputs):
        origin = _origin(source, producers)
        if isinstance(origin, Node):
            crosses = origin not in hosted
        else:
            crosses = bool(origin) and (not apart or origin.startswith("Parameter_"))
        if value is not None and crosses:
            values.append(value)
    users = [other for other in graph if any(source.node == node.number for source in other.inputs)]
    if not users or any(user not in hosted for user in users):
        values += [value for value in node.gives if value is not None]
    sizes = [value.bytes for value in values if value is not None]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _origin(source: Input, producers: dict[int, Node]) -> Node | str:
    """The node that really makes an input, or the name of the parameter it is; "" for a constant."""
    while source.node in producers:
        node = producers[source.node]
        if node.kernel or not node.inputs:
            return node
        source = node.inputs[0]  # a load, a dependency, an element of a tuple
    return source.parameter
