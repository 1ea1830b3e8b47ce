"""The catalogue and the fast tests on several versions of MindSpore and Python.

    python -m benchmarks.library.versions .venv-2.7.2/bin/python .venv-2.9.0/bin/python
    python -m benchmarks.library.versions .venv-2.9.0/bin/python --tests tests/test_seam.py tests/test_cures.py
    python -m benchmarks.library.versions .venv-2.10.0/bin/python --ascend --soc Ascend910A

Each argument is the interpreter of an environment that has one version of MindSpore, NumPy below 2 and decorator (and
pytest and hypothesis for ``--tests``); this library is taken from the checkout. One after the other:

- without options the full doctor runs, and leaves ``evidence/cpu_mindspore<version>_python<version>.json``;
- with ``--ascend`` those rows are compiled for a 910B, or what ``--soc`` says, that have a scenario for it, into
  ``evidence/ascend910b_...``;
- with ``--tests`` pytest runs ``-m "not slow"`` over the paths that follow; what it counted is entered in
  ``benchmarks/results/versions.json``.

`benchmarks.pages.support` makes the tables of the documents from these files.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import records

EVIDENCE = records.ROOT / "evidence"
TESTS = records.RESULTS / "versions.json"
_ASK = "import platform, mindspore; print(mindspore.__version__, platform.python_version())"


def versions(python: Path) -> tuple[str, str]:
    """Of MindSpore and of Python, as this interpreter has them."""
    done = subprocess.run([python, "-c", _ASK], capture_output=True, text=True, check=True)
    mindspore, own = done.stdout.split()[-2:]
    return mindspore, own


def environment(python: Path) -> dict[str, str]:
    """This library from the checkout, and the environment's own commands."""
    path = os.pathsep.join([str(python.parent), os.environ["PATH"]])
    return {**os.environ, "PYTHONPATH": str(records.ROOT), "PATH": path, "GLOG_v": "3"}


def with_scenario() -> list[str]:
    """The rows that the Ascend back end can judge."""
    from ascend_fixes.defects import catalogue

    return [id_ for id_, defect in catalogue().items() if defect.ascend is not None]


def examined(python: Path, options: argparse.Namespace) -> None:
    """Run the doctor there; its evidence is kept whatever it found."""
    mindspore, own = versions(python)
    kind = options.soc.lower() if options.ascend else "cpu"
    target = EVIDENCE / f"{kind}_mindspore{mindspore}_python{'.'.join(own.split('.')[:2])}.json"
    command = [str(python), "-m", "ascend_fixes", "doctor", "--report", str(target)]
    if options.ascend:
        command += ["--ascend", "--soc", options.soc, "--only", ",".join(with_scenario())]
    elif options.only:
        command += ["--only", options.only]
    if options.timeout:
        command += ["--timeout", str(options.timeout)]
    done = subprocess.run(command, cwd=records.ROOT, env=environment(python), capture_output=True, text=True)
    print(f"{target.name}: {(done.stdout.strip().splitlines() or [done.stderr[-500:]])[-1]}", flush=True)


def tested(python: Path, paths: list[str]) -> dict[str, Any]:
    """Run the fast tests of some paths there."""
    mindspore, own = versions(python)
    command = [str(python), "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *paths]
    done = subprocess.run(command, cwd=records.ROOT, env=environment(python), capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or [done.stderr[-500:]])[-1]
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    print(f"MindSpore {mindspore}, Python {own}: {last}", flush=True)
    return {"mindspore": mindspore, "python": own, "paths": paths, **counts, "failures": failures}


def entered(result: dict[str, Any]) -> None:
    """Put a result in the place of an earlier one of the same versions and paths; all tests stand for some of them."""
    versions = ("mindspore", "python")
    results = [
        old
        for old in records.read(TESTS, [])
        if any(old[name] != result[name] for name in versions) or result["paths"] not in (old["paths"], ["tests"])
    ]
    results.append(result)
    results.sort(key=lambda one: [*map(int, one["mindspore"].split(".")), *map(int, one["python"].split("."))])
    records.write(TESTS, results)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("python", nargs="+", type=Path, help="interpreters")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="run these fast tests instead of the doctor")
    parser.add_argument("--ascend", action="store_true", help="compile for Ascend instead of running")
    parser.add_argument("--soc", default="Ascend910B", help="the chip that --ascend compiles for")
    parser.add_argument("--only", metavar="A1,F1", help="rows for the doctor, for a trial; the file is of these alone")
    parser.add_argument("--timeout", type=float, metavar="S", help="the doctor's limit for one run of a probe")
    options = parser.parse_args()
    EVIDENCE.mkdir(exist_ok=True)
    for python in options.python:
        python = python.absolute()
        if options.tests:
            entered(tested(python, options.tests))
        else:
            examined(python, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
