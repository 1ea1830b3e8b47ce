"""What a cell has compiled, why, and a bound on it.

MindSpore compiles silently, whenever a shape, a dtype or a Python value is new.
Here each compilation becomes a `Graph` with the argument that caused it and the
seconds it took; past a bound the next one is an error that says so before it starts.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Callable

from mindspore import Tensor, nn

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError

__all__ = [
    "Graph",
    "GraphLimitError",
    "RecompilationWarning",
    "argument_names",
    "bound_of",
    "called_through",
    "compiling_cell",
    "graphs",
    "limit_graphs",
    "recorded",
    "watch",
]

WARN_AFTER = 8
BUCKETING = "_ascend_fixes_bucketing"  # the attribute of a bucketed cell
COMPILES = "_ascend_fixes_compiles"  # of a wrapper: the cell that it calls, which holds the graphs
_LOG = "_ascend_fixes_graphs"


class GraphLimitError(AscendFixesError, RuntimeError):
    """A cell would compile one graph more than it may."""


class RecompilationWarning(UserWarning):
    """A cell compiles more graphs than is likely meant."""


@dataclass(frozen=True)
class Graph:
    """One compilation.

    Attributes:
        phase: "train", "predict" or the name the cell gave its phase.
        arguments: by construct's argument name, ``Int32[16, 24]`` for a Tensor, else the value itself as text.
            Where nobody watched the compilation: the graph's own inputs, by their names in the graph.
        seconds: what the compilation took; None where nobody watched.
        reason: "first graph", or what differs from the most similar graph compiled before.
    """

    phase: str
    arguments: dict[str, str]
    seconds: float | None
    reason: str


@dataclass
class _Log:
    """The compilations of one cell that were watched, and the bound on them."""

    entries: dict[str, Graph] = field(default_factory=dict)
    shapes: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    limit: int | None = None
    advice: str = ""
    warned: bool = False
    recording: bool = False
    asked: tuple[tuple, dict] = ((), {})  # the arguments of the compilation that is being recorded
    callers: list[_Log] = field(default_factory=list)  # of the wrappers through which the cell is being called

    def __deepcopy__(self, memo: dict) -> _Log:
        """A copied cell starts without graphs, under the same bound."""
        return _Log(limit=self.limit, advice=self.advice)


def graphs(cell: nn.Cell) -> list[Graph]:
    """The graphs that ``cell`` holds, in the order of their compilation.

    Cells that are bucketed, limited, or were called under ``patch("shapes")`` know the reason and the seconds of
    each; of others only the inputs can be read back.
    """
    log, inner = _log_of(cell), compiling_cell(cell)
    phases = _mindspore.compiled_phases(inner)
    watched = [graph for phase, graph in log.entries.items() if phase in phases]
    if inner is not cell:
        return watched
    return [_unwatched(cell, phase) for phase in phases if phase not in log.entries] + watched


def limit_graphs(cell: nn.Cell, n: int | None, advice: str = "") -> nn.Cell:
    """Make ``cell`` raise `GraphLimitError` before it compiles graph ``n + 1``. Returns ``cell``.

    Graphs that it holds already count; of a bucketed cell those that were run through it, not through the cell inside.
    ``n=None`` takes the bound away and keeps the record.

    Args:
        cell: any cell, called directly; sub-cells are part of its graph.
        n: the bound, at least 1.
        advice: a remedy to end the error with, in place of the general one.
    """
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise GraphLimitError(f"n={n!r} is no number of graphs; pass a positive integer, or None to lift the bound")
    log = _log_of(cell)
    log.limit, log.advice = n, advice
    watch(cell)
    return cell


def bound_of(cell: nn.Cell) -> int | None:
    """How many graphs `limit_graphs` lets a cell compile; None for any number."""
    return _log_of(cell).limit


def watch(cell: nn.Cell) -> None:
    """Record what ``cell`` compiles from now on, and why; a bound that it has stays."""
    cell = compiling_cell(cell)
    if not isinstance(cell.__dict__.get("compile"), _InstanceCompile):
        object.__setattr__(cell, "compile", _InstanceCompile(cell))
        object.__setattr__(cell, "check_names", _InstanceCheck(cell))


@contextlib.contextmanager
def called_through(wrapper: nn.Cell) -> Iterator[None]:
    """Inside, what the cell in ``wrapper`` compiles is recorded for, and bounded by, the wrapper too."""
    callers = _log_of(compiling_cell(wrapper)).callers
    callers.append(_log_of(wrapper))
    try:
        yield
    finally:
        callers.pop()


def compiling_cell(cell: nn.Cell) -> nn.Cell:
    """The cell whose graphs a call of ``cell`` compiles and runs: the one inside of a wrapper."""
    return getattr(cell, COMPILES, cell)


def argument_names(cell: nn.Cell) -> tuple[list[str], bool]:
    """construct's argument names, and whether more positional arguments may follow.

    A training cell that only passes ``*inputs`` on takes the names of the network it trains.
    """
    parameters = inspect.signature(_unwrapped(cell).construct).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names, any(p.kind is p.VAR_POSITIONAL for p in parameters)


def recorded(compile: Callable[..., Any], warn: bool = False) -> Callable[..., Any]:
    """``nn.Cell.compile`` that keeps the record, holds the bound and, if ``warn``, warns once per cell."""

    @functools.wraps(compile)
    def wrapper(self: nn.Cell, *args: Any, **kwargs: Any) -> Any:
        return _record(compile, self, args, kwargs, warn)

    return wrapper


def _record(compile: Callable[..., Any], cell: nn.Cell, args: tuple, kwargs: dict, warn: bool) -> Any:
    log = _log_of(cell)
    if log.recording:
        return compile(cell, *args, **kwargs)
    log.recording = True
    try:
        return _recorded_compile(compile, cell, log, args, kwargs, warn)
    finally:
        log.recording, log.asked = False, ((), {})


class _InstanceCompile:
    """The ``compile`` of one watched cell. An object, not a closure: a deep copy of the cell gets its own."""

    def __init__(self, cell: nn.Cell):
        self.cell = cell

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _record(type(self.cell).compile, self.cell, args, kwargs, warn=False)


class _InstanceCheck:
    """The ``check_names`` of one watched cell: MindSpore calls it where a graph is missing, just before it compiles."""

    def __init__(self, cell: nn.Cell):
        self.cell = cell

    def __call__(self) -> None:
        log = _log_of(self.cell)
        if log.recording:
            for one in (log, *log.callers):
                _hold(self.cell, one, *log.asked)
        type(self.cell).check_names(self.cell)


def _recorded_compile(
    compile: Callable[..., Any], cell: nn.Cell, log: _Log, args: tuple, kwargs: dict, warn: bool
) -> Any:
    # This runs at every step: little is looked at unless something compiles.
    before = len(cell.compile_cache)
    log.asked = (args, kwargs)
    start = time.perf_counter()
    result = compile(cell, *args, **kwargs)
    if len(cell.compile_cache) > before:
        for one in (log, *log.callers):
            _enter(cell, one, args, kwargs, time.perf_counter() - start)
        held = _held(cell, log)
        if warn and not log.warned and held > WARN_AFTER:
            log.warned = True
            latest = list(log.entries.values())[-1]
            warnings.warn(
                f"{_name(cell)} has compiled {held} graphs "
                f"({sum(graph.seconds or 0 for graph in log.entries.values()):.1f} s); the last because "
                f"{latest.reason}. {_remedy(cell, log, args, kwargs)}",
                RecompilationWarning,
                stacklevel=4,
            )
    for caller in log.callers:
        if _mindspore.latest_phase(cell) not in caller.entries:
            _enter(cell, caller, args, kwargs, None)
    return result


def _held(cell: nn.Cell, log: _Log) -> int:
    """How many graphs of ``cell`` count for a bound."""
    phases = _mindspore.compiled_phases(cell)
    return len(phases) if log is _log_of(cell) else sum(phase in log.entries for phase in phases)


def _hold(cell: nn.Cell, log: _Log, args: tuple, kwargs: dict) -> None:
    """Raise where the graph that is about to be compiled would pass the bound."""
    held = _held(cell, log)
    if log.limit is not None and held >= log.limit:
        _mindspore.abandon_compilation()
        raise GraphLimitError(
            f"{_name(cell)} would compile graph {held + 1} of at most {log.limit}: {_explain(cell, log, args, kwargs)}"
        )


def _enter(cell: nn.Cell, log: _Log, args: tuple, kwargs: dict, seconds: float | None) -> None:
    """Note the graph for these arguments; ``seconds`` None where the cell had it before."""
    arguments, shapes = _describe(cell, args, kwargs)
    reason = _difference(log, arguments) or "first graph"
    phase = _mindspore.latest_phase(cell)
    log.entries[phase] = Graph(_mindspore.phase_name(cell, phase), arguments, seconds, reason)
    log.shapes[phase] = shapes


def _name(cell: nn.Cell) -> str:
    """The class of the user's own cell: wrappers pass construct's arguments on."""
    return type(_unwrapped(cell)).__name__


def _unwrapped(cell: nn.Cell) -> nn.Cell:
    """The first cell inwards that names its arguments, where the outer ones only pass ``*inputs`` on."""
    while True:
        parameters = inspect.signature(cell.construct).parameters.values()
        if not parameters or any(p.kind is not p.VAR_POSITIONAL and p.kind is not p.VAR_KEYWORD for p in parameters):
            return cell
        inner = next((c for c in map(cell.name_cells().get, ("cell", "network", "net")) if c is not None), None)
        if inner is None:
            return cell
        cell = inner


def _log_of(cell: nn.Cell) -> _Log:
    log = cell.__dict__.get(_LOG)
    if log is None:
        log = _Log()
        object.__setattr__(cell, _LOG, log)
    return log


def _unwatched(cell: nn.Cell, phase: str) -> Graph:
    return Graph(_mindspore.phase_name(cell, phase), _mindspore.graph_inputs(cell, phase), None, "not watched")


# --- saying why ---------------------------------------------------------------------------------


def _describe(cell: nn.Cell, args: tuple, kwargs: dict) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Every argument as text, and the shapes of those that are Tensors, by name."""
    names, _ = argument_names(cell)
    args = cell.get_inputs() or args  # those of a dynamic graph
    named = {(names[i] if i < len(names) else f"argument {i}"): value for i, value in enumerate(args)}
    named.update(kwargs)
    shapes = {name: tuple(value.shape) for name, value in named.items() if isinstance(value, Tensor)}
    return {name: _text(value) for name, value in named.items()}, shapes


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype}[{', '.join('?' if length < 0 else str(length) for length in value.shape)}]"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_text(item)}" for key, item in value.items()) + "}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _nearest(log: _Log, arguments: dict[str, str]) -> Graph | None:
    """The latest of the graphs that share most arguments with these."""
    shared = [
        (sum(graph.arguments.get(n) == t for n, t in arguments.items()), i, graph)
        for i, graph in enumerate(log.entries.values())
    ]
    return max(shared, key=lambda item: item[:2])[2] if shared else None


def _difference(log: _Log, arguments: dict[str, str]) -> str:
    """``argument 'ids' changed from Int32[2, 8] to Int32[2, 9]``; "" before the first graph."""
    nearest = _nearest(log, arguments)
    if nearest is None:
        return ""
    names = dict.fromkeys([*arguments, *nearest.arguments])
    changed = [
        f"argument {name!r} changed from {nearest.arguments.get(name, 'absent')} to {arguments.get(name, 'absent')}"
        for name in names
        if nearest.arguments.get(name) != arguments.get(name)
    ]
    return "; ".join(changed) or "the phase or a setting of the cell changed"


def _explain(cell: nn.Cell, log: _Log, args: tuple, kwargs: dict) -> str:
    arguments, _ = _describe(cell, args, kwargs)
    reason = _difference(log, arguments) or f"called with {arguments}"
    return f"{reason}. {_remedy(cell, log, args, kwargs)}"


def _remedy(cell: nn.Cell, log: _Log, args: tuple, kwargs: dict) -> str:
    """What would have avoided this graph: the bucket that holds the new shape, or a Tensor for a Python value."""
    inside = next((n for n, inner in cell.cells_and_names() if n and BUCKETING in inner.__dict__), None)
    if inside is not None and BUCKETING not in cell.__dict__:
        return (
            f"Its sub-cell {inside!r} is bucketed, which pads only when it is called itself: bucket the outermost cell"
        )
    arguments, shapes = _describe(cell, args, kwargs)
    if not log.entries:
        return "Pad the inputs to few sizes with shapes.bucketed"
    # The entry just made may be this very call's.
    past = {phase: graph for phase, graph in log.entries.items() if graph.arguments != arguments}
    for name, text in arguments.items():
        if any(graph.arguments.get(name) == text for graph in past.values()):
            continue
        if name not in shapes:
            return f"Pass {name!r} as a Tensor or mindspore.mutable: a Python value is part of the graph"
        if log.advice:
            return log.advice
        holding = _holding(name, shapes[name], [log.shapes.get(phase, {}) for phase in past])
        if holding:
            return f"The graph compiled for {name!r} {list(holding)} would have held it: pad with shapes.bucketed"
        return f"No compiled size of {name!r} holds {list(shapes[name])}: add a bucket for it with shapes.bucketed"
    return log.advice or "Pad the inputs to few sizes with shapes.bucketed"


def _holding(name: str, shape: tuple[int, ...], past: list) -> tuple[int, ...] | None:
    """The smallest shape compiled for this argument into which ``shape`` fits."""
    fits = [
        shapes[name]
        for shapes in past
        if len(shapes.get(name, ())) == len(shape) and all(a >= b for a, b in zip(shapes[name], shape))
    ]
    return min(fits, default=None)
