"""``python -m benchmarks.auditing.establish``: what goes wrong with the public models, found by running them, without ``audit``.

Each model of ``models/manifest.json`` is built from its checkout (``AUDIT_MODELS`` names the directory) in processes
of its own and put through the experiments below; what they show is written back into the manifest: ``hazards``, each with
the observation, and ``absent``, the kinds that were looked for in vain, but for those that a person found left ``open`` and said
why. Nothing here uses the code that is measured.

    python -m benchmarks.auditing.establish                    # every model
    python -m benchmarks.auditing.establish textcnn naml       # these
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mindspore

from benchmarks import records
from benchmarks.auditing.models.built import Model, first_line
from benchmarks.auditing.models.experiments import EXPERIMENTS

MANIFEST = Path(__file__).with_name("models") / "manifest.json"
_PATIENCE = 900  # seconds for one process


def _entry(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in manifest["models"] if entry["name"] == name)


def observe(name: str, only: Sequence[str]) -> None:
    """Runs the experiments on one model; prints one JSON line each."""
    mindspore.set_context(mode=mindspore.GRAPH_MODE)
    entry = _entry(records.read(MANIFEST), name)
    model = Model(entry)
    for experiment, run in EXPERIMENTS.items():
        if only and experiment not in only:
            continue
        try:
            seen = list(run(model))
        except Exception as failure:
            seen = [f"{experiment}: {first_line(failure)}"]
        print("\x1e" + json.dumps([experiment, seen]), flush=True)
        if experiment == "kernels" and any(not isinstance(one, str) or one.startswith("does not") for one in seen):
            only = ["floats", "bprops"]


def record(entry: dict[str, Any]) -> None:
    """Runs a model's experiments in processes of their own and puts what they show into its entry."""
    seen: list[Any] = []
    for part in ([name for name in EXPERIMENTS if name != "fused"], ["fused"]):
        command = [
            sys.executable,
            "-m",
            "benchmarks.auditing.establish",
            "--observe",
            entry["name"],
            "--experiments",
            *part,
        ]
        settings = {**os.environ, "GLOG_v": "3", "PYTHONPATH": str(records.ROOT)}
        with tempfile.TemporaryDirectory() as folder:  # a failed compilation leaves a file where it runs
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, env=settings, cwd=folder)
        lines = [json.loads(line[1:]) for line in done.stdout.split("\n") if line.startswith("\x1e")]
        seen += [one for _, found in lines for one in found]
        if done.returncode:
            seen.append(
                f"{part[0]}: the process ended with {done.returncode} after {lines[-1][0] if lines else 'nothing'}"
            )
    absent = sorted({one[1:] for one in seen if isinstance(one, str) and one.startswith("!")})
    hazards = [dict(zip(("kind", "cell", "shown_by"), one)) for one in seen if not isinstance(one, str)]
    kept = [hazard for hazard in entry.get("hazards", []) if hazard.get("by_hand")]
    entry["hazards"] = kept + hazards
    known = {hazard["kind"] for hazard in entry["hazards"]} | set(entry.get("open", {}))
    entry["absent"] = [kind for kind in absent if kind not in known]
    entry["notes"] = [one for one in seen if isinstance(one, str) and not one.startswith("!")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--observe", help=argparse.SUPPRESS)
    parser.add_argument("--experiments", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.observe:
        observe(options.observe, options.experiments)
        return
    for name in options.names or [entry["name"] for entry in records.read(MANIFEST)["models"]]:
        entry = _entry(records.read(MANIFEST), name)
        record(entry)
        manifest = records.read(MANIFEST)
        _entry(manifest, name).update(entry)
        records.write(MANIFEST, manifest)
        print(
            name,
            *(f"\n    {hazard['kind']} {hazard['cell']}: {hazard['shown_by']}" for hazard in entry["hazards"]),
            "\n   ",
            *entry["notes"],
            flush=True,
        )


if __name__ == "__main__":
    main()
