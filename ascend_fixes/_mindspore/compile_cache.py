"""MindSpore's persistent compile cache, and what a graph depends on.

MindSpore counts the compilations of a process while the cache is on; number n reads, or else writes,
``compile_cache_<n>.mindir`` in a directory that is fixed at the first of them. A compilation that finds its file
missing or its hash of source files wrong switches the cache off for the rest of the process (a flag named
compile_cache_consistent), unless MS_DEV_FORCE_USE_COMPILE_CACHE skips those checks: then every number is tried
for itself.
"""

from __future__ import annotations

import os
from typing import Any

import mindspore

__all__ = [
    "COMPILE_CACHE_FILES",
    "cell_state",
    "compile_cache_file",
    "compile_settings",
    "is_platform_type",
    "is_whole_graph",
    "set_compile_cache",
    "set_compile_cache_directory",
    "wanted_compile_cache",
]

COMPILE_CACHE_FILES = "rank_*/graph_cache/compile_cache_*.mindir"


_FORCE = "MS_DEV_FORCE_USE_COMPILE_CACHE"


# What a cell notes about its own history: it differs between runs and does not enter the graph.
_VOLATILE = frozenset(
    """
    __compile_cell_hook__ __parse_method__ _cell_init_args _compile_cache _compile_phase _compiled _create_time
    _exist_names _exist_objs _has_mutable_args_list _id _init_flag _is_check_and_refresh _lazy_construct_sig
    _mutable_flags _param_prefix _parameter_layout_dict _phase_cache _scope arguments_key cls_name compile_phase
    current_phase is_top_cell sequence_modified
    """.split()
)


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


def cell_state(cell: mindspore.nn.Cell) -> dict[str, Any]:
    """A cell's attributes, sub-cells and parameters that its graph can depend on."""
    unused = {"init_tensor"} if isinstance(cell, mindspore.nn.Embedding) else ()  # its table's first values
    state = {name: value for name, value in cell.__dict__.items() if name not in _VOLATILE and name not in unused}
    return {
        name: value
        for name, value in state.items()
        if not (name.startswith("_ascend_fixes") or (name.startswith("_") and not value and value is not False))
    }


def is_platform_type(value: Any) -> bool:
    """Whether ``value`` is a MindSpore dtype or another compiled object that its text describes completely."""
    return type(value).__module__ in ("mindspore._c_expression.typing", "mindspore._c_expression.amp")


def compile_settings() -> dict[str, str]:
    """The settings of this process that a graph can depend on."""
    names = [
        "mode",
        "device_target",
        "enable_graph_kernel",
        "graph_kernel_flags",
        "deterministic",
        "jit_level",
        "jit_config",
        "max_call_depth",
        "jit_enable_inplace_ops",
        "memory_optimize_level",
        "jit_syntax_level",
    ]
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
