"""Compiling a bucketed cell's graphs ahead, several at a time.

Each graph is compiled by a worker that is forked from this process, so that it has the
very cell (cells do not pickle), and handed over through a `CompileCache`. Fork before
the process has used a compile cache: MindSpore fixes the cache's directory at its first
use, and workers must not share one.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from mindspore import nn

from ascend_fixes.errors import first_line
from ascend_fixes.processes import Children, Fork, scratch
from ascend_fixes.shapes._bucketed import bucketing_of
from ascend_fixes.shapes._compile_cache import CompileCache, CompileCacheError
from ascend_fixes.shapes._graphs import compiling_cell
from ascend_fixes.shapes._reasons import argument_names

__all__ = ["WarmReport", "warm"]

POLL_SECONDS = 0.05


@dataclass(frozen=True)
class WarmReport:
    """What `warm` did.

    Attributes:
        compiled: the sizes whose graphs are in the cache now, and the seconds each worker took.
        failed: the sizes that are left to be compiled at their first call.
        seconds: of the whole.
    """

    compiled: tuple[tuple[dict[str, int], float], ...]
    failed: tuple[dict[str, int], ...]
    seconds: float


def warm(
    cell: nn.Cell,
    inputs: Mapping[str, Any] | Sequence[Any],
    cache: CompileCache,
    workers: int = 2,
    timeout: float = 600.0,
    progress: Callable[[str], None] | None = None,
) -> WarmReport:
    """Compile every bucket of ``cell`` into ``cache``; a later call under the cache only loads its graph.

    Args:
        cell: a bucketed cell, in the mode (training or not) it will be called in.
        inputs: any batch it takes, by argument names or in their order: gives dtypes and fixed axes.
        cache: a cache that is not in use yet; enter it after this.
        workers: how many processes compile at a time.
        timeout: seconds for one graph; a worker that takes longer is ended. All end with this call, on Ctrl-C and SIGTERM too.
        progress: is told after every graph how far it is; by default a line on standard error.

    Raises:
        CellTypeError: the cell is not bucketed.
        CompileCacheError: a compile cache has been used by this process, or the platform cannot fork.
    """
    bucketing = bucketing_of(cell)
    if not hasattr(os, "fork"):
        raise CompileCacheError("warm forks its workers, which this platform cannot; call the cell instead")
    if CompileCache.has_served():
        raise CompileCacheError("a compile cache has been used in this process; call warm before the first `with`")
    if workers < 1:
        raise CompileCacheError(f"workers={workers} compile nothing; pass at least 1")
    args = _ordered(cell, inputs)
    waiting = bucketing.ragged.all_sizes()
    running: dict[Fork, dict[str, int]] = {}
    total, start = len(waiting), time.monotonic()
    compiled: list[tuple[dict[str, int], float]] = []
    failed: list[dict[str, int]] = []
    with scratch("ascend_fixes-warm-") as folder, Children() as children:
        while waiting or running:
            while waiting and len(running) < workers:
                sizes = waiting.pop(0)
                # A static graph, padded as a call would pad it.
                running[children.fork(functools.partial(_compile, cell, bucketing, args, sizes, cache, folder))] = sizes
            for worker in list(running):
                seconds = time.monotonic() - worker.started
                if worker.poll() is None and seconds <= timeout:
                    continue
                children.end(worker)
                sizes = running.pop(worker)
                if worker.status == 0:
                    compiled.append((sizes, seconds))
                else:
                    failed.append(sizes)
                (progress or _tell)(f"compiled {len(compiled)} of {total} graphs, {time.monotonic() - start:.0f} s")
            time.sleep(POLL_SECONDS)
    if failed:
        warnings.warn(f"{len(failed)} graphs could not be compiled ahead: {failed}", stacklevel=2)
    return WarmReport(tuple(compiled), tuple(failed), time.monotonic() - start)


def _compile(
    cell: nn.Cell, bucketing: Any, args: tuple, sizes: dict[str, int], cache: CompileCache, folder: Path
) -> None:
    """What a worker does, with its temporary files in ``folder``.

    Raises:
        CompileCacheError: the graph was not stored: it has to be compiled when it is called.
    """
    tempfile.tempdir = str(folder)
    try:
        with cache:
            padded, named = bucketing.padded(args, {}, bucketing.layout(args, sizes))
            compiling_cell(cell).compile(*padded, **named)
        if not cache.counts.stored + cache.counts.hits:
            raise CompileCacheError("the graph could not be stored")
    except BaseException as error:
        print(f"warm: {sizes}: {first_line(error)}", file=sys.stderr, flush=True)
        raise


def _ordered(cell: nn.Cell, inputs: Mapping[str, Any] | Sequence[Any]) -> tuple:
    if isinstance(inputs, Mapping):
        names, _ = argument_names(cell)
        return tuple(inputs[name] for name in names if name in inputs)
    return tuple(inputs)


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
