"""Reading a compiled graph back, in MindSpore's protocol `anf_ir`."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import mindspore

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


_WANTED = {
    "ModelProto": {"graph", "functions"},
    "GraphProto": {"node", "parameter"},
    "NodeProto": {"input", "op_type"},
    "TensorProto": {"name"},
}
"""Of MindSpore's messages, the fields that are read. The others, values of constants and types among them, are passed over."""


@functools.cache
def _lean_schema() -> Any:
    """`mind_ir`'s ModelProto with the wanted fields alone: MindSpore has protobuf parse in Python, most of a second a graph."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from mindspore.train import mind_ir_pb2  # slow to import, and seldom wanted

    file = descriptor_pb2.FileDescriptorProto()
    mind_ir_pb2.DESCRIPTOR.CopyToProto(file)
    messages = [message for message in file.message_type if message.name in _WANTED]
    for message in messages:
        fields = [field for field in message.field if field.name in _WANTED[message.name]]
        kept = descriptor_pb2.DescriptorProto(name=message.name, field=fields)
        message.CopyFrom(kept)
    lean = descriptor_pb2.FileDescriptorProto(
        name="lean_mind_ir.proto", package=file.package, syntax=file.syntax, message_type=messages
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(lean)
    found = pool.FindMessageTypeByName(f"{file.package}.ModelProto" if file.package else "ModelProto")
    return message_factory.GetMessageClass(found)


def _whole_graph(cell: mindspore.nn.Cell) -> Any:
    """The latest graph of a cell with those of its branches and loops, which `anf_ir` leaves out."""
    model = _lean_schema()()
    model.ParseFromString(_executor()._graph_executor.get_func_graph_proto(compiled_phases(cell)[-1], "mind_ir", False))
    return model


def whole_graph_operators(cell: mindspore.nn.Cell) -> list[str]:
    """The operators of a cell's latest graph, branches and loops included; calls of these are left out."""
    model = _whole_graph(cell)
    names = [_operator(node) for graph in (model.graph, *model.functions) for node in graph.node]
    return [name for name in names if name]


def graph_writes(cell: mindspore.nn.Cell) -> tuple[set[str], set[str]]:
    """The Parameters that a cell's latest graph writes, by name: outside its branches and loops, and inside them."""
    model = _whole_graph(cell)
    parameters = {_plain(parameter.name) for parameter in model.graph.parameter}
    inside = {name for graph in model.functions for name in _writes(graph)}
    return set(_writes(model.graph)) & parameters, inside & parameters


_WRITERS = ("Assign", "Scatter", "Inplace", "Apply", "Momentum", "Adam", "SparseApply", "FusedSparse")
_RUNNING_STATISTICS: dict[str, tuple[int, ...]] = {
    "BatchNorm": (3, 4),
    "SyncBatchNorm": (3, 4),
    "BatchNormExt": (3, 4),
    "InstanceNorm": (3, 4),
}


def _writes(graph: Any) -> Iterator[str]:
    """Names of what operators write. A Parameter that is only read comes through a Load, and has another name then."""
    for node in graph.node:
        operator = _operator(node)
        positions = (0,) if operator.startswith(_WRITERS) else _RUNNING_STATISTICS.get(operator, ())
        yield from (_plain(node.input[position]) for position in positions if position < len(node.input))


def _plain(name: str) -> str:
    """``"table"`` of ``"graph:▸table"``; differentiation marks what a function takes."""
    return name.rpartition(":")[2].lstrip("▸◂")


def _operator(node: Any) -> str:
    """``"Add"`` of ``"REF::Add:69"``; "" for a constant and for the call of a graph, which has more than a number behind it."""
    name, _, number = node.op_type[len("REF::") :].partition(":")
    return name if number.isdigit() else ""
