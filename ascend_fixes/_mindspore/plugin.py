"""The Ascend part of the wheel, for the dry run: where it lies, how it is told which chip to compile for.

None of this imports MindSpore unless it says so: the wheel is read as files.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any, Callable

from ascend_fixes._mindspore.versions import version

__all__ = [
    "SOCS",
    "around_runs",
    "ascend_libraries",
    "hold_ascend",
    "placeholders",
    "planned_memory",
    "plugin_environment",
    "save_only_below",
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


def plugin_environment(cann: Path) -> dict[str, str]:
    """Variables that the plugin wants set, beside the path of the libraries, for the vendor's software in ``cann``.

    2.7 asks where the operators are, and that a folder "opp_kernel" lies beside "opp"; later versions do not.
    """
    return {} if version() >= (2, 8) else {"ASCEND_OPP_PATH": str(cann / "opp")}


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


def save_only_below(folder: Path) -> None:
    """From now on `mindspore.save_checkpoint` and `export` write below ``folder`` and nowhere else; the rest is skipped.

    Weights after a dry run are placeholders: no file of the user's may be overwritten with them.
    """
    import mindspore

    def save_checkpoint(
        original: Callable[..., Any], save_obj: Any, ckpt_file_name: Any, *rest: Any, **options: Any
    ) -> Any:
        return original(save_obj, ckpt_file_name, *rest, **options) if allowed(ckpt_file_name) else None

    def export(original: Callable[..., Any], net: Any, *inputs: Any, file_name: Any = "", **options: Any) -> Any:
        return original(net, *inputs, file_name=file_name, **options) if allowed(file_name) else None

    def allowed(name: Any) -> bool:
        path = Path(str(name))
        if path.is_symlink() and path.parent.resolve() == folder.resolve():
            path.unlink()  # the link to the user's file, not the file
        return folder.resolve() in path.resolve().parents

    _replace_everywhere(mindspore.save_checkpoint, save_checkpoint)
    _replace_everywhere(mindspore.export, export)


def around_runs(hook: Callable[[str, Callable[[], Any]], Any]) -> None:
    """Have ``hook(phase, run)`` called for every run of a compiled graph; what it returns is the result."""
    from mindspore import _c_expression

    for owner in (_c_expression.GraphExecutor_, _c_expression.JitExecutor_):
        setattr(owner, "__call__", _run_hooked(owner.__call__, hook))  # noqa: B010


def _run_hooked(original: Callable[..., Any], hook: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, args: Any, phase: str) -> Any:
        return hook(phase, lambda: original(self, args, phase))

    return call


def placeholders(phase: str) -> Any:
    """Zeros in the form of a compiled graph's outputs; text is empty.

    A length known only when run is 1. What a loop or a branch returns as a tuple has no shapes in MindSpore's protocol:
    its Tensors are scalars.

    Raises:
        TypeError: an output is none of Tensor, number, text, tuple and list.
    """
    from mindspore import _c_expression
    from mindspore.train import anf_ir_pb2

    model = anf_ir_pb2.ModelProto()
    for owner in (_c_expression.GraphExecutor_, _c_expression.JitExecutor_):
        if owner.get_instance().has_compiled(phase):
            model.ParseFromString(owner.get_instance().get_func_graph_proto(phase, "anf_ir", False))
            break
    types = {parameter.name: parameter.type for parameter in model.graph.parameters}
    nodes = {node.name: node for node in model.graph.node}

    def zeros(name: str, kind: Any) -> Any:
        node = nodes.get(name)
        if node is not None and node.op_type in ("Depend", "Load"):
            return zeros(node.input[0].name, kind)
        if node is not None and node.op_type in ("MakeTuple", "MakeList"):
            parts = kind.sequence_type.elem_types
            made = [zeros(source.name, part) for source, part in zip(node.input, parts)]
            return made if node.op_type == "MakeList" else tuple(made)
        return _zeros(node.output_type if node is not None else types.get(name, kind), anf_ir_pb2)

    return zeros(model.graph.outputs[0].name, model.graph.outputs[0].type)


def _zeros(kind: Any, schema: Any) -> Any:
    """Zeros of a type of the protocol."""
    import mindspore
    import numpy

    name = schema.DataType.Name(kind.data_type)
    if kind.data_type == schema.DT_TENSOR:
        dtype = schema.DataType.Name(kind.tensor_type.elem_type)[len("DT_") :].lower()
        shape = tuple(1 if dim.size < 0 else dim.size for dim in kind.tensor_type.shape.dim)
        return mindspore.Tensor(numpy.zeros(shape, numpy.float32), getattr(mindspore, dtype.replace("bool", "bool_")))
    if kind.data_type in (schema.DT_TUPLE, schema.DT_LIST):
        parts = [_zeros(part, schema) for part in kind.sequence_type.elem_types]
        return parts if kind.data_type == schema.DT_LIST else tuple(parts)
    scalars = {"DT_BOOL": False, "DT_STRING": "", "DT_NONE": None}
    if name in scalars:
        return scalars[name]
    if name.startswith(("DT_INT", "DT_UINT")):
        return 0
    if name.startswith("DT_FLOAT"):
        return 0.0
    raise TypeError(f"a graph's output of the kind {name} has no placeholder")


def planned_memory() -> int:
    """Bytes of device memory that MindSpore's pool gave out at most until now, in this process."""
    import mindspore

    return int(mindspore.runtime.max_memory_allocated())
