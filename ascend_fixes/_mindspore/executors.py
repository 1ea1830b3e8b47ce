"""MindSpore's compilers of cells and of jit functions: where every compilation passes, and what a cell holds compiled.

The module that holds them moved in 2.9.
"""

from __future__ import annotations

import contextlib
import importlib
import types
from collections.abc import Iterator
from typing import Any

import mindspore

from ascend_fixes._mindspore.versions import version

__all__ = [
    "CELL_COMPILE_OPTIONS",
    "abandon_compilation",
    "cell_compile_target",
    "compilation_targets",
    "compiled_part",
    "compiled_phases",
    "compiles_cells",
    "dynamic_inputs",
    "eager_gradient_target",
    "has_compiled_anything",
    "has_jit_graph",
    "is_mutable",
    "jit_call_target",
    "jit_compile_target",
    "jit_options",
    "jit_phases",
    "jit_subject",
    "latest_phase",
    "parsed_method",
    "phase_name",
    "synchronous",
    "taking_gradients",
    "under_jit",
]


def _executor_module() -> str:
    """The module that holds MindSpore's graph executors: it moved in 2.9."""
    return "mindspore.graph.api" if version() >= (2, 9) else "mindspore.common.api"


def is_mutable(value: Any) -> bool:
    """Whether `mindspore.mutable` has made an argument an input of the graph, where it would be a constant."""
    return hasattr(value, "__ms_mutable__")


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


CELL_COMPILE_OPTIONS = ("phase", "do_convert", "jit_config_dict")
"""What `cell_compile_target` takes by name besides construct's own arguments."""


def compiles_cells(executor: Any, subject: Any) -> bool:
    """Whether one of the C++ executors compiles a cell as such, not a function or a method under ``jit``."""
    return isinstance(subject, mindspore.nn.Cell) and type(executor).__name__ == "GraphExecutor_"


def parsed_method(subject: Any) -> str:
    """The method of a cell or object that is compiled, or was compiled last; "" for a function."""
    return "" if isinstance(subject, types.FunctionType) else getattr(subject, "__parse_method__", "construct")


def compiled_part(callable_: Any) -> tuple[Any, str]:
    """What MindSpore compiles when ``callable_`` is called, and the method of it: as hooks see it.

    A cell, ``(cell, "construct")``; the function under ``jit``, ``(function, "")``; the object of a method under ``jit``,
    ``(object, "method")``. ``jit`` takes an attribute of the first argument that has the function's own name for a method.
    """
    if isinstance(callable_, mindspore.nn.Cell):
        return callable_, "construct"
    function = under_jit(callable_)
    if function is None:
        raise TypeError(f"{callable_!r} is neither a cell nor a function under mindspore.jit")
    owner = getattr(callable_, "__self__", None)
    return (function, "") if owner is None else (owner, function.__name__)


def under_jit(callable_: Any) -> Any:
    """The function that `mindspore.jit` was given, of what it made of it; None for anything else.

    It may itself be under ``jit``, as what `mindspore.grad` returns is.
    """
    wrapper = _jit_wrapper(callable_)
    return None if wrapper is None else wrapper.__wrapped__


def _jit_wrapper(callable_: Any) -> Any:
    """The function that `mindspore.jit` made, where others may have wrapped it again; None where there is none."""
    callable_ = getattr(callable_, "__func__", callable_)
    while callable_ is not None and _JIT_TIME not in getattr(getattr(callable_, "__code__", None), "co_freevars", ()):
        callable_ = getattr(callable_, "__wrapped__", None)
    return callable_


_JIT_TIME = "hash_obj"  # the variable that only jit's wrapper holds: when it was made, as graphs' names contain it


def jit_phases(callable_: Any) -> list[str]:
    """The names of the graphs that this process holds of a function or bound method under `mindspore.jit`.

    A name is ``<module>.<function>.<file>.<line>[.grad].<when jit was applied, or of a cell's method when the cell was
    made and its phase>[.<id of the object>].<number of the argument signature>``.
    """
    function = under_jit(callable_)
    if function is None:
        return []
    code, owner = function.__code__, getattr(callable_, "__self__", None)
    start = f"{function.__module__}.{function.__name__}.{code.co_filename}.{code.co_firstlineno}."
    mark = f".{id(owner)}." if owner is not None else f".{_jit_time(callable_)}."
    known = importlib.import_module(_executor_module()).ms_compile_cache
    found = [phase for phase in known if phase.startswith(start) and mark in phase[len(start) - 1 :]]
    return sorted(found, key=lambda phase: (len(phase), phase))


def _jit_time(callable_: Any) -> Any:
    """When `mindspore.jit` was applied: what tells graphs of functions that share their code apart."""
    wrapper = _jit_wrapper(callable_)
    return wrapper.__closure__[wrapper.__code__.co_freevars.index(_JIT_TIME)].cell_contents


def has_jit_graph(phase: str) -> bool:
    """Whether this process still holds the graph of a jit function with this name."""
    return phase in importlib.import_module(_executor_module()).ms_compile_cache


def jit_subject(executor: Any) -> Any:
    """What a jit executor compiles: the object whose method is under ``jit``, or the function."""
    return executor.fn if executor.obj is None else executor.obj


def jit_options(executor: Any) -> dict[str, Any]:
    """The ``jit`` options of a jit executor."""
    return executor.jit_config_dict or {}


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
    """The name that the cell's phase had, for example "train"; "" for the graph of a method under ``jit``."""
    name, own, _ = phase.partition(_own_phase_part(cell))
    return name if own else ""


def abandon_compilation(executor: Any, subject: Any) -> None:
    """Let go of what was prepared for a compilation by this executor that will not take place.

    Every later call sets anew what was set until then.
    """
    executor.clear_compile_arguments_resource()
    if isinstance(subject, types.FunctionType):
        vars(subject).pop("__jit_function__", None)  # what marks a function while it is compiled


def has_compiled_anything() -> bool:
    """Whether this process holds a compiled graph."""
    module = importlib.import_module(_executor_module())
    return bool(module.ms_compile_cache) or any(module.cells_compile_cache.values())


def _settle() -> None:
    """Wait for the operations that PyNative mode has sent off. What one of them failed with, if nobody was told, rises here."""
    importlib.import_module(_executor_module())._pynative_executor.sync()


@contextlib.contextmanager
def synchronous() -> Iterator[None]:
    """What fails inside rises inside, and nothing of it at a later operation, where PyNative mode might tell it again."""
    try:
        yield
        _settle()
    except BaseException:
        with contextlib.suppress(Exception):  # the same once more, or what came of it
            _settle()
        raise


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
