"""A key for a compilation: everything that its graph can depend on, or a refusal.

MindSpore compares the hash of some source files and then takes whatever graph has
the right number. Here a graph is known by the arguments' shapes and dtypes, the
attributes of the cell and of all its sub-cells, the functions it can reach with
their closures and the global values they name, the sources of the modules behind
all of these, MindSpore's settings, and the versions. What cannot be described
(an object without attributes to look at) is refused, so that it is compiled anew.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import logging
import os
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ascend_fixes import _mindspore
from ascend_fixes.tensors import array_of

__all__ = ["UndescribableError", "fingerprint"]

_VERSIONED = ("mindspore", "numpy")
_STDLIB = tuple({os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")})


class UndescribableError(Exception):
    """A value whose influence on the graph cannot be told; caught by the cache, which then compiles."""


def fingerprint(subject: Any, arguments: Any, extra: Mapping[str, str]) -> str:
    """The key of compiling ``subject`` for ``arguments``, as 64 hex digits.

    Args:
        subject: a cell, or what describes a jit function.
        arguments: of the call; of Tensors only shape, dtype and flags count.
        extra: settings and versions.

    Raises:
        UndescribableError: something in it cannot be described.
    """
    description = _Description()
    description.add({**extra, "python": sys.version, "mindspore": _mindspore.version_text(), "numpy": np.__version__})
    description.add_argument(arguments)
    description.add(subject)
    description.add_sources()
    return description.digest()


class _Description:
    """Collects a description of values in a hash, and the modules that they come from."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.places: dict[int, int] = {}
        self.inside: set[int] = set()
        self.alive: list[Any] = []  # ids are compared, so nothing may be freed meanwhile
        self.modules: dict[str, types.ModuleType] = {}
        self.addresses: set[int] = set()  # of the data of the parameters met so far

    def digest(self) -> str:
        return self.hash.hexdigest()

    def put(self, *texts: str) -> None:
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            self.hash.update(b"%d:" % len(data) + data)

    # --- arguments: Tensors are inputs of the graph ----------------------------------------------

    def add_argument(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self.put("input", str(value.dtype), str(value.shape), type(value).__name__)
            self.put(str(_mindspore.is_mutable(value)), str(getattr(value, "const_arg", None)))
            if getattr(value, "const_arg", False) or isinstance(value, Parameter):
                self.add(value)
        elif isinstance(value, (tuple, list)):
            self.put(type(value).__name__, str(len(value)), str(_mindspore.is_mutable(value)))
            for item in value:
                self.add_argument(item)
        elif isinstance(value, dict):
            self.put("dict", str(len(value)))
            for key, item in value.items():
                self.add(key)
                self.add_argument(item)
        else:
            self.put(str(_mindspore.is_mutable(value)))
            self.add(value)

    # --- everything else is a constant of the graph ----------------------------------------------

    def add(self, value: Any) -> None:
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, slice, range, type(...))):
            self.put(type(value).__name__, repr(value))
        elif isinstance(value, (tuple, list, set, frozenset, dict)):
            self._add_container(value)
        elif id(value) in self.places:
            self.put("again", str(self.places[id(value)]))
        else:
            self.places[id(value)] = len(self.places)
            self.alive.append(value)
            self._add_new(value)

    def _add_container(self, value: Any) -> None:
        """Containers count by content: whether two attributes share one changes nothing."""
        if id(value) in self.inside:
            raise UndescribableError(f"a {type(value).__name__} that contains itself")
        self.inside.add(id(value))
        self.put(type(value).__name__, str(len(value)))
        if isinstance(value, dict):
            for key, item in value.items():
                self.add(key)
                self.add(item)
        else:
            for item in sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value:
                self.add(item)
        self.inside.discard(id(value))

    def _add_new(self, value: Any) -> None:
        if isinstance(value, enum.Enum):
            self.put("enum", type(value).__qualname__, value.name)
        elif isinstance(value, Parameter):
            self.put("parameter", value.name, str(value.dtype), str(value.shape), str(value.requires_grad))
            if not value.has_init:
                self.addresses.add(_address(value))
        elif isinstance(value, Tensor):
            self._add_tensor(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            if np.asarray(value).dtype.hasobject:
                raise UndescribableError("a NumPy array of objects")
            self.put("array", str(value.dtype), str(value.shape), hashlib.sha256(value.tobytes()).hexdigest())
        elif isinstance(value, np.dtype) or _mindspore.is_platform_type(value):
            self.put("dtype", str(value))
        elif isinstance(value, nn.Cell):
            self._add_object(value, _mindspore.cell_state(value))
        elif isinstance(value, Mapping):
            self.put("mapping", str(len(value)))
            for key, item in value.items():
                self.add(key)
                self.add(item)
        else:
            self._add_code(value)

    def _add_tensor(self, tensor: Tensor) -> None:
        self.put("tensor", str(tensor.dtype), str(tensor.shape))
        if -1 in tensor.shape or tensor.shape == (-2,):
            self.put("unknown lengths, so no data")
        elif tensor.has_init:
            self.add(tensor.init)
        elif _address(tensor) in self.addresses:
            self.put("the memory of a parameter")  # nn.Embedding keeps such a Tensor; training changes it
        else:
            self.put(hashlib.sha256(array_of(tensor).tobytes()).hexdigest())

    def _add_code(self, value: Any) -> None:
        if isinstance(value, types.MethodType):
            self.add(value.__func__)
            self.add(value.__self__)
        elif isinstance(value, types.FunctionType):
            self._add_function(value)
        elif isinstance(value, functools.partial):
            self.put("partial")
            self.add((value.func, value.args, value.keywords))
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodWrapperType)):
            self.put("builtin", str(value.__module__), value.__qualname__)
        elif isinstance(value, (staticmethod, classmethod, property)):
            self.put(type(value).__name__)
            self.add(value.fget if isinstance(value, property) else value.__func__)
        elif isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, types.ModuleType):
            self._add_module(value.__name__)
        elif isinstance(value, logging.Logger):
            self.put("logger")
        elif hasattr(value, "__dict__"):
            self._add_object(value, vars(value))
        else:
            raise UndescribableError(f"an object of {type(value).__module__}.{type(value).__qualname__}")

    def _add_object(self, value: Any, state: Mapping[str, Any]) -> None:
        self.put("object", "primitive" if isinstance(value, ops.Primitive) else "")
        self._add_class(type(value))
        for name in sorted(state):
            self.put(name)
            self.add(state[name])

    def _add_class(self, cls: type) -> None:
        self.put("class", cls.__module__, cls.__qualname__)
        for base in cls.__mro__:
            if self._add_module(base.__module__):
                self.put("base", base.__qualname__)
                for name, value in sorted(vars(base).items()):
                    # A cell is made by the host, before it is compiled: what became of it is in its attributes.
                    if name == "__init__" and issubclass(base, nn.Cell):
                        continue
                    if isinstance(value, types.FunctionType) or not (name.startswith("__") or _is_descriptor(value)):
                        self.put(name)
                        self.add(value)

    def _add_function(self, function: types.FunctionType) -> None:
        self.put("function", str(function.__module__), function.__qualname__)
        self.add(function.__defaults__)
        self.add(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                self.put("unbound")
        if self._add_module(str(function.__module__)):
            names = sorted(_names(function.__code__))
            for name in names:
                if name in function.__globals__:
                    self.put(name)
                    self._add_global(function.__globals__[name], names)

    def _add_global(self, value: Any, names: list[str]) -> None:
        self.add(value)
        if isinstance(value, types.ModuleType) and value.__name__ in self.modules:
            for name in names:  # config.scale may have been set since config was imported
                if name in vars(value):
                    self.put(name)
                    self.add(vars(value)[name])

    # --- sources ---------------------------------------------------------------------------------

    def _add_module(self, name: str) -> bool:
        """Note a module's source for the key; False where its version stands for it."""
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        self.put("module", name)
        if name.partition(".")[0] in (*_VERSIONED, "builtins") or module is None or file is None:
            return False
        if _is_stdlib(file):
            return False
        self.modules[name] = module
        return True

    def add_sources(self) -> None:
        """The sources of the modules met, and of those they import, in the order of their names."""
        found, waiting = set(self.modules), list(self.modules.values())
        while waiting:
            for value in list(vars(waiting.pop()).values()):
                name = value.__name__ if isinstance(value, types.ModuleType) else getattr(value, "__module__", None)
                if isinstance(name, str) and name not in found and self._add_source_module(name):
                    found.add(name)
                    waiting.append(sys.modules[name])
        for name in sorted(found):
            self.put(name, _source_hash(str(sys.modules[name].__file__)))

    @staticmethod
    def _add_source_module(name: str) -> bool:
        file = getattr(sys.modules.get(name), "__file__", None)
        return isinstance(file, str) and name.partition(".")[0] not in _VERSIONED and not _is_stdlib(file)


def _address(tensor: Tensor) -> int:
    return int(array_of(tensor).__array_interface__["data"][0])


def _is_stdlib(file: str) -> bool:
    path = os.path.realpath(file)
    return path.startswith(_STDLIB) and "site-packages" not in path


def _is_descriptor(value: Any) -> bool:
    """Whether a class attribute is a property or the like: its source stands for it."""
    return hasattr(value, "__get__")


def _names(code: types.CodeType) -> set[str]:
    """The global and attribute names that a function mentions, its inner functions included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _source_hash(path: str) -> str:
    stat = os.stat(path)
    return _content_hash(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4096)
def _content_hash(path: str, mtime_ns: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
