"""The Ascend part of the wheel, for the dry run: where it lies, how it is told which chip to compile for.

None of this imports MindSpore unless it says so: the wheel is read as files.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

__all__ = [
    "SOCS",
    "around_compilations",
    "ascend_libraries",
    "hold_ascend",
    "planned_memory",
    "run_target",
    "set_soc",
    "wheel_libraries",
]

# The chips by the name users give; as MindSpore's context calls version and name.
SOCS = {
    "Ascend910A": ("ascend910", "Ascend910A"),
    "Ascend910B": ("ascend910b", "Ascend910B2"),
    "Ascend910_93": ("ascend910_93", "Ascend910_9391"),
}


def wheel_libraries() -> Path | None:
    """The folder with MindSpore's shared libraries; None where MindSpore is not installed. Does not import it."""
    spec = importlib.util.find_spec("mindspore")
    return Path(spec.origin).parent / "lib" if spec is not None and spec.origin else None


def ascend_libraries(folder: Path) -> list[Path]:
    """Of the wheel's libraries those that are linked to the vendor's, the folder with the plugin's kernels included.

    Kernels that run on the device's own processors ("aicpu") and prototypes for the vendor's compiler are never loaded.
    """
    patterns = (
        "plugin/libmindspore*ascend*.so*",
        "plugin/ascend/**/*.so*",
        "libmindspore_*ge*.so*",
        "_c_*.so",
        "../_c_*.so",
    )
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(path for path in found if "aicpu" not in str(path) and "op_proto" not in str(path))


def set_soc(soc: str) -> None:
    """Tell MindSpore the chip, which it would ask the device for; before anything is compiled.

    Calls two methods of the C++ context by their symbols. The wheels are built with the old ABI of libstdc++, whose
    ``std::string`` is one pointer to characters that stand behind their length, capacity and count of references.

    Args:
        soc: a key of `SOCS`.

    Raises:
        AttributeError: this MindSpore has no such methods.
    """
    core = ctypes.CDLL(str(wheel_libraries() / "libmindspore_core.so"))  # type: ignore[operator]
    get = core._ZN9mindspore9MsContext11GetInstanceEv
    get.argtypes, get.restype = [], _SharedPointer
    context = get().object
    for method, text in zip(("set_ascend_soc_version", "set_ascend_soc_name"), SOCS[soc]):
        setter = core[f"_ZN9mindspore9MsContext{len(method)}{method}ERKSs"]
        setter.argtypes, setter.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        setter(context, _old_string(text))


class _SharedPointer(ctypes.Structure):
    """A ``std::shared_ptr``. It is returned in memory; one word more than it has makes ctypes expect that."""

    _fields_ = (("object", ctypes.c_void_p), ("count", ctypes.c_void_p), ("unused", ctypes.c_void_p))


class _OldString(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("references", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("characters", ctypes.c_char * 64),
    )


# MindSpore may share the characters instead of copying them: they live as long as the process, and their count of
# references is so high that it never reaches the end.
_strings: list[tuple[_OldString, ctypes.c_void_p]] = []


def _old_string(text: str) -> ctypes.c_void_p:
    """The address of a ``std::string`` of the old ABI."""
    value = _OldString(len(text), len(text), 1 << 20, 0, text.encode())
    pointer = ctypes.c_void_p(ctypes.addressof(value) + _OldString.characters.offset)
    _strings.append((value, pointer))
    return ctypes.c_void_p(ctypes.addressof(pointer))


# --- a process that compiles for Ascend and nothing else -------------------------------------------

# What a script may not change back: where it runs, and what the dry run reads.
_HELD = ("device_target", "device_id", "enable_graph_kernel", "runtime_num_threads", "save_graphs", "save_graphs_path")
# A server starts this many threads by default; with the one of a small machine graphs with branches are refused.
_DISPATCH_THREADS = 5


def hold_ascend(jit_level: str) -> None:
    """Make this process compile for Ascend at ``jit_level``, whatever is set later. Imports MindSpore.

    Later calls of `mindspore.set_context`, `set_device` and `runtime.dispatch_threads_num` keep what belongs to the
    program (the mode, flags, limits) and leave the device, the level and the saved graphs as they are.
    """
    import mindspore

    mindspore.set_device("Ascend", 0)
    mindspore.runtime.dispatch_threads_num(_DISPATCH_THREADS)
    mindspore.set_context(jit_config={"jit_level": jit_level})

    def set_context(original: Callable[..., None], **settings: Any) -> None:
        kept = {key: value for key, value in settings.items() if key not in _HELD}
        if "jit_config" in kept:
            kept["jit_config"] = {**kept["jit_config"], "jit_level": jit_level}
        if kept:
            original(**kept)

    _replace_everywhere(mindspore.set_context, set_context)
    _replace_everywhere(mindspore.set_device, lambda original, *args, **kwargs: None)
    _replace_everywhere(mindspore.runtime.dispatch_threads_num, lambda original, *args, **kwargs: None)


def _replace_everywhere(function: Callable[..., Any], by: Callable[..., Any]) -> None:
    """Replace a function of MindSpore's under every name it has there; ``by`` gets it first."""

    @functools.wraps(function)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        return by(function, *args, **kwargs)

    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "mindspore"]:
        for name, value in list(vars(module).items()):
            if value is function:
                setattr(module, name, replacement)


def around_compilations(jit_level: str, hook: Callable[[Any, str, Callable[[], Any]], Any]) -> dict[str, Any]:
    """Have ``hook(object, phase, compile)`` called for every real compilation, cells and jit functions, at ``jit_level``.

    ``object`` is the cell or function, ``phase`` the name of the graph, ``compile()`` does it. What is to be replaced by
    what, for the ledger: cures wrap the same methods.
    """
    names = ("GraphExecutor_", "JitExecutor_")
    return {
        f"mindspore._c_expression:{name}.compile": lambda original: _hooked(original, jit_level, hook) for name in names
    }


def _hooked(original: Callable[..., Any], jit_level: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    def compile(self: Any, obj: Any, args: Any, kwargs: Any, phase: str, jit_config: dict[str, Any]) -> Any:
        level = {**jit_config, "jit_level": jit_level}
        return hook(obj, phase, lambda: original(self, obj, args, kwargs, phase, level))

    return compile


def run_target() -> Iterator[str]:
    """The methods that run a compiled graph, as ``"module:Class.attribute"``."""
    yield from ("mindspore._c_expression:GraphExecutor_.__call__", "mindspore._c_expression:JitExecutor_.__call__")


def planned_memory() -> int:
    """Bytes of device memory that MindSpore's pool gave out at most until now, in this process."""
    import mindspore

    return int(mindspore.runtime.max_memory_allocated())
