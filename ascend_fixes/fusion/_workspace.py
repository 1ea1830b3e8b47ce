"""Where MindSpore writes what nobody asked it to write.

Compiled kernels (``akg_kernel_meta``, ``kernel_build_tmp.key``) go to a cache
folder of the user, where the next process finds them again; reports of failed
compilations (``rank_0/om/analyze_fail.ir``) to a folder beside it, which the
error message names. The compiler's trace (``dsa_transfrom.log``) is removed
where it was not there before. Wherever the user has chosen a place, that choice
stands.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mindspore

from ascend_fixes import _mindspore
from ascend_fixes.compiling import Hook
from ascend_fixes.files import user_folder

__all__ = ["TIDY", "cache_folder", "scratch_folder", "tidily"]

_TRACE = "dsa_transfrom.log"


@functools.cache
def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/ascend_fixes/mindspore-<version>`` (by default under ``~/.cache``).

    A temporary folder of this process stands in where that one cannot be written.
    """
    try:
        kept = user_folder("XDG_CACHE_HOME", ".cache")
        folder = kept / f"mindspore-{_mindspore.version_text()}-{_mindspore.backend()}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder.resolve()
    except OSError:
        pass
    return scratch_folder()


@functools.cache
def scratch_folder() -> Path:
    """A folder for temporary files that lives as long as this process."""
    folder = tempfile.mkdtemp(prefix="ascend_fixes-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextlib.contextmanager
def tidily() -> Iterator[None]:
    """What is compiled inside leaves the working directory as it is."""
    with _kernels_in_cache(), _mindspore.reports_in(cache_folder), _without_trace():
        yield


TIDY = Hook("tidy", lambda _: tidily(), "keeps what MindSpore writes out of the working directory")


@contextlib.contextmanager
def _kernels_in_cache() -> Iterator[None]:
    """Name the cache folder, which the first compilation that fuses reads, unless the user named one."""
    graphs_cached = mindspore.get_context("enable_compile_cache") or os.environ.get("MS_COMPILER_CACHE_ENABLE") == "1"
    named = mindspore.get_context("compile_cache_path") or os.environ.get("MS_COMPILER_CACHE_PATH")
    if graphs_cached or named:
        yield
        return
    _mindspore.set_kernel_directory(str(cache_folder()))
    try:
        yield
    finally:
        _mindspore.set_kernel_directory("")


@contextlib.contextmanager
def _without_trace() -> Iterator[None]:
    # The compiler's process stays in the folder that was current when it was started.
    traces = [folder / _TRACE for folder in {_first_folder(), Path.cwd()}]
    new = [trace for trace in traces if not trace.exists()]
    try:
        yield
    finally:
        for trace in new:
            trace.unlink(missing_ok=True)


@functools.cache
def _first_folder() -> Path:
    return Path.cwd()
