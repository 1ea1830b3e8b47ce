"""MindSpore's operators: their names, their kernels as documented, and placing them."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Callable, TypeVar

import mindspore

from ascend_fixes._mindspore.context import reports_in

__all__ = [
    "aicpu_operators",
    "as_in_graphs",
    "documented_platforms",
    "operator_names",
    "repeatable",
    "run_eagerly",
    "tagged_for_host",
]

_T = TypeVar("_T")


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


@contextlib.contextmanager
def as_in_graphs() -> Iterator[None]:
    """Inside, PyNative mode gives what a graph gives, as far as the two are known to differ.

    ``x.max(1)`` and ``x.min(1)``, the axis by its position, are the values in a graph; operator by operator they are
    pairs of values and indices, since an overload that only PyNative mode has comes first there. An operator that fails
    is compiled, as a graph of its own: `ops.operations.GatherV2` and others of the old ones run in no other way.
    """
    from mindspore import Tensor
    from mindspore.ops import Primitive

    with (
        tempfile.TemporaryDirectory() as folder,
        reports_in(lambda: Path(folder)),
        _replaced(Tensor, {name: _values_of(getattr(Tensor, name)) for name in ("max", "min")}),
        _replaced(Primitive, {"__call__": _or_compiled(Primitive.__call__)}),
    ):
        yield


def _values_of(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        by_position = bool(args) and type(args[0]) is int
        return result[0] if by_position and isinstance(result, tuple) and not kwargs.get("return_indices") else result

    return method


def _or_compiled(original: Callable[..., Any]) -> Callable[..., Any]:
    def __call__(self: Any, *args: Any) -> Any:
        def operator(*inputs: Any) -> Any:
            return self(*inputs)

        try:
            return original(self, *args)
        except Exception as error:
            first = error
        try:
            return mindspore.jit(operator)(*args)
        except Exception:
            raise first from None

    return __call__


@contextlib.contextmanager
def repeatable(cell: mindspore.nn.Cell) -> Iterator[None]:
    """Inside, every call of ``cell`` in PyNative mode draws the same random numbers.

    Operators that drop out pass everything on: the state of their kernels cannot be set.
    """
    from mindspore.ops import Primitive

    original = Primitive.__call__

    def __call__(self: Any, *args: Any) -> Any:
        if self.name in ("Dropout", "Dropout2D", "Dropout3D"):
            return args[0], mindspore.ops.ones_like(args[0])
        return original(self, *args)

    def seeded(_: Any, __: Any) -> None:
        mindspore.set_seed(0)
        mindspore.manual_seed(0)

    handle = cell.register_forward_pre_hook(seeded)
    try:
        with _replaced(Primitive, {"__call__": __call__}):
            yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _replaced(cls: type, members: dict[str, Any]) -> Iterator[None]:
    own = {name: vars(cls)[name] for name in members if name in vars(cls)}
    try:
        for name, member in members.items():
            setattr(cls, name, member)
        yield
    finally:
        for name in members:
            if name in own:
                setattr(cls, name, own[name])
            else:
                delattr(cls, name)


def run_eagerly(run: Callable[[], _T]) -> _T:
    """What ``run`` gives; where it fails, what it gives with `as_in_graphs`. Where that fails too, the first error."""
    try:
        return run()
    except Exception as error:
        first = error
    with as_in_graphs():
        try:
            return run()
        except Exception:
            raise first from None
