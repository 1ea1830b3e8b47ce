"""The quick comparison: what it runs, side by side on the cores, and what it writes.

Every job (`jobs`) is a process on one core: a model's training runs, its use of the host family, or its dry run for Ascend, for
one of the two sides. The jobs of both sides follow each other in the queue, so that on two
cores they run side by side.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_fixes import files
from ascend_fixes.processes import Children
from examples.common.files import write_json
from examples.compare import summary
from examples.compare.cores import side_by_side
from examples.compare.jobs import MODELS, SIDES

__all__ = ["Job", "jobs", "run"]

PATIENCE = 1200.0  # seconds after which a job is ended: it hangs, or the machine is busy beyond measure
_KINDS = {"running": "trained on the CPU", "ascend": "compiled for Ascend", "hosted": "host at work"}


@dataclass(frozen=True)
class Job:
    """A model, a side of it, and what is done."""

    model: str
    side: str
    kind: str

    def __str__(self) -> str:
        side = "as it is" if self.side == "plain" else "with ascend_fixes"
        return f"{MODELS[self.model].title}, {side}: {_KINDS[self.kind]}"


def jobs(models: Sequence[str]) -> list[Job]:
    """The jobs, those first that take longest."""
    return [Job(model, side, kind) for kind in _KINDS for model in MODELS if model in models for side in SIDES]


def run(models: Sequence[str], folder: Path, json: Path | None, most: int | None) -> int:
    """Run the comparison, print and write its results; 0 if everything with ascend_fixes did what it should, else 1."""
    start, work = time.perf_counter(), jobs(models)
    cores = sorted(os.sched_getaffinity(0))[: most or 2]
    print(f"{len(work)} jobs on {len(cores)} cores, a few minutes in all", flush=True)

    def told(count: int, job: Job, done: tuple[Any, float]) -> None:
        print(f"[{count:2}/{len(work)}] {job} ({done[1]:.0f} s)", flush=True)

    done = side_by_side(work, lambda job, children: _done(job, folder, children), cores, told)
    results = summary.results(models, {(job.model, job.side, job.kind): found for job, (found, _) in zip(work, done)})
    results.update(seconds=round(time.perf_counter() - start, 1), cores=len(cores))
    for path in filter(None, (folder / "results.json", json)):
        write_json(path, results)
    summary.write(results, folder)
    return 0 if all(row["ok"] for row in results["rows"]) else 1


def _done(job: Job, folder: Path, children: Children) -> tuple[dict[str, Any], float]:
    """What a job's process wrote, and the seconds it took; "ended" where it came to a bad end."""
    own = (folder / f"{job.model}-{job.side}-{job.kind}").resolve()
    own.mkdir(parents=True, exist_ok=True)
    (own / "result.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "examples.compare.jobs", job.kind, job.model, job.side, str(own)]
    environment = {"GLOG_v": "3", "OMP_NUM_THREADS": "1"}  # errors only
    outcome = children.run(command, folder=own, environment=environment, timeout=PATIENCE)
    (own / "output.log").write_text(outcome.output, encoding="utf-8", errors="replace")
    try:
        found = files.read_json(own / "result.json")
    except files.FileError:
        found = {}
    return {**found, **({"ended": outcome.failure} if outcome.failure else {})}, outcome.seconds
