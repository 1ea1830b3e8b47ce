"""A cell by the name of a function that makes it: ``"package.module:function"``, returning the cell and its inputs."""

from __future__ import annotations

import importlib
import traceback
from typing import Any, Callable

from ascend_fixes.errors import AscendFixesError, first_line

__all__ = ["FactoryError", "check", "find", "made", "told", "unpacked"]


class FactoryError(AscendFixesError, ValueError):
    """A factory is not written as it should be, cannot be found or called, or returns something else."""


def check(factory: str) -> tuple[str, str]:
    """The module and the function that a factory names.

    Raises:
        FactoryError: it is not written ``"package.module:function"``.
    """
    module, _, name = factory.partition(":")
    if not module or not name or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise FactoryError(f"the factory must be written 'package.module:function', not {factory!r}")
    return module, name


def find(factory: str) -> Callable[[], Any]:
    """The function that a factory names.

    Raises:
        FactoryError: it cannot be found.
    """
    module, name = check(factory)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise FactoryError(f"{factory} cannot be found: {error}") from None
    except Exception as error:
        raise FactoryError(f"{module} cannot be imported: {told(error)}") from None
    return found


def made(factory: str) -> tuple[Any, ...]:
    """The cell and its inputs that a factory returns when called.

    Raises:
        FactoryError: it cannot be found, raises, or returns something else.
    """
    function = find(factory)
    try:
        returned = function()
    except Exception as error:
        raise FactoryError(f"{factory} cannot be called: {told(error)}") from None
    return unpacked(factory, returned)


def unpacked(factory: str, made: Any) -> tuple[Any, ...]:
    """The cell and its inputs, from what a factory returned: ``cell, *inputs``, ``(cell, inputs)`` or a cell alone.

    Raises:
        FactoryError: it did not return a cell first.
    """
    from mindspore import nn

    if isinstance(made, nn.Cell):
        made = (made,)
    if not isinstance(made, (tuple, list)) or not made or not isinstance(made[0], nn.Cell):
        raise FactoryError(f"{factory} must return a cell and its inputs as one tuple, not {type(made).__name__}")
    first, *rest = made
    if len(rest) == 1 and isinstance(rest[0], (tuple, list)):
        rest = list(rest[0])
    return (first, *rest)


def told(error: Exception) -> str:
    """An error of the user's code in one line, with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{first_line(error)} ({place.filename}, line {place.lineno})"
