"""Data parallel: the losses of two ranks against one process with the same batches, four examples with all fixes.

    python -m benchmarks.trained.data_parallel [--models albert,bert_crf,rnnsearch,texting] [--limit 300] [--json FILE]

Float32, one epoch of the built-in data, on CPU by `msrun`; the largest difference between the losses of a step, and between
the validation losses.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records

MODELS = ("albert", "bert_crf", "rnnsearch", "texting")


def trained(model: str, ranks: int, limit: int, folder: Path) -> dict[str, Any]:
    """The results of one training; the last line of its output where it failed."""
    output, file = folder / f"{model}{ranks}", folder / f"{model}{ranks}.json"
    command = [sys.executable, "-m", f"examples.{model}", "--fixes", "all", "--precision", "float32", "--epochs", "1"]
    command += ["--limit", str(limit), "--distributed", str(ranks), "--output", str(output), "--json", str(file)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(records.ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not file.exists():
        return {"status": (done.stderr.strip() or done.stdout.strip())[-300:]}
    rows = records.read(file)
    return (rows["runs"] if isinstance(rows, dict) else rows)[0]


def compared(model: str, limit: int) -> dict[str, Any]:
    """How far two ranks are from one process."""
    with tempfile.TemporaryDirectory() as folder:
        one, two = (trained(model, ranks, limit, Path(folder)) for ranks in (1, 2))
    if {one["status"], two["status"]} != {"finished"}:
        return {"one": one["status"], "two": two["status"]}
    steps = np.abs(np.subtract(one["losses"], two["losses"]))
    validation = [abs(a["validation_loss"] - b["validation_loss"]) for a, b in zip(one["history"], two["history"])]
    return {
        "steps": len(steps),
        "first loss": one["losses"][0],
        "last loss": one["losses"][-1],
        "largest difference of a loss": float(steps.max()),
        "difference of the validation loss": max(validation),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    file = options.json
    found = records.read(file)
    for model in options.models.split(","):
        found[model] = compared(model, options.limit)
        print(model, json.dumps(found[model]), flush=True)
        records.write(file, found)


if __name__ == "__main__":
    main()
