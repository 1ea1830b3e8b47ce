"""Whether a compilation fuses: what the user has set, in which of the places, and what decides.

The graph kernel is switched by ``set_context(enable_graph_kernel=...)``, by ``jit_level`` and by ``--opt_level`` among its
flags; the flags stand in the environment, in the context or in ``JitConfig``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import mindspore

from ascend_fixes import _mindspore
from ascend_fixes.fusion._flags import Flag, opt_level, parse

__all__ = ["ENVIRONMENT", "is_fusing", "switch", "users_flags"]

ENVIRONMENT = "MS_DEV_GRAPH_KERNEL_FLAGS"


def is_fusing(options: Mapping[str, Any]) -> bool:
    """Will a compilation with these ``jit`` options fuse?"""
    return switch(users_flags(options), options)[0]


def users_flags(options: Mapping[str, Any]) -> tuple[Flag, ...]:
    """The user's own flags from all three places."""
    return (
        *parse(os.environ.get(ENVIRONMENT, ""), ENVIRONMENT),
        *parse(str(options.get("graph_kernel_flags") or ""), "JitConfig"),
        *parse(_mindspore.graph_kernel_flags(), "set_context"),
    )


def switch(user: Iterable[Flag], options: Mapping[str, Any]) -> tuple[bool, str]:
    """Is fusion on, and what decides it."""
    if not _mindspore.has_fusion_compiler():
        return False, f"this MindSpore brings no compiler of fused kernels for {_mindspore.backend()}"
    level = opt_level(user)
    if level is not None:
        return level > 0, f"--opt_level={level}"
    if mindspore.get_context("enable_graph_kernel"):
        return True, "set_context(enable_graph_kernel=True)"
    if (options.get("jit_level") or mindspore.get_context("jit_level")) == "O1":
        if _mindspore.backend() == "CPU":  # tried on 2.10.0: this level alone compiles no fused kernel
            return False, "jit_level O1 does not fuse on CPU; set_context(enable_graph_kernel=True) does"
        return True, "jit_level O1"
    return False, "neither set_context(enable_graph_kernel=True), jit_level O1 nor --opt_level is set"
