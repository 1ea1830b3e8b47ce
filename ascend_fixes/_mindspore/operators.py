"""MindSpore's operators: their names, their kernels as documented, and placing them."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mindspore

__all__ = ["aicpu_operators", "documented_platforms", "operator_names", "tagged_for_host"]


@functools.cache
def operator_names() -> frozenset[str]:
    """The name of every operator that has a Python class, gradient operators included."""
    from mindspore.ops import Primitive, auto_generate, operations
    from mindspore.ops.operations import _grad_ops, _inner_ops

    modules = (operations, auto_generate, _grad_ops, _inner_ops)
    return frozenset(
        name
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Primitive)
    )


@functools.cache
def aicpu_operators() -> frozenset[str]:
    """Operators that Ascend runs on its AICPU, by the names of the wheel's own table without underscores: ``nonzero``."""
    folder = Path(mindspore.__file__).parent / "ops" / "_op_impl" / "aicpu"
    return frozenset(path.stem.replace("_", "") for path in folder.glob("*.py") if not path.stem.startswith("__"))


@functools.cache
def documented_platforms() -> dict[str, frozenset[str]]:
    """The backends that every operator's own docstring lists, ``{"Add": {"Ascend", "GPU", "CPU"}}``, where it lists any."""
    from mindspore.ops import Primitive, auto_generate, operations

    found = {}
    for name, value in (item for module in (operations, auto_generate) for item in vars(module).items()):
        if isinstance(value, type) and issubclass(value, Primitive):
            listed = re.search(r"Supported Platforms:\s*\n(.*)", value.__doc__ or "")
            if listed:
                found[name] = frozenset(re.findall(r"Ascend|GPU|CPU", listed.group(1)))
    return found


@contextlib.contextmanager
def tagged_for_host(names: Iterable[str]) -> Iterator[None]:
    """Inside, what the functions of `mindspore.ops` build or hold of these operators is placed on the host.

    A function holds its primitive in its module, or makes it while the graph is compiled. A graph goes on using the
    very object that it found, so a tagged clone stands in the module meanwhile.
    """
    from mindspore.ops import Primitive

    chosen = frozenset(names)
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("mindspore.")]
    held = [
        (vars(module), name, value)
        for module in modules
        for name, value in list(vars(module).items())
        if isinstance(value, Primitive) and value.name in chosen
    ]
    original = Primitive.__init__

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.name in chosen:
            self.set_device("CPU")

    try:
        for space, name, value in held:
            space[name] = value._clone()
            space[name].set_device("CPU")
        Primitive.__init__ = __init__
        yield
    finally:
        Primitive.__init__ = original
        for space, name, value in held:
            space[name] = value
