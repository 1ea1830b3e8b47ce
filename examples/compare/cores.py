"""Processes side by side, each on a core of its own, so that their times compare."""

from __future__ import annotations

import os
import queue
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Callable, TypeVar

from ascend_fixes.processes import Children

__all__ = ["side_by_side"]

Work = TypeVar("Work")
Found = TypeVar("Found")


def side_by_side(
    work: Sequence[Work],
    do: Callable[[Work, Children], Found],
    cores: Sequence[int],
    told: Callable[[int, Work, Found], None],
) -> list[Found]:
    """What came of every piece of work, in order.

    Args:
        work: what is to be done, as many pieces at a time as there are ``cores``.
        do: does a piece in a thread that is bound to a core, and so is a process that it starts with the `Children`. They
            end with this call, whatever ends it.
        cores: their numbers.
        told: is called for every piece that is done, with how many are.
    """
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in cores:
        free.put(core)
    with Children() as children:
        pool = ThreadPoolExecutor(len(cores), initializer=lambda: os.sched_setaffinity(0, {free.get()}))
        try:
            futures = {pool.submit(do, piece, children): piece for piece in work}
            for count, future in enumerate(as_completed(futures), 1):
                told(count, futures[future], future.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [future.result() for future in futures]
