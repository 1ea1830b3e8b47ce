"""Reading the graphs that MindSpore saves (``MS_DEV_SAVE_GRAPHS``): nodes with cell path, source line, types and shapes.

The form of these files is nowhere specified. What is not understood is left out of the answer, never guessed: a node
without a name, a shape that is not a list of numbers, a fused kernel whose members are in no file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Input", "Node", "SavedGraphs", "Value", "read_graphs"]

_BEGIN = re.compile(r"  (?:%\d+(?:\([^)]*\))? = )?[\w.]+\(")
_NODE = re.compile(r"  (?:%(?P<id>\d+)(?:\([^)]*\))? = )?(?P<op>[\w.]+)\((?P<rest>.*)", re.DOTALL)
_TYPES = re.compile(r"^      : \((?P<inputs>.*)\) -> \((?P<outputs>.*)\)$")
_KERNEL = re.compile(r"^      : \(.*<\w+x\w+\[const vector\]\{")
_TENSOR = re.compile(r"<(?:Ref\[)?Tensor\[(?P<dtype>\w+)\]\]?, \((?P<shape>[^()]*)\)")
_SCOPE = re.compile(r"^      # Fullname with scope: \((?P<name>.*)\)$")
_SOURCE = re.compile(r"^      # In file (?P<place>.+?:\d+)")
_FUSED = re.compile(r"func_graph: ([\w.]+)")
_GRAPH = re.compile(r"^subgraph @(?P<name>[\w.]+)\(")
_BYTES = {"Float64": 8, "Int64": 8, "UInt64": 8, "Float32": 4, "Int32": 4, "UInt32": 4, "Complex64": 8}
_BYTES.update(
    {"Float16": 2, "BFloat16": 2, "Int16": 2, "UInt16": 2, "Int8": 1, "UInt8": 1, "Bool": 1, "Complex128": 16}
)


@dataclass(frozen=True)
class Value:
    """A Tensor that a node takes or gives: its type, and its shape with -1 for a length known only when run."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int | None:
        """Its size; None where a length or the type is not known."""
        size = _BYTES.get(self.dtype)
        if size is None or any(length < 0 for length in self.shape):
            return None
        for length in self.shape:
            size *= length
        return size


@dataclass(frozen=True)
class Input:
    """Where an input of a node comes from: another node, a parameter of the graph, or neither (a constant)."""

    node: int = -1
    parameter: str = ""

    @classmethod
    def read(cls, text: str) -> Input:
        match = re.match(r"%(?:(?P<node>\d+)|para\d+_(?P<parameter>[\w.]+))", text)
        if match is None:
            return cls()
        return cls(int(match["node"]) if match["node"] else -1, match["parameter"] or "")


@dataclass
class Node:
    """One node of a graph.

    Attributes:
        operator: its operator, without the prefixes of MindSpore's classes.
        name: the path of its cell and its own name: ``Default/network-Block/MatMul-op0``.
        sources: the lines it comes from, ``/path/model.py:23``, outermost first.
        inputs: where its arguments come from.
        takes, gives: its arguments and results that are Tensors; None in the place of others.
        inner: the name of the sub-graph of a fused kernel.
        kernel: whether it was given a kernel, on the device or the host.
        on_host: whether it was placed on the host by hand.
    """

    operator: str
    name: str = ""
    sources: list[str] = field(default_factory=list)
    inputs: tuple[Input, ...] = ()
    takes: tuple[Value | None, ...] = ()
    gives: tuple[Value | None, ...] = ()
    inner: str = ""
    number: int = -1
    kernel: bool = False
    on_host: bool = False

    @property
    def cell(self) -> str:
        """The path of its cell."""
        return self.name.rpartition("/")[0]

    @property
    def source(self) -> str:
        """The innermost line outside of MindSpore that it comes from, else the innermost; "" where none is given."""
        own = [place for place in self.sources if "/mindspore/" not in place]
        return ([*self.sources[-1:], *own] or [""])[-1]


@dataclass(frozen=True)
class SavedGraphs:
    """The kernel graphs of a compilation and the members of the fused kernels among them.

    Attributes:
        graphs: nodes by the name of the kernel graph, in the order of execution.
        members: operators by the name of a fused kernel's sub-graph.
    """

    graphs: dict[str, list[Node]]
    members: dict[str, tuple[str, ...]]


def read_graphs(files: list[Path]) -> SavedGraphs:
    """Read files that MindSpore saved: the built graphs, and those of the fuser with its sub-graphs."""
    graphs: dict[str, list[Node]] = {}
    members: dict[str, tuple[str, ...]] = {}
    for path in files:
        parts = _parts(path.read_text(encoding="utf-8", errors="replace"))
        if path.name.startswith("graph_build"):
            for name, nodes in parts.items():
                graphs[name] = nodes
        else:
            for name, nodes in parts.items():
                members[name] = tuple(node.operator for node in nodes if node.operator not in _NO_KERNELS)
    return SavedGraphs(graphs, members)


_NO_KERNELS = frozenset(
    {
        "Return",
        "MakeTuple",
        "TupleGetItem",
        "Load",
        "UpdateState",
        "Depend",
        "Partial",
        "Switch",
        "call",
        "StateSetItem",
    }
)


def _parts(text: str) -> dict[str, list[Node]]:
    """The nodes of every graph in a file, by the graph's name.

    A node is a statement, whose constants may be written over many lines, and lines below it that describe it.
    """
    parts: dict[str, list[Node]] = {}
    nodes: list[Node] | None = None
    statement: list[str] = []

    def close() -> None:
        match = _NODE.match("\n".join(statement)) if statement else None
        if match and nodes is not None:
            nodes.append(_node(match))
        statement.clear()

    for line in text.splitlines():
        graph = _GRAPH.match(line)
        if graph:
            close()
            nodes = parts.setdefault(graph["name"], [])
        elif _BEGIN.match(line) or line == "}":
            close()
            statement.extend([line] if line != "}" else [])
        elif line.startswith(("      : ", "      # ")):
            close()
            if nodes:
                _describe(nodes[-1], line)
        elif statement:
            statement.append(line)
    close()
    return parts


def _node(match: re.Match[str]) -> Node:
    operator = re.sub(r"^(PrimFunc_|Prim_|DoSignaturePrim_)", "", match["op"])
    arguments = _split(match["rest"])
    inner = _FUSED.search(match["rest"])
    return Node(
        operator,
        inputs=tuple(Input.read(argument) for argument in arguments),
        inner=inner.group(1) if inner else "",
        number=int(match["id"]) if match["id"] else -1,
        on_host='primitive_target: "CPU"' in match["rest"],
    )


def _split(text: str) -> list[str]:
    """The parts between commas up to the bracket that closes, brackets inside kept whole."""
    parts, depth, start = [], 0, 0
    for at, character in enumerate(text):
        if character in "([{<":
            depth += 1
        elif character in ")]}>":
            depth -= 1
            if depth < 0:
                break
        elif character == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    else:
        at = len(text)
    return [part for part in [*parts, text[start:at].strip()] if part]


def _describe(node: Node, line: str) -> None:
    """Take what a line below a node says of it."""
    node.kernel = node.kernel or bool(_KERNEL.match(line))
    types, scope, source = _TYPES.match(line), _SCOPE.match(line), _SOURCE.match(line)
    if types and not node.gives and not node.takes:
        node.takes, node.gives = _values(types["inputs"]), _values(types["outputs"])
    elif scope:
        node.name = scope["name"]
    elif source:
        node.sources.append(re.sub(r":(\d+)~\d+$", r":\1", source["place"]))


def _values(text: str) -> tuple[Value | None, ...]:
    """Per argument its Tensor; None for what is none."""
    return tuple(_value(part) for part in _split(text))


def _value(text: str) -> Value | None:
    match = _TENSOR.match(text)
    if match is None:
        return None
    lengths = [part.strip() for part in match["shape"].split(",") if part.strip()]
    return Value(match["dtype"], tuple(int(part) if part.isdigit() else -1 for part in lengths))
