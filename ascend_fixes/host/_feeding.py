"""Feeding a cell from the host, without sinking the data to the device.

Data sinking needs columns of one shape and a numeric dtype; with ragged or string
columns it times out in GetNext or hangs at the end of the data (defect H4). `feed`
reads an iterable ahead in a thread, into a queue of bounded length, watches over a
pipeline of MindSpore's, and never waits without a limit: a stage that stalls is
named, an error in the data is raised where the batch would have come, and the end of
the data ends the loop.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import queue
import select
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np
from mindspore import Tensor
from mindspore.dataset import Dataset

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError

__all__ = ["Feed", "FeedError", "FeedTimeoutError", "feed"]

_POLL = 0.2  # seconds between two looks at whether the other side is still there
_LEAVE = 2.0  # seconds that a source which still runs may delay the end of the process
_UNLOCKED = "release unlocked lock"  # what a thread's start says when a signal's exception arrives amid its wait


class FeedError(AscendFixesError, RuntimeError):
    """The reading thread ended without an answer, or the arguments allow no feeding."""


class FeedTimeoutError(FeedError, TimeoutError):
    """No item came in time; the message names the stage that stalls and the line it stands at."""


def feed(dataset: Any, timeout: float = 60.0, prefetch: int = 2, output_numpy: bool = False) -> Feed:
    """Read a dataset ahead: ``for ids, mask, labels in feed(dataset): step(ids, mask, labels)``.

    Args:
        dataset: a `mindspore.dataset` pipeline, whose items are tuples of its columns, an iterator of one
            (``create_dict_iterator()``), or any iterable, whose items may be arrays or tuples, lists and dicts of them.
        timeout: seconds that the loop waits for an item, the first included.
        prefetch: items read ahead of an iterable, at least 1; this many are held in memory, and one more being
            read. A pipeline reads ahead by itself (`mindspore.dataset.config.set_prefetch_size`).
        output_numpy: leave arrays as they are; otherwise numeric ones become Tensors in the reading thread.
            Strings stay NumPy arrays either way.

    Returns:
        An iterable; every loop over it reads the dataset from its beginning. Leaving a loop early stops the
        reading. For use from one thread; an interrupt (Ctrl-C) is raised in the loop at once.

    Raises:
        FeedTimeoutError: in the loop, after ``timeout`` without an item.
        FeedError: prefetch below 1, a timeout that is not positive, or no iterable.
        Exception: what the dataset raises, with its own traceback, after the items before it. Of a pipeline whose map or
            batch runs a Python function that raises, MindSpore loses the items that these operations hold at that moment;
            those that have left them come first.
    """
    return Feed(dataset, timeout, prefetch, output_numpy)


class Feed:
    """What `feed` returns."""

    def __init__(self, dataset: Any, timeout: Any, prefetch: Any, output_numpy: bool) -> None:
        if not isinstance(timeout, (int, float, np.number)) or isinstance(timeout, bool) or not timeout > 0:
            raise FeedError(f"timeout={timeout!r} is no time to wait; pass a positive number of seconds")
        if not isinstance(prefetch, (int, np.integer)) or isinstance(prefetch, bool) or prefetch < 1:
            raise FeedError(f"prefetch={prefetch!r} is no number of items; pass an integer of at least 1")
        if not isinstance(dataset, (Dataset, Iterable)):
            raise FeedError(f"dataset={dataset!r} is not iterable; pass a mindspore.dataset pipeline or an iterable")
        self._dataset, self._timeout, self._prefetch, self._numpy = dataset, timeout, int(prefetch), output_numpy

    def __iter__(self) -> Iterator[Any]:
        reader: Any
        if isinstance(self._dataset, (Dataset, *_mindspore.pipeline_iterators())):
            reader = _Pipeline(self._dataset, self._numpy)
        else:
            reader = _Reader(self._dataset, self._prefetch, self._numpy)
        try:
            reader.start()
            while True:
                kind, value = reader.next(self._timeout)
                if kind == "end":
                    return
                if kind == "error":
                    raise value
                yield value
        except RuntimeError as error:
            if str(error) != _UNLOCKED or error.__context__ is None:
                raise
            raise error.__context__ from None
        finally:
            try:
                reader.stop()
            except BaseException:  # an interrupt amid it: no thread and no file of ours may stay behind
                reader.stop()
                raise


class _Reader:
    """A thread that reads items into a bounded queue, and says what it is doing.

    Simple queues and plain flags only: an interrupt that arrives amid the Python code of a Queue or an Event can leave its
    lock taken for good.
    """

    def __init__(self, dataset: Any, prefetch: int, output_numpy: bool) -> None:
        self._dataset, self._numpy = dataset, output_numpy
        self._queue: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for every item that may still be put
        for _ in range(prefetch):
            self._room.put(None)
        self._stopped = False
        self._stage = ("starting", time.monotonic())
        # A daemon: a dataset that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="ascend_fixes.host.feed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next(self, timeout: float) -> tuple[str, Any]:
        """The next answer: ``("item", value)``, ``("error", exception)`` or ``("end", None)``."""
        deadline = time.monotonic() + timeout
        while True:
            alive = self._thread.is_alive()  # asked before the queue: what a thread put before it ended is there
            try:
                answer = self._queue.get(timeout=max(0.0, min(_POLL, deadline - time.monotonic())))
                self._room.put(None)
                return answer
            except queue.Empty:
                if not alive:
                    raise FeedError(f"the reading thread ended while {self._stage[0]}, without an answer") from None
                if time.monotonic() >= deadline:
                    raise FeedTimeoutError(self._report(timeout)) from None

    def _report(self, timeout: float) -> str:
        stage, since = self._stage
        frame = _frames().get(self._thread.ident or 0)
        stack = traceback.extract_stack(frame) if frame is not None else None
        where = f", at {stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}" if stack else ""
        return (
            f"no item came within timeout={timeout:g} s: the reader has been {stage} for "
            f"{time.monotonic() - since:.1f} s{where}; mend that stage or raise the timeout"
        )

    def stop(self) -> None:
        """Let the thread end; one that hangs in the dataset is left behind."""
        self._stopped = True
        if self._thread.is_alive():  # an interrupt may have come before it was started
            self._thread.join(_POLL)

    # --- in the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._enter("opening the dataset")
            items, number = iter(self._dataset), 0
            while not self._stopped:
                self._enter(f"reading item {number}")
                try:
                    item = next(items)
                except StopIteration:
                    self._put("end", None)
                    return
                self._enter(f"converting item {number}")
                self._put("item", item if self._numpy else _tensors(item))
                number += 1
        except BaseException as error:  # raised again in the loop, SystemExit and KeyboardInterrupt included
            self._put("error", error)

    def _enter(self, stage: str) -> None:
        self._stage = (stage, time.monotonic())

    def _put(self, kind: str, value: Any) -> None:
        while not self._stopped:
            try:
                self._room.get(timeout=_POLL)
            except queue.Empty:
                continue
            self._queue.put((kind, value))
            return


class _Pipeline:
    """Reads a pipeline of MindSpore's in the thread that loops; another one watches the clock and the interrupts.

    The pipeline reads ahead in threads of its own. Its runtime takes the first thread that ever ran a pipeline for the
    main one, and an error in a pipeline that another thread reads crashes the process; so no thread of ours reads
    it. Waiting for an item blocks in C++, where Python notices neither a time limit nor Ctrl-C; stopping the
    iterator from outside ends that. Stopping waits for the source, for ever where that hangs, so the watching thread
    does it, and when the process ends the source is ended first.
    """

    def __init__(self, dataset: Any, output_numpy: bool) -> None:
        self._dataset, self._numpy = dataset, output_numpy
        self._number = 0
        self._waiting: tuple[float, float] | None = None  # since when, and until when
        self._late = self._interrupted = False
        self._error: Exception | None = None
        self._closed = False
        self._watcher = threading.Thread(target=self._watch, name="ascend_fixes.host.feed", daemon=True)
        self._ours, self._wakeup = socket.socketpair()
        self._ours.setblocking(False)
        self._wakeup.setblocking(False)
        self._signals, self._before = False, -1  # whether they write into it, and where they wrote

    def start(self) -> None:
        if threading.current_thread() is threading.main_thread():  # a byte for every signal, even while this is in C++
            self._signals = True
            self._before = signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self._items = self._dataset
        if isinstance(self._dataset, Dataset):
            self._items = self._dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
        self._watcher.start()
        atexit.register(self._end_source)

    def next(self, timeout: float) -> tuple[str, Any]:
        """As `_Reader.next`."""
        now = time.monotonic()
        self._waiting = (now, now + timeout)
        try:
            item = self._read()
        finally:
            self._waiting = None
        if item is None and self._error is not None:
            return "error", self._error
        if self._late:
            raise FeedTimeoutError(
                f"no item came within timeout={timeout:g} s: the pipeline has been reading item {self._number} for "
                f"{time.monotonic() - now:.1f} s; mend its source or its operations, or raise the timeout"
            )
        if self._interrupted:  # and the program's own handler did not raise
            raise FeedError(f"reading item {self._number} was ended by an interrupt (SIGINT)")
        if item is None:
            return "end", None
        self._number += 1
        item = item if isinstance(item, dict) else tuple(item)
        return "item", item if self._numpy else _tensors(item)

    def _read(self) -> Any:
        """The next item, or None. An error overtakes the items that were read ahead: they are still there after it."""
        for _ in range(2):
            try:
                return next(self._items, None)
            except Exception as error:
                if self._late or self._interrupted:
                    raise
                if self._error is not None:  # the items before it have been fetched
                    return None
                self._error = error
        return None

    def stop(self) -> None:
        """Let the watching thread stop the pipeline; one whose source hangs is left behind."""
        self._closed = True
        if self._signals:
            signal.set_wakeup_fd(self._before)
            self._signals = False
        self._wakeup.close()
        if self._watcher.is_alive():
            self._watcher.join(_POLL)
        elif self._watcher.ident is None:  # never started: nobody else closes it
            self._ours.close()

    def _end_source(self) -> None:
        """Raise SystemExit in a source that still runs when the process ends.

        A thread of MindSpore's that comes back from Python code into an interpreter that is ending aborts the process:
        "terminate called ... thread state must be current".
        """
        self.stop()
        told: set[int] = set()
        deadline = time.monotonic() + _LEAVE
        while self._watcher.is_alive() and time.monotonic() < deadline:
            for thread in _foreign_threads() - told:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(SystemExit))
                told.add(thread)
            self._watcher.join(0.01)

    def _watch(self) -> None:
        while not (self._closed or self._late or self._interrupted):
            waiting = self._waiting
            signalled = bool(select.select([self._ours], [], [], _POLL)[0])
            if self._closed:
                break
            interrupt = signalled and signal.SIGINT in self._ours.recv(64)  # a byte a signal
            self._late = waiting is not None and waiting is self._waiting and time.monotonic() >= waiting[1]
            self._interrupted = interrupt and self._waiting is not None
        # An iterator that was given may have further epochs.
        if self._items is not self._dataset or self._late or self._interrupted:
            with contextlib.suppress(AttributeError):  # of MindSpore's: its own stop at exit may be through first
                self._items.stop()  # a reading thread comes back from C++
        self._ours.close()
        atexit.unregister(self._end_source)


def _foreign_threads() -> set[int]:
    """The threads that run Python code and were not begun by it, such as MindSpore's inside a source."""
    begun = {thread.ident for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}
    return _frames().keys() - begun


def _frames() -> dict[int, FrameType]:
    """What every thread is at, with the collector off meanwhile.

    Before Python 3.12 `sys._current_frames` holds a lock that a thread needs to end (CPython issue 106883): a pipeline of MindSpore's
    that is collected then waits for its threads, and nothing goes on.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if collects:
            gc.enable()


def _tensors(item: Any) -> Any:
    """Numeric arrays as Tensors, in the containers they come in."""
    if isinstance(item, dict):
        return {key: _tensors(part) for key, part in item.items()}
    if isinstance(item, tuple) and hasattr(item, "_fields"):
        return type(item)(*map(_tensors, item))
    if isinstance(item, (tuple, list)):
        return type(item)(map(_tensors, item))
    if isinstance(item, (np.ndarray, np.generic)) and item.dtype.kind in "biuf":
        return Tensor(np.asarray(item))
    return item
