"""The quick comparison: what it runs, side by side on the cores, and what it writes.

Every job is a process on one core: a model's training runs (`running`), its use of the host family (`hosted`), or its dry
run for Ascend (`ascend`), for one of the two sides. The jobs of both sides follow each other in the queue, so that on two
cores they run side by side.
"""

from __future__ import annotations

import os
import queue
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascend_fixes import files, processes
from examples.common import variants
from examples.compare import summary
from examples.compare.subjects import MODELS, SIDES

__all__ = ["Job", "jobs", "run"]

PATIENCE = 1200.0  # seconds after which a job is ended: it hangs, or the machine is busy beyond measure
_KINDS = {"running": "trained on the CPU", "ascend": "compiled for Ascend", "hosted": "host at work"}


@dataclass(frozen=True)
class Job:
    """A model, a side of it, and what is done: the name of the module that does it."""

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
    here = sorted(os.sched_getaffinity(0))[: most or 2]
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in here:
        free.put(core)
    print(f"{len(work)} jobs on {len(here)} cores, a few minutes in all", flush=True)
    found: dict[Job, dict[str, Any]] = {}
    with processes.Children() as children:
        pool = ThreadPoolExecutor(len(here), initializer=lambda: os.sched_setaffinity(0, {free.get()}))
        try:
            futures = {pool.submit(_done, job, folder, children): job for job in work}
            for count, future in enumerate(as_completed(futures), 1):
                job = futures[future]
                found[job], taken = future.result()
                print(f"[{count:2}/{len(work)}] {job} ({taken:.0f} s)", flush=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    results = summary.results(models, {(job.model, job.side, job.kind): found[job] for job in work})
    results.update(seconds=round(time.perf_counter() - start, 1), cores=len(here))
    for path in filter(None, (folder / "results.json", json)):
        variants.write_json(path, results)
    summary.write(results, folder)
    return 0 if all(row["ok"] for row in results["rows"]) else 1


def _done(job: Job, folder: Path, children: processes.Children) -> tuple[dict[str, Any], float]:
    """What a job's process wrote, and the seconds it took; "ended" where it came to a bad end."""
    own = (folder / f"{job.model}-{job.side}-{job.kind}").resolve()
    own.mkdir(parents=True, exist_ok=True)
    (own / "result.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", f"examples.compare.{job.kind}", job.model, job.side, str(own)]
    environment = {"GLOG_v": "3", "OMP_NUM_THREADS": "1"}  # errors only
    outcome = children.run(command, folder=own, environment=environment, timeout=PATIENCE)
    (own / "output.log").write_text(outcome.output, encoding="utf-8", errors="replace")
    try:
        found = files.read_json(own / "result.json")
    except files.FileError:
        found = {}
    return {**found, **({"ended": outcome.failure} if outcome.failure else {})}, outcome.seconds
