"""Reading a compiled graph back, in MindSpore's protocol `anf_ir`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mindspore

from ascend_fixes import wire
from ascend_fixes._mindspore.executors import _executor, compiled_phases

__all__ = [
    "graph_inputs",
    "graph_nodes",
    "graph_operators",
    "graph_scopes",
    "graph_transfers",
    "graph_writes",
    "whole_graph_operators",
]


def graph_inputs(cell: mindspore.nn.Cell, phase: str) -> dict[str, str]:
    """The inputs of a compiled graph of a cell, parameters left out: ``{"ids": "Int32[2, 8]"}``."""
    parameters = {parameter.name for parameter in cell.get_parameters()}
    return {
        parameter.name: _proto_type_text(parameter.type)
        for parameter in _graph(cell, phase).parameters
        if parameter.name not in parameters
    }


def _graph(cell: mindspore.nn.Cell, phase: str) -> Any:
    """A compiled graph of a cell, as MindSpore describes it in its protocol `anf_ir`."""
    model = _graph_schema().ModelProto()
    model.ParseFromString(_executor()._graph_executor.get_func_graph_proto(phase, "anf_ir", False))
    return model.graph


def _graph_schema() -> Any:
    from mindspore.train import anf_ir_pb2  # slow to import, and seldom wanted

    return anf_ir_pb2


def _proto_type_text(kind: Any) -> str:
    """``Int32[2, 8]`` for a Tensor; the type's own name, as Int64, for a scalar."""
    tensor = kind.data_type == _graph_schema().DT_TENSOR
    name = _graph_schema().DataType.Name(kind.tensor_type.elem_type if tensor else kind.data_type)
    text = name.replace("DT_", "").capitalize()
    return f"{text}[{', '.join(str(dim.size) for dim in kind.tensor_type.shape.dim)}]" if tensor else text


def graph_scopes(cell: mindspore.nn.Cell) -> list[tuple[str, str]]:
    """The operators of a cell's latest graph with the path of the cell they sit in: ``("Exp", "Default/net-Net")``."""
    return [(node.op_type, node.scope) for node in _graph(cell, compiled_phases(cell)[-1]).node]


def graph_nodes(cell: mindspore.nn.Cell) -> list[tuple[str, tuple[int, ...]]]:
    """The operators of a cell's latest graph with the shape of their output; -1 for a size known only when run."""
    return [(name, shapes[0] if len(shapes) == 1 else ()) for name, shapes, _ in graph_operators(cell)]


def graph_operators(cell: mindspore.nn.Cell) -> list[tuple[str, list[tuple[int, ...]], dict[str, Any]]]:
    """The operators of a cell's latest graph: name, output shapes (-1: known only when run), and attributes.

    Of the attributes only those that are one string, number or truth value; ``primitive_target`` tells where
    an operator was placed by hand.
    """
    return [
        (node.op_type, list(_proto_shapes(node.output_type)), _proto_attributes(node))
        for node in _graph(cell, compiled_phases(cell)[-1]).node
    ]


def _proto_shapes(kind: Any) -> Any:
    """The shapes of the Tensors in a type."""
    if kind.data_type == _graph_schema().DT_TENSOR:
        yield tuple(dim.size for dim in kind.tensor_type.shape.dim)
    for part in kind.sequence_type.elem_types:
        yield from _proto_shapes(part)


def _proto_attributes(node: Any) -> dict[str, Any]:
    fields = {
        _graph_schema().DT_STRING: "str_val",
        _graph_schema().DT_BOOL: "bool_val",
        _graph_schema().DT_INT64: "int_val",
    }
    return {
        attribute.name: getattr(attribute.value, fields[attribute.value.dtype])
        for attribute in node.attribute
        if attribute.value.dtype in fields
    }


def graph_transfers(cell: mindspore.nn.Cell) -> list[tuple[str, int]]:
    """The operators of a cell's latest graph that are placed on the host: name, and bytes in and out of them in a run.

    Shapes known only when run count as nothing.
    """
    graph = _graph(cell, compiled_phases(cell)[-1])
    sizes = {parameter.name: _proto_bytes(parameter.type) for parameter in graph.parameters}
    sizes.update((node.name, _proto_bytes(node.output_type)) for node in graph.node)
    return [
        (node.op_type, sizes[node.name] + sum(sizes.get(source.name, 0) for source in node.input))
        for node in graph.node
        if _proto_attributes(node).get("primitive_target") == "CPU"
    ]


def _proto_bytes(kind: Any) -> int:
    """Bytes of the Tensors in a type."""
    total = sum(_proto_bytes(part) for part in kind.sequence_type.elem_types)
    if kind.data_type == _graph_schema().DT_TENSOR:
        bits = re.search(r"\d+$", _graph_schema().DataType.Name(kind.tensor_type.elem_type))
        count = 1
        for dim in kind.tensor_type.shape.dim:
            count *= max(0, dim.size)
        total += count * (int(bits.group()) // 8 if bits else 1)
    return total


@dataclass(frozen=True)
class _Function:
    """A graph, or the graph of a branch or loop: its Parameters, and of every node the operator and what goes in, by name."""

    parameters: list[str]
    nodes: list[tuple[str, list[str]]]


def _whole_graph(cell: mindspore.nn.Cell) -> list[_Function]:
    """The latest graph of a cell, and behind it those of its branches and loops, which `anf_ir` leaves out."""
    data = _executor()._graph_executor.get_func_graph_proto(compiled_phases(cell)[-1], "mind_ir", False)
    parts = [(number, content) for number, content in wire.fields(memoryview(data)) if number in _GRAPHS]
    return [_function(content) for _, content in sorted(parts, key=lambda part: part[0])]


# Numbers of fields in MindSpore's mind_ir.proto.
_GRAPHS = (7, 8)  # ModelProto.graph, ModelProto.functions
_NODE, _PARAMETER = 1, 3  # of GraphProto
_INPUT, _OPERATOR = 1, 4  # of NodeProto
_NAME = 7  # of TensorProto


def _function(graph: memoryview) -> _Function:
    parameters: list[str] = []
    nodes: list[tuple[str, list[str]]] = []
    for number, content in wire.fields(graph):
        if number == _NODE:
            inputs, operator = [], ""
            for part, value in wire.fields(content):
                if part == _INPUT:
                    inputs.append(wire.text(value))
                elif part == _OPERATOR:
                    operator = _operator(wire.text(value))
            nodes.append((operator, inputs))
        elif number == _PARAMETER:
            parameters += [_plain(wire.text(value)) for part, value in wire.fields(content) if part == _NAME]
    return _Function(parameters, nodes)


def whole_graph_operators(cell: mindspore.nn.Cell) -> list[str]:
    """The operators of a cell's latest graph, branches and loops included; calls of these are left out."""
    return [operator for function in _whole_graph(cell) for operator, _ in function.nodes if operator]


def graph_writes(cell: mindspore.nn.Cell) -> tuple[set[str], set[str]]:
    """The Parameters that a cell's latest graph writes, by name: outside its branches and loops, and inside them."""
    main, *functions = _whole_graph(cell)
    parameters = set(main.parameters)
    inside = {name for function in functions for name in _writes(function)}
    return set(_writes(main)) & parameters, inside & parameters


_WRITERS = ("Assign", "Scatter", "Inplace", "Apply", "Momentum", "Adam", "SparseApply", "FusedSparse")
_RUNNING_STATISTICS: dict[str, tuple[int, ...]] = {
    "BatchNorm": (3, 4),
    "SyncBatchNorm": (3, 4),
    "BatchNormExt": (3, 4),
    "InstanceNorm": (3, 4),
}


def _writes(function: _Function) -> Iterator[str]:
    """Names of what operators write. A Parameter that is only read comes through a Load, and has another name then."""
    for operator, inputs in function.nodes:
        positions = (0,) if operator.startswith(_WRITERS) else _RUNNING_STATISTICS.get(operator, ())
        yield from (_plain(inputs[position]) for position in positions if position < len(inputs))


def _plain(name: str) -> str:
    """``"table"`` of ``"graph:▸table"``; differentiation marks what a function takes."""
    return name.rpartition(":")[2].lstrip("▸◂")


def _operator(kind: str) -> str:
    """``"Add"`` of ``"REF::Add:69"``; "" for a constant and for the call of a graph, which has more than a number behind it."""
    name, _, number = kind[len("REF::") :].partition(":")
    return name if number.isdigit() else ""
