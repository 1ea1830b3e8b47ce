"""The seam: the only file that touches MindSpore's private names or asks which version is running.

Everything here is a thin accessor. What a name means, and why it is private,
stands beside it, so that a new MindSpore release is met by editing this file.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mindspore

__all__ = ["backend", "cell_compile_target", "compilation_targets", "jit_compile_target", "version", "version_text"]


# --- which MindSpore, on which backend ---------------------------------------------------------


def version_text() -> str:
    """The version of the installed MindSpore as it reports itself, for example ``"2.10.0"``."""
    return mindspore.__version__


def version() -> tuple[int, ...]:
    """The numeric part of the version, for comparison: ``"2.10.0rc1"`` gives ``(2, 10, 0)``."""
    return tuple(int(part) for part in re.findall(r"\d+", version_text())[:3])


def backend() -> str:
    """The backend that graphs run on, ``"CPU"``, ``"GPU"`` or ``"Ascend"``; asking does not initialise a device."""
    return mindspore.get_context("device_target")


def fork() -> int:
    """As `os.fork`, but the child gets threads of its own: without them its first graph would wait for ever."""
    from mindspore._c_expression import fork_utils

    fork_utils.prepare_before_fork()
    child = os.fork()
    if child:
        fork_utils.parent_at_fork()
    else:
        fork_utils.child_at_fork()
    return child


# --- shapes: compilation, the compile cache, dynamic inputs ------------------------------------


def _executor_module() -> str:
    """The module that holds MindSpore's graph executors: it moved in 2.9."""
    return "mindspore.graph.api" if version() >= (2, 9) else "mindspore.common.api"


def cell_compile_target() -> str:
    """The method that every cell's compilation passes through, as ``"module:Class.attribute"``.

    ``compile(self, obj, *args, phase="predict", do_convert=True, jit_config_dict=None, **kwargs)``
    is called before every run in graph mode; it compiles where ``obj.compile_cache`` lacks the phase.
    """
    return f"{_executor_module()}:_CellGraphExecutor.compile"


def jit_compile_target() -> str:
    """The method that every compilation of a ``jit`` function passes through, as ``"module:Class.attribute"``.

    ``compile(self, method_name, *args, phase="", **kwargs)``.
    """
    return f"{_executor_module()}:_JitExecutor.compile"


def jit_call_target() -> str:
    """The method that every call of a ``jit`` function passes through, as ``"module:Class.attribute"``."""
    return f"{_executor_module()}:_JitExecutor.__call__"


def in_graph_mode() -> bool:
    """Whether cells are compiled when called; the public ``get_context("mode")`` takes 10 microseconds to say so."""
    return mindspore.context._get_mode() == mindspore.GRAPH_MODE


def compilation_targets() -> tuple[str, ...]:
    """The methods that run only where a graph is really compiled, as ``"module:Class.attribute"``.

    ``compile(self, obj, args, kwargs, phase, jit_config)``, where ``obj`` is the cell, the ``jit`` function, or the
    object whose method ``obj.__parse_method__`` is compiled. A wrapper of these costs a step nothing.
    """
    return ("mindspore._c_expression:GraphExecutor_.compile", "mindspore._c_expression:JitExecutor_.compile")


def _executor() -> Any:
    """MindSpore's one compiler and runner of cells."""
    return importlib.import_module(_executor_module())._cell_graph_executor


def _own_phase_part(cell: mindspore.nn.Cell) -> str:
    """What the names of all of a cell's graphs contain: a deep copy inherits the names, not the graphs."""
    return f".{cell.create_time}.{id(cell)}."


def compiled_phases(cell: mindspore.nn.Cell) -> list[str]:
    """The names of the graphs that a cell holds, oldest first.

    A name is ``<phase>.<creation time>.<id of the cell>.<number of the argument signature>``; the numbers are
    given in the order in which signatures are first seen.
    """
    own = _own_phase_part(cell)
    numbered = ((phase.partition(own)[2], phase) for phase in cell.compile_cache if own in phase)
    return [phase for _, phase in sorted(numbered, key=lambda item: (len(item[0]), item))]


def latest_phase(cell: mindspore.nn.Cell) -> str:
    """The name of the graph that a cell compiled, or looked up to run, last."""
    return cell.current_phase


def phase_name(cell: mindspore.nn.Cell, phase: str) -> str:
    """The name that the cell's phase had, for example "train"."""
    return phase.partition(_own_phase_part(cell))[0]


def would_compile(cell: mindspore.nn.Cell, args: tuple, kwargs: dict) -> bool:
    """Whether calling ``cell.compile(*args, **kwargs)`` would compile a new graph. Compiles nothing."""
    executor = _executor()
    compile_args = cell._get_compile_args(args)
    broaden = getattr(cell, "enable_tuple_broaden", False)
    inner = executor._graph_executor
    if hasattr(executor, "set_real_args"):  # 2.8 and later
        executor.set_real_args(args, kwargs)
    inner.set_enable_tuple_broaden(broaden)
    key = str(inner.generate_arguments_key(cell, compile_args, kwargs, broaden))
    inner.clear_compile_arguments_resource()
    phase = f"{cell.phase}{_own_phase_part(cell)}{key}"
    return not any(p == phase or p.startswith(phase + ".") for p in cell.compile_cache)


def abandon_compilation() -> None:
    """Let go of the arguments of a compilation that was begun and will not take place.

    Between looking for a graph and compiling it, MindSpore calls the cell's ``check_names``: what raises there keeps
    the graph from being compiled. Every later call of the cell sets anew what was set until then.
    """
    _executor()._graph_executor.clear_compile_arguments_resource()


def graph_inputs(cell: mindspore.nn.Cell, phase: str) -> dict[str, str]:
    """The inputs of a compiled graph of a cell, parameters left out: ``{"ids": "Int32[2, 8]"}``."""
    parameters = {parameter.name for parameter in cell.get_parameters()}
    return {
        parameter.name: _proto_type_text(parameter.type)
        for parameter in _graph(cell, phase).parameters
        if parameter.name not in parameters
    }


def _graph(cell: mindspore.nn.Cell, phase: str) -> Any:
    """A compiled graph of a cell, as MindSpore describes it in its protocol `anf_ir`."""
    model = _graph_schema().ModelProto()
    model.ParseFromString(_executor()._graph_executor.get_func_graph_proto(phase, "anf_ir", False))
    return model.graph


def _graph_schema() -> Any:
    from mindspore.train import anf_ir_pb2  # slow to import, and seldom wanted

    return anf_ir_pb2


def _proto_type_text(kind: Any) -> str:
    """``Int32[2, 8]`` for a Tensor; the type's own name, as Int64, for a scalar."""
    tensor = kind.data_type == _graph_schema().DT_TENSOR
    name = _graph_schema().DataType.Name(kind.tensor_type.elem_type if tensor else kind.data_type)
    text = name.replace("DT_", "").capitalize()
    return f"{text}[{', '.join(str(dim.size) for dim in kind.tensor_type.shape.dim)}]" if tensor else text


# The persistent compile cache. MindSpore counts the compilations of a process while the cache is on; number n
# reads, or else writes, compile_cache_<n>.mindir in a directory that is fixed at the first of them. A compilation
# that finds its file missing or its hash of source files wrong switches the cache off for the rest of the process
# (a flag named compile_cache_consistent), unless MS_DEV_FORCE_USE_COMPILE_CACHE skips those checks: then every
# number is tried for itself.

COMPILE_CACHE_FILES = "rank_*/graph_cache/compile_cache_*.mindir"
_FORCE = "MS_DEV_FORCE_USE_COMPILE_CACHE"

# What a cell notes about its own history: it differs between runs and does not enter the graph.
_VOLATILE = frozenset(
    """
    __compile_cell_hook__ __parse_method__ _cell_init_args _compile_cache _compile_phase _compiled _create_time
    _exist_names _exist_objs _has_mutable_args_list _id _init_flag _is_check_and_refresh _lazy_construct_sig
    _mutable_flags _param_prefix _parameter_layout_dict _phase_cache _scope arguments_key check_names cls_name compile
    compile_phase current_phase is_top_cell sequence_modified
    """.split()
)


def compiling_targets() -> tuple[str, ...]:
    """The methods called when a compilation really starts, of cells and of jit functions.

    Each tells the compiler which source files the graph depends on, just before it compiles.
    """
    module = _executor_module()
    return tuple(f"{module}:{name}._set_compile_cache_dep_files" for name in ("_CellGraphExecutor", "_JitExecutor"))


def compile_cache_file(number: int) -> str:
    """The file of compilation ``number`` below the cache's directory."""
    return f"rank_{_rank()}/graph_cache/compile_cache_{number}.mindir"


def _rank() -> int:
    from mindspore import communication

    return communication.get_rank() if communication.GlobalComm.INITED else 0


def is_whole_graph(content: bytes) -> bool:
    """Whether what MindSpore wrote for its compile cache can be read as a model, to its end."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from mindspore.train import mind_ir_pb2

    model = mind_ir_pb2.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return False
    # The fields are written in their order, and this is the last: a file cut between two fields lacks it.
    return model.HasField("graph") and model.HasField("mind_ir_version")


def wanted_compile_cache() -> tuple[bool, str]:
    """Whether the user has switched the compile cache on, by context or environment, and its directory."""
    enabled = mindspore.get_context("enable_compile_cache")
    if enabled is None:
        enabled = os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1"
    path = mindspore.get_context("compile_cache_path") or os.environ.get("MS_COMPILER_CACHE_PATH") or "."
    return bool(enabled), path


def set_compile_cache(enabled: bool) -> None:
    """Switch the compile cache on, without MindSpore's own checks, or off: for the compilations that follow."""
    if mindspore.get_context("enable_compile_cache") is not None:  # set by the user: the environment is not asked
        mindspore.set_context(enable_compile_cache=enabled)
    for name in ("MS_COMPILER_CACHE_ENABLE", _FORCE):
        if enabled:
            os.environ[name] = "1"
        else:
            os.environ.pop(name, None)


def set_compile_cache_directory(path: str) -> None:
    """Where MindSpore reads and writes its numbered files; without effect after the first cached compilation."""
    if mindspore.get_context("compile_cache_path"):
        mindspore.set_context(compile_cache_path=path)
    os.environ["MS_COMPILER_CACHE_PATH"] = path


def has_compiled_anything() -> bool:
    """Whether this process holds a compiled graph."""
    module = importlib.import_module(_executor_module())
    return bool(module.ms_compile_cache) or any(module.cells_compile_cache.values())


def taking_gradients() -> bool:
    """Whether a jit function would be compiled together with its gradient."""
    return bool(importlib.import_module(_executor_module())._pynative_executor.requires_grad())


@contextlib.contextmanager
def dynamic_inputs(cell: mindspore.nn.Cell, inputs: tuple) -> Iterator[None]:
    """Inside, calling ``cell`` compiles and runs the graph for ``inputs``, Tensors with unknown lengths among them.

    What `Cell.set_inputs` sets, which has no way back. Static graphs of the cell stay, and are found again after it.
    """
    before = cell._dynamic_shape_inputs
    cell._dynamic_shape_inputs = inputs
    try:
        yield
    finally:
        cell._dynamic_shape_inputs = before


def pipeline_iterators() -> tuple[type, ...]:
    """What `create_dict_iterator` and `create_tuple_iterator` of a `mindspore.dataset` pipeline return."""
    iterators = importlib.import_module("mindspore.dataset.engine.iterators")
    return iterators.DictIterator, iterators.TupleIterator


def model_targets() -> tuple[str, str]:
    """How `mindspore.Model` makes the cells that it trains and evaluates, as ``"module:Class.attribute"``.

    ``_build_train_network(self)`` returns the cell, ``_build_eval_network(self, metrics, eval_network, eval_indexes)``
    keeps it. Both are called once, by ``__init__``.
    """
    return tuple(f"mindspore.train.model:Model._build_{what}_network" for what in ("train", "eval"))  # type: ignore


def model_network(model: mindspore.Model) -> mindspore.nn.Cell:
    """The network that a `Model` was given."""
    return model._network


def model_loss(model: mindspore.Model) -> Any:
    """The loss function that a `Model` was given, or None."""
    return model._loss_fn


def model_eval_network(model: mindspore.Model) -> Any:
    """The cell that a `Model` evaluates, or None."""
    return getattr(model, "_eval_network", None)


def set_model_eval_network(model: mindspore.Model, network: mindspore.nn.Cell) -> None:
    """Have a `Model` evaluate this cell."""
    model._eval_network = network


def cell_state(cell: mindspore.nn.Cell) -> dict[str, Any]:
    """A cell's attributes, sub-cells and parameters that its graph can depend on."""
    unused = {"init_tensor"} if isinstance(cell, mindspore.nn.Embedding) else ()  # its table's first values
    state = {name: value for name, value in cell.__dict__.items() if name not in _VOLATILE and name not in unused}
    return {
        name: value
        for name, value in state.items()
        if not (name.startswith("_ascend_fixes") or (name.startswith("_") and not value and value is not False))
    }


def jit_state(executor: Any) -> dict[str, Any]:
    """What a jit function's graph can depend on besides its arguments."""
    volatile = ("_create_time", "_graph_executor", "_mutable_flags", "sequence_modified")
    return {name: value for name, value in vars(executor).items() if name not in volatile}


def is_platform_type(value: Any) -> bool:
    """Whether ``value`` is a MindSpore dtype or another compiled object that its text describes completely."""
    return type(value).__module__ in ("mindspore._c_expression.typing", "mindspore._c_expression.amp")


def compile_settings() -> dict[str, str]:
    """The settings of this process that a graph can depend on."""
    names = [
        "mode", "device_target", "enable_graph_kernel", "graph_kernel_flags", "deterministic",
        "jit_level", "jit_config", "max_call_depth", "jit_enable_inplace_ops", "memory_optimize_level", "jit_syntax_level",
    ]  # fmt: skip
    settings = {name: str(mindspore.context.get_context(name)) for name in names if _known_setting(name)}
    parallel = ("parallel_mode", "device_num", "global_rank", "gradients_mean", "full_batch")
    settings.update({name: str(mindspore.get_auto_parallel_context(name)) for name in parallel})
    settings.update({k: v for k, v in os.environ.items() if k.startswith("MS_") and "CACHE" not in k})
    return settings


def _known_setting(name: str) -> bool:
    try:
        mindspore.context.get_context(name)
    except (ValueError, KeyError):
        return False
    return True


# --- fusion -------------------------------------------------------------------------------------


def graph_kernel_flags() -> str:
    """The flag string that ``set_context(graph_kernel_flags=...)`` holds."""
    return mindspore.get_context("graph_kernel_flags")


def set_graph_kernel_flags(text: str) -> None:
    """Set that string without the deprecation warning that `set_context` prints on every call."""
    _set_context_parameter("graph_kernel_flags", text)


def set_kernel_directory(path: str) -> None:
    """Where compiled kernels go; read once, by the first compilation that fuses or that uses the compile cache.

    ``set_context(compile_cache_path=...)`` would create the folder and cannot set it back to "".
    """
    _set_context_parameter("compile_cache_path", path)


def fusion_compiler_runs() -> bool:
    """Whether this process, or the one that it was forked from, has started AKG's compile server.

    The server is a child process that keeps the working directory it was started in, and writes its kernels there.
    """
    return any(b"kernel_build_server_akg" in _command_line(child) for child in _children(os.getpid(), os.getppid()))


def _children(*parents: int) -> list[int]:
    found = []
    for parent in parents:
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in path.read_text().split()]
    return found


def _command_line(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def _set_context_parameter(name: str, value: str) -> None:
    from mindspore import context
    from mindspore._c_expression import ms_ctx_param

    context._context().set_param(ms_ctx_param.__members__[name], value)


def eager_gradient_target() -> str:
    """Where PyNative mode compiles the backward graph of a ``jit`` function, as ``"module:Class.attribute"``.

    ``grad(self, obj, grad, weights, grad_position, *args)`` is called with the function whose gradient is taken.
    """
    return f"{_executor_module()}:_PyNativeExecutor.grad"


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


def graph_scopes(cell: mindspore.nn.Cell) -> list[tuple[str, str]]:
    """The operators of a cell's latest graph with the path of the cell they sit in: ``("Exp", "Default/net-Net")``."""
    return [(node.op_type, node.scope) for node in _graph(cell, compiled_phases(cell)[-1]).node]


def has_fusion_compiler() -> bool:
    """Whether the wheel brings AKG, the compiler of fused kernels, for this backend; Ascend's is part of CANN."""
    if backend() != "CPU":
        return True
    return (Path(mindspore.__file__).parent / "lib" / "plugin" / "cpu" / "libakg.so").exists()


def rewrite_os_target() -> str:
    """The ``os`` by which the rewriting of networks (O1 and O2 of `amp`) finds the folder it writes its sources to."""
    return "mindspore.rewrite.symbol_tree.symbol_tree:os"


# --- host ---------------------------------------------------------------------------------------


def graph_nodes(cell: mindspore.nn.Cell) -> list[tuple[str, tuple[int, ...]]]:
    """The operators of a cell's latest graph with the shape of their output; -1 for a size known only when run."""
    return [(name, shapes[0] if len(shapes) == 1 else ()) for name, shapes, _ in graph_operators(cell)]


def graph_operators(cell: mindspore.nn.Cell) -> list[tuple[str, list[tuple[int, ...]], dict[str, Any]]]:
    """The operators of a cell's latest graph: name, output shapes (-1: known only when run), and attributes.

    Of the attributes only those that are one string, number or truth value; ``primitive_target`` tells where
    an operator was placed by hand.
    """
    return [
        (node.op_type, list(_proto_shapes(node.output_type)), _proto_attributes(node))
        for node in _graph(cell, compiled_phases(cell)[-1]).node
    ]


def _proto_shapes(kind: Any) -> Any:
    """The shapes of the Tensors in a type."""
    if kind.data_type == _graph_schema().DT_TENSOR:
        yield tuple(dim.size for dim in kind.tensor_type.shape.dim)
    for part in kind.sequence_type.elem_types:
        yield from _proto_shapes(part)


def _proto_attributes(node: Any) -> dict[str, Any]:
    fields = {
        _graph_schema().DT_STRING: "str_val",
        _graph_schema().DT_BOOL: "bool_val",
        _graph_schema().DT_INT64: "int_val",
    }
    return {
        attribute.name: getattr(attribute.value, fields[attribute.value.dtype])
        for attribute in node.attribute
        if attribute.value.dtype in fields
    }


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
    import sys

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


def graph_transfers(cell: mindspore.nn.Cell) -> list[tuple[str, int]]:
    """The operators of a cell's latest graph that are placed on the host: name, and bytes in and out of them in a run.

    Shapes known only when run count as nothing.
    """
    graph = _graph(cell, compiled_phases(cell)[-1])
    sizes = {parameter.name: _proto_bytes(parameter.type) for parameter in graph.parameters}
    sizes.update((node.name, _proto_bytes(node.output_type)) for node in graph.node)
    return [
        (node.op_type, sizes[node.name] + sum(sizes.get(source.name, 0) for source in node.input))
        for node in graph.node
        if _proto_attributes(node).get("primitive_target") == "CPU"
    ]


def _proto_bytes(kind: Any) -> int:
    """Bytes of the Tensors in a type."""
    total = sum(_proto_bytes(part) for part in kind.sequence_type.elem_types)
    if kind.data_type == _graph_schema().DT_TENSOR:
        bits = re.search(r"\d+$", _graph_schema().DataType.Name(kind.tensor_type.elem_type))
        count = 1
        for dim in kind.tensor_type.shape.dim:
            count *= max(0, dim.size)
        total += count * (int(bits.group()) // 8 if bits else 1)
    return total


# --- amp ----------------------------------------------------------------------------------------
#
# A cast strategy is what `auto_mixed_precision(net, "auto")` pushes around a network: names of operators whose float
# inputs are cast down, and of those whose float inputs are cast up to float32. The graph compiler reads it from the
# attribute `amp_strategy` of a cell and applies it to all that the cell calls, up to the next cell that has one of its
# own; PyNative reads the innermost one that was pushed.


def cast_strategy(dtype: Any, low: Iterable[str], full: Iterable[str]) -> Any:
    """Operators ``low`` take their float inputs in ``dtype``, ``full`` in float32, all others as they come."""
    from mindspore._c_expression.amp import AmpLevel, create_amp_strategy

    return create_amp_strategy(
        AmpLevel.AmpAuto, dtype, [(name, []) for name in sorted(low)], [(name, []) for name in sorted(full)]
    )


def blanket_strategy(dtype: Any) -> Any:
    """Every operator takes its float inputs in ``dtype``."""
    from mindspore._c_expression.amp import AmpLevel, create_amp_strategy

    return create_amp_strategy(AmpLevel.AmpO3, dtype, [], [])


@contextlib.contextmanager
def pushed_strategy(strategy: Any) -> Iterator[None]:
    """A cast strategy for PyNative: it holds for every operator called inside, in this thread."""
    from mindspore._c_expression.amp import pop_amp_strategy, push_amp_strategy

    push_amp_strategy(
        strategy.get_amp_level(), strategy.get_amp_dtype(), strategy.get_white_list(), strategy.get_black_list()
    )
    try:
        yield
    finally:
        pop_amp_strategy()


def child_cells(cell: Any) -> dict[str, Any]:
    """The cells that a cell holds, by attribute name; one held under two names is listed twice."""
    return {name: child for name, child in cell._cells.items() if child is not None}


def copy_with_children(cell: Any, children: dict[str, Any]) -> Any:
    """A shallow copy of a cell that holds other children and the same parameters, and has compiled nothing.

    A copy made by `copy.copy` alone shares the very ``__dict__`` of its original, and what that has compiled. Cells may
    stand in tuples and lists as well (``SequentialCell.cell_list``).
    """
    replaced = {id(cell._cells[name]): child for name, child in children.items()}

    def substitute(value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(replaced.get(id(item), item) for item in value)
        return value

    twin = copy.copy(cell)
    hooks = ("compile", "check_names")  # set on one cell by `shapes.graphs` and `host.placement`, for that cell
    state = {name: substitute(value) for name, value in cell.__dict__.items() if name not in hooks}
    state["_cells"] = type(cell._cells)({**cell._cells, **children})
    state["_params"] = cell._params.copy()
    state.update(_compile_cache=None, _phase_cache=None, _compile_phase=None)
    object.__setattr__(twin, "__dict__", state)
    return twin


@contextlib.contextmanager
def mode_set(mode: int) -> Iterator[None]:
    """Graph or PyNative mode for a while."""
    before = mindspore.context._get_mode()
    mindspore.set_context(mode=mode)
    try:
        yield
    finally:
        mindspore.set_context(mode=before)


def on_gradient(value: Any, hook: Any) -> None:
    """Call ``hook`` with the gradient of a Tensor of a PyNative run, if it gets one; whether it does has no public name."""
    try:
        value.register_hook(hook)
    except RuntimeError as error:
        if "requires grad" not in str(error):
            raise


def auto_cast_lists() -> tuple[frozenset[str], frozenset[str]]:
    """The operators that MindSpore's own level "auto" computes in half precision, and in float32."""
    from mindspore.train import amp

    names = [
        frozenset(entry.__name__ for entry in entries) for entries in (amp.AMP_AUTO_WHITE_LIST, amp.AMP_AUTO_BLACK_LIST)
    ]
    return names[0], names[1]


def mark_amp_level(cell: Any, level: str) -> None:
    """Tell MindSpore that a network is lowered to ``level``: it then casts labels and outputs of the loss to float32."""
    cell._amp_level = level


def loss_scale_manager(level: str, overrides: dict[str, Any]) -> Any:
    """The loss scale manager that `build_train_network` uses at a level, or the one its caller gave; None for none."""
    from mindspore.train.amp import _config_level

    return {**_config_level.get(level, {}), **overrides}.get("loss_scale_manager")


def precision_process_target() -> str:
    """The function by which `build_train_network` and `Model` lower a network."""
    return "mindspore.train.amp:_auto_mixed_precision_process"


def saturates() -> bool:
    """Whether the device replaces infinity by the largest finite value: a 910A always, a 910B when it is told to.

    What `mindspore.nn.TrainOneStepWithLossScaleCell` asks of the device and of the environment.
    """
    if backend() != "Ascend":
        return False
    if _is_910a():
        return True
    return _is_910b() and os.environ.get("MS_ASCEND_CHECK_OVERFLOW_MODE") == "SATURATION_MODE"


def has_bfloat16() -> bool:
    """Whether the backend multiplies matrices in bfloat16: not the CPU (no kernel), not a 910A (no such type)."""
    return backend() != "CPU" and not (backend() == "Ascend" and _is_910a())


def _is_910a() -> bool:
    return _soc("amp_loss_scale_train_classic_target", ("ascend910",))


def _is_910b() -> bool:
    return _soc("train_hq_dtype_line", ("ascend910b", "ascend910_93", "ascend950"))


def _soc(feature: str, names: tuple[str, ...]) -> bool:
    """2.10 asks the device for a feature, earlier versions for its name."""
    from mindspore._c_expression import MSContext

    context = MSContext.get_instance()
    if hasattr(context, "ascend_soc_supports_feature"):
        return bool(context.ascend_soc_supports_feature(feature))
    return context.get_ascend_soc_version() in names
