"""The search for the operators that fusion gets wrong in a given cell.

The cell is run unfused, then fused; if they differ, candidates are read off the
kernels that were really fused, and a minimal set of them is sought whose absence
makes the difference go away. The set is found by QuickXplain (Junker, "QuickXplain:
preferred explanations and relaxations for over-constrained problems", AAAI 2004)
in about ``2 k log2(n / k)`` runs for k guilty ones among n; what is known bad is
tried first. That every member is needed is checked in the end, member by member.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np
from mindspore import nn

from ascend_fixes import _mindspore, processes
from ascend_fixes.errors import AscendFixesError, first_line
from ascend_fixes.fusion._comparison import tolerance, worst
from ascend_fixes.fusion._compiler import require_compiler
from ascend_fixes.fusion._flags import exclusions, merge, render
from ascend_fixes.fusion._learned import known_bad, remember
from ascend_fixes.fusion._quirks import Quirk
from ascend_fixes.fusion._trial import Trial, run
from ascend_fixes.processes import scratch

__all__ = ["BisectError", "BisectReport", "LearnError", "bisect", "learn", "minimal"]


class BisectError(AscendFixesError, RuntimeError):
    """The cell cannot be searched: it does not run, or differs from run to run without fusion."""


class LearnError(AscendFixesError, ValueError):
    """A report that teaches nothing: no operator was found guilty."""


@dataclass(frozen=True)
class BisectReport:
    """What a search found.

    Attributes:
        keep_out: the minimal set, as `ascend_fixes.fusion.guard` takes it; empty where there is nothing to do.
        flags: the same as a flag string.
        failure: how the fused cell failed, where it did not run: the compiler's error, a crash, a hang.
        worst: the output, gradient or changed parameter that was off the most.
        error_before: the largest error of the fused cell, relative to the array's largest value; infinite
            where it is NaN or did not run.
        error_after: the same with `keep_out` left out of fusion.
        cells: per operator the cells it sits in, gradient included.
        compilations: the runs spent, each compiling one graph in a process of its own.
        seconds: the time spent.
        mindspore, backend: where it was found.
    """

    keep_out: tuple[str, ...]
    flags: str
    failure: str
    worst: str
    error_before: float
    error_after: float
    cells: dict[str, tuple[str, ...]]
    compilations: int
    seconds: float
    mindspore: str
    backend: str

    def to_json(self) -> str:
        """The report as one JSON object."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> BisectReport:
        """The report that `to_json` wrote.

        Raises:
            BisectError: the text is none.
        """
        try:
            fields = json.loads(text)
            cells = {name: tuple(paths) for name, paths in fields["cells"].items()}
            return cls(**{**fields, "keep_out": tuple(fields["keep_out"]), "cells": cells})
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
            raise BisectError(f"text is no report of a search ({error!r}); pass what to_json() wrote") from None

    def __str__(self) -> str:
        spent = f"{self.compilations} compilations, {self.seconds:.0f} s"
        if not self.keep_out:
            return f"nothing to do: fused and unfused agree to {self.error_before:.1g} ({spent})"
        lines = [
            f"keep out of fusion: {', '.join(self.keep_out)}   ({spent})",
            f"flags: {self.flags}",
            f"before: {self.failure or f'{self.worst} off by {self.error_before:.2g} of its largest value'}",
            f"after:  {self.error_after:.1g}",
        ]
        return "\n".join(lines + [f"{name} in {', '.join(paths)}" for name, paths in self.cells.items()])


def bisect(cell: Any, *inputs: Any, grad: bool = True, rtol: float | None = None, limit: float = 120.0) -> BisectReport:
    """Find a minimal set of operators that must be left out of fusion for this cell to be right.

    Every run happens in a fork of this process, or, for a factory, of a new one.

    Args:
        cell: a cell, or ``"package.module:factory"``, a function that returns a cell and its inputs.
        inputs: the cell's arguments.
        grad: compare the gradients by inputs and parameters as well. Give False for a cell that updates its
            parameters, such as a training step: then the updates are compared.
        rtol: the largest error that counts as right, relative to the array's largest value; by default 1e-3,
            and 2e-2 where an output is float16.
        limit: seconds that one run may take.

    Raises:
        BisectError: the factory cannot be found or called; the cell does not run without fusion, differs from run
            to run without fusion, or differs for a reason other than the operators that were fused.
        MissingCompilerError: fusion's compiler cannot be imported.
    """
    require_compiler()
    if isinstance(cell, str):
        return _in_new_process(cell, grad, rtol, limit)
    if not isinstance(cell, nn.Cell):
        raise BisectError(f"cell must be a cell or 'package.module:factory', not {cell!r}")
    for index, value in enumerate(inputs):
        if isinstance(value, np.ndarray):
            raise BisectError(f"input {index} is a NumPy array, which a graph holds as a constant; give a Tensor")
    return _Search(cell, inputs, grad, rtol, limit).report()


def learn(report: BisectReport) -> Quirk:
    """Remember what a search found; the same finding is kept once.

    Args:
        report: of `bisect`, with something to keep out.

    Raises:
        LearnError: the report has nothing to keep out.
        OSError: the file cannot be written.
    """
    if not report.keep_out:
        raise LearnError("report: the search found nothing to keep out, so there is nothing to learn")
    return remember(
        {
            "keep_out": list(report.keep_out),
            "backend": report.backend,
            "mindspore": report.mindspore,
            "symptom": report.failure or f"{report.worst} off by {report.error_before:.2g} of its largest value",
        }
    )


def minimal(candidates: Sequence[str], cured: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """A minimal set of candidates for which ``cured`` holds: without any one of its members it does not.

    Args:
        candidates: for all of them together ``cured`` must hold; for none of them it is taken not to hold.
        cured: is asked about subsets, some of them twice. Leaving out more may hurt; then more runs are needed.
    """

    def explain(background: tuple[str, ...], grown: bool, rest: tuple[str, ...]) -> tuple[str, ...]:
        if grown and cured(background):
            return ()
        if len(rest) == 1:
            return rest
        first, second = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        from_second = explain(background + first, True, second)
        return explain(background + from_second, bool(from_second), first) + from_second

    found = explain((), False, tuple(candidates)) if candidates else ()
    return _without_needless(found if not found or cured(found) else tuple(candidates), cured)


def _without_needless(found: tuple[str, ...], cured: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """Members are dropped one by one until each is needed."""
    for name in found if len(found) > 1 else ():
        rest = tuple(other for other in found if other != name)
        if cured(rest):
            return _without_needless(rest, cured)
    return found


class _Search:
    """The runs of one search."""

    def __init__(self, cell: nn.Cell, inputs: Sequence[Any], grad: bool, rtol: float | None, limit: float) -> None:
        self._arguments: dict[str, Any] = {"cell": cell, "inputs": inputs, "grad": grad, "limit": limit}
        self._start, self._runs = time.monotonic(), 0
        self._reference = self._run(fused=False, nearby=True)
        if self._reference.failure:
            raise BisectError(f"the cell does not run without fusion: {self._reference.failure}")
        self._rtol = rtol or tolerance(self._reference.arrays[0])
        unsteady, name = self._error(self._reference)
        if unsteady > self._rtol:
            raise BisectError(
                f"the cell differs from run to run without fusion: {name} by {unsteady:.2g}; "
                "switch dropout off with set_train(False), or fix its seeds"
            )
        self._errors: dict[frozenset[str], float] = {}

    def report(self) -> BisectReport:
        """Carry the search out."""
        fused = self._run(fused=True)
        before, worst = self._error(fused)
        found: tuple[str, ...] = ()
        if before > self._rtol:
            candidates = self._candidates(fused)
            likely = tuple(name for name in known_bad() if name in candidates)
            if likely and self._cured(likely):
                candidates = likely
            elif not candidates or not self._cured(candidates):
                raise BisectError(
                    f"the fused cell is wrong ({fused.failure or f'{worst} by {before:.2g}'}), and leaving out all "
                    f"that was fused ({', '.join(candidates) or 'nothing'}) does not cure it"
                )
            self._errors[frozenset()] = before
            found = tuple(sorted(minimal(candidates, self._cured)))
        return BisectReport(
            keep_out=found,
            flags=render(merge(exclusions(found, "bisect"))),
            failure=fused.failure,
            worst=worst,
            error_before=before,
            error_after=self._errors.get(frozenset(found), before),
            cells={name: self._cells(name) for name in found},
            compilations=self._runs,
            seconds=time.monotonic() - self._start,
            mindspore=_mindspore.version_text(),
            backend=_mindspore.backend(),
        )

    def _run(self, fused: bool, keep_out: Sequence[str] = (), nearby: bool = False) -> Trial:
        self._runs += 1
        return run(**self._arguments, fused=fused, keep_out=keep_out, nearby=nearby)

    def _cured(self, keep_out: tuple[str, ...]) -> bool:
        key = frozenset(keep_out)
        if key not in self._errors:
            self._errors[key] = self._error(self._run(fused=True, keep_out=keep_out))[0]
        return self._errors[key] <= self._rtol

    def _error(self, trial: Trial) -> tuple[float, str]:
        """The largest error over arrays and repetitions, and the array's name."""
        if trial.failure:
            return float("inf"), ""
        return worst(self._reference.arrays[0], self._reference.nearby, trial.arrays)

    def _candidates(self, trial: Trial) -> tuple[str, ...]:
        """What was fused: the operators inside the kernels, and those that were expanded into them.

        Where the compiler failed, kernels may be missing: then every operator of the graph.
        """
        inside = {operator for _, operators in trial.kernels for operator in operators}
        if trial.failure:
            inside |= {operator for operator, _ in self._reference.scopes}
        named = {word for name, _ in trial.kernels for word in name.split("_")} & _mindspore.operator_names()
        clustered = [f"cluster:{name}" for name in sorted(inside & _mindspore.operator_names())]
        return (*clustered, *(f"expand:{name}" for name in sorted(named - inside)))

    def _cells(self, name: str) -> tuple[str, ...]:
        operator = name.partition(":")[2]
        return tuple(sorted({scope for kind, scope in self._reference.scopes if kind == operator}))


# --- a process of its own ---------------------------------------------------------------------


def _in_new_process(factory: str, grad: bool, rtol: float | None, limit: float) -> BisectReport:
    options = ["--limit", str(limit), *([] if grad else ["--no-grad"]), *(["--rtol", str(rtol)] if rtol else [])]
    start = "import sys; from ascend_fixes.fusion._search import main; sys.exit(main())"
    with scratch() as folder:
        answer = folder / "report.json"
        command = [sys.executable, "-c", start, factory, *options, "--into", str(answer)]
        outcome = processes.run(command, folder=os.getcwd())
        if answer.exists():
            return BisectReport.from_json(answer.read_text(encoding="utf-8"))
    ours = [line[len("bisect: ") :] for line in outcome.output.splitlines() if line.startswith("bisect: ")]
    raise BisectError((ours or [f"{factory} {outcome.failure}"])[-1])


def _build(factory: str) -> tuple[Any, ...]:
    module, _, name = factory.partition(":")
    if not module or not name:
        raise BisectError(f"the factory must be written 'package.module:function', not {factory!r}")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BisectError(f"{factory} cannot be found: {error}") from None
    except Exception as error:
        raise BisectError(f"{module} cannot be imported: {_told(error)}") from None
    try:
        made = function()
    except Exception as error:
        raise BisectError(f"{factory} cannot be called: {_told(error)}") from None
    if not isinstance(made, tuple) or not made or not isinstance(made[0], nn.Cell):
        raise BisectError(f"{factory} must return a cell and its inputs as one tuple, not {type(made).__name__}")
    return made


def _told(error: Exception) -> str:
    """An error of the user's code in one line, with the place where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{first_line(error)} ({place.filename}, line {place.lineno})"


def main() -> int:
    """Search the cell of a factory, named on the command line, and print the report as JSON."""
    parser = argparse.ArgumentParser(prog="bisect")
    parser.add_argument("factory")
    parser.add_argument("--no-grad", action="store_true")
    parser.add_argument("--rtol", type=float)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--into", type=Path, help="a file for the report; by default it is printed")
    arguments = parser.parse_args()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            cell, *inputs = _build(arguments.factory)
            report = bisect(cell, *inputs, grad=not arguments.no_grad, rtol=arguments.rtol, limit=arguments.limit)
    except AscendFixesError as error:
        print(f"bisect: {error}", file=sys.stderr)
        return 1
    if arguments.into:
        arguments.into.write_text(report.to_json(), encoding="utf-8")
    else:
        print(report.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
