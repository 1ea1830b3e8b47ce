"""Finding the marked cells and functions that a graph will contain, before it is compiled.

A cell's graph contains its sub-cells. A function's graph contains what the
function can name: its closure, its globals, the object it is a method of, the
function that a transformation such as ``mindspore.grad`` was given. More may be
reached than is called; then an operator is kept out of fusion that could have
stayed in, which costs speed and never correctness.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from types import FunctionType, MethodType
from typing import Any

from mindspore import nn

__all__ = ["marks", "reachable"]

_FOREIGN = ("mindspore", "numpy")


def marks(roots: Iterable[Any], attribute: str) -> list[tuple[str, tuple[str, ...]]]:
    """Every value of ``attribute`` among what the roots reach, with the name of its owner."""
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for item in reachable(roots):
        value = getattr(item, attribute, None)
        if value:
            name = getattr(item, "__qualname__", type(item).__name__)
            found[name, value] = None
    return list(found)


def reachable(roots: Iterable[Any]) -> Iterator[Any]:
    """Cells and functions that the roots contain or name, each once."""
    seen: set[int] = set()
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, (nn.Cell, FunctionType)):
            yield item
        waiting.extend(_named_by(item))


def _named_by(item: Any) -> Iterable[Any]:
    if isinstance(item, nn.Cell):
        return [*item.cells(), *_construct_names(item)]
    if isinstance(item, MethodType):
        return (item.__self__, item.__func__)
    if isinstance(item, functools.partial):
        return (item.func, *item.args, *item.keywords.values())
    if isinstance(item, (list, tuple)):
        return item
    if isinstance(item, dict):
        return item.values()
    if isinstance(item, FunctionType):
        return _function_names(item)
    return ()


def _construct_names(cell: nn.Cell) -> list[Any]:
    """Cells and functions that the method to be compiled names besides the sub-cells."""
    method = getattr(type(cell), getattr(cell, "__parse_method__", None) or "construct", None)
    return _function_names(method) if isinstance(method, FunctionType) else []


def _function_names(function: FunctionType) -> list[Any]:
    named = [function.__wrapped__] if hasattr(function, "__wrapped__") else []
    for part in function.__closure__ or ():
        try:
            named.append(part.cell_contents)
        except ValueError:  # not filled yet: a function that is still being defined
            continue
    if (function.__module__ or "").partition(".")[0] in _FOREIGN:
        return named  # MindSpore's own globals lead nowhere; what it was given is in the closure
    candidates = (function.__globals__.get(name) for name in function.__code__.co_names)
    return named + [value for value in candidates if isinstance(value, (nn.Cell, FunctionType, MethodType))]
