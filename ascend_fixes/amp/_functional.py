"""`train_step`: a training step of a forward function, for code that is written in functions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Callable

from mindspore import nn

from ascend_fixes.amp._arguments import StepError
from ascend_fixes.amp._policy import ArgumentTypeError, Policy
from ascend_fixes.amp._step import TrainStep

__all__ = ["train_step"]


class _Function(nn.Cell):
    """A forward function as a cell, with the cells it calls, so that ``set_train`` and what they write is seen."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(auto_prefix=False)
        self.function = function
        self.called = nn.CellList(list(_cells_of(function)), auto_prefix=False)

    def construct(self, *inputs: Any, **named: Any) -> Any:
        return self.function(*inputs, **named)


def train_step(
    forward_function: Callable[..., Any], optimizer: nn.Optimizer | Sequence[nn.Optimizer], *options: Any, **named: Any
) -> TrainStep:
    """`TrainStep` of a function, such as `mindspore.value_and_grad` takes: ``step(*inputs) -> StepResult``.

    Args:
        forward_function: returns the loss, or a tuple that begins with it. Cells that it calls by the name of a global or
            an enclosing variable are found; ``set_train`` of the step is theirs, too.
        optimizer: over Parameters of these cells.
        options, named: the other arguments of `TrainStep`. A policy names operators here, no cells: in a function they have
            no paths.

    Raises:
        ArgumentTypeError: ``forward_function`` is a cell, or nothing that can be called.
        StepError: the policy names cells. Otherwise as `TrainStep`.
    """
    if isinstance(forward_function, nn.Cell) or not callable(forward_function):
        raise ArgumentTypeError(f"forward_function={forward_function!r} is no function; for a cell there is TrainStep")
    for option in (*options, *named.values()):
        if isinstance(option, Policy) and (option.full_cells or option.low_cells):
            raise StepError(
                f"policy: {option!r} names cells, which a function hides; make a cell of it and use TrainStep"
            )
    return TrainStep(_Function(forward_function), optimizer, *options, **named)


def _cells_of(function: Callable[..., Any]) -> Iterator[nn.Cell]:
    """The cells that a function names, or is a method of, each once."""
    owner = getattr(function, "__self__", None)
    variables = inspect.getclosurevars(getattr(function, "__func__", function))
    found = {id(one): one for one in (owner, *variables.nonlocals.values(), *variables.globals.values())}
    return (one for one in found.values() if isinstance(one, nn.Cell))
