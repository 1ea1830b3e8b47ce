"""Parameters that a forward pass writes: running statistics, moving averages, counters. A skipped step puts them back.

Which these are is written nowhere. Those of `nn.BatchNorm` are known, and small Parameters that no optimizer updates are
kept whether they are written or not, for their copies cost next to nothing; MindSpore's other layers write none. Every graph is
looked at after it was compiled and before it runs: a write to anything else is refused by name, and the caller declares it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mindspore import Parameter, nn

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError

__all__ = ["UndeclaredWriteError", "WrittenError", "check", "check_graph", "found"]

SMALL = 2**16  # elements of a Parameter that is kept in case it is written


class WrittenError(AscendFixesError, ValueError):
    """``written`` of a `TrainStep` names what is no Parameter of the cell."""


class UndeclaredWriteError(AscendFixesError, ValueError):
    """The forward pass writes a Parameter, and a skipped step could not undo that; the message names it."""


def check(cell: nn.Cell, written: Iterable[Any]) -> None:
    """Refuse what is no Parameter of ``cell``.

    Raises:
        WrittenError: the message names it.
    """
    known = {id(parameter) for parameter in cell.get_parameters()}
    for one in written:
        if not isinstance(one, Parameter) or id(one) not in known:
            name = one.name if isinstance(one, Parameter) else repr(one)
            raise WrittenError(f"written: {name} is no Parameter of the cell; pass those that its construct assigns to")


def found(cell: nn.Cell, weights: Iterable[Parameter], declared: Sequence[Parameter]) -> list[Parameter]:
    """The Parameters of ``cell`` to keep: ``declared``, and those that may be written, of which no optimizer has any."""
    trained = {id(weight) for weight in weights}
    keep = {id(parameter): parameter for parameter in declared}
    for _, inner in cell.cells_and_names():
        for parameter in inner.parameters_and_names(expand=False):
            candidate = parameter[1]
            if id(candidate) not in trained and _may_be_written(inner, candidate):
                keep[id(candidate)] = candidate
    return [parameter for parameter in cell.get_parameters() if id(parameter) in keep]


def _may_be_written(holder: nn.Cell, parameter: Parameter) -> bool:
    if hasattr(holder, "moving_mean") and hasattr(holder, "moving_variance"):
        return True
    return not type(holder).__module__.startswith("mindspore.") and parameter.size <= SMALL


def check_graph(step: Any) -> None:
    """Refuse the latest graph of a `TrainStep` where it writes what the step neither trains, keeps nor has made itself.

    Raises:
        UndeclaredWriteError: the Parameters are named.
    """
    kept = {parameter.name for parameter in step.written}
    weights = {parameter.name for parameter in step.weights}
    cells = {parameter.name for parameter in step.cell.get_parameters()}
    own = {parameter.name for parameter in step.get_parameters()} - cells
    main, branches = _mindspore.graph_writes(step)
    # The optimizers stand in a branch, so that a weight is written in the main graph by the forward pass alone.
    names = sorted((main - own - kept) | (branches - own - kept - weights))
    if names:
        raise UndeclaredWriteError(
            f"cell: its forward pass writes {', '.join(names)}, which a skipped step could not undo; say so when making the "
            f"step: TrainStep(..., written=[net.parameters_dict()[{names[0]!r}], ...])"
        )
