"""MindSpore's compilers of cells and of jit functions: where every compilation passes, and what a cell holds compiled.

The module that holds them moved in 2.9.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import mindspore

from ascend_fixes._mindspore.versions import version

__all__ = [
    "abandon_compilation",
    "cell_compile_target",
    "compilation_targets",
    "compiled_phases",
    "compiling_targets",
    "dynamic_inputs",
    "eager_gradient_target",
    "has_compiled_anything",
    "jit_call_target",
    "jit_compile_target",
    "latest_phase",
    "phase_name",
    "taking_gradients",
    "would_compile",
]


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


def jit_call_target() -> str:
    """The method that every call of a ``jit`` function passes through, as ``"module:Class.attribute"``."""
    return f"{_executor_module()}:_JitExecutor.__call__"


def eager_gradient_target() -> str:
    """Where PyNative mode compiles the backward graph of a ``jit`` function, as ``"module:Class.attribute"``.

    ``grad(self, obj, grad, weights, grad_position, *args)`` is called with the function whose gradient is taken.
    """
    return f"{_executor_module()}:_PyNativeExecutor.grad"


def compilation_targets() -> tuple[str, ...]:
    """The methods that run only where a graph is really compiled, as ``"module:Class.attribute"``.

    ``compile(self, obj, args, kwargs, phase, jit_config)``, where ``obj`` is the cell, the ``jit`` function, or the
    object whose method ``obj.__parse_method__`` is compiled. A wrapper of these costs a step nothing.
    """
    return ("mindspore._c_expression:GraphExecutor_.compile", "mindspore._c_expression:JitExecutor_.compile")


def compiling_targets() -> tuple[str, ...]:
    """The methods called when a compilation really starts, of cells and of jit functions.

    Each tells the compiler which source files the graph depends on, just before it compiles.
    """
    module = _executor_module()
    return tuple(f"{module}:{name}._set_compile_cache_dep_files" for name in ("_CellGraphExecutor", "_JitExecutor"))


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


def latest_phase(cell: mindspore.nn.Cell) -> str:
    """The name of the graph that a cell compiled, or looked up to run, last."""
    return cell.current_phase


def phase_name(cell: mindspore.nn.Cell, phase: str) -> str:
    """The name that the cell's phase had, for example "train"."""
    return phase.partition(_own_phase_part(cell))[0]


def would_compile(cell: mindspore.nn.Cell, args: tuple, kwargs: dict) -> bool:
    """Whether calling ``cell.compile(*args, **kwargs)`` would compile a new graph. Compiles nothing."""
    executor = _executor()
    compile_args = cell._get_compile_args(args)
    broaden = getattr(cell, "enable_tuple_broaden", False)
    inner = executor._graph_executor
    if hasattr(executor, "set_real_args"):  # 2.8 and later
        executor.set_real_args(args, kwargs)
    inner.set_enable_tuple_broaden(broaden)
    key = str(inner.generate_arguments_key(cell, compile_args, kwargs, broaden))
    inner.clear_compile_arguments_resource()
    phase = f"{cell.phase}{_own_phase_part(cell)}{key}"
    return not any(p == phase or p.startswith(phase + ".") for p in cell.compile_cache)


def abandon_compilation() -> None:
    """Let go of the arguments of a compilation that was begun and will not take place.

    Between looking for a graph and compiling it, MindSpore calls the cell's ``check_names``: what raises there keeps
    the graph from being compiled. Every later call of the cell sets anew what was set until then.
    """
    _executor()._graph_executor.clear_compile_arguments_resource()


def has_compiled_anything() -> bool:
    """Whether this process holds a compiled graph."""
    module = importlib.import_module(_executor_module())
    return bool(module.ms_compile_cache) or any(module.cells_compile_cache.values())


def taking_gradients() -> bool:
    """Whether a jit function would be compiled together with its gradient."""
    return bool(importlib.import_module(_executor_module())._pynative_executor.requires_grad())


@contextlib.contextmanager
def dynamic_inputs(cell: mindspore.nn.Cell, inputs: tuple) -> Iterator[None]:
    """Inside, calling ``cell`` compiles and runs the graph for ``inputs``, Tensors with unknown lengths among them.

    What `Cell.set_inputs` sets, which has no way back. Static graphs of the cell stay, and are found again after it.
    """
    before = cell._dynamic_shape_inputs
    cell._dynamic_shape_inputs = inputs
    try:
        yield
    finally:
        cell._dynamic_shape_inputs = before
