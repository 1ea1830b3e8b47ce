"""One look at the subject, in a fork of this process: what it finds is kept even if it crashes or runs out of time.

A look is a function that takes the `Subject` and yields findings, the surest first. In a fork it may call the cell,
change its parameters and compile as it likes: this process, its cell and its graphs stay as they are.
"""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Union

from ascend_fixes import _mindspore
from ascend_fixes.auditing._kinds import KINDS
from ascend_fixes.auditing._report import Hazard
from ascend_fixes.auditing._subject import AS_IN_GRAPHS, EAGERLY, Subject
from ascend_fixes.errors import first_line
from ascend_fixes.processes import Children, ended, scratch

__all__ = ["Cleared", "Fact", "Finding", "Look", "Outcome", "Unknown", "carry_out", "hazard", "tried"]


@dataclass(frozen=True)
class Cleared:
    """A kind that was looked for and is not there, and how it was looked for."""

    kind: str
    how: str


@dataclass(frozen=True)
class Unknown:
    """A kind that could not be looked for, and why."""

    kind: str
    why: str


@dataclass(frozen=True)
class Fact:
    """Something that the report states besides: ``"note"``, ``"pad"``, ``"masks"``, ``"failure"``."""

    name: str
    value: Any


Finding = Union[Hazard, Cleared, Unknown, Fact]
_TYPES: dict[str, Callable[..., Finding]] = {one.__name__: one for one in (Hazard, Cleared, Unknown, Fact)}


@dataclass(frozen=True)
class Look:
    """One way of looking.

    Attributes:
        name: for messages.
        kinds: what it looks for: each ends as a hazard, cleared, or not looked at.
        carry_out: yields what it finds.
        needs: seconds below which it is not begun.
        without_running: it reads the cell or compiles it elsewhere, so it is taken where the cell does not run here.
        compiled: it is also taken where the cell runs compiled only.
    """

    name: str
    kinds: tuple[str, ...]
    carry_out: Callable[[Subject], Iterable[Finding]]
    needs: float = 1.0
    without_running: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a look gave, and why it ended early; "" where it came to its end."""

    findings: tuple[Finding, ...]
    stopped: str


def hazard(kind: str, certainty: str, reason: str, evidence: str, cure: str, **place: str) -> Hazard:
    """A hazard of a kind; ``place`` may give ``operator``, ``cell`` and ``source``."""
    where = {"operator": "", "cell": "", "source": "", **place}
    return Hazard(KINDS[kind].family, kind, reason=reason, evidence=evidence, certainty=certainty, cure=cure, **where)


def carry_out(look: Look, subject: Subject, limit: float) -> Outcome:
    """Carry a look out in a fork of this process, for at most ``limit`` seconds."""
    with scratch("ascend_fixes-audit-") as folder, Children() as children:
        log = folder / "findings"
        log.touch()
        child = children.fork(lambda: _in_child(look, subject, log))
        status = child.wait(limit)
        children.end(child)
        findings, error = _read(log)
    if status == 0:
        return Outcome(findings, "")
    return Outcome(findings, error or f"the look {ended(status, limit)}")


def tried(subject: Subject, trial: Callable[[Subject], Iterable[Finding]]) -> Outcome:
    """Carry out a part of a look that may end its process, in a fork of that look's own, within the budget."""
    here = replace(subject, runs=EAGERLY, random=False)  # what these need is in force already
    return carry_out(Look("a trial", (), trial), here, max(1.0, subject.clock.left))


def _in_child(look: Look, subject: Subject, log: Path) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    if not os.environ.get("ASCEND_FIXES_AUDIT_LOG"):
        os.dup2(silent, 2)
    os.chdir(log.parent)  # MindSpore writes folders into the working directory
    with log.open("a", encoding="utf-8") as stream, contextlib.ExitStack() as stack:
        if subject.runs == AS_IN_GRAPHS:
            stack.enter_context(_mindspore.as_in_graphs())
        if subject.random:
            stack.enter_context(_mindspore.repeatable(subject.cell))
        try:
            for finding in look.carry_out(subject):
                _write(stream, type(finding).__name__, asdict(finding))
        except BaseException as error:  # the parent must learn of it, whatever it is
            _write(stream, "error", first_line(error) if isinstance(error, Exception) else repr(error))
            traceback.print_exc()
            raise


def _write(stream: Any, kind: str, value: Any) -> None:
    stream.write(json.dumps([kind, value], default=str) + "\n")
    stream.flush()


def _read(log: Path) -> tuple[tuple[Finding, ...], str]:
    found: list[Finding] = []
    error = ""
    for kind, value in _lines(log):
        if kind == "error":
            error = value
        else:
            found.append(_TYPES[kind](**value))
    return tuple(found), error


def _lines(log: Path) -> Iterator[tuple[str, Any]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # cut off by the end of the process
            kind, value = json.loads(line)
            yield kind, value
