"""The process-wide context: mode, flags of the graph kernel, directories, and what the device is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import mindspore

from ascend_fixes._mindspore.versions import backend

__all__ = [
    "graph_kernel_flags",
    "has_bfloat16",
    "has_fusion_compiler",
    "in_graph_mode",
    "mode_set",
    "reports_in",
    "saturates",
    "set_graph_kernel_flags",
    "set_kernel_directory",
]


def in_graph_mode() -> bool:
    """Whether cells are compiled when called; the public ``get_context("mode")`` is slow for a call at every step."""
    return mindspore.context._get_mode() == mindspore.GRAPH_MODE


@contextlib.contextmanager
def mode_set(mode: int) -> Iterator[None]:
    """Graph or PyNative mode for a while."""
    before = mindspore.context._get_mode()
    mindspore.set_context(mode=mode)
    try:
        yield
    finally:
        mindspore.set_context(mode=before)


_REPORTS = "MS_OM_PATH"  # the folder in which MindSpore makes rank_<n>/om


@contextlib.contextmanager
def reports_in(folder: Callable[[], Path]) -> Iterator[None]:
    """Reports of failed compilations go to a folder, which is asked for if the user has named none."""
    if _REPORTS in os.environ:
        yield
        return
    os.environ[_REPORTS] = str(folder())
    try:
        yield
    finally:
        os.environ.pop(_REPORTS, None)


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


def _set_context_parameter(name: str, value: str) -> None:
    from mindspore import context
    from mindspore._c_expression import ms_ctx_param

    context._context().set_param(ms_ctx_param.__members__[name], value)


def has_fusion_compiler() -> bool:
    """Whether the wheel brings AKG, the compiler of fused kernels, for this backend; Ascend's is part of CANN."""
    if backend() != "CPU":
        return True
    return (Path(mindspore.__file__).parent / "lib" / "plugin" / "cpu" / "libakg.so").exists()


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
