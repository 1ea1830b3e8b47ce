"""Why a graph was compiled, and what would have avoided it: the arguments of a call, as text."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from mindspore import Tensor, nn

from ascend_fixes import _mindspore

__all__ = ["BUCKETING", "Arguments", "argument_names", "described", "difference", "name_of", "remedy"]

BUCKETING = "_ascend_fixes_bucketing"  # the attribute of a bucketed cell


@dataclass(frozen=True)
class Arguments:
    """What a graph was compiled for.

    Attributes:
        texts: by argument name, ``Int32[16, 24]`` for a Tensor, else the value.
        shapes: of those that are Tensors.
        constants: the containers that hold Tensors which are part of the graph by value: not ``mindspore.mutable``.
    """

    texts: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)


def described(subject: Any, args: Sequence[Any], kwargs: Any, method: str = "construct") -> Arguments:
    """The arguments of a cell, a function, or an object's method, by name."""
    names = _names(subject, method)
    if isinstance(subject, nn.Cell) and method == "construct":
        args = subject.get_inputs() or args  # those of a dynamic graph
    named = {(names[i] if i < len(names) else f"argument {i}"): value for i, value in enumerate(args)}
    named.update(kwargs)
    return Arguments(
        {name: _text(value) for name, value in named.items()},
        {name: tuple(value.shape) for name, value in named.items() if isinstance(value, Tensor)},
        {name: type(value).__name__ for name, value in named.items() if _is_constant_container(value)},
    )


def argument_names(cell: nn.Cell) -> tuple[list[str], bool]:
    """construct's argument names, and whether more positional arguments may follow.

    A training cell that only passes ``*inputs`` on takes the names of the network it trains.
    """
    parameters = inspect.signature(_unwrapped(cell).construct).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names, any(p.kind is p.VAR_POSITIONAL for p in parameters)


def name_of(subject: Any) -> str:
    """The class of the user's own cell, or the user's own function: wrappers pass their arguments on."""
    if isinstance(subject, FunctionType):
        subject = _written_by_user(subject)
    if isinstance(subject, FunctionType):
        return subject.__qualname__
    return type(_unwrapped(subject) if isinstance(subject, nn.Cell) else subject).__name__


def difference(past: Sequence[Arguments], arguments: Arguments) -> str:
    """``argument 'ids' changed from Int32[2, 8] to Int32[2, 9]``; "" before the first graph."""
    nearest = _nearest(past, arguments)
    if nearest is None:
        return ""
    old, new = nearest.texts, arguments.texts
    changed = [
        f"argument {name!r} changed from {old.get(name, 'absent')} to {new.get(name, 'absent')}"
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    ]
    changed = changed or [
        f"argument {name!r} is a {kind} of Tensors, whose values are part of the graph"
        for name, kind in arguments.constants.items()
    ]
    return "; ".join(changed) or "the phase or a setting of the cell changed"


def remedy(subject: Any, past: Sequence[Arguments], arguments: Arguments, advice: str = "") -> str:
    """What would have avoided this graph: the bucket that holds the new shape, or a Tensor for a Python value."""
    if isinstance(subject, nn.Cell) and BUCKETING not in subject.__dict__:
        inside = next((n for n, inner in subject.cells_and_names() if n and BUCKETING in inner.__dict__), None)
        if inside is not None:
            return (
                f"Its sub-cell {inside!r} is bucketed, which pads only when it is called itself: bucket the outermost "
                "cell"
            )
    if arguments.constants and any(one.texts == arguments.texts for one in past[:-1] or past):
        name, kind = next(iter(arguments.constants.items()))
        return f"Pass {name!r} as mindspore.mutable, or the Tensors in the {kind} as arguments of their own"
    how = (
        "with shapes.bucketed" if isinstance(subject, nn.Cell) else "before the call, or with shapes.bucketed in a cell"
    )
    if not past:
        return f"Pad the inputs to few sizes {how}"
    # The latest of them may be this very call's.
    others = [one for one in past if one.texts != arguments.texts]
    for name, text in arguments.texts.items():
        if any(one.texts.get(name) == text for one in others):
            continue
        if name not in arguments.shapes:
            return f"Pass {name!r} as a Tensor or mindspore.mutable: a Python value is part of the graph"
        if advice:
            return advice
        holding = _holding(name, arguments.shapes[name], others)
        if holding:
            return f"The graph compiled for {name!r} {list(holding)} would have held it: pad {how}"
        return f"No compiled size of {name!r} holds {list(arguments.shapes[name])}: add a bucket for it {how}"
    return advice or f"Pad the inputs to few sizes {how}"


def _nearest(past: Sequence[Arguments], arguments: Arguments) -> Arguments | None:
    """The latest of those that share most arguments with these."""
    shared = [(sum(one.texts.get(n) == t for n, t in arguments.texts.items()), i, one) for i, one in enumerate(past)]
    return max(shared, key=lambda item: item[:2])[2] if shared else None


def _holding(name: str, shape: tuple[int, ...], past: Sequence[Arguments]) -> tuple[int, ...] | None:
    """The smallest shape compiled for this argument into which ``shape`` fits."""
    fits = [
        one.shapes[name]
        for one in past
        if len(one.shapes.get(name, ())) == len(shape) and all(a >= b for a, b in zip(one.shapes[name], shape))
    ]
    return min(fits, default=None)


def _text(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype}[{', '.join('?' if length < 0 else str(length) for length in value.shape)}]"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_text(item)}" for key, item in value.items()) + "}"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _is_constant_container(value: Any) -> bool:
    """Whether a container holds Tensors that are constants of the graph."""
    if not isinstance(value, (tuple, list, dict)) or _mindspore.is_mutable(value):
        return False
    items = value.values() if isinstance(value, dict) else value
    return any(
        not _mindspore.is_mutable(item) if isinstance(item, Tensor) else _is_constant_container(item) for item in items
    )


# --- names ---------------------------------------------------------------------------------------


def _names(subject: Any, method: str) -> list[str]:
    if isinstance(subject, FunctionType):
        subject, method = _written_by_user(subject), "construct"
    if isinstance(subject, nn.Cell) and method == "construct":
        return argument_names(subject)[0]
    if isinstance(subject, FunctionType):
        parameters = list(inspect.signature(subject).parameters.values())
    else:
        parameters = list(inspect.signature(getattr(type(subject), method)).parameters.values())[1:]
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


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


def _written_by_user(function: FunctionType) -> FunctionType | nn.Cell:
    """The function or cell that a transformation of MindSpore's, as ``mindspore.grad``, was given; else the function."""
    seen: FunctionType | nn.Cell = function
    while isinstance(seen, FunctionType) and (seen.__module__ or "").partition(".")[0] == "mindspore":
        given = [part.cell_contents for part in seen.__closure__ or () if _is_filled(part)]
        inner = next((one for one in given if isinstance(one, (FunctionType, nn.Cell))), None)
        if inner is None:
            return function
        seen = inner
    return seen


def _is_filled(part: Any) -> bool:
    try:
        part.cell_contents
    except ValueError:  # a name that is not bound yet
        return False
    return True
