"""The process that compiles: it announces what it does in its own output, among MindSpore's log lines.

Each announcement is one line, a word that is drawn anew for every run and a JSON object. The parent reads them back in
order, so that the log lines between the beginning and the end of a compilation belong to that graph.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

__all__ = ["Task", "main"]

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

    def __call__(self, subject: Any, phase: str, compile: Callable[[], Any]) -> Any:
        number, self._count = self._count, self._count + 1
        self._announce("compile", graph=number, name=_name(subject), phase=phase)
        start = time.perf_counter()
        try:
            result = compile()
        except BaseException as error:
            self._announce("refused", graph=number, error=f"{type(error).__name__}: {error}", files=self._new_files())
            raise
        self._announce("compiled", graph=number, seconds=time.perf_counter() - start, files=self._new_files())
        return result

    def _new_files(self) -> list[str]:
        """The graphs saved since this was last asked, oldest first."""
        found = {str(path.relative_to(self._graphs)) for path in self._graphs.rglob("*.ir")}
        new, self._files = found - self._files, found
        return sorted(new, key=lambda name: (name.rpartition("_")[2], name))


def _name(subject: Any) -> str:
    """The class of a cell, the name of a function."""
    return getattr(subject, "__qualname__", None) or type(subject).__qualname__


def main(path: str) -> None:
    """Do the task described in a file."""
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    task = Task(**{**fields, "arguments": tuple(fields["arguments"])})
    announce = _Announcer(task.word)
    from ascend_fixes import _mindspore

    announce("start", mindspore=_mindspore.version_text())
    try:
        _prepare(task, announce)
        _cell(task, announce) if task.factory else _script(task, announce)
    except _Stop:
        announce("stopped", steps=task.steps)
    except SystemExit as error:
        announce("exit", status=error.code if isinstance(error.code, int) else 0 if error.code is None else 1)
    except BaseException as error:
        announce("failed", error=_told(error), kind=type(error).__name__, inside=_raised_inside(error))
    announce("end")
    sys.stdout.flush()
    os._exit(0)  # the teardown of MindSpore can crash or hang; all has been said


def _prepare(task: Task, announce: _Announcer) -> None:
    import mindspore

    from ascend_fixes import _mindspore
    from ascend_fixes.dryrun._standins import name_chip
    from ascend_fixes.patching import Replacement, ledger

    if task.standins:
        name_chip(_mindspore.SOCS[task.soc][1])
    _mindspore.hold_ascend(task.jit_level)
    _mindspore.set_soc(task.soc)
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    if task.ranks > 1 and task.factory:
        mindspore.communication.init()
    hooked = _mindspore.around_compilations(task.jit_level, _Compilations(announce, task.graphs))
    # By the ledger, for cures of the user's program wrap the same methods.
    ledger.hold("dry run", {"dry run": [Replacement(target, make) for target, make in hooked.items()]})


def _cell(task: Task, announce: _Announcer) -> None:
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
    if len(list(Path(task.graphs).glob("graph_build_*.ir"))) != 1:
        return  # loops are never left when nothing computes their condition; they, and parts on the host, are such graphs
    announce("memory")
    signal.alarm(_MEMORY_SECONDS)  # ends the process, wherever it is
    cell(*inputs)
    signal.alarm(0)
    announce("planned", bytes=_mindspore.planned_memory())


def _script(task: Task, announce: _Announcer) -> None:
    sys.argv = [task.script, *task.arguments]
    sys.path.insert(0, os.path.dirname(task.script))
    runpy.run_path(task.script, run_name="__main__")


def _told(error: BaseException) -> str:
    """An error as its traceback ends."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def _raised_inside(error: BaseException) -> bool:
    """Whether MindSpore raised it, not the program."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and "mindspore" in Path(frames[-1].filename).parts
