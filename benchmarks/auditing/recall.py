"""``python -m benchmarks.auditing.recall``: how much `audit` finds on public models, and how long it takes.

The hazards that ``benchmarks/auditing/establish.py`` found by running the models of ``models/manifest.json`` are
compared with what `ascend_fixes.audit` says of them, a process a model. ``AUDIT_MODELS`` names the directory of the
checkouts. Writes ``benchmarks/results/audit.json``, model by model.

    python -m benchmarks.auditing.recall                     # all models but those kept apart, whose figures are their own
    python -m benchmarks.auditing.recall --apart --set second    # the second set kept apart; also "third" to "fifth"; else the first
    python -m benchmarks.auditing.recall textcnn dkt         # these
    python -m benchmarks.auditing.recall --bert              # seconds on a 4-layer BERT tagger, and against the number of layers
    python -m benchmarks.auditing.recall --reports DIR       # keeps whole reports there, and takes those that are there already
    python -m benchmarks.auditing.recall --table             # what is recorded already

A hazard is found where one of its family and kind is reported, at its cell where that is known. Reported as certain is
all but "read only". An alarm is right where the same kind was established, and wrong where the kind was looked for and is
absent; alarms of kinds that were not looked for in a model (what only a device knows) are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ascend_fixes.files import replacing
from benchmarks import records

RESULTS = records.RESULTS / "audit.json"
MANIFEST = Path(__file__).with_name("models") / "manifest.json"
_PATIENCE = 1200  # seconds for one process
_RUN = """
import sys
from ascend_fixes import audit
report = audit(sys.argv[1], budget=float(sys.argv[2]))
print("\\x1e" + report.to_json().replace("\\n", ""))
"""
LAYERS = (1, 2, 4, 8)
SETS = {
    "tuned on": None,
    "kept apart, first": "first",
    "kept apart, second": "second",
    "kept apart, third": "third",
    "kept apart, fourth": "fourth",
    "kept apart, fifth": "fifth",
}
_HERE = ("padding-leak-output", "padding-leak-state", "padding-leak-loss", "padding-leak-gradient")


def audited(factory: str, budget: float) -> dict[str, Any]:
    """The report on a factory, as data; ``{"error": ...}`` where there is none."""
    command = [sys.executable, "-c", _RUN, factory, str(budget)]
    settings = {**os.environ, "PYTHONPATH": str(records.ROOT), "GLOG_v": "3"}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, env=settings, cwd=folder)
    seconds = round(time.monotonic() - started, 1)
    for line in done.stdout.split("\n"):
        if line.startswith("\x1e"):
            return {**json.loads(line[1:]), "wall_seconds": seconds}
    return {"error": (done.stderr.strip().splitlines() or ["nothing was said"])[-1], "wall_seconds": seconds}


def _report(entry: dict[str, Any], budget: float, folder: Path | None) -> dict[str, Any]:
    """The report on a model, from the folder where it is there already."""
    kept = folder / f"{entry['name']}.json" if folder else None
    if kept and kept.exists():
        return records.read(kept)
    report = {**audited(entry["factory"], budget), "budget": budget}
    if kept:
        records.write(kept, report)
    return report


def compared(entry: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """What of a model's hazards was found and missed, and which certain alarms were right, wrong and not judged."""
    reported = report.get("hazards", [])
    certain = [hazard for hazard in reported if hazard["certainty"] != "read only"]
    established = entry["hazards"]
    found = [hazard for hazard in established if any(_matches(hazard, one) for one in reported)]
    right = [one for one in certain if any(one["kind"] == hazard["kind"] for hazard in established)]
    wrong = [one for one in certain if one not in right and one["kind"] in entry["absent"]]
    return {
        "name": entry["name"],
        "set": entry.get("set"),
        "seconds": report["wall_seconds"],
        "budget": report["budget"],
        **({"error": report["error"]} if "error" in report else {}),
        "established": len(established),
        "found": [_named(hazard) for hazard in found],
        "missed": [_named(hazard) for hazard in established if hazard not in found],
        "certain": len(certain),
        "right": [_named(one) for one in right],
        "wrong": [f"{_named(one)}: {one['evidence']}" for one in wrong],
        "not_judged": [_named(one) for one in certain if one not in right and one not in wrong],
    }


def _matches(established: dict[str, Any], reported: dict[str, Any]) -> bool:
    if established["kind"] != reported["kind"]:
        return False
    return (
        not established["cell"]
        or established["cell"] in reported["cell"]
        or established["cell"] in reported["evidence"]
    )


def _named(hazard: dict[str, Any]) -> str:
    return f"{hazard['kind']} {hazard['cell']}".strip()


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Recall and precision over some models."""
    established, found = sum(row["established"] for row in rows), sum(len(row["found"]) for row in rows)
    right, wrong = sum(len(row["right"]) for row in rows), sum(len(row["wrong"]) for row in rows)
    kinds = [{one.split()[0] for one in (*row["found"], *row["missed"])} for row in rows]
    seen = [{one.split()[0] for one in row["found"]} for row in rows]
    return {
        "models": len(rows),
        "established": established,
        "found": found,
        "recall": round(found / established, 3) if established else None,
        "kinds_established": sum(map(len, kinds)),  # a kind once a model, in however many cells it is
        "kinds_found": sum(map(len, seen)),
        "certain_right": right,
        "certain_wrong": wrong,
        "precision": round(right / (right + wrong), 3) if right + wrong else None,
        "certain_not_judged": sum(len(row["not_judged"]) for row in rows),
    }


def record(file: Path, **parts: Any) -> dict[str, Any]:
    """Puts parts into the results file, with the figures anew."""
    kept = records.read(file, {"models": {}})
    kept["models"].update(parts.pop("models", {}))
    kept.update(parts)
    rows = list(kept["models"].values())
    sets = {name: [row for row in rows if row["set"] == which] for name, which in SETS.items()}
    kept["figures"] = {name: figures(audited) for name, audited in sets.items() if audited}
    with replacing(file) as stream:
        stream.write((json.dumps(kept, indent=1) + "\n").encode())
    return kept


def bert(budgets: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Seconds of the audit of a BERT tagger, by layers and budget."""
    for layers, budget in [
        *((4, budget) for budget in budgets),
        *((layers, budgets[0]) for layers in LAYERS if layers != 4),
    ]:
        report = audited(f"benchmarks.auditing.models.tagger:layers{layers}", budget)
        yield {
            "layers": layers,
            "budget": budget,
            "seconds": report.get("seconds"),
            "wall_seconds": report["wall_seconds"],
            "hazards": len(report.get("hazards", [])),
            "not_looked_at": sorted(report.get("not_looked_at", {})),
            **({"error": report["error"]} if "error" in report else {}),
        }


def show(kept: dict[str, Any]) -> None:
    for row in kept["models"].values():
        told = row.get("error", f"found {len(row['found'])} of {row['established']}, certain {len(row['right'])} right")
        print(f"{row['name']:20s} {row['seconds']:6.0f} s  {told}")
        for kind in ("missed", "wrong", "not_judged"):
            for one in row[kind]:
                print(f"    {kind}: {one}")
    print(json.dumps(kept["figures"], indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="models of the manifest; all but those kept apart where none is named")
    parser.add_argument("--apart", action="store_true", help="models kept apart")
    parser.add_argument(
        "--set",
        default="first",
        choices=("first", "second", "third", "fourth", "fifth"),
        help="which of the sets kept apart",
    )
    parser.add_argument("--budget", type=float, default=120)
    parser.add_argument("--reports", type=Path, help="the directory of whole reports, kept or taken from there")
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file of results, which is added to")
    parser.add_argument("--bert", action="store_true", help="the 4-layer BERT tagger")
    parser.add_argument("--table", action="store_true", help="only show what is recorded")
    options = parser.parse_args()
    if options.table:
        show(records.read(options.json))
        return
    if options.bert:
        rows = []
        for row in bert((120, 20)):
            print(row, flush=True)
            rows.append(row)
        record(options.json, bert=rows)
        return
    wanted = options.set if options.apart else None
    entries = [entry for entry in records.read(MANIFEST)["models"] if "absent" in entry]  # the established
    for entry in entries:
        if entry["name"] in options.names or (not options.names and entry.get("set") == wanted):
            row = compared(entry, _report(entry, options.budget, options.reports))
            kept = record(options.json, models={entry["name"]: row})
            show({**kept, "models": {entry["name"]: row}})


if __name__ == "__main__":
    main()
