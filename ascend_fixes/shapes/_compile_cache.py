"""A persistent store of compiled graphs, keyed by what was compiled.

MindSpore's own compile cache numbers the compilations of a process and takes, for the
n-th, the n-th file of an earlier run: another order gets another graph. Here MindSpore
works in a directory of its own that is empty but for one file: just before a
compilation, the stored graph with the right key is laid there under the next number;
after a compilation without one, the new file is moved into the store. MindSpore can
therefore load the right graph or none.

What cannot be keyed, and any entry whose content does not match its checksum, is
compiled anew.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import glob
import hashlib
import os
import shutil
import tempfile
import threading
import uuid
import warnings
from dataclasses import dataclass, replace
from typing import Any, Callable

from ascend_fixes import _mindspore
from ascend_fixes.errors import AscendFixesError
from ascend_fixes.files import EVERYBODY, MissingFileError, read_bytes, replacing, sweep, writable_by_others
from ascend_fixes.patching import Replacement, ledger
from ascend_fixes.shapes._fingerprint import UndescribableError, fingerprint

__all__ = ["CacheCounts", "CompileCache", "CompileCacheError", "native_replacements"]

_MAGIC = b"ascend_fixes graph 1\n"
_NOT_WRITABLE = b""  # the entry of a graph that MindSpore fails to write: it is compiled without the cache at once


class CompileCacheError(AscendFixesError, RuntimeError):
    """A compile cache that cannot be used here or now."""


@dataclass(frozen=True)
class CacheCounts:
    """What a compile cache has done in this process.

    Attributes:
        hits: graphs loaded.
        stored: graphs compiled and stored.
        damaged: entries that failed their checksum; they were compiled anew and replaced.
        skipped: compilations that were left uncached; `CompileCache.reasons` says why.
    """

    hits: int = 0
    stored: int = 0
    damaged: int = 0
    skipped: int = 0


class Store:
    """Graphs on disk by key: one file each, checksummed, replaced atomically, so that processes can share it."""

    def __init__(self, path: str):
        self.path = path

    def read(self, key: str) -> bytes | None:
        """The graph, or None. Raises ValueError for a damaged entry."""
        try:
            content = read_bytes(self._file(key))
        except MissingFileError:
            return None
        start = len(_MAGIC)
        head, digest, graph = content[:start], content[start : start + 64], content[start + 64 :]
        if head != _MAGIC or digest.decode("ascii", "replace") != self._digest(key, graph):
            raise ValueError("checksum mismatch")
        return graph

    def write(self, key: str, graph: bytes) -> None:
        """Raises OSError (a full disk, a read-only folder); the store is then as it was."""
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        with replacing(self._file(key)) as file:
            file.write(_MAGIC + self._digest(key, graph).encode("ascii") + graph)

    def check(self) -> None:
        """Refuse a folder into which everybody may put graphs, which MindSpore would run; warn of one that some may."""
        who = writable_by_others(self.path) if os.path.isdir(self.path) else ""
        if who == EVERYBODY:
            raise CompileCacheError(
                f"path={self.path!r} may be written by everybody, and what lies there is run; chmod o-w it, or pass another"
            )
        if who:
            warnings.warn(f"the compiled graphs in {self.path} may be replaced by {who}, and are run", stacklevel=4)

    def sweep(self) -> None:
        """Remove what processes that died while writing have left."""
        sweep(self.path)

    def _file(self, key: str) -> str:
        return os.path.join(self.path, f"{key}.graph")

    @staticmethod
    def _digest(key: str, graph: bytes) -> str:
        return hashlib.sha256(key.encode("ascii") + graph).hexdigest()


class _Directory:
    """The directory of this process that MindSpore believes to be its compile cache, and its count of compilations."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="ascend_fixes-graphs-")
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)
        self.numbers = {0}  # the next number; several where a compilation failed before or after it was counted
        self.laid: dict[str, tuple[int, int]] = {}

    def lay(self, graph: bytes | None) -> None:
        """Have MindSpore find ``graph``, or nothing at all, at its next compilation."""
        for name in self._files():
            os.unlink(name)
        self.laid = {}
        for number in self.numbers if graph is not None else ():
            name = os.path.join(self.path, _mindspore.compile_cache_file(number))
            os.makedirs(os.path.dirname(name), exist_ok=True)
            with open(name, "wb") as file:
                file.write(graph or b"")
            self.laid[name] = self._stamp(name)

    def collect(self, succeeded: bool) -> bytes | None:
        """The graph that MindSpore wrote since, or None where it used what was laid."""
        written = [name for name in self._files() if self.laid.get(name) != self._stamp(name)]
        if not written:
            self.numbers = {n + 1 for n in self.numbers} | (set() if succeeded else self.numbers)
            return None
        self.numbers = {int(written[-1].rpartition("_")[2].partition(".")[0]) + 1}
        with open(written[-1], "rb") as file:
            return file.read()

    def _files(self) -> list[str]:
        return glob.glob(os.path.join(self.path, _mindspore.COMPILE_CACHE_FILES))

    @staticmethod
    def _stamp(name: str) -> tuple[int, int]:
        stat = os.stat(name)
        return stat.st_ino, stat.st_mtime_ns


@functools.cache
def _directory() -> _Directory:
    """Made at the first cached compilation: MindSpore asks for its directory only once in a process."""
    directory = _Directory()
    _mindspore.set_compile_cache_directory(directory.path)
    return directory


class _Compilations:
    """Watches compilations begin and end, and serves them from a store.

    ``open_store`` gives the store for the next compilation, or None for leaving it alone.
    """

    def __init__(self, open_store: Callable[[], Store | None]):
        self.open_store = open_store
        self.lock = threading.RLock()
        self.counts = CacheCounts()
        self.reasons: list[str] = []
        self.described: list[Callable[[], str] | None] = []  # None: not to be served
        self.serving: tuple[Store, str, bool] | None = None

    def replacements(self) -> tuple[Replacement, ...]:
        """What has to be put in place of MindSpore's own functions."""
        return (
            Replacement(_mindspore.cell_compile_target(), functools.partial(self._around, _describe_cell)),
            Replacement(_mindspore.jit_compile_target(), functools.partial(self._around, _describe_jit)),
            *(Replacement(target, self._beginning) for target in _mindspore.compiling_targets()),
        )

    def _around(self, describe: Callable[..., str], compile: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compile)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                self.described.append(lambda: describe(*args, **kwargs))
                try:
                    return self._compile(compile, args, kwargs)
                finally:
                    self.described.pop()

        return wrapper

    def _compile(self, compile: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        try:
            result = compile(*args, **kwargs)
        except Exception as error:
            serving = self.serving
            self._end(succeeded=False)
            if serving is None or not isinstance(error, RuntimeError):
                raise
            # Some graphs compile but cannot be written: "Cannot export a PyExecute CNode in MindIR".
            self.described[-1] = None
            result = compile(*args, **kwargs)
            self._skip(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            self._store(serving[0], serving[1], _NOT_WRITABLE)
            return result
        self._end(succeeded=True)
        return result

    def _beginning(self, announce: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(announce)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self.lock:
                self._begin()
                return announce(*args, **kwargs)

        return wrapper

    def _begin(self) -> None:
        store = self.open_store()
        if store is None:
            return
        if self.serving is not None:  # a compilation within one: neither can be told apart any more
            _directory().lay(None)
            self.serving = (store, "", False)
            return
        describe = self.described[-1] if self.described else None
        if describe is None:
            _mindspore.set_compile_cache(False)
            return
        try:
            key = describe()
        except UndescribableError as reason:
            self._skip(str(reason))
            return
        try:
            graph = store.read(key)
        except ValueError:
            graph = None
            self.counts = replace(self.counts, damaged=self.counts.damaged + 1)
        except OSError as error:
            self._unusable(store, error)
            return
        if graph == _NOT_WRITABLE:
            self._skip("MindSpore cannot write this graph, as seen before")
            return
        try:
            _directory().lay(graph)
        except OSError as error:  # the disk of temporary files is full, or missing
            with contextlib.suppress(OSError):
                _directory().lay(None)
            self._unusable(store, error)
            return
        _mindspore.set_compile_cache(True)
        self.serving = (store, key, graph is not None)

    def _end(self, succeeded: bool) -> None:
        if self.serving is None:
            return
        store, key, laid = self.serving
        self.serving = None
        _mindspore.set_compile_cache(False)
        written = _directory().collect(succeeded)
        if not (succeeded and key):
            return
        if written is None:
            if laid:
                self.counts = replace(self.counts, hits=self.counts.hits + 1)
            else:
                self._skip("MindSpore wrote no graph")
            return
        if not _mindspore.is_whole_graph(written):  # MindSpore itself does not notice that a disk is full
            self._skip(f"MindSpore did not write the whole graph; is there room in {_directory().path}?")
            return
        if self._store(store, key, written):
            self.counts = replace(self.counts, stored=self.counts.stored + 1)

    def _store(self, store: Store, key: str, graph: bytes) -> bool:
        try:
            store.write(key, graph)
        except OSError as error:
            self._unusable(store, error)
            return False
        return True

    def _unusable(self, store: Store, error: OSError) -> None:
        self._skip(f"the store cannot be used: {error}")
        warnings.warn(f"a graph is compiled without the cache in {store.path}: {error}", stacklevel=2)

    def _skip(self, reason: str) -> None:
        _mindspore.set_compile_cache(False)
        self.counts = replace(self.counts, skipped=self.counts.skipped + 1)
        self.reasons.append(reason)


def _describe_cell(executor: Any, cell: Any, *args: Any, **kwargs: Any) -> str:
    return fingerprint(cell, (args, dict(kwargs)), _settings("cell"))


def _describe_jit(executor: Any, method: str, *args: Any, **kwargs: Any) -> str:
    if _mindspore.taking_gradients():
        raise UndescribableError("a jit function compiled for its gradient")
    return fingerprint((method, _mindspore.jit_state(executor)), (args, kwargs), _settings("jit"))


def _settings(kind: str) -> dict[str, str]:
    # The fixes of this family change when graphs are compiled, not what they compute.
    fixes = [fix for fix in ledger.applied if not fix.startswith(("S", _HOLD))]
    return {**_mindspore.compile_settings(), "kind": kind, "fixes": " ".join(fixes)}


class CompileCache:
    """Compiled graphs kept on disk and found again by what was compiled: shapes, dtypes, values, sources, settings.

    Use it around everything that compiles, before the first compilation::

        with shapes.CompileCache("graphs"):
            train()

    The order of compilations, and which of them a run needs, do not matter; processes may share the folder. It
    replaces MindSpore's ``enable_compile_cache`` (defect S2) and is independent of it.

    Attributes:
        path: the folder; made at the first store.
        counts: what it did so far, a `CacheCounts`.
        reasons: why compilations were skipped.
    """

    def __init__(self, path: Any):
        self.path = os.path.abspath(os.fspath(path))
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise CompileCacheError(f"path={self.path!r} is a file; pass a folder for the compiled graphs")
        self._store = store = Store(self.path)
        self._compilations = _Compilations(lambda: store)

    @property
    def counts(self) -> CacheCounts:
        """What this cache did so far in this process."""
        return self._compilations.counts

    @property
    def reasons(self) -> list[str]:
        """Why compilations were left uncached, oldest first."""
        return list(self._compilations.reasons)

    @staticmethod
    def has_served() -> bool:
        """Whether a compile cache has served this process before: MindSpore's directory is fixed from then on."""
        return _directory.cache_info().currsize > 0

    def __enter__(self) -> CompileCache:
        _refuse_where_unsafe()
        if _in_use():
            raise CompileCacheError(f"a compile cache is in use ({_in_use()[0].path}); leave its with block first")
        self._store.check()
        self._store.sweep()
        # The ledger keeps what it built by name, so each cache has a name of its own.
        ledger.hold(self, {f"{_HOLD}.{uuid.uuid4().hex}": self._compilations.replacements()})
        return self

    def __exit__(self, *error: Any) -> None:
        ledger.release(self)


_HOLD = "shapes.CompileCache"


def _in_use() -> list[CompileCache]:
    return [token for token in ledger.tokens if isinstance(token, CompileCache)]


def _refuse_where_unsafe() -> None:
    """A graph MindSpore loads from elsewhere cannot be vouched for."""
    if _mindspore.backend() != "CPU":
        raise CompileCacheError(
            f"CompileCache has been verified on CPU only, not on {_mindspore.backend()}, where MindSpore keeps further "
            f"numbered files; run without it"
        )
    enabled, path = _mindspore.wanted_compile_cache()
    if enabled and not CompileCache.has_served() and _mindspore.has_compiled_anything():
        raise CompileCacheError(
            f"MindSpore's own compile cache is on (in {path!r}) and has been used by this process; "
            f"switch it off, or start CompileCache before the first compilation"
        )


def native_replacements() -> tuple[Replacement, ...]:
    """Cure S2 for those who switch MindSpore's own compile cache on: the same folder, keyed entries."""
    return _Compilations(_NativeSwitch()).replacements()


class _NativeSwitch:
    """Follows MindSpore's own switch: the store lies in the user's folder, in a sub-folder of its own."""

    def __init__(self) -> None:
        self.store: Store | None = None
        self.refused = False

    def __call__(self) -> Store | None:
        if _in_use():
            return None  # a CompileCache serves this compilation
        if self.store is None and not self.refused:
            enabled, path = _mindspore.wanted_compile_cache()
            if not enabled:
                return None
            store = Store(os.path.join(os.path.abspath(path), "ascend_fixes"))
            try:
                _refuse_where_unsafe()
                store.check()
            except CompileCacheError as error:
                self.refused = True
                warnings.warn(f"compiling without the compile cache: {error}", stacklevel=2)
            else:
                self.store = store
        if self.refused:
            _mindspore.set_compile_cache(False)
        return self.store
