"""`Policy`: which types parameters, computation and outputs have, and which operators and cells are exceptions.

A policy is a value. It says nothing about a network until `autocast` applies it; paths and class names are checked
there. The notation is jmp's (google-deepmind/jmp), the default lists are in `operators`.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import mindspore
from mindspore import nn
from mindspore.ops import Primitive

from ascend_fixes import _mindspore
from ascend_fixes.amp import _operators as operators
from ascend_fixes.errors import AscendFixesError, UnknownNameError, nearest

__all__ = ["ArgumentTypeError", "Policy", "PolicyError", "Selector", "UnknownTargetError"]

_FORM = "params=float32,compute=float16,output=float32"
_TYPES = {
    "params": ("float32",),
    "compute": ("float16", "bfloat16", "float32"),
    "output": ("float32", "float16", "bfloat16"),
}


class ArgumentTypeError(AscendFixesError, TypeError):
    """An argument that is not of the kind it has to be; the message says what to pass."""


class PolicyError(AscendFixesError, ValueError):
    """A policy that contradicts itself, or that this backend cannot follow."""


class UnknownTargetError(UnknownNameError):
    """An operator, cell class or cell path that does not exist; the message offers the nearest one."""


@dataclass(frozen=True)
class Selector:
    """Cells chosen by path (``"encoder.3"``), class name (``"CRF"``) or class; a path stands for all below it."""

    target: str | type

    def matches(self, path: str, cell: nn.Cell) -> bool:
        """Whether ``cell``, found at ``path``, is chosen."""
        if isinstance(self.target, type):
            return isinstance(cell, self.target)
        return self.target == path or any(self.target == cls.__name__ for cls in type(cell).__mro__[:-1])

    def __str__(self) -> str:
        return self.target if isinstance(self.target, str) else self.target.__name__


@dataclass(frozen=True)
class Policy:
    """The types of a mixed-precision computation. A frozen value; equal policies compare equal.

    Attributes:
        spec: ``"params=float32,compute=float16,output=float32"``. Keys left out take these values. ``params`` is
            float32: float16 weights would lose every update below 2**-11 of their size. ``compute`` is the type of
            matrix products and convolutions: float16, bfloat16 or float32 (no mixed precision). ``output`` is the type
            that float outputs are cast to.
        fp32: what must compute in float32, added to the default lists of `operators`: an operator (``"MatMul"``,
            ``ops.MatMul``), a function (``ops.softmax``: every operator it calls), a cell class (``nn.Dense``,
            ``"CRF"``) or a cell path (``"encoder.3"``).
        fp16: what must compute in ``compute``'s type, in the same forms.

    Cells inside cells: the innermost entry wins. A name that is an operator's is taken for the operator.

    Raises:
        PolicyError: a key or type that does not exist, or an entry that is in both lists.
        UnknownTargetError: an entry that names nothing. Paths and class names are checked by `autocast`.
    """

    spec: str = _FORM
    fp32: tuple[Any, ...] = ()
    fp16: tuple[Any, ...] = ()
    _types: dict[str, str] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        types_ = _parse(self.spec)
        object.__setattr__(self, "spec", ",".join(f"{key}={value}" for key, value in types_.items()))
        object.__setattr__(self, "_types", types_)
        for name in ("fp32", "fp16"):
            object.__setattr__(self, name, _entries(name, getattr(self, name)))
        both = _targets(self.fp32) & _targets(self.fp16)
        if both:
            raise PolicyError(
                f"fp32= and fp16= both name {', '.join(sorted(map(str, both)))}; leave each of them in one list"
            )

    def __str__(self) -> str:
        return self.spec

    def __hash__(self) -> int:
        return hash((self.spec, self.fp32, self.fp16))

    @property
    def compute(self) -> Any:
        """The MindSpore dtype of matrix products and convolutions."""
        return getattr(mindspore, self._types["compute"])

    @property
    def output(self) -> Any:
        """The MindSpore dtype of float outputs."""
        return getattr(mindspore, self._types["output"])

    @property
    def mixed(self) -> bool:
        """False for ``compute=float32``, where nothing is cast but outputs."""
        return self._types["compute"] != "float32"

    @property
    def low(self) -> frozenset[str]:
        """Names of the operators that compute in ``compute``'s type."""
        return (_default(operators.LOW) | _operators(self.fp16)) - _operators(self.fp32)

    @property
    def full(self) -> frozenset[str]:
        """Names of the operators that compute in float32."""
        return (_default(operators.FULL) | _operators(self.fp32)) - _operators(self.fp16)

    @property
    def full_cells(self) -> tuple[Selector, ...]:
        """Cells whose inside computes in float32."""
        return _selectors(self.fp32)

    @property
    def low_cells(self) -> tuple[Selector, ...]:
        """Cells whose inside computes in ``compute``'s type."""
        return _selectors(self.fp16)

    def explain(self, operator: str) -> str:
        """The type an operator computes in and the reason, in one line.

        Raises:
            UnknownTargetError: no operator has that name.
        """
        if operator not in _mindspore.operator_names():
            raise UnknownTargetError(
                f"operator={operator!r} is no operator{nearest(operator, _mindspore.operator_names())}"
            )
        why = operators.reason(operator)
        if operator in _operators(self.fp32):
            return f"{operator}: float32 (named in fp32=)"
        if operator in _operators(self.fp16):
            return f"{operator}: {self._types['compute']} (named in fp16=)"
        if operator in self.low:
            return f"{operator}: {self._types['compute']} ({why})"
        return f"{operator}: float32 ({why})" if why else f"{operator}: the type of its inputs"


def _parse(spec: str) -> dict[str, str]:
    if not isinstance(spec, str):
        raise PolicyError(f"spec={spec!r} is no policy; write {_FORM!r}")
    values = dict(pair.split("=") for pair in _FORM.split(","))
    seen = set()
    for pair in filter(None, re.split(r"\s*,\s*", spec.strip())):
        key, _, value = (part.strip() for part in pair.partition("="))
        if key not in _TYPES:
            raise PolicyError(f"{pair!r} in the policy: the keys are {', '.join(_TYPES)}{nearest(key, _TYPES)}")
        if key in seen:
            raise PolicyError(f"{key}= stands twice in the policy {spec!r}; leave one of them")
        if value not in _TYPES[key]:
            raise PolicyError(
                f"{pair!r} in the policy: {key} is one of {', '.join(_TYPES[key])}{nearest(value, _TYPES[key])}"
            )
        seen.add(key)
        values[key] = value
    return values


def _entries(argument: str, entries: Any) -> tuple[Any, ...]:
    if isinstance(entries, (str, type)) or callable(entries):
        raise PolicyError(f"{argument}={entries!r} is one entry; write it as a list: {argument}=[...]")
    for entry in entries:
        if (
            not (isinstance(entry, (str, type, Primitive, types.FunctionType, types.BuiltinFunctionType)))
            or entry == ""
        ):
            raise UnknownTargetError(
                f"{argument}: {entry!r} is no operator, function, cell class or cell path; name one of these"
            )
        if isinstance(entry, type) and not issubclass(entry, (Primitive, nn.Cell)):
            raise UnknownTargetError(f"{argument}: class {entry.__name__} is neither a primitive nor a cell")
        if isinstance(entry, types.FunctionType) and not _operators((entry,)):
            raise UnknownTargetError(
                f"{argument}: {entry.__name__} calls no operator by name; name its operators instead"
            )
    return tuple(entries)


def _default(groups: Iterable[operators.Group]) -> frozenset[str]:
    return frozenset(name for group in groups for name in group.names)


def _is_operator(entry: Any) -> bool:
    if isinstance(entry, str):
        return entry in _mindspore.operator_names()
    return isinstance(entry, Primitive) or not isinstance(entry, type) or issubclass(entry, Primitive)


def _selectors(entries: tuple[Any, ...]) -> tuple[Selector, ...]:
    return tuple(Selector(entry) for entry in entries if not _is_operator(entry))


def _targets(entries: tuple[Any, ...]) -> set:
    return set(_operators(entries)) | {selector.target for selector in _selectors(entries)}


def operators_of(entry: Any) -> frozenset[str]:
    """The operators that an operator's name, a primitive or a function of MindSpore's stands for."""
    return _operators((entry,))


def _operators(entries: tuple[Any, ...]) -> frozenset[str]:
    return frozenset(name for entry in entries if _is_operator(entry) for name in _operator_names(entry))


def _operator_names(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, Primitive):
        yield entry.name
    elif isinstance(entry, type):
        yield entry.__name__
    else:
        yield from _called(entry, set())


# Names a function may use that never compute: listing them would cast what only moves values.
_NOT_COMPUTING = frozenset(
    {
        "Primitive",
        "Cast",
        "Shape",
        "TensorShape",
        "DType",
        "Rank",
        "Size",
        "Reshape",
        "Transpose",
        "ExpandDims",
        "OnesLike",
    }
)


def _called(function: Any, seen: set) -> Iterator[str]:
    """The operators a function of MindSpore's calls, found by the names in its code and in those it calls.

    MindSpore's functions reach an operator as an instance of its class (``matmul_ext_op``), as the class itself or as
    a compiled function ``softmax_impl``.
    """
    code = getattr(function, "__code__", None)
    if code is None or code in seen:
        return
    seen.add(code)
    found = {name: function.__globals__.get(name) for name in code.co_names}
    modules = [value for value in found.values() if isinstance(value, types.ModuleType)]
    for name, value in found.items():
        if value is None:
            value = next((getattr(module, name) for module in modules if hasattr(module, name)), None)
        if isinstance(value, types.FunctionType):
            if value.__module__.startswith(("mindspore.ops", "mindspore.mint")):
                yield from _called(value, seen)
            continue
        operator = value.name if isinstance(value, Primitive) else _operator_called(name)
        if operator not in _NOT_COMPUTING and operator in _mindspore.operator_names():
            yield operator


def _operator_called(name: str) -> str:
    """``"softmax_impl"`` is the operator Softmax; a class is an operator by its own name, in capitals."""
    return _by_lower_name().get(name[: -len("_impl")].replace("_", ""), "") if name.endswith("_impl") else name


@functools.cache
def _by_lower_name() -> dict[str, str]:
    return {name.lower(): name for name in _mindspore.operator_names() if name[0].isupper()}
