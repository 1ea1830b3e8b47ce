"""What a cell or jit function has compiled, why, and a bound on it.

MindSpore compiles silently, whenever a shape, a dtype or a Python value is new.
Here each compilation becomes a `Graph` with the argument that caused it and the
seconds it took; past a bound the next one is an error that says so before it starts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mindspore import nn

from ascend_fixes import _mindspore, compiling
from ascend_fixes.compiling import Compilation, Hook
from ascend_fixes.errors import AscendFixesError, warn
from ascend_fixes.shapes._ragged import CellTypeError
from ascend_fixes.shapes._reasons import BUCKETING, Arguments, described, difference, name_of, remedy

__all__ = [
    "COMPILES",
    "PARTS",
    "RECORD",
    "WARN",
    "WARN_AFTER",
    "Graph",
    "GraphLimitError",
    "RecompilationWarning",
    "bound_of",
    "call_through",
    "compiling_cell",
    "graphs",
    "is_bucketed",
    "limit_graphs",
    "watch",
]

WARN_AFTER = 8
COMPILES = "_ascend_fixes_compiles"  # of a wrapper's class: the cell that it calls, which holds the graphs
PARTS = "_ascend_fixes_parts"  # of a bucketed cell that has another cell for every size: those cells
_LOG = "_ascend_fixes_graphs"  # of a cell, a function, or an object whose method is compiled

Callee = TypeVar("Callee")


class GraphLimitError(AscendFixesError, RuntimeError):
    """A cell or jit function would compile one graph more than it may."""


class RecompilationWarning(UserWarning):
    """A cell or jit function compiles more graphs than is likely meant."""


@dataclass(frozen=True)
class Graph:
    """One compilation.

    Attributes:
        phase: "train", "predict" or the name the cell gave its phase; "" for a jit function.
        arguments: by construct's argument name, ``Int32[16, 24]`` for a Tensor, else the value itself as text.
            Where nobody watched the compilation: the graph's own inputs, by their names in the graph; of a jit
            function nothing.
        seconds: what the compilation took; None where nobody watched.
        reason: "first graph", or what differs from the most similar graph compiled before.
    """

    phase: str
    arguments: dict[str, str]
    seconds: float | None
    reason: str


@dataclass
class _Log:
    """The compilations of one cell or jit function that were watched, and the bound on them."""

    entries: dict[str, Graph] = field(default_factory=dict)
    arguments: dict[str, Arguments] = field(default_factory=dict)
    limit: int | None = None
    advice: str = ""
    warned: bool = False
    watched: bool = False  # for a bound or by a wrapper, not only for the warning of cure S5
    callers: list[_Log] = field(default_factory=list)  # of the wrappers through which the cell is being called

    def __deepcopy__(self, memo: dict) -> _Log:
        """A copied cell starts without graphs, under the same bound."""
        return _Log(limit=self.limit, advice=self.advice, watched=self.watched)


def graphs(cell: Any) -> list[Graph]:
    """The graphs that a cell or jit function holds, in the order of their compilation.

    Those that are bucketed, limited, or were called under ``patch("shapes")`` know the reason and the seconds of
    each; of others only the inputs can be read back, and of a jit function only their number.

    Args:
        cell: a cell, a function under ``mindspore.jit``, or a bound method under it.

    Raises:
        CellTypeError: it is none of these.
    """
    if PARTS in getattr(cell, "__dict__", {}):
        return [graph for part in vars(cell)[PARTS].values() for graph in graphs(part)]
    log, inner = _log_of(cell), compiling_cell(cell)
    phases = _phases(inner)
    watched = [graph for phase, graph in log.entries.items() if phase in phases]
    if inner is not cell:
        return watched
    return [_unwatched(cell, phase) for phase in phases if phase not in log.entries] + watched


def limit_graphs(cell: Callee, n: int | None, advice: str = "") -> Callee:
    """Make a cell or jit function raise `GraphLimitError` before it compiles graph ``n + 1``. Returns ``cell``.

    Graphs that it holds already count; of a bucketed cell those that were run through it, not through the cell inside.
    ``n=None`` takes the bound away and keeps the record.

    Args:
        cell: any cell, called directly (sub-cells are part of its graph); a function under ``mindspore.jit``, or a
            method under it, bound to its object. In PyNative mode the gradient of a jit function is a graph of its own.
        n: the bound, at least 1.
        advice: a remedy to end the error with, in place of the general one.

    Raises:
        GraphLimitError: ``n`` is no positive integer.
        CellTypeError: ``cell`` is nothing that MindSpore compiles.
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


def watch(cell: Any) -> None:
    """Record what a cell or jit function compiles from now on, and why; a bound that it has stays."""
    cell = compiling_cell(cell)
    log = _log_of(cell)
    log.watched = True
    if not isinstance(cell, nn.Cell):  # what it holds cannot be asked of the function when it compiles
        for phase in _phases(cell):
            log.entries.setdefault(phase, _unwatched(cell, phase))
    compiling.on_cell(cell, RECORD)


def call_through(wrapper: nn.Cell, args: tuple, kwargs: dict) -> Any:
    """Call the cell in ``wrapper``: what it compiles is recorded for, and bounded by, the wrapper too."""
    cell = wrapper.cell
    inner, log = compiling_cell(cell), _log_at(wrapper, "")
    callers = _log_at(inner, "").callers
    callers.append(log)
    try:
        output = cell(*args, **kwargs)
    finally:
        callers.pop()
    phase = _mindspore.latest_phase(inner)
    if phase not in log.entries:  # the cell had this graph before
        _enter(log, inner, phase, described(inner, args, kwargs), None)
    return output


def is_bucketed(subject: Any, method: str) -> bool:
    """Whether what is being compiled is called by a wrapper, or itself pads: its sizes are few on purpose."""
    return BUCKETING in getattr(subject, "__dict__", {}) or bool(_log_at(subject, method).callers)


def compiling_cell(cell: Any) -> Any:
    """The cell whose graphs a call of ``cell`` compiles and runs: the one inside of a wrapper."""
    inside = getattr(type(cell), COMPILES, None)  # of the class: cells take long to say that they lack an attribute
    return cell if inside is None else inside.__get__(cell)


# --- hooks -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _recorded(compilation: Compilation) -> Iterator[None]:
    """Enter the graph in the subject's log, or refuse it where it would pass the bound."""
    if compilation.kind == "gradient" or compilation.phase.startswith("export"):  # not a graph that a call runs
        yield
        return
    subject, log = compilation.subject, _log_at(compilation.subject, compilation.method)
    arguments = described(subject, compilation.args, compilation.kwargs, compilation.method)
    logs = (log, *log.callers)
    for one in logs:
        _refuse_beyond_limit(one, log, subject, arguments)
    start = time.perf_counter()
    yield
    for one in logs:
        _enter(one, subject, compilation.phase, arguments, time.perf_counter() - start)


@contextlib.contextmanager
def _warned(compilation: Compilation) -> Iterator[None]:
    """Warn once per cell or jit function that compiles more graphs than is likely meant, and is not watched anyway."""
    yield
    subject, phase, log = compilation.subject, compilation.phase, _log_at(compilation.subject, compilation.method)
    if log.warned or log.watched or phase not in log.entries:
        return
    held = len(_counted(log, log, subject) | {phase})
    if held > WARN_AFTER:
        log.warned = True
        seconds = sum(graph.seconds or 0 for graph in log.entries.values())
        warn(
            f"{name_of(subject)} has compiled {held} graphs ({seconds:.1f} s); the last because "
            f"{log.entries[phase].reason}. {_remedy(log, subject, log.arguments[phase])}",
            RecompilationWarning,
        )


RECORD = Hook("record", _recorded, "records every graph and its reason")
WARN = Hook("warn", _warned, f"warns once per cell or function that compiles more than {WARN_AFTER} graphs")


def _refuse_beyond_limit(log: _Log, own: _Log, subject: Any, arguments: Arguments) -> None:
    """Raise where the graph that is about to be compiled would pass the bound."""
    if log.limit is None:
        return
    held = len(_counted(log, own, subject))
    if held >= log.limit:
        reason = difference(list(log.arguments.values()), arguments) or f"called with {arguments.texts}"
        raise GraphLimitError(
            f"{name_of(subject)} would compile graph {held + 1} of at most {log.limit}: "
            f"{reason}. {_remedy(log, subject, arguments)}"
        )


def _counted(log: _Log, own: _Log, subject: Any) -> set[str]:
    """The graphs of a subject that count for the bound of a log: all it holds, or those run through a wrapper."""
    compiled = set(_mindspore.compiled_phases(subject)) if isinstance(subject, nn.Cell) else set()
    noted = {phase for phase in log.entries if phase in compiled or _mindspore.has_jit_graph(phase)}
    return compiled | noted if log is own else noted


def _enter(log: _Log, subject: Any, phase: str, arguments: Arguments, seconds: float | None) -> None:
    """Note the graph for these arguments; ``seconds`` None where the cell had it before."""
    reason = difference(list(log.arguments.values()), arguments) or "first graph"
    log.entries[phase] = Graph(_phase_name(subject, phase), arguments.texts, seconds, reason)
    log.arguments[phase] = arguments


def _remedy(log: _Log, subject: Any, arguments: Arguments) -> str:
    return remedy(subject, list(log.arguments.values()), arguments, log.advice)


# --- logs ----------------------------------------------------------------------------------------


def _log_of(cell: Any) -> _Log:
    """The log of what is called: a cell, a wrapper of one, a jit function or a bound method under jit."""
    try:
        subject, method = _mindspore.compiled_part(cell)
        return _log_at(subject, method)
    except TypeError:
        raise CellTypeError(
            f"cell={cell!r} is nothing that MindSpore compiles; pass a cell, or what mindspore.jit returned"
        ) from None


def _log_at(subject: Any, method: str) -> _Log:
    """The log that lies on a cell, a function or an object."""
    name = _LOG if method in ("", "construct") else f"{_LOG}_{method}"
    attributes = vars(subject)
    if name not in attributes:
        return attributes.setdefault(name, _Log())
    return attributes[name]


def _phases(cell: Any) -> list[str]:
    """The names of the graphs that a cell or jit function holds, oldest first."""
    if not isinstance(cell, nn.Cell):
        return _mindspore.jit_phases(cell)
    own = _mindspore.compiled_phases(cell)
    by_jit = [phase for phase in _log_of(cell).entries if phase not in own and _mindspore.has_jit_graph(phase)]
    return own + by_jit  # where construct itself is under jit


def _phase_name(subject: Any, phase: str) -> str:
    return _mindspore.phase_name(subject, phase) if isinstance(subject, nn.Cell) else ""


def _unwatched(cell: Any, phase: str) -> Graph:
    inputs = _mindspore.graph_inputs(cell, phase) if isinstance(cell, nn.Cell) else {}
    return Graph(_phase_name(cell, phase), inputs, None, "not watched")
