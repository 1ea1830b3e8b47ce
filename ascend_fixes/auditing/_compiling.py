"""What makes new graphs: Python values, containers and functions among the arguments; loops that unroll; shapes that depend on values.

Only what the arguments or the number of operations give reason to suspect is compiled.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mindspore
import numpy as np
from mindspore import Tensor

from ascend_fixes import _mindspore, shapes
from ascend_fixes.auditing import _kinds as kinds
from ascend_fixes.auditing._looking import Cleared, Finding, Look, Unknown, hazard
from ascend_fixes.auditing._recording import Event, Recording, record
from ascend_fixes.auditing._running import settled
from ascend_fixes.auditing._subject import COMPILED_ONLY, Subject, rebuilt
from ascend_fixes.errors import first_line

__all__ = ["COMPILING"]

_KINDS = (
    "recompile-scalar",
    "recompile-container",
    "recompile-dict",
    "recompile-function",
    "unrolled-recurrence",
    "value-dependent-shape",
)


def look(subject: Subject) -> Iterator[Finding]:
    """Call it with other values of the same shapes, and at another length; then compile what has to be measured."""
    settled(subject)
    if subject.runs == COMPILED_ONLY:
        yield Unknown("value-dependent-shape", "it runs compiled only: single operations are not seen")
        loops = _between(subject)
    else:
        plain = record(subject.cell, subject.inputs)
        yield from _value_dependent(subject, plain)
        loops = _growing(subject, plain)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    yield from _arguments(subject)
    yield from _function(subject)
    yield from _unrolled(subject, loops)


# --- shapes that depend on values -----------------------------------------------------------------


def _value_dependent(subject: Subject, plain: Recording) -> Iterator[Finding]:
    kind = "value-dependent-shape"
    if plain.error is not None:
        yield Unknown(kind, f"it could not be run operation by operation: {plain.error}")
        return
    found = False
    for event, shapes_seen in _differing(subject, plain):
        found = True
        yield hazard(
            kind,
            kinds.DIFFERED,
            "the shape is known only when the values are: no static graph on a device holds it",
            f"{event.text}: {' and '.join(map(str, shapes_seen))} for inputs of the same shapes",
            "values, count = host.masked_select(x, mask, size, fill=0)  # host.nonzero, host.unique: a size that is always enough",
            operator=event.operator,
            cell=event.cell,
            source=event.source,
        )
        break  # what follows from it has such shapes too
    if not found:
        yield Cleared(kind, "the shapes of all operations stayed the same for other values")


def _differing(subject: Subject, plain: Recording) -> Iterator[tuple[Event, list[list[int]]]]:
    """Operations whose result has another shape when only values change."""
    runs = [plain, *(record(subject.cell, subject.with_arrays(_other_values(subject, seed))) for seed in (1, 2))]
    runs = [run for run in runs if run.error is None]
    for events in zip(*(run.events for run in runs)):
        first = events[0]
        if any(event.source != first.source for event in events):
            return  # another way through the code
        seen = [[list(value.shape) for value in event.outputs] for event in events]
        if any(one != seen[0] for one in seen) and not first.is_cell:
            yield first, [one[0] for one in seen if one]


def _other_values(subject: Subject, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    new = {}
    for name, array in subject.leaves.items():
        if array.size and array.dtype.kind in "iu":
            new[name] = random.permuted(array.reshape(-1)).reshape(array.shape)
        elif array.size and (array.dtype.kind == "b" or np.isin(array, (0, 1)).all()):
            flipped = random.integers(0, 2, array.shape).astype(array.dtype)
            flipped.reshape(-1)[0] = 1
            new[name] = flipped
        elif array.size:
            new[name] = (array[::-1] * random.uniform(-1, 1)).astype(array.dtype)
    return new


# --- arguments ------------------------------------------------------------------------------------


def _arguments(subject: Subject) -> Iterator[Finding]:
    """Arguments that are constants of the graph: each is called with another value, or made anew, and graphs are counted."""
    by_kind: dict[str, list[str]] = {}
    for name, value in zip(subject.names, subject.inputs):
        kind = _kind_of(value)
        if kind:
            by_kind.setdefault(kind, []).append(name)
    for kind, how in (
        ("recompile-scalar", "no argument is a Python value"),
        ("recompile-container", "no argument is a tuple or list of Tensors"),
        ("recompile-dict", "no argument is a dict of Tensors"),
    ):
        if kind not in by_kind:
            yield Cleared(kind, how)
            continue
        for name in by_kind[kind]:
            yield _called_again(subject, kind, name)


def _kind_of(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "recompile-scalar"
    if _mindspore.is_mutable(value):
        return ""
    if isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values()):
        return "recompile-dict"
    if isinstance(value, (tuple, list)) and any(isinstance(part, Tensor) for part in value):
        return "recompile-container"
    return ""


def _called_again(subject: Subject, kind: str, name: str) -> Finding:
    place = subject.names.index(name)
    other = _fresh(subject)
    if kind == "recompile-scalar":
        other[place] = other[place] + 1
    try:
        subject.cell(*_fresh(subject))
        before = len(shapes.graphs(subject.cell))
        start = time.perf_counter()
        subject.cell(*other)
        seconds = time.perf_counter() - start
    except Exception as error:
        return Unknown(kind, f"it could not be called again: {first_line(error)}")
    graphs = len(shapes.graphs(subject.cell))
    if graphs == before:
        return Cleared(kind, f"another {name!r} ran the same graph")
    what = "another value" if kind == "recompile-scalar" else "Tensors of the same shapes"
    return hazard(
        kind,
        kinds.DIFFERED,
        f"argument {name!r} is a constant of the graph: {'every new value' if kind == 'recompile-scalar' else 'every call'} compiles",
        f"called with {what} for {name!r}: {before} graphs became {graphs}, in {seconds:.1f} s",
        f"{name} = Tensor({name}, mindspore.int32)"
        if kind == "recompile-scalar"
        else f"{name} = mindspore.mutable({name})  # or shapes.bucketed, which does it",
    )


def _fresh(subject: Subject) -> list[Any]:
    """The inputs with every Tensor, and every container, made anew."""
    return rebuilt(subject.names, subject.inputs, lambda _, value: Tensor(value.asnumpy()).astype(value.dtype))


def _function(subject: Subject) -> Iterator[Finding]:
    kind, function = "recompile-function", subject.function
    if function is None:
        yield Unknown(kind, "what is audited is a cell; give the function under mindspore.jit itself")
        return
    try:
        held = len(shapes.graphs(function))
    except TypeError:
        yield Cleared(kind, "the function is not under mindspore.jit")
        return
    lengths = subject.lengths
    widths = [
        {name: own - less for name, own in lengths.items()}
        for less in (0, 1, 2)
        if min(lengths.values(), default=0) > less
    ]
    try:
        for width in widths:
            function(*subject.with_arrays(subject.resized(width)))
    except Exception as error:
        yield Unknown(kind, f"it could not be called at other widths: {first_line(error)}")
        return
    made = len(shapes.graphs(function)) - held
    if made < 2:
        yield Cleared(kind, f"{len(widths)} widths made {made} graph")
        return
    yield hazard(
        kind,
        kinds.DIFFERED,
        "the function compiles for every new shape",
        f"{len(widths)} widths made {made} graphs",
        "shapes.limit_graphs(function, 4)  # and pad its arguments to shapes.Buckets.fit(lengths, k=4)",
        operator=getattr(function, "__name__", ""),
    )


# --- loops that unroll ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loop:
    """Where operations grow with a length: the cell and line, operations and sizes at the shorter and the longer."""

    cell: str
    source: str
    operations: tuple[int, int]
    sizes: tuple[dict[str, int], dict[str, int]]


def _growing(subject: Subject, plain: Recording) -> _Loop | str:
    """The line at which more operations run at a greater length: at the subject's own beside half of it, or half as much again.

    Or why none was found: "" where the number stays the same.
    """
    if plain.error is not None:
        return f"it could not be run operation by operation: {plain.error}"
    why = ""
    stored: list[_Loop] = []
    for name, own in subject.lengths.items():
        for other in (own // 2, own + own // 2):
            if min(own, other) < 2:
                continue
            run = record(subject.cell, subject.with_arrays(subject.resized({name: other})))
            if run.error is not None:
                continue
            short, long = (run, plain) if other < own else (plain, run)
            few, many = (Counter((event.cell, event.source) for event in one.events) for one in (short, long))
            grown = [place for place in many if few[place] and many[place] - few[place] >= abs(own - other) - 1]
            if not grown:
                break
            cell, source = max(grown, key=lambda place: many[place])
            sizes = ({name: min(own, other)}, {name: max(own, other)})
            return _Loop(cell, source, (len(short.events), len(long.events)), sizes)
        else:
            why = f"it could not be run at another {name}, and no line runs as often as there are positions"
        stored += _repeating(plain, name, own)
    return max(stored, key=lambda loop: loop.operations[1]) if stored else why


def _between(subject: Subject) -> _Loop | str:
    """Two sizes to compile for, where no operation was counted."""
    for name, own in subject.lengths.items():
        return _Loop("", "", (0, 0), ({name: own}, {name: own + max(2, own // 2)}))
    return ""


_TIMES = range(1, 9)  # an operator of a step, or a few of them, in a layer that reads once or twice


def _repeating(plain: Recording, name: str, own: int) -> Iterator[_Loop]:
    """Lines that run as often as there are positions: of a length that is stored, or where another cannot be run."""
    often = Counter((event.cell, event.source, event.text, event.operator) for event in plain.events)
    for (cell, source, _, _), count in often.items():
        if own >= 6 and (count == own - 1 or count in (times * own for times in _TIMES)):
            yield _Loop(cell, source, (0, count), ({name: own}, {name: own}))


def _unrolled(subject: Subject, loop: _Loop | str) -> Iterator[Finding]:
    kind = "unrolled-recurrence"
    if not subject.axes:
        yield Unknown(kind, "no axis of the inputs is ragged, as far as their sizes tell; say which with axes=")
        return
    if isinstance(loop, str):
        yield Unknown(kind, loop) if loop else Cleared(kind, "as many operations run at another length")
        return
    short, long = (", ".join(f"{name} {size}" for name, size in sizes.items()) for sizes in loop.sizes)
    certainty = kinds.READ
    evidence = f"the line runs {loop.operations[1]} times at {long}, and its length is stored or cannot be another"
    if loop.sizes[0] != loop.sizes[1]:
        evidence = f"{loop.operations[0]} operations run at {short}, {loop.operations[1]} at {long}"
        measured = [_measured(subject, sizes) for sizes in loop.sizes]
        (fewer, quick), (more, slow) = measured
        if fewer and more:
            if more <= fewer * 1.15:
                yield Cleared(kind, f"the graph has {fewer} operators at {short}, and {more} at {long}")
                return
            certainty = kinds.DIFFERED
            evidence = f"the graph has {fewer} operators at {short} ({quick:.1f} s to compile), and {more} at {long} ({slow:.1f} s)"
        elif not loop.operations[1]:
            yield Unknown(kind, f"it does not compile at both {short} and {long}")
            return
    yield hazard(
        kind,
        certainty,
        "a loop over positions is unrolled: graph and compile time grow with the length",
        evidence,
        "self.rnn = fusion.GRU(input_size, hidden_size)  # one loop in the graph, whatever the length; or fusion.LSTM, AttentionGRU",
        cell=loop.cell,
        source=loop.source,
    )


def _measured(subject: Subject, sizes: Mapping[str, int]) -> tuple[int, float]:
    """Operators of the graph and seconds to compile at these sizes; (0, 0) where it fails."""
    start = time.perf_counter()
    try:
        subject.cell.compile(*subject.with_arrays(subject.resized(sizes)))
    except Exception:  # whatever the compiler says
        return 0, 0.0
    return len(_mindspore.whole_graph_operators(subject.cell)), time.perf_counter() - start


COMPILING = Look("compilation", _KINDS, look, needs=3.0, compiled=True)
