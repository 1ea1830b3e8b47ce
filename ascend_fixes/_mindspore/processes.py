"""Processes that MindSpore forks or starts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from ascend_fixes._mindspore.executors import synchronous

__all__ = ["fork", "fusion_compiler_folder"]

_LOOK_SECONDS = 0.002
_LOOKS = 5  # in a row that must find every thread asleep
_PATIENCE_SECONDS = 2.0


def fork() -> int:
    """As `os.fork`, but the child gets threads of its own: without them its first graph would wait for ever.

    A thread that holds a lock at that moment holds it in the child for good. So the operations under way are waited
    for, and MindSpore's kernel threads, which look for more work for a while after the last of it, with their lock
    taken and released.
    """
    from mindspore._c_expression import fork_utils

    with contextlib.suppress(Exception), synchronous():  # what fails there was sent by others, and is not ours to tell
        pass
    _wait_for_threads()
    fork_utils.prepare_before_fork()
    child = os.fork()
    if child:
        fork_utils.parent_at_fork()
    else:
        fork_utils.child_at_fork()
    return child


def _wait_for_threads() -> None:
    """Until all other threads of this process sleep; not for ever, as one may be busy with something else."""
    end, quiet = time.monotonic() + _PATIENCE_SECONDS, 0
    while quiet < _LOOKS and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        quiet = 0 if _a_thread_runs() else quiet + 1


def _a_thread_runs() -> bool:
    """Whether another thread of this process is running or waiting for a processor."""
    own = str(threading.get_native_id())
    return any(_state(task) == "R" for task in Path("/proc/self/task").glob("*") if task.name != own)


def _state(task: Path) -> str:
    with contextlib.suppress(OSError, IndexError):
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    return ""


def fusion_compiler_folder() -> Path | None:
    """Where AKG's compile server writes kernels; None where neither this process nor the one it was forked from has started it.

    The server is a child process that keeps the working directory it was started in, and writes its kernels there, wherever
    this process has gone since.
    """
    for child in _children(os.getpid(), os.getppid()):
        if b"kernel_build_server_akg" in _command_line(child):
            with contextlib.suppress(OSError):  # it has just ended
                folder = Path(f"/proc/{child}/cwd").readlink()
                return folder if folder.is_dir() else None
    return None


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
