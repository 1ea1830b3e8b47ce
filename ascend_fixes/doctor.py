"""Runs every probe of the catalogue, without and then with its cure.

A probe may crash its process, hang it, or leave MindSpore's process-wide state
in any shape, so each run has a process group, a working directory and a time
limit of its own; whatever becomes of it is a row of the table.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ascend_fixes.defects import Defect, Finding
from ascend_fixes.processes import Children, Outcome, scratch

__all__ = ["ANSWERS", "Row", "examine", "healthy", "to_json", "to_table"]

# What a user's shell may set, and what would make a probe show something else than the defect.
_ENVIRONMENT = {
    "MS_DEV_GRAPH_KERNEL_FLAGS": None,
    "MS_COMPILER_CACHE_ENABLE": None,
    "MS_COMPILER_CACHE_PATH": None,
    "MS_JIT": None,
    "MS_ASCEND_CHECK_OVERFLOW_MODE": None,
    "GLOG_v": "3",
    "PYTHONWARNINGS": "ignore",
}

ANSWERS = ("present", "not present", "needs a device", "no answer", "failed")


@dataclass(frozen=True)
class Row:
    """What became of one defect on this machine.

    Attributes:
        present: was it seen here; None where no probe could tell.
        cured: is it gone with its cure; None where there was nothing to cure, or no answer.
        evidence: what the probes saw: numbers, or an error's first line.
        cure: ``patch``, ``tool: <name>`` or ``not cured yet``.
        answer: one of `ANSWERS`: what the probe saw, or why there is nothing to tell. ``"no answer"`` is a probe
            that ran out of time, with or without the cure; ``"failed"`` one that crashed or was killed.
        seconds: how long looking took, without and with the cure, the start of each process included.
    """

    id: str
    family: str
    symptom: str
    present: bool | None
    cured: bool | None
    evidence: str
    cure: str
    answer: str
    seconds: float = 0.0


def examine(
    defects: Sequence[Defect],
    jobs: int = 0,
    timeout: float = 90.0,
    report: Callable[[Row], None] = lambda row: None,
    any_version: bool = False,
) -> list[Row]:
    """Examine defects, several at a time. Whatever ends this call ends the probes and all they have started.

    Args:
        defects: what to look for.
        jobs: probes at a time; 0 means one a core.
        timeout: seconds that one run of a probe may take.
        report: called with each row as it is found, in any order, from this thread.
        any_version: also try cures that were not checked on this version of MindSpore.

    Returns:
        A row a defect, in the order given.
    """
    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool, Children() as children:
        examination = _Examination(children, timeout, any_version)
        for future in as_completed([pool.submit(examination.of, defect) for defect in defects]):
            row = future.result()
            rows[row.id] = row
            report(row)
    return [rows[defect.id] for defect in defects]


def healthy(rows: Sequence[Row]) -> bool:
    """Did no probe crash, and is every defect that is present cured? A probe out of time says neither."""
    return not any(row.answer == "failed" or (row.present and row.cured is False) for row in rows)


def to_json(rows: Sequence[Row]) -> str:
    """A list of objects with the keys id, family, symptom, present, cured, evidence, cure, answer, seconds."""
    return json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False)


def to_table(rows: Sequence[Row], symptoms: Mapping[str, str] | None = None) -> str:
    """The rows for a terminal: one line each, the evidence indented below.

    Args:
        rows: what `examine` returned.
        symptoms: other words for the symptoms, by id.
    """
    told = symptoms or {}
    words = {True: "yes", False: "no", None: "-"}
    present = {"present": "yes", "not present": "no"}
    table = [("id", "family", "present", "cured", "cure", "symptom")] + [
        (
            row.id,
            row.family,
            present.get(row.answer, row.answer),
            words[row.cured],
            row.cure,
            told.get(row.id, row.symptom),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) + 2 for column in zip(*table)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    for position in range(len(rows), 0, -1):
        lines[position + 1 : position + 1] = [f"    {line}" for line in rows[position - 1].evidence.splitlines()]
    seen, cured = sum(row.present is True for row in rows), sum(row.cured is True for row in rows)
    failed, silent = (sum(row.answer == answer for row in rows) for answer in ("failed", "no answer"))
    lines.append(
        f"{seen} of {len(rows)} defects present, {cured} cured"
        + f", {failed} probes failed" * bool(failed)
        + f", {silent} gave no answer in time (more patience: --timeout)" * bool(silent)
    )
    return "\n".join(lines)


# --- one defect ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Examination:
    """How the probes of one call of `examine` are run."""

    children: Children
    timeout: float
    any_version: bool

    def of(self, defect: Defect) -> Row:
        """Examine one defect."""
        start = time.monotonic()
        row = self._judged(defect)
        return replace(row, seconds=round(time.monotonic() - start, 1))

    def _judged(self, defect: Defect) -> Row:
        before = self._run(defect, "plain")
        if isinstance(before, Outcome):
            return _row(defect, None, None, _sentence(before), _unanswered(before))
        if before.present is None:
            return _row(defect, None, None, before.evidence, "needs a device")
        if not before.present:
            return _row(defect, False, None, before.evidence, "not present")
        if defect.patch is None and defect.tool is None:
            return _row(defect, True, False, before.evidence, "present")
        after = self._run(defect, "any version" if self.any_version else "cured")
        if isinstance(after, Outcome):
            cured = None if after.timed_out else False
            return _row(
                defect, True, cured, f"{before.evidence}\nwith the cure: {_sentence(after)}", _unanswered(after)
            )
        return _row(
            defect, True, after.present is False, f"{before.evidence}\nwith the cure: {after.evidence}", "present"
        )

    def _run(self, defect: Defect, how: str) -> Finding | Outcome:
        """Run a probe in a process of its own: what it found, or how it ended without."""
        with scratch() as folder:
            answer, work = folder / "answer.json", folder / "work"
            work.mkdir()
            command = [sys.executable, "-m", __name__, defect.probe.__module__, how, str(answer)]
            environment = {**_ENVIRONMENT, "ASCEND_FIXES_PATIENCE": str(self.timeout)}
            outcome = self.children.run(command, folder=work, environment=environment, timeout=self.timeout)
            if answer.exists():
                return Finding(**json.loads(answer.read_text(encoding="utf-8")))
            return outcome


def _row(defect: Defect, present: bool | None, cured: bool | None, evidence: str, answer: str) -> Row:
    return Row(defect.id, defect.family, defect.symptom, present, cured, evidence, defect.cure, answer)


def _sentence(outcome: Outcome) -> str:
    return outcome.failure or "ended without an answer"


def _unanswered(outcome: Outcome) -> str:
    return "no answer" if outcome.timed_out else "failed"


def _probe(module: str, how: str, answer: str) -> None:
    """The child's part: run the probe and write what it found, whole or not at all."""
    from ascend_fixes import _mindspore
    from ascend_fixes.cures import apply
    from ascend_fixes.defects._compiled import compile_for_ascend

    defect = importlib.import_module(module).DEFECT
    probe, obstacle = defect.probe, ""
    on_ascend = defect.patch is not None and defect.patch.backends == ("Ascend",) and _mindspore.backend() != "Ascend"
    if how != "plain" and on_ascend:  # where the probe compiles, the patch is applied
        finding = defect.ascend.judge(compile_for_ascend(module, "cured"))
        return _write(finding, answer)
    if how != "plain" and defect.patch is not None:
        obstacle = apply(defect, any_version=how == "any version")
    elif how != "plain":
        probe = defect.tool.probe
    finding = probe()
    if obstacle:
        finding = Finding(finding.present, f"not applied, {obstacle}; {finding.evidence}")
    _write(finding, answer)


def _write(finding: Finding, answer: str) -> None:
    partial = Path(answer + ".part")
    partial.write_text(json.dumps(asdict(finding)), encoding="utf-8")
    partial.rename(answer)


if __name__ == "__main__":
    _probe(*sys.argv[1:])
    # MindSpore's teardown can crash or hang after an error inside a graph; the answer is written.
    os._exit(0)
