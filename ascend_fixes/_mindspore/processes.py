"""Processes that MindSpore forks or starts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["fork", "fusion_compiler_runs"]


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
