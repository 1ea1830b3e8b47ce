"""Child processes that end when told: the only place that starts a program or forks.

`run` runs a program to its end; `Children` holds several, from several threads, and forks too. A child leads a process
group of its own, so that what it starts in turn (MindSpore's kernel compiler leaves servers behind) ends with it, and
it ends with the block whatever ends the block: a result, an error, a time limit, Ctrl-C, or SIGTERM, which is an
exception (`SystemExit`) inside the block if nobody else handles it. Such an exception may rise anywhere, also where it is
lost: a finalizer swallows it, and between two lines of `threading.Condition.wait` it becomes a RuntimeError. So the block
remembers it, and raises it at its end if something else arrives there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Protocol

from ascend_fixes.errors import AscendFixesError

__all__ = ["Children", "Fork", "Outcome", "ScratchError", "StoppedError", "ended", "run", "scratch"]

_POLL_SECONDS = 0.02
_GRACE_SECONDS = 2.0  # between SIGTERM, which a child may use to end its own children, and SIGKILL
_USUAL: dict[int, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


class ScratchError(AscendFixesError, OSError):
    """No folder for temporary files can be written."""


class StoppedError(AscendFixesError, RuntimeError):
    """A child was to be started after its `Children` had ended."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        status: its exit status; -n where signal n killed it; None where it ran out of time and was stopped.
        output: what it printed, standard output and standard error as they came.
        seconds: how long it ran.
    """

    status: int | None
    output: str
    seconds: float

    @property
    def timed_out(self) -> bool:
        """Was it stopped for taking too long?"""
        return self.status is None

    @property
    def failure(self) -> str:
        """Why it did not end well, in one sentence with the last line it printed; "" where it did."""
        if self.status == 0:
            return ""
        if self.status is None or self.status < 0:
            return ended(self.status, self.seconds)
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return f"{ended(self.status, self.seconds)}: {lines[-1] if lines else 'nothing was printed'}"


def ended(status: int | None, seconds: float) -> str:
    """How a child with this status of `Outcome` ended, in words."""
    if status is None:
        return f"gave no answer within {seconds:.0f} s and was stopped"
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def run(
    command: Sequence[str],
    *,
    folder: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str | None] | None = None,
    timeout: float | None = None,
) -> Outcome:
    """Run a program to its end.

    Args:
        command: the program and its arguments.
        folder: its working directory; None for an empty one that is removed with it.
        environment: variables set, or with None unset, beside this process's own. ``PYTHONPATH`` is this process's
            ``sys.path`` with what the variable holds, and ``TMPDIR`` a folder that is removed with the child, unless set here.
        timeout: seconds it may take; None for any number.

    Raises:
        ScratchError: there is no place for temporary files.
        OSError: the program or the folder does not exist.
    """
    with Children() as children:
        return children.run(command, folder=folder, environment=environment, timeout=timeout)


@contextlib.contextmanager
def scratch(prefix: str = "ascend_fixes-") -> Iterator[Path]:
    """A folder for temporary files, removed at the end even if somebody is still writing into it.

    Raises:
        ScratchError: there is no place for it.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    except OSError as error:
        raise ScratchError(
            f"no folder for temporary files: {error.strerror or error}; set TMPDIR to a folder that can be written"
        ) from None
    try:
        yield folder
    finally:
        for _ in range(20):  # a killed process may make a last file after the folder was listed
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(_POLL_SECONDS)


class Fork:
    """A forked child, with the part of `subprocess.Popen` that is needed here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self.started = time.monotonic()

    def poll(self) -> int | None:
        """Its exit status, -n where signal n killed it; None while it runs."""
        if self.status is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if done else None
        return self.status

    def wait(self, timeout: float | None = None) -> int | None:
        """As `poll`, after at most ``timeout`` seconds."""
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self.poll() is None and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        return self.status


class _Child(Protocol):
    pid: int

    def poll(self) -> int | None: ...

    def wait(self) -> Any: ...


class Children:
    """Children that end with the block. `run` may be called from any thread, the rest from the thread of the block.

    with Children() as children:
        outcome = children.run([sys.executable, "-c", "print(1)"], timeout=10)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: set[_Child] = set()
        self._over = False
        self._handlers: dict[int, Any] = {}
        self._told: BaseException | None = None

    def __enter__(self) -> Children:
        if threading.current_thread() is threading.main_thread():
            for number, usual in _USUAL.items():
                if signal.getsignal(number) is usual:
                    self._handlers[number] = signal.signal(number, self._interrupt)
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """What a signal that would end this process does inside the block: unwind it."""
        self._told = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        raise self._told

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._over = True
            live = list(self._live)
        for child in live:
            self.end(child)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._told is not None and not isinstance(error[1], (KeyboardInterrupt, SystemExit)):
            raise self._told

    def run(
        self,
        command: Sequence[str],
        *,
        folder: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str | None] | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """As the function `run`, with an end if the block ends first.

        Raises:
            StoppedError: the block has ended already.
        """
        with scratch() as own:
            log = own / "log"
            (own / "tmp").mkdir()
            (own / "work").mkdir()
            places = [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
            path = os.pathsep.join(dict.fromkeys(os.path.abspath(place) for place in places if place))
            changed: dict[str, str | None] = {"PYTHONPATH": path, "TMPDIR": str(own / "tmp"), **(environment or {})}
            wanted = {name: value for name, value in {**os.environ, **changed}.items() if value is not None}
            with log.open("wb") as stream:
                start = time.monotonic()
                process = self._start(
                    lambda: subprocess.Popen(
                        list(command),
                        cwd=own / "work" if folder is None else folder,
                        env=wanted,
                        start_new_session=True,
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=stream,
                    )
                )
                try:
                    status: int | None = process.wait(timeout)
                except subprocess.TimeoutExpired:
                    status = None
                finally:
                    self.end(process)
            seconds = time.monotonic() - start
            return Outcome(status, log.read_text(encoding="utf-8", errors="replace"), seconds)

    def fork(self, work: Callable[[], None]) -> Fork:
        """Do ``work`` in a fork of this process, which ends with status 0, or 1 where it raised.

        Imports MindSpore: its threads have to be told of the fork.
        """
        from ascend_fixes import _mindspore

        sys.stdout.flush()
        sys.stderr.flush()

        def start() -> Fork:
            pid = _mindspore.fork()
            if pid == 0:
                status = 1
                try:
                    os.setsid()
                    for number, usual in _USUAL.items():
                        if getattr(signal.getsignal(number), "__func__", None) is Children._interrupt:
                            signal.signal(number, usual)
                    work()
                    status = 0
                finally:
                    os._exit(status)
            return Fork(pid)

        return self._start(start)

    def end(self, child: _Child) -> None:
        """End a child and whatever it has started."""
        if child.poll() is None:  # it may have children of its own, in groups of their own: let it end them
            _send(child.pid, signal.SIGTERM)
            end = time.monotonic() + _GRACE_SECONDS
            while child.poll() is None and time.monotonic() < end:
                time.sleep(_POLL_SECONDS)
        _send(child.pid, signal.SIGKILL)
        if child.poll() is None:
            child.wait()
        with self._lock:
            self._live.discard(child)

    def _start(self, start: Callable[[], Any]) -> Any:
        with self._lock:
            if self._over:
                raise StoppedError("the children of this block have been ended; start them inside it")
            child = start()
            self._live.add(child)
        return child


def _send(leader: int, number: int) -> None:
    """Send a signal to a process's group, or to it alone where it has not had the time to lead one."""
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(leader, number)
        except ProcessLookupError:
            os.kill(leader, number)
