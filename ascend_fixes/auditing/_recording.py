"""What a cell does, operation by operation: every call and every arithmetic operation of a run, with what went in and out.

The run is one of copies whose methods report (`ascend_fixes.amp` instruments them), so places are those of the user's own
source. Every result is waited for: an error is raised where its operation stands.
"""

from __future__ import annotations

import ast
import os
import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, ClassVar

from mindspore import Tensor, nn
from mindspore.ops import Primitive

from ascend_fixes.amp import _sites as sites
from ascend_fixes.amp import autocast
from ascend_fixes.auditing._subject import Subject, leaves_of
from ascend_fixes.tensors import tensors_in

__all__ = ["Event", "Recording", "looked_up", "record"]

_THEIRS = str(Path(nn.__file__).parents[1]) + os.sep


@dataclass(frozen=True)
class Event:
    """One operation that was run.

    Attributes:
        operator: the operator's name, "Add", "Softmax", "exp"; of a cell its class.
        cell: the path of the cell whose method calls it.
        source: file and line, of the caller outside of MindSpore.
        text: the operation's source there.
        args, kwargs, result: what went in and came out; result None where it failed.
        is_cell: a cell was called, whose own operations are events too.
        run: does it again; the Tensor whose method it is comes first in ``args``.
    """

    operator: str
    cell: str
    source: str
    text: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any
    is_cell: bool
    run: Callable[..., Any]

    @property
    def inputs(self) -> list[Tensor]:
        """The Tensors that went in."""
        return list(tensors_in((self.args, dict(self.kwargs))))

    @property
    def outputs(self) -> list[Tensor]:
        """The Tensors that came out."""
        return list(tensors_in(self.result))


@dataclass
class Recording:
    """The events in the order of their ends, the output, and the event that failed with its error."""

    events: list[Event] = field(default_factory=list)
    output: Any = None
    failed: Event | None = None
    error: Exception | None = None
    stack: list[sites.Site] = field(default_factory=list)

    def call(self, path: str, site: sites.Site, callee: Any, args: tuple, kwargs: dict, run: Callable) -> Any:
        """Run an operation and note it."""
        place = next((one for one in (site, *reversed(self.stack)) if not one.file.startswith(_THEIRS)), site)
        self.stack.append(site)
        receiver = (callee.__self__,) if isinstance(getattr(callee, "__self__", None), Tensor) else ()

        def event(result: Any) -> Event:
            source = f"{os.path.basename(place.file)}:{place.line}"
            cell = isinstance(callee, nn.Cell)
            again = getattr(type(receiver[0]), callee.__name__) if receiver else run
            return Event(_name(callee, site), path, source, place.text, (*receiver, *args), kwargs, result, cell, again)

        try:
            result = run(*args, **kwargs)
            for value in tensors_in(result):
                value.asnumpy()  # errors come late otherwise
        except Exception as error:
            if self.error is None:
                self.failed, self.error = event(None), error
            raise
        finally:
            self.stack.pop()
        self.events.append(event(result))
        return result


def record(cell: nn.Cell, inputs: Sequence[Any], policy: Any = None) -> Recording:
    """Run a cell in PyNative mode, under a policy where one is given, and note every operation. Its errors are kept."""
    cell.check_names_and_refresh_name()
    recording = Recording()
    copy = sites.instrumented(cell, _Edit, lambda inner, path: {"audit_record": _At(recording, path)})
    try:
        recording.output = (copy if policy is None else autocast(copy, policy))(*inputs)
        for value in tensors_in(recording.output):
            value.asnumpy()
    except Exception as error:
        recording.error = recording.error or error
    return recording


_LOOKUP = re.compile(r"gather|embedding|lookup|index_?select|getitem|take", re.I)


def looked_up(subject: Subject, recording: Recording) -> frozenset[str]:
    """The names of the integer arrays among the inputs that are indices of a table: a value beyond it may end the process.

    A subscript is no event, so those that no operation takes are among them.
    """
    made = {
        id(value): {name}
        for name, value in leaves_of(subject.names, subject.inputs)
        if isinstance(value, Tensor) and not value.is_floating_point()
    }
    found = set().union(*made.values())
    for event in recording.events:
        if not event.is_cell:
            found -= set().union(*(made.get(id(value), ()) for value in event.inputs))
    for event in recording.events:
        names = set().union(*(made.get(id(value), ()) for value in event.inputs))
        if names and _LOOKUP.search(event.operator):
            found |= names
        elif names and not event.is_cell:
            for value in event.outputs:
                if not value.is_floating_point():
                    made[id(value)] = made.get(id(value), set()) | names
    return frozenset(found)


def _name(callee: Any, site: sites.Site) -> str:
    if isinstance(callee, Primitive):
        return callee.name
    if isinstance(callee, nn.Cell):
        return type(callee).__name__
    return sites.SYMBOLS.get(site.callee) or str(getattr(callee, "__name__", site.callee))


@dataclass(frozen=True)
class _At:
    """The recording, as one cell's copy sees it."""

    recording: Recording
    path: str

    def __deepcopy__(self, memo: dict) -> _At:
        return self


def _recorded(self: Any, method: str, number: int, callee: Any, *args: Any, **kwargs: Any) -> Any:
    """What the rewritten methods call operations through."""
    at, run = self.audit_record, callee
    if isinstance(callee, types.MethodType) and isinstance(callee.__self__, nn.Cell):
        return callee(*args, **kwargs)  # a method of the cell's own, whose operations are events
    if isinstance(callee, nn.Cell) and not isinstance(callee, sites.CONTAINERS) and not hasattr(callee, "audit_record"):
        run = sites.instrumented(callee, _Edit, lambda inner, path: {"audit_record": at})  # made by the method itself
    return at.recording.call(at.path, self.operation_sites[method][number], callee, args, kwargs, run)


class _Edit(sites.CallEdit):
    """Sends every operation through `_recorded`, an assignment to elements, ``x[i] = y``, too."""

    methods: ClassVar[dict] = {"recorded_call": _recorded}

    def visit_Assign(self, node: ast.Assign) -> Any:
        target = node.targets[0]
        if len(node.targets) > 1 or not isinstance(target, ast.Subscript):
            return self.generic_visit(node)
        self.texts[id(node)] = ast.unparse(node)
        place = ast.Constant(self.name), ast.Constant(self.site(node))
        # A function around it: what stands in the brackets may be slices, which are no arguments.
        inside = ast.Subscript(ast.Name("left_", ast.Load()), target.slice, ast.Store())
        body = [ast.Assign([inside], ast.Name("right_", ast.Load())), ast.Return(ast.Name("left_", ast.Load()))]
        taken = ast.arguments([], [ast.arg("left_"), ast.arg("right_")], None, [], [], None, [])
        call = self.call(
            "recorded_call", *place, ast.Name("setitem_", ast.Load()), self.visit(target.value), self.visit(node.value)
        )
        return [ast.copy_location(one, node) for one in (ast.FunctionDef("setitem_", taken, body, []), ast.Expr(call))]
