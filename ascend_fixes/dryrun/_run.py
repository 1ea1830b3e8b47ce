"""A dry run: the stand-ins, the child, and the report from what it printed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Callable

from ascend_fixes import _mindspore, factories, processes
from ascend_fixes.dryrun._child import Task
from ascend_fixes.dryrun._environment import DryRunError, Libraries, check_machine, environment, libraries_for
from ascend_fixes.dryrun._log import Transcript, read_log
from ascend_fixes.dryrun._reading import graph_of
from ascend_fixes.dryrun._report import LACKS, WHOLE, DryRunGraph, DryRunReport
from ascend_fixes.dryrun._selfcheck import KNOWN, unread, without_belief

__all__ = ["cell", "script", "work_folder"]

_LEVELS = {
    "O0": "",
    "O1": "",
    "O2": "jit level O2 hands the graph to GE, the vendor's own engine, which is not in MindSpore's wheel",
}
_LAST_LINES = 12
_KNOWN_SECONDS = 120.0
_START = "import sys; from ascend_fixes.dryrun._child import main; main(sys.argv.pop(1))"


def cell(
    factory: str,
    soc: str = "Ascend910B",
    jit_level: str = "O1",
    ranks: int = 1,
    timeout: float = 600,
    keep: str | os.PathLike[str] | None = None,
    on_device: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> DryRunReport:
    """Compile a cell with MindSpore's Ascend back end; nothing is executed.

    Args:
        factory: ``"package.module:function"``; the function returns the cell and its inputs as one tuple.
        soc: "Ascend910A", "Ascend910B" or "Ascend910_93".
        jit_level: "O0" or "O1" (graph-kernel fusion).
        ranks: compile as the first of so many devices.
        timeout: seconds for the whole process.
        keep: a folder for the graphs that MindSpore saves and the process's log.
        on_device: also run where an Ascend device is present, which the process might then use.
        progress: called with a line when something takes long.

    Raises:
        DryRunError: an argument is wrong, or this machine cannot make dry runs.
        FactoryError: the factory cannot be found or called, or returns no cell.
        StandInError: the stand-ins for the vendor's libraries cannot be made.
    """
    factories.check(factory)
    task = _task(soc, jit_level, ranks, timeout, on_device, factory=factory)
    return _dry_run(task, factory, timeout, keep, progress)


def script(
    path: str | os.PathLike[str],
    *arguments: str,
    steps: int | None = None,
    soc: str = "Ascend910B",
    jit_level: str = "O1",
    ranks: int = 1,
    timeout: float = 600,
    keep: str | os.PathLike[str] | None = None,
    on_device: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> DryRunReport:
    """Run a script whose graphs are compiled by MindSpore's Ascend back end, and never executed.

    Calls of compiled graphs return placeholders: zeros of the right form. The script's own choice of a device, a jit level
    and where to save graphs is passed over. It works in a folder of its own, in which what is in the current folder
    appears as links; checkpoints outside of it are not written.

    Args:
        path: the script.
        arguments: its own arguments.
        steps: end the script as soon as so many calls of compiled graphs have returned; None to let it end by itself.

    The other arguments and errors are those of `cell`.
    """
    if not os.path.isfile(path):
        raise DryRunError(f"there is no script {os.fspath(path)}")
    if steps is not None and steps < 1:
        raise DryRunError(f"steps={steps} must be a positive number, or None for all")
    task = _task(
        soc,
        jit_level,
        ranks,
        timeout,
        on_device,
        script=os.path.abspath(path),
        arguments=tuple(map(str, arguments)),
        steps=steps,
    )
    return _dry_run(task, os.fspath(path), timeout, keep, progress)


def _task(
    soc: str,
    jit_level: str,
    ranks: int,
    timeout: float,
    on_device: bool,
    factory: str = "",
    script: str = "",
    arguments: tuple[str, ...] = (),
    steps: int | None = None,
) -> Task:
    """The task for the child, after every argument and the machine were looked at."""
    if soc not in _mindspore.SOCS:
        raise DryRunError(f"soc={soc!r} is not known; choose one of {', '.join(_mindspore.SOCS)}")
    if jit_level not in _LEVELS:
        raise DryRunError(f"jit_level={jit_level!r} is not known; choose O0 or O1")
    if _LEVELS[jit_level]:
        raise DryRunError(f"jit_level={jit_level!r} cannot be run dry: {_LEVELS[jit_level]}; choose O0 or O1")
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise DryRunError(f"ranks={ranks!r} must be a positive number of devices")
    if not timeout > 0:
        raise DryRunError(f"timeout={timeout!r} must be a positive number of seconds")
    check_machine(on_device)
    return Task("", factory, script, arguments, soc, jit_level, ranks, steps, standins=True, graphs="")


def _dry_run(
    task: Task,
    target: str,
    timeout: float,
    keep: str | os.PathLike[str] | None,
    progress: Callable[[str], None],
) -> DryRunReport:
    wheel = _mindspore.wheel_libraries()
    if wheel is None:
        raise DryRunError("MindSpore is not installed: pip install 'mindspore>=2.7'")
    libraries = libraries_for(wheel, progress)
    unreadable = unread(
        wheel, libraries, lambda: _known(replace(task, standins=libraries.standins), libraries, progress)
    )
    report = _in_child(replace(task, standins=libraries.standins), target, libraries, timeout, keep)
    return without_belief(report, unreadable) if unreadable else report


def _known(task: Task, libraries: Libraries, progress: Callable[[str], None]) -> DryRunReport:
    progress("a dry run of a known cell, to see whether this MindSpore's log can be read")
    plain = replace(task, factory=KNOWN, script="", arguments=(), steps=None, ranks=1, jit_level="O1", soc="Ascend910B")
    return _in_child(plain, KNOWN, libraries, _KNOWN_SECONDS, None)


def _in_child(
    task: Task, target: str, libraries: Libraries, timeout: float, keep: str | os.PathLike[str] | None
) -> DryRunReport:
    with processes.scratch() as own:
        graphs = own / "graphs"
        graphs.mkdir()
        task = replace(task, word=f"dryrun-{secrets.token_hex(8)}", graphs=str(graphs))
        (own / "task.json").write_text(json.dumps(asdict(task)), encoding="utf-8")
        outcome = processes.run(
            [sys.executable, "-c", _START, str(own / "task.json")],
            folder=work_folder(own, linked=bool(task.script)),
            environment=environment(libraries, graphs, task.ranks),
            timeout=timeout,
        )
        report = _report(task, target, libraries.label, read_log(outcome.output, task.word), outcome, graphs)
        if keep is not None:
            shutil.copytree(graphs, keep, dirs_exist_ok=True)
            Path(keep, "log.txt").write_text(outcome.output, encoding="utf-8")
    return report


def work_folder(own: Path, linked: bool) -> Path:
    """The working directory of a child. A script finds there, linked, what is in the current one."""
    work = own / "work"
    work.mkdir()
    for path in Path.cwd().iterdir() if linked else ():
        (work / path.name).symlink_to(path)
    return work


def _report(
    task: Task, target: str, libraries: str, transcript: Transcript, outcome: processes.Outcome, folder: Path
) -> DryRunReport:
    ended = transcript.last("end") is not None
    last = "\n".join(line.strip() for line in transcript.printed[-_LAST_LINES:])
    because = "" if ended else f"the process {processes.ended(outcome.status, outcome.seconds)}\n{last}".rstrip()
    unfinished = "timed out" if outcome.timed_out else "crashed"
    graphs = [graph_of(one, folder, unfinished, because) for one in transcript.compilations]
    failed = transcript.last("failed")
    if failed is not None and failed["kind"] == "FactoryError":
        raise factories.FactoryError(failed["error"].partition(": ")[2])
    planned, left = transcript.last("planned"), transcript.last("exit")
    memory = (planned["bytes"] or None) if planned else None
    graphs = _with_memory(graphs, memory)
    failure = ending = ""
    if all(graph.verdict == "compiled" for graph in graphs):
        if failed is not None:
            failure, ending = failed["error"], "refused" if failed["inside"] and not graphs else "unknown"
        elif left is not None and left["status"]:
            failure, ending = f"the script ended with status {left['status']}\n{last}".rstrip(), "unknown"
        elif not ended and transcript.last("memory") is None:
            failure, ending = because, unfinished
    notes = () if graphs or failure else ("nothing was compiled in this process; what it starts in others is not seen",)
    start = transcript.last("start")
    return DryRunReport(
        target=target,
        soc=task.soc,
        jit_level=task.jit_level,
        ranks=task.ranks,
        libraries=libraries,
        mindspore=start["mindspore"] if start else "",
        graphs=tuple(graphs),
        peak_memory_bytes=memory,
        failure=failure,
        ending=ending,
        notes=notes,
    )


def _with_memory(graphs: list[DryRunGraph], planned: int | None) -> list[DryRunGraph]:
    """The memory of the whole program belongs to a graph only where there is one."""
    if len(graphs) != 1 or planned is None:
        note = WHOLE if planned else "not planned: no graph ran dry to its end"
        return [replace(graph, memory_note=note) for graph in graphs]
    return [replace(graphs[0], peak_memory_bytes=planned, memory_note=LACKS)]
