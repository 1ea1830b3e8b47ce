"""Cells that fix their own precision with ``.to_float``: they win over any policy, silently."""

from __future__ import annotations

from collections.abc import Mapping

from mindspore import nn

from ascend_fixes.amp._policy import Policy

__all__ = ["conflicts", "overrides", "states_gradient"]

_FLAGS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def overrides(cell: nn.Cell) -> dict[str, str]:
    """Paths of the cells with ``.to_float``, and the type: ``{"encoder.dense": "float32"}``; "" is ``cell`` itself.

    `mindspore.nn.Cell.to_float` marks all cells inside as well; the outermost of equal ones are listed.
    """
    found: dict[str, str] = {}
    for path, inner in cell.cells_and_names():
        kind = next((kind for flag, kind in _FLAGS.items() if vars(inner).get(flag)), None)
        if kind is not None and found.get(_nearest(path, found)) != kind:
            found[path] = kind
    return found


def override_of(path: str, found: Mapping[str, str]) -> tuple[str, str] | None:
    """The innermost override that holds at a path: where it stands, and its type."""
    nearest = _nearest(path, found)
    return (nearest, found[nearest]) if nearest in found else None


def conflicts(cell: nn.Cell, policy: Policy) -> list[str]:
    """Where ``.to_float`` and a policy contradict each other, one sentence each."""
    said = []
    full = [(p, s) for p, inner in cell.cells_and_names() for s in policy.full_cells if s.matches(p, inner)]
    for path, kind in overrides(cell).items():
        where = repr(path) if path else "the cell itself"
        if kind == "float32" and policy.mixed:
            said.append(f"{where} has .to_float(float32): the policy does not reach what it computes; take it off")
        for chosen, selector in full:
            if kind != "float32" and (path == chosen or path.startswith(f"{chosen}.") or not chosen):
                said.append(f"{where} has .to_float({kind}), which defeats fp32=[{str(selector)!r}]; take it off")
    return said


def states_gradient(cell: nn.Cell) -> bool:
    """Whether a cell states its gradient, in a ``bprop`` of its own."""
    return any("bprop" in vars(cls) for cls in type(cell).__mro__ if issubclass(cls, nn.Cell) and cls is not nn.Cell)


def _nearest(path: str, found: Mapping[str, str]) -> str:
    while path and path not in found:
        path = path.rpartition(".")[0]
    return path
