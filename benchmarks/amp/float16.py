"""All fixes in float16, fused and bucketed, against float32, unfused and unbucketed: final loss and metric, four models.

    python -m benchmarks.amp.float16 [--models albert,rnnsearch,bert_crf,texting] [--seeds 0,1,2] [--json FILE]

Both runs of a seed have the same batches, dropout masks and initial weights; the reference pads every batch to the longest
sample (``--unbucketed``). Trainings are short (`LENGTHS`), on built-in data, and end while there is still a loss to compare.
How far apart they end, relative to the reference: the mean training loss of the last epoch, the last validation loss, and
both metrics; of the means over the seeds, and of the seed in which it is most. Runs are kept under ``runs/float16``, so that
the script can be run in parts. float16 is slow on a CPU: no times.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records
from examples.common import command_line
from examples.common.files import write_json

RESULT = records.RESULTS / "float16.json"
RUNS = Path("runs/float16")
LENGTHS = {
    "albert": (2, 1500),
    "rnnsearch": (3, 2000),
    "bert_crf": (1, 1500),
    "texting": (12, 2400),
}  # epochs, examples
PAIR = {"reference": ("float32", ["--unbucketed"]), "float16": ("float16", ["--fused", "on"])}
LOSSES = ("loss", "validation_loss")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default=",".join(LENGTHS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--json", type=Path, default=RESULT)
    options = parser.parse_args()
    rows = _stored(options.json)
    for seed in map(int, options.seeds.split(",")):
        for model in options.models.split(","):
            print(f"{model}, seed {seed}", flush=True)
            row = compare(model, seed)
            rows = [*(old for old in rows if (old["model"], old["seed"]) != (model, seed)), row]
            machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
            stored = {
                "command": "python -m benchmarks.amp.float16",
                "machine": machine,
                "runs": rows,
            }
            write_json(options.json, stored)
    print(table(rows))


def _stored(path: Path) -> list[dict[str, Any]]:
    return records.read(path, {"runs": []})["runs"]


def compare(model: str, seed: int) -> dict[str, Any]:
    """Both runs of one seed, and how far apart they end."""
    pair = {name: _run(model, seed, name) for name in PAIR}
    row: dict[str, Any] = {"model": model, "seed": seed, "date": str(datetime.date.today())}
    kept = ("status", "steps", "overflowed", "graphs", "padded_share")
    for name, result in pair.items():
        row[name] = {key: result.get(key) for key in kept}
        if result["status"] == "finished":
            row[name] |= {"metric": result[result["metric"]], **{key: result["history"][-1][key] for key in LOSSES}}
    if all(result["status"] == "finished" for result in pair.values()):
        row["metric"] = pair["reference"]["metric"]
        row["off"] = {key: row["float16"][key] / row["reference"][key] - 1 for key in LOSSES}
    return row


def _run(model: str, seed: int, name: str) -> dict[str, Any]:
    precision, extra = PAIR[name]
    epochs, limit = LENGTHS[model]
    output = RUNS / model / f"seed{seed}" / name
    arguments = ["--seed", seed, "--epochs", epochs, "--limit", limit, "--output", output, *extra]
    options = {**command_line.settled(model, [str(part) for part in arguments]), "resume": str(output)}
    return command_line.run_variant(model, options, command_line.Variant(command_line.FIXES, precision))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each model: how far its means over the seeds are apart, and in brackets the seed of the most."""
    lines = [
        f"{'model':10} {'seeds':>5} {'training loss':>17} {'validation loss':>17} {'float32':>8} {'float16':>8}  steps skipped"
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        of = [row for row in rows if row["model"] == model and "off" in row]
        off = [f"{_off(of, key):.2%} ({max(abs(row['off'][key]) for row in of):.2%})" for key in LOSSES]
        both = [np.mean([row[name]["metric"] for row in of]) for name in PAIR]
        skipped = f"{sum(row['float16']['overflowed'] for row in of)} of {sum(row['float16']['steps'] for row in of)}"
        lines.append(f"{model:10} {len(of):5} {off[0]:>17} {off[1]:>17} {both[0]:8.2%} {both[1]:8.2%}  {skipped}")
    return "\n".join(lines)


def _off(rows: Sequence[dict[str, Any]], loss: str) -> float:
    """The relative difference of the two means over the seeds."""
    means = {name: np.mean([row[name][loss] for row in rows]) for name in PAIR}
    return float(abs(means["float16"] / means["reference"] - 1))


if __name__ == "__main__":
    main()
