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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Callable

from ascend_fixes import _mindspore, compiling
from ascend_fixes.compiling import Compilation, Hook
from ascend_fixes.errors import AscendFixesError, first_line, warn
from ascend_fixes.files import EVERYBODY, MissingFileError, read_bytes, replacing, sweep, writable_by_others
from ascend_fixes.shapes._fingerprint import UndescribableError, fingerprint

__all__ = ["NATIVE", "CacheCounts", "CompileCache", "CompileCacheError"]

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
            warn(f"the compiled graphs in {self.path} may be replaced by {who}, and are run")

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


class _Cached:
    """The hook that serves compilations from a store.

    ``open_store`` gives the store for the next compilation, or None for leaving it alone.
    """

    def __init__(self, open_store: Callable[[], Store | None]):
        self.open_store = open_store
        self.counts = CacheCounts()
        self.reasons: list[str] = []
        self.serving: Compilation | None = None
        self.spoilt = False  # another compilation has begun within this one: neither can be told apart any more
        self.unwritable: tuple[Compilation, str, str] | None = None  # tried again without the cache: its key, and why

    @contextlib.contextmanager
    def __call__(self, compilation: Compilation) -> Iterator[None]:
        """Around a compilation: lay the stored graph down before it, or pick up the new one after it."""
        store = None if compilation.kind == "gradient" else self.open_store()
        if store is None:
            yield
        elif self.serving is not None:
            self.spoilt = True
            _mindspore.set_compile_cache(False)
            yield
        elif self.unwritable is not None and self.unwritable[0] is compilation:
            (_, failed, why), self.unwritable = self.unwritable, None
            yield
            self._skip(why)
            self._store(store, failed, _NOT_WRITABLE)
        else:
            key = self._key(compilation)
            found = None if key is None else self._read(store, key)
            if key is None or found is None:
                yield
            else:
                with self._served(compilation, store, key, found):
                    yield

    @contextlib.contextmanager
    def _served(self, compilation: Compilation, store: Store, key: str, graph: bytes) -> Iterator[None]:
        """MindSpore's own cache is on; it finds ``graph``, or nothing where that is empty."""
        try:
            _directory().lay(graph or None)
        except OSError as error:  # the disk of temporary files is full, or missing
            with contextlib.suppress(OSError):
                _directory().lay(None)
            self._unusable(store, error)
            yield
            return
        _mindspore.set_compile_cache(True)
        self.serving, self.spoilt = compilation, False
        try:
            yield
        except RuntimeError as error:
            # Some graphs compile but cannot be written: "Cannot export a PyExecute CNode in MindIR". Swallowed: try again.
            self._end()
            _directory().collect(succeeded=False)
            self.unwritable = (compilation, key, first_line(error))
        except BaseException:
            self._end()
            _directory().collect(succeeded=False)
            raise
        else:
            self._end()
            self._keep(store, key, _directory().collect(succeeded=not self.spoilt), laid=bool(graph))

    def _end(self) -> None:
        self.serving = None
        _mindspore.set_compile_cache(False)

    def _key(self, compilation: Compilation) -> str | None:
        """The key of a compilation; None, and the cache off, for one that cannot be described."""
        try:
            return _described(compilation)
        except UndescribableError as reason:
            self._skip(str(reason))
            return None

    def _read(self, store: Store, key: str) -> bytes | None:
        """The stored graph, empty where there is none; None where the graph is compiled without the cache."""
        try:
            graph = store.read(key)
        except ValueError:
            self.counts = replace(self.counts, damaged=self.counts.damaged + 1)
            return b""
        except OSError as error:
            self._unusable(store, error)
            return None
        if graph == _NOT_WRITABLE:
            self._skip("MindSpore cannot write this graph, as seen before")
            return None
        return graph or b""

    def _keep(self, store: Store, key: str, written: bytes | None, laid: bool) -> None:
        if self.spoilt:
            self._skip("another compilation began within this one")
        elif written is None and laid:
            self.counts = replace(self.counts, hits=self.counts.hits + 1)
        elif written is None:
            self._skip("MindSpore wrote no graph")
        elif not _mindspore.is_whole_graph(written):  # MindSpore itself does not notice that a disk is full
            self._skip(f"MindSpore did not write the whole graph; is there room in {_directory().path}?")
        elif self._store(store, key, written):
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
        warn(f"a graph is compiled without the cache in {store.path}: {error}")

    def _skip(self, reason: str) -> None:
        _mindspore.set_compile_cache(False)
        self.counts = replace(self.counts, skipped=self.counts.skipped + 1)
        self.reasons.append(reason)


def _described(compilation: Compilation) -> str:
    """The key of a compilation."""
    subject, arguments = compilation.subject, (compilation.args, dict(compilation.kwargs))
    # The cures of this family change when graphs are compiled, not what they compute.
    cures = sorted(owner for owner in compiling.replacing() if not owner.startswith("S"))
    settings = {**_mindspore.compile_settings(), "kind": compilation.kind, "fixes": " ".join(cures)}
    settings.update({f"option {name}": str(value) for name, value in compilation.options.items()})
    if compilation.kind == "cell":
        return fingerprint(subject, arguments, {**settings, "phase": _mindspore.phase_name(subject, compilation.phase)})
    if _mindspore.taking_gradients():
        raise UndescribableError("a jit function compiled for its gradient")
    return fingerprint((compilation.method, subject), arguments, settings)


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
        self._cached = _Cached(lambda: store)

    @property
    def counts(self) -> CacheCounts:
        """What this cache did so far in this process."""
        return self._cached.counts

    @property
    def reasons(self) -> list[str]:
        """Why compilations were left uncached, oldest first."""
        return list(self._cached.reasons)

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
        compiling.hold(self, {"shapes.CompileCache": (Hook("cache", self._cached),)})
        return self

    def __exit__(self, *error: Any) -> None:
        compiling.release(self)


def _in_use() -> list[CompileCache]:
    return [token for token, _, _ in compiling.held("cache") if isinstance(token, CompileCache)]


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
                warn(f"compiling without the compile cache: {error}")
            else:
                self.store = store
        if self.refused:
            _mindspore.set_compile_cache(False)
        return self.store


NATIVE = Hook(
    "cache", _Cached(_NativeSwitch()), "keys the entries of MindSpore's own compile cache by what was compiled"
)
"""Cure S2, for those who switch MindSpore's own compile cache on: the same folder, keyed entries."""
