"""The process that compiles: it announces what it does in its own output, among MindSpore's log lines.

Each announcement is one line, a word that is drawn anew for every run and a JSON object. The parent reads them back in
order, so that the log lines between the beginning and the end of a compilation belong to that graph.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from ascend_fixes.compiling import Compilation  # which imports MindSpore

__all__ = ["Task", "main", "run_script"]

_MEMORY_SECONDS = 60


@dataclass(frozen=True)
class Task:
    """What the child is asked to do.

    Attributes:
        word: begins every announcement.
        factory: ``"package.module:function"``, or "" for a script.
        script, arguments: the script and its own arguments.
        soc: a key of `_mindspore.SOCS`.
        jit_level: "O0" or "O1".
        ranks: how many devices share the work; this is the first of them.
        steps: calls of compiled graphs after which a script is stopped; None for all.
        standins: whether the vendor's libraries are stand-ins.
        graphs: the folder into which MindSpore saves graphs.
    """

    word: str
    factory: str
    script: str
    arguments: tuple[str, ...]
    soc: str
    jit_level: str
    ranks: int
    steps: int | None
    standins: bool
    graphs: str


class _Stop(BaseException):
    """The steps that were asked for are done. Not an `Exception`: a script may catch those."""


class _Announcer:
    def __init__(self, word: str) -> None:
        self._word = word

    def __call__(self, event: str, **facts: Any) -> None:
        line = f"\n{self._word} {json.dumps({'event': event, **facts}, default=str)}\n"
        sys.stdout.flush()
        os.write(2, line.encode("utf-8", "replace"))


class _Compilations:
    """Announces every compilation."""

    def __init__(self, announce: _Announcer, graphs: str) -> None:
        self._announce, self._graphs = announce, Path(graphs)
        self._count = 0
        self._files: set[str] = set()
        self._apart: set[str] = set()
        self._arguments: dict[int, dict[str, str]] = {}
        self._kept: list[Any] = []  # what was compiled lives on: no other object may get its id

    @contextlib.contextmanager
    def __call__(self, compilation: Compilation) -> Iterator[None]:
        if compilation.kind == "gradient":  # of PyNative mode, which a dry run is not in
            yield
            return
        number, self._count = self._count, self._count + 1
        because = self._because(compilation.subject, compilation.args)
        self._announce("compile", graph=number, name=_name(compilation.subject), because=because)
        start = time.perf_counter()
        try:
            yield
        except BaseException as error:
            self._announce("refused", graph=number, error=f"{type(error).__name__}: {error}", files=self._new_files())
            raise
        seconds, files = time.perf_counter() - start, self._new_files()
        if sum(Path(name).name.startswith("graph_build") for name in files) != 1:
            self._apart.add(compilation.phase)
        self._announce("compiled", graph=number, seconds=seconds, files=files)

    def can_run_dry(self, phase: str) -> bool:
        """Whether a call of this graph ends and computes nothing.

        Graphs with loops are cut into several parts, and a loop is never left when nothing computes its condition;
        those with a part on the host, which would really run, as well.
        """
        return phase not in self._apart

    def _because(self, subject: Any, arguments: Any) -> str:
        """What is new about these arguments, against those with which the same cell or function was compiled last."""
        texts = {name: _text(value) for name, value in _named(subject, arguments)}
        before, self._arguments[id(subject)] = self._arguments.get(id(subject)), texts
        self._kept.append(subject)
        if before is None:
            return "the first graph of it"
        changed = [
            f"{name} changed from {before.get(name, 'absent')} to {text}"
            for name, text in texts.items()
            if before.get(name) != text
        ]
        return "; ".join(changed) or "a setting of it or its phase changed"

    def _new_files(self) -> list[str]:
        """The graphs saved since this was last asked, oldest first."""
        found = {str(path.relative_to(self._graphs)) for path in self._graphs.rglob("*.ir")}
        new, self._files = found - self._files, found
        return sorted(new, key=lambda name: (name.rpartition("_")[2], name))


class _Steps:
    """Lets compiled graphs run dry, gives zeros instead where they cannot, and counts."""

    def __init__(self, compilations: _Compilations, limit: int | None) -> None:
        self._compilations, self._limit = compilations, limit
        self._done = 0

    def __call__(self, phase: str, run: Callable[[], Any]) -> Any:
        from ascend_fixes import _mindspore

        result = run() if self._compilations.can_run_dry(phase) else _mindspore.placeholders(phase)
        self._done += 1
        if self._done == self._limit:
            raise _Stop
        return result


def _name(subject: Any) -> str:
    """The class of a cell, the name of a function."""
    return getattr(subject, "__qualname__", None) or type(subject).__qualname__


def _named(subject: Any, arguments: Any) -> Iterator[tuple[str, Any]]:
    """Arguments with their names, as far as the signature gives them."""
    try:
        names = list(inspect.signature(getattr(subject, "construct", subject)).parameters)
    except (TypeError, ValueError):
        names = []
    for position, value in enumerate(arguments):
        yield names[position] if position < len(names) else f"argument {position}", value


def _text(value: Any) -> str:
    """``Float32[4, 8]`` for a Tensor; of another value what it is."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_text, value))})"
    return repr(value)[:80]


def main(path: str) -> None:
    """Do the task described in a file."""
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    task = Task(**{**fields, "arguments": tuple(fields["arguments"])})
    announce = _Announcer(task.word)
    from ascend_fixes import _mindspore

    announce("start", mindspore=_mindspore.version_text())
    try:
        compilations = _prepare(task, announce)
        if task.factory:
            _cell(task, announce, compilations)
        else:
            _script(task, announce)
    except _Stop:
        announce("stopped", steps=task.steps)
    except SystemExit as error:
        announce("exit", status=error.code if isinstance(error.code, int) else 0 if error.code is None else 1)
    except BaseException as error:
        announce("failed", error=_told(error), kind=type(error).__name__, inside=_raised_inside(error))
    announce("end")
    sys.stdout.flush()
    os._exit(0)  # the teardown of MindSpore can crash or hang; all has been said


def _prepare(task: Task, announce: _Announcer) -> _Compilations:
    import mindspore

    from ascend_fixes import _mindspore, compiling
    from ascend_fixes.compiling import Hook
    from ascend_fixes.dryrun._standins import name_chip

    if task.standins:
        name_chip(_mindspore.SOCS[task.soc][1])
    _mindspore.hold_ascend(task.jit_level)
    _mindspore.set_soc(task.soc)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    if task.ranks > 1 and task.factory:
        mindspore.communication.init()
    compilations = _Compilations(announce, task.graphs)
    compiling.hold("dry run", {"dryrun": (Hook("announce", compilations, options={"jit_level": task.jit_level}),)})
    _mindspore.around_runs(_Steps(compilations, task.steps))
    return compilations


def _cell(task: Task, announce: _Announcer, compilations: _Compilations) -> None:
    import mindspore

    from ascend_fixes import _mindspore, factories

    factory = factories.find(task.factory)
    try:
        made = factory()
    except Exception as error:
        if _raised_inside(error):
            raise
        raise factories.FactoryError(f"{task.factory} cannot be called: {factories.told(error)}") from None
    cell, *inputs = factories.unpacked(task.factory, made)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    cell.compile(*inputs)
    if not compilations.can_run_dry(_mindspore.latest_phase(cell)):
        return
    announce("memory")
    signal.alarm(_MEMORY_SECONDS)  # ends the process, wherever it is
    try:
        cell(*inputs)
    except Exception:
        return  # it is compiled; only the memory is not known
    signal.alarm(0)
    announce("planned", bytes=_mindspore.planned_memory())


def _script(task: Task, announce: _Announcer) -> None:
    from ascend_fixes import _mindspore

    _mindspore.save_only_below(Path.cwd())
    sys.argv = [task.script, *task.arguments]
    try:
        run_script(Path(task.script))
    finally:
        announce("planned", bytes=_mindspore.planned_memory())


def run_script(path: Path) -> None:
    """As ``python path`` does, and for a file of a package as ``python -m`` does."""
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    if len(parts) == 1:
        runpy.run_path(str(path), run_name="__main__")
    else:
        runpy.run_module(".".join(parts), run_name="__main__", alter_sys=True)


def _told(error: BaseException) -> str:
    """An error as its traceback ends."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _raised_inside(error: BaseException) -> bool:
    """Whether MindSpore raised it, not the program."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "mindspore" in Path(frames[-1].filename).parts
