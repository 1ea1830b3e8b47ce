"""The seam: the only file that touches MindSpore's private names or asks which version is running.

Everything here is a thin accessor. What a name means, and why it is private,
stands beside it, so that a new MindSpore release is met by editing this file.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

import mindspore

__all__ = ["backend", "cell_compile_target", "jit_compile_target", "version", "version_text"]


# --- which MindSpore, on which backend ---------------------------------------------------------


def version_text() -> str:
    """The version of the installed MindSpore as it reports itself, for example ``"2.10.0"``."""
    return mindspore.__version__


def version() -> tuple[int, ...]:
    """The numeric part of the version, for comparison: ``"2.10.0rc1"`` gives ``(2, 10, 0)``."""
    return tuple(int(part) for part in re.findall(r"\d+", version_text())[:3])


def backend() -> str:
    """The backend that graphs run on, ``"CPU"``, ``"GPU"`` or ``"Ascend"``; asking does not initialise a device."""
    return mindspore.get_context("device_target")


# --- shapes: compilation, the compile cache, dynamic inputs ------------------------------------


def _executor_module() -> str:
    """The module that holds MindSpore's graph executors: it moved in 2.9."""
    return "mindspore.graph.api" if version() >= (2, 9) else "mindspore.common.api"


def cell_compile_target() -> str:
    """The method that every cell's compilation passes through, as ``"module:Class.attribute"``.

    ``compile(self, obj, *args, phase="predict", do_convert=True, jit_config_dict=None, **kwargs)``
    is called before every run in graph mode; it compiles where ``obj.compile_cache`` lacks the phase.
    """
    return f"{_executor_module()}:_CellGraphExecutor.compile"


def jit_compile_target() -> str:
    """The method that every compilation of a ``jit`` function passes through, as ``"module:Class.attribute"``.

    ``compile(self, method_name, *args, phase="", **kwargs)``.
    """
    return f"{_executor_module()}:_JitExecutor.compile"


def _executor() -> Any:
    """MindSpore's one compiler and runner of cells."""
    return importlib.import_module(_executor_module())._cell_graph_executor


def _own_phase_part(cell: mindspore.nn.Cell) -> str:
    """What the names of all of a cell's graphs contain: a deep copy inherits the names, not the graphs."""
    return f".{cell.create_time}.{id(cell)}."


def compiled_phases(cell: mindspore.nn.Cell) -> list[str]:
    """The names of the graphs that a cell holds, oldest first.

    A name is ``<phase>.<creation time>.<id of the cell>.<number of the argument signature>``; the numbers are
    given in the order in which signatures are first seen.
    """
    own = _own_phase_part(cell)
    numbered = ((phase.partition(own)[2], phase) for phase in cell.compile_cache if own in phase)
    return [phase for _, phase in sorted(numbered, key=lambda item: (len(item[0]), item))]


def phase_name(cell: mindspore.nn.Cell, phase: str) -> str:
    """The name that the cell's phase had, for example "train"."""
    return phase.partition(_own_phase_part(cell))[0]


def would_compile(cell: mindspore.nn.Cell, args: tuple, kwargs: dict) -> bool:
    """Whether calling ``cell.compile(*args, **kwargs)`` would compile a new graph. Compiles nothing."""
    executor = _executor()
    compile_args = cell._get_compile_args(args)
    broaden = getattr(cell, "enable_tuple_broaden", False)
    inner = executor._graph_executor
    executor.set_real_args(args, kwargs)
    inner.set_enable_tuple_broaden(broaden)
    key = str(inner.generate_arguments_key(cell, compile_args, kwargs, broaden))
    inner.clear_compile_arguments_resource()
    phase = f"{cell.phase}{_own_phase_part(cell)}{key}"
    return not any(p == phase or p.startswith(phase + ".") for p in cell.compile_cache)


def graph_inputs(cell: mindspore.nn.Cell, phase: str) -> dict[str, str]:
    """The inputs of a compiled graph of a cell, parameters left out: ``{"ids": "Int32[2, 8]"}``."""
    from mindspore.train import anf_ir_pb2

    model = anf_ir_pb2.ModelProto()
    model.ParseFromString(_executor()._graph_executor.get_func_graph_proto(phase, "anf_ir", False))
    parameters = {parameter.name for parameter in cell.get_parameters()}
    return {
        parameter.name: _proto_type_text(anf_ir_pb2, parameter.type)
        for parameter in model.graph.parameters
        if parameter.name not in parameters
    }


def _proto_type_text(schema: Any, kind: Any) -> str:
    """``Int32[2, 8]`` for a Tensor; the type's own name, as Int64, for a scalar."""
    tensor = kind.data_type == schema.DT_TENSOR
    name = schema.DataType.Name(kind.tensor_type.elem_type if tensor else kind.data_type)
    text = name.replace("DT_", "").capitalize()
    return f"{text}[{', '.join(str(dim.size) for dim in kind.tensor_type.shape.dim)}]" if tensor else text
