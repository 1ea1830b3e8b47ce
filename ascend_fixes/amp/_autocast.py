"""`autocast`: a network in mixed precision, without touching the network.

The cell is wrapped, not rewritten. The wrapper carries a cast strategy, which MindSpore's graph compiler (and
PyNative) applies to every operator that is called inside: casts are part of the graph, gradients of float32
parameters come back in float32. Cells that the policy names get a wrapper with a strategy of their own; they stand
in copies of the cells above them, which share the parameters, so the caller's network is never changed and taking
the precision off is dropping the wrapper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mindspore
from mindspore import Tensor, nn
from mindspore.ops import functional

from ascend_fixes import _mindspore
from ascend_fixes.amp._overrides import conflicts, states_gradient
from ascend_fixes.amp._policy import ArgumentTypeError, Policy, PolicyError, Selector, UnknownTargetError
from ascend_fixes.errors import nearest, warn

__all__ = ["Autocast", "PrecisionWarning", "autocast"]

_FLOATS = (mindspore.float16, mindspore.bfloat16, mindspore.float32)


class PrecisionWarning(UserWarning):
    """A cell's own ``.to_float`` and a policy contradict each other."""


class Autocast(nn.Cell):
    """A cell that runs another one under a cast strategy. Made by `autocast`.

    Parameters, their names and checkpoints are those of ``cell``, the network as the caller gave it.
    """

    def __init__(
        self, cell: nn.Cell, inner: nn.Cell, strategy: Any, inputs: Any = None, output: Any = None, policy: Any = None
    ) -> None:
        super().__init__(auto_prefix=False)
        object.__setattr__(self, "wrapped", cell)
        object.__setattr__(self, "policy", policy)
        self.cell = inner
        self.amp_strategy = strategy  # the graph compiler looks for this name
        self.inputs = inputs
        self.output = output
        self.phase = cell.phase
        self.add_flags(training=cell.training)

    def construct(self, *args: Any, **kwargs: Any) -> Any:
        if self.inputs is not None:
            args = functional.mixed_precision_cast(self.inputs, args)
        output = self.cell(*args, **kwargs)
        if self.output is not None:
            output = functional.mixed_precision_cast(self.output, output)
        return output

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.amp_strategy is None:
            output = super().__call__(*args, **kwargs)
        else:
            with _mindspore.pushed_strategy(self.amp_strategy):
                output = super().__call__(*args, **kwargs)
        return output if self.output is None else _cast(output, self.output)

    # The keys of a state dictionary are those of the wrapped cell, too.
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state of the wrapped cell."""
        return self.wrapped.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any:
        """Load the state of the wrapped cell."""
        return self.wrapped.load_state_dict(state_dict, strict)


def _cast(output: Any, dtype: Any) -> Any:
    """Float tensors in ``dtype``, inside dictionaries as well, which `mixed_precision_cast` leaves out in PyNative mode."""
    if isinstance(output, dict):
        return {key: _cast(value, dtype) for key, value in output.items()}
    if isinstance(output, (tuple, list)) and not hasattr(output, "_fields"):
        return type(output)(_cast(value, dtype) for value in output)
    if isinstance(output, Tensor) and output.dtype in _FLOATS and output.dtype != dtype:
        return output.astype(dtype)
    return output


def autocast(cell: nn.Cell, policy: Policy | None = None) -> Autocast:
    """``cell`` in mixed precision, for any cell: raw Parameters, control flow, cell lists, functions, shared cells.

    Works in graph and in PyNative mode, writes no files and leaves ``cell`` as it is: ``.wrapped`` of the result is
    ``cell``. A cell that is already the result of `autocast` is unwrapped first, so policies do not nest.

    A cell with a ``bprop`` of its own computes in float32, unless the policy names it in ``fp16=``: casts are not inserted
    into a stated gradient, which then would multiply float16 by float32. (This library's own such cells take either.)
    A cell with ``.to_float`` keeps that type whatever the policy says; a `PrecisionWarning` says where they contradict.

    Two limits of MindSpore's graph mode: the branches of an ``if`` by a tensor's value must end in the same types
    (write ``x = product(x).astype(x.dtype)`` where only one of them multiplies), and a cell that one graph calls both
    inside and outside of autocast runs in the precision of the first call. Where the policy names cells, the cells
    above them are copies: call ``set_train`` on the result, not on ``cell``.

    Args:
        cell: the network, or network and loss together; its parameters are float32.
        policy: which operators and cells compute in which type; default ``Policy()``, float16.

    Returns:
        A cell called as ``cell`` is, with the same parameters under the same names. Float outputs have the policy's
        ``output`` type.

    Raises:
        ArgumentTypeError: ``cell`` is no `mindspore.nn.Cell`.
        PolicyError: the backend has no bfloat16; a cell is named in both ``fp32`` and ``fp16``.
        UnknownTargetError: the policy names a path or class that ``cell`` does not have.
    """
    policy = Policy() if policy is None else policy
    if not isinstance(cell, nn.Cell):
        raise ArgumentTypeError(f"cell={cell!r} is no mindspore.nn.Cell; wrap functions in a cell")
    if not isinstance(policy, Policy):
        raise ArgumentTypeError(f"policy={policy!r} is no Policy; write Policy({str(policy)!r})")
    if isinstance(cell, Autocast):
        cell = cell.wrapped
    if policy.compute == mindspore.bfloat16 and not _mindspore.has_bfloat16():
        raise PolicyError(
            f"compute=bfloat16: {_mindspore.backend()} has no bfloat16 matrix product (a 910A neither); use "
            f"compute=float16"
        )
    cell.check_names_and_refresh_name()
    if not policy.mixed:
        return Autocast(cell, cell, None, output=policy.output, policy=policy)
    for conflict in conflicts(cell, policy):
        warn(conflict, PrecisionWarning)
    special = policy.full_cells or policy.low_cells or any(map(_needs_float32, cell.cells_and_names()))
    inner = _with_exceptions(cell, policy) if special else cell
    return Autocast(cell, inner, _strategy(policy), output=policy.output, policy=policy)


def _strategy(policy: Policy) -> Any:
    return _mindspore.cast_strategy(policy.compute, policy.low, policy.full)


# --- cells that are exceptions ------------------------------------------------------------------


def _with_exceptions(cell: nn.Cell, policy: Policy) -> nn.Cell:
    """``cell``, or a copy of it in which the cells that the policy names are wrapped; parameters are shared."""
    found = list(_walk(cell))
    for selector in (*policy.full_cells, *policy.low_cells):
        if not any(selector.matches(path, inner) for path, inner in found):
            known = [path for path, _ in found if path] + [type(inner).__name__ for _, inner in found]
            known += _mindspore.operator_names()
            raise UnknownTargetError(
                f"the policy names {str(selector)!r}, which is no operator and no path or class of a cell in "
                f"{type(cell).__name__}{nearest(str(selector), known)}"
            )
    return _rebuilt(cell, "", policy)


def _walk(cell: nn.Cell, path: str = "") -> Iterator[tuple[str, nn.Cell]]:
    yield path, cell
    for name, child in _mindspore.child_cells(cell).items():
        yield from _walk(child, f"{path}.{name}" if path else name)


def _rebuilt(cell: nn.Cell, path: str, policy: Policy, within: bool = False) -> nn.Cell:
    """``within`` an exception every cell is copied: the graph compiler keeps one strategy for a cell that is used twice."""
    full = _choosing(policy.full_cells, path, cell)
    low = _choosing(policy.low_cells, path, cell)
    if full and low:
        raise PolicyError(
            f"the policy puts {path or type(cell).__name__!r} into fp32= (as {full}) and into fp16= (as {low}); "
            "leave one of them"
        )
    if not low and _needs_float32((path, cell)):
        full = full or Selector(type(cell))
    within = within or full is not None or low is not None
    children = {}
    for name, child in _mindspore.child_cells(cell).items():
        rebuilt = _rebuilt(child, f"{path}.{name}" if path else name, policy, within)
        if rebuilt is not child:
            children[name] = rebuilt
    inner = _mindspore.copy_with_children(cell, children) if children or within else cell
    if full:  # float32 inputs and parameters: there is nothing to cast, whatever is called inside
        return Autocast(
            cell, inner, _mindspore.cast_strategy(policy.compute, (), policy.full), inputs=mindspore.float32
        )
    if low:
        return Autocast(cell, inner, _mindspore.blanket_strategy(policy.compute))
    return inner


def _needs_float32(found: tuple[str, nn.Cell]) -> bool:
    return states_gradient(found[1]) and not type(found[1]).__module__.startswith(("ascend_fixes.", "mindspore."))


def _choosing(selectors: tuple[Selector, ...], path: str, cell: nn.Cell) -> Selector | None:
    return next((selector for selector in selectors if selector.matches(path, cell)), None)
