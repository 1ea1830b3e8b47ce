"""Runs every probe of the catalogue, without and then with its cure.

A probe may crash its process, hang it, or leave MindSpore's process-wide state
in any shape, so each run has a process group, a working directory and a time
limit of its own; whatever becomes of it is a row of the table.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from ascend_fixes.cures import patch
from ascend_fixes.defects import Defect, Finding

__all__ = ["Row", "examine", "healthy", "to_json", "to_table"]

# What a user's shell may set, and what would make a probe show something else than the defect.
_UNSET = (
    "MS_DEV_GRAPH_KERNEL_FLAGS",
    "MS_COMPILER_CACHE_ENABLE",
    "MS_COMPILER_CACHE_PATH",
    "MS_JIT",
    "MS_ASCEND_CHECK_OVERFLOW_MODE",
)
_SET = {"GLOG_v": "3", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True)
class Row:
    """What became of one defect on this machine.

    Attributes:
        present: was it seen here; None where the probe failed or a device is needed.
        cured: is it gone with its cure; None where there was nothing to cure.
        evidence: what the probes saw: numbers, or an error's first line.
        cure: ``patch``, ``tool: <name>`` or ``not cured yet``.
        failed: the probe itself crashed, hung or was killed.
    """

    id: str
    family: str
    symptom: str
    present: bool | None
    cured: bool | None
    evidence: str
    cure: str
    failed: bool = False


def examine(
    defects: Sequence[Defect], jobs: int = 0, timeout: float = 90.0, report: Callable[[Row], None] = lambda row: None
) -> list[Row]:
    """Examine defects, several at a time.

    Args:
        defects: what to look for.
        jobs: probes at a time; 0 means one a core.
        timeout: seconds that one run of a probe may take.
        report: called with each row as it is found, in any order, from this thread.

    Returns:
        A row a defect, in the order given.
    """
    rows: dict[str, Row] = {}
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        for future in as_completed([pool.submit(_examine, defect, timeout) for defect in defects]):
            row = future.result()
            rows[row.id] = row
            report(row)
    return [rows[defect.id] for defect in defects]


def healthy(rows: Sequence[Row]) -> bool:
    """Did every probe run, and is every defect that is present cured?"""
    return not any(row.failed or (row.present and not row.cured) for row in rows)


def to_json(rows: Sequence[Row]) -> str:
    """A list of objects with the keys id, family, symptom, present, cured, evidence, cure."""
    fields = [{key: value for key, value in asdict(row).items() if key != "failed"} for row in rows]
    return json.dumps(fields, indent=1, ensure_ascii=False)


def to_table(rows: Sequence[Row]) -> str:
    """The rows for a terminal: one line each, the evidence indented below."""
    words = {True: "yes", False: "no", None: "-"}
    table = [("id", "family", "present", "cured", "cure", "symptom")] + [
        (row.id, row.family, "failed" if row.failed else words[row.present], words[row.cured], row.cure, row.symptom)
        for row in rows
    ]
    widths = [max(map(len, column)) + 2 for column in zip(*table)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table]
    for position in range(len(rows), 0, -1):
        lines[position + 1 : position + 1] = [f"    {line}" for line in rows[position - 1].evidence.splitlines()]
    present, cured = sum(row.present is True for row in rows), sum(row.cured is True for row in rows)
    failed = sum(row.failed for row in rows)
    lines.append(
        f"{present} of {len(rows)} defects present, {cured} cured" + (f", {failed} probes failed" * bool(failed))
    )
    return "\n".join(lines)


# --- one defect ------------------------------------------------------------------------------------


def _examine(defect: Defect, timeout: float) -> Row:
    before = _run(defect, "plain", timeout)
    if not isinstance(before, Finding):
        return _row(defect, None, None, before, failed=True)
    if not before.present or (defect.patch is None and defect.tool is None):
        return _row(defect, before.present, False if before.present else None, before.evidence)
    after = _run(defect, "cured", timeout)
    if not isinstance(after, Finding):
        return _row(defect, True, False, f"{before.evidence}\nwith the cure: {after}", failed=True)
    return _row(defect, True, after.present is False, f"{before.evidence}\nwith the cure: {after.evidence}")


def _row(defect: Defect, present: bool | None, cured: bool | None, evidence: str, failed: bool = False) -> Row:
    return Row(defect.id, defect.family, defect.symptom, present, cured, evidence, defect.cure, failed)


def _run(defect: Defect, how: str, timeout: float) -> Finding | str:
    """Run a probe in a process of its own; a sentence says what happened to one that gave no finding."""
    environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
    environment.update(_SET, PYTHONPATH=os.pathsep.join(filter(None, map(os.path.abspath, sys.path))))
    with tempfile.TemporaryDirectory(prefix="ascend-fixes-", ignore_cleanup_errors=True) as folder:
        answer, log = Path(folder, "answer.json"), Path(folder, "log.txt")
        work = Path(folder, "work")
        work.mkdir()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "ascend_fixes.doctor", defect.probe.__module__, how, str(answer)],
                cwd=work,
                env=environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                return f"gave no answer within {timeout:g} s and was stopped"
            finally:
                _kill_group(process)
        if answer.exists():
            return Finding(**json.loads(answer.read_text(encoding="utf-8")))
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"ended with status {code}: {lines[-1][:160] if lines else 'nothing was printed'}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the probe and whatever it started; the kernel compiler leaves servers behind."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _probe(module: str, how: str, answer: str) -> None:
    """The child's part: run the probe and write what it found, whole or not at all."""
    defect = importlib.import_module(module).DEFECT
    probe = defect.probe
    if how == "cured" and defect.patch is not None:
        patch(defect.id)
    elif how == "cured" and defect.tool is not None:
        probe = defect.tool.probe
    finding = probe()
    partial = Path(answer + ".part")
    partial.write_text(json.dumps(asdict(finding)), encoding="utf-8")
    partial.rename(answer)


if __name__ == "__main__":
    _probe(*sys.argv[1:])
    # MindSpore's teardown can crash or hang after an error inside a graph; the answer is written.
    os._exit(0)
